"""Which cells of the pool each slot holds: a cell that several slots share counts once."""

from collections.abc import Iterable


class _Run:
    """Consecutive cells that the same slots hold, at the same positions."""

    __slots__ = ("holders", "length")

    def __init__(self, length: int, holders: set[int]) -> None:
        self.length = length
        self.holders = holders


class Ledger:
    """The books of a pool. A slot's cells are a few runs, so no answer hangs on how many cells there are."""

    def __init__(self, slots: int) -> None:
        self.used = 0
        self._runs: list[list[_Run]] = [[] for _ in range(slots)]

    def held(self, slot: int) -> int:
        """Cells that a slot holds, its own and shared."""
        return sum(run.length for run in self._runs[slot])

    def freed(self, slots: Iterable[int]) -> int:
        """Cells that would become free if all these slots were forgotten."""
        gone = set(slots)
        runs = {run for slot in gone for run in self._runs[slot] if run.holders <= gone}
        return sum(run.length for run in runs)

    def extend(self, slot: int, count: int) -> None:
        """The slot gets new cells at its end."""
        if count == 0:
            return
        runs = self._runs[slot]
        self.used += count
        if runs and len(runs[-1].holders) == 1:
            runs[-1].length += count
        else:
            runs.append(_Run(count, {slot}))

    def share(self, source: int, target: int, end: int) -> None:
        """The empty slot `target` holds the first `end` cells of `source` too."""
        self._merge(source)
        shared = self._runs[source][: self._cut(source, end)]
        for run in shared:
            run.holders.add(target)
        self._runs[target] = shared

    def remove(self, slot: int, start: int = 0, end: int | None = None) -> None:
        """The slot gives up its cells [start, end)."""
        first = self._cut(slot, start)
        last = len(self._runs[slot]) if end is None else self._cut(slot, end)
        for run in self._runs[slot][first:last]:
            run.holders.remove(slot)
            if not run.holders:
                self.used -= run.length
        del self._runs[slot][first:last]

    def _cut(self, slot: int, position: int) -> int:
        """Which of the slot's runs begins at a position; one that spans it is split, for all that hold it."""
        for at, run in enumerate(self._runs[slot]):
            if position <= 0:
                return at
            if position < run.length:
                self._split(run, position)
                return at + 1
            position -= run.length
        return len(self._runs[slot])

    def _split(self, run: _Run, length: int) -> None:
        rest = _Run(run.length - length, set(run.holders))
        run.length = length
        for slot in rest.holders:
            runs = self._runs[slot]
            runs.insert(runs.index(run) + 1, rest)

    def _merge(self, slot: int) -> None:
        """Make one run of neighbours that only this slot still holds."""
        merged: list[_Run] = []
        for run in self._runs[slot]:
            if merged and len(run.holders) == len(merged[-1].holders) == 1:
                merged[-1].length += run.length
            else:
                merged.append(run)
        self._runs[slot] = merged
