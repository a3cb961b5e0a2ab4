"""Hashes of prompts: they tell what begins alike, and nothing else; and the most memory since a moment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.server.performance.trace import coarser
from heylook_llm.worker.blocks import block_hashes
from heylook_llm.worker.watermark import Watermark

pytestmark = pytest.mark.unit

BLOCK, SIZE = core.BLOCK_TOKENS, core.BLOCK_HASH_BYTES
TOKENS = st.lists(st.integers(-(1 << 63), (1 << 31)), max_size=5 * BLOCK)


def split(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + SIZE] for at in range(0, len(hashes), SIZE)]


@given(TOKENS, TOKENS, TOKENS)
def test_hashes_are_equal_up_to_where_prompts_part(start: list[int], one: list[int], other: list[int]) -> None:
    first, second = split(block_hashes(start + one, b"key")), split(block_hashes(start + other, b"key"))
    assert len(first) == -(-len(start + one) // BLOCK)
    for at, (mine, others) in enumerate(zip(first, second, strict=False)):
        end = (at + 1) * BLOCK
        assert (mine == others) == ((start + one)[:end] == (start + other)[:end])


@given(TOKENS)
def test_another_key_gives_others(tokens: list[int]) -> None:
    mine, others = block_hashes(tokens, b"key"), block_hashes(tokens, b"other")
    assert not set(split(mine)) & set(split(others))
    assert block_hashes(tokens, b"") == b""


@given(TOKENS, st.integers(1, 9))
def test_longer_blocks_end_where_they_should(tokens: list[int], times: int) -> None:
    hashes = block_hashes(tokens, b"key")
    found = coarser(hashes, times)
    assert len(found) == -(-len(tokens) // (BLOCK * times))
    for at, one in enumerate(found):
        assert one == split(block_hashes(tokens[: (at + 1) * BLOCK * times], b"key"))[-1]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=50), st.integers(0, 60))
def test_the_highest_since_a_moment(readings: list[int], since: int) -> None:
    now = [0]
    watermark = Watermark(lambda: readings[now[0]])
    for at in range(len(readings) - 1):
        now[0] = at
        watermark.note(at)
    now[0] = last = len(readings) - 1
    assert watermark.since(since, last) == max(readings[min(since, last) :])
