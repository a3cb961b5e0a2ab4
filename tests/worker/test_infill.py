"""Filling in: the order of a prompt's parts, what goes where it doesn't fit, and where an answer's lines end it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.worker import infill
from heylook_llm.worker.lines import Lines
from heylook_llm.worker.providers.base import InfillMarks

pytestmark = pytest.mark.unit

MARKS = InfillMarks(1001, 1002, 1003)
FILES = InfillMarks(1001, 1002, 1003, 1004, 1005, (1000,))


def encode(text: str) -> list[int]:
    return list(map(ord, text))


def shown(tokens: list[int]) -> str:
    names = {1000: "<s>", 1001: "<pre>", 1002: "<suf>", 1003: "<mid>", 1004: "<repo>", 1005: "<file>"}
    return "".join(names.get(token) or chr(token) for token in tokens)


def test_the_order_that_models_know() -> None:
    prompt = core.InfillPrompt("before", "behind", "st", (("a.py", "one"), ("b.py", "two")))
    plain = infill.compose(MARKS, encode, prompt)
    snippet = "\n\n--- snippet ---\n\n"
    assert shown(plain.tokens) == f"{snippet}one{snippet}two<pre>beforest<suf>behind<mid>"
    project = infill.compose(FILES, encode, prompt)
    files = "<repo>myproject\n<file>a.py\none<file>b.py\ntwo<file>filename\n"
    assert shown(project.tokens) == f"<s>{files}<pre>beforest<suf>behind<mid>"
    assert plain.dropped_tokens == project.dropped_tokens == 0


@given(st.text("abc\n", max_size=60), st.text("xyz\n", max_size=60), st.text("fg", max_size=40), st.integers(4, 120))
def test_what_is_near_stays(before: str, behind: str, other: str, room: int) -> None:
    prompt = core.InfillPrompt(before, behind, files=(("f", other),) if other else ())
    whole = infill.compose(MARKS, encode, prompt)
    cut = infill.compose(MARKS, encode, prompt, room)
    assert len(cut.tokens) <= room
    head, _, rest = shown(cut.tokens).rpartition("<pre>")
    prefix, _, suffix = rest.removesuffix("<mid>").rpartition("<suf>")
    assert before.endswith(prefix)
    assert behind.startswith(suffix)
    assert head == "" or (prefix, suffix) == (before, behind), "other files go first"
    if room >= len(whole.tokens):
        assert cut == whole
    else:
        assert cut.dropped_tokens == len(whole.tokens) - len(cut.tokens)


def test_a_side_takes_what_the_other_leaves() -> None:
    cut = infill.compose(MARKS, encode, core.InfillPrompt("b" * 100, "h" * 100), 103)
    assert (cut.tokens.count(ord("b")), cut.tokens.count(ord("h"))) == (75, 25)
    cut = infill.compose(MARKS, encode, core.InfillPrompt("b" * 100, "h"), 53)
    assert (cut.tokens.count(ord("b")), cut.tokens.count(ord("h"))) == (49, 1)
    cut = infill.compose(MARKS, encode, core.InfillPrompt("b", "h" * 100), 53)
    assert (cut.tokens.count(ord("b")), cut.tokens.count(ord("h"))) == (1, 49)


def test_a_text_that_is_far_too_long_is_not_tokenized() -> None:
    seen: list[int] = []

    def counting(text: str) -> list[int]:
        seen.append(len(text))
        return encode(text)

    cut = infill.compose(MARKS, counting, core.InfillPrompt("b" * 1_000_000, "h" * 1_000_000), 1003)
    assert max(seen) <= 16_000
    assert cut.dropped_tokens == 2_000_000 - 1_000


@given(st.text("ab \n", max_size=40), st.integers(1, 3), st.data())
def test_lines_end_however_the_text_is_cut(text: str, least: int, data: st.DataObject) -> None:
    whole = Lines(least).end(text, 0.0)
    at = data.draw(st.integers(0, len(text)))
    lines = Lines(least)
    first = lines.end(text[:at], 0.0)
    if first is None:
        rest = lines.end(text[at:], 0.0)
        first = None if rest is None else at + rest
    assert first == whole
    if whole is not None:
        _, _, line = text[:whole].rpartition("\n")
        assert "\n" not in line
        assert line.strip(" ") == ""
        assert len(line) < least


def test_an_answer_out_of_time_ends_with_its_line() -> None:
    lines = Lines(0, 1.0)
    assert lines.end("a\n", 0.5) is None
    assert lines.end("b", 1.5) is None
    assert lines.end("c\nd", 1.6) == 3
