"""Reasoning at the start of an answer, between the marks of the model's family."""

from typing import Final, NamedTuple

from heylook_llm.worker.formats.parser import Item
from heylook_llm.worker.formats.reader import partial_start


class Marks(NamedTuple):
    """What stands before and behind reasoning."""

    start: str
    end: str
    conclusion: str = ""
    """What ends reasoning that was broken off, where it isn't just the mark."""


THINK: Final = Marks("<think>", "</think>", "\n</think>\n\n")


class Reasoning:
    """Splits reasoning off the start of the text, without the marks and the white space around them."""

    ended = False

    def __init__(self, marks: Marks, *, opened: bool) -> None:
        """`opened`: the prompt already ended with the opening mark."""
        self.plain = False
        self.thinking = opened
        self._marks = marks
        self._begun = False
        self._after = False
        self._concluded = False
        self._answering = False
        """The text has begun, in which the mark that ends reasoning may come once more."""
        self._buffer = ""

    @property
    def held(self) -> int:
        """Characters that may be a mark, or white space beside one."""
        return len(self._buffer)

    def conclude(self) -> None:
        """The next mark that ends it was put into the model's mouth: where it writes its own, that is no text."""
        self._concluded = True

    def decode(self, text: str) -> list[Item]:
        """What is certain of reasoning and text."""
        if self.plain:
            return [Item("text", text)]
        self._buffer += text
        items: list[Item] = []
        if self._answering:
            self._leave_out_end(items)
            return items
        if not self.thinking and not self._after:
            self._find_start(items)
        if self.thinking:
            self._find_end(items)
        if self._after:
            self._find_text(items)
        return items

    def flush(self) -> list[Item]:
        """What was held: inside it is reasoning, before it is text."""
        rest, self._buffer = self._buffer, ""
        if self._after or not rest:
            return []
        return [Item("reasoning" if self.thinking else "text", rest)]

    def _find_start(self, items: list[Item]) -> None:
        start = self._marks.start
        stripped = self._buffer.lstrip()
        if stripped.startswith(start):
            self.thinking = True
            self._buffer = stripped[len(start) :]
        elif not start.startswith(stripped):
            items.append(Item("text", self._buffer))
            self._buffer = ""
            self.plain = True

    def _find_end(self, items: list[Item]) -> None:
        end = self._marks.end
        if not self._begun:
            self._buffer = self._buffer.lstrip()
            self._begun = bool(self._buffer)
        at = self._buffer.find(end)
        if at >= 0:
            items.append(Item("reasoning", self._buffer[:at].rstrip()))
            self._buffer = self._buffer[at + len(end) :]
            self.thinking, self._after = False, True
            return
        settled = len(self._buffer[: partial_start(self._buffer, end)].rstrip())
        items.append(Item("reasoning", self._buffer[:settled]))
        self._buffer = self._buffer[settled:]

    def _find_text(self, items: list[Item]) -> None:
        self._buffer = self._buffer.lstrip()
        if not self._buffer:
            return
        self._after = False
        if self._concluded:
            self._answering = True
            self._leave_out_end(items)
            return
        items.append(Item("text", self._buffer))
        self._buffer = ""
        self.plain = True

    def _leave_out_end(self, items: list[Item]) -> None:
        end = self._marks.end
        before, found, rest = self._buffer.partition(end)
        if found:
            if before + rest:
                items.append(Item("text", before + rest))
            self._buffer = ""
            self._answering, self.plain = False, True
            return
        if settled := partial_start(self._buffer, end):
            items.append(Item("text", self._buffer[:settled]))
            self._buffer = self._buffer[settled:]
