"""create, cp and push, as Ollama's users know them: by the running server."""

import hashlib
import time
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import click

from heylook_llm.catalog.pull import Progress
from heylook_llm.commands import modelfile
from heylook_llm.commands.client import Client, Refused
from heylook_llm.commands.models import without_ollama
from heylook_llm.commands.pulling import Shown

READ_BYTES: Final = 1 << 20


def create(client: Client, model: str, path: Path, quantize: str | None) -> None:
    """Make a model by a Modelfile: its files are uploaded where the server doesn't have them. Raises Refused."""
    made = modelfile.read(path)
    shown = Shown(time.monotonic)
    body: dict[str, Any] = {"model": model, **made.body}
    try:
        for key, files in (("files", made.files), ("adapters", made.adapters)):
            if files:
                body[key] = _uploaded(client, files, shown)
        if quantize:
            body["quantize"] = quantize
        for line in client.lines("/api/create", body):
            shown.tell(
                Progress(line.get("status", ""), line.get("digest", ""), line.get("total", 0), line.get("completed", 0))
            )
    except Refused as error:
        raise without_ollama(error) from error
    shown.end()


def _uploaded(client: Client, files: Iterable[Path], shown: Shown) -> dict[str, str]:
    """The files' digests by their names, each file uploaded."""
    digests: dict[str, str] = {}
    for file in files:
        digest = digests[file.name] = f"sha256:{_sha256(file)}"
        if not client.has(f"/api/blobs/{digest}"):
            shown.tell(Progress(f"uploading {file.name}"))
            client.upload(f"/api/blobs/{digest}", file)
    return digests


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while data := opened.read(READ_BYTES):
            digest.update(data)
    return digest.hexdigest()


def copy(client: Client, source: str, destination: str) -> None:
    """Give a model a second name."""
    try:
        client.ask("POST", "/api/copy", {"source": source, "destination": destination})
    except Refused as error:
        raise without_ollama(error) from error
    click.echo(f"copied '{source}' to '{destination}'")


def push(client: Client, model: str) -> None:
    """The server says that there is no registry."""
    try:
        client.ask("POST", "/api/push", {"model": model})
    except Refused as error:
        raise without_ollama(error) if error.status == HTTPStatus.NOT_FOUND else error from error
