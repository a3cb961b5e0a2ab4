"""The Anthropic dialect, bytes in and bytes out."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from heylook_llm import core, errors
from heylook_llm.errors import BadRequest, HeylookError, UnsupportedFeature
from heylook_llm.server.wire import anthropic, table
from heylook_llm.server.wire.anthropic_body import CountBody, MessageBody
from heylook_llm.server.wire.pictures import UNREAD
from tests.server.scripted import INFO, done
from tests.wire.asking import ARRIVAL, USER, WALL, streamed, whole

pytestmark = pytest.mark.unit

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = [{"name": "f", "description": "d", "input_schema": SCHEMA}]
USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "42"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
BASE = {"model": "m", "max_tokens": 16, "messages": USER}


def message(**fields: Any) -> anthropic.Message:
    """A body, parsed; what is required is given where it isn't."""
    return anthropic.parse_message(json.dumps(BASE | fields).encode(), ARRIVAL)


def prompt(*messages: dict[str, Any], **fields: Any) -> core.ChatPrompt:
    asked = message(**fields, **({"messages": messages} if messages else {})).asked
    (found,) = asked.request.prompts
    assert isinstance(found, core.ChatPrompt)
    return found


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def of_tool(**fields: Any) -> list[dict[str, Any]]:
    return [TOOLS[0] | fields]


# ---- bodies ----------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"model": None}, "model", "missing_required_parameter"),
    ({"model": " "}, "model", "missing_required_parameter"),
    ({"model": 5}, "model", "invalid_type"),
    ({"messages": None}, "messages", "missing_required_parameter"),
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": "hi"}, "messages", "invalid_type"),
    ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role", "missing_required_parameter"),
    ({"messages": [{"role": "tool", "content": "hi"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
    ({"messages": user(None)}, "messages[0].content", "invalid_type"),
    ({"messages": user(5)}, "messages[0].content", "invalid_type"),
    ({"messages": user([5])}, "messages[0].content[0]", "invalid_type"),
    ({"messages": user([{"text": "x"}])}, "messages[0].content[0].type", "missing_required_parameter"),
    ({"messages": user([{"type": "alien"}])}, "messages[0].content[0].type", "invalid_value"),
    ({"messages": user([{"type": "text"}])}, "messages[0].content[0].text", "missing_required_parameter"),
    ({"messages": user([{"type": "text", "text": 5}])}, "messages[0].content[0].text", "invalid_type"),
    ({"messages": user([USE])}, "messages[0].content[0].type", "invalid_value"),
    ({"messages": user([{"type": "thinking", "thinking": "x"}])}, "messages[0].content[0].type", "invalid_value"),
    ({"messages": user([{"type": "tool_result"}])}, "messages[0].content[0].tool_use_id", "missing_required_parameter"),
    ({"messages": user([RESULT | {"content": 5}])}, "messages[0].content[0].content", "invalid_type"),
    ({"messages": user([RESULT | {"content": {}}])}, "messages[0].content[0].content", "invalid_type"),
    ({"messages": user([RESULT | {"content": [RESULT]}])}, "messages[0].content[0].content[0].type", "invalid_value"),
    ({"messages": user([{"type": "container_upload"}])}, "messages[0].content[0]", "unsupported_value"),
    ({"messages": user([{"type": "image"}])}, "messages[0].content[0].source", "invalid_value"),
    (
        {"messages": user([{"type": "image", "source": {"type": "base64"}}])},
        "messages[0].content[0].source.data",
        "missing_required_parameter",
    ),
    (
        {"messages": user([{"type": "image", "source": {"type": "base64", "data": "%"}}])},
        "messages[0].content[0].source.data",
        "invalid_image",
    ),
    (
        {"messages": user([{"type": "image", "source": {"type": "file", "file_id": "x"}}])},
        "messages[0].content[0].source",
        "unsupported_value",
    ),
    (
        {"messages": [*USER, {"role": "assistant", "content": [IMAGE]}]},
        "messages[1].content[0]",
        "invalid_value",
    ),
    ({"messages": user([{"type": "document"}])}, "messages[0].content[0].source", "invalid_value"),
    (
        {"messages": user([{"type": "document", "source": {"type": "base64", "data": "AA=="}}])},
        "messages[0].content[0]",
        "unsupported_value",
    ),
    (
        {"messages": user([{"type": "document", "source": {"type": "text"}}])},
        "messages[0].content[0].source.data",
        "missing_required_parameter",
    ),
    ({"messages": user([{"type": "search_result"}])}, "messages[0].content[0].content", "missing_required_parameter"),
    (
        {"messages": [*USER, {"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": {}}]}]},
        "messages[1].content[0].id",
        "missing_required_parameter",
    ),
    (
        {"messages": [*USER, {"role": "assistant", "content": [USE | {"name": None}]}]},
        "messages[1].content[0].name",
        "missing_required_parameter",
    ),
    (
        {"messages": [*USER, {"role": "assistant", "content": [USE | {"input": "{}"}]}]},
        "messages[1].content[0].input",
        "invalid_type",
    ),
    (
        {"messages": [*USER, {"role": "assistant", "content": [{"type": "thinking"}]}]},
        "messages[1].content[0].thinking",
        "missing_required_parameter",
    ),
    ({"messages": [*USER, {"role": "assistant", "content": [RESULT]}]}, "messages[1].content[0].type", "invalid_value"),
    ({"messages": [*USER, {"role": "assistant", "content": [USE]}]}, "messages", "invalid_value"),
    ({"messages": [{"role": "assistant", "content": ""}]}, "messages", "invalid_value"),
    ({"system": 5}, "system", "invalid_type"),
    ({"system": [{"type": "image"}]}, "system[0].type", "invalid_value"),
    ({"max_tokens": None}, "max_tokens", "missing_required_parameter"),
    ({"max_tokens": -1}, "max_tokens", "invalid_value"),
    ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
    ({"max_tokens": "5"}, "max_tokens", "invalid_type"),
    ({"temperature": 1.1}, "temperature", "invalid_value"),
    ({"temperature": True}, "temperature", "invalid_type"),
    ({"top_p": -0.1}, "top_p", "invalid_value"),
    ({"top_k": -2}, "top_k", "invalid_value"),
    ({"stop_sequences": "x"}, "stop_sequences", "invalid_type"),
    ({"stop_sequences": ["x"] * 17}, "stop_sequences", "invalid_value"),
    ({"stop_sequences": ["x" * 257]}, "stop_sequences", "invalid_value"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"mirostat": 3}, "mirostat", "invalid_value"),
    ({"tools": {}}, "tools", "invalid_type"),
    ({"tools": of_tool(name=None)}, "tools[0].name", "missing_required_parameter"),
    ({"tools": of_tool(name="a b")}, "tools[0].name", "invalid_value"),
    ({"tools": of_tool(name="a" * 129)}, "tools[0].name", "invalid_value"),
    ({"tools": of_tool(input_schema=None)}, "tools[0].input_schema", "missing_required_parameter"),
    ({"tools": TOOLS * 2}, "tools", "invalid_value"),
    ({"tools": [TOOLS[0] | {"name": f"f{at}"} for at in range(129)]}, "tools", "invalid_value"),
    ({"tools": [{"type": "web_search_new", "name": "web_search"}]}, "tools[0].type", "unsupported_value"),
    ({"tools": [{"type": "text_editor_20250728", "name": "x"}]}, "tools[0].type", "unsupported_value"),
    (
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}], "tool_choice": {"type": "any"}},
        "tool_choice",
        "invalid_value",
    ),
    ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type", "unsupported_value"),
    ({"tool_choice": {"type": "auto"}}, "tool_choice", "invalid_value"),
    ({"tools": TOOLS, "tool_choice": "auto"}, "tool_choice", "invalid_type"),
    ({"tools": TOOLS, "tool_choice": {"type": "required"}}, "tool_choice.type", "invalid_value"),
    ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, "tool_choice.name", "missing_required_parameter"),
    ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name", "invalid_value"),
    ({"thinking": True}, "thinking", "invalid_type"),
    ({"thinking": {"type": "on"}}, "thinking.type", "invalid_value"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "missing_required_parameter"),
    ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens", "invalid_value"),
    ({"thinking": {"type": "adaptive", "display": "loud"}}, "thinking.display", "invalid_value"),
    ({"output_config": {"effort": "none"}}, "output_config.effort", "invalid_value"),
    ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type", "invalid_value"),
    (
        {"output_config": {"format": {"type": "json_schema"}}},
        "output_config.format.schema",
        "missing_required_parameter",
    ),
    (
        {
            "output_config": {"format": {"type": "json_schema", "schema": {}}},
            "output_format": {"type": "json_schema", "schema": {}},
        },
        "output_format",
        "invalid_value",
    ),
    ({"mcp_servers": [{"url": "https://x"}]}, "mcp_servers", "unsupported_parameter"),
]


@pytest.mark.parametrize(("fields", "param", "code"), REFUSED, ids=[str(row[0])[:60] for row in REFUSED])
def test_each_refusal_names_its_field(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        message(**fields)
    assert (caught.value.param, caught.value.code, caught.value.status) == (param, code, 400)
    told = json.loads(anthropic.error(caught.value).body)["error"]
    assert told["type"] == "invalid_request_error"
    assert param in told["message"]


@pytest.mark.parametrize("body", [b"[]", b"5", b'"x"', b"null", b"true"])
def test_a_body_is_an_object(body: bytes) -> None:
    for parse in (anthropic.parse_message, anthropic.parse_count):
        with pytest.raises(BadRequest, match="must be a JSON object"):
            parse(body, ARRIVAL)


def test_sampling_fields_arrive() -> None:
    asked = message(
        temperature=0, top_p=0.5, top_k=-1, min_p=0.1, seed=7, stop_sequences=["a", ""], xtc_probability=0.5,
        priority=1, num_ctx=64, keep_alive="5m", stream=True,
    ).asked  # fmt: skip
    assert asked.request.sampling == core.Sampling(
        max_tokens=16, temperature=0, top_p=0.5, top_k=0, min_p=0.1, seed=7, stop=("a",), xtc_probability=0.5
    )
    assert (asked.request.priority, asked.request.n_ctx, asked.keep_alive, asked.stream) == (1, 64, "5m", True)
    assert message(seed=-1).asked.request.sampling.seed is None


def test_null_is_absent() -> None:
    nothing = dict.fromkeys(MessageBody.model_fields.keys() - {"model", "messages", "max_tokens"})
    assert message(**nothing).asked == message().asked


def test_unknown_and_told_keys_are_named() -> None:
    asked = message(foo=1, metadata={"user_id": "me"}, service_tier="auto", container="x", context_management={}).asked
    assert asked.ignored == ("context_management", "container", "foo")


@pytest.mark.parametrize(
    "kind", ["web_search_20250305", "web_fetch_20250910", "code_execution_20250825", "tool_search_tool_bm25_20251119"]
)
def test_tools_that_run_at_anthropic_are_left_out_and_named(kind: str) -> None:
    made = message(tools=[{"type": kind, "name": "x", "max_uses": 8}, *TOOLS])
    assert made.asked.ignored == (f"tools[0]:{kind}",)
    (asked,) = made.asked.request.prompts
    assert isinstance(asked, core.ChatPrompt)
    assert [tool.name for tool in asked.tools] == ["f"]
    assert made.asked.needs == ("chat", "tools")
    assert message(tools=[{"type": kind, "name": "x"}]).asked.needs == ("chat",)


def test_a_count_has_the_prompts_fields_and_no_others() -> None:
    count = anthropic.parse_count(json.dumps({"model": "m", "messages": USER, "tools": TOOLS}).encode(), ARRIVAL)
    assert count.operation(INFO) == core.Tokenize(prompt(tools=TOOLS))
    assert json.loads(count.reply(core.Tokens((1, 2), image_tokens=3)).body) == {"input_tokens": 5}
    names = {row.name for row in table.rows(CountBody)}
    assert names < {row.name for row in table.rows(MessageBody)}
    assert not names & {"max_tokens", "stream", "temperature", "stop_sequences"}


# ---- turns -----------------------------------------------------------------------------------------------------------


def test_the_system_stands_first() -> None:
    assert prompt(system="be brief").messages[0] == core.Message("system", (core.TextPart("be brief"),))
    blocks = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]
    assert prompt(system=blocks).messages[0].text == "a\n\nb"
    assert [turn.role for turn in prompt(system="").messages] == ["user"]
    turns = prompt(*USER, {"role": "system", "content": blocks}, *user("go on")).messages
    assert [(turn.role, turn.text) for turn in turns] == [("user", "hi"), ("system", "a\n\nb"), ("user", "go on")]


def test_the_results_of_tools_stand_before_what_is_said_beside_them() -> None:
    said = {"type": "text", "text": "and?"}
    other = USE | {"id": "toolu_2", "name": "g", "input": {"é": []}}
    turns = prompt(
        *USER,
        {"role": "assistant", "content": [{"type": "text", "text": "I ask."}, USE, other]},
        {"role": "user", "content": [said, RESULT | {"tool_use_id": "toolu_2", "content": [said, said]}, RESULT]},
    ).messages
    assert [turn.role for turn in turns] == ["user", "assistant", "tool", "tool", "user"]
    assert turns[1].text == "I ask."
    assert turns[1].tool_calls == (
        core.ToolCall("toolu_1", "f", '{"a": 1}'),
        core.ToolCall("toolu_2", "g", '{"é": []}'),
    )
    assert [(turn.name, turn.tool_call_id, turn.text) for turn in turns[2:4]] == [
        ("g", "toolu_2", "and?and?"),
        ("f", "toolu_1", "42"),
    ]
    assert turns[4].text == "and?"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"content": None}, ""),
        ({"content": []}, ""),
        ({"is_error": False}, "42"),
        ({"is_error": True}, "Error: 42"),
        ({"is_error": True, "content": "error: no file"}, "error: no file"),
        ({"is_error": True, "content": [{"type": "text", "text": "no file"}]}, "Error: no file"),
    ],
)
def test_a_tools_result(fields: dict[str, Any], text: str) -> None:
    turns = prompt(*USER, {"role": "assistant", "content": [USE]}, *user([RESULT | fields])).messages
    assert (turns[-1].role, turns[-1].text) == ("tool", text)


def test_thinking_goes_back_to_the_template() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "redacted_thinking", "data": "zzz"},
        {"type": "thinking", "thinking": " so"},
        {"type": "text", "text": "yes"},
    ]
    turn = prompt(*USER, {"role": "assistant", "content": blocks}, *USER).messages[1]
    assert (turn.reasoning, turn.text) == ("hm so", "yes")


def test_a_speaker_is_not_heard_twice_in_a_row() -> None:
    turns = prompt(
        *user("a"), *user([{"type": "text", "text": "b"}]), {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": [USE]}, *user([RESULT]), *user("d"),
    ).messages  # fmt: skip
    assert [(turn.role, turn.text) for turn in turns] == [
        ("user", "a\n\nb"),
        ("assistant", "c"),
        ("tool", "42"),
        ("user", "d"),
    ]
    assert turns[1].tool_calls


def test_what_anthropics_own_tools_answered_is_a_tools_turn() -> None:
    found = [{"type": "web_search_result", "url": "https://x", "title": "X", "encrypted_content": "zz"}]
    blocks = [
        {"type": "text", "text": "I look."},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": found},
        {"type": "text", "text": "X."},
    ]
    turns = prompt(*USER, {"role": "assistant", "content": blocks}, *user("more")).messages
    assert [turn.role for turn in turns] == ["user", "assistant", "tool", "assistant", "user"]
    assert (turns[1].text, turns[1].tool_calls[0].name, turns[2].name) == ("I look.", "web_search", "web_search")
    assert json.loads(turns[2].text) == found
    assert turns[3].text == "X."


def test_images_stand_in_the_order_of_the_prompt() -> None:
    linked = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    blocks = [{"type": "text", "text": "see"}, IMAGE, RESULT | {"content": [linked]}]
    asked = message(messages=[*USER, {"role": "assistant", "content": [USE]}, *user(blocks)]).asked
    (found,) = asked.request.prompts
    assert isinstance(found, core.ChatPrompt)
    assert [turn.parts for turn in found.messages[2:]] == [(UNREAD,), (core.TextPart("see"), UNREAD)]
    assert [(picture.url, picture.data) for picture in asked.pictures] == [("https://x/y.png", b""), ("", b"\0")]
    assert "vision" in asked.needs
    with pytest.raises(UnsupportedFeature, match="'m' does not support vision"):
        message(messages=user([IMAGE])).adapt(INFO)


def test_documents_and_search_results_are_read_as_text() -> None:
    inner = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    blocks = [
        {"type": "document", "title": "T", "context": "C", "source": {"type": "text", "data": "body"}},
        {"type": "document", "source": {"type": "content", "content": inner}},
        {"type": "search_result", "title": "S", "source": "https://s", "content": inner},
    ]
    parts = prompt(*user(blocks)).messages[0].parts
    assert [part.text for part in parts if isinstance(part, core.TextPart)] == [
        "T\nC\nbody",
        "one\ntwo",
        "S\nhttps://s\none\ntwo",
    ]


def test_a_last_turn_of_the_assistants_is_continued() -> None:
    begun = prompt(*USER, {"role": "assistant", "content": "The answer is ("})
    assert (begun.continue_last, begun.messages[-1].text) == (True, "The answer is (")
    assert not prompt(*USER).continue_last
    for nothing in ("", [], [{"type": "text", "text": ""}]):
        empty = prompt(*USER, {"role": "assistant", "content": nothing})
        assert (empty.continue_last, len(empty.messages)) == (False, 1)


# ---- tools and thinking ----------------------------------------------------------------------------------------------


def test_tools_and_choices() -> None:
    given = of_tool(type="custom", strict=True, cache_control={"type": "ephemeral"}, defer_loading=False)
    assert prompt(tools=given).tools == (core.Tool("f", "d", SCHEMA, strict=True),)
    assert message(tools=TOOLS).asked.needs == ("chat", "tools")
    expected = [
        (None, core.ToolChoice("auto")),
        ({"type": "auto"}, core.ToolChoice("auto")),
        ({"type": "auto", "disable_parallel_tool_use": True}, core.ToolChoice("auto", parallel=False)),
        ({"type": "any"}, core.ToolChoice("required")),
        ({"type": "any", "disable_parallel_tool_use": True}, core.ToolChoice("required", parallel=False)),
        ({"type": "tool", "name": "f"}, core.ToolChoice("required", ("f",), parallel=False)),
        ({"type": "none"}, core.ToolChoice("none")),
    ]
    for choice, made in expected:
        assert prompt(tools=TOOLS, tool_choice=choice).tool_choice == made
    assert prompt(tool_choice={"type": "none"}).tool_choice.mode == "none"


@pytest.mark.parametrize(
    ("fields", "thinking", "budget"),
    [
        ({}, None, None),
        ({"thinking": {"type": "disabled"}}, False, None),
        ({"thinking": {"type": "between_tools"}}, False, None),
        ({"thinking": {"type": "adaptive"}}, True, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, True, 2048),
        ({"output_config": {"effort": "xhigh"}}, "max", None),
        ({"output_config": {"effort": "low"}, "thinking": {"type": "enabled", "budget_tokens": 5}}, "low", 5),
        ({"output_config": {"effort": "low"}, "thinking": {"type": "disabled"}}, False, None),
    ],
)
def test_thinking(fields: dict[str, Any], thinking: bool | str | None, budget: int | None) -> None:
    asked = prompt(**fields)
    assert (asked.thinking, asked.thinking_budget) == (thinking, budget)


def test_a_model_that_can_not_think_answers_without_and_it_is_said() -> None:
    plain = core.ModelInfo("fake", "fake", 64, capabilities=("completion", "chat"))
    for fields, name in (
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "thinking"),
        ({"output_config": {"effort": "low"}}, "output_config.effort"),
    ):
        asked = message(**fields)
        (adapted,) = asked.adapt(plain).prompts
        assert (adapted, asked.unheeded) == (prompt(), (name,))
        assert message(**fields).adapt(INFO).prompts == message(**fields).asked.request.prompts
    off = message(thinking={"type": "disabled"})
    assert off.adapt(plain) == off.asked.request
    assert off.unheeded == ()
    with pytest.raises(UnsupportedFeature, match="'m' does not support tools"):
        message(tools=TOOLS).adapt(plain)


def test_a_schema_is_strict() -> None:
    wanted = {"type": "json_schema", "schema": SCHEMA}
    for fields in ({"output_config": {"format": wanted}}, {"output_format": wanted}):
        constraint = message(**fields).asked.request.constraint
        assert constraint is not None
        assert (constraint.kind, json.loads(constraint.source), constraint.strict) == ("json_schema", SCHEMA, True)


# ---- replies ---------------------------------------------------------------------------------------------------------

ANSWER: tuple[core.Event, ...] = (
    core.Progress(0, 3, 7),
    core.Progress(0, 7, 7, 2),
    core.Reasoning(0, "let me", (1,)),
    core.Reasoning(0, " see\u2028", (2,)),
    core.Text(0, "", (3,)),
    core.Text(0, "I \N{GRINNING FACE}", (4,)),
    core.Text(0, " ask\u0085", (5,)),
    core.ToolCallStart(0, 0, "call_abc", "f", (6,)),
    core.ToolCallArgs(0, 0, "", (7,)),
    core.ToolCallArgs(0, 0, '{"a": ', (8,)),
    core.ToolCallArgs(0, 0, "1}", (9,)),
    core.ToolCallStart(0, 1, "call_def", "g", (10,)),
    done(reason="tool_calls", output=12),
)
USAGE = {
    "input_tokens": 5,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 2,
    "output_tokens": 12,
    "output_tokens_details": {"thinking_tokens": 0},
    "service_tier": "standard",
}
CONTENT: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "let me see\u2028", "signature": anthropic.signature("let me see\u2028")},
    {"type": "text", "text": "I \N{GRINNING FACE} ask\u0085"},
    {"type": "tool_use", "id": "toolu_abc", "name": "f", "input": {"a": 1}},
    {"type": "tool_use", "id": "toolu_def", "name": "g", "input": {}},
]


def events(text: str) -> Iterator[dict[str, Any]]:
    """The data of each event; its name must be the type of its data."""
    *given, last = text.split("\n\n")
    assert last == ""
    for event in given:
        name, data = event.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        yield value


def test_a_whole_message() -> None:
    assert whole(message(tools=TOOLS), *ANSWER) == {
        "id": "msg_" + ARRIVAL.random,
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": CONTENT,
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": USAGE,
    }


def test_a_stream_block_by_block() -> None:
    told = list(events(streamed(message(tools=TOOLS, stream=True), *ANSWER)))
    start, *blocks, delta, stop = told
    assert start["type"] == "message_start"
    assert start["message"] == {
        "id": "msg_" + ARRIVAL.random,
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": USAGE | {"output_tokens": 0},
    }
    assert delta == {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": USAGE,
    }
    assert stop == {"type": "message_stop"}
    shape = [(event["type"].removeprefix("content_block_"), event["index"]) for event in blocks]
    assert shape == [
        *(("start", 0), ("delta", 0), ("delta", 0), ("delta", 0), ("stop", 0)),
        *(("start", 1), ("delta", 1), ("delta", 1), ("stop", 1)),
        *(("start", 2), ("delta", 2), ("delta", 2), ("stop", 2)),
        *(("start", 3), ("stop", 3)),
    ]
    assert [event["content_block"] for event in blocks if "content_block" in event] == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "toolu_abc", "name": "f", "input": {}},
        {"type": "tool_use", "id": "toolu_def", "name": "g", "input": {}},
    ]
    deltas = [event["delta"] for event in blocks if "delta" in event]
    assert "".join(piece.get("thinking", "") for piece in deltas) == CONTENT[0]["thinking"]
    assert deltas[2] == {"type": "signature_delta", "signature": CONTENT[0]["signature"]}
    assert "".join(piece.get("text", "") for piece in deltas) == CONTENT[1]["text"]
    assert "".join(piece.get("partial_json", "") for piece in deltas) == '{"a": 1}'


def test_a_stream_is_one_line_to_every_reader() -> None:
    text = streamed(message(), *ANSWER)
    assert all(line.startswith(("event: ", "data: ")) for line in text.splitlines() if line)


def test_omitted_thinking_keeps_its_signature() -> None:
    fields = {"thinking": {"type": "adaptive", "display": "omitted"}}
    assert whole(message(**fields), *ANSWER)["content"] == [CONTENT[0] | {"thinking": ""}, *CONTENT[1:]]
    deltas = [event["delta"] for event in events(streamed(message(**fields), *ANSWER)) if "delta" in event]
    assert deltas[0] == {"type": "signature_delta", "signature": CONTENT[0]["signature"]}
    assert not any("thinking" in piece for piece in deltas)


def ended(reason: core.FinishReason, output: int = 3, stop: str | None = None) -> core.Done:
    whole_end = done(reason=reason, output=output)
    return core.Done(0, reason, whole_end.usage, whole_end.timeline, stop)


@pytest.mark.parametrize(
    ("fields", "end", "reason", "sequence"),
    [
        ({}, ended("stop"), "end_turn", None),
        ({"max_tokens": 3}, ended("length"), "max_tokens", None),
        ({"max_tokens": 4}, ended("length"), "model_context_window_exceeded", None),
        ({"stop_sequences": ["x", "y"]}, ended("stop", stop="y"), "stop_sequence", "y"),
        ({"stop_sequences": ["x"]}, ended("stop", stop="of models.yaml"), "end_turn", None),
    ],
)
def test_why_it_ended(fields: dict[str, Any], end: core.Done, reason: str, sequence: str | None) -> None:
    told = whole(message(**fields), core.Text(0, "a", (1,)), end)
    assert (told["stop_reason"], told["stop_sequence"]) == (reason, sequence)
    *_, delta, _ = events(streamed(message(**fields), core.Text(0, "a", (1,)), end))
    assert delta["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


def test_a_call_that_is_cut_short_is_not_a_use() -> None:
    cut = (*ANSWER[7:10], ended("length", output=16))
    told = whole(message(tools=TOOLS), *cut)
    assert told["stop_reason"] == "max_tokens"
    assert told["content"] == [{"type": "tool_use", "id": "toolu_abc", "name": "f", "input": {}}]


def test_nothing_is_answered_where_nothing_is_wanted() -> None:
    asked = message(max_tokens=0)
    assert asked.asked.request.sampling.max_tokens == 1
    cold = (core.Progress(0, 7, 7), core.Text(0, "a", (1,)), ended("length", output=1))
    told = whole(message(max_tokens=0), *cold)
    assert (told["content"], told["stop_reason"], told["usage"]["output_tokens"]) == ([], "max_tokens", 0)
    kinds = [event["type"] for event in events(streamed(asked, *cold))]
    assert kinds == ["message_start", "message_delta", "message_stop"]


def test_silence_is_a_ping_behind_the_start() -> None:
    asked = message(stream=True)
    asked.feed(core.Progress(0, 3, 9, 1), WALL)
    first, ping = events(asked.silence(WALL).decode())
    assert (first["message"]["usage"]["input_tokens"], ping) == (8, {"type": "ping"})
    assert [event["type"] for event in events(asked.silence(WALL).decode())] == ["ping"]


# ---- errors ----------------------------------------------------------------------------------------------------------

ERRORS: list[tuple[HeylookError, int, str, str]] = [
    (errors.BadRequest("x"), 400, "invalid_request_error", "x"),
    (errors.UnsupportedFeature("x"), 400, "invalid_request_error", "x"),
    (errors.UnsupportedEncoding("x"), 415, "invalid_request_error", "x"),
    (errors.Unauthorized("x"), 401, "authentication_error", "x"),
    (errors.Forbidden("x"), 403, "permission_error", "x"),
    (errors.NotFound("x"), 404, "not_found_error", "x"),
    (errors.ModelNotFound(model="m"), 404, "not_found_error", "The model 'm' was not found."),
    (errors.MethodNotAllowed("x"), 405, "invalid_request_error", "x"),
    (errors.Conflict("x"), 409, "invalid_request_error", "x"),
    (errors.TooLarge("x"), 413, "request_too_large", "x"),
    (errors.Cancelled("x"), 499, "api_error", "x"),
    (errors.EngineError("x"), 500, "api_error", "x"),
    (errors.LoadFailed("x"), 500, "api_error", "x"),
    (errors.PullFailed("x"), 502, "api_error", "x"),
    (errors.InsufficientStorage("x"), 507, "api_error", "x"),
    (errors.Overloaded("x"), 529, "overloaded_error", "x"),
    (errors.InsufficientMemory("x"), 503, "overloaded_error", "x"),
    (errors.WorkerDied("x"), 503, "overloaded_error", "x"),
    (errors.ShuttingDown("x"), 503, "overloaded_error", "x"),
    (
        errors.ContextLengthExceeded(limit_tokens=8, prompt_tokens=9),
        400,
        "invalid_request_error",
        "prompt is too long: 9 tokens > 8 maximum",
    ),
    (
        errors.InvalidConstraint("'f': no", param="tools[0].function.parameters"),
        400,
        "invalid_request_error",
        "tools[0].input_schema: invalid schema of the tool 'f': no",
    ),
    (errors.InvalidConstraint("no"), 400, "invalid_request_error", "tools: no"),
]


@pytest.mark.parametrize(("problem", "status", "kind", "text"), ERRORS, ids=[type(row[0]).__name__ for row in ERRORS])
def test_the_catalogue_of_errors(problem: HeylookError, status: int, kind: str, text: str) -> None:
    reply = message().error(problem)
    assert reply.status == status
    expected = {"type": kind, "message": text, "details": {"error_code": problem.code, "param": problem.param}}
    assert json.loads(reply.body) == {"type": "error", "error": expected, "request_id": ARRIVAL.id}
    headers = dict(reply.headers)
    repeats = status in (408, 409) or (status >= 500 and status not in (503, 529))  # what SDKs would try again for
    assert ("x-should-retry" in headers) == repeats
    assert ("retry-after" in headers) == (status in (503, 529))
    (event,) = events(message().failure(problem).decode())
    assert event == json.loads(reply.body)


def test_a_schema_that_can_not_be_compiled_is_the_formats_where_there_is_one() -> None:
    asked = message(output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    told = json.loads(asked.error(errors.InvalidConstraint("no")).body)["error"]
    assert (told["message"], told["details"]["param"]) == (
        "output_config.format.schema: no",
        "output_config.format.schema",
    )


def test_every_kind_of_error_is_in_the_catalogue() -> None:
    known = {type(row[0]).__name__ for row in ERRORS}
    assert {name for name in errors.every_kind() if name[0] != "_"} - known == {
        "HeylookError",
        "ConfigError",
        "TargetFailed",
        "Unavailable",
        "ProtocolError",
    }
