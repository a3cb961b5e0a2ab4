"""What our own stamps are worth: each of them beside what the target wrote, by the goals that the bench has.

The saturation curve raises the tokens per second of 64 streams until stamps are late by a millisecond.
"""

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.truth import machine
from benchmarks.truth.answers import Answer, nearest_rank
from benchmarks.truth.machine import Split, Watch
from benchmarks.truth.target import Plan, target
from benchmarks.truth.tools import cli, exported, home, samples, window

STREAMS: Final = 64
STEADY_RATE: Final = 1_500
"""Chunks per second, up to which the goals hold."""
RATES: Final = (500, STEADY_RATE, 3_000, 6_000, 12_000)
ANSWER_SECONDS: Final = 1.0
ANSWERS_EACH: Final = 2
"""Measured requests of each stream."""
REQUEST_RATES: Final = (50, 100, 200, 400)
SENDING_SECONDS: Final = 2
LIMIT_SECONDS: Final = 120.0
LIMIT_MS: Final = 1.0
"""An error of p99 beyond it is the stated limit."""


class Streams(NamedTuple):
    """64 streams at once: how late each stamp was, in milliseconds, and what else was off."""

    rate: int
    """Chunks per second that were planned."""
    written_rate: float
    """... and written, of the requests that count."""
    stamps: int
    late_p50: float
    late_p99: float
    late_most: float
    gap: float
    """The mean TPOT, as a part of the true one."""
    output: float
    """Tokens per second in the window, the same."""
    miscounted: int
    """Requests and tokens, said less written."""
    busy: tuple[float, ...]
    """The share of each core."""
    stolen: float


class Schedule(NamedTuple):
    """An open loop: how late the target had each request, in milliseconds."""

    rate: int
    late_p50: float
    late_p99: float
    said_p99: float
    """What our report calls the schedule lag."""


def streams(rate: int, phase: str, folder: Path, cores: Split) -> Streams:
    """Measure 64 streams of so many chunks per second together."""
    gap = STREAMS / rate
    tokens = max(10, round(ANSWER_SECONDS / gap))
    options = ("--scenario", f"D(20,{tokens})", "--concurrency", str(STREAMS))
    with target(Plan(100, gap * 1e3, tokens, phase), cores.target) as null, Watch() as watch:
        _run(null.url, (*options, "--requests", str(STREAMS * ANSWERS_EACH)), folder, cores)
        written = {answer.identity: answer for answer in null.log()}
    return _judged(rate, folder, written, watch)


def _judged(rate: int, folder: Path, written: dict[str, Answer], watch: Watch) -> Streams:
    measured = [one for one in samples(folder) if (one["phase"], one["outcome"]) == ("measure", "ok")]
    true = [written[sample["client_request_id"]] for sample in measured]
    late = [
        (stamp - wrote) / 1e6
        for sample, answer in zip(measured, true, strict=True)
        for stamp, wrote in zip(sample["chunk_times"], answer.tokens, strict=True)
    ]
    (row,) = exported(folder)["rows"]
    start, end = window(folder)
    within = sum(start <= stamp < end for answer in written.values() for stamp in answer.tokens) * 1e9 / (end - start)
    gap = statistics.fmean(answer.gap_ms for answer in true)
    spent = watch.used(min(answer.received for answer in true), max(answer.end or 0 for answer in true))
    said = row["counts"]["ok"] + row["tokens"]["out_usage"]
    return Streams(
        rate=rate,
        written_rate=within,
        stamps=len(late),
        late_p50=nearest_rank(late, 0.5),
        late_p99=nearest_rank(late, 0.99),
        late_most=max(late),
        gap=row["measures"]["tpot"]["mean"] / gap - 1,
        output=row["rates"]["output"] / within - 1,
        miscounted=said - len(true) - sum(len(answer.tokens) for answer in true),
        busy=() if spent is None else spent.busy,
        stolen=0.0 if spent is None else spent.stolen,
    )


def schedule(rate: int, arrival: str, folder: Path, cores: Split) -> Schedule:
    """Measure how late requests are that were planned."""
    count = rate * SENDING_SECONDS
    options = ("--scenario", "D(20,4)", "--rate", str(rate), "--arrival", arrival, "--requests", str(count))
    with target(Plan(20, 5, 4), cores.target) as null:
        _run(null.url, options, folder, cores)
        received = {answer.identity: answer.received for answer in null.log()}
    measured = [sample for sample in samples(folder) if sample["phase"] == "measure"]
    late = [(received[sample["client_request_id"]] - sample["t_due"]) / 1e6 for sample in measured]
    (row,) = exported(folder)["rows"]
    return Schedule(rate, nearest_rank(late, 0.5), nearest_rank(late, 0.99), row["measures"]["lag"]["p99"])


def calibration_seconds(folder: Path, cores: Split) -> float:
    """How long `bench calibrate` takes, with the start of the command."""
    began = time.monotonic()
    machine.run([*cli(), "calibrate", "--json"], folder, home(folder), cores.tool, LIMIT_SECONDS)
    made = json.loads((folder / "output.log").read_text().splitlines()[-1])
    assert made["chunks"]
    return time.monotonic() - began


def _run(url: str, options: Sequence[str], folder: Path, cores: Split) -> None:
    command = [*cli(), "run", "--no-calibrate", "--target", url, "--kind", "openai", "--model", "null", *options]
    machine.run(command, folder, home(folder), cores.tool, LIMIT_SECONDS)
