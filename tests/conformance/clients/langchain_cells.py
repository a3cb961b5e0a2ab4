"""The cells that all LangChain chat models have: each integration gives its model and what is its own."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pydantic
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

from tests.conformance.cells import At, awaited, cell, raises
from tests.conformance.subjects import circle_url

Make = Callable[..., Any]


class Person(pydantic.BaseModel):
    """Someone and where they live."""

    name: str
    city: str


@tool
def get_weather(city: str) -> str:
    """Get the weather in a city"""
    return city


@dataclass(frozen=True, slots=True)
class Integration:
    """What differs."""

    model: Make
    """model(at, name, **options): a chat model; temperature 0 and 300 tokens unless told otherwise."""
    forced: tuple[Any, ...]
    """What `tool_choice` may be, besides none."""
    structured: tuple[str, ...]
    """Its ways to structured output."""
    unknown: type[Exception]
    """What an unknown model is."""
    stop: bool = True


def register(its: Integration) -> None:
    """Its cells."""
    _texts(its)
    _tools(its)
    _ends(its)


def _texts(its: Integration) -> None:
    @cell("chat")
    def chat(at: At) -> None:
        reply = its.model(at).invoke([HumanMessage(at.subject.ask)])
        assert reply.text == at.subject.answer
        assert reply.usage_metadata["total_tokens"] > reply.usage_metadata["output_tokens"] > 0

    @cell("chat, streamed")
    def stream(at: At) -> None:
        chunks = list(its.model(at).stream([HumanMessage(at.subject.ask)]))
        assert "".join(chunk.text for chunk in chunks) == at.subject.answer
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        assert whole.usage_metadata["output_tokens"] > 0

    @cell("async client")
    def asynchronous(at: At) -> None:
        async def several() -> list[str]:
            model = its.model(at)
            replies = await asyncio.gather(*(model.ainvoke([HumanMessage(at.subject.ask)]) for _ in range(4)))
            return [reply.text for reply in replies]

        assert set(awaited(several())) == {at.subject.answer}

    @cell("structured output")
    def structured(at: At) -> None:
        for method in its.structured:
            chain = its.model(at).with_structured_output(Person, method=method)
            assert isinstance(chain.invoke([HumanMessage(at.subject.person)]), Person), method

    @cell("images")
    def images(at: At) -> None:
        parts: Any = [
            {"type": "image_url", "image_url": {"url": circle_url()}},
            {"type": "text", "text": at.subject.see},
        ]
        assert at.subject.seen in its.model(at, at.subject.seeing).invoke([HumanMessage(parts)]).text


def _tools(its: Integration) -> None:
    @cell("tools: auto, and their results")
    def tool_loop(at: At) -> None:
        model = its.model(at).bind_tools([get_weather])
        question = HumanMessage(at.subject.weather)
        for said in (model.invoke([question]), _whole(model.stream([question]))):
            (call,) = said.tool_calls
            assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
        result = ToolMessage(at.subject.observed, tool_call_id=call["id"], name="get_weather")
        assert at.subject.told in model.invoke([question, said, result]).text

    @cell("tools: required and named")
    def forced(at: At) -> None:
        for choice in its.forced:
            reply = its.model(at).bind_tools([get_weather], tool_choice=choice).invoke([HumanMessage("Hello")])
            assert {call["name"] for call in reply.tool_calls} == {"get_weather"}, choice


def _ends(its: Integration) -> None:
    @cell("stop and max_tokens")
    def ends(at: At) -> None:
        stop, before = at.subject.stopped
        assert its.model(at).invoke([HumanMessage(at.subject.ask)], stop=[stop]).text == before

    @cell("a system message and a history")
    def history(at: At) -> None:
        messages = [SystemMessage("Be brief."), HumanMessage("My name is Ada."), HumanMessage(at.subject.ask)]
        assert its.model(at).invoke(messages).text

    @cell("errors in the client's classes")
    def errors(at: At) -> None:
        raises(lambda: its.model(at, "nope").invoke("x"), its.unknown, "nope")

    @cell("leaving in mid-stream")
    def leaving(at: At) -> None:
        chunks = its.model(at, at.subject.long, max_tokens=2000).stream(at.subject.count)
        next(chunks)
        chunks.close()
        at.until_idle()


def _whole(chunks: Any) -> Any:
    """A stream as one message."""
    first, *others = chunks
    for chunk in others:
        first += chunk
    return first
