"""Finds the calls of known tools in an answer, whatever the syntax: what isn't one is given back as text."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from heylook_llm import core
from heylook_llm.worker.formats.parser import Item
from heylook_llm.worker.formats.reader import NotACall, Reader, Reading, ReadingParser

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


class BetweenMarks(msgspec.Struct, frozen=True):
    """A family that writes calls between marks, of whatever syntax."""

    name: str
    openings: tuple[str, ...]
    closings: tuple[str, ...] = ()
    leads: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def telling(self) -> tuple[str, ...]:
        """The opening."""
        return self.openings[:1]

    @property
    def markup(self) -> tuple[str, ...]:
        """All marks."""
        return (*self.openings, *self.closings, *self.dropped)


class Calls(ReadingParser):
    """Splits calls off the text. White space before a call, and between calls, is dropped."""

    def __init__(self, form: ToolFormat, tools: Sequence[core.Tool], *, parallel: bool = True) -> None:
        """Without tools only what is dropped is looked for."""
        super().__init__(parallel=parallel)
        self._form = form
        self._tools: Tools = {tool.name: tool for tool in tools}
        self._openings = (*(form.openings if tools else ()), *form.dropped)
        self._first_characters = frozenset(opening[0] for opening in self._openings)
        self._leading = bool(tools and form.leads)
        self._searching = False
        """A call is looked for that may begin anywhere."""

    def decode(self, text: str) -> list[Item]:
        """What is certain of text, calls and arguments."""
        plain = self._searching and not self._reader.held and not text[-1].isspace()
        if plain and self._first_characters.isdisjoint(text):
            return [Item("text", text)]
        return super().decode(text)

    def _read_answer(self) -> Reading[None]:
        while True:
            yield from self._next_call()

    def _next_call(self) -> Reading[None]:
        reader = self._reader
        calls = reader.calls
        opening = yield from self._opening()
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
        self._searching = True
        opening = yield from self._reader.opening(self._openings)
        self._searching = False
        return opening

    def _end(self) -> None:
        reader = self._reader
        dropped = reader.begun or reader.closing or (reader.calls and not reader.rest.strip())
        if not dropped:
            reader.give("text", reader.rest)
