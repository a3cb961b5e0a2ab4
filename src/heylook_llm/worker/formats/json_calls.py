"""Calls that are JSON objects of a name and arguments: one, or an array of them, between the family's marks."""

import json
import re
from typing import Final, NoReturn

from heylook_llm.worker.formats.calls import BetweenMarks, Tools
from heylook_llm.worker.formats.reader import NotACall, Reader, Reading

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class JsonCalls(BetweenMarks, frozen=True):
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>` and its like.

    The arguments' own JSON text is given on as it comes, where the name stands before them.
    """

    name_keys: tuple[str, ...] = ("name",)
    argument_keys: tuple[str, ...] = ("arguments", "parameters")
    other_keys: tuple[str, ...] = ("id", "type", "index")
    """What else a call may hold; an object with another key before its arguments is none."""
    array: bool = False
    """Whether models of the family write an array of calls."""
    identity: str = ""
    """The key of a number that they give to a call, before all else."""

    def read(self, reader: Reader, opening: str, tools: Tools) -> Reading[None]:
        """The objects, and what closes them."""
        opened = opening.endswith("{")
        array = opening.endswith("[")
        if not opened and not array:
            array = bool((yield from self._take_bracket(reader)))
        more = True
        while more:
            if not opened:
                yield from reader.expect("{")
            opened = False
            yield from self._read_object(reader, tools)
            more = yield from self._read_tail(reader, array=array)

    @staticmethod
    def _take_bracket(reader: Reader) -> Reading[str]:
        yield from reader.space()
        return (yield from reader.take("["))

    def _read_tail(self, reader: Reader, *, array: bool) -> Reading[bool]:
        """What stands behind an object, brackets too many included; returns whether another object follows."""
        brackets = ("}", "]") if array else ("}",)
        while found := (yield from reader.dismiss(*brackets, *self.closings)):
            if found in self.closings:
                return False
        if not array:
            return False
        yield from reader.space()
        return bool((yield from reader.take(",")))

    def _read_object(self, reader: Reader, tools: Tools) -> Reading[None]:
        """One call, behind its first bracket."""
        name: str | None = None
        arguments = "{}"
        while not (yield from self._ends(reader)):
            key = loads((yield from reader.value()))
            yield from reader.expect(":")
            yield from reader.space()
            first = yield from reader.ahead()
            if key in self.name_keys and name is None:
                name = _known(loads((yield from reader.value())), tools)
            elif key in self.argument_keys and name is not None and first == "{":
                reader.begin(name)
                yield from reader.give_value()
                reader.finish()
                yield from self._skip_rest(reader)
                return
            elif key in self.argument_keys:
                arguments = yield from reader.value()
            elif key in self.other_keys:
                yield from reader.value()
            else:
                raise NotACall
        give_whole(reader, name, arguments)

    @staticmethod
    def _ends(reader: Reader) -> Reading[bool]:
        """Whether the object ends here; a comma before its next member is taken."""
        yield from reader.space()
        if (yield from reader.take("}")):
            return True
        yield from reader.take(",")
        yield from reader.space()
        return False

    def _skip_rest(self, reader: Reader) -> Reading[None]:
        """Members behind the arguments, and the object's end; an object that isn't closed has none."""
        while (yield from reader.dismiss(",", "}")) == ",":
            reader.closing = True
            yield from reader.space()
            yield from reader.value()
            yield from reader.expect(":")
            yield from reader.space()
            yield from reader.value()
            reader.closing = False


def give_whole(reader: Reader, name: str | None, arguments: str) -> None:
    """A call all of which is known. Raises NotACall where a part is missing or of another kind."""
    found = loads(arguments)
    if isinstance(found, str):
        arguments, found = found, loads(found)
    if arguments == "null":
        arguments, found = "{}", {}
    if name is None or not isinstance(found, dict) or _SURROGATE.search(arguments):
        raise NotACall
    reader.begin(name)
    reader.give("arguments", arguments)
    reader.finish()


def _known(name: object, tools: Tools) -> str:
    """The name of a tool that was offered. Raises NotACall."""
    if not isinstance(name, str) or name not in tools:
        raise NotACall
    return name


def loads(text: str) -> object:
    """The value of JSON text; None where it isn't any."""
    try:
        value: object = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def dumps(value: object) -> str:
    """JSON text as a model would write it; half a surrogate pair stays escaped, for no UTF-8 has it.

    Raises NotACall for what JSON can't say.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError):
        raise NotACall from None
    return text if text.isascii() or not _SURROGATE.search(text) else json.dumps(value)
