"""What is made of the bench's runs on the command line: reports, files, comparisons, gates, baselines."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from heylook_llm.bench import compare, gate
from heylook_llm.bench.metrics import limits_of
from heylook_llm.bench.report import files, markdown, tables, terminal
from heylook_llm.bench.sample import Run
from heylook_llm.bench.store import Store
from heylook_llm.commands import state
from heylook_llm.errors import ConfigError, Conflict, NotFound


def show(name: str, as_form: str, slo: Sequence[str]) -> int:
    """A run's report on the terminal; the exit status."""
    with Store(state.bench_file()) as store:
        found = files.made(store, store.run(name), limits_of(slo, "--slo"))
    if as_form == "json":
        click.echo(tables.as_json(found), nl=False)
    elif as_form == "markdown":
        click.echo(markdown.text(found), nl=False)
    else:
        click.echo(terminal.text(found))
    return gate.UNTRUSTWORTHY if found.flags else gate.GOOD


def export(name: str, forms: Sequence[files.Form], output: Path | None, force: bool) -> None:
    """Files of a run: one at `output` (- is the standard output), or several in that folder."""
    with Store(state.bench_file()) as store:
        run = store.run(name)
        if output is not None and str(output) == "-":
            _write_out(files.content(store, run, _only(forms)))
            return
        for form, path in _paths(run, forms, output):
            if path.exists() and not force:
                raise ConfigError(f"{path} exists; --force replaces it.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files.content(store, run, form))
            click.echo(f"wrote {path}")


def everything(store: Store, run: Run, folder: Path) -> None:
    """All forms of a run in a folder, with its spec, its manifest and what was measured beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for form, file in files.FILES.items():
        name = f"report{file.suffix}" if form != "jsonl" else "samples.jsonl"
        _put(folder / name, files.content(store, run, form))
    for name, text in (("spec.json", run.spec_json), ("manifest.json", run.manifest_json)):
        _put(folder / name, msgspec.json.format(text.encode(), indent=2) + b"\n")
    _put(folder / "series.csv", tables.series_as_csv(store.series(run.id)).encode())


def _put(path: Path, content: bytes) -> None:
    """Whole or not at all; what stood there is replaced."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(content)
    draft.replace(path)


def _only(forms: Sequence[files.Form]) -> files.Form:
    if len(forms) != 1:
        raise ConfigError("--output - takes one --format.")
    return forms[0]


def _write_out(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.flush()


def _paths(run: Run, forms: Sequence[files.Form], output: Path | None) -> list[tuple[files.Form, Path]]:
    """Where each form goes. Raises ConfigError where nobody said which."""
    by_suffix: dict[str, files.Form] = {file.suffix: form for form, file in files.FILES.items()}
    if not forms and output is not None and output.suffix in by_suffix:
        return [(by_suffix[output.suffix], output)]
    if not forms:
        raise ConfigError(f"Say --format, or an --output that ends with one of {', '.join(by_suffix)}.")
    if len(forms) == 1 and output is not None and output.suffix and not output.is_dir():
        return [(forms[0], output)]
    folder = output if output is not None else Path()
    return [(form, folder / files.name_of(run, form)) for form in dict.fromkeys(forms)]


def compared(names: Sequence[str], measures: Sequence[str], as_json: bool) -> None:
    """Runs side by side; of one run its targets and models."""
    with Store(state.bench_file()) as store:
        runs = {run.id: run for run in (store.run(name) for name in names)}
        found = compare.compare([files.made(store, run) for run in runs.values()], measures or compare.USUAL)
    click.echo(msgspec.json.encode(found).decode() if as_json else terminal.comparison(found))


def gated(base: str, new: str, conditions: Sequence[str], strict: bool, as_json: bool) -> int:
    """Whether a run keeps every condition beside a base, which may be a baseline's name; the exit status."""
    asked = [gate.condition(text) for text in conditions]
    with Store(state.bench_file()) as store:
        found = gate.judge(files.made(store, _base(store, base)), files.made(store, store.run(new)), asked, strict)
    click.echo(msgspec.json.encode(found).decode() if as_json else terminal.gate(found))
    return found.status


def _base(store: Store, name: str) -> Run:
    try:
        return store.baseline(name)
    except NotFound:
        return store.run(name)


def baselines() -> None:
    """List them."""
    with Store(state.bench_file()) as store:
        found = store.baselines()
    for name, run_id in found.items():
        click.echo(f"{name}  {run_id[-8:]}")
    if not found:
        click.echo("There are no baselines yet; `heylookllm bench baseline main last` makes one.")


def set_baseline(name: str, run: str) -> None:
    """Call a run so."""
    with Store(state.bench_file()) as store:
        found = store.run(run)
        if not store.sample_count(found.id):
            raise Conflict(f"The run {found.id[-8:]} has measured nothing, so nothing can be held to it.")
        store.set_baseline(name, found.id)
    click.echo(f"{name} is the run {found.id[-8:]}: heylookllm bench gate {name} last --fail-if 'ttft.p95>+5%'")
