"""Guides over a small vocabulary: masks, drafts, reasoning first, free text with calls in it."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.helper import grammar
from heylook_llm.worker.formats.parser import ReasoningMode
from heylook_llm.worker.formats.watch import TEXT, Sought, Watch
from heylook_llm.worker.guidance import Mask, Trie
from heylook_llm.worker.guide import AfterReasoning, Between, GrammarGuide, Guide
from heylook_llm.worker.vocabulary import Words

pytestmark = pytest.mark.unit

EXTRA = [b"<think>", b"</think>", b"</think>\n\n", b"</think>ab", b"<call>", b"<call>x", b"ab", b"abc", b"k>x", b"k>\n"]
PIECES = [*(bytes((byte,)) for byte in range(256)), *EXTRA, b"", b""]
CONTROL, END = len(PIECES) - 2, len(PIECES) - 1
IDS = {piece: token for token, piece in enumerate(PIECES) if piece}
ENDS = frozenset((END,))
TRIE = Trie(PIECES, [END])
WORDS = Words(PIECES, ENDS)


def guide(kind: str, source: str) -> GrammarGuide:
    """A guide by a constraint."""
    matcher = TRIE.matcher("llguidance", grammar.text(grammar.answer(kind, source)))
    assert matcher.error is None, matcher.error
    return GrammarGuide(matcher, ENDS)


def allowed(mask: Mask | None) -> set[bytes]:
    """The pieces that a mask allows; the end is `b"END"`."""
    assert mask is not None
    names = {CONTROL: b"CONTROL", END: b"END"}
    return {names.get(token, PIECES[token]) for token in map(int, mask.nonzero()[0])}


def feed(guide: Guide, *pieces: bytes) -> None:
    """Accept these pieces, each of which must be allowed."""
    for piece in pieces:
        [mask] = guide.masks()
        assert mask is None or mask[IDS[piece]], piece
        guide.accept(IDS[piece])
        assert guide.error is None


def test_a_mask_has_every_spelling_of_what_may_come_and_the_end_where_it_may() -> None:
    one = guide("regex", "ab(c|<call>)?")
    [mask] = one.masks()
    assert allowed(mask) == {b"a", b"ab", b"abc"}
    feed(one, b"ab")
    assert allowed(one.masks()[0]) == {b"c", b"<", b"<call>", b"END"}
    assert not one.complete
    feed(one, b"c")
    assert one.complete


def test_drafts_get_masks_as_far_as_they_are_allowed_and_nothing_moves() -> None:
    one = guide("regex", "(ab){1,3}!")
    a, ab, b, mark = IDS[b"a"], IDS[b"ab"], IDS[b"b"], IDS[b"!"]
    assert [allowed(mask) for mask in one.masks([a, b, ab])] == [
        {b"a", b"ab"},
        {b"b"},
        {b"a", b"ab", b"!"},
        {b"a", b"ab", b"!"},
    ]
    assert len(one.masks([a, a, b])) == 2
    assert len(one.masks([ab, mark, ab])) == 2, "the second completes it"
    assert len(one.masks([ab, END])) == 2
    feed(one, b"ab", b"!")
    assert one.complete


def test_a_guide_that_is_told_of_a_forbidden_token_says_so_and_goes_no_further() -> None:
    one = guide("regex", "ab")
    one.accept(IDS[b"k>x"])
    assert one.error is not None
    assert one.masks([IDS[b"a"]]) == [None]
    one.accept(IDS[b"a"])
    assert not one.allows(IDS[b"a"])


# ---- after the reasoning ---------------------------------------------------------------------------------------------


def gated(*, opened: bool) -> AfterReasoning:
    """Answers ab or abc, after reasoning or, unless that is opened, at once."""
    then = TRIE.matcher("lark", "start: GAP ANSWER\nGAP: /[ \\n]{0,4}/\nANSWER: /abc?/")
    direct = None if opened else guide("regex", "abc?")
    return AfterReasoning(GrammarGuide(then, ENDS), WORDS, "<think>", "</think>", direct=direct)


def test_reasoning_is_free_but_has_to_end() -> None:
    one = gated(opened=True)
    [mask] = one.masks()
    assert b"END" not in allowed(mask)
    assert {b"a", b"<call>x", b"</think>", b"</think>\n\n", b"k>x"} <= allowed(mask)
    assert b"</think>ab" not in allowed(mask), "the answer's part of it would be out of reach"
    feed(one, b"k>x", b"<call>", b"</think>")
    assert allowed(one.masks()[0]) == {b"a", b"ab", b"abc", b"\n", b" "}
    feed(one, b"\n", b"ab")
    assert not one.complete
    assert allowed(one.masks()[0]) == {b"c", b"END"}


@pytest.mark.parametrize("before", [b"", b"x", b"<", b"</thin</thin"])
def test_a_mark_in_pieces_is_a_mark(before: bytes) -> None:
    one = gated(opened=True)
    feed(one, *(bytes((byte,)) for byte in before + b"</thin"))
    assert b"k>x" not in allowed(one.masks()[0])
    assert b"k>\n" in allowed(one.masks()[0])
    feed(one, b"k>\n")
    assert allowed(one.masks()[0]) == {b"a", b"ab", b"abc", b"\n", b" "}


def test_an_answer_may_come_at_once() -> None:
    one = gated(opened=False)
    assert allowed(one.masks()[0]) == {b"a", b"ab", b"abc", b"<think>"}
    feed(one, b"a", b"b")
    assert allowed(one.masks()[0]) == {b"c", b"END"}


def test_reasoning_may_come_first() -> None:
    one = gated(opened=False)
    feed(one, b"<think>", b"abc", b"abc", b"</think>\n\n", b"abc")
    assert one.complete


def test_what_begins_as_both_stays_open_until_it_is_decided() -> None:
    words = Words([bytes((byte,)) for byte in range(256)] + [b""], frozenset((256,)))
    trie = Trie([bytes((byte,)) for byte in range(256)] + [b""], [256])
    direct = GrammarGuide(trie.matcher("regex", "<this>"), frozenset((256,)))
    then = GrammarGuide(trie.matcher("regex", "x"), frozenset((256,)))
    one = AfterReasoning(then, words, "<think>", "</think>", direct=direct)
    for byte in b"<thi":
        assert one.masks()[0] is not None
        one.accept(byte)
    mask = one.masks()[0]
    assert mask is not None
    assert set(mask.nonzero()[0]) == set(b"ns")
    one.accept(ord("s"))
    one.accept(ord(">"))
    assert one.complete


def test_drafts_cross_the_end_of_reasoning() -> None:
    one = gated(opened=True)
    masks = one.masks([IDS[b"a"], IDS[b"</think>"], IDS[b"ab"], IDS[b"c"]])
    assert len(masks) == 4
    assert allowed(masks[3]) == {b"c", b"END"}


# ---- free text with calls --------------------------------------------------------------------------------------------


def between(mode: ReasoningMode = "none") -> Between:
    """Free text, and digits behind what opens a call."""
    states = {TEXT: Sought(calls={"<call>": "digits"}), "thinking": Sought({"</think>": TEXT})}
    watch = Watch(states, {"none": TEXT, "auto": TEXT, "open": "thinking"}, ("<think>", "thinking"))
    return Between(lambda rule: GrammarGuide(TRIE.matcher("regex", "[0-9]+;"), ENDS), WORDS, watch, mode)


def test_a_call_within_reasoning_is_but_talk() -> None:
    one = between("auto")
    feed(one, b"\n", b"<think>", b"<call>", b"abc", b"</think>\n\n", b"<call>")
    assert allowed(one.masks()[0]) == set(map(bytes, zip(b"0123456789")))
    begun = between("open")
    feed(begun, b"<call>", b"abc", b"</think>", b"<think>", b"<call>")
    assert allowed(begun.masks()[0]) == set(map(bytes, zip(b"0123456789"))), "reasoning opens at the start alone"


def test_text_is_free_until_a_call_opens_and_after_it() -> None:
    one = between()
    [mask] = one.masks()
    assert mask is not None
    assert not mask[IDS[b"<call>x"]]
    assert mask[END]
    feed(one, b"abc", b"<call>")
    assert allowed(one.masks()[0]) == set(map(bytes, zip(b"0123456789")))
    feed(one, b"7", b";", b"abc", b"<", b"c", b"a", b"l", b"l", b">")
    assert allowed(one.masks()[0]) == set(map(bytes, zip(b"0123456789")))
    assert not one.complete


def test_drafts_in_free_text_end_where_a_call_opens() -> None:
    one = between()
    assert len(one.masks([IDS[b"a"], IDS[b"<call>"], IDS[b"7"]])) == 2
    assert len(one.masks([IDS[b"a"], END, IDS[b"7"]])) == 2


# ---- all of it at random ---------------------------------------------------------------------------------------------

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(DOCUMENTS, st.sampled_from([None, " "]), st.randoms(use_true_random=False))
def test_any_json_is_followed_however_it_is_spelled(document: object, space: str | None, chance: object) -> None:
    separators = (",", ":") if space is None else (", ", ": ")
    text = json.dumps(document, separators=separators, ensure_ascii=False).encode()
    if re.search(rb"[\x7f\x80-\x9f]", text):
        return  # DEL and the like are control characters to the library, to be escaped
    one = guide("json_schema", "{}")
    at = 0
    while at < len(text):
        sizes = [size for size in range(1, 9) if text[at : at + size] in IDS]
        piece = text[at : at + chance.choice(sizes)]  # type: ignore[attr-defined]  # a Random
        feed(one, piece)
        at += len(piece)
    [mask] = one.masks()
    assert mask is not None
    assert mask[END]
