"""When each decode step of a choice ended, and what it was a part of: cheap to note, packed once at the end."""

from array import array
from typing import Final

from heylook_llm import core

MOST_STEPS: Final = 1 << 16
"""What is noted of a choice; an answer without an end is not to fill memory."""
_MOST_US: Final = (1 << 32) - 1
_MOST_BATCH: Final = (1 << 16) - 1


class Decoded:
    """The decode steps of one choice."""

    __slots__ = ("_accepted", "_batch_sizes", "_busy_us", "_drafted", "_ends_ns", "_step_tokens")

    def __init__(self) -> None:
        self._ends_ns: list[int] = []
        self._batch_sizes: list[int] = []
        self._drafted: list[int] = []
        self._accepted: list[int] = []
        self._busy_us: list[int] = []
        self._step_tokens: list[int] = []

    def step(self, end_ns: int, batch_size: int, drafted: int, whole: tuple[int, int] | None = None) -> None:
        """A step was computed. `whole`: nanoseconds that it took, and tokens that it computed of all sequences."""
        if len(self._ends_ns) < MOST_STEPS:
            self._ends_ns.append(end_ns)
            self._batch_sizes.append(batch_size)
            if whole is not None:
                self._busy_us.append(min((whole[0] + 500) // 1000, _MOST_US))
                self._step_tokens.append(whole[1])
            if drafted or self._drafted:
                self._guess(drafted)

    def _guess(self, drafted: int) -> None:
        earlier = len(self._ends_ns) - 1 - len(self._drafted)
        self._drafted += [0] * earlier
        self._accepted += [0] * earlier
        self._drafted.append(drafted)
        self._accepted.append(0)

    def accept(self) -> None:
        """One of the last step's guesses turned out right."""
        if len(self._accepted) == len(self._ends_ns) < MOST_STEPS:
            self._accepted[-1] += 1

    def packed(self, first_token_ns: int | None) -> core.DecodeSteps:
        """What goes into the Timeline. The gaps add up to the stamps, each rounded by itself."""
        if first_token_ns is None or not self._ends_ns:
            return core.DecodeSteps()
        ends_us = [(end - first_token_ns + 500) // 1000 for end in self._ends_ns]
        gaps = [min(max(0, end - before), _MOST_US) for before, end in zip([0, *ends_us], ends_us, strict=False)]
        sizes = [min(size, _MOST_BATCH) for size in self._batch_sizes]
        return core.DecodeSteps(
            array("I", gaps).tobytes(),
            array("H", sizes).tobytes(),
            bytes(self._drafted),
            bytes(self._accepted),
            array("I", self._busy_us).tobytes(),
            array("I", self._step_tokens).tobytes(),
        )
