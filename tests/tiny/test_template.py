"""The bundled model's chat template renders what the model was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

import heylook_llm.tiny

pytestmark = pytest.mark.unit

TEMPLATE = Path(heylook_llm.tiny.__file__).parent / "heylook-tiny-mlx/chat_template.jinja"
DEFAULT = "<|im_start|>system\nYou are heylook-tiny, a very small model.<|im_end|>\n"
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def render(messages: list[dict[str, Any]], **more: Any) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = refuse
    return environment.from_string(TEMPLATE.read_text()).render(messages=messages, **more)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_default_system_and_generation_prompt() -> None:
    assert (
        render([user("Hi")], add_generation_prompt=True)
        == f"{DEFAULT}<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_given_system() -> None:
    text = render([{"role": "system", "content": "You are Nova."}, user("Hi")])
    assert text == "<|im_start|>system\nYou are Nova.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"


def test_thinking_opens_the_block_only_when_asked() -> None:
    assert render([user("Hi")], add_generation_prompt=True, enable_thinking=True).endswith(
        "<|im_start|>assistant\n<think>\n"
    )
    assert "<think>" not in render([user("Hi")], add_generation_prompt=True, enable_thinking=False)


def test_reasoning_of_earlier_turns_is_dropped() -> None:
    answer = {"role": "assistant", "content": "4", "reasoning_content": "2 + 2"}
    assert "2 + 2" not in render([user("a"), answer, user("b")])
    assert "<|im_start|>assistant\n<think>\n2 + 2\n</think>\n\n4<|im_end|>\n" in render([user("a"), answer])


def test_tools_stand_in_the_system_turn() -> None:
    text = render([user("Hi")], tools=[WEATHER])
    assert "\n<tools>\n" + json.dumps(WEATHER["function"]) + "\n</tools><|im_end|>\n" in text
    assert text == render([user("Hi")], tools=[WEATHER["function"]])


@pytest.mark.parametrize("arguments", [{"city": "Paris"}, '{"city": "Paris"}'])
def test_tool_calls_and_results(arguments: object) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    messages = [
        user("Weather?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
    ]
    expected = (
        "<|im_start|>assistant\n"
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n"
    )
    assert render(messages, tools=[WEATHER]).endswith(expected)


def test_results_of_several_calls_share_a_turn() -> None:
    text = render([user("a"), {"role": "tool", "content": "x"}, {"role": "tool", "content": "y"}])
    assert text.endswith(
        "<|im_start|>user\n<tool_response>\nx\n</tool_response>\n<tool_response>\ny\n</tool_response><|im_end|>\n"
    )


def test_content_in_parts() -> None:
    assert "\nHello you<|im_end|>" in render(
        [user([{"type": "text", "text": "Hello "}, {"type": "text", "text": "you"}])]
    )


def test_unknown_role_is_refused() -> None:
    with pytest.raises(jinja2.TemplateError, match="roles system, user"):
        render([{"role": "critic", "content": "no"}])
