"""Positions of two dimensions, against positions that are kept for every token; and images as squares."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.worker.pixels import squared
from heylook_llm.worker.providers.llama_cpp_places import Places
from tests.worker.pictures import picture

pytestmark = pytest.mark.unit

parts = st.lists(st.one_of(st.integers(1, 5), st.tuples(st.integers(2, 9), st.integers(1, 9))), min_size=1, max_size=8)
"""Text of so many tokens, and images of so many tokens and positions."""


def fed(places: Places, slot: int, prompt: list[int | tuple[int, int]]) -> list[int | None]:
    """Feed a prompt; returns each token's own position, and that of what follows."""
    expected: list[int | None] = []
    position = 0
    for part in prompt:
        if isinstance(part, int):
            expected += range(position, position + part)
            position += part
        else:
            tokens, positions = part
            assert places.begin(slot, len(expected), tokens, positions) == position
            expected += [position, *[None] * (tokens - 1)]
            position += positions
    return [*expected, position]


@given(parts, st.data())
def test_tokens_stand_where_the_engine_counts_them(prompt: list[int | tuple[int, int]], data: st.DataObject) -> None:
    places = Places(3)
    expected = fed(places, 0, prompt)
    assert [places.of(0, number) for number in range(len(expected))] == expected
    borders = [number for number, position in enumerate(expected) if position is not None]
    end = data.draw(st.sampled_from(borders))
    places.share(0, 1, end)
    places.unpack(2, places.packed(0))
    assert [places.of(2, number) for number in range(len(expected))] == expected
    places.cut(0, end)
    for slot in (0, 1):
        position = expected[end]
        assert position is not None
        assert [places.of(slot, number) for number in range(end)] == expected[:end]
        assert [places.of(slot, end + more) for more in range(4)] == [position + more for more in range(4)]


def test_a_run_that_is_computed_in_parts() -> None:
    places = Places(1)
    assert places.begin(0, 3, 6, 2) == 3
    assert [places.of(0, number) for number in (3, 4, 8, 9)] == [3, None, None, 5]
    assert places.within(0, 5) == 3
    places.cut(0, 3)
    assert places.of(0, 5) == 5


@pytest.mark.parametrize(("width", "height"), [(20, 20), (40, 10), (1, 1), (1, 999), (64, 63)])
def test_an_image_fills_its_square(width: int, height: int) -> None:
    shown = squared(picture(width, height, (200, 30, 40)), 40)
    assert shown == picture(40, 40, (200, 30, 40))


def test_an_image_of_the_size_is_left_alone() -> None:
    image = core.ImagePart(bytes(range(48)), 4, 4)
    assert squared(image, 4) is image


def test_sides_stay_where_they_are() -> None:
    left_red = core.ImagePart((b"\xff\0\0" * 8 + b"\0\0\xff" * 8) * 9, 16, 9)
    shown = squared(left_red, 4)
    assert shown.rgb[0] > shown.rgb[2]
    assert shown.rgb[9] < shown.rgb[11]
