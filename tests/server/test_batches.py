"""Batches whose time is up, that meet a full queue, and whose folder another server holds."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from heylook_llm.errors import Overloaded
from heylook_llm.server.app import create_app
from heylook_llm.server.batch_store import Store
from heylook_llm.server.batches import Batches
from heylook_llm.server.endpoint import Options
from heylook_llm.server.guard import GuardOptions
from heylook_llm.server.inward import LOWEST_PRIORITY, Inward
from heylook_llm.server.wire import openai_batches
from heylook_llm.server.wire.openai_batches import DAY, OPEN, Batch
from tests.server.asgi import call
from tests.server.routing import until
from tests.server.scripted import ScriptedBackend

pytestmark = pytest.mark.unit
CHAT = "/v1/chat/completions"
BODY = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}


class Served:
    """Batches over a scripted model, with a clock of their own."""

    def __init__(self, root: Path, now: float = 1_700_000_000.0) -> None:
        self.backend = ScriptedBackend()
        self.now = now
        inward = Inward(None)
        inward.app = create_app(self.backend)
        self.batches = Batches(inward, root, clock=lambda: self.now)

    async def begin(self, count: int, **fields: Any) -> Batch:
        """A batch of so many chats."""
        rows = [{"custom_id": str(at), "method": "POST", "url": CHAT, "body": BODY} for at in range(count)]
        data = "\n".join(map(json.dumps, rows)).encode()
        file = await self.batches.upload(openai_batches.Upload(data, "in.jsonl", DAY))
        given = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", **fields}
        return await self.batches.create(openai_batches.parse_batch(json.dumps(given).encode()))

    async def ended(self, identity: str) -> Batch:
        """The batch, once nothing is left to do."""
        while (batch := await self.batches.ask(Store.batch, identity)).status in OPEN:
            continue
        return batch

    async def rows(self, file: str | None) -> list[Any]:
        """The lines of a file."""
        assert file is not None
        return [json.loads(line) for line in (await self.batches.ask(Store.read, file)).splitlines()]


async def test_what_is_not_answered_in_time_expires(tmp_path: Path) -> None:
    first = Served(tmp_path)
    first.backend.gate = asyncio.Event()
    batch = await first.begin(12, output_expires_after={"anchor": "created_at", "seconds": 7200})
    await first.backend.paused.wait()
    assert {priority for _, _, priority in first.backend.acquired} == {LOWEST_PRIORITY}
    await first.batches.close()
    assert first.backend.waiting == 0, "closing leaves nothing behind"
    second = Served(tmp_path, first.now + DAY)
    second.backend.gate = asyncio.Event()
    await second.batches.start()
    done = await second.ended(batch.id)
    assert (done.status, done.expired_at, done.output_file_id) == ("expired", second.now, None)
    rows = await second.rows(done.error_file_id)
    assert sorted(int(row["custom_id"]) for row in rows) == list(range(12))
    assert {row["error"]["code"] for row in rows} == {"batch_expired"}
    second.now += 7201
    files = await second.batches.ask(Store.files)
    assert files == [], "the files' time is up, too"
    await second.batches.close()


async def test_a_full_queue_only_delays(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.backend.refusal = Overloaded("busy", retry_after_seconds=0.1)
    batch = await served.begin(1)
    await until(lambda: served.backend.acquired)
    served.backend.refusal = None
    done = await served.ended(batch.id)
    assert (done.status, done.completed, done.failed) == ("completed", 1, 0)
    (row,) = await served.rows(done.output_file_id)
    assert row["response"]["body"]["choices"][0]["message"]["content"] == "Hello world"
    await served.batches.close()


async def test_a_batch_that_could_not_say_how_it_ended_can_be_cancelled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = Served(tmp_path)
    served.backend.gate = asyncio.Event()
    await served.batches.ask(Store.files)
    with closing(sqlite3.connect(tmp_path / "batches" / "batches.sqlite3", isolation_level=None)) as other:
        other.execute("CREATE TRIGGER full BEFORE UPDATE ON batches BEGIN SELECT RAISE(FAIL, 'disk full'); END")
        batch = await served.begin(2)
        await until(lambda: caplog.text.count("the database of batches failed: disk full") == 2)
        other.execute("DROP TRIGGER full")
    assert (await served.batches.cancel(batch.id)).status == "cancelling"
    done = await served.ended(batch.id)
    assert (done.status, done.output_file_id) == ("cancelled", None)
    assert {row["error"]["code"] for row in await served.rows(done.error_file_id)} == {"batch_cancelled"}
    await served.batches.close()


async def test_a_server_with_a_key_reaches_itself() -> None:
    app = create_app(ScriptedBackend(), Options(guard=GuardOptions(api_key="secret")))
    asked = {"requests": [BODY, BODY]}
    key = {"authorization": "Bearer secret"}
    told = (await call(app, "POST", "/v1/batch/chat/completions", asked, headers=key)).json
    assert [one["choices"][0]["message"]["content"] for one in told["data"]] == ["Hello world"] * 2
    assert (await call(app, "POST", "/v1/batch/chat/completions", asked)).status == 401


def folders(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


async def test_two_servers_keep_their_batches_apart(tmp_path: Path) -> None:
    first, second = Served(tmp_path), Served(tmp_path)
    one, two = await first.begin(1), await second.begin(1)
    assert (await first.ended(one.id)).status == (await second.ended(two.id)).status == "completed"
    assert [batch.id for batch in await first.batches.ask(Store.batches)] == [one.id]
    assert [batch.id for batch in await second.batches.ask(Store.batches)] == [two.id]
    assert folders(tmp_path) == {"batches", "batches-2"}
    await first.batches.close()
    await second.batches.close()
