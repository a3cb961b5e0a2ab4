"""Calls whose arguments stand between tags, one by one, without JSON's quotes: the tool's schema says what they are."""

import json
from functools import partial

import msgspec

from heylook_llm.worker.formats.calls import Tools
from heylook_llm.worker.formats.json_calls import dumps
from heylook_llm.worker.formats.reader import NotACall, Reader, Reading
from heylook_llm.worker.formats.values import as_json, kinds_of


class TaggedCalls(msgspec.Struct, frozen=True):
    """`<tool_call><function=weather><parameter=city>Paris</parameter></function></tool_call>` and its like.

    A string is given on as it comes; a value of another type once all of it is there.
    """

    name: str
    openings: tuple[str, ...]
    """The outer tag, and `function` where it may stand without one."""
    closings: tuple[str, ...]
    function: str
    """What stands before a name; empty: the outer tag does."""
    name_end: str
    """What stands behind it; empty: the next tag does."""
    function_end: str
    parameter: str
    key_end: str
    value_end: str
    kind_end: str = ""
    """Where the value's type stands behind its key: what stands behind that."""
    value_start: str = ""
    line: str = ""
    """What may stand between a value and the tags at its sides."""
    leads: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def telling(self) -> tuple[str, ...]:
        """The outer tag, and those of parameters."""
        return (self.openings[0], self.parameter, self.key_end)

    @property
    def markup(self) -> tuple[str, ...]:
        """All marks."""
        marks = (self.function, self.name_end, self.function_end, self.parameter, self.key_end, self.value_start)
        return (*self.openings, *self.closings, *filter(None, marks), self.value_end)

    def read(self, reader: Reader, opening: str, tools: Tools) -> Reading[None]:
        """The functions within the outer tag, or the one that stands alone."""
        if self.function and opening != self.function:
            yield from reader.expect(self.function)
        more = True
        while more:
            yield from self._read_function(reader, tools)
            if (yield from reader.dismiss(*self.closings)) or not self.function:
                return
            yield from reader.space()
            more = bool((yield from reader.take(self.function)))

    def _read_function(self, reader: Reader, tools: Tools) -> Reading[None]:
        """One call, from its name on."""
        yield from reader.space()
        name = yield from reader.take(*tools)
        if self.name_end:
            yield from reader.expect(self.name_end)
        elif not (yield from reader.follows(self.parameter, self.function_end)):
            raise NotACall
        if not name:
            raise NotACall
        reader.begin(name)
        reader.give("arguments", "{")
        between = ""
        while (yield from reader.dismiss(self.parameter, self.function_end)) == self.parameter:
            reader.give("arguments", between)
            yield from self._read_parameter(reader, tools[name].parameters)
            between = ", "
        reader.give("arguments", "}")
        reader.finish()

    def _read_parameter(self, reader: Reader, parameters: dict[str, object]) -> Reading[None]:
        """A key and its value."""
        key, _ = yield from reader.until(self.key_end)
        key = key.strip()
        kinds = kinds_of(parameters, key)
        if self.kind_end:
            kind, _ = yield from reader.until(self.kind_end)
            kinds = frozenset(("string",)) if kind in ("true", "string") else kinds - {"string"}
        if self.value_start:
            yield from reader.expect(self.value_start)
        reader.give("arguments", dumps(key) + ": ")
        if self.line:
            yield from reader.take(self.line)
        reader.settle()
        yield from self._read_value(reader, kinds)

    def _read_value(self, reader: Reader, kinds: frozenset[str]) -> Reading[None]:
        followers = tuple(filter(None, (self.parameter, self.function_end, *self.closings)))
        pour = partial(reader.pour, self.value_end, followers, self.line)
        if "string" in kinds and kinds <= {"string", "null"}:
            nulls = tuple(word + self.line + self.value_end for word in ("null", "None"))
            if "null" in kinds and (yield from reader.take(*nulls)):
                reader.give("arguments", "null")
                return
            reader.give("arguments", '"')
            yield from pour(lambda piece: reader.give("arguments", json.dumps(piece, ensure_ascii=False)[1:-1]))
            reader.give("arguments", '"')
            return
        pieces: list[str] = []
        yield from pour(pieces.append)
        reader.give("arguments", as_json("".join(pieces), kinds))
