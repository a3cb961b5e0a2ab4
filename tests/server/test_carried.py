"""Requests over WebSockets: the same answers, errors, limits and cancellation as over HTTP."""

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from socket import SHUT_RDWR
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from heylook_llm.server import carried
from heylook_llm.server.app import endpoints, sockets
from tests.serving import Running, running

pytestmark = pytest.mark.integration
MODELS = """
default_model: fake
prewarm: false
models:
  - {id: fake, provider: fake, config: {n_ctx: 4096}}
  - {id: slow, provider: fake, config: {n_ctx: 4096, decode_tokens_per_second: 50}}
"""
CHAT = "/v1/chat/completions"
KEY = {"authorization": "Bearer schl\u00fcssel"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    guard = {"api_key": "schl\u00fcssel"}
    with running(MODELS, tmp_path_factory.mktemp("carried"), guard=guard, import_roots=[]) as it:
        yield it


def opened(server: Running, path: str = CHAT, **headers: str) -> ClientConnection:
    address = f"ws://127.0.0.1:{server.port}{path}"
    return connect(address, additional_headers={**KEY, **headers}, max_size=None)


def asked(server: Running, body: bytes, path: str = CHAT, piece: int = 1 << 18) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of an answer, the body sent in pieces."""
    with opened(server, path) as socket:
        with contextlib.suppress(ConnectionClosedOK):  # what is too large is answered before it is whole
            for at in range(0, len(body), piece):
                socket.send(body[at : at + piece])
            socket.send("")
        head = json.loads(socket.recv(30))
        return head["status"], head["headers"], "".join(map(str, socket))


def posted(server: Running, body: bytes, path: str = CHAT) -> tuple[int, str]:
    """The same by HTTP."""
    request = urllib.request.Request(server.url + path, body, {**KEY, "content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def chat(text: str, model: str = "fake", **fields: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **fields}).encode()


def in_flight(server: Running) -> int:
    request = urllib.request.Request(f"{server.url}/v1/requests", headers=KEY)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return len(json.load(reply)["data"])


def contents(stream: str) -> list[str]:
    """The texts of a stream's chunks."""
    found = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    return [chunk["choices"][0]["delta"].get("content") for chunk in found if chunk["choices"]]


def test_a_stream_is_the_one_that_http_gives(server: Running) -> None:
    body = chat("[[say:eins zwei \u00fc\u20ac\U0001f600 drei]]", stream=True)
    status, headers, text = asked(server, body, piece=7)  # cut within letters
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert headers["x-request-id"].startswith("req_")
    assert contents(text) == contents(posted(server, body)[1])
    assert "\U0001f600" in "".join(filter(None, contents(text)))
    assert text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", chat("x", model="nothing"), chat("x", n="many"), b"\xff\xfe"],
    ids=["empty", "cut", "list", "model", "field", "bytes"],
)
def test_errors_are_those_of_http(server: Running, body: bytes) -> None:
    status, _, text = asked(server, body)
    assert status >= 400
    assert (status, json.loads(text)["error"]) == (
        posted(server, body)[0],
        json.loads(posted(server, body)[1])["error"],
    )


def test_a_body_beyond_the_limit_is_refused_while_it_comes(server: Running) -> None:
    status, _, text = asked(server, chat("x" * (80 << 20)))
    assert status == 413
    assert "max_body_bytes" in json.loads(text)["error"]["message"]


def test_who_leaves_ends_the_request(server: Running) -> None:
    for leave in (ClientConnection.close, lambda socket: socket.socket.shutdown(SHUT_RDWR)):
        with opened(server) as socket:
            socket.send(chat("[[count:3000]]", model="slow", stream=True))
            socket.send("")
            for _ in range(4):
                assert socket.recv(30)
            assert in_flight(server) == 1
            leave(socket)
        with opened(server, "/v1/performance/ws") as live:
            while in_flight(server):
                assert live.recv(30)


def test_what_is_said_after_the_body_is_ignored(server: Running) -> None:
    with opened(server) as socket:
        for text in (chat("[[say:once]]", stream=True).decode(), "", chat("[[say:twice]]").decode(), "x"):
            socket.send(text)
        _, *chunks = socket
    assert "".join(filter(None, contents("".join(map(str, chunks))))) == "once"


def test_a_key_comes_as_a_subprotocol_and_strangers_are_refused(server: Running) -> None:
    address = f"ws://127.0.0.1:{server.port}{CHAT}"
    named = ["heylook", "heylook.key.c2NobMO8c3NlbA"]
    with connect(address, subprotocols=named) as socket:  # type: ignore[arg-type]  # a NewType of str
        socket.send(chat("[[say:hello]]", stream=True))
        socket.send("")
        assert json.loads(socket.recv(30))["status"] == 200
    for path, headers, status in (
        (CHAT, {"authorization": "Bearer wrong"}, 401),
        (CHAT, {"origin": "http://evil.test"}, 403),
        (CHAT, {"host": "evil.test"}, 403),
        ("/api/pull", {"origin": "null"}, 403),
        ("/v1/completions", {}, 403),
    ):
        with pytest.raises(InvalidStatus, match=str(status)), opened(server, path, **headers):
            pass


def test_a_pull_is_carried_too(server: Running) -> None:
    body = b'{"model": "http://127.0.0.1:1/x"}'
    status, _, text = asked(server, body, "/api/pull")
    assert (status, text) == posted(server, body, "/api/pull")


def test_what_is_carried_needs_what_the_request_needs() -> None:
    table = endpoints("both")
    needs = {row.path: row.access for row in table}
    assert {row.path: row.access for row in sockets(table)[1:]} == {path: needs[path] for path in carried.PATHS}
