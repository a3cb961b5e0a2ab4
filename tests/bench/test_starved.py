"""A sender that is held up: its own numbers say so, and the run's aren't believed."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from heylook_llm.bench.frames import Pulse
from heylook_llm.bench.run import saturated
from heylook_llm.bench.sample import CLIENT_LIMITED, Point
from tests.bench.answers import MS, SECOND, answer, remarks_of, report_of, row_of
from tests.bench.places import null_target
from tests.bench.records import cell
from tests.bench.test_runs import LONG, bench, going_on
from tests.commands_at_work import Home

CALM, STARVED = Pulse(0, 0.1, 8 * MS, MS // 2), Pulse(0, 0.1, 90 * MS, 9 * MS)


@pytest.mark.unit
def test_a_sender_that_others_hold_up_is_saturated_though_it_computes_little() -> None:
    assert not saturated([CALM] * 20), "one alarm that was late is no trouble"
    assert not saturated([STARVED, *[CALM] * 20]), "once, as when a run begins"
    assert saturated([STARVED] * 3 + [CALM] * 20)


@pytest.mark.unit
def test_a_row_says_by_how_much_its_sender_was_late() -> None:
    def row(late_ms: float, *flags: str) -> list[str]:
        series = [Point(SECOND, "sender", "loop_late_seconds", late_ms / 1000)]
        series.append(Point(SECOND, "sender", "loop_lag_seconds", 0.09))
        within = cell(window_start=0, window_end=2 * SECOND, flags=flags)
        found = row_of([answer(n, n * 100) for n in range(20)], cells=[within], series=series)
        return [remark.text for remark in found.remarks if remark.code in (CLIENT_LIMITED, "client-late")]

    assert row(0.5) == []
    assert row(3.2) == ["The sender's loop was late by 3.2 ms in the mean, 90 ms at most; times here hold that, too."]
    (limited,) = row(9.0, CLIENT_LIMITED)
    assert limited.startswith(
        "These are the bench's own limits, not the target's: the sender's loop was late by 9.0 ms"
    )


@pytest.mark.unit
def test_clients_that_wait_for_the_bench_are_fewer_than_asked() -> None:
    def samples(idle_ms: int) -> set[str]:
        return remarks_of(row_of([answer(n, n * 300, t_due=(n * 300 - idle_ms) * MS) for n in range(20)]))

    assert "client-idle" not in samples(5)
    assert "client-idle" in samples(50)
    cold = report_of([answer(n, n * 300, t_due=(n * 300 - 50) * MS) for n in range(20)], cells=[cell(cache="cold")])
    assert "client-idle" not in {one.code for one in cold.rows[0].remarks}, "they wait until the model is unloaded"


@LONG
@pytest.mark.integration
@pytest.mark.timeout(180)
@pytest.mark.skipif(sys.platform == "win32", reason="signals that stop and continue a process")
def test_numbers_of_a_sender_that_was_stopped_now_and_then_are_not_trusted(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with (
        null_target(ttft_ms=20, itl_ms=2, tokens=8) as null,
        going_on(home, null.url, "--requests", "200", samples=5) as run,
    ):
        (sender,) = psutil.Process(run.pid).children()
        while run.poll() is None:
            for order in (signal.SIGSTOP, signal.SIGCONT):
                with contextlib.suppress(psutil.NoSuchProcess):
                    sender.send_signal(order)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.wait(0.3)
        assert run.returncode == 3
    assert CLIENT_LIMITED in bench(home, "show")["flags"]
