"""Images for tests, and chats with them."""

from typing import Any

from heylook_llm import core


def picture(width: int, height: int, colour: tuple[int, int, int] = (200, 30, 40)) -> core.ImagePart:
    """An image of one colour."""
    return core.ImagePart(bytes(colour) * (width * height), width, height)


def shown(*parts: str | core.ImagePart, **fields: Any) -> core.ChatPrompt:
    """A chat of one turn with texts and images."""
    return core.ChatPrompt((turn("user", *parts),), **fields)


def turn(role: str, *parts: str | core.ImagePart) -> core.Message:
    """A message with texts and images."""
    return core.Message(role, tuple(core.TextPart(part) if isinstance(part, str) else part for part in parts))
