"""Values and calls in the manner of Python, and of Gemma, as rules of a grammar: what `literals` reads."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from heylook_llm.helper.grammar import WHITESPACE
from heylook_llm.worker.formats.schema_rules import (
    TEXT,
    Arguments,
    Rules,
    Schema,
    held_text,
    literal,
    quoted,
    without,
)

INTEGER: Final = "/-?(0|[1-9][0-9]{0,17})/"
NUMBER: Final = r"/-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?/"
"""Numbers without bounds: none so long, or so large, that they couldn't be read."""
NAME: Final = "/[A-Za-z_][A-Za-z0-9_]{0,63}/"
"""The name of a property that a schema doesn't name."""
DEEPEST: Final = 4
"""Levels of a value of which the schema says nothing."""
_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f"
_SIMPLE: Final = rf"[^'\\{_CONTROLS}]*"
"""What stands between single quotes as it is."""
_BARE: Final = re.compile(r"[^\s:,{}\[\]\"'<>|]+")
_WORD: Final = re.compile(r"[\w.+-]+")


class Syntax(NamedTuple):
    """How values are written."""

    mark: str
    """What stands around texts, as they are; empty: quotes."""
    words: Mapping[str, tuple[str, ...]]
    comma: str
    colon: str
    space: str = ""
    """What may stand within brackets, beside them."""
    single: bool = False
    """Whether quotes may be single ones."""
    excluded: str = ""
    """What no text within quotes may hold."""

    @property
    def bare(self) -> bool:
        """Whether keys stand without quotes."""
        return bool(self.mark)


_WORDS: Final = {word: (word,) for word in ("true", "false", "null")}
_PYTHON_WORDS: Final = {"true": ("True", "true"), "false": ("False", "false"), "null": ("None", "null")}
PYTHON: Final = Syntax("", _PYTHON_WORDS, "/, ?/", "/: ?/", single=True)


def marked(mark: str) -> Syntax:
    """Gemma's, with its mark around texts."""
    return Syntax(mark, _WORDS, '","', '":"')


def json_without(mark: str) -> Syntax:
    """JSON in which a mark never stands."""
    return Syntax("", _WORDS, f"/,{WHITESPACE}?/", f"/:{WHITESPACE}?/", space=f"/{WHITESPACE}/?", excluded=mark)


class LiteralRules:
    """Writes the rules of values, each schema that is referred to once."""

    def __init__(self, syntax: Syntax, arguments: Arguments, rules: Rules) -> None:
        self._syntax = syntax
        self._arguments = arguments
        self._rules = rules
        self._known: dict[str, str] = {}
        self._anything: list[str] = []

    def python_call(self, before: str = "") -> str:
        """`name(key=value, ...)`, behind a regex."""
        schema = self._arguments.whole()
        members = [self._member(schema, key, self._keyword(key), '"="', part) for key, part in self._members(schema)]
        head = f"/{before}{literal(self._arguments.tool.name)}\\(/"
        return self._rules.rule(f'{head} {self._listed(schema, members, "=")} ")"')

    def marked_call(self) -> str:
        """`call:name{key:value,...}`."""
        head = quoted(f"call:{self._arguments.tool.name}")
        return self._rules.rule(f"{head} {self._object(self._arguments.whole())}")

    # ---- objects -----------------------------------------------------------------------------------------------------

    def _members(self, schema: Schema) -> Iterable[tuple[str, object]]:
        return Arguments.members(schema).items()

    def _member(self, schema: Schema, key: str, name: str, between: str, part: object) -> tuple[str, bool]:
        """A property's rule, and whether it must be there; no rule: it can't be written, so it is left out."""
        required = Arguments.is_required(schema, key)
        if not name and required:
            raise self._arguments.failed(f"the property {key!r} can't be written, in the syntax of this model's calls.")
        return (self._rules.rule(f"{name} {between} {self.value(part)}") if name else "", required)

    def _keyword(self, key: str) -> str:
        return quoted(key) if _WORD.fullmatch(key) else ""

    def _key(self, key: str) -> str:
        """A key of an object, in each way that it may be written."""
        found = [quoted(key)] if self._syntax.bare and _BARE.fullmatch(key) else []
        found += self._texts([key])
        return f"({' | '.join(found)})" if found else ""

    def _object(self, schema: Schema) -> str:
        colon = self._syntax.colon
        members = [self._member(schema, key, self._key(key), colon, part) for key, part in self._members(schema)]
        space = self._syntax.space
        return self._rules.rule(f'"{{" {space} {self._listed(schema, members, colon)} {space} "}}"')

    def _listed(self, schema: Schema, members: list[tuple[str, bool]], between: str) -> str:
        """Members in their order, those that may be left out left out at will, and others behind them."""
        written = [(name, required) for name, required in members if name]
        other = self._other(schema, between)
        comma = self._syntax.comma
        more = self._rules.rule(f"({comma} {other})*") if other else ""
        first = self._rules.rule(f"({other} {more})?") if other else ""
        for name, required in reversed(written):
            begun = f"{name} {more}"
            first = self._rules.rule(begun if required else f"{begun} | {first}" if first else f"({begun})?")
            more = self._rules.rule(f"{comma} {name} {more}" if required else f"({comma} {name})? {more}")
        return first

    def _other(self, schema: Schema, between: str) -> str:
        """A member that the schema doesn't name; empty: there may be none."""
        known = list(Arguments.members(schema))
        part = Arguments.others(schema, named=bool(known))
        if part is False:
            return ""
        taken = f" & ~/{'|'.join(map(literal, known))}/" if known else ""
        name = f"({NAME}{taken})"
        mark = '"' if not self._syntax.mark and between != "=" else ""
        key = self._rules.terminal(f"{quoted(mark)} {name} {quoted(mark)}" if mark else name)
        return self._rules.rule(f"{key} {quoted(between) if between == '=' else between} {self.value(part)}")

    # ---- values ------------------------------------------------------------------------------------------------------

    def value(self, schema: object) -> str:
        """The rule of a value."""
        identity = json.dumps(schema, sort_keys=True)
        name = self._known.get(identity)
        if name is None:
            name = self._known[identity] = self._rules.new()  # known before it is written: schemas refer to themselves
            found = [one for branch in self._arguments.branches(schema) for one in self._branch(branch)]
            if not found:
                raise self._arguments.failed("no value that its schema allows can be written.")
            self._rules.rule(" | ".join(found), name)
        return name

    def _branch(self, branch: Schema) -> list[str]:
        kind = branch.get("type")
        if kind is None:
            return [self._any(DEEPEST)]
        if kind in ("array", "object"):
            if "enum" in branch:
                self._arguments.leave_out(f"enum of {kind}s")
            return [self._array(branch) if kind == "array" else self._object(branch)]
        return self._enumerated(branch["enum"]) if "enum" in branch else self._plain(branch, str(kind))

    def _plain(self, branch: Schema, kind: str) -> list[str]:
        """A value without parts."""
        match kind:
            case "string":
                return self._string(branch)
            case "boolean":
                return [*self._word("true"), *self._word("false")]
            case "null":
                return self._word("null")
            case _ if len(branch) > 1:
                return [self._arguments.part(branch)]
        return [INTEGER if kind == "integer" else NUMBER]

    def _word(self, word: str) -> list[str]:
        return [quoted(one) for one in self._syntax.words[word]]

    def _enumerated(self, values: list[object]) -> list[str]:
        texts = self._texts([value for value in values if isinstance(value, str)])
        words = {True: "true", False: "false", None: "null"}
        for value in values:
            if value is None or isinstance(value, bool):
                texts += self._word(words[value])
            elif not isinstance(value, str):
                texts.append(quoted(json.dumps(value)))
        return [self._rules.terminal(" | ".join(texts))] if texts else []

    def _texts(self, texts: list[str]) -> list[str]:
        """These texts, in each way that they may be written."""
        if mark := self._syntax.mark:
            return [quoted(mark + text + mark) for text in texts if mark not in text]
        found = [quoted(self._quoted(text)) for text in texts]
        if self._syntax.single:
            found += [quoted(f"'{text}'") for text in texts if re.fullmatch(_SIMPLE, text)]
        return found

    def _quoted(self, text: str) -> str:
        """A text in JSON, written so that it doesn't hold what is excluded."""
        written = json.dumps(text, ensure_ascii=False)
        excluded = self._syntax.excluded
        return written.replace(excluded, excluded.replace("/", "\\/")) if excluded else written

    def _string(self, branch: Schema) -> list[str]:
        if mark := self._syntax.mark:
            text = held_text(self._arguments, branch, without(mark))
            return [self._rules.terminal(f"{quoted(mark)} ({text} & {TEXT}) {quoted(mark)}")]
        if self._syntax.single:
            text = held_text(self._arguments, branch, f"/{_SIMPLE}/")
            return [self._arguments.part(branch), self._rules.terminal(f'"\'" ({text}) "\'"')]
        return [self._json_string(branch)]

    def _json_string(self, branch: Schema) -> str:
        """A text in JSON; one that has to be of a form without escapes."""
        without_mark = f" & {without(self._syntax.excluded)}" if self._syntax.excluded else ""
        if "pattern" in branch or "format" in branch:
            text = held_text(self._arguments, branch, f'/[^"\\\\{_CONTROLS}]*/')
        else:
            least, most = int(branch.get("minLength", 0)), branch.get("maxLength", "")
            text = f'/([^"\\\\{_CONTROLS}]|\\\\(["\\\\\\/bfnrt]|u[0-9a-fA-F]{{4}})){{{least},{most}}}/'
        return self._rules.terminal(f'"\\"" ({text}{without_mark}) "\\""')

    def _array(self, branch: Schema) -> str:
        """Items in their order, then as many others as there may be."""
        fixed = branch.get("prefixItems")
        firsts = list(fixed) if isinstance(fixed, list) else []
        least, most = int(branch.get("minItems", 0)), branch.get("maxItems")
        firsts = firsts if most is None else firsts[:most]
        rest = branch.get("items", True)
        comma, space = self._syntax.comma, self._syntax.space
        least_rest = max(0, least - len(firsts))
        most_rest = None if most is None else most - len(firsts)
        tail = ""
        if rest is not False and most_rest != 0:
            tail = self._repeated(f"{comma} {self.value(rest)}", least_rest, most_rest)
        if not firsts and tail:
            item = self.value(rest)
            following = self._repeated(
                f"{comma} {item}", max(0, least - 1), None if most_rest is None else most_rest - 1
            )
            return self._rules.rule(f'"[" {space} ({item} {following}){"" if least else "?"} {space} "]"')
        return self._rules.rule(f'"[" {space} {self._tuple(firsts, least, tail)} {space} "]"')

    @staticmethod
    def _repeated(expression: str, least: int, most: int | None) -> str:
        if most is not None and most <= 0:
            return ""
        return f"({expression}){{{least},{'' if most is None else most}}}"

    def _tuple(self, firsts: list[object], least: int, tail: str) -> str:
        """Items of which those behind the `least` may be left out, and what follows all of them."""
        more = tail
        for at in range(len(firsts) - 1, -1, -1):
            item = f"{self._syntax.comma if at else ''} {self.value(firsts[at])} {more}"
            more = self._rules.rule(item if at < least else f"({item})?")
        return more

    def _any(self, depth: int) -> str:
        """A value of which nothing is said, so many levels deep."""
        while len(self._anything) <= depth:
            self._anything.append(self._any_within(self._anything[-1] if self._anything else ""))
        return self._anything[depth]

    def _any_within(self, inner: str) -> str:
        """A value whose items are of an inner rule; empty: it has none."""
        plain = [
            *self._string({"type": "string"}),
            NUMBER,
            *(one for word in self._syntax.words for one in self._word(word)),
        ]
        if not inner:
            return self._rules.rule(" | ".join(plain))
        comma, colon, space = self._syntax.comma, self._syntax.colon, self._syntax.space
        mark = quoted(self._syntax.mark or '"')
        key = f"{mark} {NAME} {mark}" + (f" | {NAME}" if self._syntax.bare else "")
        member = self._rules.rule(f"{self._rules.terminal(key)} {colon} {inner}")
        array = f'"[" {space} ({inner} ({comma} {inner})*)? {space} "]"'
        members = f'"{{" {space} ({member} ({comma} {member})*)? {space} "}}"'
        return self._rules.rule(" | ".join((*plain, array, members)))
