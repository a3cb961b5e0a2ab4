"""What samples allow to be said: percentiles with their intervals, and whether two sets of them differ. Pure.

Percentiles are by nearest rank: each is a value that was measured, never beyond the largest. Their intervals are of
order statistics: they presume nothing of the values' distribution, but that samples are independent of each other.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

CONFIDENCE: Final = 0.95
QUANTILES: Final[dict[str, float]] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
LEAST_SAMPLES: Final[dict[str, int]] = {"p50": 1, "p90": 20, "p95": 20, "p99": 100}
"""Below it a percentile isn't told."""
LEAST_PAIRS: Final = 6
"""Of five pairs not even the interval from the least to the most holds the median with 95 %: 2 * 0.5**5 > 0.05."""
SLICES: Final = 10
"""Of a window, whose rates give the interval of its rate."""
_STUDENT_9: Final = 2.262157
"""Student's t of 9 degrees of freedom, 97.5 %."""
_NORMAL: Final = 1.959964
"""The normal distribution's, 97.5 %."""
_FAR_DEVIATIONS: Final = 12
"""A binomial has nothing that counts beyond so many standard deviations and as many units."""

Difference = Literal["lower", "higher", "not shown"]


class Interval(NamedTuple):
    """Where the true value lies with 95 %. None: the samples bound it on the other side only."""

    low: float | None
    high: float | None


class Paired(NamedTuple):
    """Two things measured in turn: what one is to the other."""

    pairs: int
    ratio: float
    """The median of second / first."""
    interval: Interval


def rank(n: int, quantile: float) -> int:
    """Which of n sorted samples a percentile is, from 1: the nearest rank."""
    return max(1, min(n, math.ceil(round(quantile * n, 9))))


def percentile(ordered: Sequence[float], quantile: float) -> float:
    """Of sorted samples, at least one."""
    return ordered[rank(len(ordered), quantile) - 1]


def told(ordered: Sequence[float], name: str) -> float | None:
    """A percentile by its name; None while there are too few samples for it."""
    return percentile(ordered, QUANTILES[name]) if len(ordered) >= LEAST_SAMPLES[name] else None


def ranks(n: int, quantile: float, confidence: float = CONFIDENCE) -> tuple[int | None, int | None]:
    """Which of n sorted samples enclose a quantile, from 1; None: none of them bounds it on that side.

    With X(l) and X(u) so chosen, the quantile lies below X(l) with a chance of at most half of what is left, and above
    X(u) with as much at most.
    """
    left = (1 - confidence) / 2
    low = _tail(n, quantile, left)
    high = n + 1 - _tail(n, 1 - quantile, left)
    return (low or None), (high if high <= n else None)


def _tail(n: int, chance: float, left: float) -> int:
    """The largest l with P(B <= l - 1) <= left, B being binomial(n, chance); 0: there is none."""
    deviation = math.sqrt(n * chance * (1 - chance))
    at = max(0, math.floor(n * chance - _FAR_DEVIATIONS * (deviation + 1)))
    mass = _binomial(n, at, chance)
    total, ratio = 0.0, chance / (1 - chance)
    while at <= n:
        total += mass
        if total > left:
            return at
        mass *= (n - at) / (at + 1) * ratio
        at += 1
    return n


def _binomial(n: int, k: int, chance: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(chance) + (n - k) * math.log1p(-chance))


def interval(ordered: Sequence[float], quantile: float, confidence: float = CONFIDENCE) -> Interval:
    """The interval of a quantile of sorted samples."""
    low, high = ranks(len(ordered), quantile, confidence)
    return Interval(None if low is None else ordered[low - 1], None if high is None else ordered[high - 1])


def deviation(numbers: Sequence[float]) -> float | None:
    """The standard deviation of what they were drawn from (divided by n - 1); None below two."""
    if len(numbers) < 2:
        return None
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((one - mean) ** 2 for one in numbers) / (len(numbers) - 1))


def share(successes: int, n: int) -> Interval:
    """The interval of a share, by Wilson: right for none and for all, too. Of nothing, nothing is known."""
    if n == 0:
        return Interval(None, None)
    square = _NORMAL * _NORMAL
    middle = (successes + square / 2) / (n + square)
    reach = _NORMAL / (n + square) * math.sqrt(successes * (n - successes) / n + square / 4)
    return Interval(max(0.0, middle - reach), min(1.0, middle + reach))


def rate_interval(amounts: Iterable[tuple[int, float]], start_ns: int, end_ns: int) -> Interval:
    """The interval of a rate per second over a window, by batch means: of (stamp, amount).

    The window is cut into ten slices. Their rates are means of many requests, so nearly normal; and what neighbouring
    requests have in common lies mostly within one slice.
    """
    nanoseconds = end_ns - start_ns
    sums, events = [0.0] * SLICES, 0
    for at, amount in amounts:
        if start_ns <= at < end_ns:
            sums[(at - start_ns) * SLICES // nanoseconds] += amount
            events += 1
    if events < SLICES:
        return Interval(None, None)
    rates = [one * SLICES * 1e9 / nanoseconds for one in sums]
    mean = math.fsum(rates) / SLICES
    reach = _STUDENT_9 * (deviation(rates) or 0.0) / math.sqrt(SLICES)
    return Interval(max(0.0, mean - reach), mean + reach)


def difference(first: Interval, second: Interval) -> Difference:
    """Whether the second is lower or higher than the first; where their intervals overlap, nothing is shown."""
    if second.high is not None and first.low is not None and second.high < first.low:
        return "lower"
    if second.low is not None and first.high is not None and second.low > first.high:
        return "higher"
    return "not shown"


def apart(first: Interval, second: Interval, relative: bool) -> Interval:
    """How far the second's true value is beyond the first's, if both are in their intervals; relative: as its share.

    Both do with 90 % at least, each being one of 95 %. It leaves 0 out just where `difference` shows one.
    """

    def beyond(bound: float | None, base: float | None) -> float | None:
        if bound is None or base is None or (relative and base <= 0):
            return None
        return bound / base - 1 if relative else bound - base

    return Interval(beyond(second.low, first.high), beyond(second.high, first.low))


def paired(pairs: Sequence[tuple[float, float]]) -> Paired | None:
    """Two things that were measured in turn, one value of each in each round: what drifts is drawn out of them.

    None below six rounds, or where a value is no positive number: no ratio can be made of it.
    """
    if len(pairs) < LEAST_PAIRS or not all(first > 0 and second > 0 for first, second in pairs):
        return None
    ratios = sorted(second / first for first, second in pairs)
    return Paired(len(ratios), percentile(ratios, 0.5), interval(ratios, 0.5))


def paired_difference(found: Paired) -> Difference:
    """What the interval of a ratio shows."""
    return difference(Interval(1.0, 1.0), found.interval)
