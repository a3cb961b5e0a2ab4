"""Saved states of prefixes in host memory, within a byte budget: the one unused for longest goes first.

The step loop and the preparers ask, so every call takes a lock, none for longer than a look-up.
"""

import threading
from typing import Final, NamedTuple

from heylook_llm import core
from heylook_llm.worker.providers.base import State
from heylook_llm.worker.tree import Tree

CANDIDATES: Final = 16
"""Among states that have as much in common, so many are compared by their size."""


class Saved(NamedTuple):
    """What a slot held that had computed these tokens. `origin`: where the process has it from."""

    tokens: list[int]
    data: State
    origin: core.CachedFrom = "memory"


class States:
    """States by their tokens."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._lock = threading.Lock()
        self._tree: Tree[int] = Tree()
        self._saved: dict[int, Saved] = {}
        """Oldest use first."""
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._saved)

    def has(self, tokens: list[int]) -> bool:
        """Whether a state of just these tokens is kept."""
        with self._lock:
            return any(length == len(tokens) for _, length in self._tree.whole(tokens))

    def put(self, saved: Saved, *, instead: bool) -> None:
        """Keep a state, if it fits; `instead` of those of its own first parts, which it serves as well."""
        size = len(saved.data)
        with self._lock:
            same = [key for key, length in self._tree.whole(saved.tokens) if instead or length == len(saved.tokens)]
            for key in same:
                self._forget(key)
            if size > self.limit_bytes:
                return
            while self.used_bytes + size > self.limit_bytes:
                self._forget(next(iter(self._saved)))
            self._numbers += 1
            self._saved[self._numbers] = saved
            self._tree.add(self._numbers, saved.tokens)
            self.used_bytes += size

    def best(self, tokens: list[int], *, whole: bool) -> tuple[Saved, int] | None:
        """The state with the most tokens in common, and how many; `whole`: all of its tokens must be."""
        with self._lock:
            matches = self._tree.whole(tokens) if whole else self._tree.matches(tokens)
            found: tuple[int, int] | None = None
            for at, (key, common) in enumerate(matches):
                if found is not None and (common < found[1] or at >= CANDIDATES):
                    break
                if found is None or self._tree.length(key) < self._tree.length(found[0]):
                    found = key, common
            if found is None:
                return None
            saved = self._saved.pop(found[0])
            self._saved[found[0]] = saved
            return saved, found[1]

    def drop(self, saved: Saved) -> None:
        """Forget a state that is of no use."""
        with self._lock:
            for key in [key for key, one in self._saved.items() if one is saved]:
                self._forget(key)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for key in list(self._saved):
                self._forget(key)

    def _forget(self, key: int) -> None:
        self.used_bytes -= len(self._saved.pop(key).data)
        self._tree.remove(key)
