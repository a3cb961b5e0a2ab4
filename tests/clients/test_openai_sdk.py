"""The real openai client against the running server: its whole chat and completions surface for this version."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.serving import Running

pytestmark = pytest.mark.integration

USER: list[Any] = [{"role": "user", "content": "Say: hello \u2028 world \N{GRINNING FACE}"}]
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}}
]
CALL: list[Any] = [{"role": "user", "content": '[[call:add {"a": 1}]]'}]


@pytest.fixture
def client(fake_server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fake_server.url}/v1", api_key="x", max_retries=0) as made:
        yield made


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_a_whole_reply(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="fake", messages=USER)
    assert reply.choices[0].message.content == USER[0]["content"]
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0
    assert reply._request_id is not None
    assert reply._request_id.startswith("req_")


def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(model="fake", messages=USER, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == USER[0]["content"]
    assert len({c.id for c in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage is not None
    assert chunks[-1].choices == []


def test_the_stream_helper_with_tools_choices_usage_and_logprobs(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="fake", messages=CALL, tools=TOOLS, n=2, logprobs=True, top_logprobs=1,
        stream_options={"include_usage": True},
    ) as stream:  # fmt: skip
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    assert [choice.index for choice in final.choices] == [0, 1]
    for choice in final.choices:
        assert (choice.message.role, choice.finish_reason) == ("assistant", "tool_calls")
        assert choice.message.tool_calls is not None
        (call,) = choice.message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 1})
    assert final.usage is not None


def test_a_tool_answer_goes_back(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="fake", messages=CALL, tools=TOOLS)
    message = first.choices[0].message
    assert message.tool_calls is not None
    history = [
        *CALL,
        message.model_dump(),
        {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "[[say:3]]"},
    ]
    second = client.chat.completions.create(model="fake", messages=history, tools=TOOLS)
    assert second.choices[0].message.content == "3"


def test_reasoning_comes_apart(client: openai.OpenAI) -> None:
    messages = user("[[think:let me see]][[say:yes]]")
    message = client.chat.completions.create(model="fake", messages=messages, reasoning_effort="low").choices[0].message
    assert message.content == "yes"
    assert "let me see" in (message.model_extra or {})["reasoning_content"]


def test_reasoning_has_a_budget(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="fake", messages=user("[[think:0123456789]][[say:yes]]"), extra_body={"reasoning_budget": 6}
    )
    message, usage = reply.choices[0].message, reply.usage
    assert message.content == "yes"
    assert (message.model_extra or {})["reasoning_content"] == "0123"
    assert usage is not None
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 6 + len("\n</think>")


def test_length_and_stop(client: openai.OpenAI) -> None:
    messages = user("[[say:one two three]]")
    cut = client.chat.completions.create(model="fake", messages=messages, max_completion_tokens=3).choices[0]
    assert (cut.message.content, cut.finish_reason) == ("one", "length")
    stopped = client.chat.completions.create(model="fake", messages=messages, stop=[" thr"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("one two", "stop")


def test_a_stop_string_and_an_emoji_over_tokens_in_a_stream(client: openai.OpenAI) -> None:
    messages = user("[[say:a\N{GRINNING FACE}b STOP c]]")
    text = ""
    for chunk in client.chat.completions.create(model="fake", messages=messages, stop="STOP", stream=True):
        piece = chunk.choices[0].delta.content or ""
        assert "\ufffd" not in piece
        text += piece
    assert text == "a\N{GRINNING FACE}b "


def test_completions(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="fake", prompt=["ab", "cd"], n=2, max_tokens=2, logprobs=0)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert reply.choices[0].logprobs is not None
    streamed = list(client.completions.create(model="fake", prompt="[[say:hey]]", stream=True))
    assert "".join(chunk.choices[0].text for chunk in streamed) == "hey"
    assert client.completions.create(model="fake", prompt=[97, 98], max_tokens=2).choices[0].text
    assert (
        client.completions.create(model="fake", prompt="hi", echo=True, max_tokens=2).choices[0].text.startswith("hi")
    )


def test_models(client: openai.OpenAI) -> None:
    assert "fake" in [model.id for model in client.models.list()]
    for name in ("fake", "org/fake", "fake:latest", "gpt-4o"):
        assert client.models.retrieve(name).id == name
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nope")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_errors_are_the_sdks_own_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nope", messages=USER)
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="fake", messages=[])
    assert bad.value.param == "messages"
    with pytest.raises(openai.BadRequestError, match="maximum context length is 2048") as long:
        client.chat.completions.create(model="fake", messages=user("x" * 5000))
    assert long.value.code == "context_length_exceeded"
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as broken:
            client.chat.completions.create(model="broken", messages=USER, stream=stream)
        assert broken.value.response.headers["x-should-retry"] == "false"
    wrong: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError, match="response_format 'x'"):
        client.chat.completions.create(model="fake", messages=USER, response_format=wrong)


def test_a_worker_that_dies_in_a_stream_is_a_typed_error(client: openai.OpenAI) -> None:
    pieces: list[str | None] = []
    messages = user("[[crash:after=5]][[say:0123456789]]")
    stream = client.chat.completions.create(model="slow", messages=messages, stream=True)
    with pytest.raises(openai.APIError) as caught:
        pieces.extend(chunk.choices[0].delta.content for chunk in stream)
    assert caught.value.code == "worker_died"
    assert "".join(piece or "" for piece in pieces)
    again = client.chat.completions.create(model="slow", messages=user("[[say:ok]]"))
    assert again.choices[0].message.content == "ok"


async def test_eight_streams_at_once(fake_server: Running) -> None:
    async with openai.AsyncOpenAI(base_url=f"{fake_server.url}/v1", api_key="x", max_retries=0) as client:

        async def one(at: int) -> str:
            text = ""
            stream = await client.chat.completions.create(
                model="fake", messages=user(f"[[say:{at}]][[count:50]]"), stream=True
            )
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
            return text

        texts = await asyncio.gather(*(one(at) for at in range(8)))
    assert all(text.startswith(str(at)) and text.endswith("50") for at, text in enumerate(texts))


async def test_leaving_a_stream_frees_its_place(fake_server: Running) -> None:
    async with openai.AsyncOpenAI(base_url=f"{fake_server.url}/v1", api_key="x", max_retries=0) as client:
        stream = await client.chat.completions.create(model="slow", messages=user("[[count:500]]"), stream=True)
        async for _ in stream:
            break
        await stream.close()
        async with asyncio.timeout(5):
            while (await client.get("/requests", cast_to=object))["data"]:  # type: ignore[index]  # plain JSON
                continue


# ---- the real tiny model ---------------------------------------------------------------------------------------------


def test_the_tiny_model_answers(tiny_server: Running) -> None:
    with openai.OpenAI(base_url=f"{tiny_server.url}/v1", api_key="x", max_retries=0) as client:
        common: dict[str, Any] = {"model": "gpt-4o", "messages": user("What is the capital of France?")}
        whole = client.chat.completions.create(**common, temperature=0, max_tokens=32, logprobs=True, top_logprobs=2)
        text = whole.choices[0].message.content or ""
        assert "Paris" in text
        assert whole.choices[0].logprobs is not None
        assert whole.choices[0].logprobs.content
        with client.chat.completions.stream(**common, temperature=0, max_tokens=32) as stream:
            assert stream.get_final_completion().choices[0].message.content == text
        assert whole.usage is not None
        assert whole.usage.completion_tokens <= 32


def test_the_same_seed_says_the_same(tiny_server: Running) -> None:
    with openai.OpenAI(base_url=f"{tiny_server.url}/v1", api_key="x", max_retries=0) as client:
        texts = {
            client.chat.completions.create(
                model="heylook-tiny", messages=user("Hello!"), temperature=1.5, seed=7, max_tokens=16
            )
            .choices[0]
            .message.content
            for _ in range(2)
        }
        assert len(texts) == 1
