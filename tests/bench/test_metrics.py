"""Every number of a report against its formula, on stamps that were chosen; nothing counts that shouldn't."""

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm.bench import metrics
from heylook_llm.bench.measures import MEASURES, token_gaps_ms, tpot_ms, values
from heylook_llm.bench.sample import Sample, packed_stamps, stamps_of
from tests.bench.answers import MS, SECOND, answer, remarks_of, report_of, row_of
from tests.bench.records import cell, sample

pytestmark = pytest.mark.unit


def test_each_measure_of_one_answer() -> None:
    one = answer(
        start_ms=50,
        ttft_ms=100,
        gaps_ms=(10, 30),
        t_due=20 * MS,
        t_tcp=53 * MS,
        t_tls=57 * MS,
        t_first_event=130 * MS,
        t_first_visible=160 * MS,
        cached=5,
    )
    assert values(one, open_loop=True) == pytest.approx(
        {
            "ttfe": 130 - 20 - 7,
            "ttft": 150 - 20 - 7,
            "ttfo": 160 - 20 - 7,
            "tpot": 20,
            "stall": 30,
            "e2e": 191 - 20,
            "service": 191 - 50,
            "lag": 30,
            "connect": 7,
            "speed": 50,
            "prefill": 15 * 1000 / 123,
        }
    )
    assert values(one, open_loop=False)["ttft"] == 93
    assert values(one, open_loop=False)["e2e"] == 141


def test_unknown_is_left_out_and_never_zero() -> None:
    assert values(sample(), open_loop=True) == {}
    silent = answer(gaps_ms=(), t_first_token=None, t_first_visible=None, t_last_token=None, chunk_times=b"")
    assert set(values(silent, open_loop=False)) == {"ttfe", "e2e", "service", "lag"}
    uncounted = answer(out_usage=None, chunk_tokens=b"")
    assert not {"tpot", "speed"} & set(values(uncounted, open_loop=False))
    assert list(token_gaps_ms(uncounted)) == []


gaps = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 5)), max_size=30)


@settings(deadline=None)
@given(st.integers(1, 5), gaps)
def test_token_gaps_add_up_to_the_stream_whatever_chunks_hold(first: int, rest: list[tuple[int, int]]) -> None:
    one = answer(gaps_ms=[gap / 1e6 for gap, _ in rest], counts=[first, *(count for _, count in rest)])
    found = list(token_gaps_ms(one))
    assert sum(count for _, count in found) == sum(count for _, count in rest)
    counted = [place for place, (_, count) in enumerate(rest) if count]
    until = sum(gap for gap, _ in rest[: counted[-1] + 1]) if counted else 0
    assert sum(gap * count for gap, count in found) == pytest.approx(until / 1e6)
    spent = sum(gap for gap, _ in rest)
    followers = sum(count for _, count in rest)
    expected = spent / 1e6 / followers if followers and spent else None
    assert tpot_ms(one) == (None if expected is None else pytest.approx(expected))


chosen = st.lists(st.tuples(st.integers(0, 10**4), st.integers(1, 400), st.integers(0, 5)), min_size=1, max_size=12)


@settings(deadline=None, max_examples=25)
@given(chosen, st.integers(0, 99))
def test_a_report_depends_on_no_order_and_its_parts_add_up(given: list[tuple[int, int, int]], seed: int) -> None:
    answers = [
        answer(place, start, ttft, (5,) * more, outcome=("ok", "ok", "error", "cut")[place % 4])
        for place, (start, ttft, more) in enumerate(given)
    ]
    shuffled = random.Random(seed).sample(answers, len(answers))
    row = row_of(answers)
    assert msgspec.json.encode(row_of(shuffled)) == msgspec.json.encode(row)
    counts = row.counts
    assert counts.ok + counts.error + counts.timeout + counts.cut + counts.cancelled == counts.measured == len(given)
    assert row.measures["e2e"].n == counts.ok
    assert sum(row.where.values()) == pytest.approx(row.measures["e2e"].mean)
    for found in row.measures.values():
        assert found.least is not None
        assert found.mean is not None
        assert found.most is not None
        assert found.least <= found.mean + 1e-9
        assert found.mean <= found.most + 1e-9


def test_only_measured_requests_that_ended_well_are_in_latencies_and_the_others_are_counted() -> None:
    slow: dict[str, Any] = {"ttft_ms": 9000}
    row = row_of(
        [
            *(answer(n, n * 1000) for n in range(1, 20)),
            answer(20, phase="warmup", **slow),
            answer(21, phase="cooldown", **slow),
            answer(22, phase="drain", **slow),
            answer(23, outcome="error", error_class="reset", **slow),
            answer(24, outcome="error", http_status=500, **slow),
            answer(25, outcome="timeout", **slow),
            answer(26, outcome="cut", **slow),
            answer(27, outcome="cancelled", **slow),
            answer(0, outcome="cut", **slow),
            answer(0, attempt=1),
            answer(28, t_end=1, **slow),
        ],
        cells=[cell(planned=40)],
    )
    assert msgspec.structs.asdict(row.counts) == {
        **dict.fromkeys(("warmup", "cooldown", "drain", "cut", "cancelled", "timeout", "disordered"), 1),
        "planned": 40,
        "measured": 26,
        "ok": 21,
        "error": 2,
        "missing": 14,
        "superseded": 1,
        "loading": 0,
        "ready": 0,
    }
    assert row.measures["ttft"].most == 100
    assert row.errors == {"reset": 1, "http_500": 1, "timeout": 1}
    assert row.error_share == 3 / 24
    assert remarks_of(row) >= {"errors", "cut", "cancelled", "missing", "disordered"}


def test_percentiles_are_told_from_their_number_of_samples_on() -> None:
    for n, told in ((1, {"p50"}), (19, {"p50"}), (20, {"p50", "p90", "p95"}), (100, {"p50", "p90", "p95", "p99"})):
        found = row_of([answer(k, k * 1000, ttft_ms=100 + k) for k in range(n)]).measures["ttft"]
        assert {name for name in ("p50", "p90", "p95", "p99") if getattr(found, name) is not None} == told
        assert set(found.intervals) == told
        assert found.n == n
    assert found.p50 == 149
    assert found.p95 == 194
    assert found.p99 == 198


def test_rates_count_tokens_when_they_came() -> None:
    # The window is 1 s. Of the first answer 1 of 10 tokens comes in it, and a warm-up's tokens count, too.
    first = answer(0, 0, ttft_ms=990, gaps_ms=(20,) * 9)
    last = answer(1, 1000, ttft_ms=100)
    warm = answer(2, -500, ttft_ms=600, gaps_ms=(100,) * 9, phase="warmup")
    rates = row_of([first, last, warm]).rates
    assert rates.window_seconds == 1
    assert rates.output == 1 + 9
    assert rates.input == 20 + 20
    assert rates.requests is None
    assert rates.whole_seconds == pytest.approx(1.191)
    assert rates.whole_output == pytest.approx(20 / 1.191)
    assert rates.whole_requests == pytest.approx(2 / 1.191)


def test_a_cells_own_window_stands_above_what_samples_say() -> None:
    answers = [answer(n, n * 100) for n in range(40)]
    own = [cell(window_start=SECOND, window_end=3 * SECOND)]
    rates = row_of(answers, cells=own).rates
    assert rates.window_seconds == 2
    assert rates.output == pytest.approx(100)
    low, high = rates.output_interval
    assert low is not None
    assert high is not None
    assert low <= 100 <= high


def test_repeats_are_pooled_and_never_averaged() -> None:
    cells = [cell(f"cell-{repeat}", repeat=repeat, ordinal=repeat) for repeat in range(2)]
    samples = [answer(n, n * 1000, 100, cell_id="cell-0") for n in range(30)]
    samples += [answer(n, n * 1000, 300, cell_id="cell-1") for n in range(10)]
    row = row_of(samples, cells=cells)
    assert row.repeats == 2
    assert row.measures["ttft"].n == 40
    assert row.measures["ttft"].p50 == 100
    assert row.measures["ttft"].p90 == 300
    assert [one["ttft"] for one in row.per_repeat] == [100, 300]
    assert "unlike-repeats" in remarks_of(row)
    assert row.rates.window_seconds == 29 + 9


def test_stamps_of_two_clocks_make_no_rate() -> None:
    row = row_of([answer(0), answer(1, 1000, clock_id="other")])
    assert row.rates == metrics.Rates()
    assert row.measures["ttft"].n == 2
    assert "clocks" in remarks_of(row)


def test_goodput_counts_failures_as_misses_and_lists_who_cannot_be_judged() -> None:
    samples = [
        answer(0, ttft_ms=100),
        answer(1, ttft_ms=201),
        answer(2, ttft_ms=100, gaps_ms=(80,) * 4),
        answer(3, ttft_ms=100, gaps_ms=()),
        answer(4, ttft_ms=300, gaps_ms=()),
        answer(5, outcome="error"),
        answer(6, outcome="timeout"),
        answer(7, outcome="cut"),
        answer(8, outcome="cancelled"),
    ]
    good = row_of(samples, limits={"ttft": 200, "tpot": 50}).goodput
    assert good is not None
    assert (good.offered, good.good) == (6, 1)
    assert good.share == 1 / 6
    assert good.excluded == {"cut": 1, "cancelled": 1, "unjudged": 1}
    assert good.kept == {"ttft": 3 / 5, "tpot": 2 / 3}
    assert good.tokens_per_second == pytest.approx(10 * (good.per_second or 0))


def test_limits_come_from_the_spec_and_e2el_is_e2e() -> None:
    spec = json.dumps({"slo": {"e2el": 191.0, "itl": 10}})
    good = row_of([answer(0), answer(1, ttft_ms=101)], spec_json=spec).goodput
    assert good is not None
    assert good.limits == {"e2e": 191, "itl": 10}
    assert (good.good, good.offered) == (1, 2)
    assert row_of([answer(0)]).goodput is None


def test_token_truth_says_who_said_what() -> None:
    samples = [
        answer(0, in_planned=7, in_engine=20, out_asked=10, out_engine=10, out_counted=10, cached=3),
        answer(1, in_planned=9, in_engine=22, out_asked=12, out_engine=10, out_counted=11, cached=0),
    ]
    row = row_of(samples)
    tokens = row.tokens
    assert (tokens.in_planned, tokens.in_usage, tokens.in_engine, tokens.cached) == (16, 40, 42, 3)
    assert (tokens.out_asked, tokens.out_usage, tokens.out_engine, tokens.out_counted) == (22, 20, 20, 21)
    assert tokens.disagree == {"in_usage/in_engine": 1, "out_usage/out_counted": 1, "out_engine/out_counted": 1}
    assert (tokens.template_overhead.least, tokens.template_overhead.most) == (13, 13)
    assert (tokens.chunks, tokens.short, tokens.unmapped) == (20, 1, 0)
    assert remarks_of(row) >= {"tokens-disagree", "short"}
    assert row_of([answer(0), answer(1, in_usage=None)]).tokens.in_usage is None


def test_of_nothing_nothing_is_known() -> None:
    row = row_of([])
    assert row.measures == {}
    assert row.rates == metrics.Rates()
    assert (row.error_share, row.where, row.slow, row.counts.missing) == (None, {}, [], 10)
    assert row_of([], limits={"ttft": 1}).goodput is not None


def test_rows_stand_in_the_order_of_the_run() -> None:
    cells = [cell(f"cell-{level}", level=level, ordinal=ordinal) for ordinal, level in enumerate((16, 1, 4))]
    assert [row.level for row in report_of([], cells=cells).rows] == [16, 1, 4]


def test_what_a_spec_says_wrongly_is_left_out() -> None:
    found = metrics.report(_strange(), [cell()], [], {}, limits=None)
    assert (found.flags, found.manifest, found.rows[0].target) == ([], {}, "target")


def _strange() -> Any:
    from tests.bench.records import run

    return run(spec_json="[]", flags_json='{"no": "list"}', manifest_json="not json")


def test_a_report_is_json_and_every_measure_explains_itself() -> None:
    found = report_of([answer(n, n * 10, cached=0) for n in range(30)])
    again = msgspec.json.decode(msgspec.json.encode(found), type=metrics.Report)
    assert again == found
    assert set(found.rows[0].measures) <= set(MEASURES)
    for name, measure in MEASURES.items():
        assert measure.name == name
        assert measure.formula
        assert measure.unit in ("ms", "tokens/s")


def test_stamps_that_cannot_be_are_left_out() -> None:
    good = answer(0)
    backwards = list(stamps_of(good))
    backwards[3] = 0
    bad: list[Sample] = [
        answer(1, t_first_token=0),
        answer(2, chunk_times=packed_stamps(backwards)),
        answer(3, t_end=50 * MS),
    ]
    row = row_of([good, *bad])
    assert (row.counts.disordered, row.measures["e2e"].n) == (3, 1)
