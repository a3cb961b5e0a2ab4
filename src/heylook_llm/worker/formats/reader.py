"""Text that is read as it comes: a parser is written as if all of it were there, and waits where it isn't.

A reading is a generator. It yields where it needs more text, and goes on when there is some. Its decisions hang on
what the text is, never on how it was cut, so the same items come of the same text.
"""

import re
from collections.abc import Callable, Generator
from typing import Final, TypeVar

from heylook_llm.worker.formats.parser import Item, Kind

T = TypeVar("T")
Reading = Generator[None, None, T]

_SPACE: Final = re.compile(r"\s*")
_STRING_REST: Final = re.compile(r'[^"\\]*')
_OUTSIDE_STRINGS: Final = re.compile(r'[^"{}\[\]]*')
_WORD: Final = re.compile(r"[\w.+-]*")
_SCALAR: Final = re.compile(r"[^\s,:{}\[\]\"]*")


class EndOfText(Exception):
    """No more text comes, and the reading needs more."""


class NotACall(Exception):
    """What looked like a call is none: its text is the answer's."""


class Enough(Exception):
    """One call was allowed, and it is complete."""


class Reader:
    """The text from the mark on: what was read of it can be given back until it is settled."""

    def __init__(self, *, one_call: bool = False) -> None:
        self.begun = False
        """A call's name was given, and its arguments aren't complete."""
        self.closing = False
        """What is read now only closes something: it is nobody's text."""
        self.calls = 0
        self._one_call = one_call
        self._items: list[Item] = []
        self._text = ""
        self.at = 0
        """How far the text was read; it may be set back, but not to before the mark."""
        self._opened = 0
        self._closed = False

    # ---- its owner's side --------------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Characters that aren't settled."""
        return len(self._text)

    @property
    def rest(self) -> str:
        """All text that isn't settled."""
        return self._text

    @property
    def taken(self) -> str:
        """What was read and isn't settled."""
        return self._text[: self.at]

    def feed(self, text: str) -> None:
        """More text."""
        self._text += text

    def close(self) -> None:
        """No more text comes."""
        self._closed = True

    def items(self) -> list[Item]:
        """What was given since the last time."""
        items, self._items = self._items, []
        return items

    def give_back(self) -> None:
        """What opened a call that is none, and white space before it, is text; what follows is read anew."""
        self.begun = self.closing = False
        self.give("text", self._text[: self._opened])
        self.at = self._opened
        self.settle()

    # ---- giving ------------------------------------------------------------------------------------------------------

    def give(self, kind: Kind, text: str) -> None:
        """A piece of the answer."""
        self._items.append(Item(kind, text))

    def settle(self) -> None:
        """What was read is done with."""
        self._text = self._text[self.at :]
        self.at = self._opened = 0

    def back(self) -> None:
        """Read again from the mark."""
        self.at = 0

    def begin(self, name: str) -> None:
        """A call of this tool certainly begins."""
        self.give("call", name)
        self.begun = True
        self.settle()

    def finish(self) -> None:
        """The call's arguments are complete. Raises Enough where no other may follow."""
        self.begun = False
        self.calls += 1
        self.settle()
        if self._one_call:
            raise Enough

    # ---- reading -----------------------------------------------------------------------------------------------------

    def more(self) -> Reading[None]:
        """Wait for more text. Raises EndOfText."""
        if self._closed:
            raise EndOfText
        yield

    def ahead(self) -> Reading[str]:
        """The next character, which stays."""
        while self.at >= len(self._text):
            yield from self.more()
        return self._text[self.at]

    def space(self) -> Reading[None]:
        """Take white space up to the next other character."""
        while True:
            self.at = end_of(_SPACE, self._text, self.at)
            if self.at < len(self._text):
                return
            yield from self.more()

    def take(self, *literals: str) -> Reading[str]:
        """Take the longest of the literals that comes next; returns it, or "" where none does."""
        longest = max(map(len, literals))
        while True:
            rest = self._text[self.at : self.at + longest]
            if not any(len(literal) > len(rest) and literal.startswith(rest) for literal in literals):
                found = max((literal for literal in literals if rest.startswith(literal)), key=len, default="")
                self.at += len(found)
                return found
            yield from self.more()

    def expect(self, *literals: str) -> Reading[str]:
        """Take one of the literals, after white space. Raises NotACall."""
        yield from self.space()
        found = yield from self.take(*literals)
        if not found:
            raise NotACall
        return found

    def dismiss(self, *literals: str) -> Reading[str]:
        """Take one of the literals, after white space, as nobody's text; "": another text stays."""
        self.closing = True
        self.settle()
        yield from self.space()
        found = yield from self.take(*literals)
        if found:
            self.settle()
        else:
            self.back()
        self.closing = False
        return found

    def follows(self, *literals: str) -> Reading[bool]:
        """Whether one of the literals comes next, after white space, or no text at all; nothing is taken."""
        place = self.at
        try:
            yield from self.space()
            found = yield from self.take(*literals)
        except EndOfText:
            found = "the end"
        self.at = place
        return bool(found)

    def until(self, *stops: str) -> Reading[tuple[str, str]]:
        """Take the text up to the first of the stops, and that; returns both. No stop lies within another."""
        start = scan = self.at
        longest = max(map(len, stops))
        while True:
            at, stop = first_of(self._text, stops, scan)
            if stop:
                self.at = at + len(stop)
                return self._text[start:at], stop
            scan = max(start, len(self._text) - longest + 1)
            yield from self.more()

    def pour(self, stop: str, followers: tuple[str, ...], line: str, give: Callable[[str], None]) -> Reading[None]:
        """Give on the text up to the stop that has one of the followers behind it, as it comes; the stop is taken.

        What is like `line` before the stop isn't of the text. All before must be settled.
        """
        while True:
            found = self._text.find(stop)
            self.at = found + len(stop)
            if found >= 0 and (yield from self.follows(*followers)):
                give(self._text[: self._without(line, found)])
                self.settle()
                return
            if found < 0:
                self.at = self._without(line, partial_start(self._text, stop))
            give(self._text[: self.at])
            self.settle()
            if found < 0:
                yield from self.more()

    def run_to(self, kind: Kind, *stops: str) -> Reading[None]:
        """Give the text up to the first of the stops on, as it comes; the stop stays. All before must be settled."""
        while True:
            at, found = first_of(self._text, stops, 0)
            self.at = at if found else min(partial_start(self._text, stop) for stop in stops)
            self.give(kind, self._text[: self.at])
            self.settle()
            if found:
                return
            yield from self.more()

    def _without(self, line: str, end: int) -> int:
        return end - len(line) if line and self._text.endswith(line, 0, end) else end

    def opening(self, openings: tuple[str, ...]) -> Reading[str]:
        """Give text on up to what opens a call, and take that with the white space before it."""
        while True:
            at, found = first_of(self._text, openings, 0)
            edge = at if found else min(partial_start(self._text, opening) for opening in openings)
            self.at = len(self._text[:edge].rstrip())
            if self.at:
                self.give("text", self._text[: self.at])
                at -= self.at
                self.settle()
            if found:
                self.at = self._opened = at + len(found)
                return found
            yield from self.more()

    def open_with(self, *literals: str) -> Reading[str]:
        """Take one of the literals, after white space, as what opens a call; "": another text comes."""
        yield from self.space()
        found = yield from self.take(*literals)
        self._opened = self.at if found else 0
        if not found:
            self.back()
        return found

    # ---- JSON --------------------------------------------------------------------------------------------------------

    def value(self) -> Reading[str]:
        """Take a JSON value; returns its text. It is only looked at as far as it takes to find its end."""
        first = yield from self.ahead()
        if first not in '{["':
            return (yield from self._run_of(_SCALAR))
        start, scan = self.at, _Scan()
        while not scan.done:
            self.at = scan.run(self._text, self.at)
            if not scan.done:
                yield from self.more()
        return self._text[start : self.at]

    def give_value(self) -> Reading[None]:
        """Take a JSON object, array or string, and give its text on as arguments as it comes."""
        scan = _Scan()
        while True:
            yield from self.ahead()
            self.at = scan.run(self._text, self.at)
            self.give("arguments", self._text[: self.at])
            self.settle()
            if scan.done:
                return

    def word(self) -> Reading[str]:
        """Take what looks like a name or a number. Raises NotACall where there is none."""
        return (yield from self._run_of(_WORD))

    def _run_of(self, pattern: re.Pattern[str]) -> Reading[str]:
        start = self.at
        while True:
            self.at = end_of(pattern, self._text, start)
            if self.at < len(self._text):
                break
            yield from self.more()
        if self.at == start:
            raise NotACall
        return self._text[start : self.at]


class ReadingParser:
    """A parser that is one reading of the whole answer."""

    thinking = False
    plain = False

    def __init__(self, *, parallel: bool) -> None:
        """`parallel` False: the answer ends with its first call."""
        self.ended = False
        self._reader = Reader(one_call=not parallel)
        self._reading = self._read()

    @property
    def held(self) -> int:
        """Characters that may still turn out to be markup."""
        return self._reader.held

    def decode(self, text: str) -> list[Item]:
        """What the next piece of text makes certain."""
        if self.ended:
            return []
        self._reader.feed(text)
        return self._resume()

    def conclude(self) -> None:
        """Marks of messages are read wherever they stand."""

    def flush(self) -> list[Item]:
        """What was held: text, but for the rest of a call that was begun."""
        if self.ended:
            return []
        self._reader.close()
        return self._resume()

    def _resume(self) -> list[Item]:
        next(self._reading, None)
        return self._reader.items()

    def _read(self) -> Reading[None]:
        try:
            yield from self._read_answer()
        except Enough:
            self.ended = True
        except EndOfText:
            self._end()

    def _read_answer(self) -> Reading[None]:
        """Read until nothing follows."""
        raise NotImplementedError

    def _end(self) -> None:
        """Give what is left where nothing follows: what closes a call, or might, is nobody's text."""
        raise NotImplementedError


class _Scan:
    """Finds the end of a JSON object, array or string."""

    def __init__(self) -> None:
        self.done = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def run(self, text: str, at: int) -> int:
        """How far the value reaches: its end, or that of the text."""
        while at < len(text) and not self.done:
            if self._escaped:
                self._escaped = False
                at += 1
            elif self._in_string:
                at = self._string(text, end_of(_STRING_REST, text, at))
            else:
                at = self._bracket(text, end_of(_OUTSIDE_STRINGS, text, at))
        return at

    def _string(self, text: str, at: int) -> int:
        if at == len(text):
            return at
        self._escaped = text[at] == "\\"
        self._in_string = self._escaped
        self.done = not self._in_string and self._depth == 0
        return at + 1

    def _bracket(self, text: str, at: int) -> int:
        if at == len(text):
            return at
        character = text[at]
        self._in_string = character == '"'
        self._depth += (character in "{[") - (character in "}]")
        self.done = self._depth == 0 and not self._in_string
        return at + 1


def end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where the pattern's match at this place ends."""
    found = pattern.match(text, at)
    return at if found is None else found.end()


def first_of(text: str, literals: tuple[str, ...], start: int) -> tuple[int, str]:
    """Where the first of the literals stands, and which; of two at one place the longer. (-1, ""): none."""
    found = [(at, -len(one), one) for one in literals if (at := text.find(one, start)) >= 0]
    if not found:
        return -1, ""
    at, _, literal = min(found)
    return at, literal


def partial_start(text: str, tag: str) -> int:
    """Where the longest end of the text begins that is a proper beginning of `tag`; the text's length: nowhere."""
    start = max(0, len(text) - len(tag) + 1)
    first = tag[0]
    while (at := text.find(first, start)) >= 0:
        if tag.startswith(text[at:]):
            return at
        start = at + 1
    return len(text)
