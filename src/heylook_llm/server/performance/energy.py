"""The energy of a request: that of each engine step, shared out by the tokens that it computed of each sequence. Pure.

What the machine consumes while nothing is computed is taken off first. It is an attribution, not a measurement of one
request: no counter knows requests.
"""

import bisect
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from heylook_llm import core

Side = Literal["prefill", "decode"]
LEAST_IDLE: Final = 3
"""Idle readings until the baseline is known."""
MOST_IDLE: Final = 31


class EnergyShare(msgspec.Struct, frozen=True, array_like=True):
    """What is attributed to a request, in joules; None: unknown, and `reason` says why."""

    prefill_joules: float | None = None
    decode_joules: float | None = None
    baseline_watts: float | None = None
    """What the machine took when idle, which is left out."""
    counters: tuple[str, ...] = ()
    reason: str | None = None


class Work(NamedTuple):
    """What one engine step computed of a request."""

    side: Side
    start_ns: int
    end_ns: int
    tokens: int
    step_tokens: int
    """Of all sequences in the step."""


def works(times: core.Timeline) -> Iterator[Work]:
    """The steps of a choice. The edge is its first token: what is computed after it belongs to decoding."""
    edge = times.first_token_ns
    for chunk in times.prefill:
        side: Side = "prefill" if edge is None or chunk.start_ns < edge else "decode"
        yield Work(side, chunk.start_ns, chunk.end_ns, chunk.tokens, chunk.step_tokens)
    steps = times.decode
    if edge is None or not steps.busy_us:
        return
    drafted = steps.drafted or bytes(len(steps.ends_us) // 4)
    end_us = 0
    packed = zip(
        array("I", steps.ends_us), array("I", steps.busy_us), drafted, array("I", steps.step_tokens), strict=True
    )
    for gap, busy, guesses, total in packed:
        end_us += gap
        end_ns = edge + 1000 * end_us
        yield Work("decode", end_ns - 1000 * busy, end_ns, 1 + guesses, total)


class Curve:
    """A counter's readings over time, in micro-joules; between two of them it is taken to have grown evenly."""

    def __init__(self, readings: Sequence[tuple[int, int]]) -> None:
        """(nanoseconds, micro-joules), in their order."""
        self._times = [at for at, _ in readings]
        self._values = [value for _, value in readings]

    def covers(self, start_ns: int, end_ns: int) -> bool:
        """Whether there are readings from before the one to after the other."""
        return bool(self._times) and self._times[0] <= start_ns and end_ns <= self._times[-1]

    def at(self, ns: int) -> float:
        """What it said then; before its first and after its last reading, what those say."""
        after = bisect.bisect_right(self._times, ns)
        if after == 0:
            return float(self._values[0])
        if after == len(self._times):
            return float(self._values[-1])
        begin, end = self._times[after - 1], self._times[after]
        low, high = self._values[after - 1], self._values[after]
        return low + (high - low) * (ns - begin) / (end - begin)

    def joules(self, start_ns: int, end_ns: int) -> float:
        """What was consumed in between."""
        return (self.at(end_ns) - self.at(start_ns)) / 1e6


def shared(done: Iterable[Work], curve: Curve, baseline_watts: float) -> dict[Side, float]:
    """Joules of each side: of each step what exceeds the baseline, by this request's part of its tokens."""
    found: dict[Side, float] = {"prefill": 0.0, "decode": 0.0}
    for work in done:
        if work.step_tokens > 0:
            above = curve.joules(work.start_ns, work.end_ns) - baseline_watts * (work.end_ns - work.start_ns) / 1e9
            found[work.side] += above * work.tokens / work.step_tokens
    return found


class Baseline:
    """What the machine takes while nothing is computed: the median of the last idle readings."""

    def __init__(self) -> None:
        self._watts: list[float] = []

    def note(self, watts: float) -> None:
        """The mean over a time in which nothing was computed."""
        self._watts = [*self._watts, watts][-MOST_IDLE:]

    @property
    def watts(self) -> float | None:
        """None: not known yet."""
        ordered = sorted(self._watts)
        return ordered[len(ordered) // 2] if len(ordered) >= LEAST_IDLE else None


class Crowd:
    """When requests of several models were computed at once, so that nobody can tell whose the energy was."""

    def __init__(self, most_spans: int = 256) -> None:
        self._active: dict[str, int] = {}
        self._since: int | None = None
        self._spans: list[tuple[int, int]] = []
        self._most_spans = most_spans

    @property
    def idle(self) -> bool:
        """Whether nothing is computed."""
        return not self._active

    def enter(self, model: str, now_ns: int) -> None:
        """A request of a model begins."""
        self._active[model] = self._active.get(model, 0) + 1
        if len(self._active) > 1 and self._since is None:
            self._since = now_ns

    def leave(self, model: str, now_ns: int) -> None:
        """It ends."""
        self._active[model] -= 1
        if not self._active[model]:
            del self._active[model]
        if len(self._active) < 2 and self._since is not None:
            self._spans = [*self._spans, (self._since, now_ns)][-self._most_spans :]
            self._since = None

    def mixed(self, start_ns: int, end_ns: int) -> bool:
        """Whether it was so at any time in between."""
        if self._since is not None and self._since < end_ns:
            return True
        return any(begin < end_ns and start_ns < end for begin, end in self._spans)


def attributed(
    done: Sequence[Work],
    readings: Sequence[tuple[int, int]],
    baseline_watts: float | None,
    *,
    mixed: bool,
    whole: bool,
    counters: tuple[str, ...],
) -> EnergyShare:
    """The share of a request by its steps, or why there is none. `whole`: these are all of its steps."""
    unknown = EnergyShare(baseline_watts=baseline_watts, counters=counters)
    curve = Curve(readings)
    reason = None
    if not done or not all(work.step_tokens for work in done):
        reason = "its steps are not known: it did not end, or was not computed in steps of tokens"
    elif not whole:
        reason = "it had more steps than are noted of one request"
    elif baseline_watts is None:
        reason = "what the machine takes when idle was not known yet"
    elif mixed:
        reason = "another model was computed at the same time"
    elif not curve.covers(min(work.start_ns for work in done), max(work.end_ns for work in done)):
        reason = "the counters were not read for all of its time"
    if reason is not None or baseline_watts is None:
        return msgspec.structs.replace(unknown, reason=reason)
    found = shared(done, curve, baseline_watts)
    prefill, decode = (round(max(0.0, found[side]), 6) for side in ("prefill", "decode"))
    return EnergyShare(prefill, decode, round(baseline_watts, 3), counters)
