"""Percentiles: exact from samples, within 1 % from buckets, and none where there are too few samples."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.server.performance.histogram import (
    RELATIVE_ERROR,
    Histogram,
    add,
    bucket,
    merge,
    middle,
    percentiles_of_histogram,
    percentiles_of_samples,
)

pytestmark = pytest.mark.unit

VALUES = st.floats(1e-6, 1e12)


@given(VALUES)
def test_a_bucket_stands_for_its_values_within_one_percent(value: float) -> None:
    assert math.isclose(middle(bucket(value)), value, rel_tol=RELATIVE_ERROR + 1e-9)


def test_nothing_has_no_place_and_zero_has() -> None:
    assert percentiles_of_histogram({}) == (0, {"p50": None, "p90": None, "p95": None, "p99": None})
    assert percentiles_of_samples([])[1]["p50"] is None
    found: Histogram = {}
    add(found, 0.0)
    assert percentiles_of_histogram(found)[1]["p50"] == pytest.approx(0, abs=1e-8)


@given(st.lists(VALUES, min_size=1, max_size=300), st.integers(1, 299))
def test_merged_buckets_give_the_samples_percentiles_within_one_percent(values: list[float], cut: int) -> None:
    parts: list[Histogram] = [{}, {}]
    for part, some in zip(parts, (values[:cut], values[cut:]), strict=True):
        for value in some:
            add(part, value)
    merge(parts[0], parts[1])
    n, exact = percentiles_of_samples(values)
    total, close = percentiles_of_histogram(parts[0])
    assert n == total == len(values)
    assert [name for name in close if close[name] is None] == [name for name in exact if exact[name] is None]
    for name, sample in exact.items():
        assert math.isclose(close[name] or 0, sample or 0, rel_tol=RELATIVE_ERROR + 1e-9)


def test_a_percentile_needs_enough_samples() -> None:
    told = {n: percentiles_of_samples(range(1, n + 1))[1] for n in (1, 19, 20, 99, 100)}
    assert told[1] == {"p50": 1, "p90": None, "p95": None, "p99": None}
    assert told[19] == {"p50": 10, "p90": None, "p95": None, "p99": None}
    assert told[20] == {"p50": 10, "p90": 18, "p95": 19, "p99": None}
    assert told[99]["p99"] is None
    assert told[100] == {"p50": 50, "p90": 90, "p95": 95, "p99": 99}
