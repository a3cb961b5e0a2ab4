"""What the samples of a round say: figures of one server, and ratios of ours to another's."""

import statistics
from collections.abc import Sequence as Seq
from typing import Final, NamedTuple

from benchmarks.peers.client import Played, Sample


class Figures(NamedTuple):
    """One round of one server, seconds and counts. None: nothing of that kind happened."""

    tokens_per_second: float
    """Output tokens of all answers, by the time from the first request to the last piece of text."""
    ttft: float
    """Median over the requests; of `late`, over the streams."""
    gap: float | None
    """Median over all pieces of all answers."""
    late_ttft: float | None
    late_gap: float | None
    """The longest gap of a stream between the late prompt's sending and its first token."""
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int
    pieces_per_token: float
    """1 where each token comes as a piece of its own; a held-back half of a character makes it less."""


def figures(played: Played) -> Figures:
    """The figures of a round."""
    samples, late = played
    everyone = [*samples, late] if late is not None else samples
    began = min(sample.sent for sample in everyone)
    ended = max(sample.stamps[-1] for sample in everyone)
    output = sum(sample.output_tokens for sample in everyone)
    gaps = [gap for sample in samples for gap in sample.gaps]
    return Figures(
        output / (ended - began),
        statistics.median(sample.ttft for sample in samples),
        statistics.median(gaps) if gaps else None,
        late.ttft if late is not None else None,
        _worst_gap(samples, late.sent, late.stamps[0]) if late is not None else None,
        _total([sample.prompt_tokens for sample in everyone]),
        _total([sample.cached_tokens for sample in everyone]),
        output,
        sum(len(sample.stamps) for sample in everyone) / output,
    )


def _worst_gap(samples: list[Sample], start: float, end: float) -> float | None:
    """The longest gap that overlaps [start, end]."""
    gaps = [
        later - earlier
        for sample in samples
        for earlier, later in zip(sample.stamps, sample.stamps[1:], strict=False)
        if later > start and earlier < end
    ]
    return max(gaps, default=None)


def _total(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


class Spread(NamedTuple):
    """The median of rounds, and the least and the greatest."""

    median: float
    least: float
    greatest: float


def spread(values: Seq[float | None]) -> Spread | None:
    """None without values."""
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None


def ratios(ours: Seq[Figures], theirs: Seq[Figures], name: str) -> Spread | None:
    """Ours / theirs, round by round."""
    pairs = [(getattr(mine, name), getattr(other, name)) for mine, other in zip(ours, theirs, strict=False)]
    return spread([mine / other for mine, other in pairs if mine is not None and other])


class Goal(NamedTuple):
    """A bound on a ratio."""

    peer: str
    workload: str
    figure: str
    bound: float
    at_least: bool

    def met(self, ratio: float) -> bool:
        """Whether a measured ratio keeps the bound."""
        return ratio >= self.bound if self.at_least else ratio <= self.bound


GOALS: Final = (
    Goal("llama-server", "one", "tokens_per_second", 1.0, True),
    Goal("llama-server", "eight", "tokens_per_second", 1.05, True),
    Goal("llama-server", "shared", "tokens_per_second", 2.0, True),
    Goal("llama-server", "shared", "ttft", 0.3, False),
    Goal("llama-server", "late", "late_gap", 0.1, False),
    Goal("llama-server", "late", "late_ttft", 1.3, False),
    Goal("llama_cpp.server", "eight", "tokens_per_second", 3.0, True),
    Goal("mlx_lm.server", "one", "tokens_per_second", 1.0, True),
    Goal("mlx_lm.server", "eight", "tokens_per_second", 1.2, True),
)
