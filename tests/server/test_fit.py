"""Whether a model fits into main memory and a GPU's, and with how large a context."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm.server.fit import NOWHERE, Bytes, Need, Placement

pytestmark = pytest.mark.unit

MOST = 1 << 40
placements = st.builds(
    Placement,
    weights=st.sampled_from([0.0, 0.3, 1.0]),
    cache=st.sampled_from([0.0, 0.7, 1.0]),
    spills=st.booleans(),
    layers=st.integers(1, 100),
)
needs = st.builds(
    Need,
    weights_bytes=st.integers(0, MOST),
    kv_bytes_per_token=st.sampled_from([0, 1, 4096, 1 << 20]),
    pool_tokens=st.sampled_from([0, 0, 5000]),
    kv_bytes=st.sampled_from([0, 1 << 20]),
    placement=placements,
)
amounts = st.builds(Bytes, st.integers(0, 2 * MOST), st.none() | st.integers(0, 2 * MOST))


@settings(max_examples=300)
@given(needs, amounts, st.integers(0, 1 << 20))
def test_nothing_is_lost_in_dividing(need: Need, free: Bytes, n_ctx: int) -> None:
    taken = need.divided(n_ctx, free)
    assert taken.total == need.total_bytes(n_ctx)
    assert taken.main >= -1, "shares are rounded up"
    assert (taken.gpu is None) == (free.gpu is None)
    if need.placement.spills and free.gpu is not None:
        assert (taken.gpu or 0) <= free.gpu, "what spills never asks the GPU for more than it has"


@settings(max_examples=300)
@given(needs, amounts)
def test_the_largest_context_fits_and_a_larger_one_does_not(need: Need, free: Bytes) -> None:
    most = need.most_tokens(free)
    if most == NOWHERE:
        assert not need.fits(0, free)
    elif most is None:
        assert need.fits(1 << 60, free)
    else:
        assert need.fits(most, free)
        assert need.pool_tokens > most or not need.fits(most + 1, free)


@settings(max_examples=300)
@given(needs, amounts, st.integers(0, MOST), st.integers(0, MOST))
def test_more_memory_never_holds_less(need: Need, free: Bytes, main: int, gpu: int) -> None:
    fewer, more = need.most_tokens(free), need.most_tokens(free.plus(Bytes(main, gpu)))
    assert more is None or (fewer is not None and more >= fewer)


@pytest.mark.parametrize(
    ("placement", "free", "tokens"),
    [
        (Placement(), Bytes(1500), 500),
        (Placement(), Bytes(1500, 9000), 500),
        (Placement(), Bytes(999), NOWHERE),
        (Placement(1.0, 1.0), Bytes(0, 1700), 700),
        (Placement(1.0, 1.0), Bytes(1700), 700),  # one memory for both
        (Placement(1.0, 1.0), Bytes(9000, 999), NOWHERE),
        (Placement(1.0, 0.0), Bytes(300, 1000), 300),
        (Placement(0.5, 0.5), Bytes(600, 700), 201),  # the odd one lies on the GPU
        (Placement(1.0, 1.0, spills=True, layers=9), Bytes(0, 1700), 700),
        (
            Placement(1.0, 1.0, spills=True, layers=9),
            Bytes(500, 1000),
            428,
        ),  # at 1429 the seventh of ten layers has no room
        (Placement(1.0, 0.0, spills=True, layers=9), Bytes(500, 500), 0),
        (Placement(1.0, 0.0, spills=True, layers=9), Bytes(501, 500), 1),
    ],
)
def test_where_it_lies_decides(placement: Placement, free: Bytes, tokens: int) -> None:
    assert Need(1000, 1, placement=placement).most_tokens(free) == tokens


def test_a_model_without_a_growing_cache_has_any_context() -> None:
    assert Need(1000, kv_bytes=50).most_tokens(Bytes(1050)) is None
    assert Need(1000, kv_bytes=50).most_tokens(Bytes(1049)) == NOWHERE


def test_amounts_add_up_in_the_budgets_of_the_first() -> None:
    assert Bytes(5).plus(Bytes(1, 2)) == Bytes(8)
    assert Bytes(5, 6).plus(Bytes(1, 2)) == Bytes(6, 8)
    assert Bytes(5, 6).plus(Bytes(1)) == Bytes(6, 6)
