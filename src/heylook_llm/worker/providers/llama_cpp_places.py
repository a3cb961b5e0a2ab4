"""Where tokens stand: a token's number in its sequence, and its position as the engine counts.

They differ in models with two-dimensional positions only: an image's tokens stand at one position, and what follows
it at a later one by the image's longer side, not by its tokens.
"""

from typing import NamedTuple


class _Passed(NamedTuple):
    """A run of an image's tokens."""

    start: int
    end: int
    """Token numbers; of a run that isn't computed to its end yet, where it will."""
    lag: int
    """By how much positions behind it are less than token numbers."""


class Places:
    """The runs in each slot."""

    def __init__(self, slots: int) -> None:
        self._runs: list[list[_Passed]] = [[] for _ in range(slots)]

    def of(self, slot: int, number: int) -> int | None:
        """The position of a token; None: it stands within an image, where no position is its own."""
        lag = 0
        for run in self._runs[slot]:
            if run.start < number < run.end:
                return None
            if run.end > number:
                break
            lag = run.lag
        return number - lag

    def begin(self, slot: int, number: int, tokens: int, positions: int) -> int:
        """A run begins at this token; returns its position."""
        start = self.of(slot, number)
        assert start is not None, "a run within a run"
        self._runs[slot].append(_Passed(number, number + tokens, number + tokens - start - positions))
        return start

    def within(self, slot: int, number: int) -> int:
        """The position at which the run begins that this token stands in."""
        run = next(run for run in self._runs[slot] if run.start < number < run.end)
        start = self.of(slot, run.start)
        assert start is not None, "runs don't overlap"
        return start

    def cut(self, slot: int, number: int) -> None:
        """The tokens from there on are gone."""
        self._runs[slot] = [run for run in self._runs[slot] if run.start < number]

    def share(self, source: int, target: int, end: int) -> None:
        """The target has the first tokens of the source."""
        self._runs[target] = [run for run in self._runs[source] if run.start < end]

    def packed(self, slot: int) -> list[int]:
        """The slot's runs as numbers, to be saved."""
        return [number for run in self._runs[slot] for number in run]

    def unpack(self, slot: int, numbers: list[int]) -> None:
        """Runs that were saved."""
        triples = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
        self._runs[slot] = [_Passed(*triple) for triple in triples]
