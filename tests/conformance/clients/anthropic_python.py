"""Anthropic's Python client."""

import asyncio
from functools import partial
from typing import Any

import anthropic
import pydantic

from tests.conformance.cells import At, Refusal, awaited, cell, raises, refused
from tests.conformance.subjects import KEY, WEATHER, circle_base64

PACKAGE = "anthropic"
GREEDY: Any = {"max_tokens": 300, "extra_body": {"temperature": 0}}
TOOL: Any = {"name": "get_weather", "description": "Get the weather in a city", "input_schema": WEATHER}


class Person(pydantic.BaseModel):
    """What is asked for as JSON."""

    name: str
    city: str


def client(at: At) -> Any:
    """Its overloads can't be told apart by options that are handed on."""
    return anthropic.Anthropic(base_url=at.url, api_key="x", max_retries=0, timeout=60)


def user(content: Any) -> list[Any]:
    return [{"role": "user", "content": content}]


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@cell("chat")
def chat(at: At) -> None:
    message = client(at).messages.create(model=at.model, messages=user(at.subject.ask), **GREEDY)
    assert (text_of(message), message.stop_reason) == (at.subject.answer, "end_turn")
    assert message.usage.output_tokens > 0


@cell("chat, streamed")
def stream(at: At) -> None:
    events = list(client(at).messages.create(model=at.model, messages=user(at.subject.ask), stream=True, **GREEDY))
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    assert "".join(delta.text for delta in deltas) == at.subject.answer


@cell("async client")
def asynchronous(at: At) -> None:
    async def ask(made: anthropic.AsyncAnthropic) -> str:
        messages: Any = made.messages
        async with messages.stream(model=at.model, messages=user(at.subject.ask), **GREEDY) as events:
            return "".join([text async for text in events.text_stream])

    async def several() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=at.url, api_key="x", max_retries=0) as made:
            return await asyncio.gather(*(ask(made) for _ in range(4)))

    assert set(awaited(several())) == {at.subject.answer}


@cell("usage in a stream")
def usage(at: At) -> None:
    asked = {"model": at.model, "messages": user(at.subject.ask)}
    with client(at).messages.stream(**asked, **GREEDY) as events:
        told = events.get_final_message().usage
    counted = client(at).messages.count_tokens(**asked).input_tokens
    assert told.input_tokens + (told.cache_read_input_tokens or 0) == counted
    assert told.output_tokens > 0


@cell("the stream helper")
def stream_helper(at: At) -> None:
    with client(at).messages.stream(
        model=at.model, messages=user(at.subject.weather), tools=[TOOL], **GREEDY
    ) as events:
        kinds = {event.type for event in events}
        final = events.get_final_message()
    assert {"input_json", "content_block_stop", "message_stop"} <= kinds
    (use,) = [block for block in final.content if block.type == "tool_use"]
    assert (use.name, use.input, final.stop_reason) == ("get_weather", {"city": "Paris"}, "tool_use")


@cell("tools: auto, and their results")
def tool_loop(at: At) -> None:
    asked = {"model": at.model, "tools": [TOOL], **GREEDY}
    first = client(at).messages.create(messages=user(at.subject.weather), **asked)
    (use,) = [block for block in first.content if block.type == "tool_use"]
    assert (use.name, use.input) == ("get_weather", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": use.id, "content": at.subject.observed}
    history = [*user(at.subject.weather), first.to_param(), *user([result])]
    assert at.subject.told in text_of(client(at).messages.create(messages=history, **asked))


@cell("tools: required and named")
def forced(at: At) -> None:
    other = {"name": "other", "input_schema": {"type": "object", "properties": {}}}
    for choice, tools in (({"type": "any"}, [TOOL]), ({"type": "tool", "name": "get_weather"}, [other, TOOL])):
        message = client(at).messages.create(
            model=at.model,
            messages=user("Hello"),
            tools=tools,
            tool_choice={**choice, "disable_parallel_tool_use": True},
            **GREEDY,
        )
        (use,) = [block for block in message.content if block.type == "tool_use"]
        assert use.name == "get_weather"
        assert isinstance(use.input["city"], str)


@cell("tools: none")
def no_tools(at: At) -> None:
    message = client(at).messages.create(
        model=at.model, messages=user(at.subject.ask), tools=[TOOL], tool_choice={"type": "none"}, **GREEDY
    )
    assert {block.type for block in message.content} == {"text"}


@cell("structured output")
def structured(at: At) -> None:
    message = client(at).messages.parse(
        model=at.model, max_tokens=300, messages=user(at.subject.person), output_format=Person
    )
    assert isinstance(message.parsed_output, Person)


@cell("images")
def images(at: At) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": circle_base64()}
    content = [{"type": "image", "source": source}, {"type": "text", "text": at.subject.see}]
    message = client(at).messages.create(model=at.subject.seeing, messages=user(content), **GREEDY)
    assert at.subject.seen in text_of(message)


@cell("images to a model that doesn't see are a 400")
def blind(at: At) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": circle_base64()}
    raises(
        lambda: client(at).messages.create(
            model=at.model, max_tokens=9, messages=user([{"type": "image", "source": source}])
        ),
        anthropic.BadRequestError,
        "vision|image",
    )


@cell("stop and max_tokens")
def ends(at: At) -> None:
    stop, before = at.subject.stopped
    asked = {"model": at.model, "messages": user(at.subject.ask)}
    message = client(at).messages.create(stop_sequences=[stop], **asked, **GREEDY)
    assert (text_of(message), message.stop_reason, message.stop_sequence) == (before, "stop_sequence", stop)
    assert client(at).messages.create(max_tokens=2, **asked).stop_reason == "max_tokens"


@cell("thinking")
def thinking(at: At) -> None:
    message = client(at).messages.create(
        model=at.model,
        messages=user(at.subject.think),
        thinking={"type": "enabled", "budget_tokens": 1024},
        **{**GREEDY, "max_tokens": 2000},
    )
    thought, said = message.content
    assert (thought.type, said.text.strip()) == ("thinking", at.subject.thought)
    assert thought.thinking.strip()
    again = [*user(at.subject.think), message.to_param(), *user(at.subject.ask)]
    assert text_of(client(at).messages.create(model=at.model, messages=again, **GREEDY))


@cell("a prefilled answer")
def prefill(at: At) -> None:
    begun = [*user(at.subject.ask), {"role": "assistant", "content": "The capital of"}]
    assert text_of(client(at).messages.create(model=at.model, messages=begun, **GREEDY)).startswith(" France")


@cell("list models")
def listing(at: At) -> None:
    assert at.model in [model.id for model in client(at).models.list(limit=2)]
    assert client(at).models.retrieve(at.model).type == "model"


@cell("errors in the client's classes")
def errors(at: At) -> None:
    def ask(**fields: Any) -> Any:
        return client(at).messages.create(**{"model": at.model, "max_tokens": 9, "messages": user("hi"), **fields})

    assert raises(lambda: ask(model="nope"), anthropic.NotFoundError, "nope").type == "not_found_error"
    assert raises(lambda: ask(messages=[]), anthropic.BadRequestError).type == "invalid_request_error"
    raises(lambda: ask(messages=user("word " * 9000)), anthropic.BadRequestError, "prompt is too long")


@cell("a key where one is wanted")
def key(at: At) -> None:
    def listed(given: str) -> Any:
        return anthropic.Anthropic(base_url=at.locked, api_key=given, max_retries=0).models.list()

    raises(lambda: listed("wrong"), anthropic.AuthenticationError)
    assert listed(KEY).data


@cell("leaving in mid-stream")
def leaving(at: At) -> None:
    with client(at).messages.stream(model=at.subject.long, max_tokens=2000, messages=user(at.subject.count)) as events:
        next(iter(events.text_stream))
    at.until_idle()


@cell("token counts")
def counts(at: At) -> None:
    asked = {"model": at.model, "messages": user(at.subject.weather), "tools": [TOOL], "system": "Be brief."}
    counted = client(at).messages.count_tokens(**asked).input_tokens
    told = client(at).messages.create(**asked, **GREEDY).usage
    assert counted == told.input_tokens + (told.cache_read_input_tokens or 0)


@cell("batches of messages")
def batches(at: At) -> None:
    # anthropic's exceptions carry no code and no param: the message names what was asked for
    not_offered = Refusal(400, "Batches of messages are not offered", "invalid_request_error")
    refused(
        {lambda: client(at).messages.batches.create(requests=[]): not_offered},
        anthropic.BadRequestError,
        "requests of its own machine need no queue of a day: several at a time are computed together",
    )


@cell("tools that run at Anthropic are left out, and named")
def hosted(at: At) -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}, TOOL]
    reply = client(at).messages.with_raw_response.create(
        model=at.model, messages=user(at.subject.ask), tools=tools, **GREEDY
    )
    assert reply.headers["x-heylook-ignored"] == "tools[0]:web_search_20250305"
    assert text_of(reply.parse()) == at.subject.answer


@cell("fields that are refused are named")
def refused_fields(at: At) -> None:
    asked: Any = {"model": at.model, "max_tokens": 9, "messages": user("x")}
    for fields, words in (
        ({"extra_body": {"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}}, "mcp_servers"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, r"tools\[0\]"),
    ):
        problem = raises(partial(client(at).messages.create, **asked, **fields), anthropic.BadRequestError)
        Refusal(400, words, "invalid_request_error").check(problem)
