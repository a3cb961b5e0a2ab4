"""A small client of the running server: JSON and lines of JSON over HTTP, with the standard library alone."""

import http.client
import json
import os
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

import click

from heylook_llm import __version__

CONNECT_SECONDS: Final = 10.0


class Refused(click.ClickException):
    """The server's own error, or why none could be had; one line, exit status 1."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """One server. Every call opens its own connection, so closing an answer early cancels just that."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        key = api_key or os.environ.get("HEYLOOK_API_KEY") or os.environ.get("OLLAMA_API_KEY")
        self._headers = {"User-Agent": f"heylookllm/{__version__}", "Accept": "application/json", "Connection": "close"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON; None where it is empty. Raises Refused."""
        with self._send(method, path, body) as response:
            data = response.read()
            return _decoded(data) if data else None

    def lines(self, path: str, body: dict[str, Any]) -> Generator[dict[str, Any]]:
        """The objects of a streamed answer as they come. Raises Refused, also for an error inside the stream."""
        with self._send("POST", path, body) as response:
            for line in response:
                if not line.strip():
                    continue
                item = _decoded(line)
                if "error" in item:
                    raise Refused(str(item["error"]))
                yield item

    def has(self, path: str) -> bool:
        """Whether a HEAD of it finds something. Raises Refused."""
        try:
            with self._send("HEAD", path, None):
                return True
        except Refused as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return False
            raise

    def upload(self, path: str, file: Path) -> None:
        """Send a file's bytes. Raises Refused."""
        with file.open("rb") as opened:
            more = {"Content-Type": "application/octet-stream", "Content-Length": str(file.stat().st_size)}
            with self._sent("POST", path, opened, self._headers | more):
                pass

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers if data is None else {**self._headers, "Content-Type": "application/json"}
        return self._sent(method, path, data, headers)

    def _sent(
        self, method: str, path: str, data: bytes | BinaryIO | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        connection = self._connection()
        try:
            connection.connect()
            connection.sock.settimeout(None)
            connection.request(method, path, data, headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Refused(self._unreachable(error)) from error
        if response.status == http.HTTPStatus.UNAUTHORIZED:
            given = "Authorization" in self._headers
            wrong = "that API key is not the server's" if given else "the server asks for an API key"
            raise Refused(f"{wrong}; give it as HEYLOOK_API_KEY, or with --api-key", response.status)
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise Refused(_error_text(response), response.status)
        return response

    def _connection(self) -> http.client.HTTPConnection:
        if self.url.startswith("unix:"):
            return _UnixConnection(self.url.removeprefix("unix:"), CONNECT_SECONDS)
        try:
            parts = urlsplit(self.url if "://" in self.url else f"http://{self.url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if host is None:
            raise Refused(f"{self.url} is not an address of a server, such as http://127.0.0.1:8080")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(host, port, timeout=CONNECT_SECONDS)

    def _unreachable(self, error: Exception) -> str:
        if isinstance(error, ConnectionRefusedError | FileNotFoundError):
            return f"no server answers at {self.url}; start one with `heylookllm`, or name it with --url"
        return f"the server at {self.url} can't be reached: {error or type(error).__name__}"


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise Refused("the server's answer is not JSON; is it a heylookllm server?") from error


def _error_text(response: http.client.HTTPResponse) -> str:
    data = response.read()
    try:
        error = json.loads(data)["error"]
    except (ValueError, KeyError, TypeError):
        text = data.decode("utf-8", "replace").strip()[:200]
        return f"the server answered {response.status}: {text or response.reason}"
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)
