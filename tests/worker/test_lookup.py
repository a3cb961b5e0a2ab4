"""Where the last tokens of a text stood before: against a naive search, and what a guess is made of."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm.worker.lookup import LONGEST_MATCH, Lookup
from tests.worker.tiers import EXAMPLES

pytestmark = pytest.mark.unit

texts = st.lists(st.integers(0, 3), max_size=60)


def longest(where: list[int], text: list[int]) -> tuple[list[int], int]:
    """All places where the most of the last tokens end, by trying each."""

    def common(end: int) -> int:
        count = 0
        while count < min(end + 1, len(text), LONGEST_MATCH) and where[end - count] == text[-1 - count]:
            count += 1
        return count

    lengths = [common(end) for end in range(len(where))]
    most = max(lengths, default=0)
    return [end for end, length in enumerate(lengths) if length == most and most], most


@settings(max_examples=EXAMPLES)
@given(texts, st.lists(texts, max_size=3), st.integers(1, 9), st.integers(1, 4))
def test_the_latest_of_the_longest_repetitions_is_continued(
    first: list[int], more: list[list[int]], most: int, least: int
) -> None:
    lookup, text = Lookup(first), list(first)
    for part in more:
        lookup.extend(part)
        text += part
    ends, matched = longest(text[:-1], text) if text else ([], 0)
    found = lookup.following(most, least)
    if matched < least:
        assert found is None
        return
    assert found is not None
    period = text[ends[-1] + 1 :]
    assert (found.end, found.matched) == (ends[-1], matched)
    assert list(found.tokens) == [period[at % len(period)] for at in range(most)]


@settings(max_examples=EXAMPLES)
@given(texts, texts, st.integers(1, 9), st.integers(-1, 60))
def test_another_text_is_continued_nearest_to_where_it_was(
    text: list[int], other: list[int], most: int, start: int
) -> None:
    found = Lookup(text).following_in(Lookup(other), most, start)
    ends, matched = longest(other, text) if text else ([], 0)
    ends = [end for end in ends if end < len(other) - 1]
    if not ends:
        assert found is None
        return
    assert found is not None
    assert found.matched == matched
    assert found.end in ends
    assert abs(found.end - start) == min(abs(end - start) for end in ends)
    assert list(found.tokens) == other[found.end + 1 : found.end + 1 + most]


def test_a_loop_is_continued_as_a_loop() -> None:
    found = Lookup([9, 1, 2, 1, 2, 1]).following(5, 2)
    assert found is not None
    assert found.tokens == (2, 1, 2, 1, 2)
