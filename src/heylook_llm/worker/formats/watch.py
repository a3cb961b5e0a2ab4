"""What opens a call in an answer that may say anything, and where it doesn't: within reasoning, within a message."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from heylook_llm.worker.formats.parser import ReasoningMode

TEXT: Final = "text"
"""The state of plain text."""


class Sought(NamedTuple):
    """What is looked for in one state of an answer."""

    states: Mapping[str, str] = {}
    """Mark -> the state behind it."""
    calls: Mapping[str, str] = {}
    """Mark -> the rule of the calls that it opens."""


class Watch(NamedTuple):
    """The states of an answer."""

    states: Mapping[str, Sought]
    first: Mapping[ReasoningMode, str]
    """The state that an answer begins in."""
    start: tuple[str, str] | None = None
    """A mark that counts only where nothing was said before, and the state behind it."""
