"""Which token prefixes lie computed in the pool, in slots in use and in retained ones, and what keeping them costs."""

from typing import Final

from heylook_llm import core
from heylook_llm.worker.tree import Tree

SLOWDOWN: Final = 0.10
"""How much slower a decoded token may become by retained cells, as a part of its own cost."""
LEAST_BUDGET_TOKENS: Final = 512
"""Retained cells below this are within what the engine pads the attended span to, twice over."""


def retained_budget(info: core.ModelInfo) -> int:
    """Cells that may be retained while other sequences run.

    Attention spans every used cell: per token and cell about 4 * embedding * layers operations, against 2 * parameters
    for the rest of a token. The budget is where that reaches SLOWDOWN.
    """
    if not info.n_parameters or not info.n_embedding or not info.n_layers:
        return LEAST_BUDGET_TOKENS
    cells = SLOWDOWN * 2 * info.n_parameters / (4 * info.n_embedding * info.n_layers)
    return max(LEAST_BUDGET_TOKENS, int(cells))


class Prefixes:
    """The tokens of every slot's cells: of running sequences their prompts, of retained slots all."""

    def __init__(self) -> None:
        self._tree: Tree[int] = Tree()
        self._retained: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._retained)

    def __contains__(self, slot: int) -> bool:
        return slot in self._retained

    @property
    def total_tokens(self) -> int:
        """Cells held by retained slots; shared ones count for each."""
        return sum(map(self._tree.length, self.slots()))

    def enter(self, slot: int, tokens: list[int]) -> None:
        """A sequence in this slot computes these tokens."""
        self._retained.pop(slot, None)
        self._tree.add(slot, tokens)

    def retain(self, slot: int, tokens: list[int]) -> None:
        """The slot's cells hold these tokens and stay, though no sequence uses them."""
        self.enter(slot, tokens)
        self._retained[slot] = None

    def forget(self, slot: int) -> None:
        """The slot's cells are gone, or not what computing its tokens would give."""
        self._retained.pop(slot, None)
        self._tree.remove(slot)

    def touch(self, slot: int) -> None:
        """A retained slot was used."""
        if slot in self._retained:
            del self._retained[slot]
            self._retained[slot] = None

    def slots(self) -> list[int]:
        """Retained slots, the one unused for longest first."""
        return list(self._retained)

    def length(self, slot: int) -> int:
        """Tokens retained in a slot."""
        return self._tree.length(slot)

    def matches(self, tokens: list[int]) -> list[tuple[int, int]]:
        """(slot, tokens in common) of every slot that begins alike, the longest in common first."""
        return list(self._tree.matches(tokens))

    def has(self, tokens: list[int]) -> bool:
        """Whether a retained slot holds just these tokens."""
        return any(length == len(tokens) and slot in self for slot, length in self._tree.whole(tokens))
