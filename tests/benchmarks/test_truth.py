"""The truth benchmark: what the target's log says, what tools' files say, and what the report makes of both."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.peers.bench import servers, spec
from benchmarks.peers.servers import Running, Server
from benchmarks.truth.answers import Answer, Said, answers, errors, interpolated, nearest_rank, truth
from benchmarks.truth.machine import Look, used
from benchmarks.truth.report import OURS, Cell, Results, goals, limit, markdown
from benchmarks.truth.stamps import RATES, Schedule, Streams
from benchmarks.truth.target import Plan
from benchmarks.truth.tools import GenaiBench, Guidellm

from heylook_llm.bench.spec import checked
from heylook_llm.bench.statistics import percentile

pytestmark = pytest.mark.unit
MS = 1_000_000


def answer(start: int, ttft: int, gap: int, tokens: int = 3, end: int | None = 1) -> Answer:
    """One, in milliseconds; its stream ends `end` after the last token."""
    stamps = tuple((start + ttft + gap * place) * MS for place in range(tokens))
    return Answer("", start * MS, tokens, stamps, None if end is None else stamps[-1] + end * MS)


def test_a_log_is_read_as_it_was_written() -> None:
    rows = [
        {"id": "a", "received": 5, "asked": 2, "written": [7, 8, 9], "cut": False},
        {"id": "b", "received": 6, "asked": 9, "written": [7, 8], "cut": True},
    ]
    whole, cut = answers("\n".join(json.dumps(row) for row in rows))
    assert whole == Answer("a", 5, 2, (7, 8), 9)
    assert (cut.tokens, cut.end) == ((7, 8), None)


def test_the_truth_is_of_the_targets_stamps_by_the_tools_formulas() -> None:
    told = [answer(0, 100, 10), answer(50, 120, 20), answer(60, 140, 30)]
    found = truth(told, nearest_rank, lambda one: one.gap_ms)
    assert found[:7] == (3, 9, 120, 140, 161, 201, 20)
    assert found.tokens_per_second == pytest.approx(9 / 0.261)
    assert truth(told, interpolated, lambda one: one.gap_to_end_ms).gap == pytest.approx((10.5 + 20.5 + 30.5) / 3)
    assert interpolated([1, 2], 0.5) == 1.5
    assert truth([], nearest_rank, lambda one: one.gap_ms).requests == 0
    values = [5.0, 1.0, 4.0, 2.0, 3.0, 9.0]
    assert all(nearest_rank(values, share) == percentile(sorted(values), share) for share in (0.5, 0.9, 0.95))


def test_errors_are_what_was_said_beyond_the_truth() -> None:
    found = errors(Said(3, 9, 101, None, 160, 200, 22, 90), Said(3, 9, 100, 140, 161, 201, 20, 100))
    assert found[:6] == (0, 0, 1, None, -1, -1)
    assert found[6:] == pytest.approx((0.1, -0.1))


def test_what_was_used_is_by_core_and_second() -> None:
    found = used(Look(0, (1.0, 2.0), 0.0, 100), Look(2_000_000_000, (1.5, 4.0), 0.2, 300))
    assert found.busy == (0.25, 1.0)
    assert found.stolen == pytest.approx(0.05)
    assert found.switches_per_second == 100


def said(off: float, requests: float = 20) -> Said:
    return Said(requests, 60, 100 + off, 120 + off, 150 + off, 160 + off, 20 * (1 + off / 100), 50 * (1 + off / 100))


def results(**more: Any) -> Results:
    """Ours off by 1 (ms or per cent), genai-bench by 5; 64 streams that are late from 6,000 chunks a second on."""
    cells = [
        Cell(tool, clients, said(off), said(0), 20, 20, cpu, 2.0, None)
        for tool, off, cpu in ((OURS, 1.0, 0.3), ("genai-bench", 5.0, 2.2))
        for clients in (1, 16)
        for _ in range(3)
    ]
    curve = [
        [Streams(rate, rate, 9, 0.1, 0.8 if rate < 6000 else 2.0, 5, 0.001, 0.002, 0, (0.2, 0.1), 0.0)] * 3
        for rate in RATES
    ]
    given = Results(
        plan=Plan(200, 20, 50),
        versions={OURS: "1", "genai-bench": "0.0.5"},
        cells=cells,
        idle_cpu={OURS: 0.2, "genai-bench": 0.2},
        steady=curve[1],
        bursts=curve[1],
        curve=curve,
        schedules=[[Schedule(50, 0.2, 0.5, 0.1)], [Schedule(400, 3, 9, 8)]],
        calibrations=[2.0, 4.0, 2.5],
        conditions="apart",
        rounds=3,
        seconds=60,
    )
    return given._replace(**more)


def test_goals_are_met_or_missed_as_measured() -> None:
    found = {goal.text: goal for goal in goals(results())}
    assert all(goal.met for goal in found.values()), [goal for goal in found.values() if not goal.met]
    assert found["CPU for each request beside genai-bench's, 16 clients"].measured == "0.14"
    assert not any("400 requests/s" in text for text in found)  # beyond what the goal is of
    worse = results(cells=[one._replace(said=said(9)) if one.tool == OURS else one for one in results().cells])
    beside = next(goals(worse))
    assert (beside.met, beside.measured.startswith("0 of 12; not TTFT p50 at 1, ")) == (False, True)
    wrong = [one._replace(miscounted=1) for one in results().steady]
    missed = [goal.text for goal in goals(results(steady=wrong, calibrations=[3.5])) if not goal.met]
    assert missed == ["requests and tokens are counted right", "calibration, with the command's start"]


def test_the_limit_is_the_last_rate_before_stamps_are_late() -> None:
    assert limit(results().curve) == 3000
    assert limit(results().curve[:2]) == 1500
    assert limit(results().curve[3:]) is None
    shown = markdown(results())
    assert "**The limit: 3,000 chunks per second.**" in shown
    assert "| 16 | heylookllm bench | **+1.00** (+1.00 to +1.00) |" in shown
    assert "| 16 | genai-bench | +5.00 (+5.00 to +5.00) |" in shown
    assert "| exact | 15.0 (5.0) |" in shown


def test_requests_that_a_tool_lost_are_told() -> None:
    cut = [one._replace(sent=24, said=said(1, requests=19)) for one in results().cells if one.tool != OURS]
    shown = markdown(results(cells=[*(one for one in results().cells if one.tool == OURS), *cut]))
    assert "| -3, +0; 12 more begun and cut off |" in shown


def test_one_spec_asks_every_server_alike() -> None:
    bias = {"7": -100}
    targets = [
        Running(Server(name, "1", (), "m", extra), port)
        for name, extra, port in (("a", {"ignore_eos": True}, 1), ("b", {"logit_bias": bias}, 2))
    ]
    made = checked(spec(targets, [1, 4], 5, 2))
    assert [(one.name, one.url, one.models) for one in made.targets] == [
        ("a", "http://127.0.0.1:1", ("m",)),
        ("b", "http://127.0.0.1:2", ("m",)),
    ]
    assert made.options == {"temperature": 0, "logit_bias": bias}
    assert not made.force_length
    found = servers(2, None)
    assert {"heylookllm (llama.cpp)", "heylookllm (MLX)", "mlx_lm.server"} <= {one.name for one in found}
    assert not [one.name for one in found if "/" in one.model]  # paths of a machine stand in no report
    assert len({json.dumps(one.extra["logit_bias"]) for one in found if "logit_bias" in one.extra}) == 1


# What these tools write of runs against the null target, without what isn't read here.
GENAI_BENCH = {
    "aggregated_metrics": {
        "run_duration": 11.433900502997858,
        "mean_output_throughput_tokens_per_s": 349.836873160759,
        "num_completed_requests": 80,
        "stats": {
            "ttft": {"p50": 628.1199064978864, "p90": 1247.7886104046775, "p95": 1265.7955308037344},
            "tpot": {"mean": 23.486524244390253},
            "e2e_latency": {"p50": 1810.36, "p95": 2820.14},
            "num_output_tokens": {"mean": 50.0, "sum": 4000},
        },
    },
    "individual_request_metrics": [],
    "_time_unit": "ms",
}
GUIDELLM = {
    "benchmarks": [
        {
            "metrics": {
                "request_totals": {"successful": 8, "errored": 1, "incomplete": 0, "total": 9},
                "request_latency": {"successful": {"percentiles": {"p50": 1.198, "p95": 1.3155}}},
                "time_to_first_token_ms": {"successful": {"percentiles": {"p50": 223.78, "p95": 329.84}}},
                "inter_token_latency_ms": {"successful": {"mean": 19.645893452118855}},
                "output_token_count": {"successful": {"total_sum": 400.0}},
                "output_tokens_per_second": {"successful": {"mean": 152.6977190201551}},
            }
        }
    ]
}


def test_what_rivals_write_is_read(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "D100_50_text-to-text_num_concurrency_16_time_9s.json").write_text(json.dumps(GENAI_BENCH))
    (run / "experiment_metadata.json").write_text("{}")
    found = GenaiBench().said(tmp_path)
    assert found[:6] == (80, 4000, 628.1199064978864, 1265.7955308037344, 1810.36, 2820.14)
    assert (found.gap, found.tokens_per_second) == (23.486524244390253, 349.836873160759)
    (tmp_path / "report.json").write_text(json.dumps(GUIDELLM))
    found = Guidellm().said(tmp_path)
    assert found[:4] == (8, 400, 223.78, 329.84)
    assert (found.e2e_p50, found.e2e_p95) == pytest.approx((1198, 1315.5))
    assert (found.gap, found.tokens_per_second) == (19.645893452118855, 152.6977190201551)
