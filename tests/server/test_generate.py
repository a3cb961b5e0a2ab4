"""The one path of generation: errors keep their status until the first byte, and leaving cancels at every stage."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from heylook_llm import core, errors
from heylook_llm.server.app import create_app
from heylook_llm.server.endpoint import Options
from heylook_llm.server.generate import Pace
from tests.server.asgi import Client, call
from tests.server.recording import recorded
from tests.server.scripted import Script, ScriptedBackend, Step, done, says

pytestmark = pytest.mark.unit

CHAT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "scripted", "prompt": "hi"},
    "/api/chat": CHAT,
    "/api/generate": {"model": "scripted", "prompt": "hi"},
}
QUICK = Pace(silence_seconds=0.05, stall_seconds=0.1, tick_seconds=0.01)


def app_of(backend: ScriptedBackend, pace: Pace = QUICK) -> Any:
    return create_app(backend, Options(pace=pace))


def scripted(*steps: Step) -> Script:
    def script(request: core.Request) -> Iterable[Step]:
        return steps

    return script


@pytest.fixture(params=list(ROUTES))
def route(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def test_a_whole_reply_is_a_fold_of_the_stream(route: str) -> None:
    app = app_of(ScriptedBackend(says("Hel", "lo", "\N{GRINNING FACE}")))
    whole = (await call(app, "POST", route, ROUTES[route] | {"stream": False})).json
    streamed = await call(app, "POST", route, ROUTES[route] | {"stream": True})
    assert "Hello\N{GRINNING FACE}" in json.dumps(whole, ensure_ascii=False)
    pieces = [piece for piece in ("Hel", "lo", "\N{GRINNING FACE}") if piece.encode() in streamed.body]
    assert len(pieces) == 3
    assert streamed.headers["content-type"].startswith(
        "text/event-stream" if "/v1/" in route else "application/x-ndjson"
    )
    assert streamed.headers["x-accel-buffering"] == "no"
    assert streamed.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "problem", [errors.Overloaded("full"), errors.LoadFailed("damaged"), errors.ContextLengthExceeded(limit_tokens=1)]
)
async def test_an_error_before_the_first_byte_keeps_its_status(
    route: str, stream: bool, problem: errors.HeylookError
) -> None:
    backend = ScriptedBackend(scripted(problem))
    reply = await call(app_of(backend), "POST", route, ROUTES[route] | {"stream": stream})
    assert reply.status == problem.status
    assert "error" in reply.json
    assert reply.headers["content-type"].startswith("application/json")
    backend.refusal = problem
    assert (await call(app_of(backend), "POST", route, ROUTES[route] | {"stream": stream})).status == problem.status


async def test_an_error_after_progress_only_still_has_its_status(route: str) -> None:
    backend = ScriptedBackend(scripted((core.Progress(0, 1, 2),), errors.WorkerDied("gone")))
    reply = await call(app_of(backend), "POST", route, ROUTES[route] | {"stream": True})
    assert reply.status == (500 if "/api/" in route else 503)


async def test_keywords_that_calls_are_not_held_to_are_named_once(route: str) -> None:
    events = (core.Progress(0, 0, 2, left_out=("pattern", "enum of numbers")), core.Progress(0, 1, 2))
    for stream in (False, True):
        backend = ScriptedBackend(scripted(events, (core.Text(0, "Hel"),), (done(),)))
        reply = await call(app_of(backend), "POST", route, ROUTES[route] | {"stream": stream})
        assert reply.headers["x-heylook-ignored"] == "schema:pattern, schema:enum_of_numbers"


async def test_an_error_in_the_stream_is_in_band(route: str) -> None:
    backend = ScriptedBackend(scripted((core.Text(0, "Hel"),), errors.WorkerDied("gone")))
    app = app_of(backend)
    reply = await call(app, "POST", route, ROUTES[route] | {"stream": True})
    assert reply.status == 200
    last = reply.body.decode().strip().splitlines()[-1].removeprefix("data: ")
    assert "error" in json.loads(last)
    assert b"[DONE]" not in reply.body
    assert b'"done":true' not in reply.body
    assert reply.complete
    assert (recorded(app).outcome, recorded(app).error) == ("error", "worker_died")


async def test_a_failed_whole_reply_has_its_status_even_after_tokens(route: str) -> None:
    backend = ScriptedBackend(scripted((core.Text(0, "Hel"),), errors.WorkerDied("gone")))
    reply = await call(app_of(backend), "POST", route, ROUTES[route] | {"stream": False})
    assert reply.status == (500 if "/api/" in route else 503)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stream_that_ends_early_is_an_error(route: str, stream: bool) -> None:
    reply = await call(
        app_of(ScriptedBackend(scripted((core.Text(0, "a"),)))), "POST", route, ROUTES[route] | {"stream": stream}
    )
    assert b"error" in reply.body
    assert reply.complete


async def test_an_unexpected_exception_is_an_engine_error_without_its_text(route: str) -> None:
    def script(request: core.Request) -> Iterable[Step]:
        raise RuntimeError("/secret/path at 0xdeadbeef")

    reply = await call(app_of(ScriptedBackend(script)), "POST", route, ROUTES[route])
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert b"0xdead" not in reply.body


# ---- leaving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_while_waiting_frees_the_place(route: str, stream: bool) -> None:
    backend = ScriptedBackend()
    backend.gate = asyncio.Event()
    app = app_of(backend)
    client = Client(app, "POST", route, ROUTES[route] | {"stream": stream})
    await backend.paused.wait()
    client.leave()
    await client.end()
    assert (backend.waiting, backend.requests) == (0, [])
    assert app.state.server.place.in_flight.all() == []
    assert recorded(app).outcome == "disconnected"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("before", [(), ((core.Progress(0, 1, 2),),), ((core.Text(0, "Hel"),),)])
async def test_leaving_closes_the_generator(route: str, stream: bool, before: tuple[Step, ...]) -> None:
    backend = ScriptedBackend(scripted(*before, asyncio.Event()))
    app = app_of(backend)
    client = Client(app, "POST", route, ROUTES[route] | {"stream": stream})
    await backend.paused.wait()
    assert backend.generating == 1
    client.leave()
    await client.end()
    assert backend.generating == 0
    assert (recorded(app).outcome, recorded(app).status) == ("disconnected", 499)


async def test_a_reader_that_stalls_is_dropped(route: str) -> None:
    backend = ScriptedBackend(scripted((core.Text(0, "Hel"),), (core.Text(0, "lo"),), (done(),)))
    client = Client(app_of(backend), "POST", route, ROUTES[route] | {"stream": True})
    client.reading.clear()
    await client.end()
    assert client.aborted
    assert backend.generating == 0


async def test_a_stall_while_the_last_bytes_go_is_dropped_too(route: str) -> None:
    client = Client(app_of(ScriptedBackend(scripted((done(),)))), "POST", route, ROUTES[route] | {"stream": False})
    client.reading.clear()
    await client.end()
    assert client.aborted


# ---- silence ---------------------------------------------------------------------------------------------------------


async def test_silence_is_filled_once_generation_has_begun(route: str) -> None:
    resume = asyncio.Event()
    backend = ScriptedBackend(scripted((core.Progress(0, 1, 2),), resume, (core.Text(0, "late"),), (done(),)))
    client = Client(app_of(backend), "POST", route, ROUTES[route] | {"stream": True})
    filler = b": keep-alive\n\n" if "/v1/" in route else b'"done":false}\n'
    await client.until(filler)
    resume.set()
    await client.end()
    assert b"late" in client.body
    assert b"\n\n\n" not in client.body
    if "/api/" in route:
        assert all(json.loads(line) for line in client.body.decode().splitlines())


async def test_no_byte_is_sent_while_nothing_has_begun(route: str) -> None:
    resume = asyncio.Event()
    backend = ScriptedBackend(scripted(resume, errors.LoadFailed("damaged")))
    client = Client(app_of(backend), "POST", route, ROUTES[route] | {"stream": True})
    await backend.paused.wait()
    entry = client.task
    loop = asyncio.get_running_loop()
    passed = asyncio.Event()
    loop.call_later(QUICK.silence_seconds * 4, passed.set)
    await passed.wait()
    assert not entry.done()
    assert (client.status, client.body) == (0, b"")
    resume.set()
    assert (await client.end()).status == 500


# ---- operators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_an_operator_cancels_and_the_client_is_told(route: str, stream: bool) -> None:
    backend = ScriptedBackend(scripted((core.Text(0, "Hel"),), asyncio.Event()))
    app = app_of(backend)
    client = Client(app, "POST", route, ROUTES[route] | {"stream": stream})
    await backend.paused.wait()
    (entry,) = (await call(app, "GET", "/v1/requests")).json["data"]
    assert (entry["state"], entry["route"], entry["model"]) == ("generating", route, "scripted")
    assert (await call(app, "GET", f"/v1/requests/chatcmpl-{entry['id'][4:]}")).json["id"] == entry["id"]
    assert (await call(app, "DELETE", f"/v1/requests/{entry['id']}")).json["cancelled"]
    await client.end()
    assert backend.generating == 0
    assert client.status == (200 if stream else 499)
    assert b"cancel" in client.body.splitlines()[-1 if "/api/" in route or not stream else -2]
    assert recorded(app).outcome == "cancelled"
    assert (await call(app, "DELETE", f"/v1/requests/{entry['id']}")).status == 404


async def test_a_cancelled_server_task_is_not_swallowed(route: str) -> None:
    backend = ScriptedBackend(scripted(asyncio.Event()))
    client = Client(app_of(backend), "POST", route, ROUTES[route])
    await backend.paused.wait()
    client.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.end()
    assert backend.generating == 0


# ---- what is recorded and passed on ----------------------------------------------------------------------------------


async def test_the_timeline_has_the_servers_stamps(route: str) -> None:
    app = app_of(ScriptedBackend())
    await call(app, "POST", route, ROUTES[route])
    times = recorded(app).timeline
    assert times.received_ns <= times.parsed_ns <= times.submitted_ns <= times.first_byte_ns <= times.closed_ns
    assert (recorded(app).outcome, recorded(app).usage.output_tokens, recorded(app).route) == ("done", 2, route)


async def test_the_lease_is_asked_for_as_the_body_says() -> None:
    backend = ScriptedBackend()
    app = app_of(backend)
    await call(app, "POST", "/api/chat", CHAT | {"keep_alive": "1m", "options": {"num_ctx": 64}})
    await call(app, "POST", "/v1/chat/completions", CHAT | {"keep_alive": -1, "priority": 3, "num_ctx": 32})
    await call(app, "POST", "/v1/chat/completions", CHAT)
    assert backend.acquired == [(60.0, 64, 0), (float("inf"), 32, 3), (None, None, 0)]
    for bad, text in (("soon", 'time: invalid duration "soon"'), ([1], "Unsupported type: 'list'")):
        reply = await call(app, "POST", "/api/chat", CHAT | {"keep_alive": bad})
        assert (reply.status, reply.json) == (400, {"error": text})


async def test_a_context_is_put_before_the_prompt() -> None:
    backend = ScriptedBackend()
    await call(app_of(backend), "POST", "/api/generate", {"model": "scripted", "prompt": "hi", "context": [7, 8]})
    assert backend.requests[0].before == (7, 8)


async def test_a_prompt_that_cannot_fit_is_refused_without_the_engine() -> None:
    backend = ScriptedBackend()
    huge = [{"role": "user", "content": "x" * (513 * 4096)}]
    reply = await call(app_of(backend), "POST", "/v1/chat/completions", {"model": "scripted", "messages": huge})
    assert (reply.status, reply.json["error"]["code"]) == (400, "context_length_exceeded")
    assert "4096 tokens" in reply.json["error"]["message"]
    assert backend.requests == []


async def test_the_recorded_usage_counts_each_prompt_once_in_whatever_order_choices_end() -> None:
    def ends(choice: int, prompt_tokens: int) -> core.Done:
        return core.Done(choice, "stop", core.Usage(prompt_tokens, 0, 1), core.Timeline())

    script = scripted((ends(0, 10), ends(2, 100)), (ends(1, 10), ends(3, 100)))
    app = app_of(ScriptedBackend(script))
    reply = await call(app, "POST", "/v1/completions", {"model": "scripted", "prompt": ["a", "b"], "n": 2})
    assert reply.json["usage"]["prompt_tokens"] == recorded(app).usage.prompt_tokens == 110


async def test_the_header_server_timing_says_what_is_known(route: str) -> None:
    app = app_of(ScriptedBackend())
    whole = (await call(app, "POST", route, ROUTES[route] | {"stream": False})).headers["server-timing"]
    streamed = (await call(app, "POST", route, ROUTES[route] | {"stream": True})).headers["server-timing"]
    told = {text: [part.partition(";dur=")[0] for part in text.split(", ")] for text in (whole, streamed)}
    engines = ["batch", "prefill", "decode"]
    assert told[whole] == ["parse", "checks", "lease", "prepare", *engines, "first-byte", "total"]
    assert told[streamed] == ["parse", "checks", "lease", "first-byte"]
    assert all(float(part.partition(";dur=")[2]) >= 0 for text in told for part in text.split(", "))


async def test_a_reader_that_is_slow_is_in_the_flush_time() -> None:
    app = app_of(ScriptedBackend(says("Hel", "lo")), Pace(stall_seconds=30))
    messages = 0

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        async def taken_late(message: Message) -> None:
            nonlocal messages
            messages += 1
            taken = asyncio.Event()
            asyncio.get_running_loop().call_later(0.02, taken.set)
            await taken.wait()
            await send(message)

        await app(scope, receive, taken_late)

    await call(slow, "POST", "/v1/chat/completions", CHAT | {"stream": True})
    assert messages == 4
    assert recorded(app).timeline.flush_ns > messages * 19_000_000
