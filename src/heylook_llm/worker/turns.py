"""Earlier turns as a model's template wants them: how it names calls, and how many of them one turn may hold."""

import hashlib
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from heylook_llm import core
from heylook_llm.worker.formats.recognition import CallStyle

_NINE: Final = re.compile(r"[A-Za-z0-9]{9}")
_LETTERS: Final = string.digits + string.ascii_letters


def with_named_calls(messages: Iterable[core.Message], style: CallStyle) -> list[core.Message]:
    """The turns with ids that the template accepts: an answer keeps the id of the call that it answers."""
    if style.ids == "given":
        return list(messages)
    names: dict[str, str] = {}
    count = 0
    turns: list[core.Message] = []
    for message in messages:
        calls = []
        for call in message.tool_calls:
            named = _nine(call.id) if style.ids == "nine" else f"functions.{call.name}:{count}"
            names[call.id] = named
            calls.append(msgspec.structs.replace(call, id=named))
            count += 1
        answered = names.get(message.tool_call_id, message.tool_call_id)
        turns.append(msgspec.structs.replace(message, tool_calls=tuple(calls), tool_call_id=answered))
    return turns


def _nine(identity: str) -> str:
    """Nine letters and digits that hang on the id alone."""
    if _NINE.fullmatch(identity):
        return identity
    number = int.from_bytes(hashlib.sha256(identity.encode("utf-8", "replace")).digest()[:8])
    return "".join(_LETTERS[number // 62**at % 62] for at in range(9))


def with_text_as_reasoning(messages: Iterable[core.Message]) -> list[core.Message]:
    """The turns whose text stands before a call as the end of their reasoning, for there is no other place for it."""
    return [_reasoned(message) if message.tool_calls and message.text else message for message in messages]


def _reasoned(message: core.Message) -> core.Message:
    reasoning = "\n\n".join(filter(None, (message.reasoning, message.text)))
    return msgspec.structs.replace(message, parts=(), reasoning=reasoning)


def with_single_calls(messages: Sequence[core.Message]) -> list[core.Message]:
    """The turns with one call each: a turn of several becomes several, each with its answer behind it."""
    turns: list[core.Message] = []
    at = 0
    while at < len(messages):
        message, at = messages[at], at + 1
        if len(message.tool_calls) < 2:
            turns.append(message)
            continue
        answers: list[core.Message] = []
        while at < len(messages) and messages[at].role == "tool":
            answers.append(messages[at])
            at += 1
        turns.extend(_split(message, answers))
    return turns


def _split(message: core.Message, answers: list[core.Message]) -> Iterator[core.Message]:
    for number, call in enumerate(message.tool_calls):
        if number == 0:
            yield msgspec.structs.replace(message, tool_calls=(call,))
        else:
            yield core.Message("assistant", tool_calls=(call,))
        answer = next((one for one in answers if one.tool_call_id == call.id), None)
        if answer is not None:
            answers.remove(answer)
            yield answer
    yield from answers
