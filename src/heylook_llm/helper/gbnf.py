"""GBNF, llama.cpp's grammars, to llguidance's Lark.

Every character becomes a terminal of its own. llguidance's lexer takes the longest terminal, as GBNF doesn't: of
`"ab" | "a" "bc"` it would never find the second in "abc". Terminals of one character leave it nothing to choose.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from heylook_llm.errors import InvalidConstraint
from heylook_llm.helper.bounds import MAX_REPETITION

MAX_DEPTH: Final = 64
MAX_CODE_POINT: Final = 0x10FFFF

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_SPACE: Final = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES: Final = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_COUNT: Final = re.compile(r"\{\s*(\d{1,9})\s*(?:(,)\s*(\d{1,9})?\s*)?\}")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]"}
_HEXADECIMAL: Final = {"x": 2, "u": 4, "U": 8}
_REPEATS: Final[dict[str, tuple[int, int | None]]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


@dataclass(frozen=True, slots=True)
class Terminal:
    """One character of a set, as Lark."""

    lark: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A rule by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Group:
    """Alternatives, each a sequence; an empty one is the empty text."""

    alternatives: "tuple[tuple[Node, ...], ...]"


@dataclass(frozen=True, slots=True)
class Repeat:
    """A node so many times; None: without end."""

    node: "Node"
    least: int
    most: int | None


Node = Terminal | Reference | Group | Repeat
Rules = dict[str, Group]


def to_lark(text: str) -> str:
    """A grammar whose rule `start` is the source's `root`. Raises InvalidConstraint."""
    rules = _Reader(text).rules()
    if "root" not in rules:
        _refuse("the grammar has no rule `root`")
    names = {name: f"r{at}" for at, name in enumerate(rules)}
    for name in {name for rule in rules.values() for name in _references(rule)}:
        if name not in rules:
            _refuse(f"the grammar's rule `{name[:64]}` is not defined")
    _check_left_recursion(rules)
    lines = [f"start: {names['root']}", *(f"{names[name]}: {_lark(rule, names)}" for name, rule in rules.items())]
    return "\n".join(lines) + "\n"


def _refuse(reason: str) -> NoReturn:
    raise InvalidConstraint(reason + ".", code="invalid_value")


# ---- reading ---------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads GBNF from the front."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def rules(self) -> Rules:
        """All rules, in order; of two with one name the later counts, as in llama.cpp."""
        rules: Rules = {}
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._text):
            name = self._name()
            self._skip(_SPACE)
            if not self._take("::="):
                self._fail("expected ::=")
            self._skip(_SPACE_AND_LINES)
            rules[name] = self._alternatives(nested=False)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                self._fail("expected the end of the rule")
            self._skip(_SPACE_AND_LINES)
        return rules

    def _alternatives(self, *, nested: bool) -> Group:
        found = [self._sequence(nested=nested)]
        while self._take("|"):
            self._skip(_SPACE_AND_LINES)
            found.append(self._sequence(nested=nested))
        return Group(tuple(found))

    def _sequence(self, *, nested: bool) -> tuple[Node, ...]:
        nodes: list[Node] = []
        while self._at < len(self._text) and (node := self._node()) is not None:
            self._skip(_SPACE_AND_LINES if nested else _SPACE)
            while (repeated := self._repeated(node)) is not None:
                node = repeated
                self._skip(_SPACE_AND_LINES if nested else _SPACE)
            nodes.append(node)
        return tuple(nodes)

    def _node(self) -> Node | None:
        character = self._text[self._at]
        match character:
            case '"':
                return self._literal()
            case "[":
                return self._class()
            case "(":
                return self._group()
            case ".":
                self._at += 1
                return Terminal("/(?s:.)/")
            case "<" | "!":
                self._fail("tokens can't be named in a grammar here")
        return Reference(self._name()) if _NAME.match(character) else None

    def _group(self) -> Group:
        self._at += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail("parentheses are nested too deeply")
        self._skip(_SPACE_AND_LINES)
        group = self._alternatives(nested=True)
        if not self._take(")"):
            self._fail("expected )")
        self._depth -= 1
        return group

    def _literal(self) -> Group:
        self._at += 1
        characters: list[Node] = []
        while not self._take('"'):
            characters.append(Terminal(_quoted(self._character())))
        return Group((tuple(characters),))

    def _class(self) -> Terminal:
        self._at += 1
        negated = self._take("^")
        members: list[str] = []
        while not self._take("]"):
            first = last = self._character()
            if self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                last = self._character()
            if first > last:
                self._fail("a range ends before it begins")
            members.append(_code(first) if first == last else f"{_code(first)}-{_code(last)}")
        if not members:
            if not negated:
                self._fail("a set of no characters matches nothing")
            return Terminal("/(?s:.)/")
        return Terminal(f"/[{'^' if negated else ''}{''.join(members)}]/")

    def _character(self) -> int:
        """The code point of a character, which may be escaped."""
        if self._at >= len(self._text):
            self._fail("unexpected end of the grammar")
        character = self._text[self._at]
        self._at += 1
        if character != "\\":
            return ord(character)
        escape = self._text[self._at : self._at + 1]
        self._at += 1
        if escape in _HEXADECIMAL:
            return self._hexadecimal(_HEXADECIMAL[escape])
        if escape not in _ESCAPES:
            self._fail("unknown escape")
        return ord(_ESCAPES[escape])

    def _hexadecimal(self, size: int) -> int:
        digits = self._text[self._at : self._at + size]
        self._at += size
        if not re.fullmatch(rf"[0-9A-Fa-f]{{{size}}}", digits):
            self._fail("a hexadecimal escape is too short")
        code = int(digits, 16)
        if code > MAX_CODE_POINT or 0xD800 <= code <= 0xDFFF:
            self._fail("an escape is no character")
        return code

    def _repeated(self, node: Node) -> Repeat | None:
        sign = self._text[self._at : self._at + 1]
        if sign in _REPEATS:
            self._at += 1
            return Repeat(node, *_REPEATS[sign])
        if sign != "{":
            return None
        found = _COUNT.match(self._text, self._at)
        if found is None:
            self._fail("expected a count")
        self._at = found.end()
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] is not None else None
        if max(least, most or 0) > MAX_REPETITION or (most is not None and most < least):
            self._fail(f"a count must be from 0 to {MAX_REPETITION}, the greater one last")
        return Repeat(node, least, most)

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            self._fail("expected the name of a rule")
        self._at = found.end()
        return found[0]

    def _take(self, expected: str) -> bool:
        if not self._text.startswith(expected, self._at):
            return False
        self._at += len(expected)
        return True

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        assert found is not None, "the pattern matches an empty text"
        self._at = found.end()

    def _fail(self, reason: str) -> NoReturn:
        line = self._text.count("\n", 0, self._at) + 1
        _refuse(f"in line {line} of the grammar: {reason}")


# ---- writing ---------------------------------------------------------------------------------------------------------


def _code(point: int) -> str:
    """A character within a regex."""
    return f"\\u{{{point:x}}}"


def _quoted(point: int) -> str:
    """A character as a terminal."""
    return f"/{_code(point)}/"


def _lark(node: Node, names: dict[str, str]) -> str:
    match node:
        case Terminal():
            return node.lark
        case Reference():
            return names[node.name]
        case Group():
            return " | ".join(_sequence(nodes, names) for nodes in node.alternatives)
        case Repeat():
            most = "" if node.most is None else node.most
            return f"{_inner(node.node, names)}{{{node.least},{most}}}"


def _sequence(nodes: tuple[Node, ...], names: dict[str, str]) -> str:
    return " ".join(_inner(node, names) for node in nodes) or '""'


def _inner(node: Node, names: dict[str, str]) -> str:
    text = _lark(node, names)
    return f"({text})" if isinstance(node, Group | Repeat) else text


# ---- what a grammar may not do ---------------------------------------------------------------------------------------


def _references(node: Node) -> Iterator[str]:
    match node:
        case Reference():
            yield node.name
        case Group():
            for nodes in node.alternatives:
                for inner in nodes:
                    yield from _references(inner)
        case Repeat():
            yield from _references(node.node)


def _check_left_recursion(rules: Rules) -> None:
    """Refuse a rule that may begin with itself, as llama.cpp does."""
    empty = _empty_rules(rules)
    begins = {name: _begins(rule, empty) for name, rule in rules.items()}
    for name in rules:
        reached, waiting = set[str](), list(begins[name])
        while waiting:
            other = waiting.pop()
            if other == name:
                _refuse(f"the grammar's rule `{name[:64]}` begins with itself: left recursion can't be followed")
            if other not in reached:
                reached.add(other)
                waiting.extend(begins[other])


def _empty_rules(rules: Rules) -> frozenset[str]:
    """The rules that may be an empty text."""
    known: frozenset[str] = frozenset()
    while (found := frozenset(name for name, rule in rules.items() if _may_be_empty(rule, known))) != known:
        known = found
    return known


def _may_be_empty(node: Node, empty: frozenset[str]) -> bool:
    match node:
        case Terminal():
            return False
        case Reference():
            return node.name in empty
        case Group():
            return any(all(_may_be_empty(inner, empty) for inner in nodes) for nodes in node.alternatives)
        case Repeat():
            return node.least == 0 or _may_be_empty(node.node, empty)


def _begins(node: Node, empty: frozenset[str]) -> set[str]:
    """The rules that a node may begin with."""
    match node:
        case Terminal():
            return set()
        case Reference():
            return {node.name}
        case Repeat():
            return _begins(node.node, empty)
        case Group():
            found: set[str] = set()
            for nodes in node.alternatives:
                for inner in nodes:
                    found |= _begins(inner, empty)
                    if not _may_be_empty(inner, empty):
                        break
            return found
