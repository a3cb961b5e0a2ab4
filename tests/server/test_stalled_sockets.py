"""WebSockets whose client stops reading, over real connections: they are dropped, and cost the others nothing."""

import base64
import json
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.serving import Running, running
from tests.worker.tiers import LONG

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
long = pytest.mark.skipif(not LONG, reason="long tier: make test_long")
MODELS = """
default_model: fake
models:
  - {id: fake, provider: fake, config: {n_ctx: 2048, n_parallel: 4}}
"""
FEED = "/v1/performance/ws"
LOG = "/v1/bench/ws"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Its feed waits a second for who reads nothing, any socket as long for who answers no ping."""
    pings = {"ws_ping_interval": 3.0, "ws_ping_timeout": 1.0}
    with running(MODELS, tmp_path_factory.mktemp("stalled"), pace={"stall_seconds": 1.0}, sockets=pings) as it:
        yield it


class Stalled:
    """A client that shakes hands and then reads nothing, with little room for what comes."""

    def __init__(self, server: Running, path: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.socket.connect(("127.0.0.1", server.port))
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.socket.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        assert self.socket.recv(12) == b"HTTP/1.1 101"

    def ping(self, times: int) -> None:
        """Ask for so many answers, none of which it reads."""
        frame = b"\x89\xfd" + bytes(4) + bytes(125)
        self.socket.sendall(frame * times)

    def is_held(self, server: Running) -> bool:
        """Whether the server still holds the connection."""
        port = self.socket.getsockname()[1]
        return any(one.raddr and one.raddr.port == port for one in psutil.Process(server.process.pid).net_connections())

    def until_dropped(self, server: Running) -> None:
        """Until it doesn't; other requests are answered meanwhile."""
        end = time.monotonic() + 15  # the kernel gives up after 30
        while self.is_held(server):
            assert time.monotonic() < end, "it is still connected"
            chat(server)
        self.socket.close()


class Heard(threading.Thread):
    """A client that reads all that comes, until it ends."""

    def __init__(self, server: Running) -> None:
        super().__init__()
        self.socket: ClientConnection = connect(f"ws://127.0.0.1:{server.port}{FEED}").__enter__()
        self.messages: list[dict[str, Any]] = []
        self.start()

    def run(self) -> None:
        """Read."""
        self.messages.extend(json.loads(text) for text in self.socket)

    def misses_nothing(self) -> None:
        """It heard every message once, in their order, from a snapshot on."""
        self.socket.close()
        self.join(30)
        assert [message["type"] for message in self.messages].count("snapshot") == 1
        numbers = [int(message["id"].rpartition("-")[2]) for message in self.messages]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert len(numbers) > 2


def chat(server: Running, tag: str = "") -> None:
    body = b'{"model": "fake", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}'
    headers = {"content-type": "application/json", "x-client-tag": tag}
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/v1/chat/completions", body, headers)) as reply:
        reply.read()


@pytest.mark.parametrize("path", [FEED, pytest.param(LOG, marks=long)])
def test_who_reads_nothing_is_dropped_and_costs_the_others_nothing(server: Running, path: str) -> None:
    others = [Heard(server) for _ in range(3)]
    stalled = Stalled(server, path)
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    stalled.ping(40_000)  # their pongs fill the connection, which within a machine takes megabytes
    chat(server)
    assert process.memory_info().rss - before < 8 << 20
    stalled.until_dropped(server)
    for one in others:
        one.misses_nothing()


@long
@pytest.mark.parametrize("path", [FEED, LOG])
def test_who_reads_nothing_keeps_no_server_from_ending(tmp_path: Path, path: str) -> None:
    with running(MODELS, tmp_path) as server:
        stalled = Stalled(server, path)
        stalled.ping(40_000)
        chat(server)
    assert server.process.returncode == 0, "it ended by itself"
    stalled.socket.close()
