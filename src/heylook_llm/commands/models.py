"""list, ps, show, stop and rm: the models of the running server, in the columns that Ollama's users know."""

import datetime
import time
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

import click

from heylook_llm.commands.client import Client, Refused

_FOREVER_SECONDS: Final = 20 * 365 * 86400.0
_AGES: Final = ((365 * 86400, "year"), (30 * 86400, "month"), (7 * 86400, "week"), (86400, "day"), (3600, "hour"))
_SIZES: Final = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
_NO_ROUTE: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)


def show_list(client: Client, prefix: str) -> None:
    """Every model that is served, or those whose name begins with `prefix`."""
    models = _models(client, "/api/tags")
    rows = [
        (model["name"], model["digest"][:12], size_text(model["size"]), age_text(model["modified_at"], time.time()))
        for model in models
        if model["name"].lower().startswith(prefix.lower())
    ]
    click.echo(table(("NAME", "ID", "SIZE", "MODIFIED"), rows))


def show_loaded(client: Client) -> None:
    """The models in memory."""
    rows = [
        (
            model["name"],
            model["digest"][:12],
            size_text(model["size"]),
            processor_text(model["size"], model["size_vram"]),
            str(model.get("context_length", "")),
            until_text(model["expires_at"], time.time()),
        )
        for model in _models(client, "/api/ps")
    ]
    click.echo(table(("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"), rows))


def _models(client: Client, path: str) -> list[dict[str, Any]]:
    try:
        return list(client.ask("GET", path)["models"])
    except Refused as error:
        raise without_ollama(error) from error


def without_ollama(error: Refused) -> Refused:
    """A missing route explained: these commands speak the Ollama API."""
    if error.status not in _NO_ROUTE or "model" in error.message:
        return error
    return Refused("this server speaks only the OpenAI API; start it with --api both for this command", error.status)


def show(client: Client, model: str, part: str | None, verbose: bool) -> None:
    """What a model is; `part` prints only its template, parameters, system, license or modelfile."""
    try:
        shown = client.ask("POST", "/api/show", {"model": model, "verbose": verbose})
    except Refused as error:
        raise without_ollama(error) from error
    if part is not None:
        click.echo(shown.get(part, ""))
        return
    click.echo("\n".join(_sections(shown, verbose)))


def _sections(shown: dict[str, Any], verbose: bool) -> Iterable[str]:
    info, details = shown["model_info"], shown["details"]
    family = info.get("general.architecture", details["family"])
    facts = [
        ("architecture", family),
        ("parameters", details["parameter_size"]),
        ("context length", info.get(f"{family}.context_length")),
        ("embedding length", info.get(f"{family}.embedding_length")),
        ("quantization", details["quantization_level"]),
    ]
    yield from _section("Model", [(name, value) for name, value in facts if value not in (None, "")])
    yield from _section("Capabilities", [(name, "") for name in shown.get("capabilities", [])])
    parameters = [line.split(None, 1) for line in shown.get("parameters", "").splitlines() if line.strip()]
    yield from _section("Parameters", [(name, " ".join(value)) for name, *value in parameters])
    yield from _section("System", [(line, "") for line in shown.get("system", "").splitlines()[:2]])
    yield from _section("License", [(line, "") for line in shown.get("license", "").splitlines()[:2]])
    if verbose:
        yield from _section("Metadata", sorted(info.items()))


def _section(title: str, rows: Sequence[tuple[str, object]]) -> Iterable[str]:
    if not rows:
        return
    width = max(len(name) for name, _ in rows)
    yield f"  {title}"
    for name, value in rows:
        yield f"    {name:<{max(width, 18)}}  {value}".rstrip()
    yield ""


def stop(client: Client, model: str) -> None:
    """Unload a model; what it still answers, it ends."""
    try:
        client.ask("POST", "/api/generate", {"model": model, "keep_alive": 0})
    except Refused as error:
        if error.status == HTTPStatus.NOT_FOUND and "model" in error.message:
            raise Refused(f"couldn't find model {model!r} to stop", error.status) from error
        raise without_ollama(error) from error


def remove(client: Client, models: Sequence[str]) -> None:
    """Delete models: files that a pull brought go with them, others stay."""
    for model in models:
        try:
            client.ask("DELETE", "/api/delete", {"model": model})
        except Refused as error:
            raise without_ollama(error) from error
        click.echo(f"deleted '{model}'")


# ---- words -----------------------------------------------------------------------------------------------------------


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, four blanks apart."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    lines = ("    ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows))
    return "\n".join(line.rstrip() for line in lines)


def size_text(size_bytes: int) -> str:
    """Bytes in units of a thousand, as `ollama list` has them: 4.7 GB, 523 MB."""
    for unit, name in _SIZES:
        if size_bytes >= unit:
            value = size_bytes / unit
            return f"{value:.0f} {name}" if value >= 10 else f"{value:.1f} {name}"
    return f"{size_bytes} B"


def processor_text(size_bytes: int, gpu_bytes: int) -> str:
    """Where a model lies: 100% GPU, 100% CPU, or 40%/60% CPU/GPU."""
    if gpu_bytes <= 0:
        return "100% CPU"
    if gpu_bytes >= size_bytes:
        return "100% GPU"
    on_gpu = round(100 * gpu_bytes / size_bytes)
    return f"{100 - on_gpu}%/{on_gpu}% CPU/GPU"


def age_text(moment: str, now: float) -> str:
    """How long ago an RFC 3339 moment was: 3 days ago."""
    return f"{duration_text(max(0.0, now - _seconds(moment)))} ago"


def until_text(moment: str, now: float) -> str:
    """How long until an RFC 3339 moment: 4 minutes from now, Forever, Stopping..."""
    left = _seconds(moment) - now
    if left > _FOREVER_SECONDS:
        return "Forever"
    return f"{duration_text(left)} from now" if left > 0 else "Stopping..."


def duration_text(seconds: float) -> str:
    """A duration in its largest whole unit: 2 weeks, 1 hour, 20 seconds."""
    for unit, name in (*_AGES, (60, "minute")):
        if seconds >= unit:
            return _count(int(seconds // unit), name)
    return _count(int(seconds), "second") if seconds >= 1 else "less than a second"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _seconds(moment: str) -> float:
    """Seconds since 1970; a year beyond datetime's range is forever."""
    try:
        return datetime.datetime.fromisoformat(moment).timestamp()
    except (ValueError, OverflowError):
        return float("inf")
