"""What was read beside a run, summed up by hand: the machine's series, and a target's own counters."""

import pytest

from heylook_llm.bench.counters import SOURCE, counters, told
from heylook_llm.bench.meanwhile import meanwhile
from heylook_llm.bench.sample import Point
from tests.bench.answers import SECOND, answer, row_of
from tests.bench.records import cell

pytestmark = pytest.mark.unit


def points(source: str, name: str, *values: float) -> list[Point]:
    """One each second, from 0."""
    return [Point(second * SECOND, source, name, value) for second, value in enumerate(values)]


SERIES = [
    *points("host", "cpu0_share", 0.9, 0.2, 0.4, 0.9),
    *points("host", "cpu1_share", 0.9, 0.4, 0.6, 0.9),
    *points("host", "available_bytes", 1, 8, 6, 1),
    *points("target null", "rss_bytes", 99, 10, 20, 99),
    *points("target other", "rss_bytes", 500, 500, 500, 500),
    *points("gpu0", "used_bytes", 9, 1, 5, 9),
    *points("gpu1", "used_bytes", 9, 4, 1, 9),
    *points("gpu0", "percent", 0, 50, 70, 0),
    *points("energy", "package-0", 0, 10e6, 25e6, 90e6),
    *points("energy", "gpu-0", 0, 1e6, 6e6, 90e6),
]


def test_a_row_knows_what_the_machine_did_in_its_windows_alone() -> None:
    found = meanwhile(SERIES, [(SECOND, 2 * SECOND)], "null")
    assert found is not None
    assert found.cpu_share == pytest.approx(0.4)
    assert (found.least_available_bytes, found.target_bytes, found.gpu_bytes) == (6, 20, 6)
    assert (found.gpu_percent, found.joules, found.seconds, found.watts) == (60, 20, 1, 20)
    assert meanwhile(SERIES, [(9 * SECOND, 10 * SECOND)], "null") is None
    one = meanwhile(SERIES, [(SECOND, SECOND)], "null")
    assert one is not None
    assert (one.joules, one.watts, one.gpu_percent) == (None, None, 50), "of one reading there is no energy"


def test_joules_a_token_are_watts_by_tokens_a_second() -> None:
    within = cell(window_start=0, window_end=3 * SECOND)
    row = row_of([answer(0, ttft_ms=500, gaps_ms=[100] * 9)], cells=[within], series=SERIES)
    assert row.rates.output == pytest.approx(10 / 3)
    assert row.meanwhile is not None
    assert row.meanwhile.watts == pytest.approx(60)
    assert row.joules_per_token == pytest.approx(18)
    assert row_of([answer(0)], cells=[within]).joules_per_token is None


TEXT = """
# HELP vllm:request_queue_time_seconds Histogram of time spent in WAITING phase for request.
# TYPE vllm:request_queue_time_seconds histogram
vllm:request_queue_time_seconds_bucket{le="0.3",model_name="m"} 5.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="m"} 1.5
vllm:request_queue_time_seconds_sum{engine="1",model_name="m"} 0.5 1700000000
vllm:request_queue_time_seconds_count{engine="0",model_name="a } b"} 4.0
vllm:prefix_cache_hits_total{model_name="m"} NaN
vllm:prefix_cache_queries_total 1e3
process_open_fds 12.0
broken
"""


def test_counters_of_all_labels_add_up_and_others_are_left_out() -> None:
    assert counters(TEXT) == {
        **{"vllm:request_queue_time_seconds_sum": 2.0, "vllm:request_queue_time_seconds_count": 4.0},
        "vllm:prefix_cache_queries_total": 1000.0,
    }


def test_means_are_of_what_came_between_two_readings() -> None:
    series = [
        *points(SOURCE, "vllm:request_prefill_time_seconds_sum", 1.0, 1.5, 9.0),
        *points(SOURCE, "vllm:request_prefill_time_seconds_count", 10, 20, 90),
        *points(SOURCE, "vllm:prefix_cache_hits_total", 0, 25, 99),
        *points(SOURCE, "vllm:prefix_cache_queries_total", 0, 100, 200),
        *points("host", "vllm:request_queue_time_seconds_sum", 0, 5, 5),
    ]
    assert told(series, [(SECOND // 4, SECOND // 2)]) == pytest.approx({"prefill": 50, "cached": 0.25})
    assert told(series, [(5 * SECOND, 6 * SECOND)]) == {}
    again = points(SOURCE, "vllm:time_to_first_token_seconds_sum", 5, 1)
    assert told([*again, *points(SOURCE, "vllm:time_to_first_token_seconds_count", 5, 1)], [(1, 2)]) == {}
