"""Runs beside each other and a run's result as the pages are told them: ranks, distances, reasons, both clocks."""

import json
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.bench import compare
from heylook_llm.bench.metrics import report
from heylook_llm.bench.quantity import parse, value_of, why_unknown
from heylook_llm.bench.report import figures
from heylook_llm.bench.report.beside import beside
from heylook_llm.bench.report.shown import EVERY, FORMULAS, shown
from heylook_llm.bench.statistics import Interval, apart, deviation, difference
from heylook_llm.errors import ConfigError
from tests.bench.answers import answer, report_of
from tests.bench.records import TARGET, cell, run
from tests.bench.test_gate import BASE, FEW, SAME, SLOW, two_targets
from tests.bench.test_report_forms import EVIL, a_run, evil, made

pytestmark = pytest.mark.unit


def test_ranks_stand_only_where_intervals_part_and_distances_have_theirs() -> None:
    (line,) = compare.compare([SLOW, BASE, SAME], ["ttft.p50"]).lines
    slow, base, same = line.sides
    assert [side.rank for side in line.sides] == [3, 1, 1]
    assert slow.apart is not None
    assert (slow.apart.shown, slow.apart.by, slow.apart.relative) == ("higher", "intervals", True)
    assert slow.apart.value == pytest.approx(0.3, abs=0.05)
    low, high = slow.apart.interval
    assert low is not None
    assert high is not None
    assert 0 < low < slow.apart.value < high
    assert [side.apart for side in (base, same)].count(None) == 1, "the leader has none"
    (alike,) = compare.compare([BASE, SAME], ["ttft.p50"]).lines
    assert [side.rank for side in alike.sides] == [None, None]
    assert alike.words == compare.NOT_SHOWN


def test_what_was_measured_in_turn_is_apart_by_its_rounds() -> None:
    drift = [100.0, 140.0, 90.0, 160.0, 120.0, 105.0, 150.0]
    (line,) = compare.compare([two_targets(drift, [ms * 1.05 for ms in drift])], ["ttft.p50"]).lines
    far = line.sides[1].apart
    assert far is not None
    assert (far.by, far.shown) == ("rounds", "higher")
    assert far.value == pytest.approx(0.05, abs=0.01)
    assert [side.rank for side in line.sides] == [1, 2]


def test_of_nothing_a_distance_is_in_its_own_unit() -> None:
    failing = [answer(n, n * 100, outcome="error" if n % 3 == 0 else "ok") for n in range(90)]
    other = report(run("failing", name="failing"), [cell()], failing, {TARGET.id: TARGET})
    (line,) = compare.compare([BASE, other], ["errors"]).lines
    far = line.sides[1].apart
    assert far is not None
    assert far.value == pytest.approx(1 / 3)
    assert (far.relative, far.shown) == (False, "higher")
    assert [side.rank for side in line.sides] == [1, 2]


def test_an_unknown_side_says_why() -> None:
    (line,) = compare.compare([BASE, FEW], ["ttft.p95"]).lines
    assert line.sides[1].why == "p95 needs 20 requests; there are 8"
    assert line.sides[0].why is None
    assert line.sides[1].rank is None


ends = st.one_of(st.none(), st.floats(0.001, 1e6))
intervals = st.tuples(ends, ends).map(lambda two: Interval(*sorted(two) if None not in two else two))  # type: ignore[type-var]


@given(intervals, intervals, st.booleans())
def test_a_distance_leaves_nothing_out_just_where_no_difference_is_shown(
    first: Interval, second: Interval, relative: bool
) -> None:
    low, high = apart(first, second, relative)
    if relative:  # what a division rounds away is no distance
        parts = [(second.low, first.high), (second.high, first.low)]
        if any(a is not None and b is not None and 0 < abs(a / b - 1) < 1e-9 for a, b in parts):
            return
    found = "higher" if low is not None and low > 0 else "lower" if high is not None and high < 0 else "not shown"
    assert found == difference(first, second)


@given(st.lists(st.floats(-1e6, 1e6), max_size=30))
def test_deviations(numbers: list[float]) -> None:
    import statistics

    found = deviation(numbers)
    assert found == (None if len(numbers) < 2 else pytest.approx(statistics.stdev(numbers), rel=1e-6, abs=1e-6))


def test_a_distribution_tells_its_deviation() -> None:
    told = report_of([answer(n, n * 100, 100 + 10 * (n % 2)) for n in range(10)]).rows[0].measures["ttft"]
    assert told.deviation == pytest.approx(5.27046)


def test_every_unknown_number_has_its_reason() -> None:
    silent = report_of([answer(n, outcome="error", error_class="reset") for n in range(3)]).rows[0]
    uncounted = report_of([answer(n, n * 100, out_usage=None, chunk_tokens=b"") for n in range(5)]).rows[0]
    for row in (silent, uncounted):
        for wanted in EVERY:
            assert value_of(row, wanted).value is not None or len(why_unknown(row, wanted)) > 10, str(wanted)
    assert why_unknown(uncounted, parse("tpot.p50")).startswith("no request has it, without answers whose tokens")
    assert why_unknown(silent, parse("ttft")) == "no measured request ended well"
    assert why_unknown(uncounted, parse("goodput")) == "the run states no limits (slo)"


def test_a_result_tells_every_number_and_both_clocks_of_the_slowest() -> None:
    _, samples, pairs = a_run()
    by_id = {pair.sample_id: [pair] for pair in pairs}
    found = json.loads(msgspec.json.encode(shown(made(), samples, by_id)))
    assert found["verdict"].startswith("first token at 1: null is 46 % lower")
    assert len(found["rows"]) == 4
    numbers = found["rows"][0]["numbers"]
    assert set(numbers) == {str(wanted) for wanted in EVERY}
    assert numbers["ttft.p50"] == {"value": 34.0, "n": 40, "interval": [32.0, 35.0], "why": None}
    assert numbers["ttft.p99"]["why"] == "p99 needs 100 requests; there are 40"
    assert set(found["meanings"]["measures"]) == {wanted.measure for wanted in EVERY}
    assert all(one["formula"] for one in found["meanings"]["measures"].values())
    slowest = found["rows"][0]["slow"][0]
    assert slowest["verdict"] == "queue-bound"
    assert slowest["causes"] == "queue 60.0 ms"
    assert slowest["source"] == "heylook"
    assert slowest["server"]["phases_ms"]["queue"] == 60
    assert slowest["client"]["offset_ms"] < 0, "the client began before the server received it"
    assert sum(slowest["client"]["phases"].values()) == pytest.approx(slowest["e2e_ms"])
    alone = found["rows"][1]["slow"][0]
    assert (alone["server"], alone["source"], alone["client"]["offset_ms"]) == (None, None, None)
    assert sum(alone["client"]["phases"].values()) == pytest.approx(alone["e2e_ms"])


def test_a_result_of_nothing_is_told() -> None:
    found = json.loads(msgspec.json.encode(shown(report(run(), [], [], {}))))
    assert found["verdict"] == "Nothing was measured: no request ended."
    assert found["rows"] == found["remarks"] == []


def test_formulas_stand_for_all_that_a_row_has_one_of() -> None:
    assert set(FORMULAS) == {wanted.measure for wanted in EVERY if wanted.statistic is None}


def test_runs_stand_beside_each_other() -> None:
    found = json.loads(msgspec.json.encode(beside([BASE, SLOW, made()], ["ttft.p50", "throughput"])))
    assert [(one["name"], one["target"]) for one in found["systems"]] == [
        *(("base", "null"), ("slow", "null")),
        *(("run-1", "null"), ("run-1", "rival")),
    ]
    assert found["choices"]["models"] == ["m"]
    assert {"ttft.p50", "output", "errors"} <= set(found["choices"]["quantities"])
    assert [line["quantity"] for line in found["lines"][:2]] == ["ttft.p50", "output"]
    assert [curve["name"] for curve in found["figures"]["curves"]] == [
        *("base · null", "run-1 · null", "run-1 · rival", "slow · null"),
    ]
    assert "base: m D(10,10) 4 clients: " in found["figures"]["texts"]["curve"]
    nothing = beside([BASE, SLOW], [], models=["another"])
    assert nothing["lines"] == []
    only = beside([BASE, SLOW], ["ttft"], scenarios=["D(10,10)"])
    assert len(only["lines"]) == 1
    with pytest.raises(ConfigError, match="no measure 'luck'"):
        beside([BASE, SLOW], ["luck"])


def test_figures_hold_foreign_text_as_text() -> None:
    foreign, *_ = evil()
    told = figures.data(foreign)
    drawn = json.dumps({name: value for name, value in told.items() if name != "texts"})
    assert "<" not in drawn
    assert EVIL[:20] in told["texts"]["curve"], "words are for text nodes"
    assert "<" not in json.dumps(figures.curves([(EVIL, row) for row in foreign.rows]))


def test_a_curve_has_the_intervals_of_its_points() -> None:
    (curve, *_) = figures.data(made())["curves"]
    assert curve["level"] == [1, 8]
    low, high = curve["intervals"]["ttft.p50"][0]
    assert low <= curve["ttft.p50"][0] <= high
    chance = random.Random(1)
    told = report_of([answer(n, n * 100, chance.uniform(90, 110)) for n in range(30)])
    assert figures.data(told)["speed"][0]["least"] == pytest.approx(100)


def test_more_than_can_be_compared_in_a_while_is_refused() -> None:
    (row, *_) = BASE.rows
    alike = msgspec.structs.replace(BASE, rows=[row] * (compare.MOST_SIDES + 1))
    each = [msgspec.structs.replace(row, level=float(level)) for level in range(compare.MOST_ROWS + 1)]
    for report_ in (alike, msgspec.structs.replace(BASE, rows=each)):
        with pytest.raises(ConfigError, match="too many to compare"):
            compare.compare([report_])


def test_a_report_of_more_than_can_be_compared_is_shown_and_chosen_from() -> None:
    cells = [cell(f"cell-{place}", ordinal=place, model=f"m{place}") for place in range(compare.MOST_SIDES + 1)]
    samples = [answer(place, id=one.id, cell_id=one.id) for place, one in enumerate(cells)]
    many = report(run(), cells, samples, {TARGET.id: TARGET})
    told = "101 rows were measured, too many to rank at once: compare some of them."
    assert shown(many)["verdict"] == told
    found = beside([many], models=["m1", "m2"])
    assert [side["model"] for side in found["lines"][0]["sides"]] == ["m1", "m2"]
    assert found["systems"][0]["verdict"] == told
