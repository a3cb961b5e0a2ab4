"""Notes what the machine did in each minute, for the profile: one reading a minute, whether or not anybody asks."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import Final

from heylook_llm.errors import HeylookError
from heylook_llm.hardware.readings import Meter, Reading
from heylook_llm.server.backend import ModelStatus
from heylook_llm.server.performance.database import Database
from heylook_llm.server.performance.minutes import MINUTE_SECONDS, Resources
from heylook_llm.server.performance.recorder import Recorder

log = logging.getLogger(__name__)

YOUNGEST_SECONDS: Final = 0.2
"""A mean over less says nothing; then the one of the minute before is told."""


class MinuteLog:
    """Reads the machine once a minute, and when it is asked."""

    def __init__(
        self,
        meter: Callable[[], Meter],
        models: Callable[[], list[ModelStatus]],
        recorder: Recorder,
        seconds: float = MINUTE_SECONDS,
    ) -> None:
        self._whole = meter()
        """Read at each minute's end and not in between, so that its means are of the whole minute."""
        self._asked = meter()
        self._models = models
        self._recorder = recorder
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._last: Resources | None = None
        self._read_at = float("-inf")

    async def run(self) -> None:
        """Note each minute's end, until it is cancelled."""
        await asyncio.to_thread(self._whole.read)
        await self.resources()
        while True:
            now = time.time()
            await asyncio.sleep(self._seconds - now % self._seconds)
            ended, reading = int(now // MINUTE_SECONDS), await asyncio.to_thread(self._whole.read)
            used = resources(reading, self._models())
            try:
                await self._recorder.ask(functools.partial(_keep, ended, used))
            except HeylookError as error:
                log.debug("a minute isn't noted: %s", error.message)

    async def resources(self) -> Resources:
        """What the machine did since it was last asked."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._read_at > YOUNGEST_SECONDS:
                reading = await asyncio.to_thread(self._asked.read)
                self._last, self._read_at = resources(reading, self._models()), time.monotonic()
            return self._last


def _keep(minute: int, used: Resources, database: Database) -> None:
    database.history.note_resources(minute, used)


def resources(reading: Reading, statuses: list[ModelStatus]) -> Resources:
    """What is kept of a reading."""
    percents = [gpu.percent for gpu in reading.gpus if gpu.percent is not None]
    on_gpus = [gpu.used_bytes for gpu in reading.gpus if gpu.used_bytes is not None]
    held = [status.resident_bytes for status in statuses if status.resident_bytes is not None]
    return Resources(
        reading.memory.used_bytes,
        reading.cpu_percent,
        sum(percents) / len(percents) if percents else None,
        sum(on_gpus) if on_gpus else None,
        reading.total_watts,
        sum(held) if held else None,
    )
