"""Mirostat 1 and 2: cut the unlikely tokens so that the drawn ones' mean surprise comes near a target.

As in llama.cpp, whose samplers follow the paper (Basu et al., "Mirostat: a neural text decoding algorithm that directly
controls perplexity"): surprises are in bits, `mu` is the most that a token may surprise, and each draw moves it.
"""

from typing import Any, Final

import numpy as np

ESTIMATING_TOKENS: Final = 100
"""Likeliest tokens from which version 1 estimates how steeply the chances fall."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Mirostat:
    """One sequence's state."""

    def __init__(self, version: int, target: float, rate: float) -> None:
        self._version = version
        self._target = target
        self._rate = rate
        self._mu = 2 * target

    def kept(self, chances: Floats) -> int:
        """How many of the ranked tokens stay, at least one; `chances` are all tokens', likeliest first."""
        if self._version == 1:
            return self._top_k(chances)
        surprises = -np.log2(np.maximum(chances, np.finfo(np.float64).tiny))
        return max(1, int(np.searchsorted(surprises, self._mu, side="right")))

    def accept(self, chance: float) -> None:
        """The drawn token's chance among those that stayed."""
        self._mu -= self._rate * (-float(np.log2(chance)) - self._target)

    def _top_k(self, chances: Floats) -> int:
        known = chances[:ESTIMATING_TOKENS]
        known = known[known > 0]
        if len(known) < 2:
            return 1
        ranks = np.arange(1, len(known))
        steps = np.log((ranks + 1) / ranks)
        falls = np.log(known[:-1] / known[1:])
        exponent = float((steps * falls).sum() / (steps * steps).sum())
        excess = exponent - 1
        if exponent <= 0 or excess == 0:
            return len(chances)
        most = (excess * 2**self._mu / (1 - len(chances) ** -excess)) ** (1 / exponent)
        return int(min(max(1.0, most), len(chances)))
