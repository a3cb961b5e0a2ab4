"""Windows: what they hold, however the clocks go, and what asking for it costs."""

import functools
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.server.app import create_app
from heylook_llm.server.endpoint import Options
from heylook_llm.server.performance import windows
from heylook_llm.server.performance.database import Database
from heylook_llm.server.performance.histogram import percentiles_of_samples
from heylook_llm.server.performance.record import Finished, Labels, Moment
from heylook_llm.server.performance.recorder import Recorder
from heylook_llm.server.performance.selection import RAREST_FIRST, Selection, Since
from heylook_llm.server.performance.windows import WINDOWS, Window, summary
from tests.server.asgi import call
from tests.server.recording import CLOCK, MS, at, finished, timeline
from tests.server.scripted import ScriptedBackend

pytestmark = pytest.mark.unit

HOUR = 3600.0
NOON = 1_000_000 * HOUR + 1800.0
"""Somewhere within an hour."""
SHORT: tuple[Window, ...] = ("1m", "5m", "1h")
ASKED = {"model": "scripted", "messages": [{"role": "user", "content": "Hello"}]}


class Clocks:
    """Two clocks that a test moves."""

    def __init__(self) -> None:
        self._now = at(NOON, 5000.0)

    def __call__(self) -> Moment:
        return self._now

    def go_on(self, seconds: float) -> None:
        """Time passes."""
        self._now = self._now._replace(wall=self._now.wall + seconds, boot=self._now.boot + seconds)

    def set_wall(self, seconds: float) -> None:
        """Someone sets the wall clock, so much later."""
        self._now = self._now._replace(wall=self._now.wall + seconds)


def memory() -> Database:
    return Database(None, keep_seconds=1000 * HOUR, keep_bytes=1 << 30)


def row(number: int, now: Moment, **more: Any) -> Finished:
    return finished(number, finished_at=now.wall, finished_boot=now.boot, clock=now.clock, **more)


def counts(database: Database, now: Moment) -> dict[Window, int]:
    """Requests of each window."""
    models = {window: summary(window, now)(database)["models"] for window in WINDOWS}
    return {window: found["fake"]["count"] if found else 0 for window, found in models.items()}


# ---- clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-HOUR, HOUR])
async def test_a_step_of_the_wall_clock_moves_no_request_and_no_duration(step: float) -> None:
    clocks = Clocks()
    app = create_app(ScriptedBackend(), Options(recorder=Recorder(now=clocks)))
    spans = []
    for pause in (30.0, 0.0, 20.0):
        begin = time.monotonic_ns()
        assert (await call(app, "POST", "/v1/chat/completions", ASKED)).status == 200
        spans.append((begin, time.monotonic_ns()))
        clocks.go_on(pause)
        if len(spans) == 1:
            clocks.set_wall(step)

    async def ids(window: str) -> list[str]:
        page = (await call(app, "GET", f"/v1/performance/requests?window={window}")).json
        return [told["id"] for told in page["data"]]

    async def count(window: str) -> int:
        models = (await call(app, "GET", f"/v1/performance?window={window}")).json["models"]
        return int(models["org/scripted"]["count"]) if models else 0

    everything = await ids("7d")
    assert len(set(everything)) == len(everything) == 3
    assert [await count(window) for window in WINDOWS] == [3] * 5
    clocks.go_on(15.0)  # the first is 65 s old
    assert [await ids(window) for window in WINDOWS] == [everything[:2], *[everything] * 4]
    assert [await count(window) for window in WINDOWS] == [2, 3, 3, 3, 3]
    clocks.go_on(HOUR)
    assert [await count(window) for window in WINDOWS] == [0, 0, 0, 3, 3]
    exported = (await call(app, "GET", "/v1/performance/export?window=24h")).json
    assert [told["id"] for told in exported] == everything[::-1]
    for told, (begin, end) in zip(exported, spans, strict=True):
        times = told["timeline"]
        assert begin <= times["received_ns"] <= times["closed_ns"] <= end
        assert 0 < told["e2e_ms"] <= (end - begin) / MS
        assert sum(told["phases_ms"].values()) == pytest.approx(told["e2e_ms"], abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_each_request_counts_once_while_it_is_young_enough(seed: int) -> None:
    chance, clocks, database, booted = random.Random(seed), Clocks(), memory(), list[float]()
    away = 0.0
    for number in range(150):
        clocks.go_on(chance.choice((0.5, 5.0, 40.0, 200.0)))
        if chance.random() < 0.2:
            step = chance.choice((-HOUR, HOUR)) if away == 0 else -away
            away += step
            clocks.set_wall(step)
        now = clocks()
        database.write([row(number, now)])
        booted.append(now.boot)
        young = [sum(now.boot - then <= windows.SECONDS[window] for then in booted) for window in WINDOWS]
        assert list(counts(database, now).values()) == young


def test_what_was_before_a_boot_is_aged_by_the_wall_clock() -> None:
    database = memory()
    before = Moment(NOON - 200, 90_000.0, "an earlier boot")
    long_before = Moment(NOON - 2 * HOUR, 50.0, "the boot before")
    now = at(NOON, 100.0)
    database.write([row(1, long_before), row(2, before), row(3, at(NOON - 10, 90.0))])
    assert counts(database, now) == {"1m": 1, "5m": 2, "1h": 2, "24h": 3, "7d": 3}
    found = database.select(Selection(since=Since(now, 300)))
    assert [one.id for _, one in found] == [finished(3).id, finished(2).id]
    assert [one.clock for _, one in found] == [CLOCK, "an earlier boot"]


def test_a_clock_set_right_after_boot_is_right_for_what_was_before() -> None:
    database = memory()
    database.write([row(1, at(100.0, 100.0))])  # a machine without a battery boots in 1970
    database.write([row(2, at(NOON, 160.0))])
    after = Moment(NOON + 60, 20.0, "the next boot")
    assert counts(database, after)["5m"] == 2


def test_retention_survives_a_wrong_wall_clock() -> None:
    database = Database(None, keep_seconds=HOUR, keep_bytes=1 << 30)
    database.write([row(1, at(NOON, 100.0))])
    assert database.trim(at(NOON + 10_000 * HOUR, 160.0)) == 0
    assert database.trim(at(NOON, 101.0 + HOUR)) == 1


# ---- many ------------------------------------------------------------------------------------------------------------


def varied(number: int, now: Moment, chance: random.Random, **more: Any) -> Finished:
    """A request of a random duration."""
    output = chance.randint(2, 40)
    times = timeline(number * MS, output=output)
    usage = core.Usage(prompt_tokens=7, output_tokens=output)
    return row(number, now, **{"timeline": times, "first": usage, "usage": usage} | more)


@pytest.mark.parametrize("window", SHORT)
def test_many_requests_are_summed_up_from_minutes(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    chance, clocks, database, rows = random.Random(window), Clocks(), memory(), list[tuple[float, Finished]]()
    for number in range(300):
        clocks.go_on(chance.uniform(0, 30))
        one = varied(number, clocks(), chance)
        rows.append((clocks().boot, one))
        database.write([one])
    now = clocks()
    exact = summary(window, now)(database)
    assert (exact["method"], exact["relative_error"]) == ("samples", None)
    monkeypatch.setattr(windows, "MOST_SAMPLES", 1)
    found = summary(window, now)(database)
    assert (found["method"], found["relative_error"]) == ("histogram", 0.01)
    begin = now.boot - (now.wall - found["from"])
    assert (begin + 0.01) % 60 == pytest.approx(0.01, abs=1e-3)
    assert 0 <= (now.boot - begin) - windows.SECONDS[window] < 60
    inside = [one for boot, one in rows if boot >= begin - 1e-3]
    told = found["models"]["fake"]
    assert told["count"] == len(inside)
    assert told["tokens"]["output_tokens"] == sum(one.usage.output_tokens for one in inside)
    spans = [((one.timeline.closed_ns or 0) - (one.timeline.received_ns or 0)) / MS for one in inside]
    _, percentiles = percentiles_of_samples(spans)
    for name, value in percentiles.items():
        if value is not None:
            assert told["e2e_ms"][name] == pytest.approx(value, rel=0.01)
    assert told["itl_ms"] == exact["models"]["fake"]["itl_ms"] or told["count"] != exact["models"]["fake"]["count"]


def test_minutes_are_forgotten() -> None:
    database, now = memory(), at(NOON, 50_000.0)
    database.write([row(1, at(NOON - 3 * HOUR, 50_000 - 3 * HOUR)), row(2, now)])
    database.trim(now)
    assert [tally.count for _, tally in database.minutes(Since(now, 10 * HOUR), None)] == [1]
    assert sum(tally.count for _, tally in database.hours(NOON - 10 * HOUR, None)) == 2


# ---- what asking costs -----------------------------------------------------------------------------------------------


class Traced(sqlite3.Connection):
    """A connection that remembers what it was asked."""

    said: list[str]

    def watch(self) -> None:
        """From now on."""
        self.said = []
        self.set_trace_callback(self.said.append)


@pytest.fixture
def traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Database, Traced]:
    """A database with some rows of each kind, and its connection."""
    opened: list[Traced] = []

    class Watched(Traced):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            opened.append(self)

    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Watched))
    (path := tmp_path / "performance.sqlite3").touch()
    database = Database(path, keep_seconds=HOUR, keep_bytes=1 << 30)
    labels = [Labels(), Labels(client="bench"), Labels("bench", "mine", "run")]
    database.write([row(n, at(NOON + n, 5000.0 + n), labels=labels[n % 3], outcome="done") for n in range(100)])
    opened[0].watch()
    return database, opened[0]


def plans(connection: Traced) -> list[str]:
    """How SQLite finds the requests that it was asked for."""
    connection.set_trace_callback(None)
    asked = [text for text in connection.said if "FROM requests" in text]
    assert asked
    return [step for text in asked for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {text}")]


NOW = at(NOON + 100, 5100.0)
LABELS: dict[str, Any] = {
    "model": "fake",
    "outcome": "error",
    "run_id": "run",
    "client": "bench",
    "client_request_id": "mine",
}
READS: dict[str, Callable[[Database], Any]] = {
    **{f"summary {window}": summary(window, NOW) for window in SHORT},
    **{f"summary {window} of a model": summary(window, NOW, "fake") for window in SHORT},
    "one": lambda database: database.find("req_1"),
    "company": lambda database: database.company(varied(1, NOW, random.Random(1)), 100),
    "its like": lambda database: database.select(Selection(model="fake", outcome="done"), limit=200),
    **{
        f"page by {' and '.join(names)}{' since' if since else ''}": functools.partial(
            Database.select,
            chosen=Selection(**{name: LABELS[name] for name in names}, since=since),
            limit=100,
            before=90,
        )
        for names in (*RAREST_FIRST, ("run_id", "outcome"), ("client", "model", "outcome"))
        for since in (None, Since(NOW, 300))
    },
    **{
        f"export by {' and '.join(names)}": functools.partial(
            Database.select_from, chosen=Selection(**{name: LABELS[name] for name in names}), after=3, last=90, limit=50
        )
        for names in RAREST_FIRST
    },
    "page since": functools.partial(Database.select, chosen=Selection(since=Since(NOW, 300)), limit=100),
    "export": functools.partial(Database.select_from, chosen=Selection(), after=3, last=90, limit=50),
}


@pytest.mark.parametrize("name", READS)
def test_no_question_reads_the_whole_table(traced: tuple[Database, Traced], name: str) -> None:
    database, connection = traced
    found = READS[name](database)
    steps = plans(connection)
    assert steps
    assert all(step.startswith(("SEARCH requests", "SEARCH clocks", "CORRELATED")) for step in steps), steps
    by = name.removeprefix("page by ").removeprefix("export by ").partition(" since")[0].split(" and ")
    if name.startswith(("page by", "export by")):
        rarest = next(names for names in RAREST_FIRST if set(names) <= set(by))
        index = steps[-3].partition("INDEX ")[2].partition(" ")[0]  # before the two of the clock's name
        assert index in {"requests_by_" + word for word in INDEX_OF[rarest]}, steps
    assert found is not None or name == "one"


INDEX_OF = {
    ("client_request_id",): ("name",),
    ("run_id",): ("run",),
    ("client",): ("client",),
    ("model", "outcome"): ("end",),
    ("outcome",): ("outcome",),
    ("model",): ("model",),
}
