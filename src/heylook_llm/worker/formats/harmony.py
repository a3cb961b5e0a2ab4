"""gpt-oss's harmony: an answer is messages on channels, of which some are reasoning, some text, and some are calls."""

import re
from collections.abc import Sequence
from typing import Final

from heylook_llm import core
from heylook_llm.worker.formats.calls import Tools
from heylook_llm.worker.formats.json_calls import give_whole
from heylook_llm.worker.formats.parser import Item, ReasoningMode
from heylook_llm.worker.formats.reader import NotACall, Reading, ReadingParser

START: Final = "<|start|>"
CHANNEL: Final = "<|channel|>"
MESSAGE: Final = "<|message|>"
CONSTRAIN: Final = "<|constrain|>"
END: Final = "<|end|>"
CALL: Final = "<|call|>"
RETURN: Final = "<|return|>"
MARKUP: Final = (START, CHANNEL, MESSAGE, CONSTRAIN, END, CALL, RETURN)
ENDS: Final = (END, CALL, RETURN)
NEXT: Final = f"{END}{START}assistant"
ANALYSIS: Final = f"{CHANNEL}analysis{MESSAGE}"
RECIPIENT: Final = "to=functions."
"""Stands before a tool's name, in the header of a call's message."""
FINAL: Final = f"{CHANNEL}final{MESSAGE}"

_RECIPIENT: Final = re.compile(r"\bto=functions\.([^\s<]+)")
_CHANNEL: Final = re.compile(re.escape(CHANNEL) + r"\s*(\w+)")


class Harmony(ReadingParser):
    """Splits an answer that goes on behind `<|start|>assistant`."""

    def __init__(self, mode: ReasoningMode, tools: Sequence[core.Tool], *, parallel: bool = True) -> None:
        """`mode`: "none": the answer's own message was begun; "open": that of the reasoning; "auto": none."""
        super().__init__(parallel=parallel)
        self.thinking = mode == "open"
        self._mode = mode
        self._tools: Tools = {tool.name: tool for tool in tools}
        self._in_body = False

    def decode(self, text: str) -> list[Item]:
        """What is certain of reasoning, text and calls."""
        if self._in_body and not self._reader.held and "<" not in text:
            return [Item("reasoning" if self.thinking else "text", text)]
        return super().decode(text)

    def _read_answer(self) -> Reading[None]:
        if self._mode == "auto":
            yield from self._read_header()
        while True:
            yield from self._read_body()
            yield from self._read_header()

    def _end(self) -> None:
        if not (self._reader.begun or self._reader.closing):
            self._reader.give("reasoning" if self.thinking else "text", self._reader.rest)

    def _read_body(self) -> Reading[None]:
        """A message's text, given on as it comes, and what ends it."""
        self._in_body = True
        yield from self._reader.run_to("reasoning" if self.thinking else "text", *ENDS, START)
        self._in_body = self.thinking = False
        yield from self._reader.dismiss(*ENDS)

    def _read_header(self) -> Reading[None]:
        """What a header says of the body behind it; a call is read to its end. Without a header the body is text."""
        reader = self._reader
        if (yield from reader.dismiss(START)):
            yield from reader.dismiss("assistant")
        reader.closing = True
        yield from reader.space()
        if not (yield from reader.take(CHANNEL, "to=")):
            reader.back()
        elif (yield from reader.until(MESSAGE, *ENDS, START))[1] == MESSAGE:
            yield from self._heed(reader.taken)
        reader.settle()
        reader.closing = False

    def _heed(self, header: str) -> Reading[None]:
        reader, place = self._reader, self._reader.at
        channel, recipient = _CHANNEL.search(header), _RECIPIENT.search(header)
        self.thinking = channel is not None and channel[1] == "analysis" and recipient is None
        if recipient is None:
            return
        reader.closing = False
        try:
            yield from self._read_call(recipient[1])
        except NotACall:  # the body is text, and its header with it
            reader.at = place
            reader.give("text", reader.taken)

    def _read_call(self, name: str) -> Reading[None]:
        """A call's arguments. Raises NotACall for an unknown tool, or another kind of value."""
        reader = self._reader
        if name not in self._tools:
            raise NotACall
        yield from reader.space()
        if (yield from reader.ahead()) == "{":
            reader.begin(name)
            yield from reader.give_value()
            reader.finish()
        else:
            text, end = yield from reader.until(*ENDS, START)
            reader.at -= len(end)
            give_whole(reader, name, text.strip() or "{}")
        yield from reader.dismiss(*ENDS)
