"""Pages of a listing."""

import pytest

from heylook_llm.errors import BadRequest
from heylook_llm.server.wire.listing import page

pytestmark = pytest.mark.unit

IDS = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("query", "found", "has_more"),
    [
        ({}, "abcde", False),
        ({"limit": "2"}, "ab", True),
        ({"limit": "5"}, "abcde", False),
        ({"limit": "1000"}, "abcde", False),
        ({"limit": "2", "after_id": "b"}, "cd", True),
        ({"limit": "2", "after_id": "c"}, "de", False),
        ({"after_id": "e"}, "", False),
        ({"limit": "2", "before_id": "d"}, "bc", True),
        ({"limit": "2", "before_id": "c"}, "ab", False),
        ({"before_id": "a"}, "", False),
        ({"beta": "true"}, "abcde", False),
    ],
)
def test_pages(query: dict[str, str], found: str, has_more: bool) -> None:
    start, end, more = page(IDS, query)
    assert ("".join(IDS[start:end]), more) == (found, has_more)


def test_all_pages_are_the_whole_either_way() -> None:
    for size in range(1, 6):
        query, seen = {"limit": str(size)}, []
        while (one := page(IDS, query)).has_more:
            seen += IDS[one.start : one.end]
            query["after_id"] = seen[-1]
        assert [*seen, *IDS[one.start : one.end]] == IDS
    assert page([], {}) == (0, 0, False)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": "9" * 9999}, "limit"),
        ({"after_id": "z"}, "after_id"),
        ({"before_id": ""}, "before_id"),
        ({"after_id": "a", "before_id": "b"}, "before_id"),
    ],
)
def test_what_is_no_page(query: dict[str, str], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        page(IDS, query)
    assert caught.value.param == param
