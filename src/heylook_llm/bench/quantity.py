"""A number of a row by its name, as `ttft.p95` or `output`: what comparisons, gates and tables ask for. Pure."""

import re
from typing import Final

import msgspec

from heylook_llm.bench.measures import MEASURES, Better
from heylook_llm.bench.metrics import Row
from heylook_llm.bench.statistics import LEAST_SAMPLES, Interval
from heylook_llm.errors import ConfigError

STATISTICS: Final = ("p50", "p90", "p95", "p99", "mean", "least", "most")


class Plain(msgspec.Struct, frozen=True):
    """A number that a row has one of."""

    title: str
    unit: str
    better: Better = "higher"


PLAIN: Final[dict[str, Plain]] = {
    "output": Plain("output tokens per second", "tokens/s"),
    "input": Plain("prompt tokens per second", "tokens/s"),
    "requests": Plain("requests per second", "1/s"),
    "whole_output": Plain("output tokens per second, whole run", "tokens/s"),
    "whole_requests": Plain("requests per second, whole run", "1/s"),
    "errors": Plain("share of failed requests", "share", "lower"),
    "goodput": Plain("share of good requests", "share"),
}
_NAMES: Final = {
    "throughput": "output",
    "rps": "requests",
    "e2el": "e2e",
    "latency": "e2e",
    "median": "p50",
    "max": "most",
}
"""What others call them."""


class Quantity(msgspec.Struct, frozen=True):
    """Which number: `statistic` is None for those that a row has one of."""

    measure: str
    statistic: str | None

    def __str__(self) -> str:
        return self.measure if self.statistic is None else f"{self.measure}.{self.statistic}"

    @property
    def unit(self) -> str:
        """ms, tokens/s, 1/s or share."""
        return MEASURES[self.measure].unit if self.statistic is not None else PLAIN[self.measure].unit

    @property
    def better(self) -> Better:
        """Whether less or more of it is good."""
        return MEASURES[self.measure].better if self.statistic is not None else PLAIN[self.measure].better


class Value(msgspec.Struct, frozen=True):
    """A number, of how many values, and where the true one lies; unknown is None."""

    value: float | None = None
    n: int | None = None
    interval: Interval = Interval(None, None)


def parse(text: str) -> Quantity:
    """`ttft.p95`, `ttft` (its median), `output`. Raises ConfigError, which names what there is."""
    match = re.fullmatch(r"([a-z0-9_]+)(?:\.([a-z0-9]+))?", text.strip().lower())
    measure, statistic = match.groups() if match else (text.strip(), None)
    measure, statistic = _NAMES.get(measure, measure), _NAMES.get(statistic or "", statistic)
    if measure in PLAIN:
        if statistic is not None:
            raise ConfigError(f"'{text}': a row has one {measure}; leave .{statistic} away.")
        return Quantity(measure, None)
    if measure not in MEASURES:
        known = ", ".join((*MEASURES, *PLAIN))
        raise ConfigError(f"'{text[:60]}': there is no measure '{measure[:60]}'; there are: {known}.")
    if statistic is not None and statistic not in STATISTICS:
        raise ConfigError(f"'{text}': there is no statistic '{statistic}'; there are: {', '.join(STATISTICS)}.")
    return Quantity(measure, statistic or "p50")


def value_of(row: Row, wanted: Quantity) -> Value:
    """That number of a row."""
    if wanted.statistic is not None:
        found = row.measures.get(wanted.measure)
        if found is None:
            return Value(n=0)
        interval = found.intervals.get(wanted.statistic, Interval(None, None))
        return Value(getattr(found, wanted.statistic), found.n, interval)
    if wanted.measure == "errors":
        return Value(row.error_share, row.counts.ok + row.counts.error + row.counts.timeout, row.error_interval)
    if wanted.measure == "goodput":
        good = row.goodput
        return Value() if good is None else Value(good.share, good.offered, good.share_interval)
    interval = getattr(row.rates, f"{wanted.measure}_interval", Interval(None, None))
    return Value(getattr(row.rates, wanted.measure), row.counts.ok, interval)


def why_unknown(row: Row, wanted: Quantity) -> str:
    """Why a row doesn't have that number, for a reader."""
    if (reason := row.absent.get(wanted.measure)) is not None:
        return reason
    found = row.measures.get(wanted.measure)
    needed = LEAST_SAMPLES.get(wanted.statistic or "", 1)
    return f"{wanted.statistic} needs {needed} requests; there are {0 if found is None else found.n}"


def rounds_of(row: Row, wanted: Quantity) -> list[float]:
    """Its value in each repeat in turn; empty where repeats have none of it."""
    if wanted.statistic not in (None, "p50"):
        return []
    found = [repeat[wanted.measure] for repeat in row.per_repeat if wanted.measure in repeat]
    return found if len(found) == len(row.per_repeat) else []
