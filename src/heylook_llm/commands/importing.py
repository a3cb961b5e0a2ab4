"""import: the models that are on this machine as entries of a models.yaml, used where they lie."""

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from heylook_llm import config, registry
from heylook_llm.catalog import import_plan, importing, profiles, stores
from heylook_llm.catalog.import_plan import Plan, Wishes, shown
from heylook_llm.catalog.importing import Findings, Found, Sources
from heylook_llm.catalog.scan import Walk
from heylook_llm.commands.models import size_text, table
from heylook_llm.errors import ConfigError

WATCH_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Order:
    """What an import is to do."""

    sources: Sources
    output: Path
    wishes: Wishes
    merge: bool
    dry_run: bool
    force: bool
    yes: bool
    """Don't ask before the difference of a merge is written."""


def order_of(given: Mapping[str, Any]) -> Order:
    """The order of the command line's options. Raises ConfigError."""
    overrides = profiles.parse_overrides(given["overrides"])
    import_plan.check_overrides(overrides)
    default = config.locate() if given["merge"] else Path("models_imported.yaml")
    return Order(
        _sources(given),
        given["output"] or default,
        Wishes(given["profile"], overrides),
        given["merge"],
        given["dry_run"],
        given["force"],
        given["yes"],
    )


def _sources(given: Mapping[str, Any]) -> Sources:
    """The places that were named; where none was, every store of another program that is here."""
    folders = tuple(folder.expanduser() for folder in given["folders"])
    hub, ollama, studio = stores.hugging_face_cache(), stores.ollama_store(), stores.lm_studio_folder()
    asked = (given["hf_cache"], given["ollama_store"], given["lmstudio"])
    if not folders and not any(asked):
        asked = (hub.is_dir(), ollama.is_dir(), studio.is_dir())
        if not any(asked):
            raise ConfigError(
                "no models of other programs are on this machine (Hugging Face, Ollama, LM Studio); "
                "name a folder: heylookllm import --folder PATH"
            )
    return Sources(
        folders, *(place if wanted else None for place, wanted in zip((hub, ollama, studio), asked, strict=True))
    )


def run(order: Order) -> None:
    """Find, show, ask, write. Raises ConfigError before anything is written that the server couldn't load."""
    findings = importing.find(order.sources)
    plan = _plan(order, findings)
    _show(findings, plan.new)
    if order.merge:
        click.echo(plan.difference, nl=False)
    if order.dry_run:
        click.echo(f"Nothing was written (--dry-run); it would be {plan.target}.")
        return
    if not plan.new or not _agreed(order):
        click.echo("Nothing was written.")
        return
    if plan.target.exists() and not (order.merge or order.force):
        raise ConfigError(
            f"{plan.target} exists; add to it with --merge, replace it with --force, or name another --output"
        )
    _write(order, findings, plan)
    count = f"{len(plan.new)} {'model' if len(plan.new) == 1 else 'models'}"
    click.echo(f"{count} written to {plan.target}. Serve: {_serve(order)}")


def _plan(order: Order, findings: Findings) -> Plan:
    return (import_plan.merged if order.merge else import_plan.own)(findings, order.wishes, order.output)


def _agreed(order: Order) -> bool:
    """Whether a merge may be written: a terminal is asked, unless --yes said so; scripts have read the manual."""
    if order.yes or not order.merge or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    return click.confirm("Write this?", default=True)


def _write(order: Order, findings: Findings, plan: Plan) -> None:
    """Write what was shown; the registry may not have changed since, by a pull for example. Raises ConfigError."""
    if not order.merge:
        registry.write(plan.target, plan.text)
        return
    with registry.changing(order.output):
        if _plan(order, findings).digest != plan.digest:
            raise ConfigError(f"{plan.target} has changed meanwhile; import again")
        registry.write(plan.target, plan.text)


def _serve(order: Order) -> str:
    here = order.output.resolve() == config.locate().resolve()
    return "heylookllm" if here else f"heylookllm --config {order.output}"


# ---- what is shown ---------------------------------------------------------------------------------------------------


def _show(findings: Findings, new: Sequence[Found]) -> None:
    ids = {found.path for found in new}
    rows = [
        (found.id, found.facts.kind, found.facts.quantization or "", size_text(found.facts.size_bytes), str(found.path))
        for found in new
    ]
    if rows:
        click.echo(table(("NAME", "KIND", "QUANTIZATION", "SIZE", "FILE"), rows))
    for found in findings.models:
        if found.path not in ids:
            click.echo(f"served already: {found.path}")
        elif found.projector is not None:
            click.echo(f"{found.id}: sees images by {found.projector.name}")
        if found.drafts_for:
            click.echo(f"{found.id}: can draft for {', '.join(found.drafts_for)}")
    for skipped in findings.skipped:
        click.echo(f"left out: {shown(skipped.path)}: {skipped.reason}")


# ---- watch -----------------------------------------------------------------------------------------------------------


def watch(order: Order) -> None:
    """Import anew whenever the sources change, until interrupted; the server reads the file anew by itself."""
    click.echo(f"Watching; {order.output} follows the sources until Ctrl-C.")
    written: frozenset[tuple[str, int, int]] | None = None
    before = _signature(order.sources)
    while True:
        now = _signature(order.sources)
        if now == before and now != written:  # changed, and at rest since the last look: nothing is being copied
            _write_anew(order)
            written = now
        before = now
        time.sleep(WATCH_SECONDS)


def _write_anew(order: Order) -> None:
    findings = importing.find(order.sources)
    registry.write(order.output, import_plan.own(findings, order.wishes, order.output).text)
    click.echo(f"{time.strftime('%H:%M:%S')} {len(findings.models)} models, {len(findings.skipped)} left out")


def _signature(sources: Sources) -> frozenset[tuple[str, int, int]]:
    """Path, size and time of change of every model file."""
    paths = [candidate.path for candidate in Walk(sources.roots).candidates()]
    if sources.ollama is not None:
        paths += [candidate.path for _, candidate, _ in stores.OllamaStore(sources.ollama).models()]
    found: set[tuple[str, int, int]] = set()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # gone since
            status = path.stat()
            found.add((str(path), status.st_size, status.st_mtime_ns))
    return frozenset(found)
