"""Packed bodies to the running server: honest ones are understood, bombs cost a bounded 4xx (S-41, F31)."""

import gzip
import json
import sys
import threading
import zlib
from collections.abc import Callable, Iterator

import httpx
import psutil
import pytest

from tests.attacks.raw import connection, exchange, post, read_all, read_until, send_all, status
from tests.serving import Running

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.integration

CHAT = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "[[say:ok]]"}], "stream": False}).encode()
PACKS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}
every = pytest.mark.parametrize("coding", PACKS)
BOMB_BYTES = 48 << 20


@pytest.fixture
def peak(fake_server: Running) -> Iterator[Callable[[], int]]:
    """How far the server grew at most, in bytes, since the test began."""
    process = psutil.Process(fake_server.process.pid)
    before, most, over = process.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            most[0] = max(most[0], process.memory_info().rss - before)

    thread = threading.Thread(target=watch)
    thread.start()
    yield lambda: most[0]
    over.set()
    thread.join()
    assert httpx.get(fake_server.url + "/health").status_code == 200


def chunked(path: str, coding: str, body: bytes, step: int) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    return head.encode() + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@every
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
def test_a_packed_chat_is_answered(fake_server: Running, coding: str, path: str) -> None:
    packed = PACKS[coding](CHAT)
    answer = exchange(fake_server, post(path, packed, f"Content-Encoding: {coding}"))
    assert (status(answer), b'"ok' in answer) == (200, True)
    with connection(fake_server) as sock:
        sock.sendall(chunked(path, coding, packed, 3))
        assert status(read_until(sock, b'"ok')) == 200


@every
def test_a_bomb_is_refused_and_never_unpacked(fake_server: Running, peak: Callable[[], int], coding: str) -> None:
    bomb = PACKS[coding](b'{"model": "fake", "messages": [' + b" " * BOMB_BYTES)
    for path in ("/v1/chat/completions", "/api/chat"):
        answer = exchange(fake_server, post(path, bomb, f"Content-Encoding: {coding}"))
        assert status(answer) == 413
        assert b"times its size" in answer or b"max_body_bytes" in answer
    assert peak() < 48 << 20


@every
def test_a_bomb_in_pieces_ends_before_it_has_come(fake_server: Running, peak: Callable[[], int], coding: str) -> None:
    """The answer comes while the sender is in the middle of it."""
    bomb = chunked("/api/chat", coding, PACKS[coding](bytes(BOMB_BYTES))[:-8], 512)[:-5]
    with connection(fake_server) as sock:
        send_all(sock, bomb)
        assert status(read_until(sock, b"error")) == 413
    assert peak() < 48 << 20


@every
def test_a_large_body_that_packs_as_text_does_is_taken(fake_server: Running, coding: str) -> None:
    words = " ".join(str(number * 7919) for number in range(60_000))
    body = json.dumps({"model": "fake", "content": words}).encode()
    plain = exchange(fake_server, post("/tokenize", body))
    answer = exchange(fake_server, post("/tokenize", PACKS[coding](body), f"Content-Encoding: {coding}"))
    assert (status(plain), status(answer)) == (200, 200)
    assert answer.partition(b"\r\n\r\n")[2] == plain.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (gzip.compress(CHAT)[:-4], 400),
        (gzip.compress(CHAT) + b"more", 400),
        (CHAT, 400),
        (gzip.compress(b"") * 100_000, 400),
        (gzip.compress(gzip.compress(CHAT)), 400),
        (b"", 400),
    ],
    ids=["cut", "trailing", "plain", "members", "twice", "empty"],
)
def test_what_is_not_packed_right_is_refused(fake_server: Running, body: bytes, expected: int) -> None:
    answer = exchange(fake_server, post("/v1/chat/completions", body, "Content-Encoding: gzip"))
    assert status(answer) == expected


def test_two_codings_in_two_headers_are_refused(fake_server: Running) -> None:
    body = gzip.compress(gzip.compress(CHAT))
    answer = exchange(fake_server, post("/api/chat", body, "Content-Encoding: gzip", "Content-Encoding: gzip"))
    assert status(answer) == 415


@pytest.mark.usefixtures("peak")
def test_a_sender_that_leaves_within_a_packed_body_is_no_crash(fake_server: Running) -> None:
    with connection(fake_server) as sock:
        sock.sendall(post("/api/chat", gzip.compress(CHAT), "Content-Encoding: gzip")[:-9])
        sock.shutdown(1)
        assert status(read_all(sock)) in (0, 400)
