"""A vocabulary by its bytes: which tokens begin a mark, and which would run past its end."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from collections.abc import Sequence as Seq

import numpy as np

from heylook_llm.worker.guidance import Mask


class Words:
    """The tokens of a vocabulary, sorted by their bytes. What is found is kept: the same few marks come all along."""

    def __init__(self, pieces: Seq[bytes], ends: frozenset[int]) -> None:
        """`pieces`: each token's bytes as text shows them, empty for control tokens; `ends`: what ends generation."""
        self.ends = ends
        self._pieces = pieces
        self._order = sorted(range(len(pieces)), key=pieces.__getitem__)
        self._sorted = [pieces[token] for token in self._order]
        self._beginnings: dict[bytes, Mask] = {}
        self._running: dict[tuple[bytes, int], list[int]] = {}
        self._before: dict[tuple[bytes, tuple[int, ...], bool], Mask | None] = {}

    def piece(self, token: int) -> bytes:
        """The token's bytes."""
        return self._pieces[token]

    def beginning(self, text: bytes) -> Mask:
        """The tokens that begin with all of a text; where there are none, those that are its beginning."""
        mask = self._beginnings.get(text)
        if mask is None:
            mask = self._beginnings[text] = np.zeros(len(self._pieces), dtype=np.bool_)
            found = self._from(text)
            for size in range(1, len(text) if not found else 0):
                found += self._equal(text[:size])
            mask[found] = True
        return mask

    def before_mark(self, mark: bytes, seen: bytes, *, ends: bool = False) -> Mask | None:
        """What may follow `seen` in free text that a mark ends; None: anything.

        Not what ends the mark and goes on with more than white space: that would be beyond the reach of whoever guides
        what follows it. And no end of generation, unless `ends`.
        """
        places = tuple(at for at in range(len(mark)) if seen.endswith(mark[:at]) and self._past(mark, at))
        key = (mark, places, ends)
        if key not in self._before:
            blocked = [token for at in places for token in self._past(mark, at)]
            blocked += [] if ends else sorted(self.ends)
            mask = np.ones(len(self._pieces), dtype=np.bool_)
            mask[blocked] = False
            self._before[key] = mask if blocked else None
        return self._before[key]

    def before_marks(self, marks: Seq[bytes], seen: bytes) -> Mask | None:
        """What may follow `seen` in free text in which any of the marks may come, or its end; None: anything."""
        masks = [mask for mark in marks if (mask := self.before_mark(mark, seen, ends=True)) is not None]
        return None if not masks else masks[0] if len(masks) == 1 else np.logical_and.reduce(masks)

    def _past(self, mark: bytes, at: int) -> list[int]:
        """The tokens that run past the end of a mark of which `at` bytes are there."""
        found = self._running.get((mark, at))
        if found is None:
            tokens = self._from(mark[at:]) if at else list(self._with(mark))
            behind = ((token, self._pieces[token].partition(mark[at:])[2]) for token in tokens)
            found = self._running[mark, at] = [token for token, rest in behind if rest.strip()]
        return found

    def _with(self, text: bytes) -> Iterator[int]:
        return (token for token, piece in enumerate(self._pieces) if text in piece)

    def _from(self, text: bytes) -> list[int]:
        """The tokens that begin with a text."""
        start = bisect_left(self._sorted, text)
        stop = bisect_right(self._sorted, text, key=lambda piece: piece[: len(text)])
        return self._order[start:stop]

    def _equal(self, text: bytes) -> list[int]:
        return self._order[bisect_left(self._sorted, text) : bisect_right(self._sorted, text)]
