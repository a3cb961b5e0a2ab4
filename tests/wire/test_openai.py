"""The OpenAI dialect, bytes in and bytes out."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from heylook_llm import core, errors
from heylook_llm.errors import BadRequest, HeylookError, UnsupportedFeature
from heylook_llm.server.wire import openai, openai_words, table
from heylook_llm.server.wire.exchange import Arrival
from heylook_llm.server.wire.openai_body import ChatBody
from tests.server.scripted import INFO, done
from tests.wire.asking import ARRIVAL, USER, chat, chunks, completion, streamed, whole

pytestmark = pytest.mark.unit

FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {}}}}
TOOLS = [{"type": "function", "function": FUNCTION}]


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


# ---- bodies ----------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str | None, str]] = [
    ({"model": None}, "model", "missing_required_parameter"),
    ({"model": ""}, "model", "missing_required_parameter"),
    ({"model": 5}, "model", "invalid_type"),
    ({"messages": None}, "messages", "missing_required_parameter"),
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": "hi"}, "messages", "invalid_type"),
    ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role", "missing_required_parameter"),
    ({"messages": [{"role": "alien", "content": "hi"}]}, "messages[0].role", "invalid_value"),
    ({"messages": user(None)}, "messages[0].content", "invalid_type"),
    ({"messages": user(5)}, "messages[0].content", "invalid_type"),
    ({"messages": user([5])}, "messages[0].content[0]", "invalid_type"),
    ({"messages": user([{"type": "x"}])}, "messages[0].content[0]", "invalid_value"),
    ({"messages": user([{"type": "text"}])}, "messages[0].content[0]", "missing_required_parameter"),
    ({"messages": user([{"type": "file", "file": {}}])}, "messages[0].content[0]", "unsupported_value"),
    ({"messages": user([{"type": "input_audio"}])}, "messages[0].content[0]", "unsupported_value"),
    ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content", "invalid_type"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "missing_required_parameter"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]}]},
        "messages[0].tool_calls",
        "invalid_value",
    ),
    (
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "[]"}}]}
            ]
        },
        "messages[0].tool_calls",
        "invalid_value",
    ),
    ({"prediction": "x"}, "prediction", "invalid_type"),
    ({"prediction": {"type": "content"}}, "prediction.content", "missing_required_parameter"),
    ({"prediction": {"type": "other", "content": "x"}}, "prediction.type", "invalid_value"),
    ({"prediction": {"content": [{"type": "image_url"}]}}, "prediction.content[0]", "invalid_value"),
    ({"speculative.n_max": -1}, "speculative.n_max", "invalid_value"),
    ({"xtc_probability": 1.5}, "xtc_probability", "invalid_value"),
    ({"dry_base": 0.5}, "dry_base", "invalid_value"),
    ({"dry_penalty_last_n": -2}, "dry_penalty_last_n", "invalid_value"),
    ({"dry_sequence_breakers": ["x"] * 17}, "dry_sequence_breakers", "invalid_value"),
    ({"dry_sequence_breakers": ["x" * 41]}, "dry_sequence_breakers", "invalid_value"),
    ({"dry_sequence_breakers": "x"}, "dry_sequence_breakers", "invalid_type"),
    ({"mirostat": 3}, "mirostat", "invalid_value"),
    ({"temperature": 2.1}, "temperature", "invalid_value"),
    ({"temperature": -0.1}, "temperature", "invalid_value"),
    ({"temperature": "1"}, "temperature", "invalid_type"),
    ({"temperature": True}, "temperature", "invalid_type"),
    ({"top_p": 1.5}, "top_p", "invalid_value"),
    ({"presence_penalty": 3}, "presence_penalty", "invalid_value"),
    ({"frequency_penalty": -3}, "frequency_penalty", "invalid_value"),
    ({"n": 0}, "n", "invalid_value"),
    ({"n": 17}, "n", "invalid_value"),
    ({"n": 1.5}, "n", "invalid_type"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_completion_tokens": -1}, "max_completion_tokens", "invalid_value"),
    ({"seed": 2**63}, "seed", "invalid_value"),
    ({"stop": ["x"] * 17}, "stop", "invalid_value"),
    ({"stop": ["x" * 257]}, "stop", "invalid_value"),
    ({"stop": 5}, "stop", "invalid_type"),
    ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1", "invalid_value"),
    ({"logit_bias": {str(at): 1 for at in range(1025)}}, "logit_bias", "invalid_value"),
    ({"top_logprobs": 1}, "top_logprobs", "invalid_value"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"tool_choice": "auto"}, "tool_choice", "invalid_value"),
    ({"tools": TOOLS, "tool_choice": "maybe"}, "tool_choice", "invalid_value"),
    (
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice",
        "invalid_value",
    ),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]", "unsupported_value"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
    ({"tools": TOOLS * 2}, "tools", "invalid_value"),
    ({"tools": [{"function": {"name": f"f{at}"}} for at in range(129)]}, "tools", "invalid_value"),
    ({"reasoning_effort": "extreme"}, "reasoning_effort", "invalid_value"),
    ({"reasoning": {"effort": 5}}, "reasoning.effort", "invalid_value"),
    ({"reasoning": {"max_tokens": "5"}}, "reasoning.max_tokens", "invalid_type"),
    ({"reasoning_budget": -2}, "reasoning_budget", "invalid_value"),
    ({"thinking_budget_tokens": 1.5}, "thinking_budget_tokens", "invalid_type"),
    ({"chat_template_kwargs": {"thinking_budget": True}}, "chat_template_kwargs.thinking_budget", "invalid_type"),
    ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs.tokenize", "unsupported_value"),
    ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs.tools", "unsupported_value"),
    ({"chat_template_kwargs": {"enable_thinking": {}}}, "chat_template_kwargs.enable_thinking", "invalid_type"),
    ({"chat_template": "x"}, "chat_template", "unsupported_parameter"),
    ({"tokenize": True}, "tokenize", "unsupported_parameter"),
    ({"conversation": "x"}, "conversation", "unsupported_parameter"),
    ({"return_dict": True}, "return_dict", "unsupported_parameter"),
    ({"modalities": ["audio"]}, "modalities", "unsupported_value"),
    ({"audio": {}}, "audio", "unsupported_parameter"),
    ({"prompt_embeds": "AA"}, "prompt_embeds", "unsupported_parameter"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"stream_options": {"include_usage": 1}, "stream": True}, "stream_options.include_usage", "invalid_type"),
]


@pytest.mark.parametrize(("fields", "param", "code"), REFUSED, ids=[str(row[0])[:60] for row in REFUSED])
def test_each_refusal_names_its_field(fields: dict[str, Any], param: str | None, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        chat(**fields)
    assert (caught.value.param, caught.value.code, caught.value.status) == (param, code, 400)
    assert caught.value.message


@pytest.mark.parametrize("body", [b"[]", b"5", b'"x"', b"null", b"true"])
def test_a_body_is_an_object(body: bytes) -> None:
    with pytest.raises(BadRequest, match="must be a JSON object"):
        openai.parse_chat(body, ARRIVAL)


def test_sampling_fields_arrive() -> None:
    asked = chat(
        max_tokens=5,
        max_completion_tokens=6,
        temperature=0,
        top_p=0.5,
        stop="a",
        seed=7,
        frequency_penalty=1,
        presence_penalty=-1,
        logit_bias={"5": -100},
        top_k=-1,
        min_p=0.1,
        typical_p=0.9,
        repetition_penalty=1.1,
        repeat_last_n=64,
        mirostat=2,
        mirostat_tau=5,
        mirostat_eta=0.1,
        top_n_sigma=-1,
        xtc_probability=0.5,
        xtc_threshold=0.2,
        dynatemp_range=0.3,
        dynatemp_exponent=2,
        dry_multiplier=0.8,
        dry_base=1.5,
        dry_allowed_length=3,
        dry_penalty_last_n=-1,
        dry_sequence_breakers=["\n", ""],
        adaptive_target=0.4,
        adaptive_decay=0.8,
        min_tokens=1,
        ignore_eos=True,
        stop_token_ids=[3],
        include_stop_str_in_output=True,
        logprobs=True,
        top_logprobs=3,
        n=2,
        priority=1,
        num_ctx=64,
        keep_alive="5m",
    ).asked
    assert asked.request.sampling == core.Sampling(
        max_tokens=6,
        temperature=0,
        top_p=0.5,
        stop=("a",),
        seed=7,
        frequency_penalty=1,
        presence_penalty=-1,
        logit_bias={5: -100},
        top_k=0,
        min_p=0.1,
        typical_p=0.9,
        repeat_penalty=1.1,
        repeat_last_tokens=64,
        mirostat=2,
        mirostat_tau=5,
        mirostat_eta=0.1,
        top_n_sigma=0,
        xtc_probability=0.5,
        xtc_threshold=0.2,
        dynatemp_range=0.3,
        dynatemp_exponent=2,
        dry_multiplier=0.8,
        dry_base=1.5,
        dry_allowed_length=3,
        dry_penalty_last_n=-1,
        dry_sequence_breakers=("\n",),
        adaptive_target=0.4,
        adaptive_decay=0.8,
        min_tokens=1,
        ignore_eos=True,
        stop_tokens=(3,),
        include_stop=True,
        logprobs=3,
    )
    assert (asked.request.n, asked.request.priority, asked.request.n_ctx, asked.keep_alive) == (2, 1, 64, "5m")


def test_null_is_absent() -> None:
    nothing = dict.fromkeys(ChatBody.model_fields.keys() - {"model", "messages"})
    assert chat(**nothing).asked == chat().asked


def test_whole_floats_are_integers() -> None:
    assert chat(max_tokens=16.0).asked.request.sampling.max_tokens == 16


def test_synonyms_and_random_seed() -> None:
    asked = chat(n_predict=9, repeat_penalty=1.2, penalty_last_n=3, seed=-1).asked.request.sampling
    assert (asked.max_tokens, asked.repeat_penalty, asked.repeat_last_tokens, asked.seed) == (9, 1.2, 3, None)


def test_what_is_guessed_ahead() -> None:
    assert (chat().asked.request.draft_limit, chat().asked.request.prediction) == (None, "")
    assert chat(**{"speculative.n_max": 5, "num_draft_tokens": 6}).asked.request.draft_limit == 5
    assert chat(num_draft_tokens=0).asked.request.draft_limit == 0
    assert completion(num_draft_tokens=3).asked.request.draft_limit == 3
    assert chat(**{"speculative.p_min": 0.5}).asked.ignored == ("speculative.p_min",)
    assert chat(prediction={"type": "content", "content": "abc"}).asked.request.prediction == "abc"
    parts = [{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]
    assert chat(prediction={"type": "content", "content": parts}).asked.request.prediction == "abc"


def test_unknown_and_told_keys_are_named() -> None:
    assert chat(foo=1, user="me", options={}, verbosity="low", samplers=[]).asked.ignored == (
        "options",
        "samplers",
        "foo",
    )


def test_the_default_model_answers_who_names_none() -> None:
    body = json.dumps({"messages": USER}).encode()
    arrival = Arrival("req_x", 1, 1, default_model="tiny")
    assert openai.parse_chat(body, arrival).asked.request.model == "tiny"


def prompt(**fields: Any) -> core.ChatPrompt:
    (found,) = chat(**fields).asked.request.prompts
    assert isinstance(found, core.ChatPrompt)
    return found


def test_messages_of_every_role() -> None:
    turns = prompt(
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "be"}, {"type": "text", "text": " brief"}]},
            {"role": "user", "content": "x", "name": "ann"},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "assistant", "function_call": {"name": "g", "arguments": ""}},
            {"role": "function", "name": "g", "content": "ok"},
            {
                "role": "assistant",
                "tool_calls": [{"id": "c2", "type": "custom", "custom": {"name": "h", "input": "i"}}],
            },
        ]
    ).messages
    assert [turn.role for turn in turns] == [
        "developer",
        "user",
        "assistant",
        "tool",
        "assistant",
        "assistant",
        "tool",
        "assistant",
    ]
    assert (turns[0].text, len(turns[0].parts), turns[1].name) == ("be brief", 2, "ann")
    assert (turns[2].reasoning, turns[2].tool_calls) == ("hm", (core.ToolCall("c1", "f", '{"a": 1}'),))
    assert (turns[3].name, turns[3].tool_call_id, turns[4].text) == ("f", "c1", "no")
    assert (turns[5].tool_calls[0].arguments, turns[6].name) == ("{}", "g")
    assert turns[7].tool_calls == (core.ToolCall("c2", "h", '{"input": "i"}'),)


def test_tools_and_their_deprecated_form() -> None:
    declared = (core.Tool("f", "d", {"type": "object", "properties": {"a": {}}}),)
    assert prompt(tools=TOOLS).tools == declared
    assert prompt(functions=[FUNCTION]).tools == declared
    assert prompt(tools=TOOLS).tool_choice == core.ToolChoice("auto")
    assert prompt(tools=TOOLS, tool_choice="none", parallel_tool_calls=False).tool_choice == core.ToolChoice(
        "none", parallel=False
    )
    assert prompt(functions=[FUNCTION], function_call="none").tool_choice.mode == "none"
    assert prompt(tools=[]).tool_choice.mode == "none"
    assert chat(tools=TOOLS).asked.needs == ("chat", "tools")
    bare = {"type": "function", "function": {"name": "f", "strict": True}}
    assert prompt(tools=[bare]).tools == (core.Tool("f", None, strict=True),)


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({}, None),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "xhigh"}, "max"),
        ({"reasoning": {"effort": "high"}}, "high"),
        ({"reasoning": {}}, None),
        ({"think": True}, True),
        ({"think": False}, False),
        ({"think": "low"}, "low"),
        ({"reasoning": {"enabled": False}}, False),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "none"}, False),
    ],
)
def test_thinking(fields: dict[str, Any], thinking: bool | str | None) -> None:
    assert prompt(**fields).thinking == thinking


@pytest.mark.parametrize(
    ("fields", "budget"),
    [
        ({}, None),
        ({"reasoning_budget": 64}, 64),
        ({"reasoning_budget": -1}, None),
        ({"reasoning_budget_tokens": 64}, 64),
        ({"thinking_budget_tokens": 0}, 0),
        ({"thinking_token_budget": 64}, 64),
        ({"reasoning": {"max_tokens": 64}}, 64),
        ({"chat_template_kwargs": {"thinking_budget": 64}}, 64),
        ({"reasoning_effort": "none", "reasoning_budget": 64}, 0),
        ({"think": False}, 0),
    ],
)
def test_reasoning_budget(fields: dict[str, Any], budget: int | None) -> None:
    assert prompt(**fields).reasoning_budget == budget


def test_a_model_without_a_need_is_refused() -> None:
    import msgspec

    plain = msgspec.structs.replace(INFO, capabilities=("completion",))
    for fields, param in (({}, "messages"), ({"tools": TOOLS}, "messages")):
        with pytest.raises(UnsupportedFeature) as caught:
            chat(**fields).adapt(plain)
        assert caught.value.param == param
    no_tools = msgspec.structs.replace(INFO, capabilities=("completion", "chat"))
    with pytest.raises(UnsupportedFeature, match="does not support tools"):
        chat(tools=TOOLS).adapt(no_tools)
    with pytest.raises(UnsupportedFeature, match="does not support thinking"):
        chat(reasoning_effort="low").adapt(no_tools)
    with pytest.raises(UnsupportedFeature, match="does not support insert"):
        completion(suffix="x").adapt(INFO)


# ---- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_from_role_to_done() -> None:
    told = chunks(
        streamed(
            chat(stream=True, stream_options={"include_usage": True}),
            core.Progress(0, 5, 7),
            core.Reasoning(0, "hm"),
            core.Text(0, "a\u2028"),
            core.Text(0, ""),
            core.Text(0, "\N{GRINNING FACE}"),
            done(),
        )
    )
    assert {(c["id"], c["created"], c["model"], c["object"], c["system_fingerprint"]) for c in told} == {
        ("chatcmpl-" + ARRIVAL.random, ARRIVAL.created, "m", "chat.completion.chunk", "fp_fake_fake_F16_4096")
    }
    assert [c["choices"][0]["delta"] for c in told[:-1]] == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": "a\u2028"},
        {"content": "\N{GRINNING FACE}"},
        {},
    ]
    assert [c["choices"][0]["finish_reason"] for c in told[:-1]] == [None] * 4 + ["stop"]
    assert all(c["usage"] is None for c in told[:-1])
    assert told[-1]["choices"] == []
    assert told[-1]["usage"]["total_tokens"] == 10
    assert told[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert told[-2]["timings"]["cache_n"] == 2
    assert told[-2]["timings"]["prompt_n"] == 5
    assert not any("performance" in chunk for chunk in told)


@pytest.mark.parametrize("ask", [chat, completion])
def test_the_last_chunk_of_each_choice_has_its_performance(ask: Callable[..., Any]) -> None:
    told = chunks(streamed(ask(stream=True, n=2, include_performance=True), core.Text(0, "a"), done(1), done(0)))
    ends = [chunk for chunk in told if "performance" in chunk]
    assert [chunk["choices"][0]["finish_reason"] for chunk in ends] == ["stop", "stop"]
    for chunk in ends:
        assert set(chunk["performance"]) >= {"queued_ms", "load_ms", "first_token_ms", "total_ms", "batch_sizes_seen"}
        assert chunk["performance"]["load_ms"] is None, "nothing was loaded"


def test_a_stream_is_one_line_to_every_reader() -> None:
    text = streamed(chat(stream=True), core.Text(0, "a\u2028b\u2029c\x85d\r\n"), done())
    assert [line for line in text.splitlines() if line and not line.startswith("data: ")] == []


def test_choices_first_appear_in_order() -> None:
    told = chunks(
        streamed(
            chat(stream=True, n=3, stream_options={"include_usage": True}),
            core.Text(2, "c"),
            core.Text(0, "a"),
            core.Text(1, "b"),
            done(1),
            done(2),
            done(0, "length"),
        )
    )
    assert [c["choices"][0]["index"] for c in told[:3]] == [0, 1, 2]
    assert sum("role" in c["choices"][0]["delta"] for c in told[:-1]) == 3
    assert told[-1]["usage"] == {
        **told[-1]["usage"],
        "prompt_tokens": 7,
        "completion_tokens": 9,
        "total_tokens": 16,
    }


CALLS: list[core.Event] = [
    core.Text(0, "so"),
    core.ToolCallStart(0, 0, "call_a", "f"),
    core.ToolCallArgs(0, 0, '{"a"'),
    core.ToolCallArgs(0, 0, ":1}"),
    core.ToolCallStart(0, 1, "call_b", "g"),
    core.ToolCallArgs(0, 1, "{}"),
    done(),
]


def test_tool_calls_stream_as_deltas() -> None:
    told = chunks(streamed(chat(stream=True, tools=TOOLS), *CALLS))
    deltas = [c["choices"][0]["delta"].get("tool_calls", [None])[0] for c in told]
    assert [d for d in deltas if d] == [
        {"index": 0, "id": "call_a", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ":1}"}},
        {"index": 1, "id": "call_b", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"index": 1, "function": {"arguments": "{}"}},
    ]
    assert told[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_tool_calls_in_a_whole_reply() -> None:
    (choice,) = whole(chat(tools=TOOLS), *CALLS)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "so"
    assert [call["function"]["arguments"] for call in choice["message"]["tool_calls"]] == ['{"a":1}', "{}"]
    (bare,) = whole(chat(tools=TOOLS), *CALLS[1:])["choices"]
    assert bare["message"]["content"] is None


def test_a_cut_call_keeps_length() -> None:
    told = chunks(streamed(chat(stream=True, tools=TOOLS), *CALLS[:3], done(reason="length")))
    assert told[-1]["choices"][0]["finish_reason"] == "length"


def test_the_deprecated_form_answers_in_kind() -> None:
    told = chunks(streamed(chat(stream=True, functions=[FUNCTION]), *CALLS[1:4], done()))
    assert [c["choices"][0]["delta"].get("function_call") for c in told[1:-1]] == [
        {"name": "f", "arguments": ""},
        {"arguments": '{"a"'},
        {"arguments": ":1}"},
    ]
    assert told[-1]["choices"][0]["finish_reason"] == "function_call"
    (choice,) = whole(chat(functions=[FUNCTION]), *CALLS[1:4], done())["choices"]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}


LIKELY = core.TokenLogprob(5, b"a", -0.5, (core.TopLogprob(5, b"a", -0.5), core.TopLogprob(6, b"\xff", float("-inf"))))


def test_logprobs_of_a_stream_and_of_a_whole_reply_agree() -> None:
    expected = {
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [
            {"token": "a", "logprob": -0.5, "bytes": [97]},
            {"token": "\ufffd", "logprob": -9999.0, "bytes": [255]},
        ],
    }
    events: list[core.Event] = [core.Text(0, "a", (5,), (LIKELY,)), done()]
    told = chunks(streamed(chat(stream=True, logprobs=True, top_logprobs=2), *events))
    assert told[1]["choices"][0]["logprobs"] == {"content": [expected], "refusal": None}
    (choice,) = whole(chat(logprobs=True, top_logprobs=2), *events)["choices"]
    assert choice["logprobs"] == {"content": [expected], "refusal": None}
    (without,) = whole(chat(), core.Text(0, "a"), done())["choices"]
    assert without["logprobs"] is None


def test_a_whole_reply() -> None:
    told = whole(chat(include_performance=True), core.Reasoning(0, "hm"), core.Text(0, "hello"), done())
    (choice,) = told["choices"]
    assert choice["message"] == {"role": "assistant", "content": "hello", "refusal": None, "reasoning_content": "hm"}
    assert told["object"] == "chat.completion"
    assert told["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    assert set(told["performance"]) >= {"queued_ms", "load_ms", "first_token_ms", "total_ms", "batch_sizes_seen"}
    assert (
        "reasoning_content"
        not in whole(chat(include_reasoning=False), core.Reasoning(0, "hm"), done())["choices"][0]["message"]
    )


# ---- legacy completions ----------------------------------------------------------------------------------------------


def test_prompts_of_every_kind() -> None:
    assert completion().asked.request.prompts == (core.TextPrompt("hi"),)
    assert completion(prompt=["a", "b"]).asked.request.prompts == (core.TextPrompt("a"), core.TextPrompt("b"))
    assert completion(prompt=[1, 2]).asked.request.prompts == (core.TokenPrompt((1, 2)),)
    assert completion(prompt=[[1], [2, 3]]).asked.request.prompts == (core.TokenPrompt((1,)), core.TokenPrompt((2, 3)))
    assert completion(suffix="z").asked.request.prompts == (core.TextPrompt("hi", "z"),)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": [[-1]]}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": ["a"] * 300}, "prompt"),
        ({"prompt": [1], "suffix": "x"}, "prompt"),
        ({"prompt": ["a", "b"], "suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"best_of": 2, "n": 2, "stream": True}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ({"return_token_ids": 1}, "return_token_ids"),
        ({"timings_per_token": "yes"}, "timings_per_token"),
    ],
)
def test_each_legacy_refusal(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        completion(**fields)
    if param == "prompt":
        assert (caught.value.param or "").startswith("prompt") or caught.value.param == "suffix"
    else:
        assert caught.value.param == param


def test_batches_are_numbered_by_prompt_then_choice() -> None:
    events = [core.Text(at, str(at)) for at in range(4)] + [done(at) for at in range(4)]
    told = whole(completion(prompt=["a", "b"], n=2, best_of=2), *events)
    assert [(c["index"], c["text"]) for c in told["choices"]] == [(at, str(at)) for at in range(4)]
    assert told["usage"]["prompt_tokens"] == 14
    assert told["object"] == "text_completion"


def test_echo_puts_the_prompt_first() -> None:
    told = whole(completion(echo=True), core.Text(0, "!"), done())
    assert told["choices"][0]["text"] == "hi!"
    streaming = chunks(
        streamed(completion(echo=True, stream=True, prompt=["a", "b"]), core.Text(1, "!"), done(0), done(1))
    )
    assert [(c["choices"][0]["index"], c["choices"][0]["text"]) for c in streaming[:3]] == [
        (0, "a"),
        (1, "b"),
        (1, "!"),
    ]


def test_token_ids_are_echoed_as_text() -> None:
    asked = completion(echo=True, stream=True, prompt=[[1], [2]])
    assert (asked.asked.request.echo, asked.asked.request.note_progress) == (True, True)
    begun = [core.Progress(at, 0, 1, prompt=(at + 1,), prompt_text="ab"[at]) for at in (0, 1)]
    told = chunks(streamed(asked, *begun, core.Text(1, "!"), done(0), done(1)))
    texts = [(chunk["choices"][0]["index"], chunk["choices"][0]["text"]) for chunk in told[:3]]
    assert texts == [(0, "a"), (1, "b"), (1, "!")]


def test_legacy_logprobs_stream_with_offsets() -> None:
    events: list[core.Event] = [core.Text(0, "a", (5,), (LIKELY,)), core.Text(0, "a", (5,), (LIKELY,)), done()]
    told = chunks(streamed(completion(logprobs=2, stream=True), *events))
    assert [c["choices"][0]["logprobs"]["text_offset"] for c in told[:2]] == [[0], [1]]
    assert told[-1]["choices"][0]["finish_reason"] == "stop"


SCORED = (
    core.TokenLogprob(9, b"<s>", 0.0),
    core.TokenLogprob(3, b"h", -1.5, (core.TopLogprob(4, b"x", -0.5), core.TopLogprob(3, b"h", -1.5)), rank=2),
    core.TokenLogprob(5, b"i", -0.25, (core.TopLogprob(5, b"i", -0.25), core.TopLogprob(4, b"x", -4.0)), rank=1),
)
"""Of the prompt "hi", before which this vocabulary has a token."""
ECHOED = {
    "tokens": ["<s>", "h", "i"],
    "token_logprobs": [None, -1.5, -0.25],
    "top_logprobs": [None, {"x": -0.5}, {"i": -0.25}],
    "text_offset": [0, 0, 1],
}


def scored_end(choice: int = 0, scores: tuple[core.TokenLogprob, ...] = ()) -> core.Done:
    """The end of a choice that knows its prompt's log probabilities."""
    return msgspec.structs.replace(done(choice), prompt_logprobs=scores)


def test_echoed_prompts_have_log_probabilities_but_their_first_token() -> None:
    asked = completion(echo=True, logprobs=1, max_tokens=1)
    assert (asked.asked.request.prompt_logprobs, asked.asked.request.sampling.logprobs) == (1, 1)
    [choice] = whole(asked, core.Text(0, "a", (5,), (LIKELY,)), scored_end(scores=SCORED))["choices"]
    own = choice["logprobs"]
    assert choice["text"] == "hia"
    assert {name: found[:3] for name, found in own.items()} == ECHOED
    assert (own["text_offset"][3:], own["token_logprobs"][3:]) == ([2], [LIKELY.logprob])
    none = whole(completion(echo=True, logprobs=1, max_tokens=0), scored_end(scores=SCORED))["choices"][0]
    assert (none["text"], none["logprobs"]) == ("hi", ECHOED)
    assert whole(completion(logprobs=1), done())["choices"][0]["logprobs"]["tokens"] == []


def test_of_alternatives_that_read_the_same_the_likelier_counts() -> None:
    parts = (core.TopLogprob(1, b"\xc3", -0.5), core.TopLogprob(2, b"\xe2", -3.0), core.TopLogprob(3, b"a", -4.0))
    [choice] = whole(
        completion(logprobs=3), core.Text(0, "a", (1,), (core.TokenLogprob(1, b"\xc3", -0.5, parts),)), done()
    )["choices"]
    assert choice["logprobs"]["top_logprobs"] == [{"\ufffd": -0.5, "a": -4.0}]


def test_streamed_prompts_come_with_their_log_probabilities_whoever_is_first() -> None:
    exchange = completion(echo=True, logprobs=1, stream=True, prompt=["hi", "hi"], n=2)
    answers = [core.Text(at, "a", (5,), (LIKELY,)) for at in (1, 3, 0)]
    known = [core.Progress(at, 3, 3, prompt_logprobs=SCORED) for at in (2, 0)]
    events: list[core.Event] = [answers[0], known[0], answers[1], known[1], answers[2], *map(done, (1, 0, 2, 3))]
    choices = [chunk["choices"][0] for chunk in chunks(streamed(exchange, *events))]
    for index in range(4):
        first, *rest = [choice for choice in choices if choice["index"] == index]
        assert (first["text"], first["logprobs"]) == ("hi", ECHOED)
        assert [one["logprobs"]["text_offset"] for one in rest if one["logprobs"]] == ([] if index == 2 else [[2]])
        assert rest[-1]["finish_reason"] == "stop"


def test_prompt_logprobs_are_told_as_vllm_does() -> None:
    told = [
        None,
        {
            "3": {"logprob": -1.5, "rank": 2, "decoded_token": "h"},
            "4": {"logprob": -0.5, "rank": 1, "decoded_token": "x"},
        },
        {
            "5": {"logprob": -0.25, "rank": 1, "decoded_token": "i"},
            "4": {"logprob": -4.0, "rank": 2, "decoded_token": "x"},
        },
    ]
    [choice] = whole(completion(prompt_logprobs=2), scored_end(scores=SCORED))["choices"]
    assert (choice["prompt_logprobs"], choice["text"], choice["logprobs"]) == (told, "", None)
    asked = chat(prompt_logprobs=2)
    assert asked.asked.request.prompt_logprobs == 2
    assert whole(asked, scored_end(scores=SCORED))["prompt_logprobs"] == told
    assert "prompt_logprobs" not in whole(chat(), done())
    both = completion(prompt_logprobs=2, echo=True, logprobs=1)
    [choice] = whole(both, scored_end(scores=SCORED))["choices"]
    assert (both.asked.request.prompt_logprobs, choice["logprobs"], choice["prompt_logprobs"]) == (2, ECHOED, told)


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(errors.every_kind().values()))
def test_every_error_is_an_object_of_four_keys(kind: type[HeylookError]) -> None:
    reply = openai_words.error(kind("what to do"))
    told = json.loads(reply.body)["error"]
    assert set(told) == {"message", "type", "param", "code"}
    assert reply.status == kind.status
    assert told["type"] == ("server_error" if reply.status >= 500 else "invalid_request_error")
    headers = dict(reply.headers)
    assert ("retry-after" in headers) == (reply.status == 503)
    repeats = reply.status in (408, 409) or (reply.status >= 500 and reply.status != 503)  # SDKs would try again
    assert (headers.get("x-should-retry") == "false") == repeats


def test_an_error_in_a_stream_is_its_last_word() -> None:
    line = chat(stream=True).failure(errors.WorkerDied("The engine ended.")).decode()
    assert line.startswith("data: ")
    assert line.endswith("\n\n")
    assert json.loads(line[6:])["error"]["code"] == "worker_died"


def test_overflow_says_what_langchain_and_litellm_look_for() -> None:
    told = json.loads(openai_words.error(errors.ContextLengthExceeded(limit_tokens=5, prompt_tokens=9)).body)["error"]
    assert told["code"] == "context_length_exceeded"
    assert told["message"].startswith(
        "This model's maximum context length is 5 tokens. However, your messages resulted in 9"
    )


def test_the_table_marks_every_field() -> None:
    for body in openai.BODIES.values():
        for name, field in body.model_fields.items():
            assert any(isinstance(mark, table.Honoured | table.Ignored | table.Refused) for mark in field.metadata), (
                f"{body.__name__}.{name} has no mark"
            )
