"""Turns of a conversation, as the dialects with items and blocks put them together."""

from typing import Final

import msgspec

from heylook_llm import core

_GAP: Final = core.TextPart("\n\n")


def joined(first: core.Message, second: core.Message) -> core.Message:
    """Two turns of one speaker as one: templates want nobody twice in a row."""
    gap = (_GAP,) if first.parts and second.parts else ()
    return msgspec.structs.replace(
        first,
        parts=(*first.parts, *gap, *second.parts),
        reasoning=first.reasoning + second.reasoning,
        tool_calls=(*first.tool_calls, *second.tool_calls),
    )


def texts(text: str) -> tuple[core.Part, ...]:
    """A text as a turn's parts: none where it is empty."""
    return (core.TextPart(text),) if text else ()
