"""A small model's guesses, over a simulated one: what it reads and keeps, and that they are its own words."""

from collections.abc import Sequence as Seq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm.worker.drafting import LEAST_CHANCE, READ_TOKENS, REST_STEPS, Drafts
from heylook_llm.worker.providers.base import Feed, OutOfCells, Wanted
from tests.worker.tiers import EXAMPLES

pytestmark = pytest.mark.unit

VOCABULARY = 20


def says(tokens: Seq[int]) -> tuple[int, float]:
    """What the small model says next, and how sure it is: both hang on every token before."""
    mixed = 11
    for token in tokens:
        mixed = (mixed * 37 + token + 1) % 997
    return mixed % (VOCABULARY + 2), 0.1 + 0.9 * (mixed % 7) / 6


class Small:
    """Counts cells, and refuses positions that don't follow."""

    def __init__(self, slots: int, cells: int = 1 << 30) -> None:
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self.cells = cells
        self.passes: list[int] = []

    def remove(self, slot: int, start: int) -> None:
        """Forget."""
        assert start <= len(self.held[slot])
        del self.held[slot][start:]

    def compute(self, feeds: Seq[Feed]) -> list[tuple[int, float]]:
        """One pass."""
        wanted = sum(len(feed.tokens) for feed in feeds)
        if sum(map(len, self.held)) + wanted > self.cells:
            raise OutOfCells
        self.passes.append(wanted)
        found = []
        for feed in feeds:
            assert feed.start == len(self.held[feed.slot])
            assert feed.tokens
            self.held[feed.slot] += feed.tokens
            if feed.sample:
                found.append(says(self.held[feed.slot]))
        return found


def expected(one: Wanted) -> tuple[int, ...]:
    """Its own continuation, as long as it is sure and the token is one of the larger model's."""
    tokens = list(one.tokens)
    while len(tokens) - len(one.tokens) < one.most:
        token, chance = says(tokens)
        if chance < LEAST_CHANCE or token >= VOCABULARY:
            break
        tokens.append(token)
    return tuple(tokens[len(one.tokens) :])


texts = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@settings(max_examples=EXAMPLES)
@given(st.lists(st.dictionaries(st.integers(0, 3), st.tuples(texts, st.integers(1, 6)), min_size=1), max_size=12))
def test_guesses_are_its_own_words_whatever_it_read_before(calls: list[dict[int, tuple[list[int], int]]]) -> None:
    small = Small(4)
    drafts = Drafts(small, 4, VOCABULARY)
    for call in calls:
        wanted = [Wanted(slot, tokens, most) for slot, (tokens, most) in call.items()]
        assert drafts.draft(wanted) == [expected(one) for one in wanted]


def test_a_long_text_is_read_in_parts_beside_a_short_one() -> None:
    small = Small(2)
    drafts = Drafts(small, 2, VOCABULARY)
    long, short = Wanted(0, [1, 2, 3] * 250, 4), Wanted(1, [5, 6], 4)
    first = drafts.draft([short, long])
    assert first == [expected(short), None]
    assert small.passes[0] == READ_TOKENS
    while (found := drafts.draft([long])) == [None]:
        pass
    assert found == [expected(long)]
    assert max(small.passes) <= READ_TOKENS
    assert sum(small.passes) < len(long.tokens) + 20, "nothing is read twice"


def test_what_was_guessed_right_is_not_read_again() -> None:
    small = Small(1)
    drafts = Drafts(small, 1, VOCABULARY)
    tokens = next([at, 1] for at in range(50) if len(expected(Wanted(0, [at, 1], 4))) == 4)
    [guessed] = drafts.draft([Wanted(0, tokens, 4)])
    assert guessed is not None
    small.passes.clear()
    drafts.draft([Wanted(0, [*tokens, *guessed], 1)])
    assert small.passes == [1]


def test_who_is_not_asked_about_makes_room_and_too_many_rest() -> None:
    small = Small(2, cells=20)
    drafts = Drafts(small, 2, VOCABULARY)
    speaking = [tokens for at in range(50) if expected(Wanted(0, tokens := [at] * 12, 1))]
    first, second = Wanted(0, speaking[0], 1), Wanted(1, speaking[1], 1)
    assert drafts.draft([first]) == [expected(first)]
    assert drafts.draft([second]) == [None], "it made room"
    assert drafts.draft([second]) == [expected(second)]
    assert drafts.draft([first, second]) == [None, None]
    assert drafts.draft([first, second]) == [None, None]
    small.passes.clear()
    for _ in range(REST_STEPS - 2):
        assert drafts.draft([first]) == [None]
    assert not small.passes
    assert drafts.draft([first]) == [expected(first)]
