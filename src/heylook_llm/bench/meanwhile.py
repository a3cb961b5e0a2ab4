"""What the bench's machine did beside a run, summed up for each row from its series. Pure.

Only where the target runs on this machine it is the target's doing.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from heylook_llm.bench.sample import Point

SENDER: Final = "sender"
"""Source of what the bench's own sender did."""


class Meanwhile(msgspec.Struct, frozen=True):
    """What the machine did while a row was measured; None: it can't be read here."""

    cpu_share: float | None = None
    """Of all cores, in the mean."""
    least_available_bytes: float | None = None
    target_bytes: float | None = None
    """The most that the target's processes held, where they run here."""
    gpu_percent: float | None = None
    """Of all GPUs, in the mean."""
    gpu_bytes: float | None = None
    """The most that was used, of all GPUs."""
    joules: float | None = None
    """By all counters, from the first to the last reading in the windows."""
    watts: float | None = None
    seconds: float | None = None
    """Between those readings."""
    sender_late_ms: float | None = None
    """By how much the sender's loop was late at its alarms, in the mean: so late are its stamps, or nearly."""
    sender_worst_ms: float | None = None


def meanwhile(points: Iterable[Point], windows: Sequence[tuple[int, int]], target: str) -> Meanwhile | None:
    """The sum of what was read within these windows; None: nothing was."""
    found = [[point for point in points if start <= point.t <= end] for start, end in windows]
    held = [point for each in found for point in each]
    if not held:
        return None
    joules, seconds = _energy(found)
    return Meanwhile(
        cpu_share=_mean(point.value for point in held if point.source == "host" and point.name.startswith("cpu")),
        least_available_bytes=min((point.value for point in held if point.name == "available_bytes"), default=None),
        target_bytes=max(
            (one.value for one in held if one.source == f"target {target}" and one.name == "rss_bytes"), default=None
        ),
        gpu_percent=_mean(one.value for one in held if one.source.startswith("gpu") and one.name == "percent"),
        gpu_bytes=_most_together(one for one in held if one.source.startswith("gpu") and one.name == "used_bytes"),
        joules=joules,
        watts=joules / seconds if joules is not None and seconds else None,
        seconds=seconds,
        sender_late_ms=_mean(one.value * 1000 for one in held if _is_of_sender(one, "loop_late_seconds")),
        sender_worst_ms=max((one.value * 1000 for one in held if _is_of_sender(one, "loop_lag_seconds")), default=None),
    )


def _is_of_sender(point: Point, name: str) -> bool:
    return point.source == SENDER and point.name == name


def _energy(found: Sequence[Sequence[Point]]) -> tuple[float | None, float | None]:
    """Joules of all counters and the seconds they are of; None: no window has two readings."""
    joules, nanoseconds = 0.0, 0
    for held in found:
        counters: dict[str, list[Point]] = {}
        for point in held:
            if point.source == "energy":
                counters.setdefault(point.name, []).append(point)
        spans = [(min(each, key=_time), max(each, key=_time)) for each in counters.values()]
        if spans and all(first.t < last.t for first, last in spans):
            joules += sum(last.value - first.value for first, last in spans) / 1e6
            nanoseconds += max(last.t - first.t for first, last in spans)
    return (joules, nanoseconds / 1e9) if nanoseconds else (None, None)


def _time(point: Point) -> int:
    return point.t


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def _most_together(points: Iterable[Point]) -> float | None:
    """The largest sum of what was read at one time."""
    sums: dict[int, float] = {}
    for point in points:
        sums[point.t] = sums.get(point.t, 0.0) + point.value
    return max(sums.values(), default=None)
