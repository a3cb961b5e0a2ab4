"""The real anthropic client against the running server: messages, streams, tools, thinking, counts, errors."""

import asyncio
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pydantic
import pytest
from anthropic._streaming import SSEDecoder

from tests.serving import Running

pytestmark = pytest.mark.integration

SAID = "hello \u2028 world \x85 \N{GRINNING FACE}"
ADD: Any = {
    "name": "add",
    "description": "Adds.",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
CALL = '[[say:I add.]][[call:add {"a": 1}]]'
OFF: Any = {"type": "disabled"}
THINK: Any = {"type": "enabled", "budget_tokens": 1024}


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def blocks(message: Any) -> list[Any]:
    """What a message says, without a union's types."""
    return list(message.content)


def said(message: Any) -> list[dict[str, Any]]:
    """The same as the wire has it."""
    return [block.model_dump(exclude_none=True) for block in message.content]


def client_of(server: Running, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, **{"api_key": "x", "max_retries": 0, **options})


@pytest.fixture
def client(fake_server: Running) -> Iterator[anthropic.Anthropic]:
    with client_of(fake_server) as made:
        yield made


def test_a_whole_message(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="gpt-4o", max_tokens=100, messages=user(SAID))
    assert (message.type, message.role, message.model, message.stop_reason) == (
        "message",
        "assistant",
        "gpt-4o",
        "end_turn",
    )
    assert said(message) == [{"type": "text", "text": SAID}]
    assert message.id.startswith("msg_")
    assert message._request_id is not None
    assert message._request_id.startswith("req_")


def test_a_stream_says_the_same(client: anthropic.Anthropic) -> None:
    kinds: list[str] = []
    text = ""
    for event in client.messages.create(model="fake", max_tokens=100, messages=user(SAID), stream=True):
        kinds.append(event.type)
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            text += event.delta.text
    assert text == SAID
    assert [kind for kind, _ in itertools.groupby(kinds)] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_the_stream_helper_with_thinking_text_and_tools(client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model="fake", max_tokens=2000, tools=[ADD], thinking=THINK, messages=user(f"[[think:let me see]]{CALL}")
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    assert {"thinking", "signature", "text", "input_json", "content_block_stop"} <= kinds
    thinking, text, use = blocks(final)
    assert (thinking.type, text.type, use.type) == ("thinking", "text", "tool_use")
    assert (thinking.thinking, text.text, use.name, use.input) == ("let me see", "I add.", "add", {"a": 1})
    assert use.id.startswith("toolu_")
    assert thinking.signature
    assert final.stop_reason == "tool_use"
    assert final.usage.output_tokens_details is not None
    assert 0 < final.usage.output_tokens_details.thinking_tokens < final.usage.output_tokens


async def test_the_asynchronous_client(fake_server: Running) -> None:
    async with anthropic.AsyncAnthropic(base_url=fake_server.url, api_key="x", max_retries=0) as client:

        async def one(at: int) -> str:
            async with client.messages.stream(
                model="fake", max_tokens=500, messages=user(f"[[say:{at}]][[count:50]]")
            ) as stream:
                return "".join([text async for text in stream.text_stream])

        texts = await asyncio.gather(*(one(at) for at in range(8)))
        whole = await client.messages.create(model="fake", max_tokens=9, messages=user("[[say:yes]]"))
    assert all(text.startswith(str(at)) and text.endswith("50") for at, text in enumerate(texts))
    assert whole.content[0].type == "text"


def test_the_answer_of_a_tool_goes_back(client: anthropic.Anthropic) -> None:
    first = client.messages.create(model="fake", max_tokens=500, tools=[ADD], messages=user(CALL))
    use = next(block for block in first.content if block.type == "tool_use")
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "[[say:3]]"}]}
    history = [*user(CALL), first.to_param(), {"role": "user", "content": [result]}]
    second = client.messages.create(model="fake", max_tokens=500, tools=[ADD], messages=history)
    assert [block.text for block in second.content if block.type == "text"] == ["3"]
    assert second.stop_reason == "end_turn"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "add"}])
def test_a_call_can_be_forced(client: anthropic.Anthropic, choice: Any) -> None:
    message = client.messages.create(
        model="fake", max_tokens=500, tools=[ADD], tool_choice=choice, messages=user("no thanks")
    )
    assert message.stop_reason == "tool_use"
    uses = [block for block in message.content if block.type == "tool_use"]
    assert all(use.name == "add" and isinstance(use.input["a"], int) for use in uses)


def test_how_an_answer_ends(client: anthropic.Anthropic) -> None:
    def told(**fields: Any) -> tuple[str, str | None, str | None]:
        message = client.messages.create(
            **{"model": "fake", "max_tokens": 50, "messages": user("[[say:one two three]]"), **fields}
        )
        text = "".join(block.text for block in message.content if block.type == "text")
        return text, message.stop_reason, message.stop_sequence

    assert told() == ("one two three", "end_turn", None)
    assert told(max_tokens=3) == ("one", "max_tokens", None)
    assert told(stop_sequences=[" thr", "x"]) == ("one two", "stop_sequence", " thr")
    assert told(max_tokens=0) == ("", "max_tokens", None)
    full = told(max_tokens=10_000, messages=user("[[say:" + "ab" * 900 + "]]"))
    assert full[1] == "model_context_window_exceeded"


def test_a_prefilled_answer_goes_on(client: anthropic.Anthropic) -> None:
    begun: Any = [*user("[[say:one two three]]"), {"role": "assistant", "content": "one"}]
    message = client.messages.create(model="fake", max_tokens=50, messages=begun)
    (block,) = message.content
    assert block.type == "text"
    assert block.text == " two three"


def test_usage_tells_what_was_cached_and_counts_agree(client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {
        "model": "fake",
        "system": "Count this, please.",
        "tools": [ADD],
        "messages": [*user("[[say:a]]"), {"role": "assistant", "content": "a"}, *user("[[say:ok]] usage")],
    }
    client.messages.create(model="fake", max_tokens=1, messages=user("be loaded"))
    count = client.messages.count_tokens(**asked).input_tokens
    cached: list[int] = []
    for _ in range(2):
        with client.messages.stream(**asked, max_tokens=9) as stream:
            start = next(event for event in stream if event.type == "message_start").message.usage
            final = stream.get_final_message().usage
        for usage in (start, final):
            assert usage.cache_read_input_tokens is not None
            assert usage.input_tokens + usage.cache_read_input_tokens == count
        assert start.cache_read_input_tokens == final.cache_read_input_tokens
        cached.append(final.cache_read_input_tokens or 0)
    assert cached[0] < cached[1] < count


def test_a_prompt_is_computed_ahead(client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {"model": "fake", "system": "Computed ahead, as it will be asked.", "messages": user("hi")}
    ahead = client.messages.create(**asked, max_tokens=0)
    assert (ahead.content, ahead.usage.output_tokens) == ([], 0)
    usage = client.messages.create(**asked, max_tokens=2).usage
    assert usage.input_tokens < (usage.cache_read_input_tokens or 0)


def test_structured_output(client: anthropic.Anthropic) -> None:
    class Found(pydantic.BaseModel):
        text: str

    message = client.messages.parse(model="fake", max_tokens=500, messages=user("hello"), output_format=Found)
    assert message.parsed_output == Found(text="hello")
    with client.messages.stream(model="fake", max_tokens=500, messages=user("hello"), output_format=Found) as stream:
        assert stream.get_final_message().parsed_output == Found(text="hello")


def test_what_has_no_effect_is_named(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(
        model="fake", max_tokens=9, messages=user("[[say:ok]]"), extra_body={"foo": 1}, metadata={"user_id": "me"}
    )
    assert raw.headers["x-heylook-ignored"] == "foo"
    assert raw.headers["request-id"] == raw.headers["x-request-id"]


def test_models_page_by_page(client: anthropic.Anthropic) -> None:
    names = [model.id for model in client.models.list(limit=2)]
    assert names == ["fake", "slow", "heavy", "broken"]
    first = client.models.list(limit=3)
    assert (first.has_more, first.first_id, first.last_id) == (True, "fake", "heavy")
    before = client.models.list(limit=3, before_id="heavy")
    assert ([model.id for model in before.data], before.has_more) == (["fake", "slow"], False)
    client.messages.create(model="fake", max_tokens=1, messages=user("hi"))
    model = client.models.retrieve("gpt-4o")
    assert (model.id, model.type, model.max_input_tokens) == ("gpt-4o", "model", 2048)
    assert model.capabilities is not None
    assert model.capabilities.thinking.supported
    assert not model.capabilities.image_input.supported
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.models.retrieve("nope")
    assert unknown.value.type == "not_found_error"


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_errors_are_the_sdks_own_classes(client: anthropic.Anthropic) -> None:
    def ask(**fields: Any) -> Any:
        return client.messages.create(**{"model": "fake", "max_tokens": 9, "messages": user("hi"), **fields})

    with pytest.raises(anthropic.NotFoundError) as unknown:
        ask(model="nope")
    assert (unknown.value.type, unknown.value.error_code) == ("not_found_error", "model_not_found")
    with pytest.raises(anthropic.BadRequestError) as bad:
        ask(messages=[])
    assert (bad.value.type, bad.value.request_id) == ("invalid_request_error", bad.value.body["request_id"])  # type: ignore[index]
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 2048 maximum") as long:
        ask(messages=user("x" * 5000))
    assert long.value.error_code == "context_length_exceeded"
    wrong: Any = {"format": {"type": "json_schema", "schema": {"type": "nonsense"}}}
    with pytest.raises(anthropic.BadRequestError, match=r"output_config\.format\.schema"):
        ask(output_config=wrong)
    with pytest.raises(anthropic.BadRequestError, match=r"tools: .*nonsense"):
        ask(
            tools=[
                ADD | {"input_schema": {"type": "object", "properties": {"a": {"type": "nonsense"}}}, "strict": True}
            ]
        )
    for stream in (False, True):
        with pytest.raises(anthropic.InternalServerError) as broken:
            ask(model="broken", stream=stream)
        assert broken.value.type == "api_error"
        assert broken.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(model="nope", messages=user("hi"))


def test_counting_loads_nothing(client: anthropic.Anthropic, fake_server: Running) -> None:
    """It takes `heavy` 30 s to load, so its tokens are counted by its vocabulary."""
    asked: Any = {"messages": user("hi"), "tools": [ADD], "system": "s"}
    counted = client.messages.count_tokens(model="heavy", **asked).input_tokens
    assert counted == client.messages.count_tokens(model="fake", **asked).input_tokens
    body = {"model": "heavy", "messages": [{"role": "user", "content": "hi"}]}
    told = httpx.post(f"{fake_server.url}/v1/chat/completions/input_tokens", json=body).json()
    assert told == {"object": "response.input_tokens", "input_tokens": told["input_tokens"]}
    assert 0 < told["input_tokens"] < counted
    assert httpx.get(f"{fake_server.url}/health").json()["models"]["heavy"]["state"] == "unloaded"


def test_routes_and_verbs_in_the_dialects_form(fake_server: Running) -> None:
    for method, path, status, kind in (
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("DELETE", "/v1/messages/count_tokens", 405, "invalid_request_error"),
        ("POST", "/v1/messages/nope", 404, "not_found_error"),
        ("POST", "/v1/messages/batches", 400, "invalid_request_error"),
    ):
        reply = httpx.request(method, fake_server.url + path, json={})
        assert (reply.status_code, reply.json()["type"], reply.json()["error"]["type"]) == (status, "error", kind)
        assert reply.json()["request_id"] == reply.headers["request-id"]


def test_a_worker_that_dies_in_a_stream_is_a_typed_error(client: anthropic.Anthropic) -> None:
    pieces: list[str] = []

    def read() -> None:
        with client.messages.stream(
            model="fake", max_tokens=99, messages=user("[[crash:after=5]][[say:0123456789]]")
        ) as stream:
            pieces.extend(stream.text_stream)

    with pytest.raises(anthropic.APIStatusError) as caught:
        read()
    assert (caught.value.type, caught.value.error_code) == ("overloaded_error", "worker_died")
    assert "".join(pieces)
    again = client.messages.create(model="fake", max_tokens=9, messages=user("[[say:ok]]"))
    assert again.content[0].type == "text"


# ---- bytes -----------------------------------------------------------------------------------------------------------


def test_a_stream_split_at_every_byte_is_the_same_to_the_sdk(fake_server: Running) -> None:
    body = {
        "model": "fake", "max_tokens": 500, "stream": True, "thinking": THINK, "tools": [ADD],
        "messages": user(f"[[think:\u00e9\u2028]][[say:{SAID}]][[call:add {{\"a\": 1}}]]"),
    }  # fmt: skip
    reply = httpx.post(f"{fake_server.url}/v1/messages?beta=true", json=body)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    whole = [(event.event, event.json()) for event in SSEDecoder().iter_bytes(iter([reply.content]))]
    assert whole[0][0] == "message_start"
    assert whole[-1][0] == "message_stop"
    assert [name for name, data in whole] == [data["type"] for name, data in whole]
    for cut in range(1, len(reply.content)):
        pieces = iter([reply.content[:cut], reply.content[cut:]])
        if cut % 7 == 0 or reply.content[cut - 1] > 0x7F or reply.content[cut - 1 : cut + 1] == b"\n\n":
            assert [(event.event, event.json()) for event in SSEDecoder().iter_bytes(pieces)] == whole
    single = iter([reply.content[at : at + 1] for at in range(len(reply.content))])
    assert [(event.event, event.json()) for event in SSEDecoder().iter_bytes(single)] == whole


def test_silence_is_filled_with_pings(fake_server: Running) -> None:
    long = user("y" * 1500 + "[[stall:1]][[say:x]]")
    asked = {"model": "fake", "max_tokens": 99, "stream": True, "messages": long}
    text = httpx.post(f"{fake_server.url}/v1/messages", json=asked, timeout=30).text
    names = re.findall(r"^event: (\w+)$", text, re.MULTILINE)
    assert names[0] == "message_start"
    assert "ping" in names
    assert json.loads(text.split("data: ")[1].split("\n")[0])["message"]["usage"]["input_tokens"] > 1500


# ---- the real tiny model ---------------------------------------------------------------------------------------------

WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def test_a_loop_of_tools_on_the_tiny_model(tiny_server: Running) -> None:
    messages: list[Any] = user("What is the weather in Paris?")
    with client_of(tiny_server) as client:
        first = client.messages.create(
            model="heylook-tiny", max_tokens=200, tools=[WEATHER], messages=messages, extra_body={"temperature": 0}
        )
        (use,) = (block for block in first.content if block.type == "tool_use")
        assert (first.stop_reason, use.name, use.input) == ("tool_use", "get_weather", {"city": "Paris"})
        result = {"type": "tool_result", "tool_use_id": use.id, "content": '{"temperature": 18, "sky": "sunny"}'}
        messages += [first.to_param(), {"role": "user", "content": [result]}]
        second = client.messages.create(
            model="heylook-tiny", max_tokens=200, tools=[WEATHER], messages=messages, extra_body={"temperature": 0}
        )
    assert second.stop_reason == "end_turn"
    assert "18" in "".join(block.text for block in second.content if block.type == "text")


def test_thinking_counts_and_schemas_on_the_tiny_model(tiny_server: Running) -> None:
    class Sum(pydantic.BaseModel):
        sum: int

    question = user("What is 3 plus 4?")
    greedy: Any = {"temperature": 0}
    with client_of(tiny_server) as client:
        client.messages.create(model="heylook-tiny", max_tokens=1, messages=user("be loaded"))
        for thinking in (THINK, OFF):
            count = client.messages.count_tokens(model="heylook-tiny", messages=question, thinking=thinking)
            with client.messages.stream(
                model="heylook-tiny", max_tokens=300, messages=question, thinking=thinking, extra_body=greedy
            ) as stream:
                final = stream.get_final_message()
            assert final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0) == count.input_tokens
            kinds = [block.type for block in final.content]
            assert kinds == (["thinking", "text"] if thinking is THINK else ["text"])
            assert "7" in "".join(block.text for block in final.content if block.type == "text")
        parsed = client.messages.parse(
            model="heylook-tiny", max_tokens=100, messages=question, thinking=OFF, output_format=Sum
        )
    assert isinstance(parsed.parsed_output, Sum)
