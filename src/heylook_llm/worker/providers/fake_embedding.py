"""The vectors and scores of the fake provider: deterministic, and near for texts that share bytes or words.

A token's row depends on the token alone, so the mean of a text's rows is a bag of its bytes. A score is a logit from -4
(none of the query's words are in the document) to 4 (all are).
"""

import math
from collections.abc import Sequence as Seq
from typing import Final

import numpy as np

from heylook_llm.worker.providers.base import Floats

WIDTH: Final = 32
SPREAD: Final = 4.0
_STRIDE: Final = 0.7548776662466927
"""A step that, taken modulo 1, fills the unit interval evenly; whole multiples of it never meet."""


def rows(tokens: Seq[int]) -> Floats:
    """The row of each token."""
    ids = np.asarray(tokens, dtype=np.float64)[:, None] + 1
    phases = (ids * (np.arange(WIDTH) + 1) * _STRIDE) % 1.0
    found: Floats = np.cos(2 * math.pi * phases).astype(np.float32)
    return found


def score(pair: Seq[int], separator: int) -> Floats:
    """The one row of a pair's tokens: its score."""
    at = list(pair).index(separator)
    query, document = (set(_text(part).lower().split()) for part in (pair[:at], pair[at + 1 :]))
    share = len(query & document) / max(1, len(query))
    return np.array([[SPREAD * (2 * share - 1)]], dtype=np.float32)


def _text(tokens: Seq[int]) -> bytes:
    return bytes(token for token in tokens if token < 256)
