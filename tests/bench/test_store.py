"""The store of runs: what was committed is read again as it was, whatever died in between."""

import multiprocessing
import multiprocessing.connection
import sqlite3
from pathlib import Path

import pytest

from heylook_llm.bench.sample import (
    Pair,
    Point,
    Sample,
    new_id,
    packed_stamps,
    packed_tokens,
    stamps_of,
    tokens_of,
)
from heylook_llm.bench.store import Store
from heylook_llm.errors import ConfigError, NotFound
from tests.bench.records import MACHINE, TARGET, cell, run, sample

pytestmark = pytest.mark.unit

BIG = (1 << 62) + 1


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "bench.sqlite3")
    made.create(run(), MACHINE, [TARGET], [cell()])
    return made


def test_what_is_written_is_read_again_field_by_field(store: Store) -> None:
    full = sample(
        3,
        1,
        **{name: BIG for name in Sample.__struct_fields__ if name.startswith("t_")},
        chunk_times=packed_stamps([BIG, BIG + 7]),
        chunk_tokens=packed_tokens([1, 4_000_000_000]),
        in_planned=0,
        extra_json='{"timings": {}}',
        outcome="error",
        error_class="reset",
    )
    store.create(run("run-2", created=2.0, name="night", cancel_requested=True), MACHINE, [], [])
    assert store.add_samples([full, sample(0)]) == 2
    assert store.samples("run-1") == [sample(0), full]
    assert store.samples("run-1", "cell-1") == [sample(0), full]
    assert list(stamps_of(full)) == [BIG, BIG + 7]
    assert list(tokens_of(full)) == [1, 4_000_000_000]
    assert store.cells("run-1") == [cell()]
    assert store.targets("run-1") == {TARGET.id: TARGET}
    assert store.machine("machine") == MACHINE
    assert store.run("run-2").cancel_requested is True


def test_a_sample_is_kept_once(store: Store) -> None:
    assert store.add_samples([sample(0), sample(1)]) == 2
    assert store.add_samples([sample(1, id="other", outcome="error"), sample(2)]) == 1
    assert [one.outcome for one in store.samples("run-1")] == ["ok", "ok", "ok"]
    assert [one.ordinal for one in store.samples("run-1")] == [0, 1, 2]


def test_what_a_resumed_run_sends_again(store: Store) -> None:
    ended = ("ok", "error", "cut", "cancelled", "cut")
    store.add_samples([sample(ordinal, outcome=outcome) for ordinal, outcome in enumerate(ended)])
    store.add_samples([sample(4, 1)])
    assert store.settled("cell-1") == {0, 1, 4}
    assert store.attempts("cell-1") == {0: 1, 1: 1, 2: 1, 3: 1, 4: 2}


def test_runs_by_what_users_call_them(store: Store) -> None:
    store.create(run("01ABCDEFGH", created=2.0, name="night"), MACHINE, [], [])
    store.create(run("01ABCDEXYZ", created=3.0, name="night"), MACHINE, [], [])
    assert [found.id for found in store.runs()] == ["01ABCDEXYZ", "01ABCDEFGH", "run-1"]
    assert len(store.runs(1)) == 1
    expected = {
        "last": "01ABCDEXYZ",
        "@1": "01ABCDEXYZ",
        "@2": "01ABCDEFGH",
        "@3": "run-1",
        "night": "01ABCDEXYZ",
        "CDEFGH": "01ABCDEFGH",
        "01ABCDEFGH": "01ABCDEFGH",
    }
    assert {name: store.run(name).id for name in expected} == expected
    for unknown in ("@0", "@4", "@" + "9" * 20, "@" + "9" * 5000, "FGH", "%", "______", "nobody", ""):
        with pytest.raises(NotFound):
            store.run(unknown)


def test_of_a_run_s_progress_the_log_keeps_the_last(store: Store) -> None:
    store.create(run("run-2"), MACHINE, [], [])
    for done in range(3):
        store.note_progress("run-2", 5.0, {"done": done})
        store.note_progress("run-1", 5.0 + done, {"done": done})
    last = store.last_event()
    for name in ("run-1", "run-2"):
        kept = [(one.type, one.data_json) for one in store.events(name)][1:]
        assert kept == [("progress", '{"done": 2}')]
    store.note_progress("run-1", 9.0, {"done": 3})
    assert [one.data_json for one in store.happened(last)] == ['{"done": 3}'], "it comes behind all that was read"


def test_states_are_events_in_order(store: Store) -> None:
    store.set_run("run-1", 5.0, "done", ended=5.0)
    store.set_cell(cell(), 6.0, "done", window_end=9, flags=("client-limited",))
    place = store.add_event("run-1", 7.0, "warning", {"text": "slow"})
    events = store.events("run-1")
    assert [(one.type, one.wall) for one in events] == [
        ("run.state", 1.0),
        ("run.state", 5.0),
        ("cell.state", 6.0),
        ("warning", 7.0),
    ]
    assert [one.seq for one in events] == sorted({one.seq for one in events})
    assert store.events("run-1", after=place - 1) == events[-1:]
    assert store.run("run-1").ended == 5.0
    assert store.cells("run-1")[0].flags == ("client-limited",)


def test_a_run_hears_that_it_is_cancelled_or_deleted(store: Store) -> None:
    assert store.beat("run-1", 2.0) is False
    store.request_cancel("run-1")
    assert store.beat("run-1", 3.0) is True
    assert store.run("run-1").heartbeat == 3.0
    assert store.beat("gone", 3.0) is True


def test_deleting_a_run_deletes_what_belongs_to_it(store: Store, tmp_path: Path) -> None:
    store.create(run("run-2"), MACHINE, [], [cell("cell-2", run_id="run-2")])
    store.add_samples([sample(0), sample(0, run_id="run-2", cell_id="cell-2")])
    store.add_pairs([Pair("cell-1-0-0", "heylook", "{}", 5)])
    store.add_series("run-1", [Point(1, "host", "cpu", 0.5)])
    store.add_artifact("run-1", "html", "report.html", "00")
    store.set_baseline("main", "run-1")
    assert store.pairs("run-1") == {"cell-1-0-0": [Pair("cell-1-0-0", "heylook", "{}", 5)]}
    assert store.series("run-1") == [Point(1, "host", "cpu", 0.5)]
    assert store.artifacts("run-1") == [("html", "report.html", "00")]
    assert store.baseline("main").id == "run-1"
    store.delete("run-1")
    connection = sqlite3.connect(tmp_path / "bench.sqlite3")
    left = {
        table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("run", "cell", "sample", "pair", "series", "artifact", "baseline")
    }
    connection.close()
    assert left == {"run": 1, "cell": 1, "sample": 1, "pair": 0, "series": 0, "artifact": 0, "baseline": 0}
    with pytest.raises(NotFound):
        store.baseline("main")


def test_a_run_whose_process_is_gone_was_interrupted(store: Store) -> None:
    store.beat("run-1", 4.0)
    assert store.interrupt_if_dead(store.run("run-1"), True, 9.0).state == "running"
    ended = store.interrupt_if_dead(store.run("run-1"), False, 9.0)
    assert (ended.state, ended.ended) == ("interrupted", 4.0)
    store.set_run("run-1", 9.0, "done")
    assert store.interrupt_if_dead(store.run("run-1"), False, 9.0).state == "done"


def test_a_file_of_a_later_version_or_of_something_else_is_left_alone(tmp_path: Path) -> None:
    later = tmp_path / "later.sqlite3"
    connection = sqlite3.connect(later)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match="later version"):
        Store(later)
    other = tmp_path / "other"
    other.write_bytes(b"not a database, but quite long enough to be looked at " * 40)
    with pytest.raises(ConfigError, match="can't be used"):
        Store(other)
    assert other.read_bytes().startswith(b"not a database")


def test_no_committed_sample_is_lost_when_its_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "bench.sqlite3"
    with Store(path) as store:
        store.create(run(), MACHINE, [TARGET], [cell()])
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    for round_ in range(2):
        process = context.Process(target=_writing, args=(str(path), round_, sender))
        process.start()
        acknowledged = [receiver.recv() for _ in range(20)]
        process.kill()
        process.join()
        while receiver.poll():
            acknowledged.append(receiver.recv())
        with Store(path) as store:
            kept = {one.ordinal for one in store.samples("run-1")}
        assert set(acknowledged) <= kept


def _writing(path: str, round_: int, sender: "multiprocessing.connection.Connection[int, int]") -> None:
    store = Store(Path(path))
    for ordinal in range(round_ * 1_000_000, (round_ + 1) * 1_000_000):
        store.add_samples([sample(ordinal)])
        sender.send(ordinal)


def test_ids_sort_by_time() -> None:
    ids = [new_id(wall) for wall in (1.0, 1.001, 1_700_000_000.0)]
    assert ids == sorted(ids)
    assert {len(one) for one in ids} == {26}
    assert len({new_id(1.0) for _ in range(100)}) == 100
