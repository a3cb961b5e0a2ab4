"""Runs whose store can't be written, that two take up at once, or whose terminal goes: nothing is lost in silence."""

import contextlib
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Final

import psutil
import pytest

from tests.bench.places import Null
from tests.bench.test_runs import LONG, _count, _until, bench, going_on, samples_of, store_of
from tests.commands_at_work import COMMAND, Home

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), LONG]
REQUESTS: Final = 1500
MOST_BYTES: Final = 400_000


@contextlib.contextmanager
def ordered(home: Home, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A command of the bench; what it says on stderr is in the file `said`."""
    with (home.folder / "said").open("a") as said:
        process = subprocess.Popen(
            [*COMMAND, "bench", *arguments], env=home.environment(), cwd=home.folder,
            stdout=subprocess.DEVNULL, stderr=said, text=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def said(home: Home) -> str:
    return (home.folder / "said").read_text()


def running(null: Null, requests: int) -> tuple[str, ...]:
    options = ("--scenario", "D(5,8)", "--concurrency", "8", "--requests", str(requests), "--warmup", "0")
    return ("run", "--no-calibrate", "--target", null.url, *options)


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="a process's files can't be limited here")
def test_a_full_disk_ends_a_run_with_a_word_and_what_was_kept_is_resumed(home: Home, null: Null) -> None:
    with ordered(home, *running(null, 50_000)) as process:
        psutil.Process(process.pid).rlimit(psutil.RLIMIT_FSIZE, (MOST_BYTES, MOST_BYTES))
        assert process.wait(200) == 1
    assert "Traceback" not in said(home)
    assert said(home).splitlines()[-1].startswith("Error: The store of runs bench.sqlite3 can't be written")
    kept = {one.id: one for one in samples_of(home)}
    assert kept
    assert bench(home, "show")["state"] == "interrupted"
    with going_on_again(home, len(kept)) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    found = {one.id: one for one in samples_of(home)}
    assert kept.items() <= found.items()
    assert len({one.ordinal for one in found.values()}) == len(found)


@contextlib.contextmanager
def going_on_again(home: Home, count: int) -> Iterator["subprocess.Popen[str]"]:
    """The last run resumed, once it has more samples than that."""
    with ordered(home, "resume", "last") as process:
        _until(lambda: len(samples_of(home)) > count or process.poll() is not None)
        yield process


def test_a_store_that_somebody_holds_for_long_loses_nothing(home: Home, null: Null) -> None:
    with ordered(home, *running(null, REQUESTS)) as process:
        _until(lambda: _count(home) > 8)
        (path,) = home.folder.rglob("bench.sqlite3")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holding:
            holding.execute("BEGIN IMMEDIATE")
            _until(lambda: "can't be written" in said(home))
            holding.execute("ROLLBACK")
        assert process.wait(120) == 0
    assert Counter(one.outcome for one in samples_of(home)) == {"ok": REQUESTS}


def test_of_two_that_resume_a_run_at_once_one_does(home: Home, null: Null) -> None:
    with going_on(home, null.url, "--requests", "400", "--concurrency", "4", samples=20) as process:
        process.kill()
        process.wait()
    with ordered(home, "resume", "last") as one, ordered(home, "resume", "last") as other:
        assert sorted((one.wait(120), other.wait(120))) == [0, 1]
    assert "goes on" in said(home) or "taken up" in said(home)
    with store_of(home) as store:
        run = store.run("last")
        (cell,) = store.cells(run.id)
    asked = Counter(name for name in null.log() if name.startswith(cell.id))
    assert set(asked.values()) == {1}, "no request was sent by both"
    assert bench(home, "show")["cells"][0]["outcomes"] == {"ok": 400}


def test_a_terminal_that_goes_away_lets_what_is_in_flight_end(home: Home, null: Null) -> None:
    with going_on(home, null.url, "--requests", "50000", "--concurrency", "4", samples=20) as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 130
    assert bench(home, "show")["state"] == "cancelled"
    assert {one.outcome for one in samples_of(home)} == {"ok"}
