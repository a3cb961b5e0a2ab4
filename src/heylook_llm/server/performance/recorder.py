"""The one thread that writes and reads the database of finished requests, so that nothing else waits for a disk.

What is recorded goes into a bounded queue; the thread commits what came within a moment together. A question waits in
the same queue, so its answer knows all that was recorded before it, committed.
"""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from heylook_llm.errors import EngineError, Overloaded
from heylook_llm.server.performance.database import Database, opened
from heylook_llm.server.performance.inbox import Inbox
from heylook_llm.server.performance.record import Finished, Moment, moment
from heylook_llm.server.sqlite_file import is_damaged

log = logging.getLogger(__name__)

T = TypeVar("T")
BATCH_SECONDS: Final = 1.0
"""How long a row waits for others to be committed with it, unless somebody asks: a commit costs as much as six rows."""
BATCH_ROWS: Final = 1_000
BYTES_PER_ROW: Final = 16 << 10
"""Of the size limit, so much for each row of a commit: what is deleted for its sake goes only after a commit."""
TRIM_SECONDS: Final = 60.0
DAY: Final = 86_400.0
IN_MEMORY_BYTES: Final = 32 << 20


class _Question(NamedTuple):
    read: Callable[[Database], Any]
    answer: "Future[Any]"


class _Wake(NamedTuple):
    """Begin, or write refusals."""


_Item = Finished | _Question | _Wake | None
"""None: end."""


def _is_urgent(item: _Item) -> bool:
    return item is None or isinstance(item, _Question)


class Recorder:
    """Keeps finished requests. Its thread starts with `open` or the first of them, and ends with `close`."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        keep_seconds: float = 30 * DAY,
        keep_bytes: int = IN_MEMORY_BYTES,
        capacity: int = 20_000,
        now: Callable[[], Moment] = moment,
    ) -> None:
        """`path` None: in memory, until the server ends. `capacity`: rows that may wait to be written."""
        self.now = now
        """The clocks by which requests are told and aged."""
        self.keep_seconds = keep_seconds
        self.keep_bytes = keep_bytes
        self._path = path
        batch = max(1, min(BATCH_ROWS, capacity, keep_bytes // BYTES_PER_ROW))
        self._inbox: Inbox[_Item] = Inbox(capacity, batch, _is_urgent)
        self._unwritten: deque[Finished] = deque(maxlen=capacity)
        """Rows that a full disk or a locked file has kept out so far."""
        self._refusals: Counter[str] = Counter()
        """Of refused requests by their errors' codes: not yet written. Both threads change it, under the lock."""
        self._refusals_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._trimmed = 0.0
        self._failing = False
        self._refused = 0
        self._lost = 0

    # ---- callers -----------------------------------------------------------------------------------------------------

    @property
    def dropped(self) -> int:
        """Requests that could not be kept, because the disk was full, or slower than they came."""
        return self._refused + self._lost

    def open(self) -> None:
        """Open and check the file now, which takes a second per gigabyte, so that no question waits for that."""
        self._wake()

    def record(self, finished: Finished) -> None:
        """Keep it. Never waits: what the queue has no place for is dropped and counted."""
        try:
            self._put(finished)
        except queue.Full:
            self._refused += 1

    def refuse(self, code: str) -> None:
        """Count a request that was refused before it became one: only its error's code is kept. Never waits."""
        with self._refusals_lock:
            wakes = not self._refusals
            self._refusals[code] += 1
        if wakes:
            self._wake()

    async def ask(self, read: Callable[[Database], T]) -> T:
        """What `read` finds in the database, with all that was recorded before. Raises Overloaded, EngineError."""
        return await asyncio.wrap_future(self.question(read))

    def question(self, read: Callable[[Database], T]) -> "Future[T]":
        """As `ask`, for callers without an event loop."""
        answer: Future[T] = Future()
        try:
            self._put(_Question(read, answer))
        except queue.Full:
            raise Overloaded("The measurements are being written; try again in 1 s.", retry_after_seconds=1) from None
        return answer

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Write what waits, and end the thread."""
        self._closed = True
        if self._thread is not None:
            self._inbox.force(None)
            self._thread.join(timeout_seconds)

    def _wake(self) -> None:
        with contextlib.suppress(queue.Full):  # whatever is in the queue wakes the thread, too
            self._put(_Wake())

    def _put(self, item: _Item) -> None:
        if self._closed:
            raise queue.Full
        self._inbox.put(item)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="performance", daemon=True)
            self._thread.start()

    # ---- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._serve()
        except Exception:
            log.exception("measuring has ended")
            self._closed = True
            for item in self._inbox.drain():
                if isinstance(item, _Question):
                    item.answer.set_exception(EngineError("Measuring has ended; the server's log says why."))

    def _serve(self) -> None:
        database, ends = self._open(), False
        while not ends:
            items = self._inbox.take(BATCH_SECONDS)
            self._hold([item for item in items if isinstance(item, Finished)])
            database = self._written(database)
            for item in items:  # what asks or ends stands behind all rows that it is to know
                if isinstance(item, _Question):
                    _answer(item, database)
                ends = ends or item is None
        database.close()

    def _hold(self, rows: list[Finished]) -> None:
        capacity = self._unwritten.maxlen or 0
        self._lost += max(0, len(self._unwritten) + len(rows) - capacity)
        self._unwritten.extend(rows)

    def _open(self) -> Database:
        return opened(self._path, keep_seconds=self.keep_seconds, keep_bytes=self.keep_bytes)

    def _written(self, database: Database) -> Database:
        """Write what is unwritten; the database, opened anew if it turned out damaged."""
        try:
            self._write(database)
        except sqlite3.Error as error:
            if not is_damaged(error):
                self._complain(error)
                return database
            log.warning("the measurements' database failed (%s)", error)
            database.close()
            database = self._open()
            try:
                self._write(database)
            except sqlite3.Error as again:
                self._complain(again)
        return database

    def _write(self, database: Database) -> None:
        if self._unwritten:
            database.write(tuple(self._unwritten))
            self._unwritten.clear()
            self._failing = False
        if self._refusals:
            self._write_refusals(database)
        if database.full or time.monotonic() - self._trimmed > TRIM_SECONDS:
            self._trimmed = time.monotonic()
            database.trim(self.now())

    def _write_refusals(self, database: Database) -> None:
        with self._refusals_lock:  # the next one wakes this thread again
            taken, self._refusals = self._refusals, Counter()
        try:
            database.refuse(taken, self.now())
        except sqlite3.Error:
            with self._refusals_lock:
                self._refusals.update(taken)
            raise
        self._failing = False

    def _complain(self, error: sqlite3.Error) -> None:
        if not self._failing:
            self._failing = True
            log.warning("measurements can't be written (%s); the newest are kept and tried again", error)


def _answer(question: _Question, database: Database) -> None:
    if not question.answer.set_running_or_notify_cancel():
        return  # who asked has left
    try:
        question.answer.set_result(question.read(database))
    except sqlite3.Error as error:
        log.warning("the measurements can't be read (%s)", error)
        question.answer.set_exception(EngineError("The measurements can't be read; the server's log says more."))
    except Exception as error:  # a caller's mistake ends its question, not the thread
        question.answer.set_exception(error)
