"""Sums by minute and the profile made of them: times, tokens and requests add up however they are cut."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.config import FOREVER
from heylook_llm.hardware.energy import Energy
from heylook_llm.hardware.readings import Meter, Reading
from heylook_llm.server.backend import ModelChange
from heylook_llm.server.performance.database import Database
from heylook_llm.server.performance.minute_log import MinuteLog
from heylook_llm.server.performance.minutes import Minute, Resources, minutes_of, spread
from heylook_llm.server.performance.profile import SPANS, first_minute, profile, read
from heylook_llm.server.performance.record import Finished, moment
from heylook_llm.server.performance.recorder import Recorder
from tests.server.recording import MS, finished, timeline

pytestmark = pytest.mark.unit

NOW = 100_000 * 60.0 + 30


@given(st.floats(0, 1e9), st.floats(0, 10_000), st.floats(0, 1e6))
def test_tokens_are_spread_without_loss(begin: float, seconds: float, count: float) -> None:
    found = spread(begin, begin + seconds, count)
    assert sum(found.values()) == pytest.approx(count, rel=1e-6, abs=1e-6)
    assert set(found) <= set(range(int(begin // 60), int((begin + seconds) // 60) + 1))


def test_a_request_counts_where_it_ended_and_its_tokens_where_they_came() -> None:
    times = msgspec.structs.replace(
        timeline(), first_token_ns=10 * MS, last_token_ns=120_000 * MS, all_tokens_ns=None, closed_ns=120_000 * MS
    )
    found = minutes_of(finished(timeline=times, finished_at=60_000 * 60.0))
    assert len(found) >= 2
    assert sum(minute.output_tokens for minute in found.values()) == pytest.approx(3)
    assert {at: minute.requests for at, minute in found.items() if minute.requests} == {60_000: 1}


def test_images_are_an_operation_of_their_own() -> None:
    times = msgspec.structs.replace(timeline(), ready_ns=60 * MS, images_ns=50 * MS, parsed_ns=10 * MS)
    times = msgspec.structs.replace(times, submitted_ns=60 * MS, queued_ns=70 * MS, admitted_ns=70 * MS)
    times = msgspec.structs.replace(times, first_token_ns=80 * MS, last_token_ns=90 * MS, closed_ns=100 * MS)
    (minute,) = minutes_of(finished(timeline=times)).values()
    assert minute.phase_ns["images"] == 40 * MS
    assert minute.phase_ns["prepare"] == 20 * MS
    assert sum(minute.phase_ns.values()) == minute.e2e_ns == 100 * MS


def database(path: Path | None = None) -> Database:
    return Database(path, keep_seconds=1e9, keep_bytes=1 << 30)


def test_a_profile_adds_up() -> None:
    kept = database()
    kept.write([finished(n, finished_at=NOW, timeline=timeline(load=n == 0), model="fast") for n in range(4)])
    slow = timeline(output=100)
    kept.write([finished(9, finished_at=NOW - 3600, timeline=slow, model="slow", outcome="error", error="x")])
    used = {int(NOW // 60): Resources(5 << 30, 12.5, None, None, 40.0, 1 << 30)}
    told = profile("6h", NOW, list(kept.history.minutes(first_minute("6h", NOW))), used)
    breakdown = {row["operation"]: row for row in told["timing_breakdown"]}
    assert told["request_count"] == 5
    assert sum(row["percentage"] for row in told["timing_breakdown"]) == pytest.approx(100, abs=0.05)
    assert (breakdown["model_load"]["count"], breakdown["model_load"]["avg_time_ms"]) == (1, 20.0)
    assert (breakdown["token_generation"]["count"], breakdown["image_processing"]["count"]) == (5, 0)
    assert breakdown["image_processing"]["avg_time_ms"] is None
    assert [row["model"] for row in told["bottlenecks"]] == ["slow", "fast"]
    assert told["bottlenecks"][0]["largest"] == "token_generation"
    worst = told["bottlenecks"][0]
    parts = sum(value for name, value in worst["breakdown"].items() if name != "first_token")
    assert parts == pytest.approx(worst["avg_total_ms"], abs=0.01)
    earlier, later = told["trends"]
    assert (earlier["errors"], later["errors"], later["requests"]) == (1, 0, 4)
    change = 100 * (later["response_time_ms"] / earlier["response_time_ms"] - 1)
    assert later["response_time_change"] == pytest.approx(change, abs=0.1)
    assert earlier["response_time_change"] is None
    assert later["tokens_per_second"] == pytest.approx(100.0), "10 ms a token"
    last = told["resource_timeline"][-1]
    assert (last["memory_used_bytes"], last["power_watts"], last["gpu_percent"]) == (5 << 30, 40.0, None)
    assert last["tokens_per_second"] == pytest.approx(4 * 3 / 30), "half a minute has passed"


@pytest.mark.parametrize("span", SPANS)
def test_an_empty_window_says_so(span: Any) -> None:
    told = profile(span, NOW, [], {})
    assert (told["request_count"], told["resource_timeline"], told["trends"], told["bottlenecks"]) == (0, [], [], [])
    assert all(row["avg_time_ms"] is row["percentage"] is None for row in told["timing_breakdown"])


def test_several_commits_add_up_and_old_minutes_go(tmp_path: Path) -> None:
    kept = database(tmp_path / "file")
    for number in range(3):
        kept.write([finished(number, finished_at=NOW)])
    kept.write([finished(5, finished_at=NOW - 7200)])
    kept.history.note_resources(int(NOW // 60) - 500, Resources(1))
    change = ModelChange("m", "fake", "loaded", NOW - 7200, 1.5)
    kept.history.note_change(change)
    (old, recent) = [minute for _, _, minute in kept.history.minutes(0)]
    assert (old.requests, recent.requests) == (1, 3)
    assert kept.history.changes("m", 0, 10) == [change]
    with kept.transaction():
        kept.history.trim(NOW - 3600)
    assert [minute.requests for _, _, minute in kept.history.minutes(0)] == [3]
    assert (list(kept.history.resources(0)), kept.history.changes(None, 0, 10)) == ([], [])
    kept.clear()
    assert list(kept.history.minutes(0)) == []
    kept.close()


def test_what_is_kept_for_ever_is_never_trimmed() -> None:
    kept = Database(None, keep_seconds=FOREVER, keep_bytes=1 << 30)
    kept.write([finished(1, finished_at=NOW)])
    assert kept.trim(moment()) == 0
    assert [minute.requests for _, _, minute in kept.history.minutes(0)] == [1]


def test_a_file_from_before_gets_what_it_lacks(tmp_path: Path) -> None:
    kept = database(tmp_path / "file")
    kept.write([finished(1)])
    for table in ("spent_minutes", "spent_hours", "resources", "changes"):
        kept._connection.execute(f"DROP TABLE {table}")
    kept.close()
    again = database(tmp_path / "file")
    again.write([finished(2)])
    assert sum(minute.requests for _, _, minute in again.history.minutes(0)) == 1
    again._connection.execute("DROP TABLE spent_hours")
    again.close()
    again = database(tmp_path / "file")
    assert sum(minute.requests for _, _, minute in again.history.hours(0)) == 1
    again.close()


@pytest.mark.parametrize("now", [NOW, NOW - NOW % 3600, NOW - NOW % 3600 + 3599])
def test_a_week_by_hours_is_the_week_by_minutes(now: float) -> None:
    kept, chance = database(), random.Random(now)
    ages = [chance.uniform(0, 8 * 86_400) for _ in range(300)] + [
        7 * 86_400 - chance.uniform(0, 7200) for _ in range(50)
    ]
    for batch in (ages[:200], ages[200:]):
        kept.write([of_model(n % 3, now - age) for n, age in enumerate(batch)])
    by_minutes = profile("7d", now, kept.history.minutes(first_minute("7d", now)), {})
    assert profile("7d", now, read("7d", now, kept.history), {}) == by_minutes
    assert 0 < by_minutes["request_count"] < len(ages)


def of_model(number: int, at: float) -> Finished:
    return finished(finished_at=at, model=f"model {number}", timeline=timeline(output=3 + number))


def test_sums_join_field_by_field() -> None:
    one, other = Minute(requests=1, phase_ns={"a": 1, "b": 2}), Minute(requests=2, output_tokens=1.5, phase_ns={"b": 3})
    one.join(other)
    assert one == Minute(requests=3, output_tokens=1.5, phase_ns={"a": 1, "b": 5})
    assert other == Minute(requests=2, output_tokens=1.5, phase_ns={"b": 3})


async def test_the_machine_is_noted_each_minute() -> None:
    recorder = Recorder()
    log = MinuteLog(lambda: Meter(Energy((), "none")), lambda: [], recorder, seconds=0.05)
    task = asyncio.create_task(log.run())
    found: list[tuple[int, Resources]] = []
    begin = time.time()
    async with asyncio.timeout(30):
        while not found:
            found = await recorder.ask(lambda database: list(database.history.resources(0)))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    minute, used = found[0]
    assert int(begin // 60) <= minute <= int(time.time() // 60)
    assert used.memory_used_bytes > 1 << 20
    assert (used.watts, used.models_resident_bytes) == (None, None)
    await asyncio.to_thread(recorder.close)


class Kept(Meter):
    """A meter that remembers over how long it read."""

    def __init__(self) -> None:
        super().__init__(Energy((), "none"))
        self.seconds: list[float] = []

    def read(self) -> Reading:
        found = super().read()
        self.seconds.append(found.seconds or 0.0)
        return found


async def test_who_asks_in_between_does_not_shorten_the_minute_that_is_kept() -> None:
    recorder, meters = Recorder(), list[Kept]()

    def meter() -> Kept:
        meters.append(Kept())
        return meters[-1]

    log = MinuteLog(meter, lambda: [], recorder, seconds=0.6)
    task = asyncio.create_task(log.run())
    async with asyncio.timeout(30):
        while max(seconds for one in meters for seconds in [0.0, *one.seconds]) < 0.55:
            await log.resources()
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.to_thread(recorder.close)
