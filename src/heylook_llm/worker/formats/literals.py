"""Values and calls in the manner of Python, and of Gemma: keys without quotes, strings between marks of their own."""

import re
from typing import Final

import msgspec

from heylook_llm.worker.formats.calls import BetweenMarks, Tools
from heylook_llm.worker.formats.json_calls import JsonCalls, dumps
from heylook_llm.worker.formats.reader import NotACall, Reader, Reading

MAX_DEPTH: Final = 64
MAX_NUMBER_CHARACTERS: Final = 400

_WORDS: Final[dict[str, object]] = {
    "True": True, "true": True, "False": False, "false": False, "None": None, "null": None
}  # fmt: skip
_INTEGER: Final = re.compile(r"[+-]?(\d+)")
_FLOAT: Final = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?")
_ESCAPES: Final = {
    "\\": "\\", "'": "'", '"': '"', "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v",
    "0": "\0", "/": "/", "\n": "",
}  # fmt: skip
_HEXADECIMAL: Final = {"x": 2, "u": 4, "U": 8}
_BRACKETS: Final = {"[": "]", "(": ")", "{": "}"}


class Style(msgspec.Struct, frozen=True):
    """How strings and keys are written."""

    quotes: tuple[str, ...]
    """What stands before and behind a string; the longer first where one begins another."""
    escapes: bool
    """Whether a backslash means the character behind it to be another."""
    bare_keys: bool
    """Whether keys of an object stand without quotes."""


PYTHON: Final = Style(('"""', "'''", '"', "'"), escapes=True, bare_keys=False)


def value_of(text: str) -> object:
    """The value of a Python literal that is all of the text. Raises NotACall."""
    reader = Reader()
    reader.feed(text + "\n;")  # so that nothing waits for more
    reading = value(reader, PYTHON)
    try:
        next(reading)
    except StopIteration as end:
        if reader.rest[reader.at :].strip() == ";":
            return end.value
    raise NotACall


def value(reader: Reader, style: Style, depth: int = 0) -> Reading[object]:
    """Take a value. Raises NotACall."""
    if depth > MAX_DEPTH:
        raise NotACall
    yield from reader.space()
    if quote := (yield from reader.take(*style.quotes)):
        return (yield from _string(reader, quote, style))
    first = yield from reader.ahead()
    if first in "[(":
        reader.at += 1
        return (yield from _sequence(reader, style, _BRACKETS[first], depth))
    if first == "{":
        reader.at += 1
        return (yield from _mapping(reader, style, depth))
    word = yield from reader.word()
    return _word(word)


def _word(word: str) -> object:
    if word in _WORDS:
        return _WORDS[word]
    if len(word) > MAX_NUMBER_CHARACTERS:
        raise NotACall
    if _INTEGER.fullmatch(word):
        return int(word)
    if _FLOAT.fullmatch(word):
        return float(word)
    raise NotACall


def _string(reader: Reader, quote: str, style: Style) -> Reading[str]:
    """A string behind its first quote."""
    pieces: list[str] = []
    while True:
        text, stop = yield from reader.until(quote, *(("\\",) if style.escapes else ()))
        pieces.append(text)
        if stop == quote:
            return "".join(pieces)
        pieces.append((yield from _escape(reader)))


def _escape(reader: Reader) -> Reading[str]:
    letter = yield from reader.ahead()
    reader.at += 1
    if letter not in _HEXADECIMAL:
        return _ESCAPES.get(letter, "\\" + letter)
    digits = ""
    for _ in range(_HEXADECIMAL[letter]):
        digits += yield from reader.ahead()
        reader.at += 1
    try:
        return chr(int(digits, 16))
    except (ValueError, OverflowError):
        raise NotACall from None


def _sequence(reader: Reader, style: Style, end: str, depth: int) -> Reading[list[object]]:
    values: list[object] = []
    while True:
        yield from reader.space()
        if (yield from reader.take(end)):
            return values
        values.append((yield from value(reader, style, depth + 1)))
        if (yield from reader.expect(",", end)) == end:
            return values


def _mapping(reader: Reader, style: Style, depth: int) -> Reading[dict[str, object]]:
    """An object behind its first bracket."""
    found: dict[str, object] = {}
    while True:
        yield from reader.space()
        if (yield from reader.take("}")):
            return found
        key = yield from _key(reader, style)
        found[key] = yield from value(reader, style, depth + 1)
        if (yield from reader.expect(",", "}")) == "}":
            return found


def _key(reader: Reader, style: Style) -> Reading[str]:
    """A key and the colon behind it."""
    if quote := (yield from reader.take(*style.quotes)):
        key = yield from _string(reader, quote, style)
        yield from reader.expect(":")
        return key
    if not style.bare_keys:
        raise NotACall
    text, _ = yield from reader.until(":")
    return text


# ---- calls -----------------------------------------------------------------------------------------------------------


class PythonCalls(BetweenMarks, frozen=True):
    """`[weather(city="Paris"), add(a=1, b=2)]`, or the calls alone, one on each line."""

    def read(self, reader: Reader, opening: str, tools: Tools) -> Reading[None]:
        """The calls; each is given once all of it was read."""
        array = opening == "["
        if not array:
            yield from reader.space()
            array = bool((yield from reader.take("[")))
        more = True
        while more:
            yield from self._read_call(reader, tools)
            if array:
                yield from reader.space()
                more = bool((yield from reader.take(",")))
            else:
                more = not (yield from reader.follows(*self.closings)) and bool(self.closings)
        closings = ("]", *self.closings) if array else self.closings
        while closings and (yield from reader.dismiss(*closings)):
            pass

    @staticmethod
    def _read_call(reader: Reader, tools: Tools) -> Reading[None]:
        yield from reader.space()
        name = yield from reader.take(*tools)
        if not name:
            raise NotACall
        yield from reader.expect("(")
        arguments: dict[str, object] = {}
        while not (yield from _ends(reader)):
            key = yield from reader.word()
            yield from reader.expect("=")
            arguments[key] = yield from value(reader, PYTHON)
        give(reader, name, arguments)


def _ends(reader: Reader) -> Reading[bool]:
    """Whether a call's arguments end here; a comma before the next is taken."""
    yield from reader.space()
    if (yield from reader.take(",")):
        yield from reader.space()
    return bool((yield from reader.take(")")))


class MixedCalls(BetweenMarks, frozen=True):
    """Calls that are written as JSON objects or in the manner of Python: families whose models do both."""

    name_keys: tuple[str, ...] = ("name",)

    def read(self, reader: Reader, opening: str, tools: Tools) -> Reading[None]:
        """An array or one call, of whichever kind comes."""
        if opening not in ("{", "["):
            yield from reader.space()
            opening = (yield from reader.take("[")) or opening
        yield from reader.space()
        if opening == "{" or (yield from reader.ahead()) == "{":
            form: JsonCalls | PythonCalls = JsonCalls("", self.openings, self.closings, name_keys=self.name_keys)
        else:
            form = PythonCalls("", self.openings, self.closings)
        yield from form.read(reader, opening, tools)


class MarkedCalls(BetweenMarks, frozen=True, kw_only=True):
    """`<start_function_call>call:weather{city:<escape>Paris<escape>}<end_function_call>` and its like."""

    quote: str
    """What stands before and behind a text."""

    @property
    def markup(self) -> tuple[str, ...]:
        """All marks."""
        return (*self.openings, *self.closings, self.quote)

    def read(self, reader: Reader, opening: str, tools: Tools) -> Reading[None]:
        """One call; it is given once all of it was read."""
        yield from reader.expect("call:")
        name = yield from reader.take(*tools)
        if not name:
            raise NotACall
        yield from reader.expect("{")
        arguments = yield from _mapping(reader, Style((self.quote,), escapes=False, bare_keys=True), 0)
        give(reader, name, arguments)
        yield from reader.dismiss(*self.closings)


def give(reader: Reader, name: str, arguments: dict[str, object]) -> None:
    """A call all of which is known. Raises NotACall where JSON can't say it."""
    text = dumps(arguments)
    reader.begin(name)
    reader.give("arguments", text)
    reader.finish()
