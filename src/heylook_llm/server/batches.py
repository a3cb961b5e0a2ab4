"""Batches of requests, answered in the background: what somebody waits for goes first, and a restart goes on with them.

Each of a batch's requests goes through the server's own front with the lowest priority. What it answers is written down
at once, so after a restart only those are asked again that weren't answered.
"""

import asyncio
import logging
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from heylook_llm.errors import Conflict, EngineError, HeylookError, NotFound, ShuttingDown
from heylook_llm.server.batch_store import Store
from heylook_llm.server.inward import Answer, Inward
from heylook_llm.server.uncut import uncut
from heylook_llm.server.wire import openai_batches
from heylook_llm.server.wire.openai_batches import DAY, OPEN, OUTPUT, Batch, File, Line, Upload

log = logging.getLogger(__name__)

TOGETHER: Final = 8
"""Requests of all batches that are asked at a time."""
TRIES: Final = 3
"""How often a request is sent that the engine died with."""
_PASSES: Final = ("model_overloaded", "insufficient_memory", "unavailable", "shutting_down")
T = TypeVar("T")


class Batches:
    """The files and batches of one server; opened at the first use, or at the start where any may be open."""

    def __init__(self, inward: Inward, root: Path | None, clock: Callable[[], float] = time.time) -> None:
        """`root`: where they are kept; None: in a temporary folder, as long as the server runs."""
        self._inward = inward
        self._root = root
        self._clock = clock
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._store: Store | None = None
        self._opening = asyncio.Lock()
        self._places = asyncio.Semaphore(TOGETHER)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelled: dict[str, asyncio.Event] = {}
        self._closed = False

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Go on with what an earlier server left open."""
        if self._root is not None and self._root.exists():
            try:
                await self._opened()
            except HeylookError as error:
                log.warning("batches can't be read: %s", error.message)

    async def close(self) -> None:
        """Stop; what isn't answered yet is asked by the next server."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._store is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()
        if self._temporary is not None:
            self._temporary.cleanup()

    async def _opened(self) -> Store:
        async with self._opening:
            if self._closed:
                raise ShuttingDown("The server is shutting down; it takes no new requests.", retry_after_seconds=5.0)
            if self._store is None:
                self._store = await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
                for batch in await self._do(Store.batches):
                    if batch.status in OPEN:
                        self._begin(batch)
        return self._store

    def _open(self) -> Store:
        root = self._root
        if root is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="heylook-batches-")
            root = Path(self._temporary.name)
        try:
            return Store(root)
        except (OSError, sqlite3.Error) as error:
            log.warning("files can't be kept in %s: %s", root, error)
            raise EngineError("This server can't keep files; its log says why.") from error

    async def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        """Work of the store, in its thread."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._store, *arguments)
        except sqlite3.Error as error:
            log.warning("the database of batches failed: %s", error)
            raise EngineError("The database of files and batches failed; the server's log says more.") from error

    async def ask(self, work: Callable[..., T], *arguments: Any) -> T:
        """What a method of the Store gives. Expired files are gone first. Raises NotFound, EngineError."""
        await self._opened()
        await self._do(Store.expire, int(self._clock()))
        return await self._do(work, *arguments)

    # ---- what clients ask --------------------------------------------------------------------------------------------

    async def upload(self, upload: Upload) -> File:
        """Keep a file. Raises InsufficientStorage."""
        now = int(self._clock())
        identity, size = "file-" + secrets.token_hex(12), len(upload.data)
        file = File(identity, size, now, upload.filename, openai_batches.PURPOSE, now + upload.keep_seconds)
        await self.ask(Store.add_file, file, upload.data)
        return file

    async def delete_file(self, identity: str) -> None:
        """Raises NotFound; Conflict while a batch reads it."""
        for batch in await self.ask(Store.batches):
            if batch.status in OPEN and batch.input_file_id == identity:
                raise Conflict(f"The batch {batch.id} reads this file; cancel it first.", code="file_in_use")
        await self._do(Store.delete_file, identity)

    async def create(self, fields: openai_batches.BatchBody) -> Batch:
        """A new batch, which begins at once. Raises NotFound, BadRequest."""
        keep = openai_batches.keep_seconds(fields)
        await self.ask(Store.file, fields.input_file_id)
        now = int(self._clock())
        batch = Batch(
            "batch_" + secrets.token_hex(12),
            fields.endpoint,
            fields.input_file_id,
            "validating",
            now,
            now + DAY,
            metadata=fields.metadata or {},
            keep_seconds=keep,
        )
        await self._do(Store.add_batch, batch)
        self._begin(batch)
        return batch

    async def cancel(self, identity: str) -> Batch:
        """Ask no more of its requests; what came so far is its output. Raises NotFound, Conflict."""

        def cancelling(now: Batch) -> Batch:
            if now.status not in ("validating", "in_progress"):
                raise Conflict(f"A batch that is {now.status} can't be cancelled.", code="batch_not_cancellable")
            return msgspec.structs.replace(now, status="cancelling", cancelling_at=int(self._clock()))

        batch = await self.ask(Store.change, identity, cancelling)
        if (cancelled := self._cancelled.get(identity)) is not None:
            cancelled.set()  # its task alone ends what is open
        elif not self._closed:  # its task could not write down how it ended: another one does
            self._begin(batch)
        return batch

    # ---- a batch -----------------------------------------------------------------------------------------------------

    def _begin(self, batch: Batch) -> None:
        cancelled = self._cancelled[batch.id] = asyncio.Event()
        if batch.status == "cancelling":
            cancelled.set()
        task = self._tasks[batch.id] = asyncio.get_running_loop().create_task(self._run(batch))
        task.add_done_callback(lambda _: self._forget(batch.id))

    def _forget(self, identity: str) -> None:
        del self._tasks[identity], self._cancelled[identity]

    async def _run(self, batch: Batch) -> None:
        """From its file to its output. Whatever goes wrong fails the batch, and only it."""
        try:
            await self._answer_all(batch)
        except HeylookError as error:
            problem = {"code": error.code, "message": error.message, "param": error.param, "line": None}
            await self._fail(batch.id, (problem,))
        except Exception:
            log.exception("the batch %s failed", batch.id)
            message = "The server failed in a way it did not expect; its log says more."
            await self._fail(batch.id, ({"code": "engine_error", "message": message, "param": None, "line": None},))

    async def _fail(self, identity: str, problems: tuple[dict[str, Any], ...]) -> None:
        await self._change(identity, status="failed", failed_at=int(self._clock()), problems=problems)

    async def _answer_all(self, batch: Batch) -> None:
        data = await self._do(Store.read, batch.input_file_id)
        lines, problems = await asyncio.to_thread(openai_batches.lines, data, batch.endpoint)
        if problems:
            await self._fail(batch.id, tuple(problems))
            return
        done = {}
        for name, field in (("output", "completed"), ("errors", "failed")):
            came = await self._do(Store.partial, _part(batch.id, name))
            done[field] = await asyncio.to_thread(openai_batches.done, came)
        began = int(self._clock())

        def in_progress(now: Batch) -> Batch:
            return msgspec.structs.replace(
                now,
                status=now.status if now.status == "cancelling" else "in_progress",
                in_progress_at=now.in_progress_at or began,
                total=len(lines),
                completed=len(done["completed"]),
                failed=len(done["failed"]),
            )

        await self._do(Store.change, batch.id, in_progress)
        answered = done["completed"] | done["failed"]
        left = [line for line in lines if line.custom_id not in answered]
        await self._finish(batch, *await self._within_time(batch, left))

    async def _within_time(self, batch: Batch, lines: list[Line]) -> tuple[str, list[Line]]:
        """Ask them until all are answered, its time is up or it is cancelled; how it ended, and what is left."""
        left = {line.custom_id: line for line in lines}
        work = asyncio.ensure_future(self._ask_all(batch, lines, left))
        stop = asyncio.ensure_future(self._cancelled[batch.id].wait())
        try:
            seconds = max(0.0, batch.expires_at - self._clock())
            await asyncio.wait({work, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                _result(work)
                return "completed", []
            return ("cancelled" if stop.done() else "expired"), list(left.values())
        finally:
            for task in (work, stop):
                task.cancel()
            await asyncio.gather(work, stop, return_exceptions=True)

    async def _ask_all(self, batch: Batch, lines: list[Line], left: dict[str, Line]) -> None:
        waiting = iter(lines)

        async def ask_some() -> None:
            for line in waiting:
                async with self._places:
                    await self._ask(batch, line, left)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(TOGETHER, len(lines))):
                tasks.create_task(ask_some())

    async def _ask(self, batch: Batch, line: Line, left: dict[str, Line]) -> None:
        """One request: its answer is written down before it counts."""
        answer = await self._answered(batch.endpoint, line.body)
        well = answer.status == 200
        text = openai_batches.answered(
            "batch_req_" + secrets.token_hex(12), line.custom_id, answer.status, answer.request_id, answer.body
        )

        async def note() -> None:
            await self._do(Store.append, _part(batch.id, "output" if well else "errors"), text)
            await self._do(Store.change, batch.id, _one_more_completed if well else _one_more_failed)
            del left[line.custom_id]

        await uncut(note())  # an answer that was written down must be counted

    async def _answered(self, endpoint: str, body: bytes) -> Answer:
        """The answer; one that says to come back is asked for again."""
        deaths = 0
        while True:
            answer = await self._inward.post(endpoint, body, background=True)
            if answer.status != 503:
                return answer
            code = _code(answer)
            deaths += code not in _PASSES
            if deaths >= TRIES:
                return answer
            await asyncio.sleep(float(answer.headers.get("retry-after", "1")))

    async def _finish(self, batch: Batch, how: str, left: list[Line]) -> None:
        """Its files, and its last status. May be repeated, where a server died in it."""
        for line in left:
            code, what = ("batch_expired", "expired") if how == "expired" else ("batch_cancelled", "was cancelled")
            text = openai_batches.unanswered(
                "batch_req_" + secrets.token_hex(12),
                line.custom_id,
                code,
                f"The batch {what} before this was answered.",
            )
            await self._do(Store.append, _part(batch.id, "errors"), text)
        now = int(self._clock())
        if how == "completed":
            await self._change(batch.id, status="finalizing", finalizing_at=now)
        files = {field: await self._publish(batch, name) for field, name in _FILES.items()}
        await self._change(batch.id, status=how, **{f"{how}_at": int(self._clock())}, **files)

    async def _publish(self, batch: Batch, name: str) -> str | None:
        data = await self._do(Store.partial, _part(batch.id, name))
        file = File(
            f"file-{batch.id.removeprefix('batch_')}-{name}",
            len(data),
            now := int(self._clock()),
            f"{batch.id}_{name}.jsonl",
            OUTPUT,
            now + batch.keep_seconds,
        )
        try:
            return (await self._do(Store.file, file.id)).id
        except NotFound:
            if not data:
                return None
        await self._do(Store.publish, _part(batch.id, name), file)
        return file.id

    async def _change(self, identity: str, **changes: Any) -> Batch:
        return await self._do(Store.change, identity, lambda now: msgspec.structs.replace(now, **changes))


_FILES: Final = {"output_file_id": "output", "error_file_id": "errors"}


def _one_more_completed(now: Batch) -> Batch:
    return msgspec.structs.replace(now, completed=now.completed + 1)


def _one_more_failed(now: Batch) -> Batch:
    return msgspec.structs.replace(now, failed=now.failed + 1)


def _result(work: "asyncio.Future[None]") -> None:
    """Raises the first of what went wrong in it."""
    try:
        work.result()
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


def _part(identity: str, name: str) -> str:
    return f"{identity}-{name}"


def _code(answer: Answer) -> str | None:
    """The code of an error in OpenAI's form."""
    problem: dict[str, Any] = msgspec.json.decode(answer.body)
    code: str | None = problem["error"]["code"]
    return code
