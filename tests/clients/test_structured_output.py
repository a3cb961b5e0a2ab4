"""Both SDKs' helpers for structured output and tools with pydantic models, on the bundled model and the fake one."""

import json
import re
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Literal

import httpx
import ollama
import openai
import pydantic
import pytest
from pydantic import Field

from tests.serving import Running

pytestmark = pytest.mark.integration

TINY = "heylook-tiny"


class Colour(Enum):
    """An enum, which becomes a $ref."""

    RED = "red"
    GREEN = "green"


class Step(pydantic.BaseModel):
    """A nested model."""

    number: Annotated[int, Field(ge=0, le=99)]
    text: Annotated[str, Field(max_length=12)]


class Plan(pydantic.BaseModel):
    """Unions, lists, enums, optionals, literals and defaults, as people write them."""

    title: Annotated[str, Field(max_length=16)]
    colour: Colour
    kind: Literal["short", "long"]
    steps: Annotated[list[Step], Field(max_length=2)]
    note: Annotated[str, Field(max_length=8)] | None
    size: int | bool
    ratio: float


class Tree(pydantic.BaseModel):
    """Refers to itself."""

    value: Annotated[int, Field(ge=0, le=9)]
    children: Annotated[list["Tree"], Field(max_length=1)]


class Book(pydantic.BaseModel):
    """A tool's arguments."""

    hotel: Annotated[str, Field(max_length=10)]
    nights: Annotated[int, Field(ge=1, le=30)]


ASK: list[Any] = [{"role": "user", "content": "Answer in JSON: a plan for the day."}]
NODE: list[Any] = [{"role": "user", "content": 'Repeat after me: {"value": 3, "children": []}'}]
BOOK: list[Any] = [{"role": "user", "content": "Book the zorvex for 3 nights."}]
TOOLS: list[Any] = [
    openai.pydantic_function_tool(Book, name="zorvex_book"),
    {
        "type": "function",
        "function": {
            "name": "blim",
            "strict": True,
            "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
        },
    },
]


@pytest.fixture
def tiny(tiny_server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{tiny_server.url}/v1", api_key="x", max_retries=0) as made:
        yield made


@pytest.fixture
def fake(fake_server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fake_server.url}/v1", api_key="x", max_retries=0) as made:
        yield made


# ---- openai ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1.3, "seed": 4}], ids=["greedy", "sampled"])
@pytest.mark.parametrize(("model", "ask"), [(Plan, ASK), (Step, ASK), (Tree, NODE)], ids=["plan", "step", "tree"])
def test_parse_gives_the_model(
    tiny: openai.OpenAI, model: type[pydantic.BaseModel], ask: list[Any], sampling: dict[str, Any]
) -> None:
    extra: dict[str, Any] = (
        {"frequency_penalty": 2} if model is Tree else {}
    )  # else it may say the same child for ever, as it may
    reply = tiny.chat.completions.parse(
        model=TINY, messages=ask, response_format=model, max_tokens=900, **sampling, **extra
    )
    assert reply.choices[0].finish_reason == "stop"
    assert isinstance(reply.choices[0].message.parsed, model)


@pytest.mark.parametrize("model", [Plan, Tree])
def test_parse_gives_the_model_whatever_the_answer(fake: openai.OpenAI, model: type[pydantic.BaseModel]) -> None:
    """The fake model prefers what ends soonest; the bundled one may grow a tree for ever, as its schema allows."""
    reply = fake.chat.completions.parse(
        model="fake", messages=ASK, response_format=model, max_tokens=900, temperature=0
    )
    assert reply.choices[0].finish_reason == "stop"
    assert isinstance(reply.choices[0].message.parsed, model)


def test_parse_gives_each_choice(tiny: openai.OpenAI) -> None:
    reply = tiny.chat.completions.parse(
        model=TINY, messages=ASK, response_format=Step, n=3, temperature=1.2, seed=4, max_tokens=200
    )
    assert all(isinstance(choice.message.parsed, Step) for choice in reply.choices)


def test_the_stream_helper_parses(tiny: openai.OpenAI) -> None:
    with tiny.chat.completions.stream(
        model=TINY, messages=ASK, response_format=Plan, temperature=0, max_tokens=900
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"content.delta", "content.done"} <= kinds
    assert isinstance(final.choices[0].message.parsed, Plan)


def test_an_answer_that_the_limit_cuts_short_is_an_error_of_the_sdk(tiny: openai.OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        tiny.chat.completions.parse(model=TINY, messages=ASK, response_format=Plan, temperature=0, max_tokens=5)


def test_json_mode_and_local_extensions(tiny: openai.OpenAI) -> None:
    def said(**fields: Any) -> str:
        create: Any = tiny.chat.completions.create
        return str(create(model=TINY, messages=ASK, max_tokens=200, **fields).choices[0].message.content)

    assert isinstance(json.loads(said(temperature=0, response_format={"type": "json_object"})), dict)
    assert re.fullmatch(r"[a-z]{3}-[0-9]{2}", said(extra_body={"guided_regex": r"[a-z]{3}-\d{2}"}))
    assert said(extra_body={"guided_choice": ["yes", "no"]}) in ("yes", "no")
    assert re.fullmatch(r"\[[a-c]+(, [a-c]+){1,3}\]", said(extra_body={"grammar": LIST}))
    assert re.fullmatch("<[0-9]+>", said(extra_body={"structured_outputs": {"grammar": 'start: "<" /[0-9]{1,4}/ ">"'}}))


LIST = r"""
root ::= "[" item (", " item){1,3} "]"
item ::= [a-c]{1,4}
"""


def test_the_legacy_route_is_constrained_too(tiny: openai.OpenAI) -> None:
    reply = tiny.completions.create(
        model=TINY, prompt=["One: ", "Two: "], max_tokens=40, temperature=0, extra_body={"guided_regex": "[xyz]{5}"}
    )
    assert all(re.fullmatch("[xyz]{5}", choice.text) for choice in reply.choices)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_required_call_of_tools_that_the_model_never_saw(tiny: openai.OpenAI, stream: bool) -> None:
    asked: Any = {"model": TINY, "messages": BOOK, "tools": TOOLS, "tool_choice": "required"}
    asked |= {"temperature": 0, "max_tokens": 300}
    if stream:
        with tiny.chat.completions.stream(**asked) as events:
            reply = events.get_final_completion()
    else:
        reply = tiny.chat.completions.parse(**asked)
    assert reply.choices[0].finish_reason == "tool_calls"
    calls = reply.choices[0].message.tool_calls
    assert calls
    for call in calls:
        assert call.function.name in ("zorvex_book", "blim")
        assert call.function.name != "zorvex_book" or isinstance(call.function.parsed_arguments, Book)


def test_a_named_and_an_allowed_tool(tiny: openai.OpenAI) -> None:
    named: Any = {"type": "function", "function": {"name": "zorvex_book"}}
    reply = tiny.chat.completions.parse(
        model=TINY, messages=BOOK, tools=TOOLS, tool_choice=named, temperature=0, max_tokens=300
    )
    [call] = reply.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Book)
    assert reply.choices[0].finish_reason == "stop"
    allowed: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOLS[1]]}}
    again = tiny.chat.completions.create(
        model=TINY, messages=BOOK, tools=TOOLS, tool_choice=allowed, temperature=0, max_tokens=60,
        parallel_tool_calls=False,
    )  # fmt: skip
    assert [call.function.name for call in again.choices[0].message.tool_calls or []] == ["blim"]  # type: ignore[union-attr]


def test_stop_strings_and_logprobs_go_with_a_constraint(tiny: openai.OpenAI) -> None:
    reply = tiny.chat.completions.create(
        model=TINY, messages=ASK, response_format={"type": "json_object"}, temperature=0, max_tokens=200, stop=[":"],
        logprobs=True, top_logprobs=2,
    )  # fmt: skip
    [choice] = reply.choices
    assert choice.finish_reason == "stop"
    assert choice.message.content is not None
    assert choice.message.content.startswith("{")
    assert ":" not in choice.message.content
    assert choice.logprobs is not None
    assert choice.logprobs.content


def test_a_wrong_schema_is_a_400_that_names_it(fake: openai.OpenAI) -> None:
    def wrong(schema: object, **more: Any) -> openai.BadRequestError:
        form: Any = {"type": "json_schema", "json_schema": {"name": "Person", "schema": schema, **more}}
        with pytest.raises(openai.BadRequestError) as caught:
            fake.chat.completions.create(model="fake", messages=ASK, response_format=form)
        return caught.value

    told = wrong({"type": "nonsense"})
    assert (told.param, told.code) == ("response_format", "invalid_json_schema")
    assert "Invalid schema for response_format 'Person'" in told.message
    assert "not" in wrong({"type": "string", "not": {"const": "a"}}, strict=True).message


def test_what_cannot_be_followed_is_named_in_the_header(fake_server: Running) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "format": "shoe-size"}}, "not": {}}
    body = {
        "model": "fake",
        "messages": ASK,
        "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
    }
    reply = httpx.post(fake_server.url + "/v1/chat/completions", json=body, timeout=60)
    assert reply.status_code == 200
    assert reply.headers["x-heylook-ignored"] == "schema:not, schema:format=shoe-size"


# ---- ollama ----------------------------------------------------------------------------------------------------------


def test_ollamas_format_is_a_schema_or_json(tiny_server: Running) -> None:
    client = ollama.Client(tiny_server.url)
    options = {"temperature": 0, "num_predict": 900}
    for model, ask, more in ((Plan, ASK, {}), (Tree, NODE, {"frequency_penalty": 2.0})):
        asked: dict[str, Any] = {"messages": ask, "format": model.model_json_schema(), "options": options | more}
        reply = client.chat(TINY, **asked, think=False)
        model.model_validate_json(reply.message.content or "")
        pieces = client.chat(TINY, **asked, think=False, stream=True)
        assert "".join(piece.message.content or "" for piece in pieces) == reply.message.content
    said = client.generate(TINY, prompt="A plan in JSON.", format="json", think=False, options=options).response
    assert isinstance(json.loads(said or ""), dict)


def test_ollama_thinks_first_and_then_keeps_to_the_format(tiny_server: Running) -> None:
    client = ollama.Client(tiny_server.url)
    options = {"temperature": 0, "num_predict": 900}
    reply = client.chat(TINY, messages=ASK, format=Step.model_json_schema(), think=True, options=options)
    assert reply.message.thinking
    Step.model_validate_json(reply.message.content or "")


def test_ollama_says_what_is_wrong_with_a_format(fake_server: Running) -> None:
    client = ollama.Client(fake_server.url)
    with pytest.raises(ollama.ResponseError, match="invalid JSON schema in format") as caught:
        client.chat("fake", messages=ASK, format={"type": "nonsense"})
    assert caught.value.status_code == 400
