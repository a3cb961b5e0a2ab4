"""The web pages' files: one shell for every path below /ui, and the styles and modules that it is made of."""

import functools
import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm import drawing
from heylook_llm.errors import ConfigError, NotFound
from heylook_llm.server.endpoint import Server
from heylook_llm.server.offloop import off_loop

FOLDER: Final = Path(__file__).parent / "ui"
ELSEWHERE: Final[dict[str, Callable[[], Path]]] = {
    "plotly.js": drawing.plotly,
    "lib/figures.js": lambda: drawing.FIGURES,
}
"""Files that lie beside others: what is drawn, the bench draws in its own files, too."""
SHELL: Final = "index.html"
_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Kept:
    """A file in memory, as it is and packed."""

    plain: bytes
    packed: bytes
    etag: str
    """Strong, without quotes; the packed form's has a suffix, since its bytes are others."""
    media_type: str

    def response(self, request: Request) -> Response:
        """The form that the client takes; 304 where it has it already."""
        is_packed = _takes_gzip(request.headers.get("accept-encoding", ""))
        tag = f'"{self.etag}-gz"' if is_packed else f'"{self.etag}"'
        headers = {"etag": tag, "vary": "Accept-Encoding", "cache-control": "no-cache"}
        if _has(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=304, headers=headers)
        if is_packed:
            headers["content-encoding"] = "gzip"
        return Response(self.packed if is_packed else self.plain, headers=headers, media_type=self.media_type)


def kept(content: bytes, media_type: str) -> Kept:
    """Content, packed once."""
    return Kept(content, gzip.compress(content, 9, mtime=0), hashlib.sha256(content).hexdigest()[:32], media_type)


async def open_page(server: Server, request: Request) -> Response:
    """The web pages: chat, models, performance, benchmarks and settings, for a browser.

    Every path below /ui gets this page, which then shows what the path names.
    """
    file = _file(request.path_params.get("path", ""))
    stat = file.stat()
    return (await off_loop(stat.st_size, _read, file, stat.st_mtime_ns, stat.st_size)).response(request)


def _file(path: str) -> Path:
    """Which file a path below /ui means. Raises NotFound."""
    if path in _names():
        return FOLDER / path
    if path in ELSEWHERE:
        return _elsewhere(path)
    if path.partition("/")[0] in _folders() or "." in path.partition("/")[0]:
        raise NotFound(f"There is no file '{path[:128]}' here.")
    return FOLDER / SHELL


def _elsewhere(path: str) -> Path:
    """Raises NotFound where it isn't installed."""
    try:
        return ELSEWHERE[path]()
    except ConfigError as error:
        raise NotFound(error.message) from error


@functools.cache
def _names() -> frozenset[str]:
    """The files there are; nothing else is ever opened."""
    return frozenset(
        file.relative_to(FOLDER).as_posix()
        for file in FOLDER.rglob("*")
        if file.suffix in _MEDIA_TYPES and file.is_file()
    )


@functools.cache
def _folders() -> frozenset[str]:
    return frozenset(name.partition("/")[0] for name in _names() if "/" in name)


@functools.lru_cache(maxsize=256)
def _read(file: Path, changed_ns: int, size: int) -> Kept:
    """A file as it is since then: an edited one is read anew."""
    return kept(file.read_bytes(), _MEDIA_TYPES[file.suffix])


def _takes_gzip(accepted: str) -> bool:
    """Whether `Accept-Encoding` names gzip, and not with a quality of 0."""
    for one in accepted.lower().split(","):
        name, _, parameters = one.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _has(known: str, tag: str) -> bool:
    """Whether `If-None-Match` names the tag; weak ones compare alike there (RFC 9110, 13.1.2)."""
    return known.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in known.split(","))
