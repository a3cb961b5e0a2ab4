"""The SQLite file of finished requests. One thread owns it; every method is called there, and blocks."""

import functools
import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from heylook_llm import core
from heylook_llm.server import sqlite_file
from heylook_llm.server.performance import selection, tallies
from heylook_llm.server.performance.energy import EnergyShare
from heylook_llm.server.performance.history import SCHEMA as HISTORY
from heylook_llm.server.performance.history import History
from heylook_llm.server.performance.measures import Measures, measured
from heylook_llm.server.performance.record import Finished, Labels, Moment, Texts
from heylook_llm.server.performance.selection import Selection, Since
from heylook_llm.server.performance.summary import Counted, Tally, gaps_of
from heylook_llm.server.performance.tallies import Reading, Tallies
from heylook_llm.server.sqlite_file import PAGE_BYTES, SqliteFile

VERSION: Final = 3
"""Of the schema. A file of another version is left alone."""
LATEST_SECONDS: Final = 3600.0
"""A request that shared the batch with another may have ended so much later."""
DRIFT_SECONDS: Final = 0.5
"""The wall clock was set when it went so much faster or slower than the machine's."""
_MEASURES: Final = Measures.__struct_fields__
_USAGE: Final = core.Usage.__struct_fields__
_COLUMNS: Final = (
    *("id", "finished_at", "model", "provider", "dialect", "route", "stream", "outcome", "status", "error", "choices"),
    *("client", "client_request_id", "run_id", "clock", "finished_boot", "received_ns", "closed_ns"),
    *_USAGE,
    *_MEASURES,
    "gaps",
    "details",
)
_TYPES: Final = {
    "finished_at": "REAL",
    "finished_boot": "REAL",
    "details": "BLOB",
    "gaps": "BLOB",
    "id": "TEXT NOT NULL",
} | dict.fromkeys(
    ("model", "provider", "dialect", "route", "outcome", "error", "client", "client_request_id", "run_id"), "TEXT"
)
_SCHEMA: Final = (
    "CREATE TABLE requests (seq INTEGER PRIMARY KEY AUTOINCREMENT, "
    + ", ".join(f"{name} {_TYPES.get(name, 'NUMERIC')}" for name in _COLUMNS)
    + ")",
    "CREATE INDEX requests_by_id ON requests (id)",
    "CREATE INDEX requests_by_age ON requests (clock, finished_boot)",
    "CREATE INDEX requests_by_time ON requests (clock, model, closed_ns, received_ns)",
    *selection.INDEXES,
    *tallies.SCHEMA,
    "CREATE TABLE clocks (number INTEGER PRIMARY KEY, clock_id TEXT UNIQUE, boot_at REAL)",
    "CREATE TABLE pinned_runs (run_id TEXT PRIMARY KEY) WITHOUT ROWID",
)
_INSERT: Final = f"INSERT INTO requests ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 (constants)
_UNPINNED: Final = "(run_id IS NULL OR run_id NOT IN (SELECT run_id FROM pinned_runs))"


class Details(msgspec.Struct, frozen=True, array_like=True):
    """What a row keeps beside its columns, packed."""

    timeline: core.Timeline
    first: core.Usage
    energy: EnergyShare | None = None
    texts: Texts | None = None


class _Clock(NamedTuple):
    """A boot of the machine, as the database knows it."""

    number: int
    boot_at: float
    """When it was, by the wall clock as it was set last."""


_packer: Final = msgspec.msgpack.Encoder()
_unpacker: Final = msgspec.msgpack.Decoder(Details)
_gaps: Final = msgspec.msgpack.Decoder(dict[int, int])


class Database(SqliteFile):
    """An open file of finished requests, or one in memory."""

    version = VERSION
    schema = _SCHEMA
    additions = HISTORY

    def __init__(self, path: Path | None, *, keep_seconds: float, keep_bytes: int) -> None:
        """As SqliteFile. `keep_seconds`: how long a request is kept."""
        super().__init__(path, keep_bytes=keep_bytes)
        self._keep_seconds = keep_seconds
        self._deleted_at_once = self._journal_bytes // PAGE_BYTES // 2
        """Rows, each of which may change a page of its own: half of the log."""
        self._clocks: dict[str, _Clock] = {}
        """By their ids; other servers may add some, which are read when they are met."""
        self.history = History(self._connection, self.transaction)

    # ---- writing -----------------------------------------------------------------------------------------------------

    def write(self, rows: Sequence[Finished]) -> None:
        """Commit these rows, together. Raises sqlite3.Error; then none is kept."""
        self._meet({row.clock: row.finished_at - row.finished_boot for row in rows})
        sums, values = Tallies(), list[tuple[Any, ...]]()
        for row in rows:
            count, clock = counted(row), self._clocks[row.clock].number
            sums.take(row, clock, count)
            values.append(_values(row, clock, count))
        with self.transaction():
            self._connection.executemany(_INSERT, values)
            sums.add_to(self._connection)
            self.history.add(rows)

    def refuse(self, errors: Mapping[str, int], now: Moment) -> None:
        """Count requests that were refused before they had a row, by their errors' codes. Raises sqlite3.Error."""
        self._meet({now.clock: now.wall - now.boot})
        sums = Tallies()
        sums.refuse(errors, now.wall, Reading(self._clocks[now.clock].number, now.boot))
        with self.transaction():
            sums.add_to(self._connection)

    def _meet(self, told: Mapping[str, float]) -> None:
        """Keep clocks that are new, or whose boot was at another time by the wall clock as it is set now."""
        for clock, boot_at in told.items():
            known = self._clocks.get(clock)
            if known is None or abs(known.boot_at - boot_at) > DRIFT_SECONDS:
                self._connection.execute(
                    "INSERT INTO clocks (clock_id, boot_at) VALUES (?1, ?2) "
                    "ON CONFLICT (clock_id) DO UPDATE SET boot_at = ?2",
                    (clock, boot_at),
                )
                self._clocks = self._all_clocks()

    def _all_clocks(self) -> dict[str, _Clock]:
        found = self._connection.execute("SELECT clock_id, number, boot_at FROM clocks")
        return {clock: _Clock(number, boot_at) for clock, number, boot_at in found}

    def pin(self, run_id: str, pinned: bool) -> None:
        """Keep a run's rows whatever the limits, or no longer."""
        statement = (
            "INSERT OR IGNORE INTO pinned_runs VALUES (?)" if pinned else "DELETE FROM pinned_runs WHERE run_id = ?"
        )
        with self.transaction():
            self._connection.execute(statement, (run_id,))

    def pinned(self) -> frozenset[str]:
        """The runs whose rows are kept."""
        return frozenset(run for (run,) in self._connection.execute("SELECT run_id FROM pinned_runs"))

    def clear(self) -> int:
        """Delete all rows but those of pinned runs, and what longer windows are made of; how many rows."""
        with self.transaction():
            run = self._connection.execute
            (pinned,) = run(f"SELECT EXISTS (SELECT 1 FROM requests WHERE NOT {_UNPINNED})").fetchone()  # noqa: S608
            # without a condition SQLite drops the pages as they are
            deleted: int = run(f"DELETE FROM requests{f' WHERE {_UNPINNED}' if pinned else ''}").rowcount  # noqa: S608
            for table in ("hours", "minutes"):
                run(f"DELETE FROM {table}")  # noqa: S608
            self.history.clear()
        self.give_back()
        return deleted

    # ---- limits ------------------------------------------------------------------------------------------------------

    def trim(self, now: Moment) -> int:
        """Delete what is older than is kept, then the oldest until the rest fits; how many rows."""
        deleted = 0
        for clock, boot in self._since(now, self._keep_seconds):
            deleted += self._delete(f"WHERE clock = ? AND finished_boot < ? AND {_UNPINNED}", (clock, boot))
        with self.transaction():
            minutes = self._since(now, tallies.MINUTES_SECONDS)
            oldest = max(0.0, now.wall - self._keep_seconds)  # what is kept for ever is kept since 1970
            tallies.forget(self._connection, oldest, minutes)
            self.history.trim(oldest)
        while self.full:
            some = self._delete(
                f"WHERE seq IN (SELECT seq FROM requests WHERE {_UNPINNED} ORDER BY seq LIMIT ?)",  # noqa: S608
                (self._deleted_at_once,),
            )
            if not some:
                break
            deleted += some
        if deleted:
            self.give_back()
        return deleted

    def _since(self, now: Moment, seconds: float) -> list[Reading]:
        """Where each clock stood so long ago: this boot's by itself, others' by the wall clock."""
        return [
            Reading(clock.number, (now.boot if clock_id == now.clock else now.wall - clock.boot_at) - seconds)
            for clock_id, clock in self._all_clocks().items()
        ]

    def _delete(self, where: str, values: tuple[Any, ...]) -> int:
        with self.transaction():
            deleted: int = self._connection.execute(f"DELETE FROM requests {where}", values).rowcount  # noqa: S608
        return deleted

    # ---- reading -----------------------------------------------------------------------------------------------------

    def select(self, chosen: Selection, *, before: int | None = None, limit: int = -1) -> list[tuple[int, Finished]]:
        """Rows with their place, newest first; `before`: only those before this place."""
        where, values = self._condition(chosen)
        if before is not None:
            where, values = f"{where} AND seq < ?", [*values, before]
        return list(self._rows(f"{where} ORDER BY seq DESC LIMIT ?", (*values, limit)))

    def select_from(self, chosen: Selection, after: int, last: int, limit: int) -> list[tuple[int, Finished]]:
        """Rows with their place, oldest first, behind a place and up to another."""
        where, values = self._condition(chosen)
        return list(self._rows(f"{where} AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?", (*values, after, last, limit)))

    def _condition(self, chosen: Selection) -> tuple[str, list[Any]]:
        where, values = chosen.condition()
        if chosen.since is None:
            return where, values
        within, place = self._within(chosen.since)
        if place is None:
            return "0", []
        recent = " OR ".join(["0", *("(+clock = ? AND +finished_boot >= ?)" for _ in within)])
        return f"{where} AND seq >= ? AND ({recent})", [
            *values,
            place,
            *(part for reading in within for part in reading),
        ]

    def _within(self, since: Since) -> tuple[list[Reading], int | None]:
        """The clocks by which there are rows since then, and the place of the first of these rows."""
        query = "SELECT min(seq) FROM requests WHERE clock = ? AND finished_boot >= ?"
        readings = self._since(*since)
        places = [self._connection.execute(query, reading).fetchone()[0] for reading in readings]
        found = [(reading, place) for reading, place in zip(readings, places, strict=True) if place is not None]
        return [reading for reading, _ in found], min((place for _, place in found), default=None)

    def last(self) -> int:
        """The place of the newest row; 0: there is none."""
        (place,) = self._connection.execute("SELECT max(seq) FROM requests").fetchone()
        return place or 0

    def find(self, identity: str) -> Finished | None:
        """The request of an id."""
        return next((row for _, row in self._rows("id = ? ORDER BY seq DESC LIMIT 1", (identity,))), None)

    def company(self, row: Finished, limit: int) -> list[Finished]:
        """Requests of the same model that were in its batch while it was."""
        times, clock = row.timeline, self._all_clocks().get(row.clock)
        if times.admitted_ns is None or times.last_token_ns is None or clock is None:
            return []
        where = "clock = ? AND model = ? AND closed_ns BETWEEN ? AND ? AND received_ns < ? AND +id != ?"
        latest = times.last_token_ns + int(LATEST_SECONDS * 1e9)
        values = (clock.number, row.model, times.admitted_ns, latest, times.last_token_ns, row.id)
        found = self._rows(f"{where} ORDER BY closed_ns", values)
        beside = (other for _, other in found if _overlaps(row.timeline, other.timeline))
        return list(itertools.islice(beside, limit))

    def _rows(self, where: str, values: Iterable[Any]) -> Iterator[tuple[int, Finished]]:
        """`where` is in our own words; what others say is a value."""
        columns = f"(SELECT clock_id FROM clocks WHERE number = clock), {', '.join(_COLUMNS)}"  # noqa: S608
        query = f"SELECT seq, {columns} FROM requests WHERE {where}"  # noqa: S608
        for row in self._connection.execute(query, tuple(values)):
            yield row[0], _finished(row[1], row[2:])

    def more_than(self, rows: int, since: Since) -> bool:
        """Whether there are more rows since then."""
        query = "SELECT 1 FROM requests WHERE clock = ? AND finished_boot >= ? LIMIT ?"
        for reading in self._since(*since):
            rows -= len(self._connection.execute(query, (*reading, rows + 1)).fetchall())
            if rows < 0:
                return True
        return False

    def counted(self, since: Since, model: str | None) -> Iterator[tuple[str, Counted]]:
        """What a summary takes from each request since then, with its model."""
        columns = ("model", "outcome", "error", "gaps", *_USAGE, *_MEASURES)
        where = "clock = ?1 AND finished_boot >= ?2 AND (?3 IS NULL OR +model = ?3)"
        query = f"SELECT {', '.join(columns)} FROM requests WHERE {where}"  # noqa: S608
        tokens = 4 + len(_USAGE)
        for reading in self._since(*since):
            for row in self._connection.execute(query, (*reading, model)):
                usage, measures = core.Usage(*row[4:tokens]), Measures(*row[tokens:])
                yield row[0], Counted(row[1], row[2], usage, measures, _gaps.decode(row[3]))

    def hours(self, since: float, model: str | None) -> Iterator[tuple[str, Tally]]:
        """What is kept of each hour since then, with its model. `since`: wall clock."""
        return tallies.of_hours(self._connection, since, model)

    def minutes(self, since: Since, model: str | None) -> Iterator[tuple[str, Tally]]:
        """What is kept of each minute since then, with its model."""
        return tallies.of_minutes(self._connection, self._since(*since), model)


def counted(row: Finished) -> Counted:
    """What a summary takes from a request."""
    return Counted(row.outcome, row.error, row.usage, measured(row), gaps_of(row.timeline))


def _overlaps(times: core.Timeline, others: core.Timeline) -> bool:
    begin, end = times.admitted_ns, times.last_token_ns
    others_begin, others_end = others.admitted_ns, others.last_token_ns
    if begin is None or end is None or others_begin is None or others_end is None:
        return False
    return others_begin < end and begin < others_end


def _values(row: Finished, clock: int, count: Counted) -> tuple[Any, ...]:
    times, labels = row.timeline, row.labels
    details = zlib.compress(_packer.encode(Details(times, row.first, row.energy, row.texts)), 1)
    return (
        *(row.id, row.finished_at, row.model, row.provider, row.dialect, row.route, row.stream, row.outcome),
        *(row.status, row.error, row.choices, labels.client, labels.client_request_id, labels.run_id, clock),
        *(row.finished_boot, times.received_ns, times.closed_ns),
        *msgspec.structs.astuple(row.usage),
        *msgspec.structs.astuple(count.measures),
        _packer.encode(count.gaps),
        details,
    )


def _finished(clock: str, values: tuple[Any, ...]) -> Finished:
    row = dict(zip(_COLUMNS, values, strict=True))
    details = _unpacker.decode(zlib.decompress(row["details"]))
    return Finished(
        id=row["id"],
        model=row["model"],
        route=row["route"],
        outcome=row["outcome"],
        status=row["status"],
        error=row["error"],
        finished_at=row["finished_at"],
        timeline=details.timeline,
        usage=core.Usage(*(row[name] for name in _USAGE)),
        first=details.first,
        energy=details.energy,
        texts=details.texts,
        choices=row["choices"],
        provider=row["provider"],
        stream=bool(row["stream"]),
        labels=Labels(row["client"], row["client_request_id"], row["run_id"]),
        clock=clock,
        finished_boot=row["finished_boot"],
    )


# ---- opening ---------------------------------------------------------------------------------------------------------


def opened(path: Path | None, *, keep_seconds: float, keep_bytes: int) -> Database:
    """The file's database; a damaged file is moved aside. Where none can be written, one in memory."""
    open_file = functools.partial(Database, keep_seconds=keep_seconds, keep_bytes=keep_bytes)
    return sqlite_file.opened(path, open_file, "measurements")
