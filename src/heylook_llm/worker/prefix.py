"""Which token prefixes lie computed in the pool: in the slots of running sequences, and in retained ones."""

from heylook_llm.worker.tree import Tree


class Prefixes:
    """The tokens of every slot's cells: of running sequences their prompts, of retained slots all."""

    def __init__(self) -> None:
        self._tree: Tree[int] = Tree()
        self._retained: dict[int, None] = {}
        self.total_tokens = 0
        """Cells held by retained slots; shared ones count for each. Any thread may read it."""

    def __len__(self) -> int:
        return len(self._retained)

    def __contains__(self, slot: int) -> bool:
        return slot in self._retained

    def enter(self, slot: int, tokens: list[int]) -> None:
        """A sequence in this slot computes these tokens."""
        self.forget(slot)
        self._tree.add(slot, tokens)

    def retain(self, slot: int, tokens: list[int]) -> None:
        """The slot's cells hold these tokens and stay, though no sequence uses them."""
        self.enter(slot, tokens)
        self._retained[slot] = None
        self.total_tokens += len(tokens)

    def forget(self, slot: int) -> None:
        """The slot's cells are gone, or not what computing its tokens would give."""
        if slot in self._retained:
            del self._retained[slot]
            self.total_tokens -= self._tree.length(slot)
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

    def tokens(self, slot: int) -> list[int]:
        """The tokens retained in a slot."""
        return self._tree.tokens(slot)

    def matches(self, tokens: list[int]) -> list[tuple[int, int]]:
        """(slot, tokens in common) of every slot that begins alike, the longest in common first."""
        return list(self._tree.matches(tokens))

    def has(self, tokens: list[int]) -> bool:
        """Whether a retained slot holds just these tokens."""
        return any(length == len(tokens) and slot in self for slot, length in self._tree.whole(tokens))
