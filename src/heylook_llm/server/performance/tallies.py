"""What is kept of many requests together: sums of each minute and each hour, per model, and of what was refused.

Hours go by the wall clock. Minutes go by the machine's own, so that those of the last hour are what they are even where
the wall clock was set meanwhile. All functions work within their caller's transaction.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from heylook_llm.server.performance.record import Finished
from heylook_llm.server.performance.summary import Counted, Tally

HOUR_SECONDS: Final = 3600.0
MINUTE_SECONDS: Final = 60.0
MINUTES_SECONDS: Final = 2 * HOUR_SECONDS
"""How long minutes are kept."""
REFUSED: Final = ""
"""In place of a model: what was refused before any was asked."""
SCHEMA: Final = (
    "CREATE TABLE hours (hour INTEGER, model TEXT, tally BLOB, PRIMARY KEY (hour, model)) WITHOUT ROWID",
    "CREATE TABLE minutes (clock INTEGER, minute INTEGER, model TEXT, tally BLOB, "
    "PRIMARY KEY (clock, minute, model)) WITHOUT ROWID",
)

_packer: Final = msgspec.msgpack.Encoder()
_unpacker: Final = msgspec.msgpack.Decoder(Tally)


class _Time(NamedTuple):
    """An hour of the wall clock, a minute of one of the machine's, and of which model."""

    hour: int
    clock: int
    minute: int
    model: str


class Reading(NamedTuple):
    """Where a clock stands or stood: its number in the database, and seconds since its boot."""

    clock: int
    boot: float


def of_refusals(errors: Mapping[str, int]) -> Tally:
    """The tally of refused requests by their errors' codes."""
    count = sum(errors.values())
    return Tally(count, {"refused": count}, dict(errors))


class Tallies:
    """Sums that are to be added to what is kept."""

    def __init__(self) -> None:
        self._sums: defaultdict[_Time, Tally] = defaultdict(Tally)

    def take(self, row: Finished, clock: int, count: Counted) -> None:
        """Count a request."""
        self._sums[_Time(_hour(row.finished_at), clock, _minute(row.finished_boot), row.model)].take(count)

    def refuse(self, errors: Mapping[str, int], wall: float, reading: Reading) -> None:
        """Count refused requests, all of this moment."""
        self._sums[_Time(_hour(wall), reading.clock, _minute(reading.boot), REFUSED)].join(of_refusals(errors))

    def add_to(self, connection: sqlite3.Connection) -> None:
        """Add them to what is kept, to which other servers add, too."""
        hours: defaultdict[tuple[int, str], Tally] = defaultdict(Tally)
        minutes: defaultdict[tuple[int, int, str], Tally] = defaultdict(Tally)
        for (hour, clock, minute, model), tally in self._sums.items():
            hours[hour, model].join(tally)
            minutes[clock, minute, model].join(tally)
        for hour_key, tally in hours.items():
            _join(connection, "hours WHERE hour = ? AND model = ?", hour_key, tally)
            connection.execute("REPLACE INTO hours VALUES (?, ?, ?)", (*hour_key, _packer.encode(tally)))
        for minute_key, tally in minutes.items():
            _join(connection, "minutes WHERE clock = ? AND minute = ? AND model = ?", minute_key, tally)
            connection.execute("REPLACE INTO minutes VALUES (?, ?, ?, ?)", (*minute_key, _packer.encode(tally)))


def of_hours(connection: sqlite3.Connection, since: float, model: str | None) -> Iterator[tuple[str, Tally]]:
    """What is kept of each hour since then, with its model. `since`: wall clock."""
    query = "SELECT model, tally FROM hours WHERE hour >= ?1 AND (?2 IS NULL OR model IN (?2, ?3))"
    for name, packed in connection.execute(query, (_hour(since), model, REFUSED)):
        yield name, _unpacker.decode(packed)


def of_minutes(
    connection: sqlite3.Connection, since: Iterable[Reading], model: str | None
) -> Iterator[tuple[str, Tally]]:
    """What is kept of each minute since then, by each clock, with its model."""
    query = "SELECT model, tally FROM minutes WHERE clock = ?1 AND minute >= ?2 AND (?3 IS NULL OR model IN (?3, ?4))"
    for clock, boot in since:
        for name, packed in connection.execute(query, (clock, _minute(boot), model, REFUSED)):
            yield name, _unpacker.decode(packed)


def forget(connection: sqlite3.Connection, hours_before: float, minutes_before: Iterable[Reading]) -> None:
    """Delete what is older. `hours_before`: wall clock."""
    connection.execute("DELETE FROM hours WHERE hour < ?", (_hour(hours_before),))
    for clock, boot in minutes_before:
        connection.execute("DELETE FROM minutes WHERE clock = ? AND minute < ?", (clock, _minute(boot)))


def _join(connection: sqlite3.Connection, source: str, key: tuple[object, ...], tally: Tally) -> None:
    for (packed,) in connection.execute(f"SELECT tally FROM {source}", key).fetchall():  # noqa: S608 (constants)
        tally.join(_unpacker.decode(packed))


def _minute(boot: float) -> int:
    return int(boot // MINUTE_SECONDS)


def _hour(wall: float) -> int:
    return int(wall // HOUR_SECONDS)
