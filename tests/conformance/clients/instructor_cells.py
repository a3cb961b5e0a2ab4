"""instructor, over OpenAI's and Anthropic's APIs."""

from typing import Any

import anthropic
import instructor
import openai
import pydantic

from tests.conformance.cells import At, awaited, cell, raises

PACKAGE = "instructor"
GREEDY: Any = {"temperature": 0, "max_tokens": 300, "max_retries": 1}


class Person(pydantic.BaseModel):
    """Someone and where they live."""

    name: str
    city: str


def client(at: At, mode: instructor.Mode = instructor.Mode.TOOLS) -> Any:
    return instructor.from_openai(openai.OpenAI(base_url=at.v1, api_key="x", max_retries=0), mode=mode)


def asked(at: At) -> dict[str, Any]:
    return {"model": at.model, "messages": [{"role": "user", "content": at.subject.person}], **GREEDY}


@cell("structured output by a tool")
def by_tool(at: At) -> None:
    assert isinstance(client(at).chat.completions.create(response_model=Person, **asked(at)), Person)


@cell("structured output")
def by_schema(at: At) -> None:
    made = client(at, instructor.Mode.JSON_SCHEMA)
    assert isinstance(made.chat.completions.create(response_model=Person, **asked(at)), Person)


@cell("JSON mode")
def by_json(at: At) -> None:
    made = client(at, instructor.Mode.JSON)
    assert isinstance(made.chat.completions.create(response_model=Person, **asked(at)), Person)


@cell("chat, streamed")
def partial(at: At) -> None:
    made = client(at, instructor.Mode.JSON_SCHEMA)
    *_, last = made.chat.completions.create_partial(response_model=Person, **asked(at))
    assert last.name
    assert last.city


@cell("several objects, as they come", "llama_cpp", "mlx")  # the fake model says braces within texts
def iterable(at: At) -> None:
    found = list(client(at).chat.completions.create_iterable(response_model=Person, **asked(at)))
    assert all(isinstance(one, Person) for one in found)


@cell("the completion beside it")
def with_completion(at: At) -> None:
    person, completion = client(at).chat.completions.create_with_completion(response_model=Person, **asked(at))
    assert isinstance(person, Person)
    assert completion.usage.total_tokens > 0


@cell("async client")
def asynchronous(at: At) -> None:
    async def ask() -> Any:
        made: Any = instructor.from_openai(openai.AsyncOpenAI(base_url=at.v1, api_key="x", max_retries=0))
        return await made.chat.completions.create(response_model=Person, **asked(at))

    assert isinstance(awaited(ask()), Person)


@cell("Anthropic's API")
def anthropics(at: At) -> None:
    made: Any = instructor.from_anthropic(anthropic.Anthropic(base_url=at.url, api_key="x", max_retries=0))
    settings = {key: value for key, value in asked(at).items() if key != "temperature"}
    assert isinstance(made.messages.create(response_model=Person, **settings), Person)


@cell("errors in the client's classes")
def errors(at: At) -> None:
    def ask() -> Any:
        return client(at).chat.completions.create(response_model=Person, **{**asked(at), "model": "nope"})

    raises(ask, Exception, "not found")
