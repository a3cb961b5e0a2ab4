"""How many cells ended sequences may keep while others run: learned from what steps take with them and without.

Where attention spans the whole pool, a token's step takes longer for every cell that it spans in vain. The times of
steps that only decode are fitted, for each batch size b, to

    time = base[b] + own * (cells of the batch's own sequences) + vain * (b * used cells - own cells)

by least squares that forget slowly. The budget is where retained cells make a step SLOWDOWN longer. It starts as an
estimate, and leaves it only as far as the measured slope, give or take its error, contradicts it: a machine that is
busy with other things measures badly, and then the estimate stays.
"""

import math
from typing import Final

from heylook_llm import core

SLOWDOWN: Final = 0.10
"""How much longer a step may take by retained cells, as a part of its own time."""
LEAST_ESTIMATE_TOKENS: Final = 512
"""Fewer are within what the engine pads the attended span to, twice over."""
DECAY: Final = 0.998
"""What a step's weight is multiplied with at the next: some five hundred count."""
LEAST_STEPS: Final = 32
"""Below this weight nothing is learned."""
HELD_UP: Final = 3.0
"""A step so many times longer than its like was held up by something else."""
DEVIATIONS: Final = 2.0
UNKNOWN: Final = (0.0, math.inf)


def estimated_budget(info: core.ModelInfo) -> int:
    """Cells by the numbers of the model.

    Per token and cell about 4 * embedding * layers operations, against 2 * parameters for the rest of a token.
    """
    if not info.n_parameters or not info.n_embedding or not info.n_layers:
        return LEAST_ESTIMATE_TOKENS
    cells = SLOWDOWN * 2 * info.n_parameters / (4 * info.n_embedding * info.n_layers)
    return max(LEAST_ESTIMATE_TOKENS, int(cells))


class _Steps:
    """Steps of one batch size: their weight, their means, and the products of their distances from these."""

    __slots__ = ("batch", "count", "mean_own", "mean_time", "mean_vain", "oo", "ot", "ov", "tt", "vt", "vv")

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.count = self.mean_own = self.mean_vain = self.mean_time = 0.0
        self.oo = self.ov = self.vv = self.ot = self.vt = self.tt = 0.0

    def add(self, own: float, vain: float, time: float) -> None:
        """One more step; those before count a little less."""
        self.count = self.count * DECAY + 1
        o, v, t = own - self.mean_own, vain - self.mean_vain, time - self.mean_time
        self.mean_own += o / self.count
        self.mean_vain += v / self.count
        self.mean_time += t / self.count
        rest = 1 - 1 / self.count
        self.oo = self.oo * DECAY + o * o * rest
        self.ov = self.ov * DECAY + o * v * rest
        self.vv = self.vv * DECAY + v * v * rest
        self.ot = self.ot * DECAY + o * t * rest
        self.vt = self.vt * DECAY + v * t * rest
        self.tt = self.tt * DECAY + t * t * rest


class Fixed:
    """A budget that isn't learned: where nobody spans the cells of others, the whole pool."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    def learn(self, batch: int, own: int, used: int, duration_ns: int) -> None:
        """Nothing."""

    def budget(self, batch: int) -> int:
        """The same for any number of sequences."""
        return self._tokens


class Retention:
    """The budget, and what is learned of it."""

    def __init__(self, estimate_tokens: int) -> None:
        self._estimate = estimate_tokens
        self._steps: dict[int, _Steps] = {}

    def learn(self, batch: int, own: int, used: int, duration_ns: int) -> None:
        """A step that only decoded: sequences in it, cells of these, cells in use."""
        steps = self._steps.setdefault(batch, _Steps(batch))
        if steps.count >= LEAST_STEPS and duration_ns > HELD_UP * steps.mean_time:
            return
        steps.add(own, batch * used - own, duration_ns)

    def budget(self, batch: int) -> int:
        """Cells that may be retained while so many sequences run."""
        steps = self._like(batch)
        if steps is None:
            return self._estimate
        slope, error = self.vain()
        retained = max(0.0, steps.mean_vain - (steps.batch - 1) * steps.mean_own)  # the others' own are in vain as well
        allowed = SLOWDOWN * max(0.0, steps.mean_time - max(0.0, slope) * retained) / batch
        least = _quotient(allowed, slope + error)
        most = _quotient(allowed, slope - error)
        return min(max(self._estimate, least), most)

    def vain(self) -> tuple[float, float]:
        """(nanoseconds for each cell spanned in vain, its error); the error is infinite while nothing is known."""
        weight = sum(steps.count - 1 for steps in self._steps.values())
        oo, ov, vv, ot, vt, tt = (
            sum(getattr(steps, name) for steps in self._steps.values()) for name in ("oo", "ov", "vv", "ot", "vt", "tt")
        )
        determinant = oo * vv - ov * ov
        if weight < LEAST_STEPS or determinant <= 1e-6 * oo * vv:
            return UNKNOWN
        own = (ot * vv - vt * ov) / determinant
        slope = (vt * oo - ot * ov) / determinant
        return slope, _error(tt - own * ot - slope * vt, weight - 2, determinant / oo)

    def _like(self, batch: int) -> _Steps | None:
        """The steps of this batch size, else of the nearest that is known."""
        known = [size for size, steps in self._steps.items() if steps.count >= LEAST_STEPS]
        return self._steps[min(known, key=lambda size: abs(size - batch))] if known else None


def _error(residue: float, freedom: float, spread: float) -> float:
    """How far off a slope may be: so many standard deviations."""
    return DEVIATIONS * math.sqrt(max(0.0, residue) / freedom / spread)


def _quotient(time: float, slope: float) -> int:
    return int(min(time / slope, 1 << 40)) if slope > 0 else 1 << 40
