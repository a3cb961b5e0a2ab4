"""The radix tree of token sequences against a plain list of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm.worker.tree import Tree, common_prefix
from tests.worker.tiers import EXAMPLES

pytestmark = pytest.mark.unit

TOKENS = st.lists(st.integers(0, 2), max_size=8)
CHANGES = st.lists(st.tuples(st.integers(0, 6), st.one_of(st.none(), TOKENS)), max_size=30)


@settings(max_examples=EXAMPLES, deadline=None)
@given(changes=CHANGES, asked=TOKENS)
def test_matches_are_those_of_a_list(changes: list[tuple[int, list[int] | None]], asked: list[int]) -> None:
    tree: Tree[int] = Tree()
    kept: dict[int, list[int]] = {}
    for key, tokens in changes:
        if tokens is None:
            tree.remove(key)
            kept.pop(key, None)
        else:
            tree.add(key, tokens)
            kept[key] = tokens
    assert len(tree) == len(kept)
    assert all(key in tree and tree.length(key) == len(tokens) for key, tokens in kept.items())
    assert {key: tree.tokens(key) for key in kept} == kept
    found = list(tree.matches(asked))
    expected = {key: common_prefix(tokens, asked) for key, tokens in kept.items()}
    assert dict(found) == {key: length for key, length in expected.items() if length}
    assert len(dict(found)) == len(found)
    assert [length for _, length in found] == sorted((length for _, length in found), reverse=True)
    whole = {key: len(tokens) for key, tokens in kept.items() if asked[: len(tokens)] == tokens}
    assert dict(tree.whole(asked)) == whole
    for key in kept:
        tree.remove(key)
    assert list(tree.matches(asked)) == list(tree.whole(asked)) == []
    assert not tree._root.children


@pytest.mark.parametrize(
    ("left", "right", "length"), [([], [1], 0), ([1], [2], 0), ([1, 2, 3], [1, 2, 4], 2), ([1, 2], [1, 2, 3], 2)]
)
def test_common_prefix(left: list[int], right: list[int], length: int) -> None:
    assert common_prefix(left, right) == length
    assert common_prefix([5] * 100 + left, [5] * 100 + right) == 100 + length
