"""Calls that a model has to make, and reasoning before what is constrained, on each provider through a real worker."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.errors import InvalidConstraint
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


# ---- other families, by their templates ------------------------------------------------------------------------------

TEMPLATES = Path(__file__).parents[1] / "golden" / "templates"
WROTE = {
    "qwen-coder": "<tool_call>\n<function=set>\n<parameter=name>\nAnn\n</parameter>\n"
    "<parameter=age>\nold\n</parameter>\n</function>\n</tool_call>",
    "llama": '{"name": "set", "parameters": {"name": "Ann", "age": "old"}}',
    "mistral": '[TOOL_CALLS]set[ARGS]{"name": "Ann", "age": "old"}',
    "gpt-oss": '<|channel|>commentary to=functions.set <|constrain|>json<|message|>{"name": "Ann", "age": "old"}',
    "gemma": '<|tool_call>call:set{name:<|"|>Ann<|"|>,age:<|"|>old<|"|>}<tool_call|>',
}
"""What a model wants to write for a call, in a family's syntax: its second argument is no number."""


def speaking(family: str) -> Client:
    """The fake provider with a family's template, and behind it what the fake's own ends with."""
    source = (TEMPLATES / f"{family}.jinja").read_text(encoding="utf-8")
    return opened("fake", n_ctx=4096, chat_template=source + "{% if add_generation_prompt %}<|reply|>{% endif %}")


@pytest.mark.parametrize("family", WROTE)
def test_each_family_is_held_to_the_schemas_of_its_calls(family: str) -> None:
    says = f"[[say:{WROTE[family]}]]"
    loose, strict = (core.Tool("set", None, PERSON, strict=one) for one in (False, True))
    with speaking(family) as fake:
        [free] = fake.run(chat(says, tools=(loose,)), max_tokens=400).choices
        auto, choice = (core.ToolChoice(mode, parallel=False) for mode in ("auto", "required"))
        [held] = fake.run(chat(says, tools=(strict,), tool_choice=auto), max_tokens=400).choices
        [forced] = fake.run(chat(says, tools=(loose,), tool_choice=choice), max_tokens=400).choices
    assert [call.name for call in free.tool_calls] == ["set"]
    assert "old" in free.tool_calls[0].arguments
    for found in (held, forced):
        assert [call.name for call in found.tool_calls] == ["set"]
        assert is_person(found.tool_calls[0].arguments)
        assert found.done.reason == "tool_calls"
    assert json.loads(held.tool_calls[0].arguments)["name"] == "Ann"


def test_a_constraint_holds_the_final_message_of_harmony() -> None:
    thought = "<|channel|>analysis<|message|>So what?<|end|><|start|>assistant"
    with speaking("gpt-oss") as fake:
        for before, reasoning in ((thought, "So what?"), ("", "")):
            says = f'[[say:{before}<|channel|>final<|message|>{{"name": "Ann", "age": "old"}}]]'
            [found] = fake.run(chat(says), constraint=schema(PERSON), max_tokens=500).choices
            assert found.reasoning == reasoning
            assert is_person(found.text)
            assert '"Ann"' in found.text
            assert found.done.reason == "stop"


def test_a_call_of_harmony_comes_after_the_reasoning() -> None:
    says = f"[[say:<|channel|>analysis<|message|>So what?<|end|><|start|>assistant{WROTE['gpt-oss']}]]"
    tools = (core.Tool("set", None, PERSON),)
    with speaking("gpt-oss") as fake:
        [found] = fake.run(chat(says, tools=tools, tool_choice=core.ToolChoice("required")), max_tokens=500).choices
    assert found.reasoning == "So what?"
    assert is_person(found.tool_calls[0].arguments)


def test_a_strict_tool_that_a_family_cannot_hold_is_refused() -> None:
    either = {**PERSON, "anyOf": [{"required": ["name"]}, {"required": ["age"]}]}
    with speaking("qwen-coder") as fake, pytest.raises(InvalidConstraint, match="'set': arguments with alternatives"):
        fake.run(chat("Hello", tools=(core.Tool("set", None, either, strict=True),)))
