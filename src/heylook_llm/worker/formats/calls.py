"""Finds the calls of known tools in an answer, whatever the syntax: what isn't one is given back as text."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from heylook_llm import core
from heylook_llm.worker.formats.parser import Item
from heylook_llm.worker.formats.reader import EndOfText, Enough, NotACall, Reader, Reading

Tools = Mapping[str, core.Tool]
"""The tools that may be called, by name."""


class ToolFormat(Protocol):
    """How a family of models writes calls."""

    @property
    def name(self) -> str:
        """As the documentation names it."""
        ...

    @property
    def openings(self) -> tuple[str, ...]:
        """What opens one call or several, anywhere in the text."""
        ...

    @property
    def leads(self) -> tuple[str, ...]:
        """What opens a call only where nothing else was said before."""
        ...

    @property
    def dropped(self) -> tuple[str, ...]:
        """Marks around an answer that are nobody's text."""
        ...

    @property
    def telling(self) -> tuple[str, ...]:
        """Marks that tell this family from others, where they are in a template."""
        ...

    @property
    def markup(self) -> tuple[str, ...]:
        """Every mark that a vocabulary may have as a control token, which must come as text nevertheless."""
        ...

    def read(self, reader: Reader, opening: str, tools: Tools) -> Reading[None]:
        """Read what follows an opening to its end. Raises NotACall; what was settled until then stays."""
        ...


class Calls:
    """Splits calls off the text. White space before a call, and between calls, is dropped."""

    thinking = False
    plain = False

    def __init__(self, form: ToolFormat, tools: Sequence[core.Tool], *, parallel: bool = True) -> None:
        """`parallel` False: the answer ends with its first call. Without tools only what is dropped is looked for."""
        self.ended = False
        self._form = form
        self._tools: Tools = {tool.name: tool for tool in tools}
        self._openings = (*(form.openings if tools else ()), *form.dropped)
        self._first_characters = frozenset(opening[0] for opening in self._openings)
        self._leading = bool(tools and form.leads)
        self._reader = Reader(one_call=not parallel)
        self._searching = False
        self._idle = False
        """Nothing is held, and a call is looked for that may begin anywhere."""
        self._reading = self._read()

    @property
    def held(self) -> int:
        """Characters that may belong to a call."""
        return self._reader.held

    def decode(self, text: str) -> list[Item]:
        """What is certain of text, calls and arguments."""
        if self.ended:
            return []
        if self._idle and not text[-1].isspace() and self._first_characters.isdisjoint(text):
            return [Item("text", text)]
        self._reader.feed(text)
        return self._resume()

    def flush(self) -> list[Item]:
        """What was held: text, but for the rest of a call that was begun."""
        if self.ended:
            return []
        self._reader.close()
        return self._resume()

    def _resume(self) -> list[Item]:
        next(self._reading, None)
        self._idle = self._searching and not self._leading and not self._reader.held
        return self._reader.items()

    def _read(self) -> Reading[None]:
        try:
            while True:
                yield from self._next_call()
        except Enough:
            self.ended = True
        except EndOfText:
            self._end()

    def _next_call(self) -> Reading[None]:
        reader = self._reader
        calls = reader.calls
        self._searching = True
        opening = yield from self._opening()
        self._searching = False
        if opening in self._form.dropped:
            reader.settle()
            return
        try:
            yield from self._form.read(reader, opening, self._tools)
        except NotACall:
            reader.give_back()
        reader.back()
        self._leading = bool(self._form.leads) and reader.calls > calls

    def _opening(self) -> Reading[str]:
        if self._leading:
            opening = yield from self._reader.open_with(*self._form.leads, *self._openings)
            if opening:
                return opening
            self._leading = False
        return (yield from self._reader.opening(self._openings))

    def _end(self) -> None:
        """No more comes: what closes a call, or is the beginning of what would, is nobody's text."""
        reader = self._reader
        dropped = reader.begun or reader.closing or (reader.calls and not reader.rest.strip())
        if not dropped:
            reader.give("text", reader.rest)
