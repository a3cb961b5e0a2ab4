"""Earlier turns as templates want them: ids that they accept, one call in a turn, and the same text of the model's."""

import datetime
from pathlib import Path

import pytest

from heylook_llm import core
from heylook_llm.worker.formats.recognition import CallStyle
from heylook_llm.worker.prompt import ChatTemplate
from heylook_llm.worker.turns import with_named_calls, with_single_calls

pytestmark = pytest.mark.unit

NOW = datetime.datetime(2026, 11, 20, 12, 0, tzinfo=datetime.UTC)
TEMPLATES = Path(__file__).parents[1] / "golden" / "templates"
USER = core.Message("user", (core.TextPart("Hi"),))
ADD = core.Tool("add", "Adds.", {"type": "object"})


def call(identity: str, arguments: str = '{"a": 1}') -> core.ToolCall:
    return core.ToolCall(identity, "add", arguments)


def answer(identity: str, text: str) -> core.Message:
    return core.Message("tool", (core.TextPart(text),), tool_call_id=identity, name="add")


BOTH = core.Message("assistant", tool_calls=(call("call_one"), call("call_two", '{"a": 2}')), reasoning="Both.")
EXCHANGE = (USER, BOTH, answer("call_two", "second"), answer("call_one", "first"))


def rendered(family: str, *messages: core.Message) -> str:
    source = (TEMPLATES / f"{family}.jinja").read_text(encoding="utf-8")
    return ChatTemplate(source, model="m", bos="<s>", eos="</s>").render(core.ChatPrompt(messages, (ADD,)), NOW).text


def test_ids_of_nine_letters_are_the_same_for_a_call_and_its_answer() -> None:
    turns = with_named_calls(EXCHANGE, CallStyle(ids="nine"))
    one, two = turns[1].tool_calls
    assert (turns[2].tool_call_id, turns[3].tool_call_id) == (two.id, one.id)
    assert one.id != two.id
    assert all(len(each.id) == 9 and each.id.isalnum() for each in (one, two))
    assert with_named_calls(EXCHANGE, CallStyle(ids="nine")) == turns, "they hang on nothing else"
    kept = core.Message("assistant", tool_calls=(call("abcDEF123"),))
    assert with_named_calls([kept], CallStyle(ids="nine")) == [kept]


def test_numbered_ids_count_through_the_conversation_even_where_given_ones_come_again() -> None:
    again = core.Message("assistant", tool_calls=(call("call_one"),))
    turns = with_named_calls((*EXCHANGE, again, answer("call_one", "third")), CallStyle(ids="numbered"))
    assert [each.id for turn in turns for each in turn.tool_calls] == [f"functions.add:{at}" for at in range(3)]
    assert [turn.tool_call_id for turn in turns if turn.role == "tool"] == [f"functions.add:{at}" for at in (1, 0, 2)]


def test_a_turn_of_several_calls_becomes_several_each_with_its_answer() -> None:
    turns = with_single_calls([*EXCHANGE, USER])
    assert [(turn.role, turn.text or [each.id for each in turn.tool_calls]) for turn in turns] == [
        ("user", "Hi"),
        ("assistant", ["call_one"]),
        ("tool", "first"),
        ("assistant", ["call_two"]),
        ("tool", "second"),
        ("user", "Hi"),
    ]
    assert [turn.reasoning for turn in turns if turn.role == "assistant"] == ["Both.", ""]


def test_an_answer_to_no_call_of_its_turn_stays() -> None:
    stray = answer("other", "stray")
    assert with_single_calls([USER, BOTH, stray])[-1] == stray


def test_templates_that_are_strict_about_calls_take_any_conversation() -> None:
    mistral = rendered("mistral-array", *EXCHANGE, USER)
    assert mistral.count('"id": "') == mistral.count('"call_id": "') == 2
    llama = rendered("llama", *EXCHANGE)
    assert llama.index('{"a": 1}') < llama.index('"first"') < llama.index('{"a": 2}') < llama.index('"second"')
    kimi = rendered("kimi", *EXCHANGE)
    assert "functions.add:0<|tool_call_argument_begin|>" in kimi
    assert "## Return of functions.add:1\nsecond" in kimi


def test_gpt_oss_takes_a_turn_of_calls_with_both_text_and_reasoning() -> None:
    both = core.Message("assistant", (core.TextPart("I'll add."),), reasoning="Sum.", tool_calls=(call("call_one"),))
    text = rendered("gpt-oss", USER, both, answer("call_one", "1"))
    assert "<|channel|>analysis<|message|>Sum.\n\nI'll add.<|end|>" in text


def test_arguments_are_text_where_the_template_needs_text() -> None:
    assert 'add<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜>' in rendered("deepseek", *EXCHANGE)
