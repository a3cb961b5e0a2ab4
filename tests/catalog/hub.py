"""A stand-in for a Hugging Face hub on loopback: the part of its API that pulling uses, with faults on demand."""

import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Fault:
    """What goes wrong with one request for bytes. `after`: the connection drops behind so many bytes of the answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    after: int | None = None
    corrupt: bool = False
    ignore_range: bool = False


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
        self.redirect = ""
        """Where bytes are, if elsewhere."""
        self.extra_paths: list[str] = []
        self.gate: threading.Event | None = None
        """Bytes wait for it."""
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True

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

    def tree(self, repository: str) -> list[dict[str, Any]]:
        """The listing of a repository; files from 64 bytes on are large ones."""
        listed = [_entry(path, data) for path, data in self.repositories[repository].items()]
        return listed + [_entry(path, b"x" * 100) for path in self.extra_paths]


def _entry(path: str, data: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": oid}
    if len(data) >= 64:
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


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
            self._send(*hub.answer, b"{}")
        elif (match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", parts.path)) is not None:
            self._tree(match[1], parse_qs(parts.query))
        elif (match := re.fullmatch(r"/api/models/([^/]+/[^/]+)", parts.path)) is not None:
            self._info(match[1])
        elif (match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", parts.path)) is not None:
            self._file(match[1], match[3])
        else:
            self._send(404, {}, b"{}")

    def _info(self, repository: str) -> None:
        if repository not in self.hub.repositories:
            self._send(404, {"X-Error-Code": "RepoNotFound"}, b"{}")
            return
        self._send(200, {}, json.dumps({"id": repository, "sha": COMMIT, "siblings": []}).encode())

    def _tree(self, repository: str, query: dict[str, list[str]]) -> None:
        listed = self.hub.tree(repository)
        start = int(query.get("cursor", ["0"])[0])
        page, rest = listed[start : start + 1000], listed[start + 1000 :]
        address = f"{self.hub.url}/api/models/{repository}/tree/{COMMIT}?recursive=true&cursor={start + 1000}"
        self._send(200, {"Link": f'<{address}>; rel="next"'} if rest else {}, json.dumps(page).encode())

    def _file(self, repository: str, path: str) -> None:
        data = self.hub.repositories[repository][path]
        fault = self.hub.fault(path) or Fault()
        if self.hub.gate is not None:
            self.hub.gate.wait(30)
        if fault.status:
            self._send(fault.status, fault.headers, b"{}")
            return
        if self.hub.redirect:
            self._send(302, {"Location": self.hub.redirect + self.path}, b"")
            return
        self._bytes(data, fault)

    def _bytes(self, data: bytes, fault: Fault) -> None:
        start, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted is not None and not fault.ignore_range:
            start, status = int(wanted[1]), 206
            if start >= len(data):
                self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
                return
        body = data[start:]
        if fault.corrupt:
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        sent = body if fault.after is None else body[: fault.after]
        with contextlib.suppress(ConnectionError):
            self.wfile.write(sent)
        self.hub.count(len(sent))
        if len(sent) < len(body):
            self.close_connection = True

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
