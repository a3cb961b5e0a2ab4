"""Where the last tokens of a text stood before, and what followed them there."""

from collections.abc import Sequence as Seq
from typing import Any, Final, NamedTuple

import numpy as np

from heylook_llm.worker.images import has_images

LONGEST_MATCH: Final = 16
"""More tokens in common make a guess no better."""
NOTHING: Final = -1
"""What stands for an image's tokens, of which none is guessed."""
_FIRST_ROOM: Final = 256

Tokens = np.ndarray[Any, np.dtype[np.int32]]


class Found(NamedTuple):
    """What may follow; `matched` tokens before it are the same, `end` is where they end."""

    tokens: tuple[int, ...]
    matched: int
    end: int


class Lookup:
    """A text that grows at its end."""

    def __init__(self, tokens: Seq[int] = ()) -> None:
        self._room: Tokens = np.empty(max(_FIRST_ROOM, len(tokens)), dtype=np.int32)
        self._length = 0
        self.extend(tokens)

    def __len__(self) -> int:
        return self._length

    def extend(self, tokens: Seq[int]) -> None:
        """Append tokens."""
        end = self._length + len(tokens)
        if end > len(self._room):
            grown: Tokens = np.empty(2 * end, dtype=np.int32)
            grown[: self._length] = self._tokens
            self._room = grown
        self._room[self._length : end] = tokens if not has_images(tokens) else [max(NOTHING, one) for one in tokens]
        self._length = end

    @property
    def _tokens(self) -> Tokens:
        return self._room[: self._length]

    def following(self, most: int, least_match: int) -> Found | None:
        """What followed the last tokens where the most of them stood before, at the latest such place.

        A text that repeats itself is continued as if it went on so.
        """
        tokens = self._tokens
        ends, matched = _longest_match(tokens[:-1], tokens)
        if matched < least_match:
            return None
        end = int(ends[-1])
        period = len(tokens) - 1 - end
        places = end + 1 + np.arange(most) % period
        return _found(tokens[places], matched, end)

    def following_in(self, other: "Lookup", most: int, start: int) -> Found | None:
        """What follows this text's last tokens in another one, at the place nearest to `start` of the best ones."""
        ends, matched = _longest_match(other._tokens, self._tokens)
        ends = ends[ends < len(other) - 1]
        if not matched or not len(ends):
            return None
        end = int(ends[np.abs(ends - start).argmin()])
        return _found(other._tokens[end + 1 : end + 1 + most], matched, end)


def _found(following: Tokens, matched: int, end: int) -> Found | None:
    """What follows, up to an image."""
    images = np.flatnonzero(following == NOTHING)
    tokens = following[: images[0]] if len(images) else following
    return Found(tuple(tokens.tolist()), matched, end) if len(tokens) else None


def _longest_match(where: Tokens, text: Tokens) -> tuple[Any, int]:
    """(places in `where` at which the most of the last tokens of `text` end, how many they are)."""
    ends = np.flatnonzero(where == text[-1]) if len(text) else np.empty(0, dtype=np.int64)
    matched = int(len(ends) > 0)
    while 0 < matched < min(LONGEST_MATCH, len(text)):
        longer = ends[ends >= matched]
        longer = longer[where[longer - matched] == text[-1 - matched]]
        if not len(longer):
            break
        ends = longer
        matched += 1
    return ends, matched
