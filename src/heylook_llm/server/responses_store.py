"""The one thread that writes and reads the file of kept responses, so that nothing else waits for a disk.

What is kept and what is asked go through one queue: an answer knows all that was kept before it was asked.
"""

import asyncio
import functools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from heylook_llm.errors import EngineError
from heylook_llm.server.responses_database import Kept, ResponseDatabase
from heylook_llm.server.sqlite_file import FULL, is_damaged, opened

log = logging.getLogger(__name__)

T = TypeVar("T")
TRIM_SECONDS: Final = 60.0
DAY: Final = 86_400.0
IN_MEMORY_BYTES: Final = 32 << 20
LARGEST: Final = 0.25
"""Of what may be kept, what one response may take: a larger one would put all others out."""
MOST_WAITING: Final = 1_000


class ResponseStore:
    """Keeps responses. Its thread starts with the first of them, and ends with `close`."""

    def __init__(
        self, path: Path | None = None, *, keep_seconds: float = 30 * DAY, keep_bytes: int = IN_MEMORY_BYTES
    ) -> None:
        """`path` None: in memory, until the server ends."""
        self.largest_bytes = int(LARGEST * FULL * keep_bytes)
        """A larger body isn't kept."""
        self.keep_seconds = keep_seconds
        self.keep_bytes = keep_bytes
        self._path = path
        self._open = functools.partial(ResponseDatabase, keep_seconds=keep_seconds, keep_bytes=keep_bytes)
        self._thread = ThreadPoolExecutor(1, "responses")
        self._database: ResponseDatabase | None = None
        self._places = threading.Semaphore(MOST_WAITING)
        self._closed = False
        self._trimmed = 0.0

    def keep(self, kept: Kept) -> None:
        """Keep it. Never waits: what a disk is too slow or too full for is lost, and the log says so."""
        if self._closed or not self._places.acquire(blocking=False):
            why = "the server ends" if self._closed else "too many others wait to be written"
            log.warning("the response %s is not kept: %s", kept.id, why)
            return
        self._thread.submit(self._write, kept).add_done_callback(self._written)

    def _written(self, done: "Future[None]") -> None:
        self._places.release()
        if (error := done.exception()) is not None:
            log.error("a response could not be kept", exc_info=error)

    async def ask(self, read: Callable[[ResponseDatabase], T]) -> T:
        """What `read` finds in the file, with all that was kept before. Raises EngineError."""
        if self._closed:
            raise EngineError("The server ends.")
        return await asyncio.wrap_future(self._thread.submit(self._answer, read))

    def close(self) -> None:
        """Write what waits, and end the thread. A second time it does nothing."""
        if self._closed:
            return
        self._closed = True
        self._thread.submit(self._end)
        self._thread.shutdown()

    # ---- the thread --------------------------------------------------------------------------------------------------

    def _opened(self) -> ResponseDatabase:
        if self._database is None:
            self._database = opened(self._path, self._open, "responses")
        return self._database

    def _end(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _write(self, kept: Kept) -> None:
        try:
            self._write_once(kept)
        except sqlite3.Error as error:
            log.warning("the response %s could not be kept (%s)", kept.id, error)
            if is_damaged(error):  # the file is moved aside, and begun anew
                self._end()
                self._write_once(kept)

    def _write_once(self, kept: Kept) -> None:
        database = self._opened()
        database.write(kept, time.time())
        if database.full or time.monotonic() - self._trimmed > TRIM_SECONDS:
            self._trimmed = time.monotonic()
            database.trim(time.time())

    def _answer(self, read: Callable[[ResponseDatabase], T]) -> T:
        try:
            return read(self._opened())
        except sqlite3.Error as error:
            log.warning("kept responses can't be read (%s)", error)
            raise EngineError("The kept responses can't be read; the server's log says more.") from error
