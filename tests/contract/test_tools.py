"""Tool calls and reasoning, read from the model's own way to write them."""

import json
from typing import Any

import pytest

from tests.contract.subjects import Subject

pytestmark = pytest.mark.integration

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
QUESTION = "What is the weather in Paris?"
CALLS = '[[call:get_weather {"city": "Paris"}]]'
SUM = "What is 2 + 3?"
THINKS = "[[think:2 and 3 more are 5.]][[say:2 + 3 = 5]]"


@pytest.mark.asks("tools")
def test_a_tool_is_called(subject: Subject) -> None:
    [choice] = subject.chat(subject.told(QUESTION, CALLS), tools=[WEATHER])["choices"]
    [call] = choice["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("get_weather", {"city": "Paris"})
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.asks("tools")
def test_a_call_is_streamed_in_pieces(subject: Subject) -> None:
    name, arguments = "", ""
    for chunk in subject.chat_lines(subject.told(QUESTION, CALLS), tools=[WEATHER]):
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                name += call["function"].get("name") or ""
                arguments += call["function"].get("arguments") or ""
    assert (name, json.loads(arguments)) == ("get_weather", {"city": "Paris"})


@pytest.mark.asks("tools")
def test_no_tool_is_called_where_none_may_be(subject: Subject) -> None:
    [choice] = subject.chat(subject.told(QUESTION, "[[say:It rains.]]"), tools=[WEATHER], tool_choice="none")["choices"]
    assert not choice["message"].get("tool_calls")
    assert choice["message"]["content"]


@pytest.mark.asks("tools")
def test_the_answer_of_a_tool_is_told(subject: Subject) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    messages: list[Any] = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"temperature": 18, "condition": "sunny"}'},
    ]
    assert "18" in subject.text(messages=messages, tools=[WEATHER])


@pytest.mark.asks("reasoning")
def test_reasoning_is_kept_apart_and_comes_only_where_asked(subject: Subject) -> None:
    question = [{"role": "user", "content": subject.told(SUM, THINKS)}]
    thought = subject.ollama("/api/chat", messages=question, think=True)["message"]
    assert thought["thinking"]
    assert "5" in thought["content"]
    assert "<think>" not in thought["content"]
    [choice] = subject.chat(messages=question, think=True)["choices"]
    assert choice["message"]["reasoning_content"] == thought["thinking"]
    plain = [{"role": "user", "content": subject.told(SUM, "[[say:2 + 3 = 5]]")}]
    assert "thinking" not in subject.ollama("/api/chat", messages=plain, think=False)["message"]


@pytest.mark.asks("reasoning")
def test_reasoning_is_streamed_and_counted(subject: Subject) -> None:
    thought, text = "", ""
    usage: dict[str, Any] = {}
    fields: dict[str, Any] = {"think": True, "stream_options": {"include_usage": True}}
    for chunk in subject.chat_lines(subject.told(SUM, THINKS), **fields):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            thought += choice["delta"].get("reasoning_content") or ""
            text += choice["delta"].get("content") or ""
    assert thought
    assert "5" in text
    assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] < usage["completion_tokens"]
