"""The Responses API, bytes in and bytes out."""

import json
from pathlib import Path
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.errors import (
    BadRequest,
    Cancelled,
    ContextLengthExceeded,
    HeylookError,
    InvalidConstraint,
    NotFound,
    Overloaded,
    UnsupportedFeature,
    WorkerDied,
)
from heylook_llm.server.wire import responses, responses_items
from heylook_llm.server.wire.pictures import UNREAD
from tests.server.scripted import done
from tests.wire.asking import ARRIVAL, WALL, streamed, whole

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parents[1] / "golden" / "responses"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
CUSTOM = {"type": "custom", "name": "shell", "description": "runs"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a": 1}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "short"}]}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}


NOTHING = responses.Known()


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(known: responses.Known = NOTHING, kept: list[Any] | None = None, **fields: Any) -> responses.Answer:
    """A body, parsed; what is required is given where it isn't."""
    body = responses.read(json.dumps({"model": "m", "input": "hi"} | fields).encode())
    responses_items.references(body.input)
    return responses.parse(body, known, ARRIVAL, [].append if kept is None else kept.append)


def prompt(*items: dict[str, Any], known: responses.Known = NOTHING, **fields: Any) -> core.ChatPrompt:
    given: dict[str, Any] = {"input": items} if items else {}
    asked = answer(known, **fields, **given).asked
    (found,) = asked.request.prompts
    assert isinstance(found, core.ChatPrompt)
    return found


def events(text: str) -> list[dict[str, Any]]:
    """The data of each event; its line of the event's type is checked."""
    found = []
    for frame in text.split("\n\n")[:-1]:
        kind, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {found[-1]['type']}"
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


# ---- bodies ----------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"model": ""}, "model", "missing_required_parameter"),
    ({"model": 5}, "model", "invalid_type"),
    ({"input": None}, "input", "missing_required_parameter"),
    ({"input": 5}, "input", "invalid_type"),
    ({"input": []}, "input", "invalid_value"),
    ({"input": ["hi"]}, "input[0]", "invalid_type"),
    ({"input": [{"content": "hi"}]}, "input[0].role", "missing_required_parameter"),
    ({"input": [{"role": "tool", "content": "hi"}]}, "input[0].role", "invalid_value"),
    ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
    ({"input": [user([{"type": "alien"}])]}, "input[0].content[0].type", "invalid_value"),
    ({"input": [user([{"type": "input_text"}])]}, "input[0].content[0].text", "missing_required_parameter"),
    ({"input": [user([{"type": "input_file", "file_id": "x"}])]}, "input[0].content[0]", "unsupported_value"),
    ({"input": [user([{"type": "input_audio"}])]}, "input[0].content[0]", "unsupported_value"),
    ({"input": [user([IMAGE | {"file_id": "x"}])]}, "input[0].content[0]", "unsupported_value"),
    ({"input": [user([{"type": "input_image"}])]}, "input[0].content[0].image_url", "missing_required_parameter"),
    ({"input": [user([IMAGE | {"detail": "huge"}])]}, "input[0].content[0].image_url", "invalid_value"),
    ({"input": [{"role": "system", "content": [IMAGE]}]}, "input[0].content[0]", "invalid_value"),
    ({"input": [{"type": "alien"}]}, "input[0].type", "invalid_value"),
    ({"input": [{"type": "computer_call_output", "call_id": "c", "output": {}}]}, "input[0].type", "invalid_value"),
    ({"input": [{"type": "item_reference"}]}, "input[0].id", "missing_required_parameter"),
    ({"input": [CALL | {"name": None}]}, "input[0].name", "missing_required_parameter"),
    ({"input": [CALL | {"call_id": None}]}, "input[0].call_id", "missing_required_parameter"),
    ({"input": [CALL | {"arguments": "{"}]}, "input[0].arguments", "invalid_value"),
    ({"input": [CALL | {"arguments": "[]"}]}, "input[0].arguments", "invalid_value"),
    ({"input": [CALL | {"arguments": {}}]}, "input[0].arguments", "invalid_type"),
    ({"input": [OUTPUT]}, "input", "invalid_value"),
    ({"input": [CALL, OUTPUT | {"output": None}]}, "input[1].output", "missing_required_parameter"),
    ({"input": [CALL, OUTPUT | {"output": 5}]}, "input[1].output", "invalid_type"),
    ({"tools": [{"type": "web"}]}, "tools[0].type", "unsupported_value"),
    ({"tools": [TOOL, {"type": "mcps", "server_label": "x"}]}, "tools[1].type", "unsupported_value"),
    ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice", "invalid_value"),
    (
        {"tools": [{"type": "web_search"}, TOOL], "tool_choice": {"type": "web_search"}},
        "tool_choice",
        "unsupported_value",
    ),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name", "missing_required_parameter"),
    ({"tools": [TOOL, TOOL]}, "tools", "invalid_value"),
    ({"tools": [CUSTOM | {"format": {"type": "grammar", "syntax": "ebnf"}}]}, "tools[0].format", "invalid_value"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice", "invalid_value"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice", "invalid_value"),
    ({"tools": [TOOL], "tool_choice": {"type": "file_search"}}, "tool_choice", "unsupported_value"),
    (
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": []}},
        "tool_choice.tools",
        "invalid_value",
    ),
    ({"text": {"format": {"type": "alien"}}}, "text.format.type", "invalid_value"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "missing_required_parameter"),
    ({"reasoning": {"effort": "immense"}}, "reasoning.effort", "invalid_value"),
    ({"truncation": "sometimes"}, "truncation", "invalid_value"),
    ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
    ({"temperature": 3}, "temperature", "invalid_value"),
    ({"top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"mirostat": 3}, "mirostat", "invalid_value"),
    ({"metadata": {"k": 5}}, "metadata.k", "invalid_type"),
    ({"metadata": {"k" * 65: "v"}}, "metadata", "invalid_value"),
    ({"metadata": dict.fromkeys(map(str, range(17)), "v")}, "metadata", "invalid_value"),
    ({"background": True, "store": False}, "background", "invalid_value"),
    ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
    ({"messages": []}, "messages", "unsupported_parameter"),
    ({"response_format": {"type": "text"}}, "response_format", "unsupported_parameter"),
    ({"max_tokens": 5}, "max_tokens", "unsupported_parameter"),
    ({"n": 2}, "n", "unsupported_parameter"),
]


@pytest.mark.parametrize(("fields", "param", "code"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_bad_body_is_refused_with_its_field(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        answer(**fields)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert "\n" not in caught.value.message


def test_an_unknown_reference_is_not_found() -> None:
    with pytest.raises(NotFound, match="msg_1") as caught:
        answer(input=[{"type": "item_reference", "id": "msg_1"}])
    assert caught.value.param == "input[0].id"


@pytest.mark.parametrize(
    "kind",
    [
        *("web_search", "web_search_preview", "web_search_2025_08_26", "file_search", "code_interpreter", "mcp"),
        *("image_generation", "computer_use_preview", "local_shell", "shell", "apply_patch", "tool_search"),
    ],
)
def test_tools_that_run_at_openai_are_left_out_and_named(kind: str) -> None:
    """Agents send them to whichever model they are set up with, and go on without."""
    made = answer(tools=[{"type": kind, "server_label": "x"}, TOOL])
    assert made.asked.ignored == (f"tools[0]:{kind}",)
    (asked,) = made.asked.request.prompts
    assert isinstance(asked, core.ChatPrompt)
    assert [tool.name for tool in asked.tools] == ["f"]
    assert [tool["type"] for tool in made.waiting("queued")["tools"]] == ["function"]


def test_what_has_no_effect_is_named() -> None:
    asked = answer(
        input=[user("hi"), {"type": "web_search_call", "id": "ws_1", "status": "completed"}],
        include=["reasoning.encrypted_content", "file_search_call.results"],
        tools=[CUSTOM | {"format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}}],
        context_management=[{"type": "compaction"}],
        user="me",
        alien=1,
    ).asked
    assert asked.ignored == (
        "context_management",
        "alien",
        "tools[0].format",
        "input[1]",
        "include.file_search_call.results",
    )


# ---- items to turns --------------------------------------------------------------------------------------------------


def test_what_an_assistant_thought_said_and_called_is_one_turn() -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I call."}]}
    turns = prompt(user("go"), THOUGHT, said, CALL, OUTPUT, user("and?")).messages
    assert [turn.role for turn in turns] == ["user", "assistant", "tool", "user"]
    assert (turns[1].reasoning, turns[1].text) == ("short", "I call.")
    assert turns[1].tool_calls == (core.ToolCall("call_1", "f", '{"a": 1}'),)
    assert (turns[2].text, turns[2].tool_call_id, turns[2].name) == ("42", "call_1", "f")


def test_instructions_and_what_developers_say_at_first_are_one_turn() -> None:
    developers = {"role": "developer", "content": [{"type": "input_text", "text": "Sandbox."}]}
    turns = prompt(developers, user("go"), instructions="Be brief.").messages
    assert [(turn.role, turn.text) for turn in turns] == [("system", "Be brief.\n\nSandbox."), ("user", "go")]


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (THOUGHT, "short"),
        (THOUGHT | {"content": [{"type": "reasoning_text", "text": "all"}]}, "all"),
        (THOUGHT | {"encrypted_content": responses_items.sealed("sealed")}, "sealed"),
        (THOUGHT | {"encrypted_content": "gAAAAABforeign"}, "short"),
        ({"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": None}, ""),
    ],
)
def test_a_reasoning_comes_back(item: dict[str, Any], text: str) -> None:
    assert [turn.reasoning for turn in prompt(user("x"), item, user("y")).messages if turn.role == "assistant"] == [
        text
    ]


def test_a_call_that_was_cut_short_comes_back_without_arguments() -> None:
    cut = CALL | {"arguments": '{"a"', "status": "incomplete"}
    assert prompt(user("x"), cut, user("y")).messages[1].tool_calls == (core.ToolCall("call_1", "f", "{}"),)


def test_images_of_users_and_tools() -> None:
    asked = answer(input=[user([IMAGE | {"detail": "low"}]), CALL, OUTPUT | {"output": [IMAGE]}]).asked
    (found,) = asked.request.prompts
    assert isinstance(found, core.ChatPrompt)
    assert [turn.parts for turn in found.messages if turn.role != "assistant"] == [(UNREAD,), (UNREAD,)]
    assert [picture.place for picture in asked.pictures] == [
        "input[0].content[0].image_url",
        "input[2].output[0].image_url",
    ]
    assert (asked.pictures[0].within, asked.pictures[1].within) == (512, None)
    assert asked.needs == ("chat", "vision")


def test_what_is_kept_stands_before_the_input() -> None:
    before = ({"type": "message", "id": "msg_1", "role": "user", "content": "one"}, CALL | {"id": "fc_1"})
    known = responses.Known(before, {"msg_9": {"type": "message", "id": "msg_9", "role": "user", "content": "ref"}})
    turns = prompt(OUTPUT, {"type": "item_reference", "id": "msg_9"}, known=known, instructions="I").messages
    assert [turn.text for turn in turns] == ["I", "one", "", "42", "ref"]


def test_items_are_kept_in_their_long_form_with_ids() -> None:
    made = answer(input=[user("hi"), {"role": "assistant", "content": "yes"}, CALL | {"id": "fc_mine"}])
    ids = [item["id"] for item in made.items]
    assert ids == [f"msg_{ARRIVAL.random}i0", f"msg_{ARRIVAL.random}i1", "fc_mine"]
    assert [item.get("content") for item in made.items] == [
        [{"type": "input_text", "text": "hi"}],
        [{"type": "output_text", "text": "yes", "annotations": [], "logprobs": []}],
        None,
    ]
    assert answer(store=False).items == []
    twice = answer(input=[user("a") | {"id": "msg_x"}, user("b") | {"id": "msg_x"}])
    assert [item["id"] for item in twice.items] == ["msg_x", f"msg_{ARRIVAL.random}i1"]


# ---- tools and settings ----------------------------------------------------------------------------------------------


def test_tools_and_namespaces() -> None:
    space = {"type": "namespace", "name": "files", "description": "On disk.", "tools": [TOOL | {"name": "read"}]}
    found = prompt(tools=[TOOL, space, CUSTOM], tool_choice={"type": "function", "name": "read", "namespace": "files"})
    assert [(tool.name, tool.description, tool.strict) for tool in found.tools] == [
        ("f", "d", True),
        ("files.read", "On disk.\n\nd", True),
        ("shell", "runs", False),
    ]
    assert found.tool_choice == core.ToolChoice("required", ("files.read",), parallel=False)
    assert found.tools[2].parameters["required"] == ["input"]


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        (None, core.ToolChoice("auto")),
        ("none", core.ToolChoice("none")),
        ("required", core.ToolChoice("required")),
        ({"type": "custom", "name": "shell"}, core.ToolChoice("required", ("shell",), parallel=False)),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            core.ToolChoice("auto", ("f",)),
        ),
    ],
)
def test_choices(given: Any, choice: core.ToolChoice) -> None:
    assert prompt(tools=[TOOL, CUSTOM], tool_choice=given).tool_choice == choice


def test_a_choice_without_tools_is_none() -> None:
    assert prompt(tool_choice="auto", parallel_tool_calls=False).tool_choice == core.ToolChoice("none", parallel=False)


def test_settings() -> None:
    request = answer(
        max_output_tokens=9,
        temperature=0,
        top_p=0.5,
        top_k=-1,
        seed=-1,
        stop="x",
        top_logprobs=3,
        truncation="auto",
        priority=2,
        num_ctx=64,
        min_p=0.1,
        repeat_penalty=1.1,
    ).asked.request
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (9, 0, 0.5, 0)
    assert (sampling.seed, sampling.stop, sampling.logprobs, sampling.min_p) == (None, ("x",), 3, 0.1)
    assert (request.truncate, request.priority, request.n_ctx) == ("oldest", 2, 64)
    assert answer(include=["message.output_text.logprobs"]).asked.request.sampling.logprobs == 0
    assert answer(top_logprobs=0).asked.request.sampling.logprobs is None
    format = {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}
    assert answer(text={"format": format}).asked.request.constraint == core.Constraint(
        "json_schema", json.dumps(SCHEMA), strict=True
    )
    assert answer(text={"format": {"type": "text"}, "verbosity": "low"}).asked.request.constraint is None


@pytest.mark.parametrize(
    ("fields", "thinking", "budget"),
    [
        ({"reasoning": {"effort": "high"}}, "high", None),
        ({"reasoning": {"effort": "none"}}, False, None),
        ({"reasoning": {"summary": "auto"}}, None, None),
        ({"reasoning": {"effort": "low", "max_tokens": 64}}, "low", 64),
        ({"chat_template_kwargs": {"enable_thinking": True, "thinking_budget": 8}}, True, 8),
    ],
)
def test_reasoning(fields: dict[str, Any], thinking: Any, budget: int | None) -> None:
    found = prompt(**fields)
    assert (found.thinking, found.thinking_budget) == (thinking, budget)


def test_what_a_model_lacks_is_refused_with_its_field() -> None:
    info = core.ModelInfo("fake", "fake", 64, capabilities=("completion", "chat"))
    asks: list[tuple[dict[str, Any], str]] = [
        ({"tools": [TOOL]}, "tools"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
        ({"input": [user([IMAGE])]}, "input"),
    ]
    for fields, param in asks:
        with pytest.raises(UnsupportedFeature) as caught:
            answer(**fields).adapt(info)
        assert caught.value.param == param


# ---- streams ---------------------------------------------------------------------------------------------------------

SAYS: tuple[core.Event, ...] = (
    core.Progress(0, 7, 7),
    core.Reasoning(0, "Let "),
    core.Reasoning(0, "me."),
    core.Text(0, "Hi\u2028"),
    core.Text(0, ""),
    core.Text(0, "there"),
    core.ToolCallStart(0, 0, "call_1", "f"),
    core.ToolCallArgs(0, 0, '{"a"'),
    core.ToolCallArgs(0, 0, ": 1}"),
    core.ToolCallStart(0, 1, "call_2", "shell"),
    core.ToolCallArgs(0, 1, '{"input": "ls'),
    core.ToolCallArgs(0, 1, '"}'),
)
END = core.Done(0, "tool_calls", core.Usage(7, 2, 9, 3), core.Timeline())
ASKED: dict[str, Any] = {"tools": [TOOL, CUSTOM], "instructions": "Be brief.", "metadata": {"k": "v"}}


@pytest.mark.parametrize("name", ["raw", "summary"])
def test_a_stream_byte_for_byte(name: str) -> None:
    """The order and the keys of events are those that OpenAI's API reference shows, and the SDK's types demand."""
    reasoning = {"effort": "low"} | ({"summary": "auto"} if name == "summary" else {})
    made = answer(**ASKED, reasoning=reasoning, include=["reasoning.encrypted_content"])
    assert streamed(made, *SAYS, END) == (GOLDEN / f"{name}.sse").read_text(encoding="utf-8")


def test_a_stream_cut_anywhere_comes_to_the_same() -> None:
    def pieces(event: core.Event) -> list[core.Event]:
        match event:
            case core.Text(text=text):
                return [core.Text(0, c) for c in text]
            case core.Reasoning(text=text):
                return [core.Reasoning(0, c) for c in text]
            case core.ToolCallArgs(index=index, text=text):
                return [core.ToolCallArgs(0, index, c) for c in text]
        return [event]

    cut = [piece for event in SAYS for piece in pieces(event)]
    told = [events(streamed(answer(**ASKED), *some, END)) for some in (SAYS, cut)]
    shapes = [
        [{**event, "sequence_number": 0} for event in some if not event["type"].endswith(".delta")] for some in told
    ]
    assert shapes[0] == shapes[1]
    assert len(told[1]) > len(told[0])


def test_a_whole_reply_is_what_the_stream_ends_with() -> None:
    last = events(streamed(answer(**ASKED), *SAYS, END))[-1]
    assert last["type"] == "response.completed"
    assert whole(answer(**ASKED), *SAYS, END) == last["response"]
    assert [item["type"] for item in last["response"]["output"]] == [
        "reasoning",
        "message",
        "function_call",
        "custom_tool_call",
    ]


def test_text_behind_a_call_is_a_message_of_its_own() -> None:
    output = whole(answer(), *SAYS[6:9], core.Text(0, "done"), END)["output"]
    assert [(item["type"], item["id"][-1]) for item in output] == [("function_call", "0"), ("message", "1")]


def test_a_namespaces_call_comes_apart() -> None:
    space = {"type": "namespace", "name": "files", "tools": [TOOL]}
    (call,) = whole(answer(tools=[space]), core.ToolCallStart(0, 0, "call_1", "files.f"), END)["output"]
    assert (call["namespace"], call["name"], call["arguments"]) == ("files", "f", "")


def test_an_answer_that_the_limit_cut_short() -> None:
    told = events(streamed(answer(max_output_tokens=1), core.Text(0, "on"), done(reason="length")))
    last = told[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["output"][0]["status"] == "incomplete"
    assert last["response"]["completed_at"] is None


def test_log_probabilities() -> None:
    token = core.TokenLogprob(1, b"a", -0.5, (core.TopLogprob(1, b"a", -0.5), core.TopLogprob(2, b"b", float("-inf"))))
    told = events(streamed(answer(top_logprobs=2), core.Text(0, "a", (1,), (token,)), END))
    expected = {
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [
            {"token": "a", "logprob": -0.5, "bytes": [97]},
            {"token": "b", "logprob": -9999.0, "bytes": [98]},
        ],
    }
    assert [e["logprobs"] for e in told if e["type"].startswith("response.output_text")] == [[expected]] * 2
    assert told[-1]["response"]["output"][0]["content"][0]["logprobs"] == [expected]


def test_performance_where_it_is_asked_for() -> None:
    assert "performance" not in whole(answer(), done())
    told = whole(answer(include_performance=True), done())
    assert told["performance"]["steps"] == 3
    assert told["timings"]["predicted_n"] == 3
    assert told["usage"]["input_tokens_details"]["cached_tokens"] == 2


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "status", "code"),
    [
        (WorkerDied("gone"), "failed", "server_error"),
        (Overloaded("full"), "failed", "rate_limit_exceeded"),
        (BadRequest("bad"), "failed", "invalid_prompt"),
        (BadRequest("bad", code="invalid_image"), "failed", "invalid_image"),
        (Cancelled("by an operator"), "cancelled", None),
    ],
)
def test_an_error_in_mid_stream(problem: HeylookError, status: str, code: str | None) -> None:
    kept: list[Any] = []
    made = answer(kept=kept)
    body = made.feed(core.Text(0, "He"), WALL) + made.failure(problem)
    told = events(body.decode())
    error, failed = told[-2:]
    assert (error["type"], error["message"], failed["type"]) == ("error", problem.message, "response.failed")
    assert "error" not in error, "SDKs would take it for another kind of error"
    assert failed["response"]["status"] == status
    assert (failed["response"]["error"] or {}).get("code") == code
    (message,) = failed["response"]["output"]
    assert (message["status"], message["content"][0]["text"]) == ("incomplete", "He")
    assert kept == [made]
    assert made.whole == failed["response"]


def test_an_error_behind_nothing_but_comments_begins_with_the_response() -> None:
    made = answer()
    body = made.silence(WALL) + made.failure(WorkerDied("gone"))
    assert [e["type"] for e in events(body.decode().removeprefix(": keep-alive\n\n"))] == [
        "response.created",
        "response.in_progress",
        "error",
        "response.failed",
    ]


def test_errors_before_the_stream_name_their_field() -> None:
    kept: list[Any] = []
    reply = answer(kept=kept).error(ContextLengthExceeded(limit_tokens=5, prompt_tokens=9))
    told = json.loads(reply.body)["error"]
    assert (reply.status, told["code"], told["param"]) == (400, "context_length_exceeded", "input")
    format = {"type": "json_schema", "name": "n", "schema": SCHEMA}
    told = json.loads(answer(text={"format": format}).error(InvalidConstraint("no")).body)["error"]
    assert (told["code"], told["param"]) == ("invalid_json_schema", "text.format")
    assert kept == []


def test_one_in_the_background_fails_with_a_stream() -> None:
    kept: list[Any] = []
    made = answer(kept=kept, background=True, stream=True)
    told = events((made.announce() + b"").decode())
    assert [event["response"]["status"] for event in told] == ["queued", "queued"]
    made.error(WorkerDied("gone"))
    assert made.last_words.startswith(b"event: response.in_progress")
    assert made.whole is not None
    assert (made.whole["status"], kept) == ("failed", [made])


# ---- pages -----------------------------------------------------------------------------------------------------------

LISTED: list[dict[str, Any]] = [{"id": f"i{at}"} for at in range(5)]


def test_pages_go_both_ways() -> None:
    def ids(**query: str) -> tuple[list[str], bool]:
        page = responses_items.page(LISTED, query)
        return [item["id"] for item in page["data"]], page["has_more"]

    assert ids() == (["i4", "i3", "i2", "i1", "i0"], False)
    assert ids(limit="2", order="asc") == (["i0", "i1"], True)
    assert ids(limit="2", order="asc", after="i2") == (["i3", "i4"], False)
    assert ids(limit="2", after="i3") == (["i2", "i1"], True)
    empty = responses_items.page([], {})
    assert (empty["data"], empty["first_id"], empty["last_id"], empty["has_more"]) == ([], None, None, False)


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"order": "up"}, {"after": "i9"}])
def test_a_bad_page_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as caught:
        responses_items.page(LISTED, query)
    assert caught.value.param in query
