"""Conversations by their turns, and what rows say of tasks, loads, lengths and errors: by hand."""

import json

import msgspec
import pytest

from heylook_llm.bench.sample import Pair
from tests.bench.answers import MS, answer, remarks_of, row_of
from tests.bench.records import cell

pytestmark = pytest.mark.unit


def test_each_turn_stands_by_itself() -> None:
    turns = [json.dumps({"turn": place % 2, "answer": "x"}) for place in range(6)]
    samples = [
        answer(place, place * 1000, ttft_ms=100 if place % 2 else 300, extra_json=turns[place],
               in_usage=40 if place % 2 else 20, cached=30 if place % 2 else 0)
        for place in range(6)
    ]  # fmt: skip
    row = row_of(samples, cells=[cell(scenario="T(2)*D(10,10)")])
    assert [msgspec.structs.astuple(turn) for turn in row.turns] == [
        (1, 3, 300.0, 391.0, 20.0, 0.0),
        (2, 3, 100.0, 191.0, 40.0, 0.75),
    ]
    assert "said-before" in remarks_of(row)
    assert "cached" not in remarks_of(row)
    assert row_of([answer(place, place * 1000) for place in range(3)]).turns == []
    broken = [
        answer(place, extra_json=text) for place, text in enumerate(("[", "[]", '{"turn": "1"}', '{"turn": true}'))
    ]
    assert row_of(broken).turns == []


@pytest.mark.parametrize(("count", "extra", "flagged"), [
    ("user", (5, 5, 5), False), ("user", (5, 5, 6), True), ("engine", (0, 0, 0), False), ("engine", (2, 2, 2), True),
])  # fmt: skip
def test_lengths_that_are_not_as_planned_are_said(count: str, extra: tuple[int, ...], flagged: bool) -> None:
    samples = [answer(place, in_planned=20, in_usage=20 + more) for place, more in enumerate(extra)]
    row = row_of(samples, spec_json=json.dumps({"count": count}))
    assert ("inexact-length" in remarks_of(row)) == flagged


def test_a_row_whose_lengths_nobody_counted_says_so() -> None:
    assert "inexact-length" in remarks_of(row_of([answer(0)], cells=[cell(flags=("inexact-length",))]))


def load(sample_id: str, source: str, ms: float) -> Pair:
    told = {"load_duration": round(ms * MS), "prompt_eval_duration": 5 * MS, "eval_duration": 5 * MS}
    return Pair(sample_id, "ollama", json.dumps(told)) if source == "ollama" else Pair(sample_id, "llama-server", "{}")


def test_a_cold_row_is_of_requests_that_waited_for_a_load() -> None:
    samples = [answer(place, place * 9000, ttft_ms=ttft) for place, ttft in enumerate((1000, 800, 60))]
    pairs = [load(one.id, "ollama", ms) for one, ms in zip(samples, (900, 700, 30), strict=True)]
    row = row_of(samples, cells=[cell(cache="cold")], pairs=pairs)
    assert (row.counts.ready, row.measures["ttft"].n, row.where["load"]) == (1, 2, 800)
    assert remarks_of(row) >= {"cold", "ready"}
    warm = row_of(samples, pairs=pairs)
    assert (warm.counts.loading, warm.measures["ttft"].n) == (2, 1), "looking at a loaded model is no load"
    untold = row_of(samples, cells=[cell(cache="cold")])
    assert "cold-unproved" in remarks_of(untold)


def test_failures_say_what_the_target_said() -> None:
    failed = [
        answer(0, outcome="error", error_class="http_400", extra_json=json.dumps({"error": "no  eyes\nhere"})),
        answer(1, outcome="error", error_class="http_400", extra_json="["),
    ]
    (text,) = (remark.text for remark in row_of(failed).remarks if remark.code == "errors")
    assert text == '2 of 2 requests failed: http_400 2. It was told: "no eyes here"'


def test_every_number_that_a_row_lacks_has_its_reason() -> None:
    skipped = row_of([], cells=[cell(flags=("beyond-context",))])
    assert set(skipped.absent.values()) == {
        "the run states no limits (slo)",
        "the cell was skipped: its requests are longer than the model's context",
    }
    assert "skipped" in remarks_of(skipped)
    failed = row_of([answer(0, outcome="error")])
    assert failed.absent["ttft"] == failed.absent["output"] == "no measured request ended well"
    assert "errors" not in failed.absent
    one = row_of([answer(0, gaps_ms=(), out_asked=1)])
    assert one.absent["tpot"] == "answers of one token have no time between tokens"
    assert set(one.absent).isdisjoint(one.measures)
