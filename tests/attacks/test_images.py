"""Images that never come, and forms that never end, against the running server (F35, S-24)."""

import base64
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.attacks.raw import WAIT_SECONDS, connect, exchange, post, send_all, status
from tests.picture_files import pixel_bomb, plain, profile_bomb, scan_bomb, text_bomb
from tests.serving import Running, running

pytestmark = pytest.mark.integration

MODELS = """
default_model: seeing
models: [{id: seeing, provider: fake, config: {n_ctx: 2048, image_tokens: 4, n_parallel: 4}}]
limits: {max_queue: 4}
"""
FORM = "/v1/chat/completions/multipart"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(MODELS, tmp_path_factory.mktemp("images"), media={"allow_hosts": ["127.0.0.1"]}) as it:
        yield it


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


def asking(url: str) -> bytes:
    """A request with an image by its URL."""
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "[[see]]"}]
    return post("/v1/chat/completions", json.dumps({"messages": [{"role": "user", "content": content}]}).encode())


def until(met: Callable[[], bool]) -> None:
    """Wait until something is so."""
    start = time.monotonic()
    while not met():
        assert time.monotonic() - start < WAIT_SECONDS


def states(server: Running) -> list[str]:
    """What the requests in flight are doing."""
    return [entry["state"] for entry in httpx.get(server.url + "/v1/requests").json()["data"]]


def test_images_that_never_come_hold_no_place(server: Running, silent: int) -> None:
    assert httpx.post(server.url + "/v1/models/seeing/load", json={}).status_code == 200
    waiting = [connect(server) for _ in range(12)]  # more than may queue, and than are fetched at a time
    try:
        for sock in waiting:
            send_all(sock, asking(f"http://127.0.0.1:{silent}/x.png"))
        until(lambda: states(server) == ["reading"] * len(waiting))
        assert httpx.get(server.url + "/health").json()["models"]["seeing"]["in_flight"] == 0
        body = {"messages": [{"role": "user", "content": "[[say:quick]]"}]}
        reply = httpx.post(server.url + "/v1/chat/completions", json=body)
        assert reply.json()["choices"][0]["message"]["content"] == "quick"
    finally:
        for sock in waiting:
            sock.close()
    until(lambda: states(server) == [])
    assert status(exchange(server, inline(plain()))) == 200


def inline(image: bytes) -> bytes:
    """A request with an image in it."""
    return asking("data:image/png;base64," + base64.b64encode(image).decode())


BOMBS = {
    "pixels": pixel_bomb,
    "packed text": text_bomb,
    "a packed profile": profile_bomb,
    "scans": scan_bomb,
}


def most_memory(server: Running) -> int:
    """The most that the server's own process has held, in bytes."""
    told = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(told.split("VmHWM:")[1].split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a process")
def test_bombs_are_refused_and_leave_the_server_as_small_as_it_was(server: Running) -> None:
    """S-22, F34: small files that would be large."""
    assert status(exchange(server, inline(plain()))) == 200
    before = most_memory(server)
    for kind, made in BOMBS.items():
        request = inline(made())
        assert status(exchange(server, request)) == 400, kind
        assert most_memory(server) - before <= (32 << 20) + 4 * len(request), kind
    assert status(exchange(server, inline(plain()))) == 200


def form(body: bytes, kind: str = "multipart/form-data; boundary=b") -> bytes:
    return post(FORM, body, f"Content-Type: {kind}")


FIELD = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'
FORMS = {
    "ten thousand parts": form(FIELD * 10_000 + b"--b--\r\n"),
    "a head of a megabyte": form(b'--b\r\nContent-Disposition: form-data; name="' + b"a" * (1 << 20) + b'"\r\n\r\nx'),
    "no boundary": form(FIELD + b"--b--\r\n", "multipart/form-data"),
    "another boundary": form(FIELD + b"--b--\r\n", "multipart/form-data; boundary=c"),
    "no end": form(FIELD),
    "nothing": form(b""),
    "boundaries only": form(b"--b\r\n" * 100_000),
    "almost boundaries": form(b"--b\r\n\r\n" + b"\r\n--" * 1_000_000),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_broken_form_is_400(server: Running, name: str) -> None:
    answer = exchange(server, FORMS[name])
    assert status(answer) == 400
    assert b'"invalid_form"' in answer


def test_thousands_of_ranges_are_answered(server: Running) -> None:
    ranges = ",".join(f"{at}-{at}" for at in range(0, 20_000, 2))[:60_000].rpartition(",")[0]
    start = time.monotonic()
    reply = httpx.get(server.url + "/docs/assets/logo-mini.svg", headers={"range": "bytes=" + ranges})
    assert reply.status_code in (200, 206, 400, 416, 431)
    assert time.monotonic() - start < WAIT_SECONDS
