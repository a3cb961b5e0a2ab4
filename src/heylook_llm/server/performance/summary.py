"""Many requests summed up: counts, tokens, and the distribution of each measure. Adds up over any number of parts."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from heylook_llm import core
from heylook_llm.server.performance.histogram import (
    RELATIVE_ERROR,
    Histogram,
    add,
    bucket_us,
    merge,
    percentiles_of_histogram,
    percentiles_of_samples,
)
from heylook_llm.server.performance.measures import Measures, token_gaps_us

DURATIONS: Final = {
    "queue_ns": "queue_ms",
    "load_ns": "load_ms",
    "ttft_ns": "ttft_ms",
    "tpot_ns": "tpot_ms",
    "e2e_ns": "e2e_ms",
}
RATES: Final = {"prefill_rate": "prefill_tokens_per_second", "decode_rate": "decode_tokens_per_second"}
TOLD: Final = DURATIONS | RATES
ITL: Final = "itl_ms"
"""The gaps between tokens are so many that they are kept in buckets only."""


class Counted(msgspec.Struct, frozen=True):
    """What a summary takes from one request."""

    outcome: str
    error: str | None
    usage: core.Usage
    measures: Measures
    gaps: Mapping[int, int]
    """The histogram of its gaps between tokens, in milliseconds."""


class Tally(msgspec.Struct, array_like=True):
    """Sums of some requests of one model, and their measures in buckets (milliseconds, tokens per second)."""

    count: int = 0
    outcomes: dict[str, int] = {}
    errors: dict[str, int] = {}
    tokens: dict[str, int] = {}
    batch_sum: float = 0.0
    batch_count: int = 0
    histograms: dict[str, Histogram] = {}

    def take(self, one: Counted) -> None:
        """Count a request, its measures in buckets."""
        self.sum(one)
        for name, value in _told_values(one.measures):
            add(self.histograms.setdefault(name, {}), value)

    def sum(self, one: Counted) -> None:
        """Count a request; of its measures only the gaps between tokens, which are in buckets already."""
        self.count += 1
        _increase(self.outcomes, one.outcome)
        if one.error is not None:
            _increase(self.errors, one.error)
        for name in core.Usage.__struct_fields__:
            _increase(self.tokens, name, getattr(one.usage, name))
        if one.measures.batch_size is not None:
            self.batch_sum += one.measures.batch_size
            self.batch_count += 1
        if one.gaps:
            merge(self.histograms.setdefault(ITL, {}), one.gaps)

    def join(self, other: "Tally") -> None:
        """Add another's."""
        self.count += other.count
        self.batch_sum += other.batch_sum
        self.batch_count += other.batch_count
        for mine, others in ((self.outcomes, other.outcomes), (self.errors, other.errors), (self.tokens, other.tokens)):
            for name, count in others.items():
                _increase(mine, name, count)
        for name, histogram in other.histograms.items():
            merge(self.histograms.setdefault(name, {}), histogram)


def gaps_of(times: core.Timeline) -> Histogram:
    """The histogram of the gaps between a request's tokens, in milliseconds."""
    if not times.decode.accepted:  # most requests: nothing is guessed ahead
        return dict(Counter(map(bucket_us, array("I", times.decode.ends_us))))
    found: Histogram = {}
    for gap_us, count in token_gaps_us(times):
        add(found, gap_us / 1e3, count)
    return found


def of_samples(rows: Iterable[Counted]) -> dict[str, Any]:
    """The summary of requests, percentiles from the samples themselves."""
    tally, samples = Tally(), {name: list[float]() for name in TOLD.values()}
    for row in rows:
        tally.sum(row)
        for name, value in _told_values(row.measures):
            samples[name].append(value)
    exact = {name: distribution(percentiles_of_samples(values), None) for name, values in samples.items()}
    return {**of_tally(tally), **exact}


def of_tally(tally: Tally) -> dict[str, Any]:
    """The summary of a tally, percentiles within 1 %."""
    tokens = {name: tally.tokens.get(name, 0) for name in core.Usage.__struct_fields__}
    return {
        "count": tally.count,
        "outcomes": tally.outcomes,
        "errors": tally.errors,
        "tokens": tokens,
        "cache_hit_share": _share(tokens["cached_tokens"], tokens["prompt_tokens"]),
        "draft_acceptance": _share(tokens["accepted_tokens"], tokens["draft_tokens"]),
        "batch_size_mean": _share(tally.batch_sum, tally.batch_count),
        **{
            name: distribution(percentiles_of_histogram(tally.histograms.get(name, {})), RELATIVE_ERROR)
            for name in (*TOLD.values(), ITL)
        },
    }


def _told_values(measures: Measures) -> Iterable[tuple[str, float]]:
    for name, told in TOLD.items():
        value = getattr(measures, name)
        if value is not None:
            yield told, value / 1e6 if name in DURATIONS else value


def distribution(found: tuple[int, dict[str, float | None]], error: float | None) -> dict[str, Any]:
    count, values = found
    rounded = {name: None if value is None else round(value, 3) for name, value in values.items()}
    return {"n": count, **rounded, "relative_error": error}


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _increase(counts: dict[str, int], name: str, by: int = 1) -> None:
    counts[name] = counts.get(name, 0) + by
