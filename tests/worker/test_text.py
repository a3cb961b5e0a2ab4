"""Tokens to events: however the text is cut into tokens, the same events' text comes out, and nothing is lost."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.worker.formats.formats import Marked
from heylook_llm.worker.formats.parser import Parser, ReasoningMode
from heylook_llm.worker.text import Decoder, Pieces
from tests.worker.answers import Output, output_of
from tests.worker.tiers import EXAMPLES

pytestmark = pytest.mark.unit

TOOLS = (core.Tool("weather"), core.Tool("add"))


def parser(
    reasoning: ReasoningMode = "none", tools: tuple[core.Tool, ...] = (), parallel_calls: bool = True
) -> Parser | None:
    """The usual format's parser."""
    return Marked().parser(reasoning, tools, parallel=parallel_calls)


def decode(
    data: bytes,
    cuts: list[int] | None = None,
    *,
    stop: tuple[str, ...] = (),
    include_stop: bool = False,
    **options: Any,
) -> Output:
    """Feed the bytes as tokens that end at the cuts; one token per byte without them."""
    return output_of(data, cuts, parser(**options), stop=stop, include_stop=include_stop)


CUTS = st.lists(st.integers(0, 400), max_size=30)
PIECES = st.sampled_from(
    [
        "a", "é", "🎉", " ", "\n", "<", "</", "<think>", "</think>", "<tool_call>", "</tool_call>", "{", "}", '"', "\\",
        '{"name": "weather", "arguments": {"city": "Köln", "tags": ["}", "\\""]}}', '{"name": "add", "arguments": ',
        '{"name": "unknown", "arguments": {}}', '{"arguments": {"a": 1}, "name": "add"}', "stop", "st", "op",
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.binary(max_size=60), cuts=CUTS)
@example(data="né🎉".encode(), cuts=[2, 4, 5, 6])
def test_the_stream_is_the_whole_decode(data: bytes, cuts: list[int]) -> None:
    assert decode(data, cuts).text == data.decode("utf-8", "replace")


@settings(max_examples=EXAMPLES, deadline=None)
@given(pieces=st.lists(st.sampled_from(["a", " ", "\n", "<", "</", "think", "</think>"]), max_size=8), cuts=CUTS)
def test_reasoning_that_was_broken_off_may_end_once_more(pieces: list[str], cuts: list[int]) -> None:
    answer = "".join(pieces)

    def read(cuts: list[int] | None) -> tuple[str, str]:
        reader = parser("open", TOOLS)
        assert reader is not None
        reader.conclude()
        output = output_of(f"thought\n</think>\n\nx{answer}".encode(), cuts, reader)
        return output.reasoning, output.text

    assert read(cuts) == read(None) == read([]) == ("thought", "x" + answer.replace("</think>", "", 1))


@settings(max_examples=EXAMPLES, deadline=None)
@given(text=TEXTS, cuts=CUTS, reasoning=st.sampled_from(["none", "auto", "open"]), tools=st.booleans())
def test_cuts_change_nothing(text: str, cuts: list[int], reasoning: str, tools: bool) -> None:
    options: dict[str, Any] = {"reasoning": reasoning, "tools": TOOLS if tools else ()}
    data = text.encode()
    whole = decode(data, [], **options)
    assert decode(data, cuts, **options).parts == whole.parts
    assert decode(data, None, **options).parts == whole.parts
    if reasoning == "none" and not whole.calls:
        assert whole.text == text


def first_stop(text: str, stops: tuple[str, ...]) -> tuple[int, str] | None:
    """Where and by which stop string a reader of one character after the other is stopped."""
    for end in range(len(text) + 1):
        ended = [stop for stop in stops if text[:end].endswith(stop)]
        if ended:
            longest = max(ended, key=len)
            return end - len(longest), longest
    return None


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    text=st.text("abé🎉", max_size=30),
    stops=st.lists(st.text("abé🎉", min_size=1, max_size=4), min_size=1, max_size=3).map(tuple),
    cuts=CUTS,
    include=st.booleans(),
)
def test_stop_strings(text: str, stops: tuple[str, ...], cuts: list[int], include: bool) -> None:
    found = first_stop(text, stops)
    expected = text if found is None else text[: found[0]] + (found[1] if include else "")
    assert decode(text.encode(), cuts, stop=stops, include_stop=include).text == expected


def test_no_more_is_held_back_than_may_become_a_stop_string() -> None:
    decoder = Decoder(0, Pieces(lambda token: bytes((token,))), stop=("\n\nHuman:",))
    shown = ""
    for byte in b"ab\n\nHumid":
        shown += "".join(event.text for event in decoder.feed(byte) if isinstance(event, core.Text))
        held = len("ab\n\nHumid"[: len(shown)]) + len("\n\nHuman:") - 1
        assert held >= len(shown)
    assert shown == "ab\n\nHumid"
    assert decoder.flush() == []


def test_a_token_is_shown_as_soon_as_it_is_certain() -> None:
    decoder = Decoder(3, Pieces(lambda token: (b"Hello", b" w\xc3", b"\xb6rld")[token]))
    assert decoder.feed(0) == [core.Text(3, "Hello", (0,))]
    assert decoder.feed(1) == [core.Text(3, " w", ())]
    assert decoder.feed(2) == [core.Text(3, "örld", (1, 2))]
    assert decoder.flush() == []


def test_logprobs_travel_with_their_tokens() -> None:
    logprobs = [core.TokenLogprob(token, b"x", -1.0) for token in range(3)]
    decoder = Decoder(0, Pieces(lambda token: (b"a", b"\xc3", b"\xa9")[token]))
    events = [event for token in range(3) for event in decoder.feed(token, logprobs[token])]
    assert events == [
        core.Text(0, "a", (0,), (logprobs[0],)),
        core.Text(0, "é", (1, 2), (logprobs[1], logprobs[2])),
    ]


def test_reasoning_is_split_without_tags_and_white_space() -> None:
    output = decode(b"\n<think>\n  one <b> two \n</think>\n\nThe answer.", reasoning="auto")
    assert output.parts == ("The answer.", "one <b> two", [])


def test_reasoning_that_the_prompt_opened() -> None:
    assert decode(b"hm\n</think>\n\nYes", reasoning="open").parts == ("Yes", "hm", [])
    assert decode(b"never ends", reasoning="open").parts == ("", "never ends", [])


def test_a_tag_in_the_middle_of_the_answer_is_text() -> None:
    text = "An answer with <think>a tag</think>."
    assert decode(text.encode(), reasoning="auto").parts == (text, "", [])


CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "K\\u00f6ln",  "days": [1, {"a": "}"}]}}\n</tool_call>'
ARGUMENTS = '{"city": "K\\u00f6ln",  "days": [1, {"a": "}"}]}'


def test_calls_keep_the_json_text_of_their_arguments() -> None:
    output = decode(f"Let me see.\n{CALL}\n{CALL}\n".encode(), tools=TOOLS)
    assert output.parts == ("Let me see.", "", [("weather", ARGUMENTS)] * 2)


def test_arguments_stream_before_the_call_ends() -> None:
    decoder = Decoder(0, Pieces(lambda token: bytes((token,))), parser=parser(tools=TOOLS), new_id=lambda: "call_1")
    events = [event for byte in CALL[:60].encode() for event in decoder.feed(byte)]
    assert isinstance(events[0], core.ToolCallStart)
    assert len(events) > 5


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>not json</tool_call> more",
        '<tool_call>{"name": "unknown", "arguments": {"a": 1}}</tool_call>',
        '<tool_call>{"name": "add"',
        '<tool_call>{"nam": "add", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": [1]}</tool_call>',
        "an open <tool_call>",
        "a < b and </tool_call> alone",
    ],
)
def test_what_is_no_call_of_a_known_tool_is_text(text: str) -> None:
    assert decode(text.encode(), tools=TOOLS).parts == (text, "", [])


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ('{"arguments": {"a": 1}, "name": "add"}', '{"a": 1}'),
        ('{"name": "add"}', "{}"),
        ('{"name": "add", "arguments": "{\\"a\\": 1}"}', '{"a": 1}'),
        ('{"name": "add", "parameters": {"a": 1}}', '{"a": 1}'),
        ('{"name": "add", "arguments": {"a": 1}', '{"a": 1}'),
        ('{"name": "add", "arguments": {"a": 1}}}', '{"a": 1}'),
    ],
)
def test_calls_in_the_shapes_that_models_write(body: str, arguments: str) -> None:
    output = decode(f"<tool_call>{body}</tool_call>".encode(), tools=TOOLS)
    assert output.text == ""
    [(name, found)] = output.calls
    assert (name, json.loads(found)) == ("add", json.loads(arguments))


def test_one_call_only_where_parallel_calls_are_off() -> None:
    output = decode(f"{CALL}\n{CALL}".encode(), tools=TOOLS, parallel_calls=False)
    assert output.calls == [("weather", ARGUMENTS)]


def test_calls_are_text_where_no_tools_were_offered() -> None:
    assert decode(CALL.encode()).text == CALL


def test_reasoning_before_a_call() -> None:
    output = decode(f"<think>use it</think>\n{CALL}".encode(), tools=TOOLS, reasoning="auto")
    assert output.parts == ("", "use it", [("weather", ARGUMENTS)])
