"""Prompts: of exact lengths, seeded, and never the beginning of another unless asked."""

import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from heylook_llm.bench.pictures import png
from heylook_llm.bench.scenario import Embedding, Exact, Rerank, Uniform, parse
from heylook_llm.bench.workload import ASSUMED, CANDIDATES, Vocabulary, Workload, compose, vocabulary
from heylook_llm.errors import ConfigError

pytestmark = pytest.mark.unit


def by_letters(text: str) -> int:
    """A tokenizer of pieces of four letters, in which a space belongs to what follows."""
    words = text.split(" ")
    return sum(-(-(len(word) + (place > 0)) // 4) for place, word in enumerate(words))


def merging(text: str) -> int:
    """One in which costs don't add up: two words after each other may be one token."""
    return -(-len(text.split(" ")) // 2)


@pytest.fixture(scope="module")
def lettered() -> Vocabulary:
    return vocabulary(by_letters)


def test_a_vocabulary_is_what_a_tokenizer_says(lettered: Vocabulary) -> None:
    assert lettered.exact
    assert all(cost == -(-len(word) // 4) for word, cost in lettered.openers)
    assert all(cost == -(-(len(word) + 1) // 4) for word, cost in lettered.words)


@settings(max_examples=40)
@given(some.integers(1, 500), some.integers())
def test_prompts_have_exactly_the_tokens_that_were_asked(tokens: int, seed: int) -> None:
    text = compose(vocabulary_of_letters, tokens, random.Random(seed))
    assert by_letters(text) == tokens


vocabulary_of_letters = vocabulary(by_letters)


def test_where_words_do_not_add_up_or_nobody_counts_lengths_are_not_called_exact() -> None:
    assert vocabulary(merging) is ASSUMED
    assert vocabulary(lambda text: None) is ASSUMED
    assert vocabulary(lambda text: 2 * len(text.split(" "))) is ASSUMED  # no odd length could be made
    assert vocabulary(lambda text: 0) is ASSUMED
    assert not ASSUMED.exact


def test_bytes_are_tokens_too() -> None:
    """A space costs one of its own, so one token more is never filled by a word."""
    bytewise = vocabulary(lambda text: len(text.encode()))
    assert bytewise.exact
    for tokens in range(12, 60):
        assert len(compose(bytewise, tokens, random.Random(tokens))) == tokens


def test_what_is_shorter_than_any_word_is_refused() -> None:
    long = Vocabulary((("word", 2),), (("word", 1),), exact=True)
    with pytest.raises(ConfigError, match="longer"):
        compose(long, 1, random.Random(1))


def test_prompts_depend_on_seed_and_place_alone(lettered: Vocabulary) -> None:
    one, same = (Workload(Uniform(5, 50, 2, 9), lettered, "1/run/D") for _ in range(2))
    assert [one.prompt(place) for place in (7, 3, 5)] == [same.prompt(place) for place in (7, 3, 5)]
    other = Workload(Uniform(5, 50, 2, 9), lettered, "2/run/D")
    assert [one.prompt(place).text for place in range(5)] != [other.prompt(place).text for place in range(5)]


def test_no_prompt_begins_like_another_not_even_of_another_tier(lettered: Vocabulary) -> None:
    tiers = [Workload(Exact(tokens, 10), lettered, f"1/run/D({tokens},10)") for tokens in (100, 500, 2000)]
    beginnings = [" ".join(tier.prompt(place).text.split(" ")[:4]) for tier in tiers for place in range(100)]
    assert len(set(beginnings)) == len(beginnings)


@settings(max_examples=40)
@given(some.integers(1, 200), some.integers(0, 100))
def test_a_shared_prefix_has_its_share_and_the_whole_its_length(tokens: int, percent: int) -> None:
    load = Workload(Exact(tokens, 5), vocabulary_of_letters, "s", percent / 100)
    one, other = load.prompt(0).text, load.prompt(1).text
    assert by_letters(one) == by_letters(other) == tokens
    shared = round(tokens * percent / 100)
    alike = 0
    for a, b in zip(one.split(" "), other.split(" "), strict=False):
        if a != b:
            break
        alike += 1
    beginning = " ".join(one.split(" ")[:alike])
    assert shared == 0 or by_letters(beginning) >= shared


def test_candidates_are_words_once_each() -> None:
    assert len(set(CANDIDATES)) == len(CANDIDATES)
    assert all(word.isalpha() and word.islower() for word in CANDIDATES)


def test_parts_of_a_request_have_their_lengths_and_are_like_no_other(lettered: Vocabulary) -> None:
    (embedded,) = Workload(Embedding(20, 3), lettered, "s").conversation(4)
    (ranked,) = Workload(Rerank(20, 8, 3), lettered, "s").conversation(4)
    assert (embedded.tokens, ranked.tokens, by_letters(ranked.text)) == (60, 68, 8)
    for prompt in (embedded, ranked):
        assert [by_letters(document) for document in prompt.documents] == [20, 20, 20]
        assert len(set(prompt.documents)) == 3
        assert prompt.output_tokens is None


def test_the_turns_of_a_conversation_are_known_before_its_answers(lettered: Vocabulary) -> None:
    talk, same = (Workload(parse("T(3)*U(5,50)"), lettered, "s").conversation(9) for _ in range(2))
    assert talk == same
    assert [by_letters(turn.text) for turn in talk] == [turn.tokens for turn in talk]
    assert len({turn.text for turn in talk}) == 3


def test_lengths_of_the_engine_leave_room_for_the_template(lettered: Vocabulary) -> None:
    prompt = Workload(Exact(30, 5), lettered, "s", beside=7).prompt(0)
    assert (by_letters(prompt.text), prompt.tokens) == (23, 30)
    with pytest.raises(ConfigError, match="template alone takes 7"):
        Workload(Exact(7, 5), lettered, "s", beside=7).prompt(0)
    drawn = [Workload(parse("N(5,5)/(5,5)"), ASSUMED, "s", beside=7).prompt(place) for place in range(20)]
    assert all(len(one.text.split(" ")) == (one.tokens or 0) - 7 for one in drawn)


@settings(max_examples=20)
@given(some.integers(1, 70), some.integers(1, 70), some.integers())
def test_images_are_what_a_decoder_reads(width: int, height: int, seed: int) -> None:
    made = png(width, height, random.Random(seed))
    with Image.open(io.BytesIO(made)) as image:
        image.load()
        assert (image.size, image.mode) == ((width, height), "RGB")
        assert image.getpixel((0, 0)) == image.getpixel((min(15, width - 1), min(15, height - 1)))
    assert made != png(width, height, random.Random(seed + 1))
