"""The null target's plan: when the answers' tokens are due."""

import math
from itertools import pairwise

import pytest

from heylook_llm.bench.null import Plan

pytestmark = pytest.mark.unit


def test_answers_spread_evenly_over_a_gap_however_many_there_are() -> None:
    plan = Plan(0.1, 0.02, 5, "spread")
    for count in (5, 8, 64):
        places = sorted(plan.first_due(7.0, number) - 7.1 for number in range(count))
        assert places[0] >= -1e-9
        assert places[-1] < 0.02
        around = [*places, places[0] + 0.02]
        assert max(b - a for a, b in pairwise(around)) < 2.7 * 0.02 / count


def test_answers_together_share_their_moments_and_none_comes_too_early() -> None:
    plan = Plan(0.1, 0.02, 5, "together")
    for begun in (7.0, 7.001, 7.0199, 8.5):
        due = plan.first_due(begun, 3)
        assert 0.1 <= due - begun + 1e-9 < 0.12 + 1e-9
        assert math.isclose(due / 0.02, round(due / 0.02), abs_tol=1e-6)
    assert Plan(0.1, 0, 5, "together").first_due(7.0, 3) == pytest.approx(7.1)  # without gaps there is no grid


def test_by_themselves_answers_keep_their_requests_distances() -> None:
    plan = Plan(0.1, 0.02, 5)
    assert [plan.first_due(begun, 9) for begun in (7.0, 7.005)] == pytest.approx([7.1, 7.105])
