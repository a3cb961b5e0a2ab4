"""Calls that are a name and, behind a mark, the JSON object of its arguments."""

import msgspec

from heylook_llm.worker.formats.calls import Tools
from heylook_llm.worker.formats.json_calls import JsonCalls
from heylook_llm.worker.formats.reader import NotACall, Reader, Reading


class SectionCalls(msgspec.Struct, frozen=True):
    """Calls between marks of their own, within a section; `argument` parts a name from its arguments."""

    name: str
    section: str
    section_end: str
    call: str
    call_end: str
    argument: str
    leads: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def openings(self) -> tuple[str, ...]:
        """A section, or one call without it."""
        return (self.section, self.call)

    @property
    def telling(self) -> tuple[str, ...]:
        """A section of calls."""
        return (self.section, self.argument)

    @property
    def markup(self) -> tuple[str, ...]:
        """All marks."""
        return (self.section, self.section_end, self.call, self.call_end, self.argument)

    def read(self, reader: Reader, opening: str, tools: Tools) -> Reading[None]:
        """The calls of a section."""
        if opening == self.section:
            yield from reader.expect(self.call)
        more = True
        while more:
            yield from self._read_call(reader, tools)
            yield from reader.dismiss(self.call_end)
            if (yield from reader.dismiss(self.section_end)):
                return
            yield from reader.space()
            more = bool((yield from reader.take(self.call)))

    def _read_call(self, reader: Reader, tools: Tools) -> Reading[None]:
        raise NotImplementedError


class DeepSeekCalls(SectionCalls, frozen=True):
    """`name<sep>{...}` (V3.1), or `function<sep>name` with the arguments in a fenced block below (V3, R1)."""

    def _read_call(self, reader: Reader, tools: Tools) -> Reading[None]:
        name = yield from reader.take(*(name + self.argument for name in ("function", *tools)))
        name = name.removesuffix(self.argument)
        yield from reader.space()
        fenced = name == "function" and (yield from reader.ahead()) != "{"
        if fenced:
            name = yield from reader.take(*tools)
            yield from reader.expect("```json")
            yield from reader.space()
        yield from give_arguments(reader, name, tools)
        if fenced:
            yield from reader.dismiss("```")


class KimiCalls(SectionCalls, frozen=True):
    """`functions.weather:0<argument>{...}`."""

    def _read_call(self, reader: Reader, tools: Tools) -> Reading[None]:
        yield from reader.space()
        yield from reader.take("functions.")
        name = yield from reader.take(*tools)
        if (yield from reader.take(":")):
            yield from reader.word()
        yield from reader.expect(self.argument)
        yield from reader.space()
        yield from give_arguments(reader, name, tools)


class MistralCalls(msgspec.Struct, frozen=True):
    """`[TOOL_CALLS]weather[ARGS]{...}`, or the array of objects of its older models."""

    name: str = "mistral"
    openings: tuple[str, ...] = ("[TOOL_CALLS]",)
    arguments: str = "[ARGS]"
    identity: str = "[CALL_ID]"
    leads: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def telling(self) -> tuple[str, ...]:
        """The opening."""
        return self.openings

    @property
    def markup(self) -> tuple[str, ...]:
        """All marks."""
        return (*self.openings, self.arguments, self.identity)

    def read(self, reader: Reader, opening: str, tools: Tools) -> Reading[None]:
        """The calls up to the next opening."""
        yield from reader.space()
        if (yield from reader.ahead()) in "[{":
            yield from JsonCalls(self.name, self.openings).read(reader, opening, tools)
            return
        name = yield from reader.take(*tools)
        if (yield from reader.take(self.identity)):
            yield from reader.word()
        yield from reader.take(self.arguments)
        yield from reader.space()
        yield from give_arguments(reader, name, tools)


def give_arguments(reader: Reader, name: str, tools: Tools) -> Reading[None]:
    """A call with the JSON object that comes next. Raises NotACall for an unknown tool, or another kind of value."""
    if name not in tools or (yield from reader.ahead()) != "{":
        raise NotACall
    reader.begin(name)
    yield from reader.give_value()
    reader.finish()
