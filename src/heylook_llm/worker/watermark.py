"""The most memory that this process held since a moment, from readings as they come. Any thread may call."""

import functools
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import psutil

from heylook_llm import hardware

MOST: Final = 1024
"""Readings that are remembered; a higher one makes those before it superfluous."""


class _Reading(NamedTuple):
    at_ns: int
    held_bytes: int


def resident_bytes() -> int | None:
    """What this process holds now."""
    try:
        return int(_this_process().memory_info().rss)
    except psutil.Error:
        return None


@functools.cache
def _this_process() -> psutil.Process:
    """Opened once: that takes longer than a reading, and the step loop takes one at each request's end."""
    return psutil.Process()


class Watermark:
    """Readings of this process's memory."""

    def __init__(self, read: Callable[[], int | None] = resident_bytes) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._falling: deque[_Reading] = deque(maxlen=MOST)
        """Each is higher than all that followed."""

    def note(self, now_ns: int) -> int | None:
        """Take a reading, and tell it."""
        held = self._read()
        if held is not None:
            with self._lock:
                while self._falling and self._falling[-1].held_bytes <= held:
                    self._falling.pop()
                self._falling.append(_Reading(now_ns, held))
        return held

    def since(self, at_ns: int, now_ns: int) -> int | None:
        """The highest reading since then, one of now among them."""
        held = self.note(now_ns)
        with self._lock:
            return next((reading.held_bytes for reading in self._falling if reading.at_ns >= at_ns), held)

    @staticmethod
    def highest() -> int | None:
        """The most that this process ever held, as the system says."""
        return hardware.peak_bytes()
