"""The sixteen traps that benchmarks fall into: for each, what a tool that fell in would say, and that ours doesn't.

Those that lie in sending are in test_sending_traps.py. docs/bench_truth.md lists all, each with its tests.
"""

import json
import re
import statistics as standard
from pathlib import Path

import msgspec
import pytest

from heylook_llm.bench.frames import Pulse
from heylook_llm.bench.measures import output_tokens, token_gaps_ms, tpot_ms, values
from heylook_llm.bench.run import saturated
from heylook_llm.bench.sample import Sample
from tests.bench.answers import MS, SECOND, answer, remarks_of, report_of, row_of
from tests.bench.records import cell
from tests.bench.test_breakdown import story

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]


def test_01_tokens_are_counted_by_who_knows_never_by_words_or_chunks() -> None:
    one = answer(gaps_ms=(10,) * 2, counts=(1, 4, 5), out_engine=10, out_usage=11, out_counted=12)
    assert output_tokens(one) == 10
    assert output_tokens(msgspec.structs.replace(one, out_engine=None)) == 11
    assert output_tokens(msgspec.structs.replace(one, out_engine=None, out_usage=None)) == 12
    nobody = msgspec.structs.replace(one, out_engine=None, out_usage=None, out_counted=None)
    assert output_tokens(nobody) is None  # a tool that counts chunks says 3
    row = row_of([one])
    assert row.tokens.disagree == {"out_usage/out_engine": 1, "out_usage/out_counted": 1, "out_engine/out_counted": 1}
    assert "tokens-disagree" in remarks_of(row)


def test_02_an_empty_first_chunk_is_no_token_and_hidden_reasoning_no_visible_one() -> None:
    one = answer(ttft_ms=100, gaps_ms=(10,) * 9, t_first_event=5 * MS, t_first_visible=150 * MS)
    assert [values(one, open_loop=False)[name] for name in ("ttfe", "ttft", "ttfo")] == [5, 100, 150]
    # The first chunk holds what was hidden: 90 tokens at once, 10 after it. A tool that divides by n - 1 says 1 ms.
    held = answer(gaps_ms=(10,) * 10, counts=(90, *[1] * 10))
    assert tpot_ms(held) == 10
    assert (held.out_usage or 0) - 1 == 99


def test_03_a_chunk_is_not_a_token() -> None:
    # Four tokens a chunk, as with speculative decoding: a tool that takes chunks for tokens says 40 ms and 25 tokens/s.
    one = answer(gaps_ms=(40,) * 10, counts=(4,) * 11)
    assert {gap for gap, _ in token_gaps_ms(one)} == {10}
    assert sum(count for _, count in token_gaps_ms(one)) == 40
    row = row_of([one, answer(1, 10_000)])
    assert row.measures["itl"].p99 is None
    assert row.measures["itl"].n == 40 + 9
    assert row.measures["icl"].p50 == 40 or row.measures["icl"].p50 == 10
    # Where nobody says what chunks hold there is no inter-token latency at all.
    unknown = row_of([answer(gaps_ms=(40,) * 10, chunk_tokens=b"", out_usage=44)])
    assert "itl" not in unknown.measures
    assert unknown.measures["icl"].p50 == 40
    assert "unmapped" in remarks_of(unknown)
    texts = {remark.code: remark.text for remark in unknown.remarks}
    assert "the chunks of 1 answer hold" in texts["unmapped"]
    assert texts["few"].startswith("1 request: ")


def stalled(load: str) -> list[Sample]:
    """Ten requests a second are due for 10 s; each takes 20 ms, but for 5 s nothing is answered, one at a time."""
    free, samples = 0.0, []
    for n in range(100):
        due = n * 100.0
        start = max(due, free)
        took = 5000.0 if n == 20 else 20.0
        free = start + took
        one = answer(n, start, ttft_ms=took - 2, gaps_ms=(1,), t_due=round(due * MS) if load != "closed" else None)
        samples.append(one)
    return samples


def test_04_a_stall_is_paid_for_by_all_whom_it_kept_waiting() -> None:
    closed = row_of(stalled("closed"))
    opened = row_of(stalled("constant"), cells=[cell(load="constant", level=10)])
    assert closed.measures["e2e"].p95 == 20  # what a tool says that measures from the sending
    assert opened.measures["service"].p95 == 20
    assert (opened.measures["e2e"].p95 or 0) > 3000
    assert (opened.measures["ttft"].p50 or 0) > 500
    assert (opened.measures["lag"].p99 or 0) > 3000
    assert "late" in remarks_of(opened)


def test_05_warm_up_is_in_no_number_and_one_too_short_is_told() -> None:
    cold = answer(0, 0, ttft_ms=9900)
    warm = [answer(n, 10_000 + n * 200, ttft_ms=100) for n in range(1, 40)]
    row = row_of([msgspec.structs.replace(cold, phase="warmup"), *warm])
    assert (row.measures["ttft"].most, row.counts.warmup) == (100, 1)
    assert "cold-start" not in remarks_of(row)
    assert "cold-start" in remarks_of(row_of([cold, *warm]))


def test_06_prompts_that_a_cache_knew_are_told() -> None:
    fresh = [answer(n, n * 200, in_usage=500, cached=12) for n in range(30)]
    assert "cached" not in remarks_of(row_of(fresh))
    known = [answer(n, n * 200, in_usage=500, cached=480) for n in range(30)]
    row = row_of(known)
    assert "cached" in remarks_of(row)
    # The prefill rate is of what was computed: a tool that divides all 500 tokens by TTFT says 5,000 tokens/s.
    assert row.measures["prefill"].p50 == pytest.approx(200)
    planned = row_of(known, cells=[cell(cache="prefix95")])
    assert "cached" not in remarks_of(planned)
    assert "not-cached" in remarks_of(row_of(fresh, cells=[cell(cache="prefix95")]))


def test_07_a_client_that_could_not_keep_up_is_not_taken_for_a_slow_server() -> None:
    late = [answer(n, n * 10 + 50, t_due=n * 10 * MS) for n in range(100)]
    row = row_of(late, cells=[cell(load="poisson", level=100)])
    assert "late" in remarks_of(row)
    assert row.where["wait"] == 50
    told = [story(n, start=n * 1000 * MS, wait=1 * MS) for n in range(40)]
    slow = story(40, start=90 * SECOND, wait=80 * MS)
    row = row_of(
        [one for one, _ in (*told, slow)],
        cells=[cell(load="constant", level=1)],
        pairs=[pair for _, pair in (*told, slow)],
    )
    assert row.slow[0].verdict == "wait-bound"


def test_07_a_sender_counts_as_saturated_where_it_computes_and_is_late() -> None:
    calm, spins, full = (Pulse(0, share, lag * MS) for share, lag in ((0.3, 5), (0.99, 1), (0.95, 4)))
    assert not saturated([calm] * 20)
    assert not saturated([spins] * 20)  # it waits in turns of its loop for what is due every millisecond
    assert not saturated([full, *[calm] * 20])  # once, as when a run begins
    assert saturated([full] * 3 + [calm] * 20)


def test_08_connection_setup_is_in_e2e_and_never_in_ttft() -> None:
    one = answer(ttft_ms=180, t_tcp=30 * MS, t_tls=80 * MS)
    assert values(one, open_loop=False)["ttft"] == 100
    assert values(one, open_loop=False)["connect"] == 80
    assert values(one, open_loop=False)["e2e"] == 271
    row = row_of([one, answer(1, 1000)])
    assert row.measures["connect"].n == 1
    assert "connected" in remarks_of(row)
    # What is sent again is another attempt: it is counted, and its first half isn't hidden in the second's latency.
    again = row_of([answer(0, outcome="cut"), answer(0, 5000, attempt=1)])
    assert (again.counts.superseded, again.counts.measured, again.measures["e2e"].p50) == (1, 1, 191)


def test_09_requests_in_flight_at_the_end_are_counted_beside_every_latency() -> None:
    row = row_of(
        [*(answer(n, n * 100) for n in range(90)), *(answer(n, n * 100, outcome="cut") for n in range(90, 100))]
    )
    assert (row.counts.cut, row.counts.measured, row.measures["e2e"].n) == (10, 100, 90)
    assert "cut" in remarks_of(row)
    assert row.measures["e2e"].p99 is None  # 90 are too few, whatever was sent


def test_10_short_answers_stay() -> None:
    short = [answer(n, n * 100, gaps_ms=()) for n in range(20)]
    row = row_of(short)
    assert row.counts.ok == row.measures["e2e"].n == row.measures["ttft"].n == 20
    assert "tpot" not in row.measures
    mixed = row_of([*short, *(answer(20 + n, 9000 + n * 100) for n in range(5))])
    assert (mixed.measures["ttft"].n, mixed.measures["tpot"].n, mixed.measures["tpot"].p50) == (25, 5, 10)


def test_11_a_load_is_never_in_one_mean_with_warm_requests() -> None:
    told = [story(n, start=n * 10 * SECOND, load=4000 * MS if n == 0 else 0) for n in range(10)]
    row = row_of([one for one, _ in told], pairs=[pair for _, pair in told])
    assert (row.counts.loading, row.measures["ttft"].n) == (1, 9)
    assert (row.measures["ttft"].most or 0) < 100  # the mean of all ten is above 400 ms
    assert "loading" in remarks_of(row)
    cold = row_of([one for one, _ in told[:1]], cells=[cell(cache="cold")], pairs=[pair for _, pair in told[:1]])
    assert cold.measures["e2e"].n == 1
    assert cold.where["load"] == 4000


def test_12_the_templates_tokens_are_told() -> None:
    row = row_of([answer(n, n * 100, in_planned=500, in_usage=513, in_engine=513) for n in range(10)])
    overhead = row.tokens.template_overhead
    assert (overhead.least, overhead.p50, overhead.most) == (13, 13, 13)
    assert (row.tokens.in_planned, row.tokens.in_engine) == (5000, 5130)


def test_13_a_length_that_was_forced_is_marked() -> None:
    samples = [answer(n, n * 100, out_asked=10) for n in range(10)]
    assert "forced-length" in remarks_of(row_of(samples, cells=[cell(flags=("ignore-eos",))]))
    asked = json.dumps({"force_length": True})
    free = row_of([answer(n, n * 100, out_asked=12) for n in range(10)], spec_json=asked)
    assert "forced-length" not in remarks_of(free), "a target that can't isn't asked to"
    assert free.tokens.short == 10


def test_15_the_same_samples_give_the_same_report_to_the_byte() -> None:
    samples = [answer(n, n * 37.5, ttft_ms=50 + n % 7) for n in range(50)]
    first, second = (msgspec.json.encode(report_of(each)) for each in (samples, samples[::-1]))
    assert first == second


def test_16_a_clock_that_steps_is_seen_and_stamps_of_two_clocks_are_never_subtracted() -> None:
    stepped = answer(1, 1000, t_end=900 * MS)
    row = row_of([answer(0), stepped])
    assert (row.counts.disordered, row.measures["e2e"].n) == (1, 1)
    assert "disordered" in remarks_of(row)
    rebooted = row_of([answer(0, 500_000), answer(1, 3, clock_id="after-reboot")])
    assert rebooted.rates.output is None
    assert "clocks" in remarks_of(rebooted)


def test_the_page_lists_all_traps_with_tests_that_there_are() -> None:
    page = (ROOT / "docs" / "bench_truth.md").read_text()
    listed = re.findall(r"^\| (\d+) \|.*?\| (`test_[^|]*) \|$", page, re.MULTILINE)
    assert [int(number) for number, _ in listed] == list(range(1, 17))
    there = "".join(path.read_text() for path in (ROOT / "tests" / "bench").glob("test_*.py"))
    for _, names in listed:
        for name in re.findall(r"`(\w+)`", names):
            assert f"def {name}(" in there


def test_percentiles_lie_within_what_was_measured() -> None:
    """What the spec's 2.5 adds: by interpolation beyond the ends p95 of four runs exceeds the largest."""
    told = (10.0, 11.0, 12.0, 13.0)
    assert standard.quantiles(told, n=20)[-1] > max(told)
    found = row_of([answer(n, n * 100, ttft_ms=told[n % 4]) for n in range(20)]).measures["ttft"]
    assert found.p95 == found.most == 13
