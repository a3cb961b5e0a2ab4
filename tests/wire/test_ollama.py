"""The Ollama dialect, bytes in and bytes out."""

import json
from typing import Any

import msgspec
import pytest

from heylook_llm import core, errors
from heylook_llm.errors import BadRequest, HeylookError, ModelNotFound, UnsupportedFeature
from heylook_llm.server.wire import ollama, table
from tests.server.scripted import INFO, done
from tests.wire.asking import ARRIVAL, USER, WALL
from tests.wire.test_openai import LIKELY

pytestmark = pytest.mark.unit


def chat(**fields: Any) -> ollama.Chat:
    return ollama.parse_chat(json.dumps({"model": "m", "messages": USER} | fields).encode(), ARRIVAL)


def generate(**fields: Any) -> ollama.Generate:
    return ollama.parse_generate(json.dumps({"model": "m", "prompt": "hi"} | fields).encode(), ARRIVAL)


def lines(exchange: ollama.Chat | ollama.Generate, *events: core.Event) -> list[dict[str, Any]]:
    """The objects of a stream of these events."""
    exchange.adapt(INFO)
    data = b"".join(exchange.feed(event, WALL) for event in events) + exchange.end()
    assert data.endswith(b"\n")
    assert b"\n\n" not in data
    return [json.loads(line) for line in data.decode().splitlines()]


def whole(exchange: ollama.Chat | ollama.Generate, *events: core.Event) -> dict[str, Any]:
    exchange.adapt(INFO)
    fold = core.Fold()
    for event in events:
        fold.feed(event)
    told: dict[str, Any] = json.loads(exchange.reply(fold.result(), WALL))
    return told


def ended(**changes: Any) -> core.Done:
    """A Done with the stamps that the server adds."""
    times = core.Timeline(
        received_ns=1_000,
        submitted_ns=3_000,
        admitted_ns=4_000,
        first_token_ns=6_000,
        last_token_ns=9_000,
        closed_ns=10_000,
    )
    return msgspec.structs.replace(done(**changes), timeline=times)


# ---- bodies ----------------------------------------------------------------------------------------------------------

EITHER: list[tuple[dict[str, Any], str]] = [
    ({"model": "bad name!"}, "invalid model name"),
    ({"model": "x/"}, "invalid model name"),
    ({"model": "x:"}, "invalid model name"),
    ({"model": 5}, "model"),
    ({"stream": "yes"}, "stream"),
    ({"format": ["json"]}, 'invalid format: ["json"]; expected "json" or a valid JSON Schema object'),
    ({"format": "yaml"}, 'invalid format: "yaml"; expected "json" or a valid JSON Schema object'),
    ({"options": {"temperature": "hot"}}, 'option "temperature" must be of type float32'),
    ({"options": {"num_ctx": "big"}}, 'option "num_ctx" must be of type integer'),
    ({"options": {"stop": 5}}, 'option "stop" must be of type an array of strings'),
    ({"options": {"stop": [5]}}, 'option "stop" must be of type an array of strings'),
    ({"options": {"use_mmap": 5}}, 'option "use_mmap" must be of type boolean'),
    ({"options": {"top_p": 5}}, 'option "top_p" must be from 0 to 1'),
    ({"options": []}, "options"),
    ({"think": "hard"}, 'invalid think value: "hard" (must be "high", "medium", "low", "max", true, or false)'),
    ({"think": 5}, "think must be a boolean or string"),
    ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
    ({"top_logprobs": -1}, "top_logprobs must be between 0 and 20"),
    ({"_debug_render_only": True}, "_debug_render_only"),
]


@pytest.mark.parametrize("route", [chat, generate])
@pytest.mark.parametrize(("fields", "text"), EITHER, ids=[str(row[0]) for row in EITHER])
def test_each_refusal_says_why(route: Any, fields: dict[str, Any], text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        route(**fields)
    assert text in caught.value.message
    assert ollama.error(caught.value).status == 400


@pytest.mark.parametrize("parse", [ollama.parse_chat, ollama.parse_generate, ollama.parse_show])
def test_an_empty_body_is_named(parse: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(b" ", ARRIVAL) if parse is not ollama.parse_show else parse(b" ")
    assert caught.value.message == "missing request body"


def test_a_missing_model_by_route() -> None:
    with pytest.raises(BadRequest, match="model is required"):
        chat(model="")
    with pytest.raises(BadRequest, match="model is required"):
        ollama.parse_show(b"{}")
    with pytest.raises(ModelNotFound) as caught:
        generate(model="")
    assert json.loads(ollama.error(caught.value).body) == {"error": "model '' not found"}


CHAT_ONLY: list[tuple[dict[str, Any], str]] = [
    ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content"),
    ({"messages": "x"}, "messages"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "["}}]}]},
        "arguments must be an object",
    ),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"function": {"name": "f"}}] * 129}, "tools"),
]


@pytest.mark.parametrize(("fields", "text"), CHAT_ONLY, ids=[str(row[0])[:50] for row in CHAT_ONLY])
def test_each_chat_refusal(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        chat(**fields)
    assert text in caught.value.message


def test_each_generate_refusal() -> None:
    for fields, text in (
        ({"raw": True, "system": "x"}, "raw mode does not support template, system, or context"),
        ({"raw": True, "context": [1]}, "raw mode does not support template, system, or context"),
        ({"images": ["AA=="], "raw": True}, "images can't be combined with raw or suffix"),
        ({"images": ["AA=="], "suffix": "x"}, "images can't be combined with raw or suffix"),
        ({"raw": True, "template": "{{ .Prompt }}"}, "raw mode does not support template, system, or context"),
        ({"template": "x" * 65_537}, "template"),
        ({"template": ["x"]}, "template"),
        ({"prompt": 5}, "prompt"),
        ({"context": ["x"]}, "context[0]"),
    ):
        with pytest.raises(BadRequest) as caught:
            generate(**fields)
        assert text in caught.value.message


def test_a_template_of_the_request_goes_with_its_prompt() -> None:
    (prompt,) = generate(template="{{ .Prompt }}").asked.request.prompts
    assert isinstance(prompt, core.ChatPrompt)
    assert prompt.template == "{{ .Prompt }}"


def test_the_body_is_read_as_go_reads_it() -> None:
    body = b' {"MODEL": "m", "Messages": [{"role": "user", "content": "hi"}], "stream": null, "nope": 1} trailing'
    asked = ollama.parse_chat(body, ARRIVAL).asked
    assert (asked.request.model, asked.stream) == ("m", True)


def test_streaming_is_the_default() -> None:
    assert chat().asked.stream
    assert not chat(stream=False).asked.stream


def test_every_option_arrives() -> None:
    options = {
        "num_ctx": 2048.7,
        "num_predict": 5,
        "seed": 3,
        "top_k": 0,
        "top_p": 0.5,
        "min_p": 0.1,
        "typical_p": 0.7,
        "repeat_last_n": -1,
        "temperature": 0,
        "repeat_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.4,
        "stop": "x",
        "mirostat": 2,
        "mirostat_tau": 5.0,
        "mirostat_eta": 0.1,
        "dry_multiplier": 1,
        "dry_allowed_length": 2.0,
        "dry_sequence_breakers": ["."],
        "xtc_probability": 0.1,
        "draft_num_predict": 4,
        "num_keep": -1,
        "num_gpu": 1,
        "numa": True,
        "nope": 1,
        "top_a": None,
    }
    asked = chat(options=options).asked
    assert asked.request.sampling == core.Sampling(
        max_tokens=5,
        seed=3,
        top_k=0,
        top_p=0.5,
        min_p=0.1,
        typical_p=0.7,
        repeat_last_tokens=-1,
        temperature=0,
        repeat_penalty=1.1,
        presence_penalty=0.5,
        frequency_penalty=0.4,
        stop=("x",),
        mirostat=2,
        mirostat_tau=5.0,
        mirostat_eta=0.1,
        dry_multiplier=1,
        dry_allowed_length=2,
        dry_sequence_breakers=(".",),
        xtc_probability=0.1,
    )
    assert (asked.request.n_ctx, asked.request.draft_limit, asked.request.keep_tokens) == (2048, 4, -1)
    assert asked.ignored == ("options.num_gpu", "options.nope")


def test_what_is_not_said_falls_back_on_ollamas_defaults() -> None:
    fallback = core.Sampling(temperature=0.8, top_k=40, top_p=0.9, min_p=0.0, repeat_last_tokens=64, repeat_penalty=1.0)
    for request in (chat().adapt(INFO), generate(options={"top_p": None}).adapt(INFO)):
        assert request.sampling == core.Sampling()
        assert request.fallback == fallback
    notes = {row.name: row.note for row in table.rows(ollama.OPTIONS)}
    for option, default in {
        "temperature": fallback.temperature,
        "top_k": fallback.top_k,
        "top_p": fallback.top_p,
        "min_p": fallback.min_p,
        "repeat_last_n": fallback.repeat_last_tokens,
        "repeat_penalty": fallback.repeat_penalty,
    }.items():
        assert notes[option].endswith(f"absent: the model's own, else {default:g}")


def test_what_is_guessed_ahead() -> None:
    drafts = [chat(options={"draft_num_predict": count}).asked.request.draft_limit for count in (0, -1, 9)]
    assert drafts == [0, None, 9]


def test_open_ended_ends_after_ten_contexts() -> None:
    assert chat(options={"num_predict": -1}).adapt(INFO).sampling.max_tokens == 40960
    assert chat().adapt(INFO).sampling.max_tokens is None
    assert chat(options={"num_predict": 0}).adapt(INFO).sampling.max_tokens == 0


def test_truncation_and_shift() -> None:
    assert (chat().asked.request.truncate, chat().asked.request.shift) == ("oldest", True)
    request = chat(truncate=False, shift=False).asked.request
    assert (request.truncate, request.shift) == ("refuse", False)


@pytest.mark.parametrize(
    ("fields", "action"),
    [
        ({"messages": []}, "load"),
        ({"messages": None}, "load"),
        ({"messages": [], "keep_alive": 0}, "unload"),
        ({"messages": [], "keep_alive": "0"}, "unload"),
        ({"messages": [], "keep_alive": "0m"}, "unload"),
        ({"messages": [], "keep_alive": "0.0"}, "unload"),
        ({"messages": [], "keep_alive": "0.1s"}, "load"),
        ({"messages": [], "keep_alive": "-1"}, "load"),
        ({"messages": [], "keep_alive": "5m"}, "load"),
        ({"keep_alive": 0}, "generate"),
    ],
)
def test_loading_and_unloading(fields: dict[str, Any], action: str) -> None:
    exchange = chat(**fields)
    assert exchange.action == action
    if action != "generate":
        told = json.loads(exchange.idle_reply(WALL))
        assert told == {
            "model": "m",
            "created_at": "2023-11-14T22:13:20.123456789Z",
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": action,
        }


def test_generate_loads_too() -> None:
    told = json.loads(generate(prompt="", keep_alive=0).idle_reply(WALL))
    assert (told["response"], told["done_reason"]) == ("", "unload")
    assert generate(prompt="", suffix="x").action == "load"


def prompt_of(exchange: ollama.Chat | ollama.Generate) -> core.Prompt:
    (found,) = exchange.adapt(INFO).prompts
    return found


def test_thinking_is_on_where_the_model_can() -> None:
    for fields, thinking in (({}, True), ({"think": False}, False), ({"think": True}, True), ({"think": "low"}, "low")):
        prompt = prompt_of(chat(**fields))
        assert isinstance(prompt, core.ChatPrompt)
        assert prompt.thinking == thinking
    plain = msgspec.structs.replace(INFO, capabilities=("completion", "chat"))
    (prompt,) = chat().adapt(plain).prompts
    assert isinstance(prompt, core.ChatPrompt)
    assert prompt.thinking is None
    with pytest.raises(UnsupportedFeature, match='"m" does not support thinking'):
        chat(think=True).adapt(plain)
    with pytest.raises(UnsupportedFeature, match="does not support tools"):
        chat(tools=[{"function": {"name": "f"}}]).adapt(plain)
    with pytest.raises(UnsupportedFeature, match="does not support insert"):
        generate(suffix="x").adapt(plain)
    embedding = msgspec.structs.replace(INFO, capabilities=("embedding",))
    with pytest.raises(UnsupportedFeature, match='"m" does not support chat'):
        chat().adapt(embedding)
    with pytest.raises(UnsupportedFeature, match='"m" does not support generate'):
        generate().adapt(embedding)


def test_generate_prompts() -> None:
    assert prompt_of(generate(raw=True)) == core.TextPrompt("hi")
    prompt = prompt_of(generate(system="be brief"))
    assert isinstance(prompt, core.ChatPrompt)
    assert [(m.role, m.text) for m in prompt.messages] == [("system", "be brief"), ("user", "hi")]
    assert generate(raw=True).asked.request.echo is False
    assert generate(context=[1, 2]).asked.request.before == (1, 2)


def test_tools_keep_what_was_sent() -> None:
    given = [{"function": {"name": "f"}}, {"function": {"name": "g", "description": ""}}]
    found = prompt_of(chat(tools=given))
    assert isinstance(found, core.ChatPrompt)
    assert found.tools == (core.Tool("f", None), core.Tool("g", ""))


def test_a_tool_answer_finds_its_call() -> None:
    calls = [
        {"function": {"name": "f", "arguments": {"a": 1}}},
        {"id": "x", "function": {"name": "g", "arguments": "{}"}},
    ]
    asked = [
        {"role": "user", "content": "?"},
        {"role": "Assistant", "content": None, "tool_calls": calls, "images": []},
        {"role": "tool", "content": "1", "tool_call_id": "invented"},
        {"role": "tool", "content": "2", "tool_name": "g"},
        {"role": "tool", "content": "3", "tool_name": "other"},
    ]
    prompt = prompt_of(chat(messages=asked))
    assert isinstance(prompt, core.ChatPrompt)
    assert [(turn.name, turn.tool_call_id) for turn in prompt.messages[2:]] == [
        ("f", "call_0"),
        ("g", "x"),
        ("other", ""),
    ]
    assert prompt.messages[1].tool_calls[0].arguments == '{"a": 1}'


# ---- replies ---------------------------------------------------------------------------------------------------------

SPEECH: list[core.Event] = [
    core.Progress(0, 1, 2),
    core.Reasoning(0, "hm", (1,)),
    core.Text(0, "a\u2028\x85", (2,)),
    core.Text(0, "b", (3,)),
    ended(),
]
METRICS = {
    "total_duration": 9_000,
    "load_duration": 2_000,
    "prompt_eval_count": 7,
    "prompt_eval_duration": 2_000,
    "eval_count": 3,
    "eval_duration": 3_000,
}


def test_a_chat_stream() -> None:
    told = lines(chat(), *SPEECH)
    assert all(line["model"] == "m" and line["created_at"] == "2023-11-14T22:13:20.123456789Z" for line in told)
    assert all({"model", "created_at", "message", "done"} <= set(line) for line in told)
    assert all("error" not in line for line in told)
    assert [line["message"] for line in told] == [
        {"role": "assistant", "content": "", "thinking": "hm"},
        {"role": "assistant", "content": "a\u2028\x85"},
        {"role": "assistant", "content": "b"},
        {"role": "assistant", "content": ""},
    ]
    assert told[-1] == {
        "model": "m",
        "created_at": told[0]["created_at"],
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        **METRICS,
    }
    assert not any("eval_count" in line for line in told[:-1])


def test_a_generate_stream() -> None:
    told = lines(generate(), *SPEECH)
    assert [line["response"] for line in told] == ["", "a\u2028\x85", "b", ""]
    assert told[0]["thinking"] == "hm"
    assert told[-1]["context"] == [0, 1, 2, 3, 4, 5, 6, 1, 2, 3]
    assert "context" not in lines(generate(raw=True), *SPEECH)[-1]


def test_whole_replies() -> None:
    told = whole(chat(), *SPEECH)
    assert told["message"] == {"role": "assistant", "content": "a\u2028\x85b", "thinking": "hm"}
    assert {key: told[key] for key in METRICS} == METRICS
    assert whole(generate(), *SPEECH)["context"] == [0, 1, 2, 3, 4, 5, 6, 1, 2, 3]
    assert whole(chat(), *SPEECH[:-1], ended(reason="length"))["done_reason"] == "length"


CALLS: list[core.Event] = [
    core.ToolCallStart(0, 0, "call_a", "f"),
    core.ToolCallArgs(0, 0, '{"b":1,'),
    core.ToolCallArgs(0, 0, '"a":2}'),
    core.ToolCallStart(0, 1, "call_b", "g"),
    ended(reason="tool_calls"),
]
TOLD = [
    {"id": "call_a", "function": {"index": 0, "name": "f", "arguments": {"b": 1, "a": 2}}},
    {"id": "call_b", "function": {"index": 1, "name": "g", "arguments": {}}},
]


def test_tool_calls_come_whole_before_the_end() -> None:
    told = lines(chat(), *CALLS)
    assert [line["message"].get("tool_calls") for line in told] == [TOLD[:1], TOLD[1:], None]
    assert [line["done"] for line in told] == [False, False, True]
    assert told[-1]["done_reason"] == "stop"
    assert list(told[0]["message"]["tool_calls"][0]["function"]["arguments"]) == ["b", "a"]
    assert whole(chat(), *CALLS)["message"]["tool_calls"] == TOLD
    assert lines(generate(), *CALLS)[0]["tool_calls"] == TOLD[:1]


def test_a_call_cut_by_the_limit_is_still_an_object() -> None:
    assert (
        lines(chat(), *CALLS[:2], ended(reason="length"))[0]["message"]["tool_calls"][0]["function"]["arguments"] == {}
    )


def test_logprobs() -> None:
    told = lines(chat(logprobs=True, top_logprobs=2), core.Text(0, "a", (5,), (LIKELY,)), ended())
    (entry,) = told[0]["logprobs"]
    assert (entry["token"], entry["bytes"], len(entry["top_logprobs"])) == ("a", [97], 2)
    assert "logprobs" not in told[-1]
    assert whole(chat(logprobs=True), core.Text(0, "a", (5,), (LIKELY,)), ended())["logprobs"][0]["token"] == "a"


def test_silence_is_a_line_of_empty_content() -> None:
    assert json.loads(chat().silence(WALL))["message"]["content"] == ""
    assert json.loads(generate().silence(WALL))["response"] == ""
    assert chat().silence(WALL).endswith(b"}\n")


def test_what_did_not_happen_is_left_out() -> None:
    told = ollama.ending(core.Done(0, "stop", core.Usage(prompt_tokens=3), core.Timeline(received_ns=1, closed_ns=5)))
    assert told == {"done": True, "done_reason": "stop", "total_duration": 4, "prompt_eval_count": 3}


# ---- errors, names, times --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(errors.every_kind().values()))
def test_every_error_is_a_string(kind: type[HeylookError]) -> None:
    reply = ollama.error(kind("what to do"))
    assert isinstance(json.loads(reply.body)["error"], str)
    assert reply.media_type == "application/json; charset=utf-8"


def test_the_catalogue_words() -> None:
    for problem, status, text in (
        (errors.Overloaded("x"), 503, "server busy, please try again.  maximum pending requests exceeded"),
        (errors.Cancelled("x"), 499, "request canceled"),
        (errors.WorkerDied("x"), 500, "model runner has unexpectedly stopped"),
        (errors.ModelNotFound(model="nope"), 404, "model 'nope' not found"),
        (errors.ContextLengthExceeded(limit_tokens=5, prompt_tokens=9), 400, "longer than the available context"),
    ):
        reply = ollama.error(problem)
        assert reply.status == status
        assert json.loads(reply.body)["error"].startswith(text) or text in json.loads(reply.body)["error"]
    assert json.loads(chat().failure(errors.WorkerDied("x")))["error"].startswith("model runner has")
    assert chat().failure(errors.WorkerDied("x")).endswith(b"}\n")


@pytest.mark.parametrize(
    ("name", "shown"),
    [("x", "x:latest"), ("x:7b", "x:7b"), ("a/b", "a/b:latest"), ("h:5/a/b", "h:5/a/b:latest"), ("a/b:c", "a/b:c")],
)
def test_a_shown_name_has_its_tag(name: str, shown: str) -> None:
    assert ollama.display(name) == shown
    assert ollama.check_name(f" {name} ") == name


def test_times_are_rfc_3339() -> None:
    assert ollama.timestamp(1_700_000_000_000_000_000) == "2023-11-14T22:13:20Z"
    assert ollama.timestamp(1_700_000_000_120_000_000) == "2023-11-14T22:13:20.12Z"
    assert ollama.forever(1_700_000_000.0).startswith("2315-")


def test_the_version_is_a_triple_that_clients_accept() -> None:
    assert tuple(map(int, ollama.VERSION.split("."))) >= (0, 13, 3)


def test_the_table_marks_every_field() -> None:
    bodies: list[type[table.Body]] = [*ollama.BODIES.values(), ollama.OPTIONS]
    for body in bodies:
        for name, field in body.model_fields.items():
            assert any(isinstance(mark, table.Honoured | table.Ignored | table.Refused) for mark in field.metadata), (
                f"{body.__name__}.{name} has no mark"
            )
