"""How many prompt tokens a step computes: bounded in time, whole tiles."""

from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.worker.chunks import ALONE_NS, BESIDE_NS, LEAST_TOKENS, MOST_PATIENCE, Chunks

NUMBERS = st.integers(1, 64)


def measured(rate: float, most: int = 512, tile: int = 1) -> Chunks:
    """Chunks that have seen steps of so many tokens a second."""
    chunks = Chunks(most, tile)
    for _ in range(4):
        chunks.measure(most, int(most * ALONE_NS / rate))
    return chunks


@given(st.floats(10, 5000), NUMBERS, NUMBERS, st.sampled_from([64, 32]))
def test_a_step_on_tiles_is_whole_tiles(rate: float, decoding: int, prompts: int, tile: int) -> None:
    limit = measured(rate, tile=tile).limit(decoding, prompts)
    assert (limit + decoding) % tile == 0
    assert limit >= LEAST_TOKENS
    assert limit + decoding <= 512


@given(st.floats(10, 5000), st.integers(0, 64), NUMBERS)
def test_tiles_change_a_step_by_less_than_one_tile_and_the_least(rate: float, decoding: int, prompts: int) -> None:
    plain, tiled = (measured(rate, tile=tile).limit(decoding, prompts) for tile in (1, 64))
    assert abs(min(plain, 512 - decoding) - tiled) <= 64


def test_where_there_is_time_for_less_than_a_tile_one_is_computed() -> None:
    chunks = measured(55, tile=64)
    assert chunks.limit(7) == 57
    assert chunks.limit(0) == 64


def test_what_streams_take_of_a_step_is_no_time_of_its_prompt() -> None:
    chunks = Chunks(512)
    chunks.decoded(ALONE_NS // 10)
    for _ in range(4):
        chunks.measure(100, ALONE_NS // 10 + ALONE_NS // 4, decoding=7)
    assert chunks.token_ns == ALONE_NS / 400
    assert chunks.limit(7) == 128, "a quarter of what is allowed"
    chunks.measure(100, ALONE_NS // 10 + ALONE_NS, decoding=7)
    assert chunks.limit(7) == (BESIDE_NS - ALONE_NS // 10) * 100 // ALONE_NS


@given(st.floats(50, 3000), NUMBERS, NUMBERS)
def test_streams_wait_for_a_bounded_time(rate: float, decoding: int, prompts: int) -> None:
    limit = measured(rate).limit(decoding, prompts)
    longest = BESIDE_NS * min(MOST_PATIENCE, max(1.0, prompts / decoding))
    assert limit <= LEAST_TOKENS or limit / rate * ALONE_NS <= longest * 1.001


def test_more_prompts_than_streams_get_more_of_a_step() -> None:
    chunks = measured(100)
    assert [chunks.limit(8, prompts) for prompts in (1, 8, 16, 32, 999)] == [100, 100, 200, 200, 200]


def test_with_what_is_decoded_a_step_is_no_longer_than_one_alone() -> None:
    assert measured(5000).limit(400, 999) == 112


def test_a_step_smaller_than_its_tile_is_possible() -> None:
    assert Chunks(16, tile=64).limit(20) == 16
