"""What is made of the bench's runs on the command line: reports, files, comparisons, gates, baselines."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import click
import msgspec

from heylook_llm.bench import compare, gate
from heylook_llm.bench.metrics import SLO_MEASURES, Report, report
from heylook_llm.bench.report import markdown, tables, terminal
from heylook_llm.bench.sample import Run
from heylook_llm.bench.store import Store
from heylook_llm.commands import state
from heylook_llm.errors import ConfigError, Conflict, NotFound

Form = Literal["json", "csv", "jsonl", "xlsx", "html", "markdown"]
SUFFIXES: Final[dict[Form, str]] = {
    "json": ".json",
    "csv": ".csv",
    "jsonl": ".jsonl",
    "xlsx": ".xlsx",
    "html": ".html",
    "markdown": ".md",
}


def made(store: Store, run: Run, limits: dict[str, float] | None = None) -> Report:
    """The report of a run, from what the store keeps."""
    cells, samples = store.cells(run.id), store.samples(run.id)
    pairs, warnings = store.pairs(run.id), store.warnings(run.id)
    series = store.series(run.id)
    return report(run, cells, samples, store.targets(run.id), pairs, limits or None, warnings, series)


def show(name: str, as_form: str, slo: Sequence[str]) -> int:
    """A run's report on the terminal; the exit status."""
    with Store(state.bench_file()) as store:
        found = made(store, store.run(name), limits_of(slo))
    if as_form == "json":
        click.echo(tables.as_json(found), nl=False)
    elif as_form == "markdown":
        click.echo(markdown.text(found), nl=False)
    else:
        click.echo(terminal.text(found))
    return gate.UNTRUSTWORTHY if found.flags else gate.GOOD


def limits_of(slo: Sequence[str]) -> dict[str, float]:
    """`ttft=200` as milliseconds. Raises ConfigError."""
    limits = {}
    for text in slo:
        name, _, value = text.partition("=")
        name = {"e2el": "e2e"}.get(name.strip(), name.strip())
        try:
            limits[name] = float(value.strip().removesuffix("ms"))
        except ValueError:
            limits[name] = math.nan
        if name not in SLO_MEASURES or not limits[name] > 0:
            raise ConfigError(f"--slo {text}: must be ttft, tpot, itl or e2e, and milliseconds, as ttft=200")
    return limits


def export(name: str, forms: Sequence[Form], output: Path | None, force: bool) -> None:
    """Files of a run: one at `output` (- is the standard output), or several in that folder."""
    with Store(state.bench_file()) as store:
        run = store.run(name)
        if output is not None and str(output) == "-":
            _write_out(_content(store, run, _only(forms)))
            return
        for form, path in _paths(run, forms, output):
            if path.exists() and not force:
                raise ConfigError(f"{path} exists; --force replaces it.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_content(store, run, form))
            click.echo(f"wrote {path}")


def everything(store: Store, run: Run, folder: Path) -> None:
    """All forms of a run in a folder, with its spec, its manifest and what was measured beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for form, suffix in SUFFIXES.items():
        _put(folder / f"report{suffix}" if form != "jsonl" else folder / "samples.jsonl", _content(store, run, form))
    for name, text in (("spec.json", run.spec_json), ("manifest.json", run.manifest_json)):
        _put(folder / name, msgspec.json.format(text.encode(), indent=2) + b"\n")
    _put(folder / "series.csv", tables.series_as_csv(store.series(run.id)).encode())


def _put(path: Path, content: bytes) -> None:
    """Whole or not at all; what stood there is replaced."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(content)
    draft.replace(path)


def _only(forms: Sequence[Form]) -> Form:
    if len(forms) != 1:
        raise ConfigError("--output - takes one --format.")
    return forms[0]


def _write_out(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.flush()


def _paths(run: Run, forms: Sequence[Form], output: Path | None) -> list[tuple[Form, Path]]:
    """Where each form goes. Raises ConfigError where nobody said which."""
    by_suffix: dict[str, Form] = {suffix: form for form, suffix in SUFFIXES.items()}
    if not forms and output is not None and output.suffix in by_suffix:
        return [(by_suffix[output.suffix], output)]
    if not forms:
        raise ConfigError(f"Say --format, or an --output that ends with one of {', '.join(by_suffix)}.")
    if len(forms) == 1 and output is not None and output.suffix and not output.is_dir():
        return [(forms[0], output)]
    folder = output if output is not None else Path()
    return [(form, folder / f"bench-{run.id[-8:].lower()}{SUFFIXES[form]}") for form in dict.fromkeys(forms)]


def _content(store: Store, run: Run, form: Form) -> bytes:
    """One form. What only it needs is imported here."""
    if form == "jsonl":
        return b"".join(tables.as_jsonl(store.cells(run.id), store.samples(run.id), store.pairs(run.id)))
    found = made(store, run)
    if form == "json":
        return tables.as_json(found)
    if form == "csv":
        return (
            b"\xef\xbb\xbf" + tables.as_csv(found).encode()
        )  # without the mark Excel takes it for the local code page
    if form == "markdown":
        return markdown.text(found).encode()
    if form == "xlsx":
        from heylook_llm.bench.report import workbook  # noqa: PLC0415

        return workbook.as_xlsx(found, store.cells(run.id), store.samples(run.id))
    from heylook_llm.bench.report import page  # noqa: PLC0415

    return page.as_html(found).encode()


def compared(names: Sequence[str], measures: Sequence[str], as_json: bool) -> None:
    """Runs side by side; of one run its targets and models."""
    with Store(state.bench_file()) as store:
        runs = {run.id: run for run in (store.run(name) for name in names)}
        found = compare.compare([made(store, run) for run in runs.values()], measures or compare.USUAL)
    click.echo(msgspec.json.encode(found).decode() if as_json else terminal.comparison(found))


def gated(base: str, new: str, conditions: Sequence[str], strict: bool, as_json: bool) -> int:
    """Whether a run keeps every condition beside a base, which may be a baseline's name; the exit status."""
    asked = [gate.condition(text) for text in conditions]
    with Store(state.bench_file()) as store:
        found = gate.judge(made(store, _base(store, base)), made(store, store.run(new)), asked, strict)
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
