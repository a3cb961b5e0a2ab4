"""import: the models that are on this machine as entries of a models.yaml, used where they lie."""

import contextlib
import difflib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from heylook_llm import config, registry
from heylook_llm.catalog import importing, profiles, stores
from heylook_llm.catalog.importing import Findings, Found, Sources
from heylook_llm.catalog.scan import Walk
from heylook_llm.commands.models import size_text, table
from heylook_llm.errors import ConfigError

WATCH_SECONDS: Final = 2.0
_HEAD: Final = """\
# Written by heylookllm import. Models are used where they lie; every key: docs/models.md.
# Serve them: heylookllm --config {name}
"""


@dataclass(frozen=True, slots=True)
class Order:
    """What an import is to do."""

    sources: Sources
    output: Path
    profile: str | None
    overrides: Mapping[str, Any]
    merge: bool
    dry_run: bool
    force: bool


def order_of(given: Mapping[str, Any]) -> Order:
    """The order of the command line's options. Raises ConfigError."""
    overrides = profiles.parse_overrides(given["overrides"])
    _check_overrides(overrides)
    default = config.locate() if given["merge"] else Path("models_imported.yaml")
    return Order(
        _sources(given),
        given["output"] or default,
        given["profile"],
        overrides,
        given["merge"],
        given["dry_run"],
        given["force"],
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


def _check_overrides(overrides: Mapping[str, Any]) -> None:
    """Every key is one of some engine's `config`. Raises ConfigError that names the nearest known one."""
    known = {key for kind in config.PROVIDERS.values() for key in kind.model_fields}
    for key in overrides:
        if key not in known:
            raise ConfigError(f"--override {key}: unknown key{config.nearest(key, known)}")


def run(order: Order) -> None:
    """Find, show, write. Raises ConfigError before anything is written that the server couldn't load."""
    findings = importing.find(order.sources)
    text, new = merged_text(order, findings) if order.merge else (own_text(order, findings), findings.models)
    target = registry.overlay_path(order.output) if order.merge else order.output
    _show(findings, new)
    if order.merge:
        click.echo(_difference(target, text), nl=False)
    if order.dry_run:
        click.echo(f"Nothing was written (--dry-run); it would be {target}.")
        return
    if not new:
        click.echo("Nothing was written.")
        return
    if target.exists() and not (order.merge or order.force):
        raise ConfigError(f"{target} exists; add to it with --merge, replace it with --force, or name another --output")
    registry.write(target, text)
    click.echo(f"{len(new)} {'model' if len(new) == 1 else 'models'} written to {target}. Serve: {_serve(order)}")


def _serve(order: Order) -> str:
    here = order.output.resolve() == config.locate().resolve()
    return "heylookllm" if here else f"heylookllm --config {order.output}"


def own_text(order: Order, findings: Findings) -> str:
    """A models.yaml of all that was found, checked as the server will."""
    entries = [importing.entry(found, order.profile, _fitting(order.overrides, found)) for found in findings.models]
    first = next((entry["id"] for entry in entries if {"chat", "base"} & set(entry["tags"])), None)
    document = {**({"default_model": first} if first else {}), "max_loaded_models": 2, "models": entries}
    text = _HEAD.format(name=order.output) + registry.dump(document)
    config.parse(text, order.output)
    return text


def merged_text(order: Order, findings: Findings) -> tuple[str, list[Found]]:
    """The overlay with what the registry doesn't serve yet; its own entries stay as the user wrote them."""
    settings = registry.load(order.output)
    served = {str(spec.path) for spec in settings.models}
    names = {config.canonical(name) for spec in settings.models for name in (spec.id, *spec.aliases)}
    new = [importing.renamed(found, names) for found in findings.models if str(found.path.absolute()) not in served]
    entries = [importing.entry(found, order.profile, _fitting(order.overrides, found)) for found in new]
    over = registry.with_models(registry.read_overlay(order.output), entries)
    document = config.document_of(config.read(order.output), order.output)
    config.validate(registry.merged(document, config.document_of(registry.dump(over), order.output)), order.output)
    return registry.overlay_text(over), new


def _fitting(overrides: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """The overrides that this model's engine knows."""
    known = config.PROVIDERS[found.facts.provider].model_fields
    return {key: value for key, value in overrides.items() if key in known}


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


def shown(path: Path) -> str:
    """A path fit for a terminal: control characters and broken encodings as escapes."""
    text = str(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _difference(target: Path, text: str) -> str:
    before = config.read(target).splitlines(keepends=True) if target.is_file() else []
    lines: Iterable[str] = difflib.unified_diff(before, text.splitlines(keepends=True), str(target), f"{target} (new)")
    return "".join(lines)


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
    registry.write(order.output, own_text(order, findings))
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
