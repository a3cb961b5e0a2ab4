"""Reads the energy counters while the server runs: seldom while it is idle, often while it computes."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from heylook_llm import core
from heylook_llm.hardware.energy import Energy
from heylook_llm.server.performance.energy import Baseline, Crowd, EnergyShare, attributed, works

BUSY_SECONDS: Final = 0.1
IDLE_SECONDS: Final = 1.0
MOST_READINGS: Final = 12_000
"""20 minutes of a busy server."""


class EnergyMeter:
    """What the counters said lately, and what a request's part of that is."""

    def __init__(self, energy: Energy) -> None:
        self._energy = energy
        self._readings: deque[tuple[int, int]] = deque(maxlen=MOST_READINGS)
        self._baseline = Baseline()
        self._crowd = Crowd()
        self._came = asyncio.Event()
        self._disturbed = True
        """Whether something was computed since the last reading."""

    def enter(self, model: str) -> None:
        """A request begins."""
        self._crowd.enter(model, time.monotonic_ns())
        self._disturbed = True
        self._came.set()

    def leave(self, model: str) -> None:
        """It has ended."""
        self._crowd.leave(model, time.monotonic_ns())
        if self._crowd.idle:
            self._came.clear()

    @property
    def counts(self) -> bool:
        """Whether there is anything to read."""
        return bool(self._energy.counters)

    @property
    def idle_watts(self) -> float | None:
        """What the machine takes while nothing is computed; None: not known yet."""
        return self._baseline.watts

    def share(self, choices: Sequence[core.Timeline]) -> EnergyShare | None:
        """What a request consumed whose choices just ended; None: nothing is counted here."""
        if not self.counts:
            return None
        done = [work for times in choices for work in works(times)]
        first = min((work.start_ns for work in done), default=0)
        last = max((work.end_ns for work in done), default=0)
        if not self._readings or self._readings[-1][0] < last:
            self._note(self._read())
        return attributed(
            done,
            self._since(first),
            self._baseline.watts,
            mixed=self._crowd.mixed(first, last),
            whole=sum(times.steps for times in choices) <= len(done),
            counters=self._energy.names,
        )

    async def run(self) -> None:
        """Read until it is cancelled; returns at once where nothing is counted."""
        while self.counts:
            self._note(await asyncio.to_thread(self._read))
            if not self._crowd.idle:
                await asyncio.sleep(BUSY_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._came.wait()

    def _read(self) -> tuple[int, int] | None:
        microjoules = self._energy.total()
        return None if microjoules is None else (time.monotonic_ns(), microjoules)

    def _since(self, start_ns: int) -> list[tuple[int, int]]:
        """The readings from the last one before it on."""
        found: list[tuple[int, int]] = []
        for reading in reversed(self._readings):
            found.append(reading)
            if reading[0] <= start_ns:
                break
        return found[::-1]

    def _note(self, reading: tuple[int, int] | None) -> None:
        """Keep a reading; of a time in which nothing was computed, it says what the machine takes when idle."""
        if reading is None:
            return
        now_ns, microjoules = reading
        undisturbed = self._crowd.idle and not self._disturbed
        self._disturbed = not self._crowd.idle
        if self._readings:
            before_ns, before = self._readings[-1]
            if now_ns <= before_ns:
                return
            if undisturbed and now_ns - before_ns > IDLE_SECONDS * 0.5e9:
                self._baseline.note((microjoules - before) * 1e3 / (now_ns - before_ns))
        self._readings.append((now_ns, microjoules))
