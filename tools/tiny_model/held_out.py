"""The rule that keeps the evaluation's prompts out of the training."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from random import Random

from skills import Turn

HELD_OUT_SHARE = 8
ALWAYS_TAUGHT_BELOW_CHARACTERS = 12


def held_out(turn: Turn) -> bool:
    """True for the eighth of all turns that are kept for the evaluation; very short ones are always taught."""
    if len(turn.key) < ALWAYS_TAUGHT_BELOW_CHARACTERS:
        return False
    return zlib.crc32(turn.key.lower().encode()) % HELD_OUT_SHARE == 0


def teach(rng: Random, write: Callable[[Random], Turn]) -> Turn:
    """A turn of this kind that is not held out."""
    turn = write(rng)
    while held_out(turn):
        turn = write(rng)
    return turn
