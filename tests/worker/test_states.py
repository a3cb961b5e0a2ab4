"""Saved states in memory: which one serves best, and which goes first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm.worker.states import Saved, States
from tests.worker.tiers import EXAMPLES

pytestmark = pytest.mark.unit

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=6)


def saved(*tokens: int, size: int = 10) -> Saved:
    """A state of these tokens."""
    return Saved(list(tokens), bytes(size))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    changes=st.lists(st.tuples(TOKENS, st.integers(1, 60), st.booleans()), max_size=30),
    asked=TOKENS,
    limit=st.integers(0, 150),
)
def test_the_budget_is_kept_and_the_longest_match_found(
    changes: list[tuple[list[int], int, bool]], asked: list[int], limit: int
) -> None:
    states = States(limit)
    kept: list[Saved] = []
    for tokens, size, instead in changes:
        one = Saved(tokens, bytes(size))
        states.put(one, instead=instead)
        kept = [
            old for old in kept if old.tokens != tokens and not (instead and tokens[: len(old.tokens)] == old.tokens)
        ]
        if size <= limit:
            kept.append(one)
        while sum(len(old.data) for old in kept) > limit:
            kept.pop(0)
        assert states.used_bytes == sum(len(old.data) for old in kept) <= limit
        assert len(states) == len(kept)
        assert states.has(tokens) == any(old.tokens == tokens for old in kept)
    for whole in (False, True):
        common = [_common(old.tokens, asked) for old in kept]
        fitting = [n for n, old in zip(common, kept, strict=True) if n and (not whole or n == len(old.tokens))]
        best = states.best(asked, whole=whole)
        assert (best[1] if best else 0) == max(fitting, default=0)


def _common(left: list[int], right: list[int]) -> int:
    return next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def test_what_was_used_last_stays() -> None:
    states = States(20)
    states.put(saved(1, 1), instead=True)
    states.put(saved(2, 2), instead=True)
    assert states.best([1, 1, 5], whole=True)
    states.put(saved(3, 3), instead=True)
    assert [states.has([at, at]) for at in (1, 2, 3)] == [True, False, True]


def test_among_equals_the_shortest_serves() -> None:
    states = States(100)
    states.put(saved(1, 2, 3, 4, 5), instead=False)
    states.put(saved(1, 2, 9), instead=False)
    best = states.best([1, 2, 7], whole=False)
    assert best is not None
    assert (best[0].tokens, best[1]) == ([1, 2, 9], 2)
    states.drop(best[0])
    best = states.best([1, 2, 7], whole=False)
    assert best is not None
    assert best[0].tokens == [1, 2, 3, 4, 5]
    states.clear()
    assert (len(states), states.used_bytes) == (0, 0)
