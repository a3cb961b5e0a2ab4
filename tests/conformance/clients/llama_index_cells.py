"""LlamaIndex over Ollama's API."""

from typing import Any

import ollama
import pydantic
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.ollama import Ollama

from tests.conformance.cells import At, awaited, cell, raises
from tests.conformance.subjects import circle

PACKAGE = "llama-index-llms-ollama"


class Person(pydantic.BaseModel):
    """What is asked for as JSON."""

    name: str
    city: str


def get_weather(city: str) -> str:
    """Get the weather in a city"""
    return city


def model(at: At, name: str = "", **options: Any) -> Any:
    settings: dict[str, Any] = {"temperature": 0, "thinking": False, "request_timeout": 60, **options}
    more = {"num_predict": 300} | settings.pop("additional_kwargs", {})
    return Ollama(model=name or at.model, base_url=at.url, additional_kwargs=more, **settings)


def user(text: str) -> list[Any]:
    return [ChatMessage(role=MessageRole.USER, content=text)]


@cell("chat")
def chat(at: At) -> None:
    assert model(at).chat(user(at.subject.ask)).message.content == at.subject.answer
    assert model(at).complete(at.subject.ask).text == at.subject.answer


@cell("chat, streamed")
def stream(at: At) -> None:
    *_, last = model(at).stream_chat(user(at.subject.ask))
    assert last.message.content == at.subject.answer


@cell("async client")
def asynchronous(at: At) -> None:
    assert awaited(model(at).achat(user(at.subject.ask))).message.content == at.subject.answer


@cell("the model's context, by /api/show")
def context(at: At) -> None:
    assert model(at).metadata.context_window > 0
    assert model(at).get_context_window() == 4096


@cell("tools: auto, and their results")
def tool_loop(at: At) -> None:
    made, tools = model(at), [FunctionTool.from_defaults(get_weather, name="get_weather")]
    said = made.chat_with_tools(tools, chat_history=user(at.subject.weather))
    (call,) = made.get_tool_calls_from_response(said)
    assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Paris"})
    result = ChatMessage(
        role=MessageRole.TOOL, content=at.subject.observed, additional_kwargs={"tool_call_id": call.tool_id}
    )
    again = made.chat_with_tools(tools, chat_history=[*user(at.subject.weather), said.message, result])
    assert at.subject.told in again.message.content


@cell("structured output")
def structured(at: At) -> None:
    made = model(at)
    assert isinstance(
        made.structured_predict(Person, PromptTemplate(at.subject.person.replace("{", "{{").replace("}", "}}"))), Person
    )


@cell("images")
def images(at: At) -> None:
    blocks = [TextBlock(text=at.subject.see), ImageBlock(image=circle())]
    reply = model(at, at.subject.seeing).chat([ChatMessage(role=MessageRole.USER, blocks=blocks)])
    assert at.subject.seen in reply.message.content


@cell("stop and max_tokens")
def ends(at: At) -> None:
    stop, before = at.subject.stopped
    made = model(at, additional_kwargs={"stop": [stop]})
    assert made.chat(user(at.subject.ask)).message.content == before


@cell("thinking")
def thinking(at: At) -> None:
    reply = model(at, thinking=True).chat(user(at.subject.think))
    assert at.subject.thought in reply.message.content
    assert reply.raw["message"]["thinking"].strip()


@cell("errors in the client's classes")
def errors(at: At) -> None:
    raises(lambda: model(at, "nope", context_window=4096).chat(user("x")), ollama.ResponseError, "'nope' not found")
