"""When requests are due: pure schedules in nanoseconds from a cell's start.

A closed loop has no schedule: each of its clients sends when its last answer has ended, so a slow server is asked less.
The others plan every request beforehand, whatever becomes of those before it, and latency counts from the plan.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, assert_never

from heylook_llm.errors import ConfigError

Kind = Literal["closed", "constant", "poisson", "gamma", "ramp", "max", "replay"]
OPEN: Final[frozenset[Kind]] = frozenset({"constant", "poisson", "gamma", "ramp", "max", "replay"})
SECOND: Final = 1_000_000_000
MILLISECOND: Final = 1_000_000
SWEEP_CLIENTS: Final = 32
MOST_CLIENTS: Final = 10_000
"""Each is a connection and a task of the sender; so many requests are made beforehand, twice."""
LEAST_GAIN: Final = 1.2


@dataclass(frozen=True, slots=True)
class Load:
    """How requests are sent: `level` is clients of a closed loop, else requests per second.

    Of max it is ignored; of replay it is how many times as fast as the file's times say.
    """

    kind: Kind
    level: float
    burstiness: float = 1.0
    """Of gamma: 1 is Poisson, below it requests come in bursts, above it more evenly."""
    ramp_from: float = 0.0
    ramp_seconds: float = 0.0
    """Of ramp: from one rate to `level` in that time, and on at `level`."""
    share: float | None = None
    """Of a sweep: where its rate lies between one client's and the most; `level` is that, too, until they are known."""

    def __post_init__(self) -> None:
        if self.kind == "max":
            return
        if not (math.isfinite(self.level) and self.level > 0):
            raise ConfigError(f"A load of {self.level:g} sends nothing: give a number above 0.")
        if self.kind == "closed" and self.level != int(self.level):
            raise ConfigError(f"{self.level:g} clients are not a whole number.")
        if self.kind == "closed" and self.level > MOST_CLIENTS:
            raise ConfigError(f"{self.level:g} clients are too many; {MOST_CLIENTS} are the most.")
        if self.kind == "gamma" and not self.burstiness > 0:
            raise ConfigError("burstiness must be above 0.")
        if self.kind == "ramp" and not (self.ramp_seconds > 0 and self.ramp_from >= 0):
            raise ConfigError("A ramp takes a time above 0, from a rate of 0 or more.")

    @property
    def clients(self) -> int | None:
        """Requests at a time; None: as many as are due."""
        return int(self.level) if self.kind == "closed" else None


def sweep(points: int) -> Iterator[Load]:
    """One client, then as many as a target has use for, then Poisson rates evenly between what those two reached."""
    yield Load("closed", 1)
    yield Load("closed", SWEEP_CLIENTS)
    for point in range(1, points - 1):
        share = point / (points - 1)
        yield Load("poisson", share, share=share)


def swept(share: float, slowest: float, fastest: float) -> float:
    """The rate at that place of a sweep. Where more clients brought nothing, it begins at half of what can be done."""
    low = slowest if fastest > LEAST_GAIN * slowest else fastest / 2
    return float(f"{low + share * (fastest - low):.4g}")


def schedule(load: Load, random: random.Random, times_ms: Sequence[float] = ()) -> Iterator[int]:
    """When each request is due, without an end; of replay as often as there are times.

    Raises ConfigError for a closed loop, which plans nothing.
    """
    match load.kind:
        case "constant":
            return _constant(load.level)
        case "poisson":
            return _summed(lambda: random.expovariate(load.level))
        case "gamma":
            shape = load.burstiness
            return _summed(lambda: random.gammavariate(shape, 1 / (shape * load.level)))
        case "ramp":
            return _ramp(load)
        case "max":
            return _at_once()
        case "replay":
            return (round((at - times_ms[0]) * MILLISECOND / load.level) for at in times_ms)
        case "closed":
            raise ConfigError("A closed loop has no schedule.")
        case _:
            assert_never(load.kind)


def _constant(rate: float) -> Iterator[int]:
    """Each from the start, so that no error adds up."""
    ordinal = 0
    while True:
        yield round(ordinal * SECOND / rate)
        ordinal += 1


def _summed(draw: Callable[[], float]) -> Iterator[int]:
    due = 0.0
    while True:
        due += draw()
        yield round(due * SECOND)


def _ramp(load: Load) -> Iterator[int]:
    """The moment at which the integral of the rate reaches each whole number."""
    start, end, seconds = load.ramp_from, load.level, load.ramp_seconds
    inside = (start + end) / 2 * seconds
    slope = (end - start) / seconds
    ordinal = 0
    while True:
        if ordinal >= inside:
            due = seconds + (ordinal - inside) / end
        elif slope == 0:
            due = ordinal / start
        else:
            due = (math.sqrt(start * start + 2 * slope * ordinal) - start) / slope
        yield round(due * SECOND)
        ordinal += 1


def _at_once() -> Iterator[int]:
    while True:
        yield 0
