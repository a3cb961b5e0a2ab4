"""The null target, and targets that misbehave, each in a process or thread of its own."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator


class Null:
    """A running null target."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def log(self) -> dict[str, list[int]]:
        """What it wrote when, by the id that the client gave the request; the last stamp is of the end."""
        with urllib.request.urlopen(f"{self.url}/log", timeout=30) as response:
            rows = [json.loads(line) for line in response.read().splitlines()]
        return {row["id"]: [row["received"], *row["written"]] for row in rows}


@contextlib.contextmanager
def null_target(**options: float) -> Iterator[Null]:
    """A null target; options as its own, with underscores."""
    given = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "heylook_llm.bench.null", *given]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield Null(process, int(process.stdout.readline()))
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextlib.contextmanager
def misbehaving(answer: Callable[[socket.socket, bytes], None], everything: bool = False) -> Iterator[str]:
    """A server that lists a model, and answers chats by this function, which may do anything; its URL.

    `everything`: whatever else it is asked, too.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    ending = threading.Event()

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            head = _head(connection)
            if head.startswith(b"GET /v1/models "):
                body = b'{"object": "list", "data": [{"id": "bad"}]}'
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
                )
            elif everything or head.startswith(b"POST /v1/chat/completions "):
                answer(connection, head)
            else:
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    def accept() -> None:
        while not ending.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                threading.Thread(target=one, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ending.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _head(connection: socket.socket) -> bytes:
    """A request's head, and its body, which is read and left out."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    missing = int(lengths[0]) - len(body) if lengths else 0
    while missing > 0:
        missing -= len(connection.recv(65536)) or missing
    return head
