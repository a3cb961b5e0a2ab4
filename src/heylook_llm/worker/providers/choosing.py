"""From a row of logits to a token, for each slot by its own sampling, whoever else is in the batch.

The steps and their order are llama.cpp's: bias, penalties, top_k, typical_p, top_p, min_p, temperature, draw. What
spans the whole vocabulary runs where the logits are, by numpy's functions or by a library that has the same; the draw
is numpy's, on a few candidates where the cuts allow it.

A draw needs one number in [0, 1): a hash of the seed and the token's position. So a seed gives the same text alone,
batched, and after a preemption, and nothing is shared between sequences, as mlx_lm's global random key would be.
"""

import hashlib
import math
import secrets
import struct
from collections import Counter, deque
from collections.abc import Sequence as Seq
from typing import Any, Final

import numpy as np

from heylook_llm import core
from heylook_llm.worker.guidance import Mask
from heylook_llm.worker.guide import Guide
from heylook_llm.worker.images import words
from heylook_llm.worker.providers.mirostat import Mirostat

DEFAULT_WINDOW_TOKENS: Final = 64
LEAST_LOGPROB: Final = -9999.0
LEAST_MASS: Final = 1e-12
_MASK: Final = (1 << 64) - 1

Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]


class Chooser:
    """Chooses one slot's tokens."""

    def __init__(
        self,
        sampling: core.Sampling,
        prompt: Seq[int],
        *,
        ends: Seq[int],
        n_vocab: int,
        guide: Guide | None = None,
        arrays: Any = np,
    ) -> None:
        """`arrays`: numpy, or the library whose arrays `adjusted` gets and gives."""
        self._arrays = arrays
        temperature = sampling.temperature or 0.0
        self.temperature = temperature
        self.greedy = temperature <= 0
        self.logprobs = sampling.logprobs
        self.top_k = sampling.top_k or 0
        self.top_p = 1.0 if sampling.top_p is None else sampling.top_p
        self.min_p = sampling.min_p or 0.0
        self.typical_p = 1.0 if sampling.typical_p is None else sampling.typical_p
        self._end = math.inf if sampling.max_tokens is None else len(prompt) + sampling.max_tokens
        self._seed = secrets.randbits(64) if sampling.seed is None else sampling.seed & _MASK
        self._ends = list(ends)
        self._ignore_ends = sampling.ignore_eos
        self._forced = 0 if sampling.ignore_eos else sampling.min_tokens
        self._bias = {token: bias for token, bias in sampling.logit_bias.items() if 0 <= token < n_vocab}
        self._penalties = Penalties.of(sampling, prompt)
        self._mirostat = _mirostat(sampling)
        self._guide = guide

    # ---- the whole row, where it is ----------------------------------------------------------------------------------

    @property
    def takes_likeliest(self) -> bool:
        """Whether the next token is just the likeliest of the row."""
        return self.greedy and not self.adjusts

    @property
    def complete(self) -> bool:
        """Whether its guide allows nothing but the end."""
        return self._guide is not None and self._guide.complete

    @property
    def guided(self) -> bool:
        """Whether a guide says what may come."""
        return self._guide is not None

    def may_follow(self, position: int) -> bool:
        """Whether its limit and its guide allow a token at this place of the sequence."""
        return position < self._end and not self.complete

    @property
    def adjusts(self) -> bool:
        """Whether the next row must be changed before a token is chosen from it."""
        return bool(self._bias or self._penalties or self._ignore_ends or self._forced or self._guide)

    def adjusted(self, row: Any) -> Any:
        """The row [vocabulary] with bias and penalties, and nothing but what its guide allows."""
        arrays = self._arrays
        mask = self._mask(row.shape[0])
        if mask is not None:
            row = arrays.where(arrays.array(mask), row, -math.inf)
        elif (self._ignore_ends or self._forced) and self._ends:
            row = _with(arrays, row, self._ends, arrays.full((len(self._ends),), -math.inf))
        if self._bias:
            tokens = list(self._bias)
            added = arrays.array(list(self._bias.values()), arrays.float32)
            row = _with(arrays, row, tokens, row[arrays.array(tokens)] + added)
        if self._penalties is not None and self._penalties.counts:
            row = self._penalties.applied(arrays, row)
        return row

    def _mask(self, size: int) -> Mask | None:
        """What the guide allows of a row so long; an end only where nothing else is, while more is demanded."""
        mask = self._guide.masks()[0] if self._guide is not None else None
        if mask is None:
            return None
        found = np.zeros(size, dtype=bool)  # a row may be padded beyond the vocabulary
        found[: len(mask)] = mask[:size]
        if self._ignore_ends or self._forced:
            others = found.copy()
            others[self._ends] = False
            return others if others.any() else found
        return found

    def accept(self, token: int) -> None:
        """The token that was chosen."""
        if self._guide is not None:
            self._guide.accept(token)
        if self._penalties is not None:
            self._penalties.accept(token)
        if self._forced:
            self._forced -= 1

    # ---- the draw ----------------------------------------------------------------------------------------------------

    def covered(self, values: Floats, total: float) -> bool:
        """Whether the cuts leave none but these candidates; likeliest first, `total` the row's logsumexp."""
        if self._mirostat is not None:
            return False
        if self.top_k:
            return self.top_k <= len(values)
        if self.typical_p < 1:
            return False
        if self.top_p < 1 and float(np.exp(values - total).sum()) >= self.top_p:
            return True
        return self.min_p > 0 and bool(values[-1] < values[0] + math.log(self.min_p))

    def pick(self, values: Floats, total: float, position: int) -> int:
        """The place of the drawn token among values; likeliest first, `total` the logsumexp of the row they come from.

        `position` is the token's place in the sequence.
        """
        if self._mirostat is not None:
            return self._by_surprise(self._mirostat, values, position)
        if 0 < self.top_k < len(values):
            values = values[: self.top_k]
        kept = np.ones(len(values), dtype=bool)
        chances = np.exp(values - (_logsumexp(values) if self.top_k else total))
        if self.typical_p < 1:
            kept = _typical(chances, self.typical_p)
            chances = chances * kept / chances[kept].sum()
        if self.top_p < 1:
            kept &= np.cumsum(chances) - chances < max(self.top_p, LEAST_MASS)  # the likeliest always stays
        if self.min_p > 0:
            kept &= values >= values[kept].max() + math.log(self.min_p)
        weights = np.where(kept, np.exp((values - values[kept].max()) / self.temperature), 0.0)
        return min(self._place(weights, position), int(np.flatnonzero(kept)[-1]))

    def _by_surprise(self, mirostat: Mirostat, values: Floats, position: int) -> int:
        """As `pick`, with mirostat's cut in place of all others."""
        scaled = values / self.temperature
        chances = np.exp(scaled - _logsumexp(scaled))
        kept = chances[: mirostat.kept(chances)]
        place = min(self._place(kept, position), len(kept) - 1)
        mirostat.accept(float(kept[place] / kept.sum()))
        return place

    def _place(self, weights: Floats, position: int) -> int:
        """The place where the draw's number falls among the weights."""
        reached = np.cumsum(weights)
        return int(np.searchsorted(reached, self._number(position) * reached[-1], side="right"))

    def _number(self, position: int) -> float:
        """Uniform in [0, 1), by seed and position alone."""
        digest = hashlib.blake2b(struct.pack("<QQ", self._seed, position), digest_size=8).digest()
        return float((int.from_bytes(digest, "little") >> 11) / (1 << 53))


class Penalties:
    """Repetition, presence and frequency penalties over a window of the last tokens."""

    def __init__(self, repeat: float, presence: float, frequency: float, window: int | None) -> None:
        self._repeat = repeat
        self._presence = presence
        self._frequency = frequency
        self._last: deque[int] = deque(maxlen=window)
        self.counts: Counter[int] = Counter()

    @classmethod
    def of(cls, sampling: core.Sampling, prompt: Seq[int]) -> "Penalties | None":
        """The penalties that a sampling asks for, with the prompt as their history; None: none."""
        repeat = sampling.repeat_penalty or 1.0
        presence, frequency = sampling.presence_penalty or 0.0, sampling.frequency_penalty or 0.0
        window = DEFAULT_WINDOW_TOKENS if sampling.repeat_last_tokens is None else sampling.repeat_last_tokens
        if window == 0 or (repeat == 1.0 and not presence and not frequency):
            return None
        made = cls(repeat, presence, frequency, None if window < 0 else window)
        for token in words(prompt, None if window < 0 else window):
            made.accept(token)
        return made

    def accept(self, token: int) -> None:
        """A token enters the window, and the oldest leaves it."""
        if len(self._last) == self._last.maxlen:
            oldest = self._last[0]
            self.counts[oldest] -= 1
            if not self.counts[oldest]:
                del self.counts[oldest]
        self._last.append(token)
        self.counts[token] += 1

    def applied(self, arrays: Any, row: Any) -> Any:
        """The row with the window's tokens made less likely."""
        tokens = list(self.counts)
        found = row[arrays.array(tokens)]
        if self._repeat != 1.0:
            found = arrays.where(found > 0, found / self._repeat, found * self._repeat)
        taken = [self._presence + self._frequency * count for count in self.counts.values()]
        return _with(arrays, row, tokens, found - arrays.array(taken, arrays.float32))


def _mirostat(sampling: core.Sampling) -> Mirostat | None:
    if not sampling.mirostat or (sampling.temperature or 0) <= 0:
        return None
    target = 5.0 if sampling.mirostat_tau is None else sampling.mirostat_tau
    rate = 0.1 if sampling.mirostat_eta is None else sampling.mirostat_eta
    return Mirostat(sampling.mirostat, target, rate)


def from_whole(row: Any, chooser: Chooser, position: int) -> int:
    """A token drawn from a whole row; ranked, so that the draw is the one that the candidates would give."""
    order = np.argsort(-row, kind="stable")
    ranked = row[order].astype(np.float64)
    return int(order[chooser.pick(ranked, _logsumexp(ranked), position)])


def logprobs(row: Any, token: int, top: int) -> tuple[float, list[tuple[int, float]]]:
    """The log probability of a token, and of the `top` likeliest, by the model's own distribution, before any cut."""
    values = np.array(row).astype(np.float64)
    values -= _logsumexp(values)
    count = min(top, len(values))
    ranked: list[int] = []
    if count:
        best = np.argpartition(-values, count - 1)[:count]
        ranked = best[np.argsort(-values[best], kind="stable")].tolist()
    return _finite(values[token]), [(token, _finite(values[token])) for token in ranked]


def _with(arrays: Any, row: Any, tokens: list[int], values: Any) -> Any:
    """The row with other values for some tokens; the row itself stays as it is."""
    changed = arrays.array(row)
    changed[arrays.array(tokens)] = values
    return changed


def _typical(chances: Floats, mass: float) -> Any:
    """Which tokens are kept: those whose surprise is nearest to the expected one, up to that mass."""
    surprise = -np.log(np.maximum(chances, np.finfo(np.float64).tiny))
    expected = float(np.sum(chances * surprise))
    order = np.argsort(np.abs(surprise - expected), kind="stable")
    reached = np.cumsum(chances[order])
    count = int(np.searchsorted(reached, mass, side="right")) + 1
    kept = np.zeros(len(chances), dtype=bool)
    kept[order[:count]] = True
    return kept


def _logsumexp(values: Floats) -> float:
    highest = float(values.max())
    return highest + math.log(float(np.exp(values - highest).sum()))


def _finite(value: float) -> float:
    return max(LEAST_LOGPROB, float(value))
