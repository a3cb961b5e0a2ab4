"""The timeline of every request: a bounded ring of finished ones."""

from collections import deque
from collections.abc import Iterable
from typing import Literal

import msgspec

from heylook_llm import core

Outcome = Literal["done", "error", "cancelled", "disconnected"]


class Finished(msgspec.Struct, frozen=True):
    """One request that ended. Its Timeline is of choice 0, with the server's stamps."""

    id: str
    model: str
    route: str
    outcome: Outcome
    status: int
    """What the client saw; 200 with an error in the stream when `outcome` isn't done."""
    error: str | None
    """The code of the error that ended it."""
    finished_at: float
    """Wall clock, seconds since 1970."""
    timeline: core.Timeline
    usage: core.Usage


class Performance:
    """Where each finished request is recorded; the newest are kept."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._ring: deque[Finished] = deque(maxlen=capacity)

    def record(self, finished: Finished) -> None:
        """Keep it; the oldest makes room."""
        self._ring.append(finished)

    def recent(self) -> Iterable[Finished]:
        """What is kept, oldest first."""
        return tuple(self._ring)
