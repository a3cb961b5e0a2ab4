"""LiteLLM, over each of the three APIs."""

import json
from functools import partial
from typing import Any

import litellm
import pydantic

from tests.conformance.cells import At, awaited, cell, raises
from tests.conformance.subjects import KEY, WEATHER_TOOL, circle_url

PACKAGE = "litellm"
litellm.suppress_debug_info = True


class Person(pydantic.BaseModel):
    """What is asked for as JSON."""

    name: str
    city: str


def ways(at: At, name: str = "") -> list[dict[str, Any]]:
    """How each API is addressed."""
    name = name or at.model
    return [
        {"model": f"openai/{name}", "api_base": at.v1, "api_key": "x"},
        {"model": f"ollama_chat/{name}", "api_base": at.url},
        {"model": f"anthropic/{name}", "api_base": at.url, "api_key": "x"},
    ]


GREEDY: Any = {"temperature": 0, "max_tokens": 300, "num_retries": 0}
OFF: Any = {"reasoning_effort": "none"}


def user(text: Any) -> list[Any]:
    return [{"role": "user", "content": text}]


def asked(way: dict[str, Any]) -> dict[str, Any]:
    """The way with settings. Ollama's API thinks unless it is told not to."""
    return {**way, **GREEDY, **({"think": False} if way["model"].startswith("ollama") else {})}


@cell("chat")
def chat(at: At) -> None:
    for way in ways(at):
        reply = litellm.completion(messages=user(at.subject.ask), **asked(way))
        assert reply.choices[0].message.content == at.subject.answer, way["model"]
        assert reply.usage.completion_tokens > 0


@cell("chat, streamed")
def stream(at: At) -> None:
    for way in ways(at):
        chunks = list(
            litellm.completion(
                messages=user(at.subject.ask), stream=True, stream_options={"include_usage": True}, **asked(way)
            )
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert said == at.subject.answer, way["model"]
        assert chunks[-1].usage.completion_tokens > 0, way["model"]


@cell("async client")
def asynchronous(at: At) -> None:
    async def ask() -> str:
        reply = await litellm.acompletion(messages=user(at.subject.ask), **asked(ways(at)[0]))
        return str(reply.choices[0].message.content)

    assert awaited(ask()) == at.subject.answer


@cell("tools: auto, and their results")
def tool_loop(at: At) -> None:
    for way in ways(at):
        settings = {"tools": [WEATHER_TOOL], **asked(way)}
        message = litellm.completion(messages=user(at.subject.weather), **settings).choices[0].message
        (call,) = message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
        result = {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": at.subject.observed}
        history = [*user(at.subject.weather), message.model_dump(exclude_none=True), result]
        said = litellm.completion(messages=history, **settings).choices[0].message.content
        assert at.subject.told in said, (way["model"], said)


@cell("tools: required and named")
def forced(at: At) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    for way in (ways(at)[0], ways(at)[2]):
        for choice in ("required", named):
            reply = litellm.completion(messages=user("Hello"), tools=[WEATHER_TOOL], tool_choice=choice, **asked(way))
            assert reply.choices[0].message.tool_calls[0].function.name == "get_weather"


@cell("structured output")
def structured(at: At) -> None:
    for way in ways(at)[:2]:
        reply = litellm.completion(messages=user(at.subject.person), response_format=Person, **asked(way))
        Person.model_validate_json(reply.choices[0].message.content)


@cell("images")
def images(at: At) -> None:
    parts = [{"type": "image_url", "image_url": {"url": circle_url()}}, {"type": "text", "text": at.subject.see}]
    for way in ways(at, at.subject.seeing):
        reply = litellm.completion(messages=user(parts), **asked(way))
        assert at.subject.seen in reply.choices[0].message.content, way["model"]


@cell("embeddings")
def embeddings(at: At) -> None:
    texts = ["Paris is in France.", "7 is a number."]
    for way in (ways(at)[0], {"model": f"ollama/{at.model}", "api_base": at.url}):
        reply = litellm.embedding(input=texts, **way)
        assert len(reply.data) == 2, way["model"]


@cell("log probabilities")
def logprobs(at: At) -> None:
    reply = litellm.completion(messages=user(at.subject.ask), logprobs=True, top_logprobs=2, **asked(ways(at)[0]))
    assert all(token.logprob <= 0 for token in reply.choices[0].logprobs.content)


@cell("stop and max_tokens")
def ends(at: At) -> None:
    stop, before = at.subject.stopped
    for way in ways(at):
        reply = litellm.completion(messages=user(at.subject.ask), stop=[stop], **asked(way))
        assert reply.choices[0].message.content.rstrip() == before, way["model"]
        cut = litellm.completion(messages=user(at.subject.ask), **{**asked(way), "max_tokens": 2})
        assert cut.choices[0].finish_reason == "length", way["model"]


@cell("thinking")
def thinking(at: At) -> None:
    reply = litellm.completion(
        messages=user(at.subject.think), reasoning_effort="low", allowed_openai_params=["reasoning_effort"],
        **{**asked(ways(at)[0])},
    )  # fmt: skip
    assert reply.choices[0].message.reasoning_content.strip()
    assert reply.choices[0].message.content.strip() == at.subject.thought


@cell("errors in the client's classes")
def errors(at: At) -> None:
    for way in ways(at, "nope"):
        raises(partial(litellm.completion, messages=user("x"), **asked(way)), litellm.NotFoundError, "nope")
    long = user("word " * 9000)
    raises(lambda: litellm.completion(messages=long, **asked(ways(at)[0])), litellm.ContextWindowExceededError)


@cell("a key where one is wanted")
def key(at: At) -> None:
    def ask(given: str) -> Any:
        way = {"model": "openai/fake", "api_base": at.locked + "/v1", "api_key": given}
        return litellm.completion(messages=user("hi"), **asked(way))

    raises(lambda: ask("wrong"), litellm.AuthenticationError)
    assert ask(KEY).choices


@cell("text completions")
def completions(at: At) -> None:
    reply = litellm.text_completion(
        model=f"text-completion-openai/{at.model}", api_base=at.v1, api_key="x", prompt="1, 2, 3,", max_tokens=4
    )
    assert reply.choices[0].text
