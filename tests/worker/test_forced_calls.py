"""Calls that a model has to make, and reasoning before what is constrained, on each provider through a real worker."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.errors import UnsupportedFeature
from tests.worker.client import Client, chat
from tests.worker.test_constraints import MODELS, PERSON, is_person, opened, schema

pytestmark = pytest.mark.integration

UNSEEN = (
    core.Tool(
        "vexiliate_zone",
        "Raises the flag of a zone",
        {
            "type": "object",
            "properties": {
                "zone": {"type": "string", "maxLength": 12},
                "height": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["zone", "height"],
            "additionalProperties": False,
        },
    ),
    core.Tool("qorb7", None, {"type": "object", "properties": {"on": {"$ref": "#/$defs/s"}}, "required": ["on"],
                              "additionalProperties": False, "$defs": {"s": {"type": "boolean"}}}),
    core.Tool("nothing_at_all", "Takes nothing", {"additionalProperties": False}),
)  # fmt: skip
SAMPLINGS: list[dict[str, Any]] = [{"temperature": 0.0}, {"temperature": 1.2, "seed": 5}]


@pytest.fixture(params=list(MODELS), scope="module")
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A worker with each of the providers."""
    with opened(request.param) as one:
        yield one


def is_sound(call: core.ToolCall) -> bool:
    """Whether a call is one that the tools above allow."""
    given: dict[str, Any] = json.loads(call.arguments)
    match call.name:
        case "vexiliate_zone":
            return set(given) == {"zone", "height"} and len(given["zone"]) <= 12 and given["height"] in range(1, 10)
        case "qorb7":
            return list(given) == ["on"] and isinstance(given["on"], bool)
        case "nothing_at_all":
            return given == {}
    return False


def asked(text: str = "Please help me with this.", **fields: Any) -> core.ChatPrompt:
    """A chat with those tools."""
    return chat(text, tools=UNSEEN, **fields)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "sampled"])
def test_a_required_call_is_a_valid_one_of_the_tools(client: Client, sampling: dict[str, Any]) -> None:
    choice = core.ToolChoice("required", parallel=False)
    [found] = client.run(asked(tool_choice=choice), max_tokens=300, **sampling).choices
    assert found.done.reason == "tool_calls"
    assert found.text == ""
    assert len(found.tool_calls) == 1
    assert is_sound(found.tool_calls[0])


@pytest.mark.parametrize("name", [tool.name for tool in UNSEEN])
def test_a_named_call_is_that_one(client: Client, name: str) -> None:
    choice = core.ToolChoice("required", (name,), parallel=False)
    [found] = client.run(asked(tool_choice=choice), max_tokens=300, temperature=0.0).choices
    assert [call.name for call in found.tool_calls] == [name]
    assert is_sound(found.tool_calls[0])


def test_each_choice_calls_for_itself_beside_free_neighbours(client: Client) -> None:
    greedy = {"temperature": 0.0, "max_tokens": 20}
    alone = client.run(chat("Spell cat"), **greedy).choices[0].text
    forced = client.submit(asked(tool_choice=core.ToolChoice("required", parallel=False)), temperature=0.9, seed=1)
    free = client.submit(chat("Spell cat"), **greedy)
    events = client.events([forced, free])
    assert "".join(event.text for event in events[free] if isinstance(event, core.Text)) == alone
    assert [event.name for event in events[forced] if isinstance(event, core.ToolCallStart)]


def test_several_calls_may_come_where_they_may() -> None:
    with opened("fake") as fake:
        two = '[[call:qorb7 {"on": true}]][[call:nothing_at_all {}]]'
        for parallel, names in ((True, ["qorb7", "nothing_at_all"]), (False, ["qorb7"])):
            choice = core.ToolChoice("required", parallel=parallel)
            [found] = fake.run(asked(two, tool_choice=choice), max_tokens=300).choices
            assert [call.name for call in found.tool_calls] == names
            assert found.done.reason == "tool_calls"


def test_strict_tools_hold_a_free_model_to_their_schemas() -> None:
    strict = (core.Tool("set", None, PERSON, strict=True),)
    wrong = '[[say:Sure, I will.]][[call:set {"name": "Ann", "age": 7}]]'
    with opened("fake") as fake:
        [held] = fake.run(chat(wrong, tools=strict), max_tokens=400).choices
        [loose] = fake.run(chat(wrong, tools=(core.Tool("set", None, PERSON),)), max_tokens=400).choices
    assert held.text == loose.text == "Sure, I will."
    assert is_person(held.tool_calls[0].arguments)
    assert json.loads(loose.tool_calls[0].arguments) == {"name": "Ann", "age": 7}


def test_a_schema_leaves_calls_possible() -> None:
    with opened("fake") as fake:
        called = fake.run(asked('[[call:qorb7 {"on": false}]]'), constraint=schema(PERSON)).choices[0]
        answered = fake.run(asked("hello"), constraint=schema(PERSON)).choices[0]
    assert [call.name for call in called.tool_calls] == ["qorb7"]
    assert answered.tool_calls == ()
    assert is_person(answered.text)


def test_a_call_that_the_limit_cuts_short_says_so(client: Client) -> None:
    choice = core.ToolChoice("required", ("vexiliate_zone",), parallel=False)
    [found] = client.run(asked(tool_choice=choice), max_tokens=6, temperature=0.0).choices
    assert found.done.reason == "length"


# ---- after the reasoning ---------------------------------------------------------------------------------------------


def test_a_constraint_begins_where_the_reasoning_ends(client: Client) -> None:
    prompt = chat("What is 12 + 30?", thinking=True)
    [found] = client.run(prompt, constraint=schema(PERSON), max_tokens=500, temperature=0.0).choices
    assert found.reasoning
    assert is_person(found.text)
    assert found.done.reason == "stop"


def test_without_reasoning_it_begins_at_once(client: Client) -> None:
    for thinking in (None, False):
        prompt = chat("What is 12 + 30?", thinking=thinking)
        [found] = client.run(prompt, constraint=schema(PERSON), max_tokens=500, temperature=0.0).choices
        assert found.reasoning == ""
        assert is_person(found.text)


def test_a_required_call_comes_after_the_reasoning(client: Client) -> None:
    prompt = asked(tool_choice=core.ToolChoice("required", parallel=False), thinking=True)
    [found] = client.run(prompt, max_tokens=500, temperature=0.0).choices
    assert found.reasoning
    assert is_sound(found.tool_calls[0])


def test_reasoning_that_never_ends_is_cut_by_the_limit() -> None:
    with opened("fake") as fake:
        prompt = chat("[[think:so]][[say:x]]", thinking=True)
        [found] = fake.run(prompt, constraint=core.Constraint("regex", "[0-9]{3};"), max_tokens=40).choices
        assert found.reasoning == "so"
        assert re.fullmatch("[0-9]{3};", found.text)
        [cut] = fake.run(prompt, constraint=schema(PERSON), max_tokens=5).choices
        assert (cut.text, cut.done.reason) == ("", "length")


def test_a_raw_prompt_is_constrained_at_once(client: Client) -> None:
    rule = core.Constraint("regex", "[ab]{4}")
    [found] = client.run(core.TextPrompt("The letters are "), constraint=rule, max_tokens=20, temperature=0.0).choices
    assert re.fullmatch("[ab]{4}", found.text)


def test_a_family_whose_calls_cannot_be_forced_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import random

    from heylook_llm.worker import constrain
    from heylook_llm.worker.prepare import Model
    from heylook_llm.worker.providers.fake import Fake

    monkeypatch.setattr(constrain, "call_grammar", lambda form, tools: None)
    model = Model("m", Fake({}), random.Random(), lambda: 0)
    request = core.Request("r", "m", (asked(tool_choice=core.ToolChoice("required")),))
    with pytest.raises(UnsupportedFeature, match="can't be forced"):
        model.prepare(1, request)
