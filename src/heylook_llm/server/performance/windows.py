"""Summaries of the last minutes, hours and days, per model, and of what was refused."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, get_args

from heylook_llm.server.performance.database import Database
from heylook_llm.server.performance.histogram import RELATIVE_ERROR
from heylook_llm.server.performance.record import Moment
from heylook_llm.server.performance.selection import Since
from heylook_llm.server.performance.summary import Counted, Tally, of_samples, of_tally
from heylook_llm.server.performance.tallies import HOUR_SECONDS, MINUTE_SECONDS, REFUSED

Window = Literal["1m", "5m", "1h", "24h", "7d"]

WINDOWS: Final[tuple[Window, ...]] = get_args(Window)
SECONDS: Final[dict[Window, float]] = {"1m": 60, "5m": 300, "1h": 3600, "24h": 86_400, "7d": 604_800}
LONGEST_FROM_SAMPLES: Final = 3600.0
MOST_SAMPLES: Final = 5_000
"""Of more requests the samples take too long to read: nothing is written meanwhile."""


def summary(window: Window, now: Moment, model: str | None = None) -> Callable[[Database], dict[str, Any]]:
    """What to ask the database for the summary of a window."""
    since = Since(now, SECONDS[window])

    def read(database: Database) -> dict[str, Any]:
        short = since.seconds <= LONGEST_FROM_SAMPLES
        sums = _summed(database.minutes(since, model) if short else database.hours(now.wall - since.seconds, model))
        refused = sums.pop(REFUSED, Tally())
        if short and not database.more_than(MOST_SAMPLES, since):
            told = _of_samples(since, database.counted(since, model))
        else:
            told = _of_tallies(_begin_of_minute(since) if short else _begin_of_hour(since), sums)
        return {"window": window, "to": now.wall, **told, "refused": {"count": refused.count, "errors": refused.errors}}

    return read


def _of_samples(since: Since, rows: Iterable[tuple[str, Counted]]) -> dict[str, Any]:
    found: defaultdict[str, list[Counted]] = defaultdict(list)
    for name, one in rows:
        found[name].append(one)
    models = {name: of_samples(counted) for name, counted in sorted(found.items())}
    return {"from": since.now.wall - since.seconds, "method": "samples", "relative_error": None, "models": models}


def _of_tallies(begin: float, sums: Mapping[str, Tally]) -> dict[str, Any]:
    models = {name: of_tally(tally) for name, tally in sorted(sums.items())}
    return {"from": begin, "method": "histogram", "relative_error": RELATIVE_ERROR, "models": models}


def _summed(parts: Iterable[tuple[str, Tally]]) -> dict[str, Tally]:
    found: defaultdict[str, Tally] = defaultdict(Tally)
    for name, tally in parts:
        found[name].join(tally)
    return found


def _begin_of_minute(since: Since) -> float:
    """The wall clock's time of the whole minute, by the machine's clock, in which a window begins."""
    now, seconds = since
    return now.wall - seconds - (now.boot - seconds) % MINUTE_SECONDS


def _begin_of_hour(since: Since) -> float:
    begin = since.now.wall - since.seconds
    return begin - begin % HOUR_SECONDS
