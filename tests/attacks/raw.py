"""Raw bytes to the server, where clients are too polite."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.serving import Running

WAIT_SECONDS = 15.0


def connect(server: Running) -> socket.socket:
    """A connection with a time limit on every wait."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_SECONDS)


@contextmanager
def connection(server: Running) -> Iterator[socket.socket]:
    with connect(server) as made:
        yield made


def send_all(sock: socket.socket, data: bytes) -> None:
    """As much as the server takes: it may answer and close before the end."""
    try:
        sock.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        return


def read_all(sock: socket.socket) -> bytes:
    """Until the server closes."""
    data = b""
    try:
        while piece := sock.recv(1 << 16):
            data += piece
    except ConnectionResetError:
        return data
    return data


def read_until(sock: socket.socket, marker: bytes) -> bytes:
    """Until the marker came."""
    data = b""
    while marker not in data:
        piece = sock.recv(1 << 16)
        assert piece, data
        data += piece
    return data


def exchange(server: Running, data: bytes) -> bytes:
    """The answer to these bytes, after which the server closes."""
    with connection(server) as sock:
        send_all(sock, data)
        return read_all(sock)


def post(path: str, body: bytes, *headers: str, close: bool = True) -> bytes:
    """A POST request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body


def status(answer: bytes) -> int:
    """The status of an answer; 0 where there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def until_idle(server: Running, model: str, state: str | None = None) -> float:
    """Wait until nothing of a model is in flight or queued (and it is in this state); the seconds that took."""
    start = time.monotonic()
    while time.monotonic() - start < WAIT_SECONDS:
        told = httpx.get(server.url + "/health").json()["models"][model]
        busy = told["in_flight"] or told["queued"]
        if not busy and state in (None, told["state"]):
            return time.monotonic() - start
    raise AssertionError(f"{model} is still {told}")
