"""Answers held to a form, and calls that have to be made."""

import json
import re
from typing import Any

import pytest

from tests.contract.subjects import Subject

pytestmark = pytest.mark.integration

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
COUNTED = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["n"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "frobnicate", "parameters": COUNTED}},
    {"type": "function", "function": {"name": "quell"}},
]
ASK = "Please help me with this."


def is_person(text: str) -> bool:
    """Whether a text is a document of the schema."""
    found = json.loads(text)
    return (
        list(found) == ["name", "age"]
        and isinstance(found["name"], str)
        and len(found["name"]) <= 12
        and type(found["age"]) is int
        and 0 <= found["age"] <= 99
    )


def is_sound(function: dict[str, str]) -> bool:
    """Whether a call is one that the tools allow."""
    arguments: dict[str, Any] = json.loads(function["arguments"])
    if function["name"] == "frobnicate":
        return list(arguments) == ["n"] and arguments["n"] in range(1, 10)
    return function["name"] == "quell" and arguments == {}


@pytest.mark.asks("constraints")
@pytest.mark.parametrize("temperature", [0, 1.2])
def test_a_schema_is_kept_whole_and_streamed(subject: Subject, temperature: float) -> None:
    fields: dict[str, Any] = {"response_format": FORM, "temperature": temperature, "seed": 3, "max_tokens": 300}
    whole = subject.chat(ASK, **fields)["choices"][0]
    assert is_person(whole["message"]["content"])
    assert whole["finish_reason"] == "stop"
    pieces = [
        choice["delta"].get("content") or ""
        for chunk in subject.chat_lines(ASK, **fields)
        for choice in chunk["choices"]
    ]
    assert is_person("".join(pieces))


@pytest.mark.asks("constraints")
@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"guided_regex": r"[ab]{3}-\d{2}"}, "[ab]{3}-[0-9]{2}"),
        ({"guided_choice": ["never", "always"]}, "never|always"),
        ({"grammar": 'root ::= ("ab" | "a" "bc") "!"'}, "abc?!"),
        ({"grammar": 'start: "<" /[0-9]{1,3}/ ">"'}, "<[0-9]{1,3}>"),
        ({"response_format": {"type": "json_object"}}, r"\{.*\}"),
    ],
)
def test_every_other_form_is_kept(subject: Subject, fields: dict[str, Any], pattern: str) -> None:
    [choice] = subject.chat(ASK, temperature=0, max_tokens=300, **fields)["choices"]
    assert re.fullmatch(pattern, choice["message"]["content"], re.DOTALL)


@pytest.mark.asks("constraints")
def test_ollamas_format_is_kept_after_the_thinking(subject: Subject) -> None:
    asked = [{"role": "user", "content": subject.told("What is 2 + 3?", "[[think:2 and 3 more are 5.]][[say:5]]")}]
    options = {"temperature": 0, "num_predict": 400}
    message = subject.ollama("/api/chat", messages=asked, think=True, format=SCHEMA, options=options)["message"]
    assert message["thinking"]
    assert is_person(message["content"])


@pytest.mark.asks("forced_calls")
@pytest.mark.parametrize("temperature", [0, 1.2])
def test_a_call_that_must_be_made_is_a_valid_one(subject: Subject, temperature: float) -> None:
    fields: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    [choice] = subject.chat(ASK, temperature=temperature, seed=5, max_tokens=300, **fields)["choices"]
    [call] = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert is_sound(call["function"])


@pytest.mark.asks("forced_calls")
def test_a_tool_that_is_named_is_called(subject: Subject) -> None:
    named = {"type": "function", "function": {"name": "frobnicate"}}
    [choice] = subject.chat(ASK, temperature=0, max_tokens=300, tools=TOOLS, tool_choice=named)["choices"]
    [call] = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "frobnicate"
    assert is_sound(call["function"])
