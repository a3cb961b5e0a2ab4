"""What is kept beside single requests: what was done in each minute, what the machine did, what happened to models.

Tables of the same file as the requests, in the same thread.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final

import msgspec

from heylook_llm.server.backend import ModelChange
from heylook_llm.server.performance.minutes import MINUTE_SECONDS, Minute, Resources, minutes_of
from heylook_llm.server.performance.record import Finished

SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS spent_minutes (minute INTEGER, model TEXT, spent BLOB, PRIMARY KEY (minute, model)) "
    "WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS spent_hours (hour INTEGER, model TEXT, spent BLOB, PRIMARY KEY (hour, model)) "
    "WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS resources (minute INTEGER PRIMARY KEY, used BLOB)",
    "CREATE TABLE IF NOT EXISTS changes (seq INTEGER PRIMARY KEY, at REAL, model TEXT, change BLOB)",
    "CREATE INDEX IF NOT EXISTS changes_by_model ON changes (model, seq)",
)
MOST_CHANGES: Final = 100_000
HOUR_MINUTES: Final = 60
_SPENT: Final = (("spent_minutes", "minute"), ("spent_hours", "hour"))
_packer: Final = msgspec.msgpack.Encoder()
_minutes: Final = msgspec.msgpack.Decoder(Minute)
_resources: Final = msgspec.msgpack.Decoder(Resources)
_changes: Final = msgspec.msgpack.Decoder(ModelChange)


_Sums = defaultdict[tuple[int, str], Minute]


class History:
    """These tables of an open database."""

    def __init__(self, connection: sqlite3.Connection, transaction: Callable[[], AbstractContextManager[None]]) -> None:
        self._connection = connection
        self._transaction = transaction
        with transaction():
            self._complete()

    # ---- writing -----------------------------------------------------------------------------------------------------

    def add(self, rows: Iterable[Finished]) -> None:
        """Add requests to their minutes, within the caller's transaction."""
        minutes: _Sums = defaultdict(Minute)
        for row in rows:
            for minute, spent in minutes_of(row).items():
                minutes[minute, row.model].join(spent)
        for (table, unit), sums in zip(_SPENT, (minutes, _hours(minutes)), strict=True):
            for key, spent in sums.items():
                query = f"SELECT spent FROM {table} WHERE {unit} = ? AND model = ?"  # noqa: S608 (constants)
                for (packed,) in self._connection.execute(query, key).fetchall():
                    spent.join(_minutes.decode(packed))
                values = (*key, _packer.encode(spent))
                self._connection.execute(f"REPLACE INTO {table} VALUES (?, ?, ?)", values)  # noqa: S608

    def _complete(self) -> None:
        """The hours of a file that was begun without them."""
        if self._connection.execute("SELECT 1 FROM spent_hours LIMIT 1").fetchone():
            return
        minutes = {(minute, model): spent for minute, model, spent in self.minutes(0)}
        for key, spent in _hours(minutes).items():
            self._connection.execute("REPLACE INTO spent_hours VALUES (?, ?, ?)", (*key, _packer.encode(spent)))

    def note_resources(self, minute: int, used: Resources) -> None:
        """What the machine did in a minute."""
        with self._transaction():
            self._connection.execute("REPLACE INTO resources VALUES (?, ?)", (minute, _packer.encode(used)))

    def note_change(self, change: ModelChange) -> None:
        """What happened to a model."""
        values = (change.at, change.model, _packer.encode(change))
        with self._transaction():
            self._connection.execute("INSERT INTO changes (at, model, change) VALUES (?, ?, ?)", values)

    def trim(self, since: float) -> None:
        """Delete what is older than that (wall clock), and changes beyond a number, within the caller's transaction."""
        minute = int(since // MINUTE_SECONDS)
        self._connection.execute("DELETE FROM spent_minutes WHERE minute < ?", (minute,))
        self._connection.execute("DELETE FROM spent_hours WHERE hour < ?", (minute // HOUR_MINUTES,))
        self._connection.execute("DELETE FROM resources WHERE minute < ?", (minute,))
        self._connection.execute("DELETE FROM changes WHERE at < ?", (since,))
        too_old = "DELETE FROM changes WHERE seq <= (SELECT max(seq) FROM changes) - ?"
        self._connection.execute(too_old, (MOST_CHANGES,))

    def clear(self) -> None:
        """Delete all of it, within the caller's transaction."""
        for table in ("spent_minutes", "spent_hours", "resources", "changes"):
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 (constants)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def minutes(self, since: int, before: int = 1 << 62) -> Iterator[tuple[int, str, Minute]]:
        """Each minute from that one on, and model, in which something was done."""
        query = "SELECT minute, model, spent FROM spent_minutes WHERE minute >= ? AND minute < ? ORDER BY minute"
        for minute, model, packed in self._connection.execute(query, (since, before)):
            yield minute, model, _minutes.decode(packed)

    def hours(self, since: int) -> Iterator[tuple[int, str, Minute]]:
        """As `minutes`, whole hours together under their first minute, and the minutes before the first of them."""
        first = -(-since // HOUR_MINUTES)
        yield from self.minutes(since, first * HOUR_MINUTES)
        query = "SELECT hour, model, spent FROM spent_hours WHERE hour >= ? ORDER BY hour"
        for hour, model, packed in self._connection.execute(query, (first,)):
            yield hour * HOUR_MINUTES, model, _minutes.decode(packed)

    def resources(self, since: int) -> Iterator[tuple[int, Resources]]:
        """Each minute from that one on that the server ran in."""
        query = "SELECT minute, used FROM resources WHERE minute >= ? ORDER BY minute"
        for minute, packed in self._connection.execute(query, (since,)):
            yield minute, _resources.decode(packed)

    def changes(self, model: str | None, since: float, limit: int) -> list[ModelChange]:
        """What happened to models since then, newest first."""
        query = "SELECT change FROM changes WHERE (?1 IS NULL OR model = ?1) AND at >= ?2 ORDER BY seq DESC LIMIT ?3"
        found = self._connection.execute(query, (model, since, limit))
        return [_changes.decode(packed) for (packed,) in found]


def _hours(minutes: Mapping[tuple[int, str], Minute]) -> _Sums:
    found: _Sums = defaultdict(Minute)
    for (minute, model), spent in minutes.items():
        found[minute // HOUR_MINUTES, model].join(spent)
    return found
