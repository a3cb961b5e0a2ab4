"""What a model's requests usually take in each phase: a fixed time, or a line over the tokens computed in it. Pure."""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from heylook_llm.server.performance.phases import Phase, phases
from heylook_llm.server.performance.record import Finished
from heylook_llm.slowness import LEAST_OTHERS

REACH: Final = 2.0
"""A line says nothing of more tokens than so many times the most that it was drawn through."""
WIDE: Final = 2.0
"""The most tokens are so many times the fewest, at least: else the points tell no slope."""
_FIXED: Final[tuple[Phase, ...]] = ("parse", "prepare", "flush")

Point = tuple[int, float]
"""Tokens, and the nanoseconds that they took."""


class Line(msgspec.Struct, frozen=True):
    """Nanoseconds over tokens."""

    fixed_ns: float
    token_ns: float = 0.0
    floor_ns: float = 0.0
    """It takes no less, however few tokens there are."""
    most_tokens: float = math.inf
    spread: float = 0.0
    """How far requests are usually off it (their median), as a share of it."""

    def at(self, tokens: int) -> float | None:
        """What so many tokens usually take; None: so many were never seen."""
        if tokens > REACH * self.most_tokens:
            return None
        return self._value(tokens)

    def _value(self, tokens: int) -> float:
        return max(self.floor_ns, self.fixed_ns + self.token_ns * tokens)

    def through(self, points: Sequence[Point]) -> "Line":
        """The same line with the spread of these points."""
        on_line = [(ns, self._value(tokens)) for tokens, ns in points]
        return msgspec.structs.replace(self, spread=median([abs(ns - usual) / usual for ns, usual in on_line if usual]))


class Usual(msgspec.Struct, frozen=True):
    """What other requests of the same model took."""

    samples: int = 0
    lines: dict[Phase, Line] = {}
    """Of the phases of which it is known. Prefill over computed prompt tokens, decode over tokens after the first."""


def usual(others: Sequence[Finished]) -> Usual:
    """What is usual among requests that ended well."""
    spans = [(other, phases(other.timeline)) for other in others if other.outcome == "done"]
    ended = [(other, spent) for other, spent in spans if spent]
    if len(ended) < LEAST_OTHERS:
        return Usual(len(ended))
    lines: dict[Phase, Line] = {phase: _level([(0, spent[phase]) for _, spent in ended]) for phase in _FIXED}
    decoded = [(followers(other), spent["decode"]) for other, spent in ended if followers(other) > 0]
    if decoded:
        lines["decode"] = line(decoded)
    prefilled = [(computed(other), spent["prefill"]) for other, spent in ended if computed(other) > 0]
    if prefilled:  # however little of a prompt isn't cached, it takes a step, as a token does
        lines["prefill"] = line(prefilled, lines["decode"].token_ns if decoded else 0.0)
    return Usual(len(ended), lines)


def computed(request: Finished) -> int:
    """Prompt tokens that weren't cached."""
    return request.first.prompt_tokens - request.first.cached_tokens


def followers(request: Finished) -> int:
    """Tokens after the first."""
    return request.first.output_tokens - 1


def line(points: Sequence[Point], step_ns: float = 0.0) -> Line:
    """The line through the middle of these points, some of which may be far off it. `step_ns`: what no point is below.

    Its slope is the median of those between points half of all apart, each by its width (Theil's, incomplete): a few
    long prompts among many short ones tell what a token takes. Points that are all alike tell no slope; then the line
    goes through what a step takes.
    """
    ordered = sorted(points)
    least, most = ordered[0][0], ordered[-1][0]
    floor_ns = min(step_ns, median([ns for _, ns in ordered]))
    if most < WIDE * least:
        fixed_ns, token_ns = floor_ns, median([max(0.0, ns - floor_ns) / tokens for tokens, ns in ordered])
    else:
        token_ns = max(0.0, _slope(ordered))
        fixed_ns = median([ns - token_ns * tokens for tokens, ns in ordered])
    return Line(fixed_ns, token_ns, floor_ns, most).through(points)


def _level(points: Sequence[Point]) -> Line:
    return Line(median([ns for _, ns in points])).through(points)


def _slope(ordered: Sequence[Point]) -> float:
    """Of points in the order of their tokens, which aren't all equal."""
    half = len(ordered) // 2
    pairs = zip(ordered[:half], ordered[-half:], strict=True)
    slopes = sorted(
        ((ns - other_ns) / (tokens - other), tokens - other)
        for (other, other_ns), (tokens, ns) in pairs
        if tokens > other
    )
    rest = sum(width for _, width in slopes) / 2
    for slope, width in slopes:
        rest -= width
        if rest <= 0:
            return slope
    return 0.0


def median(values: Sequence[float]) -> float:
    """The middle of some values; 0 of none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
