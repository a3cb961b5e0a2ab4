"""The file of all runs: SQLite with a write-ahead log. Anyone may read it; only a run's recorder writes its samples.

A commit survives the death of any process at any moment. Nothing that can be derived from samples is kept.
"""

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec
import psutil

from heylook_llm.bench.sample import (
    NOT_REACHED,
    SETTLED,
    Cell,
    CellState,
    Machine,
    Occurrence,
    Pair,
    Point,
    Run,
    RunState,
    Sample,
    Target,
)
from heylook_llm.bench.schema import MIGRATIONS
from heylook_llm.errors import ConfigError, InsufficientStorage, NotFound

VERSION: Final = len(MIGRATIONS)
BUSY_SECONDS: Final = 10.0
END_CHARACTERS: Final = 6
"""Of an id's end, that name a run."""
_COUNTED: Final = re.compile(r"@[1-9][0-9]{0,17}")
Row = TypeVar("Row", bound=msgspec.Struct)


class Store:
    """An open store. Each thread opens its own."""

    def __init__(self, path: Path) -> None:
        """Open it, or begin it. Raises ConfigError where it can't be used."""
        self.path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            self._prepare()
        except (OSError, sqlite3.Error, InsufficientStorage) as error:
            raise ConfigError(f"The store of runs {path} can't be used: {error}") from error

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("PRAGMA foreign_keys = ON")
        (version,) = run("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise ConfigError(f"A later version of heylookllm wrote {self.path}; this one can't read it.")
        if version < VERSION:
            self._migrate()

    def _migrate(self) -> None:
        with self._transaction():  # two commands may begin at once
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            for script in MIGRATIONS[version:]:
                for statement in filter(str.strip, script.split(";")):
                    self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {VERSION}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All that is written within, or nothing. Raises InsufficientStorage where it can't be kept now."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")  # which a full disk refuses, too
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise InsufficientStorage(f"The store of runs {self.path.name} can't be written: {error}.") from error

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- reading -----------------------------------------------------------------------------------------------------

    def runs(self, limit: int = -1) -> list[Run]:
        """The newest first."""
        return self._select(Run, "run", "1 ORDER BY created DESC, id DESC LIMIT ?", (limit,))

    def run(self, name: str) -> Run:
        """The run that a user means: an id, `last`, `@2` (the last but one), its name, or an id's end.

        Raises NotFound. Of several runs of one name it is the newest.
        """
        if name == "last":
            name = "@1"
        if _COUNTED.fullmatch(name) is not None:
            found = self._select(Run, "run", "1 ORDER BY created DESC, id DESC LIMIT 1 OFFSET ?", (int(name[1:]) - 1,))
        else:
            where = "id = ?1 OR name = ?1 OR (length(?1) >= ?2 AND substr(id, -length(?1)) = ?1)"
            order = "ORDER BY id = ?1 DESC, name IS ?1 DESC, created DESC LIMIT 1"
            found = self._select(Run, "run", f"{where} {order}", (name, END_CHARACTERS))
        if not found:
            raise NotFound(f"There is no run '{name[:100]}'; `heylookllm bench list` shows them.", code="run_not_found")
        return found[0]

    def cells(self, run_id: str) -> list[Cell]:
        """In the order of the run."""
        return self._select(Cell, "cell", "run_id = ? ORDER BY ordinal", (run_id,))

    def samples(self, run_id: str, cell_id: str | None = None) -> list[Sample]:
        """Of a run, or of one of its cells; in the order of ordinal and attempt within each cell."""
        if cell_id is not None:
            return self._select(Sample, "sample", "cell_id = ? ORDER BY ordinal, attempt", (cell_id,))
        order = "ORDER BY (SELECT ordinal FROM cell WHERE cell.id = cell_id), ordinal, attempt"
        return self._select(Sample, "sample", f"run_id = ? {order}", (run_id,))

    def samples_after(self, run_id: str, row: int, limit: int) -> list[tuple[int, Sample]]:
        """Samples of a run in the order in which they were committed, each with its place in that; from behind one."""
        columns = ", ".join(Sample.__struct_fields__)
        query = f"SELECT rowid, {columns} FROM sample WHERE run_id = ? AND rowid > ? ORDER BY rowid LIMIT ?"  # noqa: S608
        return [(found, Sample(*rest)) for found, *rest in self._connection.execute(query, (run_id, row, limit))]

    def first_start(self, run_id: str) -> int | None:
        """The stamp at which a run's first request was taken up."""
        (stamp,) = self._connection.execute("SELECT min(t_start) FROM sample WHERE run_id = ?", (run_id,)).fetchone()
        return None if stamp is None else int(stamp)

    def targets(self, run_id: str) -> dict[str, Target]:
        """The targets of a run's cells, by id."""
        where = "id IN (SELECT target_id FROM cell WHERE run_id = ?)"
        return {target.id: target for target in self._select(Target, "target", where, (run_id,))}

    def machine(self, machine_id: str) -> Machine | None:
        """Where a run ran."""
        return next(iter(self._select(Machine, "machine", "id = ?", (machine_id,))), None)

    def pairs(self, run_id: str) -> dict[str, list[Pair]]:
        """What servers measured, by the id of the sample."""
        found: dict[str, list[Pair]] = {}
        where = "sample_id IN (SELECT id FROM sample WHERE run_id = ?) ORDER BY source"
        for pair in self._select(Pair, "pair", where, (run_id,)):
            found.setdefault(pair.sample_id, []).append(pair)
        return found

    def series(self, run_id: str) -> list[Point]:
        """What was measured beside a run, by source, name and time."""
        return self._select(Point, "series", "run_id = ? ORDER BY source, name, t", (run_id,))

    def events(self, run_id: str, after: int = 0) -> list[Occurrence]:
        """What happened in a run behind a place in its order."""
        return self._select(Occurrence, "event", "run_id = ? AND seq > ? ORDER BY seq", (run_id, after))

    def happened(self, after: int) -> list[Occurrence]:
        """What happened in any run behind a place in the order of all events."""
        return self._select(Occurrence, "event", "seq > ? ORDER BY seq", (after,))

    def last_event(self) -> int:
        """The place of what happened last; 0: nothing did."""
        (seq,) = self._connection.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()
        return int(seq)

    def warnings(self, run_id: str) -> list[str]:
        """What a run's recorder had to say, in its order."""
        return [json.loads(event.data_json)["text"] for event in self.events(run_id) if event.type == "warning"]

    def settled(self, cell_id: str) -> set[int]:
        """The ordinals that needn't be sent again."""
        marks, lost = (", ".join("?" * len(words)) for words in (SETTLED, NOT_REACHED))
        query = (
            f"SELECT DISTINCT ordinal FROM sample WHERE cell_id = ? AND outcome IN ({marks}) "  # noqa: S608
            f"AND coalesce(error_class, '') NOT IN ({lost})"
        )
        values = (cell_id, *sorted(SETTLED), *sorted(NOT_REACHED))
        return {ordinal for (ordinal,) in self._connection.execute(query, values)}

    def attempts(self, cell_id: str) -> dict[int, int]:
        """How many samples an ordinal has, of those that have any."""
        query = "SELECT ordinal, max(attempt) + 1 FROM sample WHERE cell_id = ? GROUP BY ordinal"
        return dict(self._connection.execute(query, (cell_id,)).fetchall())

    def sample_count(self, run_id: str) -> int:
        """How many samples a run has."""
        (count,) = self._connection.execute("SELECT count(*) FROM sample WHERE run_id = ?", (run_id,)).fetchone()
        return int(count)

    def outcomes(self, run_id: str) -> dict[str, dict[str, int]]:
        """Cell -> outcome -> how many of its measured requests ended so, each counted by its last attempt."""
        query = (
            "SELECT cell_id, outcome, count(*) FROM (SELECT cell_id, outcome, max(attempt) FROM sample "
            "WHERE run_id = ? AND phase = 'measure' GROUP BY cell_id, ordinal) GROUP BY cell_id, outcome"
        )
        found: dict[str, dict[str, int]] = {}
        for cell_id, outcome, count in self._connection.execute(query, (run_id,)):
            found.setdefault(cell_id, {})[outcome] = count
        return found

    def baseline(self, name: str) -> Run:
        """The run that a baseline names. Raises NotFound."""
        found = self._select(Run, "run", "id = (SELECT run_id FROM baseline WHERE name = ?)", (name,))
        if not found:
            raise NotFound(f"There is no baseline '{name[:100]}'.", code="baseline_not_found")
        return found[0]

    def baselines(self) -> dict[str, str]:
        """Name -> id of the run."""
        return dict(self._connection.execute("SELECT name, run_id FROM baseline ORDER BY name").fetchall())

    def artifacts(self, run_id: str) -> list[tuple[str, str, str]]:
        """(kind, path, sha256) of the files made of a run."""
        query = "SELECT kind, path, sha256 FROM artifact WHERE run_id = ? ORDER BY path"
        return self._connection.execute(query, (run_id,)).fetchall()

    def _select(self, kind: type[Row], table: str, where: str, values: tuple[Any, ...]) -> list[Row]:
        """`where` is in our own words; what others say is a value."""
        query = f"SELECT {', '.join(kind.__struct_fields__)} FROM {table} WHERE {where}"  # noqa: S608
        read = _READERS.get(kind)
        rows: Iterable[tuple[Any, ...]] = self._connection.execute(query, values)
        return [kind(*(read(row) if read else row)) for row in rows]

    # ---- writing -----------------------------------------------------------------------------------------------------

    def create(self, run: Run, machine: Machine, targets: Iterable[Target], cells: Iterable[Cell]) -> None:
        """Keep a new run with its cells, together."""
        with self._transaction():
            self._insert("machine", [machine], "OR REPLACE")
            self._insert("target", targets, "OR IGNORE")  # an id is of its content
            self._insert("run", [run])
            self._insert("cell", cells)
            self._event(run.id, run.created, "run.state", {"state": run.state})

    def set_run(self, run_id: str, wall: float, state: RunState | None = None, **changes: Any) -> None:
        """Change a run; a new state is also an event. Columns are those of Run."""
        with self._transaction():
            self._update("run", run_id, changes if state is None else {**changes, "state": state})
            if state is not None:
                self._event(run_id, wall, "run.state", {"state": state})

    def take_up(self, seen: Run, wall: float, state: RunState, **changes: Any) -> Run | None:
        """Change a run from how it was seen; None: somebody else was quicker, and it is another by now."""
        with self._transaction():
            now = next(iter(self._select(Run, "run", "id = ?", (seen.id,))), None)
            if now is None or (now.state, now.pid, now.pid_started) != (seen.state, seen.pid, seen.pid_started):
                return None
            self._update("run", seen.id, {**changes, "state": state})
            self._event(seen.id, wall, "run.state", {"state": state})
        return self.run(seen.id)

    def set_cell(self, cell: Cell, wall: float, state: CellState | None = None, **changes: Any) -> None:
        """Change a cell; a new state is also an event. Columns are those of Cell."""
        with self._transaction():
            self._update("cell", cell.id, changes if state is None else {**changes, "state": state})
            if state is not None:
                self._event(cell.run_id, wall, "cell.state", {"cell": cell.ordinal, "state": state})

    def beat(self, run_id: str, wall: float) -> bool:
        """Say that the run lives; whether somebody asked to cancel it."""
        query = "UPDATE run SET heartbeat = ? WHERE id = ? RETURNING cancel_requested"
        with self._transaction():
            found = self._connection.execute(query, (wall, run_id)).fetchall()
        return not found or bool(found[0][0])  # a deleted run is cancelled, too

    def add_samples(self, samples: Iterable[Sample]) -> int:
        """Commit samples, together; how many were new: another of the same cell, ordinal and attempt is left out."""
        with self._transaction():
            return self._insert("sample", samples, "OR IGNORE")

    def add_pairs(self, pairs: Iterable[Pair]) -> int:
        """Commit what servers measured; the newest of a source stays."""
        with self._transaction():
            return self._insert("pair", pairs, "OR REPLACE")

    def add_series(self, run_id: str, points: Iterable[Point]) -> None:
        """Commit values measured beside a run."""
        rows = [(run_id, point.t, point.source, point.name, point.value) for point in points]
        with self._transaction():
            self._connection.executemany("INSERT INTO series VALUES (?, ?, ?, ?, ?)", rows)

    def add_event(self, run_id: str, wall: float, kind: str, data: dict[str, Any]) -> int:
        """Commit what happened; its place in the order of all events."""
        with self._transaction():
            return self._event(run_id, wall, kind, data)

    def note_progress(self, run_id: str, wall: float, data: dict[str, Any]) -> None:
        """Commit how far a run is; what was said of it before says nothing more, so the log stays short."""
        with self._transaction():
            self._connection.execute("DELETE FROM event WHERE run_id = ? AND type = 'progress'", (run_id,))
            self._event(run_id, wall, "progress", data)

    def add_artifact(self, run_id: str, kind: str, path: str, sha256: str) -> None:
        """Note a file made of a run."""
        with self._transaction():
            self._connection.execute("REPLACE INTO artifact VALUES (?, ?, ?, ?)", (run_id, kind, path, sha256))

    def set_baseline(self, name: str, run_id: str) -> None:
        """Call a run a baseline."""
        with self._transaction():
            self._connection.execute("REPLACE INTO baseline VALUES (?, ?)", (name, run_id))

    def request_cancel(self, run_id: str) -> None:
        """Ask a run's recorder to end it; it looks with every beat."""
        with self._transaction():
            self._update("run", run_id, {"cancel_requested": True})

    def delete(self, run_id: str) -> None:
        """Forget a run with all that belongs to it."""
        with self._transaction():
            self._connection.execute("DELETE FROM run WHERE id = ?", (run_id,))

    def interrupt_if_dead(self, run: Run, alive: bool, wall: float) -> Run:
        """A run that says it goes on, although its process is gone, was interrupted."""
        if alive or not run.goes_on:
            return run
        self.set_run(run.id, wall, "interrupted", ended=run.heartbeat or wall)
        return self.run(run.id)

    def _insert(self, table: str, rows: Iterable[msgspec.Struct], conflict: str = "") -> int:
        rows = list(rows)
        if not rows:
            return 0
        columns = rows[0].__struct_fields__
        before = self._connection.total_changes
        into = f"INSERT {conflict} INTO {table} ({', '.join(columns)})"
        self._connection.executemany(f"{into} VALUES ({', '.join('?' * len(columns))})", map(_written, rows))
        return self._connection.total_changes - before

    def _update(self, table: str, row_id: str, changes: dict[str, Any]) -> None:
        if not changes:
            return
        sets = ", ".join(f"{name} = ?" for name in changes)
        values = [_value(value) for value in changes.values()]
        self._connection.execute(f"UPDATE {table} SET {sets} WHERE id = ?", (*values, row_id))  # noqa: S608

    def _event(self, run_id: str, wall: float, kind: str, data: dict[str, Any]) -> int:
        query = "INSERT INTO event (run_id, wall, type, data_json) VALUES (?, ?, ?, ?)"
        return self._connection.execute(query, (run_id, wall, kind, json.dumps(data))).lastrowid or 0


def alive(run: Run) -> bool:
    """Whether the process that executes a run is there: its number and when it began must both agree."""
    if run.pid is None or run.pid_started is None:
        return False
    try:
        return abs(psutil.Process(run.pid).create_time() - run.pid_started) < 1
    except psutil.Error:
        return False


def _written(row: msgspec.Struct) -> tuple[Any, ...]:
    return tuple(map(_value, msgspec.structs.astuple(row)))


def _value(value: Any) -> Any:
    """A tuple of strings is kept as JSON."""
    return json.dumps(value) if isinstance(value, tuple) else value


def _reader(kind: type[msgspec.Struct], **read: Any) -> Any:
    """A row with some columns read in another way."""
    changed = [(kind.__struct_fields__.index(name), how) for name, how in read.items()]

    def reading(row: tuple[Any, ...]) -> list[Any]:
        values = list(row)
        for place, how in changed:
            values[place] = how(values[place])
        return values

    return reading


def _strings(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


_READERS: Final[dict[type[msgspec.Struct], Any]] = {
    Run: _reader(Run, cancel_requested=bool),
    Cell: _reader(Cell, flags=_strings),
    Target: _reader(Target, skip_params=_strings),
}
