"""pydantic-ai's agents, over OpenAI's, Ollama's and Anthropic's APIs."""

from functools import partial
from typing import Any

import pydantic
from pydantic_ai import Agent, BinaryContent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.conformance.cells import At, awaited, cell, raises
from tests.conformance.subjects import circle

PACKAGE = "pydantic-ai-slim"
GREEDY: Any = {"temperature": 0, "max_tokens": 300}


class Person(pydantic.BaseModel):
    """Someone and where they live."""

    name: str
    city: str


def models(at: At, name: str = "") -> list[Any]:
    """One of each API."""
    name = name or at.model
    return [
        OpenAIChatModel(name, provider=OpenAIProvider(base_url=at.v1, api_key="x")),
        OllamaModel(name, provider=OllamaProvider(base_url=at.v1)),
        AnthropicModel(name, provider=AnthropicProvider(base_url=at.url, api_key="x")),
    ]


def run(agent: Any, *prompt: Any) -> Any:
    return awaited(agent.run(prompt if len(prompt) > 1 else prompt[0], model_settings=GREEDY))


@cell("chat")
def chat(at: At) -> None:
    for model in models(at):
        result = run(Agent(model), at.subject.ask)
        assert result.output == at.subject.answer, model.system
        assert result.usage.output_tokens > 0


@cell("chat, streamed")
def stream(at: At) -> None:
    async def said(model: Any) -> str:
        async with Agent(model).run_stream(at.subject.ask, model_settings=GREEDY) as result:
            return "".join([piece async for piece in result.stream_text(delta=True)])

    for model in models(at):
        assert awaited(said(model)) == at.subject.answer, model.system


@cell("tools: auto, and their results")
def tool_loop(at: At) -> None:
    for model in models(at):
        agent: Any = Agent(model)
        asked: list[str] = []

        @agent.tool_plain
        def get_weather(city: str) -> str:
            """Get the weather in a city"""
            asked.append(city)  # noqa: B023  # called within this turn of the loop
            return at.subject.observed

        assert at.subject.told in run(agent, at.subject.weather).output, model.system
        assert asked == ["Paris"]


@cell("structured output")
def structured(at: At) -> None:
    for model in models(at)[:2]:
        for form in (ToolOutput(Person), NativeOutput(Person)):
            assert isinstance(run(Agent(model, output_type=form), at.subject.person).output, Person), (
                model.system,
                form,
            )
    assert isinstance(run(Agent(models(at)[2], output_type=ToolOutput(Person)), at.subject.person).output, Person)


@cell("JSON mode", "fake")
def prompted(at: At) -> None:
    agent: Any = Agent(models(at)[0], output_type=PromptedOutput(Person))
    assert isinstance(run(agent, at.subject.person).output, Person)


@cell("images")
def images(at: At) -> None:
    for model in models(at, at.subject.seeing):
        said = run(Agent(model), at.subject.see, BinaryContent(circle(), media_type="image/png")).output
        assert at.subject.seen in said, model.system


@cell("errors in the client's classes")
def errors(at: At) -> None:
    for model in models(at, "nope"):
        problem = raises(partial(run, Agent(model), "x"), ModelHTTPError, "nope")
        assert problem.status_code == 404
