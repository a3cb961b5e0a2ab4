"""A stand-in for a Hugging Face hub on loopback: the part of its API that pulling uses, with faults on demand."""

import contextlib
import gzip
import hashlib
import http.server
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Fault:
    """What goes wrong with one request for bytes."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    """Of an answer that is an error."""
    after: int | None = None
    """Behind so many bytes of the answer the connection drops."""
    then: Callable[[], None] = lambda: None
    """... after this was done."""
    stall: bool = False
    """... but only once the client has left it: until then nothing comes."""
    corrupt: bool = False
    ignore_range: bool = False
    """Also If-Range."""
    ignore_if_range: bool = False
    """The rest of another file comes."""
    wrong_range: bool = False
    """The bytes begin elsewhere than they were asked for, and the answer says so."""
    more: bytes = b""
    """Behind the file's end, and counted in its length."""
    packed: bool = False
    """By gzip, though nobody asked for it."""
    redirect: str = ""
    """The root of the server that has the bytes."""


@dataclass
class Seen:
    """A request, as it came."""

    path: str
    headers: dict[str, str]


class Hub:
    """Repositories of files. `fault` decides what goes wrong with a request for a file; None: nothing."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.seen: list[Seen] = []
        self.sent_bytes = 0
        self.fault: Callable[[str], Fault | None] = lambda path: None
        self.answer: tuple[int, dict[str, str]] | None = None
        """Instead of everything."""
        self.answer_body = b"{}"
        self.redirect = ""
        """Where bytes are, if elsewhere."""
        self.commits: dict[str, str] = {}
        """What `main` is; of the others COMMIT."""
        self.extra_paths: list[str] = []
        self.extra_entries: list[Any] = []
        """In every listing."""
        self.next_page = ""
        """Where a listing says that it goes on."""
        self.gate: threading.Event | None = None
        """Bytes wait for it."""
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        """Its address, for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def running(self) -> Iterator["Hub"]:
        """Serve meanwhile."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            if self.gate is not None:
                self.gate.set()
            self._server.shutdown()
            self._server.server_close()

    def note(self, path: str, headers: dict[str, str]) -> None:
        """Remember a request."""
        with self._lock:
            self.seen.append(Seen(path, headers))

    def count(self, size: int) -> None:
        """Bytes of files went out."""
        with self._lock:
            self.sent_bytes += size

    def tree(self, repository: str) -> list[Any]:
        """The listing of a repository; files from 64 bytes on are large ones."""
        listed = [_entry(path, data) for path, data in self.repositories[repository].items()]
        return listed + [_entry(path, b"x" * 100) for path in self.extra_paths] + self.extra_entries

    def replace(self, repository: str, path: str, data: bytes) -> None:
        """Somebody pushes another file: `main` is another commit, and the old one is gone."""
        self.repositories[repository] = {**self.repositories[repository], path: data}
        self.commits[repository] = hashlib.sha1(data, usedforsecurity=False).hexdigest()

    def commit(self, repository: str) -> str:
        """What `main` is now."""
        return self.commits.get(repository, COMMIT)


def _entry(path: str, data: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": oid}
    if len(data) >= 64:
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are part of the play."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""

    def do_GET(self) -> None:
        """Every route."""
        hub, parts = self.hub, urlsplit(self.path)
        hub.note(parts.path, dict(self.headers))
        if hub.answer is not None:
            self._send(*hub.answer, hub.answer_body)
        elif (match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", parts.path)) is not None:
            self._tree(match[1], parse_qs(parts.query))
        elif (match := re.fullmatch(r"/api/models/([^/]+/[^/]+)", parts.path)) is not None:
            self._info(match[1])
        elif (match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", parts.path)) is not None:
            self._file(match[1], match[2], match[3])
        else:
            self._send(404, {}, b"{}")

    def _info(self, repository: str) -> None:
        if repository not in self.hub.repositories:
            self._send(404, {"X-Error-Code": "RepoNotFound"}, b"{}")
            return
        self._send(200, {}, json.dumps({"id": repository, "sha": self.hub.commit(repository), "siblings": []}).encode())

    def _tree(self, repository: str, query: dict[str, list[str]]) -> None:
        listed = self.hub.tree(repository)
        start = int(query.get("cursor", ["0"])[0])
        page, rest = listed[start : start + 1000], listed[start + 1000 :]
        address = f"{self.hub.url}/api/models/{repository}/tree/{self.hub.commit(repository)}"
        address = self.hub.next_page or f"{address}?recursive=true&cursor={start + 1000}"
        self._send(200, {"Link": f'<{address}>; rel="next"'} if rest else {}, json.dumps(page).encode())

    def _file(self, repository: str, commit: str, path: str) -> None:
        if self.hub.gate is not None:
            self.hub.gate.wait(30)
        fault = self.hub.fault(path) or Fault()
        data = self.hub.repositories[repository].get(path) if commit == self.hub.commit(repository) else None
        target = fault.redirect or self.hub.redirect
        if data is None:
            self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
        elif fault.status:
            self._send(fault.status, fault.headers, b"{}")
        elif target:
            self._send(302, {"Location": target + self.path}, b"")
        else:
            self._bytes(data, fault)

    def _bytes(self, data: bytes, fault: Fault) -> None:
        etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        start, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fits = fault.ignore_if_range or self.headers.get("If-Range", etag) == etag
        if wanted is not None and not fault.ignore_range and fits:
            start, status = int(wanted[1]), 206
            if start >= len(data):
                self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
                return
            start = max(0, start - 1) if fault.wrong_range else start
        body = data[start:] + fault.more
        if fault.corrupt:
            body = bytes([body[0] ^ 1]) + body[1:]
        if fault.packed:
            body = gzip.compress(body)
        self.send_response(status)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body)))
        if fault.packed:
            self.send_header("Content-Encoding", "gzip")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        self._body(body, fault)

    def _body(self, body: bytes, fault: Fault) -> None:
        sent = body if fault.after is None else body[: fault.after]
        with contextlib.suppress(ConnectionError):
            self.wfile.write(sent)
        self.hub.count(len(sent))
        if len(sent) < len(body):
            fault.then()
            if fault.stall:
                self._until_left()
            self.close_connection = True

    def _until_left(self) -> None:
        self.connection.settimeout(60)
        with contextlib.suppress(OSError):
            self.connection.recv(1)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
