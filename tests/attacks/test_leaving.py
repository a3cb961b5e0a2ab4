"""Clients that leave at each stage, over real sockets: their place is free at once, and nothing is done for nobody."""

import json
import socket
from typing import Any

import httpx
import pytest

from tests.attacks.raw import connect, exchange, post, read_until, status, until_idle
from tests.serving import Running

pytestmark = pytest.mark.integration

FREED_SECONDS = 2.0
"""The goal is a quarter of a second; a busy test machine is given more."""
ROUTES = ["/v1/chat/completions", "/api/chat"]


def body(model: str, text: str, **fields: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}]} | fields).encode()


def in_flight(server: Running) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = httpx.get(server.url + "/v1/requests").json()["data"]
    return told


def until_in_flight(server: Running) -> dict[str, Any]:
    while not (found := in_flight(server)):
        continue
    return found[0]


def leave(sock: socket.socket, how: str) -> None:
    """Close, reset, or close one half only: a server can't tell the last from the first until it writes."""
    if how == "half":
        sock.shutdown(socket.SHUT_WR)
        return
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("route", ROUTES)
def test_while_it_is_generated(fake_server: Running, route: str, stream: bool, how: str) -> None:
    httpx.post(fake_server.url + "/v1/models/slow/load", timeout=30)
    sock = connect(fake_server)
    sock.sendall(post(route, body("slow", "[[count:500]]", stream=stream, think=False)))
    if stream:
        read_until(sock, b"1 2")
    else:
        while until_in_flight(fake_server)["output_tokens"] < 2:
            continue
    leave(sock, how)
    assert until_idle(fake_server, "slow") < FREED_SECONDS
    sock.close()
    assert in_flight(fake_server) == []


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("route", ROUTES)
def test_while_the_model_loads_the_load_is_stopped(fake_server: Running, route: str, stream: bool) -> None:
    sock = connect(fake_server)
    sock.sendall(post(route, body("heavy", "x", stream=stream)))
    while httpx.get(fake_server.url + "/health").json()["models"]["heavy"]["state"] != "loading":
        continue
    sock.close()
    assert until_idle(fake_server, "heavy", "unloaded") < FREED_SECONDS + 2


def test_while_a_preload_runs(fake_server: Running) -> None:
    sock = connect(fake_server)
    sock.sendall(post("/api/generate", b'{"model": "heavy"}'))
    while httpx.get(fake_server.url + "/health").json()["models"]["heavy"]["state"] != "loading":
        continue
    sock.close()
    assert until_idle(fake_server, "heavy", "unloaded") < FREED_SECONDS + 2


def test_an_operator_cancels_over_http(fake_server: Running) -> None:
    sock = connect(fake_server)
    sock.sendall(post("/v1/chat/completions", body("slow", "[[count:500]]", stream=True)))
    read_until(sock, b"1 2")
    identity = until_in_flight(fake_server)["id"]
    assert httpx.delete(f"{fake_server.url}/v1/requests/{identity}").json()["cancelled"]
    rest = read_until(sock, b"request_cancelled")
    assert b"[DONE]" not in rest
    sock.close()
    assert until_idle(fake_server, "slow") < FREED_SECONDS


def test_truncation_is_said(fake_server: Running) -> None:
    turns = [{"role": "user", "content": "x" * 3000}, {"role": "assistant", "content": "y"}]
    asked = {"model": "fake", "messages": [*turns, {"role": "user", "content": "[[say:ok]]"}], "stream": False}
    reply = httpx.post(fake_server.url + "/api/chat", json=asked | {"think": False})
    assert reply.json()["message"]["content"] == "ok"
    assert int(reply.headers["x-heylook-truncated"]) > 0
    reply = httpx.post(fake_server.url + "/api/chat", json=asked | {"truncate": False})
    assert reply.status_code == 400
    assert "context" in reply.json()["error"]


def test_keep_alive_connections_serve_on_after_each_kind_of_reply(fake_server: Running) -> None:
    with httpx.Client(base_url=fake_server.url) as client:
        for _ in range(3):
            for route in ROUTES:
                for stream in (True, False):
                    content = body("fake", "[[say:ok]]", stream=stream)
                    assert client.post(route, content=content).status_code == 200
                assert client.post(route, content=b"{").status_code == 400


def test_a_reply_over_http_1_0(fake_server: Running) -> None:
    content = body("fake", "[[say:ok]]", stream=True)
    request = post("/v1/chat/completions", content).replace(b"HTTP/1.1", b"HTTP/1.0")
    answer = exchange(fake_server, request)
    assert status(answer) == 200
    assert b"[DONE]" in answer
