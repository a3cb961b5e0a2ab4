"""The file of kept responses: chains, references, limits, damage, and servers that died."""

import asyncio
import contextlib
import os
import random
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from heylook_llm.errors import EngineError
from heylook_llm.server.app import create_app
from heylook_llm.server.endpoint import Options
from heylook_llm.server.responses_database import Kept, ResponseDatabase
from heylook_llm.server.responses_store import ResponseStore
from tests.server.asgi import Client, call
from tests.server.scripted import ScriptedBackend, says

pytestmark = pytest.mark.unit

HI = {"model": "scripted", "input": "hi"}


def response(identity: str, text: str = "x", previous: str | None = None, **more: Any) -> Kept:
    """A response with one message in and one out."""
    said = {"id": f"out_{identity}", "type": "message", "content": text}
    asked = {"id": f"in_{identity}", "type": "message", "content": text}
    told = {"id": identity, "status": "completed", "background": False, "output": [said]}
    return Kept(identity, told, [asked], previous, **more)


def database(path: Path | None = None, *, keep_seconds: float = 1000.0, keep_bytes: int = 1 << 24) -> ResponseDatabase:
    return ResponseDatabase(path, keep_seconds=keep_seconds, keep_bytes=keep_bytes)


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]


# ---- the file --------------------------------------------------------------------------------------------------------


def test_what_is_written_is_found() -> None:
    file, kept = database(), response("a", "\u2028 \ud800".encode("utf-8", "replace").decode(), events=b"stream")
    file.write(kept, 1.0)
    found = file.find("a")
    assert found is not None
    assert (found.response, found.items, file.events("a")) == (kept.response, kept.items, b"stream")
    assert file.find("b") is None
    assert file.events("b") is None
    assert file.found(["in_a", "out_a", "none"]) == {"in_a": kept.items[0], "out_a": kept.response["output"][0]}


def test_a_chain_is_told_oldest_first() -> None:
    file = database()
    for at, (name, previous) in enumerate([("a", None), ("b", "a"), ("x", "a"), ("c", "b")]):
        file.write(response(name, previous=previous), float(at))
    chain = file.chain("c", 9.0)
    assert chain is not None
    assert ids(chain.items) == ["in_a", "out_a", "in_b", "out_b", "in_c", "out_c"]
    assert chain.missing is None
    assert file.chain("none", 9.0) is None
    file.delete("a")
    broken = file.chain("c", 9.0)
    assert broken is not None
    assert (broken.missing, ids(broken.items)) == ("a", ["in_b", "out_b", "in_c", "out_c"])


def test_writing_again_takes_the_place_of_what_was() -> None:
    file = database()
    file.write(response("a", owner=1), 1.0)
    file.write(response("a", "done"), 2.0)
    found = file.find("a")
    assert found is not None
    assert (found.owner, found.items[0]["content"], len(file.found(["in_a"]))) == (None, "done", 1)


def test_what_is_gone_on_from_stays() -> None:
    file = database(keep_seconds=100.0)
    for name, previous in (("a", None), ("b", "a"), ("old", None)):
        file.write(response(name, previous=previous), 0.0)
    file.chain("b", 50.0)
    assert file.trim(120.0) == 1
    assert file.find("old") is None
    assert file.find("a") is not None


def test_the_size_is_bounded_and_what_was_longest_unused_goes(tmp_path: Path) -> None:
    file = database(tmp_path / "r.sqlite3", keep_bytes=1 << 20)
    draw = random.Random(1)
    for at in range(60):
        file.write(response(f"r{at}", draw.randbytes(20_000).hex()), float(at))
        if file.full:
            file.trim(100.0)
    assert file.used_bytes <= 1 << 20
    assert file.find("r0") is None
    assert file.find("r59") is not None


def test_what_is_deleted_is_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite3"
    file = database(path)
    file.write(Kept("a", {"output": []}, [{"id": "secret-marker"}], None), 1.0)
    assert path.stat().st_mode & 0o777 == 0o600
    assert file.delete("a")
    assert not file.delete("a")
    file.close()
    assert b"secret-marker" not in path.read_bytes()


# ---- the thread ------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def storing(path: Path | None = None, **options: Any) -> AsyncIterator[ResponseStore]:
    store = ResponseStore(path, **options)
    try:
        yield store
    finally:
        await asyncio.to_thread(store.close)


async def test_an_answer_knows_what_was_kept_before_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "r.sqlite3"
    async with storing(path) as store:
        for at in range(50):
            store.keep(response(f"r{at}"))
        assert await store.ask(lambda file: file.find("r49")) is not None
    async with storing(path) as again:
        assert await again.ask(lambda file: file.find("r0")) is not None


async def test_a_damaged_file_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "r.sqlite3"
    path.write_bytes(b"no database at all, and long enough to be looked at " * 50)
    async with storing(path) as store:
        store.keep(response("a"))
        assert await store.ask(lambda file: file.find("a")) is not None
    assert sum(name.startswith("r.sqlite3.damaged-") for name in os.listdir(tmp_path)) == 1
    assert "is damaged" in caplog.text


async def test_another_versions_file_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "r.sqlite3"
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    before = path.read_bytes()
    async with storing(path) as store:
        store.keep(response("a"))
        assert await store.ask(lambda file: file.find("a")) is not None
    assert path.read_bytes() == before
    assert "another version" in caplog.text


async def test_what_can_not_be_read_is_an_error_of_ours() -> None:
    async with storing() as store:
        with pytest.raises(EngineError, match="log"):
            await store.ask(lambda file: file._connection.execute("SELECT nothing"))


# ---- through the front -----------------------------------------------------------------------------------------------


async def test_a_server_after_another_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite3"
    backend = ScriptedBackend(says("Hello"))
    async with storing(path) as store:
        first = (await call(create_app(backend, Options(responses=store)), "POST", "/v1/responses", HI)).json
    async with storing(path) as store:
        app = create_app(backend, Options(responses=store))
        body = HI | {"previous_response_id": first["id"], "input": "and?"}
        assert (await call(app, "POST", "/v1/responses", body)).status == 200
    (prompt,) = backend.requests[-1].prompts
    assert [(turn.role, turn.text) for turn in prompt.messages] == [  # type: ignore[union-attr]  # a chat
        ("user", "hi"),
        ("assistant", "Hello"),
        ("user", "and?"),
    ]


@pytest.fixture
def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


async def test_a_response_whose_server_died_has_failed(tmp_path: Path, gone: int) -> None:
    async with storing(tmp_path / "r.sqlite3") as store:
        app = create_app(ScriptedBackend(), Options(responses=store))
        for owner, status in ((gone, "failed"), (1, "completed")):
            store.keep(response("a", owner=owner))
            assert (await call(app, "GET", "/v1/responses/a")).json["status"] == status
            refused = await call(app, "POST", "/v1/responses", HI | {"previous_response_id": "a"})
            assert "has not ended" in refused.json["error"]["message"]


async def test_what_is_too_large_to_keep() -> None:
    async with storing(keep_bytes=1 << 20) as store:
        app = create_app(ScriptedBackend(), Options(responses=store))
        large = HI | {"input": "x" * (1 << 18)}
        refused = await call(app, "POST", "/v1/responses", large | {"store": True})
        assert (refused.status, refused.json["error"]["param"]) == (400, "store")
        assert (await call(app, "POST", "/v1/responses", large | {"background": True})).status == 400
        answered = (await call(app, "POST", "/v1/responses", large)).json
        assert answered["store"] is False
        assert (await call(app, "GET", f"/v1/responses/{answered['id']}")).status == 404


async def test_one_in_the_background_goes_on_when_its_client_leaves() -> None:
    backend = ScriptedBackend()
    gate = backend.gate = asyncio.Event()
    app = create_app(backend)
    asking = Client(app, "POST", "/v1/responses", HI | {"background": True, "stream": True})
    await asking.until(b"response.queued")
    identity = "resp_" + asking.body.partition(b"resp_")[2][:32].decode()
    assert (await call(app, "GET", f"/v1/responses/{identity}")).json["status"] == "queued"
    refused = await call(app, "POST", "/v1/responses", HI | {"previous_response_id": identity})
    assert "has not ended" in refused.json["error"]["message"]
    asking.leave()
    again = Client(app, "GET", f"/v1/responses/{identity}?stream=true&starting_after=1")
    gate.set()
    await again.end()
    assert b"response.queued" not in again.body
    assert again.body.rstrip().rpartition(b"event: ")[2].startswith(b"response.completed")
    going_on = await call(app, "POST", "/v1/responses", HI | {"previous_response_id": identity})
    assert going_on.status == 200
    await app.state.server.responses.close()


async def test_what_runs_when_the_server_ends_is_waited_for(tmp_path: Path) -> None:
    backend, path = ScriptedBackend(), tmp_path / "r.sqlite3"
    backend.gate = asyncio.Event()
    async with storing(path) as store:
        app = create_app(backend, Options(responses=store))
        made = (await call(app, "POST", "/v1/responses", HI | {"background": True})).json
        assert made["status"] == "queued"
        closing = asyncio.create_task(app.state.server.responses.close())
        backend.gate.set()
        await closing
        store.keep(response("late"))
        with pytest.raises(EngineError, match="ends"):
            await store.ask(lambda file: file.find("late"))
    with contextlib.closing(ResponseDatabase(path, keep_seconds=9, keep_bytes=1 << 24)) as file:
        kept = file.find(made["id"])
    assert kept is not None
    assert (kept.response["status"], kept.owner) == ("completed", None)


@pytest.mark.parametrize("query", ["stream=true", "stream=true&starting_after=x"])
async def test_a_stream_that_is_not_kept(query: str) -> None:
    app = create_app(ScriptedBackend())
    made = (await call(app, "POST", "/v1/responses", HI)).json
    reply = await call(app, "GET", f"/v1/responses/{made['id']}?{query}")
    assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")
    assert (await call(app, "GET", f"/v1/responses/none?{query}")).status in (400, 404)


async def test_headers_and_timeline_are_those_of_a_chat() -> None:
    app = create_app(ScriptedBackend())
    reply = await call(app, "POST", "/v1/responses", HI | {"alien": 1})
    assert reply.headers["x-heylook-ignored"] == "alien"
    assert reply.headers["x-request-id"].removeprefix("req_") == reply.json["id"].removeprefix("resp_")
    assert "total" in reply.headers["server-timing"]
    rows = (await call(app, "GET", "/v1/performance/requests")).json["data"]
    assert [(row["route"], row["dialect"], row["outcome"]) for row in rows] == [("/v1/responses", "openai", "done")]
    streamed = await call(app, "POST", "/v1/responses", HI | {"stream": True, "background": True, "alien": 1})
    assert streamed.headers["x-heylook-ignored"] == "alien"
