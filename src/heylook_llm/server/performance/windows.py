"""Summaries of the last minutes, hours and days, per model."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, Literal, get_args

from heylook_llm.server.performance.database import HOUR_SECONDS, Database
from heylook_llm.server.performance.histogram import RELATIVE_ERROR
from heylook_llm.server.performance.summary import Counted, Tally, of_samples, of_tally

Window = Literal["1m", "5m", "1h", "24h", "7d"]

WINDOWS: Final[tuple[Window, ...]] = get_args(Window)
SECONDS: Final[dict[Window, float]] = {"1m": 60, "5m": 300, "1h": 3600, "24h": 86_400, "7d": 604_800}
LONGEST_FROM_SAMPLES: Final = 3600.0


def summary(window: Window, now: float, model: str | None = None) -> Callable[[Database], dict[str, Any]]:
    """What to ask the database for the summary of a window. `now`: wall clock."""
    read = _from_samples if SECONDS[window] <= LONGEST_FROM_SAMPLES else _from_tallies
    return lambda database: {"window": window, "to": now, **read(database, now - SECONDS[window], model)}


def _from_samples(database: Database, since: float, model: str | None) -> dict[str, Any]:
    found: defaultdict[str, list[Counted]] = defaultdict(list)
    for name, one in database.counted(since, model):
        found[name].append(one)
    models = {name: of_samples(rows) for name, rows in sorted(found.items())}
    return {"from": since, "method": "samples", "relative_error": None, "models": models}


def _from_tallies(database: Database, since: float, model: str | None) -> dict[str, Any]:
    """Of whole hours, so it begins up to one earlier."""
    hour = int(since // HOUR_SECONDS)
    found: defaultdict[str, Tally] = defaultdict(Tally)
    for name, tally in database.tallies(hour, model):
        found[name].join(tally)
    models = {name: of_tally(tally) for name, tally in sorted(found.items())}
    begin = hour * HOUR_SECONDS
    return {"from": begin, "method": "histogram", "relative_error": RELATIVE_ERROR, "models": models}
