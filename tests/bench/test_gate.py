"""Comparisons and gates: a rank or a regression only where it is shown; conditions say what is wrong with them."""

import random
from collections.abc import Sequence

import msgspec
import pytest

from heylook_llm.bench import compare, gate
from heylook_llm.bench.metrics import Report, report
from heylook_llm.bench.quantity import parse
from heylook_llm.bench.sample import Sample, Target
from heylook_llm.errors import ConfigError
from tests.bench.answers import answer, report_of
from tests.bench.records import TARGET, cell, run

pytestmark = pytest.mark.unit

OTHER = Target("other", "rival", "openai", "http://127.0.0.1:2")


def answers(median_ms: float, n: int = 120, seed: int = 1, cell_id: str = "cell-1") -> list[Sample]:
    chance = random.Random(seed)
    return [answer(k, k * 500, median_ms * chance.uniform(0.9, 1.1), cell_id=cell_id) for k in range(n)]


def report_as(name: str, samples: Sequence[Sample], **more: object) -> Report:
    return report(run(name, name=name, **more), [cell()], samples, {TARGET.id: TARGET})


def two_targets(first_ms: Sequence[float], second_ms: Sequence[float], n: int = 30) -> Report:
    """One run that measured two targets in turn, round by round."""
    cells, samples = [], []
    for repeat, both in enumerate(zip(first_ms, second_ms, strict=True)):
        for place, (target, median) in enumerate(zip((TARGET, OTHER), both, strict=True)):
            identity = f"cell-{repeat}-{place}"
            cells.append(cell(identity, ordinal=2 * repeat + place, repeat=repeat, target_id=target.id))
            samples += answers(median, n, seed=repeat, cell_id=identity)
    return report_of(samples, cells=cells, targets=(TARGET, OTHER))


def judged(base: Report, new: Report, text: str, strict: bool = False) -> tuple[str, int]:
    found = gate.judge(base, new, [gate.condition(text)], strict)
    (one,) = found.judgements
    return one.verdict, found.status


BASE = report_as("base", answers(100))
SAME = report_as("same", answers(100, seed=2))
SLOW = report_as("slow", answers(130))
FEW = report_as("few", answers(112, n=8))


def test_a_shown_difference_is_a_regression_and_chance_is_none() -> None:
    assert judged(BASE, SLOW, "ttft.p50>+5%") == ("regressed", 1)
    assert judged(BASE, SLOW, "ttft.p95>+5%") == ("regressed", 1)
    assert judged(BASE, SLOW, "ttft>+20ms") == ("regressed", 1)
    assert judged(BASE, SLOW, "ttft.p50>+50%") == ("kept", 0)
    assert judged(BASE, SAME, "ttft.p50>+5%") == ("kept", 0)
    assert judged(SLOW, BASE, "ttft.p50>+5%") == ("kept", 0)
    assert judged(SLOW, BASE, "speed<-5%") == ("kept", 0)
    assert judged(BASE, FEW, "ttft.p50>+1%")[0] in ("not shown", "regressed")


def test_overlapping_intervals_are_not_judged_unless_strict() -> None:
    near = report_as("near", answers(101, seed=3))
    assert judged(BASE, near, "ttft.p50>+0.1%") == ("not shown", 0)
    assert judged(BASE, near, "ttft.p50>+0.1%", strict=True) == ("regressed", 1)
    assert judged(BASE, SLOW, "ttft.mean>+5%") == ("not shown", 0)
    assert judged(BASE, SLOW, "ttft.mean>+5%", strict=True) == ("regressed", 1)


def test_absolute_limits_need_no_base() -> None:
    assert judged(BASE, SLOW, "ttft.p50 > 0.12 s") == ("regressed", 1)
    assert judged(BASE, SLOW, "ttft.p50>125ms") == ("regressed", 1)
    assert judged(BASE, SLOW, "ttft.p50>2s") == ("kept", 0)
    assert judged(BASE, SLOW, "errors>1%") == ("kept", 0)
    failing = report_as("failing", [answer(k, k * 500, outcome="error" if k % 2 else "ok") for k in range(60)])
    assert judged(BASE, failing, "errors>1%") == ("regressed", 1)
    assert judged(BASE, failing, "errors>49%") == ("not shown", 0)


def test_what_cannot_be_judged_is_not_good() -> None:
    assert judged(BASE, FEW, "ttft.p99>+5%") == ("unknown", 3)
    assert judged(FEW, BASE, "ttft.p99>+5%") == ("unknown", 3)
    assert judged(BASE, BASE, "goodput<90%") == ("unknown", 3)
    elsewhere = report_of(answers(100), cells=[cell(scenario="D(1,1)")])
    assert judged(BASE, elsewhere, "ttft>+5%") == ("unknown", 3)
    assert gate.judge(report_of([], cells=[]), BASE, [gate.condition("ttft>+5%")]).status == 3
    limited = report_as("limited", answers(100), flags_json='["client-limited"]')
    found = gate.judge(BASE, limited, [gate.condition("ttft>+5%")])
    assert (found.status, found.flagged) == (3, ["limited: client-limited"])


def test_another_model_measured_alike_is_matched_if_it_is_the_only_one() -> None:
    other = report_of(answers(130), cells=[cell(model="quantized")])
    assert judged(BASE, other, "ttft>+5%") == ("regressed", 1)
    both = report_of(
        [*answers(130, cell_id="a"), *answers(130, cell_id="b")],
        cells=[cell("a", model="a"), cell("b", model="b", ordinal=1)],
    )
    assert judged(BASE, both, "ttft>+5%") == ("unknown", 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ttft.p95", "is no condition"),
        ("", "is no condition"),
        ("ttft.p95>5%", r"Write \+5%"),
        ("ttft.p95>+5", "give it a unit"),
        ("ttft.p95>5 minutes", "give it a unit"),
        ("ttft.p97>+5%", "no statistic 'p97'"),
        ("speed_of_light>+5%", "no measure 'speed_of_light'"),
        ("output.p95>+5%", "one output"),
        ("output<5ms", "is in tokens/s, not in ms"),
        ("ttft.p95>+5%; drop", "is no condition"),
        ("ttft.p95>+1e5%", "is no condition"),
    ],
)
def test_conditions_say_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        gate.condition(text)


def test_conditions_are_read() -> None:
    found = gate.condition(" throughput < -2.5 % ")
    assert (str(found.quantity), found.above, found.amount, found.relative) == ("output", False, -0.025, "share")
    assert found.limit(200) == 195
    assert gate.condition("e2e.p99>=2s").limit(None) == 2000
    assert gate.condition("ttft>+20ms").limit(None) is None
    assert str(parse("TTFT")) == "ttft.p50"


def test_a_rank_stands_only_where_it_is_shown() -> None:
    (ttft, rate) = compare.compare([BASE, SLOW], ["ttft.p50", "whole_output"]).lines
    assert ttft.best == [0]
    assert ttft.words.startswith("base is 2")
    assert ttft.words.endswith(" % lower than the next")
    assert rate.words == "no difference shown"
    (same,) = compare.compare([BASE, SAME], ["ttft.p50"]).lines
    assert (same.best, same.words) == ([0, 1], "no difference shown")
    (three,) = compare.compare([SLOW, BASE, SAME], ["ttft.p50"]).lines
    assert three.best == [1, 2]
    assert three.words == "no difference shown between base, same; the others are behind"


def test_rounds_in_turn_show_what_pooled_intervals_hide() -> None:
    drift = [100 * 1.4**round_ for round_ in range(6)]
    (line,) = compare.compare([two_targets(drift, [ms * 1.05 for ms in drift])], ["ttft.p50"]).lines
    assert [side.label for side in line.sides] == ["null", "rival"]
    assert line.best == [0]
    (few,) = compare.compare([two_targets(drift[:5], [ms * 1.05 for ms in drift[:5]])], ["ttft.p50"]).lines
    assert few.words == "no difference shown"


def test_what_has_nothing_to_be_compared_with_is_named() -> None:
    alone = report_of(answers(100), cells=[cell(level=64)])
    found = compare.compare([BASE, alone], ["ttft"])
    assert found.lines == []
    assert found.alone == ["m D(10,10) closed 4 warm", "m D(10,10) closed 64 warm"]
    assert msgspec.json.decode(msgspec.json.encode(found), type=compare.Comparison) == found
    empty = report_as("empty", [])
    (line,) = compare.compare([BASE, empty], ["ttft"]).lines
    assert (line.best, line.words) == ([], "–")
