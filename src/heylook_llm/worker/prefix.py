"""Which token prefixes are kept in the KV pool, who holds which cells, and what they cost."""

from collections.abc import Sequence as Seq
from typing import Final

from heylook_llm import core

SLOWDOWN: Final = 0.10
"""How much slower a decoded token may become by retained cells, as a part of its own cost."""
LEAST_BUDGET_TOKENS: Final = 512
"""Retained cells below this are within what the engine pads the attended span to, twice over."""


def common_prefix(left: Seq[int], right: Seq[int]) -> int:
    """How many leading tokens two sequences have in common; slices compare at the speed of C."""
    low, high = 0, min(len(left), len(right))
    if high == 0 or left[0] != right[0]:
        return 0
    if left[:high] == right[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low


def retained_budget(info: core.ModelInfo) -> int:
    """Cells that may be retained while other sequences run.

    Attention spans every used cell: per token and cell about 4 * embedding * layers operations, against 2 * parameters
    for the rest of a token. The budget is where that reaches SLOWDOWN.
    """
    if not info.n_parameters or not info.n_embedding or not info.n_layers:
        return LEAST_BUDGET_TOKENS
    cells = SLOWDOWN * 2 * info.n_parameters / (4 * info.n_embedding * info.n_layers)
    return max(LEAST_BUDGET_TOKENS, int(cells))


class Ledger:
    """Which cells of the pool each slot holds. A cell that several slots share counts once."""

    def __init__(self, slots: int) -> None:
        self.used = 0
        self._holders: list[int] = []
        self._free: list[int] = []
        self._cells: list[list[int]] = [[] for _ in range(slots)]

    def held(self, slot: int) -> int:
        """Cells that a slot holds, its own and shared."""
        return len(self._cells[slot])

    def exclusive(self, slot: int) -> int:
        """Cells that would become free if the slot were forgotten."""
        return sum(1 for cell in self._cells[slot] if self._holders[cell] == 1)

    def extend(self, slot: int, count: int) -> None:
        """The slot gets new cells at its end."""
        cells = self._cells[slot]
        self.used += count
        for _ in range(count):
            if self._free:
                cell = self._free.pop()
                self._holders[cell] = 1
            else:
                cell = len(self._holders)
                self._holders.append(1)
            cells.append(cell)

    def share(self, source: int, target: int, end: int) -> None:
        """The empty slot `target` holds the first `end` cells of `source` too."""
        shared = self._cells[source][:end]
        for cell in shared:
            self._holders[cell] += 1
        self._cells[target] = shared

    def remove(self, slot: int, start: int = 0, end: int | None = None) -> None:
        """The slot gives up its cells [start, end)."""
        cells = self._cells[slot]
        for cell in cells[start:end]:
            self._holders[cell] -= 1
            if self._holders[cell] == 0:
                self._free.append(cell)
                self.used -= 1
        del cells[start:end]


class Prefixes:
    """The tokens whose cells lie in slots that no sequence uses, oldest use first."""

    def __init__(self) -> None:
        self._tokens: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def __contains__(self, slot: int) -> bool:
        return slot in self._tokens

    @property
    def total_tokens(self) -> int:
        """Cells held by retained slots; shared ones count for each."""
        return sum(map(len, self._tokens.values()))

    def retain(self, slot: int, tokens: list[int]) -> None:
        """The slot's cells hold these tokens and stay."""
        self._tokens[slot] = tokens

    def forget(self, slot: int) -> None:
        """The slot's cells are gone or in use again."""
        self._tokens.pop(slot, None)

    def slots(self) -> list[int]:
        """Retained slots, the one unused for longest first."""
        return list(self._tokens)

    def length(self, slot: int) -> int:
        """Tokens retained in a slot."""
        return len(self._tokens[slot])

    def best(self, tokens: list[int]) -> tuple[int, int]:
        """(slot, length) of the retained slot with the longest common prefix; (-1, 0): none."""
        found, longest = -1, 0
        for slot, kept in self._tokens.items():
            length = common_prefix(kept, tokens)
            if length > longest:
                found, longest = slot, length
        return found, longest
