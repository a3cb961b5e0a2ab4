"""Requests that one operation answers: what is recorded of them, how they are cancelled, what their headers say."""

import asyncio
from typing import Any

import pytest

from heylook_llm.errors import LoadFailed
from heylook_llm.server.app import create_app
from tests.server.asgi import Client, call
from tests.server.recording import recorded
from tests.server.scripted import ScriptedBackend

pytestmark = pytest.mark.unit

BODIES: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"model": "gpt-4o", "input": ["a", "b"]},
    "/api/embed": {"model": "gpt-4o", "input": ["a", "b"]},
    "/v1/rerank": {"model": "gpt-4o", "query": "a", "documents": ["a", "b"]},
}


@pytest.mark.parametrize("path", BODIES)
async def test_a_request_is_recorded_with_its_timeline(path: str) -> None:
    app = create_app(ScriptedBackend())
    reply = await call(app, "POST", path, BODIES[path])
    assert reply.status == 200
    finished = recorded(app)
    assert (finished.route, finished.model, finished.outcome, finished.status) == (path, "org/scripted", "done", 200)
    assert finished.usage.prompt_tokens == (10 if path == "/v1/rerank" else 6)
    assert finished.usage.output_tokens == 0
    times = finished.timeline
    stamps = [times.received_ns, times.parsed_ns, times.submitted_ns, times.first_byte_ns, times.closed_ns]
    assert None not in stamps
    assert stamps == sorted(stamps)
    assert times.admitted_ns is not None


@pytest.mark.parametrize("path", BODIES)
async def test_an_error_is_told_in_the_routes_words_and_recorded(path: str) -> None:
    backend = ScriptedBackend()
    backend.refusal = LoadFailed("damaged")
    app = create_app(backend)
    reply = await call(app, "POST", path, BODIES[path])
    assert (reply.status, reply.headers["x-should-retry"]) == (500, "false")
    assert (reply.json["error"] if path.startswith("/api/") else reply.json["error"]["message"]) == "damaged"
    finished = recorded(app)
    assert (finished.outcome, finished.status, finished.error) == ("error", 500, "model_load_failed")


async def test_it_stands_among_the_requests_in_flight_and_can_be_cancelled() -> None:
    backend = ScriptedBackend()
    backend.gate = asyncio.Event()
    app = create_app(backend)
    client = Client(app, "POST", "/v1/embeddings", BODIES["/v1/embeddings"])
    await backend.paused.wait()
    (told,) = (await call(app, "GET", "/v1/requests")).json["data"]
    assert (told["route"], told["state"], told["choices"], told["stream"]) == ("/v1/embeddings", "waiting", 2, False)
    assert (await call(app, "DELETE", f"/v1/requests/{told['id']}")).json["cancelled"]
    await client.end()
    assert (client.status, client.json["error"]["code"]) == (499, "request_cancelled")
    assert backend.waiting == 0
    finished = recorded(app)
    assert finished.outcome == "cancelled"


async def test_leaving_while_it_waits_frees_its_place() -> None:
    backend = ScriptedBackend()
    backend.gate = asyncio.Event()
    app = create_app(backend)
    client = Client(app, "POST", "/api/embed", BODIES["/api/embed"])
    await backend.paused.wait()
    client.leave()
    await client.end()
    assert backend.waiting == 0
    finished = recorded(app)
    assert (finished.outcome, finished.status) == ("disconnected", 499)


async def test_keep_alive_and_context_reach_the_router() -> None:
    backend = ScriptedBackend()
    app = create_app(backend)
    await call(app, "POST", "/api/embed", {**BODIES["/api/embed"], "keep_alive": "5m", "options": {"num_ctx": 64}})
    await call(app, "POST", "/v1/embeddings", {**BODIES["/v1/embeddings"], "keep_alive": 0})
    assert backend.acquired == [(300.0, 64, 0), (0.0, None, 0)]
    refused = await call(app, "POST", "/v1/embeddings", {**BODIES["/v1/embeddings"], "keep_alive": [1]})
    assert refused.status == 400


async def test_ignored_keys_are_named() -> None:
    for path, body in BODIES.items():
        reply = await call(create_app(ScriptedBackend()), "POST", path, {**body, "foo": 1})
        assert reply.headers["x-heylook-ignored"] == "foo"
