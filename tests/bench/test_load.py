"""Schedules: when requests are due."""

import itertools
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from heylook_llm.bench.load import SECOND, Load, schedule, sweep, swept
from heylook_llm.errors import ConfigError

pytestmark = pytest.mark.unit

rates = some.floats(0.01, 5000)


def due(load: Load, count: int, seed: int = 1) -> list[int]:
    return list(itertools.islice(schedule(load, random.Random(seed)), count))


@given(rates, some.sampled_from(["constant", "poisson", "gamma"]), some.integers())
def test_schedules_go_forward_and_repeat_by_their_seed(rate: float, kind: Any, seed: int) -> None:
    load = Load(kind, rate, burstiness=0.5)
    times = due(load, 50, seed)
    assert times == sorted(times)
    assert times[0] >= 0
    assert times == due(load, 50, seed)


@given(rates, some.integers(0, 2_000))
def test_a_constant_rate_drifts_by_no_request(rate: float, ordinal: int) -> None:
    times = itertools.islice(schedule(Load("constant", rate), random.Random(0)), ordinal, ordinal + 1)
    assert abs(next(times) - ordinal * SECOND / rate) <= 1


@pytest.mark.parametrize(
    ("kind", "burstiness", "variation"), [("poisson", 1.0, 1.0), ("gamma", 4.0, 0.5), ("gamma", 0.25, 2.0)]
)
def test_gaps_have_the_mean_and_the_spread_that_was_asked(kind: Any, burstiness: float, variation: float) -> None:
    times = due(Load(kind, 50, burstiness=burstiness), 20_000, 7)
    gaps = [(b - a) / SECOND for a, b in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(1 / 50, rel=0.05)
    assert deviation / mean == pytest.approx(variation, rel=0.05)


@settings(max_examples=40)
@given(some.floats(0, 500), some.floats(0.1, 500), some.floats(0.1, 100))
def test_a_ramp_reaches_its_rate_in_its_time(start: float, end: float, seconds: float) -> None:
    times = due(Load("ramp", end, ramp_from=start, ramp_seconds=seconds), 400)
    assert times == sorted(times)
    inside = (start + end) / 2 * seconds
    assert sum(at < seconds * SECOND - 2 for at in times) == pytest.approx(min(math.ceil(inside), 400), abs=1)
    after = [at for at in times if at > seconds * SECOND]
    for one, next_one in itertools.pairwise(after[:50]):
        assert next_one - one == pytest.approx(SECOND / end, rel=1e-6, abs=2)


def test_max_sends_all_at_once_and_a_closed_loop_plans_nothing() -> None:
    assert due(Load("max", 0), 5) == [0] * 5
    assert Load("closed", 8).clients == 8
    with pytest.raises(ConfigError):
        schedule(Load("closed", 8), random.Random(0))


@pytest.mark.parametrize(
    ("kind", "level", "more"),
    [
        ("closed", 0, {}),
        ("closed", 1.5, {}),
        ("poisson", -1, {}),
        ("constant", math.inf, {}),
        ("constant", math.nan, {}),
        ("gamma", 1, {"burstiness": 0}),
        ("ramp", 1, {}),
        ("ramp", 1, {"ramp_seconds": 1, "ramp_from": -1}),
    ],
)
def test_loads_that_send_nothing_are_refused(kind: Any, level: float, more: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Load(kind, level, **more)


@given(some.floats(0.01, 1000), some.floats(0.01, 1000), some.integers(3, 20))
def test_a_sweep_rises_to_just_below_what_can_be_done(one: float, most: float, points: int) -> None:
    loads = list(sweep(points))
    assert [(load.kind, load.level) for load in loads[:2]] == [("closed", 1), ("closed", 32)]
    assert len(loads) == points
    levels = [swept(load.share or 0.0, one, most) for load in loads[2:]]
    assert levels == sorted(set(levels))
    assert all(0 < level <= most for level in levels)
