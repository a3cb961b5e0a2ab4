"""Distributions: exact from samples, or within 1 % from logarithmic buckets that add up."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

RELATIVE_ERROR: Final = 0.01
_RATIO: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_RATIO: Final = math.log(_RATIO)
SMALLEST: Final = 1e-9
"""What is smaller counts as this."""
LEAST_SAMPLES: Final = {0.5: 1, 0.9: 20, 0.95: 20, 0.99: 100}
"""A percentile of fewer samples says nothing, and is null."""
NAMES: Final = {0.5: "p50", 0.9: "p90", 0.95: "p95", 0.99: "p99"}

Histogram = dict[int, int]
"""Bucket -> count. Bucket b holds values from _RATIO**b up to _RATIO**(b+1)."""


def bucket(value: float) -> int:
    """The bucket of a value."""
    return math.floor(math.log(max(value, SMALLEST)) / _LOG_RATIO)


@functools.lru_cache(1 << 14)
def bucket_us(microseconds: int) -> int:
    """The bucket of a time in milliseconds. Kept: a model's steps take much the same microseconds again and again."""
    return bucket(microseconds / 1e3)


def middle(number: int) -> float:
    """The value that stands for a bucket: within 1 % of whatever fell into it."""
    return 2 * math.exp(number * _LOG_RATIO) * _RATIO / (1 + _RATIO)


def add(histogram: Histogram, value: float, count: int = 1) -> None:
    """Count a value."""
    at = bucket(value)
    histogram[at] = histogram.get(at, 0) + count


def merge(into: Histogram, other: Mapping[int, int]) -> None:
    """Add another's counts."""
    for at, count in other.items():
        into[at] = into.get(at, 0) + count


def percentiles_of_samples(samples: Iterable[float]) -> tuple[int, dict[str, float | None]]:
    """How many there are, and their percentiles by nearest rank."""
    ordered = sorted(samples)
    return len(ordered), {NAMES[q]: _ranked(ordered, q) for q in NAMES}


def percentiles_of_histogram(histogram: Mapping[int, int]) -> tuple[int, dict[str, float | None]]:
    """How many it counts, and their percentiles by nearest rank, each within 1 %."""
    ordered = sorted(histogram.items())
    total = sum(histogram.values())
    return total, {NAMES[q]: _counted(ordered, total, q) for q in NAMES}


def _ranked(ordered: Sequence[float], q: float) -> float | None:
    if len(ordered) < LEAST_SAMPLES[q]:
        return None
    return ordered[_rank(len(ordered), q)]


def _counted(ordered: Sequence[tuple[int, int]], total: int, q: float) -> float | None:
    if total < LEAST_SAMPLES[q]:
        return None
    rank = _rank(total, q)
    for at, count in ordered:
        rank -= count
        if rank < 0:
            return middle(at)
    raise AssertionError("the rank lies within the total")


def _rank(total: int, q: float) -> int:
    """The place of the nearest rank, from 0."""
    return max(0, math.ceil(q * total) - 1)
