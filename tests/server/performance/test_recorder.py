"""The database of finished requests: what is recorded is kept, within limits, whatever becomes of the file."""

import asyncio
import random
import sqlite3
import threading
from pathlib import Path

import pytest

from heylook_llm.errors import EngineError, Overloaded
from heylook_llm.server.performance.database import Database
from heylook_llm.server.performance.record import Finished, Labels
from heylook_llm.server.performance.recorder import Recorder
from heylook_llm.server.performance.selection import Selection
from tests.server.recording import at, finished, held, timeline

pytestmark = pytest.mark.unit

HOUR = 3600.0


def rows(database: Database) -> list[tuple[int, Finished]]:
    """All, newest first."""
    return database.select(Selection())


def ids(recorder: Recorder) -> list[str]:
    """Of all that is recorded, oldest first."""
    return [row.id for _, row in reversed(recorder.question(rows).result(10))]


def sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with a file."""
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    finally:
        connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "performance.sqlite3"


@pytest.mark.parametrize("kept", [True, False])
async def test_a_row_comes_back_as_it_was(path: Path, kept: bool) -> None:
    recorder = Recorder(path if kept else None)
    labels = Labels("bench", "mine-1", "run-7")
    given = [
        finished(1, timeline=timeline(5, load=True), labels=labels, stream=True, choices=2),
        finished(2, outcome="error", error="worker_died", status=500, provider=None, route="/api/chat"),
    ]
    for row in given:
        recorder.record(row)
    found = [row for _, row in await recorder.ask(rows)]
    assert found == [given[1], given[0]]
    assert [row.dialect for row in found] == ["ollama", "openai"]
    recorder.close()
    assert _private_and_sound(path) is kept


def _private_and_sound(path: Path) -> bool:
    return path.exists() and path.stat().st_mode & 0o077 == 0 and sound(path)


def test_what_was_recorded_outlives_the_server(path: Path) -> None:
    first = Recorder(path)
    for number in range(3):
        first.record(finished(number))
    first.close()
    second = Recorder(path)
    second.record(finished(3))
    assert ids(second) == [finished(number).id for number in range(4)]
    second.close()


def test_two_servers_may_share_a_file(path: Path) -> None:
    recorders = [Recorder(path) for _ in range(2)]

    def record(at: int) -> None:
        for number in range(200):
            recorders[at].record(finished(1000 * at + number))

    threads = [threading.Thread(target=record, args=(at,)) for at in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for recorder in recorders:
        recorder.close()
    assert len(ids(Recorder(path))) == 400


@pytest.mark.parametrize("damage", ["no database", "cut", "scrambled"])
def test_a_damaged_file_is_moved_aside(path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(path)
    for number in range(300):
        recorder.record(finished(number))
    recorder.close()
    content = bytearray(path.read_bytes())
    if damage == "no database":
        content = bytearray(b"This is no database. " * 500)
    elif damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[4096 : 4096 * 8] = random.Random(1).randbytes(4096 * 7)
    path.write_bytes(content)
    anew = Recorder(path)
    anew.record(finished(1000))
    assert ids(anew) == [finished(1000).id]
    anew.close()
    (aside,) = path.parent.glob("performance.sqlite3.damaged-*")
    assert aside.read_bytes() == content
    assert f"it is now {aside.name}" in caplog.text


def test_damage_while_it_runs_costs_no_new_row(path: Path) -> None:
    recorder = Recorder(path)
    recorder.record(finished(1))
    assert len(ids(recorder)) == 1
    for name in (path, path.with_name(path.name + "-wal")):
        with name.open("r+b") as file:
            file.write(b"\xff" * 8192)
    recorder.record(finished(2))
    try:
        ids(recorder)
    except EngineError:  # a question may be the first to meet the damage
        recorder.record(finished(3))
    recorder.close()
    again = Recorder(path)
    again.record(finished(4))
    assert finished(4).id in ids(again)
    again.close()
    assert sound(path)


def test_a_file_of_another_version_is_left_alone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    recorder = Recorder(path)
    recorder.record(finished(1))
    assert len(ids(recorder)) == 1
    recorder.close()
    assert path.read_bytes() == before
    assert "another version" in caplog.text


def test_where_nothing_can_be_written_memory_keeps_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").write_text("a file, not a folder")
    recorder = Recorder(tmp_path / "state" / "performance.sqlite3")
    recorder.record(finished(1))
    assert len(ids(recorder)) == 1
    recorder.close()
    assert "kept in memory" in caplog.text


def test_what_a_locked_file_keeps_out_is_written_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heylook_llm.server.sqlite_file.BUSY_SECONDS", 0.01)
    recorder = Recorder(path)
    recorder.record(finished(1))
    assert len(ids(recorder)) == 1
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    recorder.record(finished(2))
    assert len(ids(recorder)) == 1
    other.execute("ROLLBACK")
    other.close()
    recorder.record(finished(3))
    assert ids(recorder) == [finished(number).id for number in (1, 2, 3)]
    assert recorder.dropped == 0
    recorder.close()


def test_a_full_queue_drops_and_counts_and_never_waits() -> None:
    recorder = Recorder(capacity=2)
    with held(recorder):
        for number in range(5):
            recorder.record(finished(number))
        assert recorder.dropped == 3
        with pytest.raises(Overloaded):
            recorder.question(rows)
    while (kept := unless_overloaded(recorder)) is None:
        continue
    assert len(kept) == 2
    recorder.close()


def unless_overloaded(recorder: Recorder) -> list[str] | None:
    """The ids of what is kept; None while there is no place for a question."""
    try:
        return ids(recorder)
    except Overloaded:
        return None


def test_rows_alone_are_written_within_a_moment(path: Path) -> None:
    recorder = Recorder(path)
    recorder.record(finished(1))
    other = Recorder(path)
    while not ids(other):
        continue
    other.close()
    recorder.close()


async def test_who_left_before_the_answer_ends_nothing() -> None:
    recorder = Recorder()
    with held(recorder):
        waiting = asyncio.ensure_future(recorder.ask(rows))
        await asyncio.sleep(0)
        waiting.cancel()
    assert await recorder.ask(rows) == []
    recorder.close()


async def test_a_mistaken_question_ends_only_itself() -> None:
    recorder = Recorder()

    def mistaken(database: Database) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await recorder.ask(mistaken)
    assert await recorder.ask(rows) == []
    recorder.close()


# ---- limits ----------------------------------------------------------------------------------------------------------


def database(keep_bytes: int = 1 << 30) -> Database:
    return Database(None, keep_seconds=HOUR, keep_bytes=keep_bytes)


def test_what_is_too_old_goes_but_pinned_runs_stay() -> None:
    found = database()
    found.write(
        [
            finished(1, finished_at=0.0),
            finished(2, finished_at=0.0, labels=Labels(run_id="kept")),
            finished(3, finished_at=0.0, labels=Labels(run_id="other")),
            finished(4, finished_at=HOUR),
        ]
    )
    found.pin("kept", True)
    assert found.pinned() == {"kept"}
    assert found.trim(at(HOUR + 1)) == 2
    assert [row.id for _, row in rows(found)] == [finished(4).id, finished(2).id]
    found.pin("kept", False)
    assert found.trim(at(HOUR + 1)) == 1


def big(number: int) -> Finished:
    """A row whose details can't be packed well."""
    noise = random.Random(number)
    labels = Labels("c" * 128, f"{noise.getrandbits(400):x}", "run" if number % 10 == 0 else None)
    return finished(number, labels=labels, finished_at=HOUR)


def test_the_oldest_make_room(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    limit = 8 << 20
    found = Database(path, keep_seconds=HOUR, keep_bytes=limit)
    found.pin("run", True)
    for start in range(0, 10_000, 1000):
        found.write([big(number) for number in range(start, start + 1000)])
        if found.full:
            found.trim(at(HOUR))
        assert path.stat().st_size <= limit
    kept = [int(row.id.removeprefix("req_"), 16) for _, row in rows(found)]
    assert kept[0] == 9_999
    assert set(range(0, 10_000, 10)) <= set(kept)
    assert 7_500 > len(kept) > 5_000
    found.close()
    assert path.stat().st_size <= limit


def test_clearing_spares_pinned_runs() -> None:
    found = database()
    found.write([big(number) for number in range(20)])
    found.pin("run", True)
    assert found.clear() == 18
    assert len(rows(found)) == 2
