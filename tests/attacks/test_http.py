"""Hostile and broken HTTP against the running server: 4xx or a closed connection, never 5xx, never a hang."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from heylook_llm.server.wire import ollama, openai
from tests.attacks.raw import connection, exchange, post, read_all, read_until, send_all, status
from tests.conftest import FAKES
from tests.serving import Running, running

pytestmark = pytest.mark.integration

CHAT = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "[[say:ok]]"}]}).encode()
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(autouse=True)
def still_well(fake_server: Running) -> Iterator[None]:
    """After each attack the server answers, in the same process, without having grown."""
    process = psutil.Process(fake_server.process.pid)
    before = process.memory_info().rss
    yield
    assert httpx.get(fake_server.url + "/health").status_code == 200
    assert process.memory_info().rss - before < 32 << 20


# ---- S-56: heads -----------------------------------------------------------------------------------------------------


def pour(server: Running, first: bytes, piece: bytes, total_bytes: int) -> bytes:
    """Send `first`, then `piece` again and again until the server closes or so much was sent."""
    with connection(server) as sock:
        send_all(sock, first)
        sent = 0
        try:
            while sent < total_bytes:
                sock.sendall(piece)
                sent += len(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < total_bytes, "the server read all of it"
        return read_all(sock)


def test_a_huge_header_is_cut_off(fake_server: Running) -> None:
    assert status(pour(fake_server, GET + b"X-Big: ", b"a" * 65536, 1 << 30)) in (0, 400, 431)


def test_a_huge_number_of_headers_is_cut_off(fake_server: Running) -> None:
    assert status(pour(fake_server, GET, b"X-A: b\r\n" * 8192, 1 << 30)) in (0, 400, 431)


def test_a_huge_url_is_cut_off(fake_server: Running) -> None:
    assert status(pour(fake_server, b"GET /", b"a" * 65536, 1 << 30)) in (0, 400, 431)


def test_an_endless_chunk_extension_is_cut_off(fake_server: Running) -> None:
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5;"
    assert status(pour(fake_server, head, b"a" * 65536, 1 << 30)) in (0, 400, 431)


def test_an_endless_trailer_is_cut_off(fake_server: Running) -> None:
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    assert status(pour(fake_server, head, b"X-A: b\r\n" * 8192, 1 << 30)) in (0, 400, 431)


def test_a_large_but_honest_head_passes(fake_server: Running) -> None:
    answer = exchange(fake_server, GET + b"X-Big: " + b"a" * 32768 + b"\r\nConnection: close\r\n\r\n")
    assert status(answer) == 200


BROKEN = [
    b"\x00\x01\x02\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    GET + b"Content-Length: -1\r\n\r\n",
    GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    GET + b"Content-Length: x\r\n\r\n",
    GET + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    GET + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    GET + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    GET + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    GET + b" folded: x\r\n\r\n",
    GET + b"Bad Name: x\r\n\r\n",
    GET + b"X: a\x00b\r\n\r\n",
    GET.replace(b"\r\n", b"\n") + b"\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\nConnection: close\r\n\r\n",
    b"GET http://evil.test/api/tags HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"GET http://evil.test@localhost/api/tags HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"CONNECT evil.test:80 HTTP/1.1\r\nHost: evil.test:80\r\nConnection: close\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_request_is_refused(fake_server: Running, data: bytes) -> None:
    with connection(fake_server) as sock:
        send_all(sock, data)
        sock.shutdown(1)
        answer = read_all(sock)
    assert status(answer) in (0, 400, 403, 404, 405, 408)
    assert b"models" not in answer


# ---- slow senders and readers ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with short time limits."""
    options: dict[str, Any] = {
        "http": "tests.serving:Impatient",
        "pace": {"tick_seconds": 0.05, "stall_seconds": 0.5, "silence_seconds": 0.2},
    }
    with running(FAKES, tmp_path_factory.mktemp("impatient"), **options) as it:
        yield it


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"GET /heal", 408),
        (GET, 408),
        (post("/api/chat", CHAT)[:-5], 408),
        (b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 408),
    ],
)
def test_a_slow_sender_is_let_go(impatient: Running, data: bytes, expected: int) -> None:
    with connection(impatient) as sock:
        sock.sendall(data)
        assert status(read_all(sock)) == expected


def test_a_body_that_is_refused_early_is_not_read_for_ever(impatient: Running) -> None:
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: br\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connection(impatient) as sock:
        sock.sendall(head)
        answer = read_until(sock, b"Content-Encoding")
        assert status(answer) == 415
        assert read_all(sock) is not None


def test_a_reader_that_stalls_is_dropped(impatient: Running) -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": "[[count:1000]]"}], "n": 16, "stream": True}
    with connection(impatient) as sock:
        sock.setsockopt(1, 8, 4096)
        sock.sendall(post("/v1/chat/completions", json.dumps(body | {"logprobs": True, "top_logprobs": 20}).encode()))
        read_until(sock, b"data: ")
        while httpx.get(impatient.url + "/v1/requests").json()["data"]:
            continue


# ---- what is refused is counted --------------------------------------------------------------------------------------

WS = b"GET /v1/performance/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
KEY = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
REFUSED = [
    (b"GET /heal", 408, "request_timeout"),
    (post("/api/chat", CHAT)[:-5], 408, "request_timeout"),
    (GET + b"X-Big: " + b"a" * (65 << 10), 431, "request_head_too_large"),
    (b"\x00\x01\r\n\r\n", 400, "invalid_http"),
    (GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "invalid_http"),
    (b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "invalid_http"),
    (WS + b"\r\n", 400, "invalid_handshake"),
    (WS + KEY + b"Origin: http://evil.test\r\n\r\n", 403, "origin_not_allowed"),
]


@pytest.mark.parametrize(("data", "expected", "code"), REFUSED)
def test_what_never_became_a_request_is_counted_once(impatient: Running, data: bytes, expected: int, code: str) -> None:
    before = refusals(impatient)
    with connection(impatient) as sock:
        send_all(sock, data)
        assert status(read_all(sock)) == expected
    assert grown(before, refusals(impatient)) == ({code: 1}, {code: 1})


def test_a_body_that_its_client_left_is_counted(impatient: Running) -> None:
    before = refusals(impatient)
    with connection(impatient) as sock:
        sock.sendall(post("/api/chat", CHAT)[:-3])
    while refusals(impatient) == before:
        continue
    assert grown(before, refusals(impatient)) == ({"incomplete_body": 1}, {"incomplete_body": 1})


def test_a_refusal_after_others_on_a_connection_is_counted(impatient: Running) -> None:
    """The first is answered, so its response isn't this one's."""
    before = refusals(impatient)
    answer = exchange(impatient, GET + b"\r\n" + GET + b"Content-Length: x\r\n\r\n")
    assert answer.count(b"HTTP/1.1 400") == 1
    assert grown(before, refusals(impatient)) == ({"invalid_http": 1}, {"invalid_http": 1})


def refusals(server: Running) -> tuple[Counter[str], Counter[str]]:
    """By error, as the two routes tell it."""
    told = httpx.get(server.url + "/v1/performance?window=24h").json()["refused"]["errors"]
    families = text_string_to_metric_families(httpx.get(server.url + "/metrics").text)
    samples = (sample for family in families for sample in family.samples)
    scraped = {
        sample.labels["error_type"]: int(sample.value)
        for sample in samples
        if sample.name == "heylook_refused_requests_total"
    }
    return Counter(told), Counter(scraped)


def grown(
    before: tuple[Counter[str], Counter[str]], after: tuple[Counter[str], Counter[str]]
) -> tuple[dict[str, int], ...]:
    return tuple(dict(late - early) for early, late in zip(before, after, strict=True))


# ---- bodies ----------------------------------------------------------------------------------------------------------


def test_a_body_beyond_the_limit_is_not_buffered(fake_server: Running) -> None:
    declared = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
    with connection(fake_server) as sock:
        sock.sendall(declared)
        assert status(read_until(sock, b"max_body_bytes")) == 413


def test_a_body_cut_short_is_no_crash(fake_server: Running) -> None:
    with connection(fake_server) as sock:
        sock.sendall(post("/api/chat", CHAT)[:-3])
        sock.shutdown(1)
        assert status(read_all(sock)) in (0, 400)


def test_any_content_type_is_read(fake_server: Running) -> None:
    for content_type in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "nonsense"):
        answer = exchange(fake_server, post("/v1/chat/completions", CHAT, f"Content-Type: {content_type}"))
        assert status(answer) == 200


def test_a_chunked_body_and_a_pipelined_request_are_answered_in_order(fake_server: Running) -> None:
    chunked = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"".join(b"1\r\n%c\r\n" % byte for byte in CHAT) + b"0\r\n\r\n"
    answer = exchange(fake_server, chunked + GET + b"Connection: close\r\n\r\n")
    first, second = answer.split(b"HTTP/1.1 200 OK")[1:]
    assert b'"content":"ok"' in first
    assert b'"status"' in second


# ---- S-50: every numeric field at its edges --------------------------------------------------------------------------

EDGES: list[Any] = [
    -(2**63),
    -(2**63) - 1,
    -1,
    0,
    1,
    2**31,
    2**63,
    2**64,
    10**400,
    1e308,
    -1e308,
    0.5,
    True,
    "1",
    "",
    [],
    {},
]


@pytest.mark.parametrize("route", [*openai.BODIES, *ollama.BODIES])
def test_no_edge_of_any_field_breaks_the_server(fake_server: Running, route: str) -> None:
    method, _, path = route.partition(" ")
    model = (openai.BODIES | ollama.BODIES)[route]
    base = {"model": "fake", "messages": [{"role": "user", "content": "[[say:ok]]"}], "prompt": "x", "content": "x",
            "tokens": [1], "stream": False, "max_tokens": 4, "options": {"num_predict": 4}}  # fmt: skip
    with httpx.Client(base_url=fake_server.url, timeout=60) as client:
        for name in model.model_fields:
            for edge in EDGES:
                if name == "messages" and edge == []:
                    continue
                reply = client.request(method, path, content=json.dumps(base | {name: edge}).encode())
                assert reply.status_code in (200, 400, 404), (name, edge, reply.text)


def test_no_edge_of_any_option_breaks_the_server(fake_server: Running) -> None:
    base = {"model": "fake", "messages": [{"role": "user", "content": "[[say:ok]]"}], "stream": False, "think": False}
    with httpx.Client(base_url=fake_server.url, timeout=60) as client:
        for name in ollama.OPTIONS.model_fields:
            for edge in EDGES:
                options = {"num_predict": 4, "num_ctx": 2048} | {name: edge}
                reply = client.post("/api/chat", content=json.dumps(base | {"options": options}).encode())
                assert reply.status_code in (200, 400), (name, edge, reply.text)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/tokenize"])
def test_a_number_beyond_64_bits_within_a_schema_is_refused(fake_server: Running, path: str) -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {"x": {"maximum": 10**30}}}}
    body = json.loads(CHAT) | {"stream": False, "tools": [{"type": "function", "function": function}]}
    reply = httpx.post(fake_server.url + path, json=body)
    assert reply.status_code == 400
    assert "beyond 64 bits" in reply.text


# ---- S-21: what errors give away -------------------------------------------------------------------------------------


def test_no_error_gives_away_addresses_or_tracebacks(fake_server: Running) -> None:
    import re

    bad = re.compile(r"0x[0-9a-f]{6,}|Traceback|/src/|/site-packages/|/home/|\.py\b")
    with httpx.Client(base_url=fake_server.url) as client:
        for body in (
            b"{", b"[]", b'{"model":"broken","messages":[{"role":"user","content":"x"}]}', b'{"model":"nope"}',
            b'{"model":"fake","messages":[{"role":"user","content":"[[error]]"}]}',
        ):  # fmt: skip
            for path in ("/v1/chat/completions", "/api/chat", "/api/generate", "/v1/completions"):
                reply = client.post(path, content=body)
                assert not bad.search(reply.text), reply.text
