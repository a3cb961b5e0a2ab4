"""Statistics against exact arithmetic: binomials by fractions, coverage by counting, percentiles by definition."""

import itertools
import math
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm.bench import statistics
from heylook_llm.bench.statistics import Interval, difference, paired, paired_difference, rank, ranks

pytestmark = pytest.mark.unit

QUANTILES = st.sampled_from([Fraction(1, 2), Fraction(9, 10), Fraction(19, 20), Fraction(99, 100)])
numbers = st.floats(0, 1e12, allow_nan=False)


def cumulated(n: int, chance: Fraction) -> list[Fraction]:
    """P(B <= k) for each k, exactly."""
    one, other = chance.numerator, chance.denominator - chance.numerator
    terms = (math.comb(n, k) * one**k * other ** (n - k) for k in range(n + 1))
    return [Fraction(total, chance.denominator**n) for total in itertools.accumulate(terms)]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 150), QUANTILES)
def test_ranks_are_the_tightest_that_exact_binomials_allow(n: int, quantile: Fraction) -> None:
    left = Fraction(1, 40)
    low, high = ranks(n, float(quantile))
    below = cumulated(n, quantile)
    if low is None:
        assert below[0] > left
    else:
        assert below[low - 1] <= left < below[low]
    if high is None:
        assert 1 - below[n - 1] > left
    else:
        assert 1 - below[high - 1] <= left
        assert high == 1 or 1 - below[high - 2] > left


def test_ranks_of_many_samples_stay_near_the_normal_ones() -> None:
    for n in (10_000, 1_000_000, 50_000_000):
        for quantile in (0.5, 0.95, 0.99):
            low, high = ranks(n, quantile)
            assert low is not None
            assert high is not None
            reach = 1.96 * math.sqrt(n * quantile * (1 - quantile))
            assert abs(low - (n * quantile - reach)) < 3
            assert abs(high - (n * quantile + reach)) < 3


def test_what_few_samples_cannot_bound() -> None:
    assert ranks(5, 0.5) == (None, None)
    assert ranks(6, 0.5) == (1, 6)
    assert ranks(100, 0.99)[1] is None
    assert ranks(368, 0.99)[1] == 368
    assert ranks(367, 0.99)[1] is None
    assert statistics.interval([1.0, 2.0, 3.0], 0.5) == Interval(None, None)


@given(st.lists(numbers, min_size=1, max_size=300))
def test_percentiles_are_samples_and_never_beyond_the_largest(values: list[float]) -> None:
    ordered = sorted(values)
    for name, quantile in statistics.QUANTILES.items():
        found = statistics.percentile(ordered, quantile)
        exact = Fraction(str(quantile))
        assert found in values
        assert sum(value <= found for value in values) >= exact * len(values)
        assert sum(value < found for value in values) < exact * len(values)
        least = {"p50": 1, "p90": 20, "p95": 20, "p99": 100}[name]
        assert statistics.told(ordered, name) == (found if len(values) >= least else None)


def test_ranks_where_floats_would_round_up() -> None:
    for n in (100, 1000, 10_000, 700):
        for hundredths in (50, 90, 95, 99):
            assert rank(n, hundredths / 100) == math.ceil(Fraction(hundredths, 100) * n)


def test_intervals_of_medians_hold_the_true_one() -> None:
    chance = random.Random(7)
    held = 0
    for _ in range(1000):
        found = statistics.interval(sorted(chance.expovariate(1) for _ in range(40)), 0.5)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= math.log(2) <= found.high
    assert 940 <= held <= 1000


def test_rates_of_windows_hold_the_true_one() -> None:
    chance = random.Random(8)
    held = 0
    for _ in range(400):
        at, events = 0.0, list[tuple[int, float]]()
        while (at := at + chance.expovariate(200 / 10e9)) < 10e9:
            events.append((int(at), 5.0))
        found = statistics.rate_interval(events, 0, 10_000_000_000)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 100 <= found.high
    assert 365 <= held <= 400


def test_rates_of_too_few_events_have_no_interval_and_those_outside_dont_count() -> None:
    events = [(at, 1.0) for at in range(0, 90, 10)]
    assert statistics.rate_interval(events, 0, 100) == Interval(None, None)
    even = [(at, 1.0) for at in range(5, 100, 10)]
    assert statistics.rate_interval([*even, (100, 50.0), (-1, 50.0)], 0, 100) == Interval(1e8, 1e8)


@given(st.integers(0, 500), st.integers(1, 500))
def test_shares_lie_within_their_interval(successes: int, n: int) -> None:
    successes = min(successes, n)
    found = statistics.share(successes, n)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= successes / n + 1e-12
    assert successes / n - 1e-12 <= found.high <= 1
    assert found.high - found.low < 1


def test_a_share_of_nothing_is_unknown() -> None:
    assert statistics.share(0, 0) == Interval(None, None)


bounds = st.one_of(st.none(), numbers)


@given(bounds, bounds, bounds, bounds)
def test_overlapping_intervals_show_nothing(a: float | None, b: float | None, c: float | None, d: float | None) -> None:
    first = Interval(*(sorted((a, b)) if a is not None and b is not None else (a, b)))
    second = Interval(*(sorted((c, d)) if c is not None and d is not None else (c, d)))
    found = difference(first, second)
    assert {"lower": "higher", "higher": "lower", "not shown": "not shown"}[found] == difference(second, first)
    low = max(-math.inf if one.low is None else one.low for one in (first, second))
    high = min(math.inf if one.high is None else one.high for one in (first, second))
    assert (found == "not shown") == (low <= high)


def test_measured_in_turn_a_drift_hides_no_difference() -> None:
    drift = [100.0 * 1.3**round_ for round_ in range(8)]
    found = paired([(value, value * 1.1) for value in drift])
    assert found is not None
    assert found.ratio == pytest.approx(1.1)
    assert paired_difference(found) == "higher"
    apart = difference(
        statistics.interval(sorted(drift), 0.5), statistics.interval(sorted(value * 1.1 for value in drift), 0.5)
    )
    assert apart == "not shown"


def test_pairs_that_show_nothing() -> None:
    assert paired([(1.0, 2.0)] * 5) is None
    assert paired([(0.0, 2.0)] * 6) is None
    mixed = paired([(1.0, 1.1), (1.0, 0.9)] * 4)
    assert mixed is not None
    assert paired_difference(mixed) == "not shown"
    faster = paired([(1.0, 0.9)] * 6)
    assert faster is not None
    assert paired_difference(faster) == "lower"
