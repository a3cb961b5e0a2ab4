"""Energy that is shared out: nothing is lost or made up, whatever the steps, the counters and the requests are."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.server.performance.energy import (
    LEAST_IDLE,
    Baseline,
    Crowd,
    Curve,
    Work,
    attributed,
    shared,
    works,
)

pytestmark = pytest.mark.unit

SECOND = 1_000_000_000
WATTS = st.floats(0, 500)
STEP = st.tuples(
    st.integers(1_000, SECOND),  # how long it took
    st.integers(0, SECOND),  # the pause before it
    st.lists(st.tuples(st.sampled_from(["prefill", "decode"]), st.integers(1, 512)), min_size=1, max_size=5),
)


def steps_of(drawn: list[tuple[int, int, list[tuple[str, int]]]]) -> tuple[list[list[Work]], int]:
    """What each step computed of whom; and when the last one ended."""
    at, found = 0, []
    for took, pause, parts in drawn:
        begin, at = at + pause, at + pause + took
        total = sum(tokens for _, tokens in parts)
        found.append([Work(side, begin, at, tokens, total) for side, tokens in parts])  # type: ignore[arg-type]  # drawn
    return found, at


@given(st.lists(STEP, min_size=1, max_size=20), st.lists(st.integers(0, 10**9), min_size=1, max_size=10), WATTS)
def test_the_shares_of_a_step_are_its_energy(
    drawn: list[tuple[int, int, list[tuple[str, int]]]], grown: list[int], baseline: float
) -> None:
    steps, end = steps_of(drawn)
    times = [round(at * end / len(grown)) for at in range(len(grown) + 1)]
    values = [sum(grown[:at]) for at in range(len(grown) + 1)]
    curve = Curve(sorted(dict(zip(times, values, strict=True)).items()))
    whole = sum(
        curve.joules(step[0].start_ns, step[0].end_ns) - baseline * (step[0].end_ns - step[0].start_ns) / 1e9
        for step in steps
    )
    requests = [[step[at] for step in steps if at < len(step)] for at in range(5)]
    found = [shared(request, curve, baseline) for request in requests]
    total = sum(one["prefill"] + one["decode"] for one in found)
    assert total == pytest.approx(whole, rel=1e-9, abs=1e-6)
    sides = {"prefill": 0.0, "decode": 0.0}
    for step in steps:
        for side, value in shared(step, curve, baseline).items():
            sides[side] += value
    assert sum(one["prefill"] for one in found) == pytest.approx(sides["prefill"], rel=1e-9, abs=1e-6)


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 10**9)), min_size=2, max_size=30), st.data())
def test_a_curve_adds_up_over_any_cut(gaps: list[tuple[int, int]], data: st.DataObject) -> None:
    at = value = 0
    readings = []
    for gap, more in gaps:
        at, value = at + gap, value + more
        readings.append((at, value))
    curve = Curve(readings)
    begin, middle, end = sorted(data.draw(st.tuples(*[st.integers(0, at + 10)] * 3)))
    assert curve.joules(begin, middle) + curve.joules(middle, end) == pytest.approx(curve.joules(begin, end))
    assert curve.joules(begin, end) >= 0
    assert curve.covers(readings[0][0], at)
    assert not curve.covers(begin, at + 1)


def timeline() -> core.Timeline:
    """A prompt in two chunks, two decode steps (the first with two guesses), and one that was computed anew."""
    return core.Timeline(
        admitted_ns=0,
        prefill=(
            core.PrefillChunk(0, SECOND, 30, 40),
            core.PrefillChunk(SECOND, 2 * SECOND, 10, 10),
            core.PrefillChunk(5 * SECOND, 6 * SECOND, 3, 6),
        ),
        first_token_ns=2 * SECOND,
        steps=5,
        decode=core.DecodeSteps(
            array("I", [1_000_000, 1_500_000]).tobytes(),
            array("H", [2, 1]).tobytes(),
            bytes((2, 0)),
            bytes((1, 0)),
            array("I", [900_000, 1_000_000]).tobytes(),
            array("I", [4, 1]).tobytes(),
        ),
    )


def test_a_timeline_says_what_its_steps_were() -> None:
    assert list(works(timeline())) == [
        Work("prefill", 0, SECOND, 30, 40),
        Work("prefill", SECOND, 2 * SECOND, 10, 10),
        Work("decode", 5 * SECOND, 6 * SECOND, 3, 6),
        Work("decode", 2_100_000_000, 3 * SECOND, 3, 4),
        Work("decode", 3_500_000_000, 4_500_000_000, 1, 1),
    ]


def test_a_request_gets_its_part_above_the_idle_machine() -> None:
    readings = [(0, 0), (10 * SECOND, 500_000_000)]  # 50 W
    share = attributed(list(works(timeline())), readings, 10.0, mixed=False, whole=True, counters=("package-0",))
    assert share.reason is None
    assert share.prefill_joules == pytest.approx(40 * (30 / 40 + 1))
    assert share.decode_joules == pytest.approx(40 * (3 / 6 + 0.9 * 3 / 4 + 1))


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"baseline_watts": None}, "idle"),
        ({"mixed": True}, "another model"),
        ({"whole": False}, "more steps"),
        ({"readings": [(SECOND, 0), (10 * SECOND, 5)]}, "not read"),
        ({"readings": []}, "not read"),
        ({"done": []}, "not known"),
        ({"done": [Work("decode", 0, 1, 1, 0)]}, "not known"),
    ],
)
def test_what_is_not_known_is_null_with_a_reason(changed: dict[str, object], word: str) -> None:
    given_: dict[str, object] = {
        "done": list(works(timeline())),
        "readings": [(0, 0), (10 * SECOND, 500_000_000)],
        "baseline_watts": 10.0,
        "mixed": False,
        "whole": True,
        "counters": ("a",),
    }
    share = attributed(**{**given_, **changed})  # type: ignore[arg-type]  # of each its type
    assert (share.prefill_joules, share.decode_joules) == (None, None)
    assert word in (share.reason or "")


def test_the_idle_machine_is_known_after_some_readings() -> None:
    baseline = Baseline()
    for watts in (9.0, 500.0, 10.0)[:LEAST_IDLE]:
        assert baseline.watts is None
        baseline.note(watts)
    assert baseline.watts == 10.0


def test_several_models_at_once_are_noticed() -> None:
    crowd = Crowd()
    crowd.enter("a", 0)
    crowd.enter("a", 10)
    assert not crowd.mixed(0, 10)
    crowd.enter("b", 20)
    assert crowd.mixed(0, 30)
    crowd.leave("b", 40)
    assert crowd.mixed(30, 100)
    assert not crowd.mixed(40, 100)
    assert not crowd.idle
    crowd.leave("a", 50)
    crowd.leave("a", 50)
    assert crowd.idle
