"""The markdown of answers: what becomes an element, what stays a text, and that no text takes long."""

import os

import pytest
from playwright.sync_api import Page

from tests.ui.pages import script

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.environ.get("HEYLOOK_TEST_TIER") != "long", reason="long tier: make test_ui"),
]

CASES = {
    "plain": "(p plain)",
    "a\nb": "(p a\nb)",
    "a  \nb\\\nc": "(p a(br )b(br )c)",
    "a\n\nb": "(p a)(p b)",
    "# One #": "(h3 One)",
    "###### Six": "(h6 Six)",
    "**b** __b__ *i* _i_ ~~s~~ `c`": "(p (strong b) (strong b) (em i) (em i) (s s) (code c))",
    "***both***": "(p (strong (em both)))",
    "**bold *both***": "(p (strong bold (em both)))",
    "snake_case_name 2 * 3 * 4": "(p snake_case_name 2 * 3 * 4)",
    "\\*not\\* \\`this\\`": "(p *not* `this`)",
    "`` a ` b `` `**c**`": "(p (code a ` b) (code **c**))",
    "[a](https://x.example/b(c)) <https://x.example> https://x.example/a.": (
        "(p (a https://x.example/b(c) a) (a https://x.example https://x.example) (a https://x.example/a https://x.example/a).)"
    ),
    "![a](https://x.example/b.png)": "(p (a https://x.example/b.png a))",
    "[a](javascript:alert(1)) [b](data:x) [c](/ui)": "(p [a](javascript:alert(1)) [b](data:x) [c](/ui))",
    "<b>x</b> &amp;": "(p <b>x</b> &amp;)",
    "- a\n- b\n  - c\n\n- d": "(ul (li a)(li b(ul (li c)))(li d))",
    "3. a\n4. b": "(ol 3 (li a)(li b))",
    "- a\n1. b": "(ul (li a))(ol (li b))",
    "- a\n\n  b\n- c": "(ul (li a(p b))(li c))",
    "- [x] a\n- [ ] b": "(ul (li (input )a)(li (input )b))",
    "> a\n> - b": "(blockquote (p a)(ul (li b)))",
    "---": "(hr )",
    "```py\nif a:\n    b\n```\nafter": "(div py:(pre (code if a:\n    b)))(p after)",
    "```\nopen": "(div text:(pre (code open)))",
    "~~~\n```\n~~~": "(div text:(pre (code ```)))",
    "- a\n  ```\n  b\n  ```": "(ul (li a(div text:(pre (code b)))))",
    "text\n```\ncode\n```": "(p text)(div text:(pre (code code)))",
    "|a|b|\n|:-:|-:|\n|1|`x`|": "(div (table (thead (tr (th a)(th b)))(tbody (tr (td 1)(td (code x))))))",
    "a | b\n--- | ---\n1 | 2 \\| 3": "(div (table (thead (tr (th a)(th b)))(tbody (tr (td 1)(td 2 | 3)))))",
    "a | b\nc": "(p a | b\nc)",
}
PIECES = (
    "*",
    "**a ",
    "_a ",
    "`",
    "`a",
    "``` a",
    "[",
    "[a](",
    "![",
    "> ",
    "- ",
    "1. ",
    "#",
    "|",
    "| - ",
    "\\",
    " ",
    "~~",
    "<http://",
    "http://",
    "\n- a\n\n",
)
"""Repeated thousands of times, each is a text that patterns may take forever with."""


def test_what_becomes_of_a_text(page: Page) -> None:
    page.goto("/ui/nowhere")
    told = {text: page.evaluate(script("markdown_render"), text) for text in CASES}
    assert told == CASES


def test_no_text_takes_long(page: Page) -> None:
    page.goto("/ui/nowhere")
    for piece in PIECES:
        for end in ("", "x", "\n|-"):
            assert page.evaluate(script("markdown_long"), piece * (60_000 // len(piece)) + end) < 20_000, (
                piece
            )  # a bad one takes hours


def test_a_wide_table_of_short_lines_has_no_more_cells_than_its_text(page: Page) -> None:
    page.goto("/ui/nowhere")
    text = "|a" * 5000 + "|\n" + "|-" * 5000 + "|\n" + "|b|\n" * 5000
    told = page.evaluate(script("markdown_render"), text)
    assert (told.count("(th "), told.count("(td ")) == (5000, 5000)


def test_a_text_that_grows_ends_as_the_whole(page: Page) -> None:
    page.goto("/ui/nowhere")
    for text in [*CASES, "\n\n".join(CASES)]:
        assert page.evaluate(script("markdown_grow"), text), text
