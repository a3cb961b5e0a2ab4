"""Where one request's time went: its E2E cut into phases of the client, the server and what lies between. Pure.

What the server measured is JSON in its own words (docs/performance.md for ours). It comes from a stranger, so whatever
of it isn't as expected is left out.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, get_args

import msgspec

from heylook_llm.bench.measures import connect_ns, input_tokens, origin, output_tokens
from heylook_llm.bench.sample import Pair, Sample
from heylook_llm.slowness import LEAST_OTHERS, is_cause

Phase = Literal[
    "wait",
    "connect",
    "upload",
    "parse",
    "queue",
    "load",
    "prepare",
    "prefill",
    "decode",
    "flush",
    "residual",
    "network",
    "first-token",
    "stream",
    "rest",
]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
MEANING: Final[dict[Phase, str]] = {
    "wait": "due, but the client hadn't taken it up",
    "connect": "its connection was opened",
    "upload": "it was handed to the kernel",
    "parse": "the server read and understood it",
    "queue": "it waited for its model or a place in the batch",
    "load": "its model was loaded",
    "prepare": "template, tokens, images",
    "prefill": "its prompt was computed",
    "decode": "its tokens were computed",
    "flush": "its last bytes went to the server's socket",
    "residual": "what neither side accounts for, on one clock",
    "network": "what neither side accounts for, on two clocks: the network, and all that isn't measured",
    "first-token": "the server, until the first token; it doesn't say what it did",
    "stream": "from the first token to the last; the server doesn't say more",
    "rest": "from the last token to the last byte",
}
SERVERS: Final[tuple[Phase, ...]] = ("parse", "queue", "load", "prepare", "prefill", "decode", "flush")
TOLERANCE_NS: Final = 1_000_000
"""A server that received a request so much before it was begun to be sent is another request's."""
LONGEST_MS: Final = 1e12
"""Of a phase; what is told beyond is nonsense."""
MOST_NS: Final = 1 << 60
"""Of a duration that others tell."""
_NEVER_USUAL: Final[tuple[Phase, ...]] = ("wait", "connect", "queue", "load")


class _Stamps(msgspec.Struct, frozen=True):
    received_ns: int | None = None
    admitted_ns: int | None = None
    first_byte_ns: int | None = None
    last_token_ns: int | None = None
    closed_ns: int | None = None


class _Told(msgspec.Struct, frozen=True):
    """Of our server's row, what is read here."""

    phases_ms: dict[str, float | None] = {}
    timeline: _Stamps = _Stamps()
    clock_id: str | None = None
    client_request_id: str | None = None


class Breakdown(msgspec.Struct, frozen=True):
    """Nanoseconds of each phase, together the E2E."""

    phases: dict[Phase, int]
    source: str | None = None
    """Who said what the server did; None: nobody."""
    one_clock: bool = False
    mismatched: bool = False
    """What the server says that it measured can't be, or not of this request; it was left out."""
    in_batch: tuple[int, int] | None = None
    """Stamps between which the server computed it; on one clock only."""


class Cause(msgspec.Struct, frozen=True):
    """A phase that took longer than usual."""

    phase: Phase
    spent_ms: float
    usual_ms: float


class Slow(msgspec.Struct, frozen=True):
    """A request among the slowest, and why."""

    sample_id: str
    ordinal: int
    e2e_ms: float
    verdict: str
    causes: tuple[Cause, ...]
    phases_ms: dict[str, float]
    shared_with: int | None
    """Others of the row that were computed at the same time; None: unknown."""
    server_request_id: str | None = None


def breakdown(sample: Sample, open_loop: bool, pairs: Sequence[Pair] = ()) -> Breakdown | None:
    """A sample's phases; None: its E2E is unknown."""
    begin = origin(sample, open_loop)
    if begin is None or sample.t_start is None or sample.t_end is None:
        return None
    connect = connect_ns(sample) or 0
    ready = sample.t_start + connect
    client: dict[Phase, int] = {"wait": sample.t_start - begin, "connect": connect}
    sent = ready if sample.t_sent is None else sample.t_sent
    alone = Breakdown({**client, "upload": sent - ready, **_unpaired(sample, sent)})
    left_out = msgspec.structs.replace(alone, mismatched=True)
    for pair in pairs:
        if pair.source == "heylook":
            told = _read(pair.timeline_json)
            return left_out if told is None else _paired(sample, told, client, ready, sent) or left_out
        durations = _durations(pair)
        if durations is None:
            return left_out
        if durations:
            before = {**client, "upload": sent - ready, **durations}
            between = sample.t_end - begin - sum(before.values())
            return Breakdown({**before, "network": between}, pair.source) if between >= 0 else left_out
    return alone


def _unpaired(sample: Sample, sent: int) -> dict[Phase, int]:
    end = sample.t_end or sent
    if sample.t_first_token is None or sample.t_last_token is None:
        return {"first-token": end - sent}
    return {
        "first-token": sample.t_first_token - sent,
        "stream": sample.t_last_token - sample.t_first_token,
        "rest": end - sample.t_last_token,
    }


def _read(text: str) -> _Told | None:
    try:
        told = msgspec.json.decode(text.encode(), type=_Told)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None
    possible = all(spent is None or 0 <= spent < LONGEST_MS for spent in told.phases_ms.values())
    return told if possible else None


def _paired(sample: Sample, told: _Told, client: dict[Phase, int], ready: int, sent: int) -> Breakdown | None:
    """By our server's row; None: it is of another request."""
    if told.client_request_id != sample.client_request_id and None not in (
        told.client_request_id,
        sample.client_request_id,
    ):
        return None
    server: dict[Phase, int] = {phase: round((told.phases_ms.get(phase) or 0) * 1e6) for phase in SERVERS}
    end, times = sample.t_end or sent, told.timeline
    if (
        told.clock_id is None
        or told.clock_id != sample.clock_id
        or times.received_ns is None
        or times.closed_ns is None
    ):
        between = end - sent - sum(server.values())
        phases = {**client, "upload": sent - ready, **server, "network": between}
        return Breakdown(phases, "heylook") if between >= 0 else None
    if times.received_ns < ready - TOLERANCE_NS or (times.first_byte_ns or 0) > end + TOLERANCE_NS:
        return None
    # A body that is still being sent while the server reads it is the server's to account for: nothing counts twice.
    upload = min(sent, max(ready, times.received_ns)) - ready
    phases = {**client, "upload": upload, **server}
    phases["residual"] = end - ready - upload - sum(server.values())
    return Breakdown(
        phases,
        "heylook",
        one_clock=True,
        in_batch=(times.admitted_ns, times.last_token_ns)
        if times.admitted_ns is not None and times.last_token_ns is not None
        else None,
    )


_DURATIONS: Final[dict[str, dict[str, tuple[Phase, float]]]] = {
    # what others say of themselves: field -> phase, nanoseconds in its unit
    "ollama": {"load_duration": ("load", 1), "prompt_eval_duration": ("prefill", 1), "eval_duration": ("decode", 1)},
    "llama-server": {"prompt_ms": ("prefill", 1e6), "predicted_ms": ("decode", 1e6)},
    "vllm": {"queue_time_ms": ("queue", 1e6), "generation_time_ms": ("decode", 1e6)},
}


def _durations(pair: Pair) -> dict[Phase, int] | None:
    """What a rival said of its phases; those that it doesn't name stay out. None: one can't be, so none counts."""
    try:
        said: Any = msgspec.json.decode(pair.timeline_json.encode())
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return {}
    if not isinstance(said, dict):
        return {}
    found: dict[Phase, int] = {}
    for field, (phase, unit) in _DURATIONS.get(pair.source, {}).items():
        value = said.get(field)
        if value is None:
            continue
        spent = _nanoseconds(value, unit)
        if spent is None:
            return None
        found[phase] = spent
    return found


def _nanoseconds(told: Any, unit: float) -> int | None:
    """A duration as it may be told; None: there is no such one."""
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 <= told < MOST_NS:
        return None
    spent = told * unit
    return round(spent) if spent < MOST_NS else None


# ---- many ------------------------------------------------------------------------------------------------------------


def mean_ms(found: Sequence[Breakdown]) -> dict[str, float]:
    """Milliseconds of each phase, as means: they add up to the mean E2E."""
    sums = dict.fromkeys(PHASES, 0)
    for one in found:
        for phase, spent in one.phases.items():
            sums[phase] += spent
    seen = {phase for one in found for phase in one.phases}
    return {phase: sums[phase] / len(found) / 1e6 for phase in PHASES if phase in seen}


def slowest(found: Sequence[tuple[Sample, Breakdown]], count: int) -> list[Slow]:
    """The slowest requests, each with what took it longer than it took the others."""
    order = sorted(found, key=lambda each: -sum(each[1].phases.values()))
    usual = _Usual(found)
    return [_slow(sample, cut, usual, found) for sample, cut in order[:count]]


def _slow(sample: Sample, cut: Breakdown, usual: "_Usual", others: Sequence[tuple[Sample, Breakdown]]) -> Slow:
    total = sum(cut.phases.values())
    causes = []
    for phase, spent in cut.phases.items():
        expected = usual.of(sample, phase)
        if expected is not None and is_cause(spent, expected, total, usual.spread(phase)):
            causes.append(Cause(phase, spent / 1e6, expected / 1e6))
    causes.sort(key=lambda cause: cause.usual_ms - cause.spent_ms)
    return Slow(
        sample.id,
        sample.ordinal,
        total / 1e6,
        f"{causes[0].phase}-bound" if causes else "normal",
        tuple(causes),
        {phase: spent / 1e6 for phase, spent in cut.phases.items()},
        _company(cut, others),
        sample.server_request_id,
    )


def _company(cut: Breakdown, others: Sequence[tuple[Sample, Breakdown]]) -> int | None:
    if cut.in_batch is None:
        return None
    begin, end = cut.in_batch
    spans = [other.in_batch for _, other in others if other is not cut and other.in_batch is not None]
    return sum(start < end and stop > begin for start, stop in spans)


class _Usual:
    """What each phase takes others of the same row, as medians: prefill and decode by the token, others whole."""

    def __init__(self, found: Sequence[tuple[Sample, Breakdown]]) -> None:
        self._known = len(found) > LEAST_OTHERS
        shares: dict[Phase, list[float]] = {}
        for sample, cut in found:
            for phase, spent in cut.phases.items():
                if (units := _units(sample, phase)) > 0:
                    shares.setdefault(phase, []).append(spent / units)
        self._medians = {phase: _median(each) for phase, each in shares.items()}
        self._spreads = {phase: _spread(each, self._medians[phase]) for phase, each in shares.items()}

    def of(self, sample: Sample, phase: Phase) -> float | None:
        """Nanoseconds; None: unknown."""
        if phase in _NEVER_USUAL:
            return 0.0
        if not self._known or phase not in self._medians:
            return None
        return self._medians[phase] * _units(sample, phase)

    def spread(self, phase: Phase) -> float:
        """How far requests are usually off that, as a share of it."""
        return 0.0 if phase in _NEVER_USUAL else self._spreads.get(phase, 0.0)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _spread(values: Sequence[float], usual: float) -> float:
    return _median([abs(value - usual) / usual for value in values]) if usual else 0.0


def _units(sample: Sample, phase: Phase) -> int:
    """What a phase's time is in proportion to."""
    if phase == "prefill" and (tokens := input_tokens(sample)) is not None:
        return max(1, tokens - (sample.cached or 0))
    if phase in ("decode", "stream") and (tokens := output_tokens(sample)) is not None:
        return tokens - 1
    return 1
