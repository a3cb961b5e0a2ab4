"""What a schema allows where a family doesn't write JSON: its alternatives, and its texts as terminals of a grammar.

Terminals are llguidance's Lark. What a schema demands and these rules can't express is refused for a strict tool, and
left out for another one, as JSON schemas have it everywhere.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from heylook_llm import core
from heylook_llm.errors import InvalidConstraint
from heylook_llm.helper.grammar import pattern as as_pattern
from heylook_llm.helper.grammar import with_options
from heylook_llm.worker.formats.values import kind_of, referred

Schema = Mapping[str, Any]

ANNOTATIONS: Final = frozenset(
    (
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "x-guidance"),
        *("$schema", "$id", "$comment", "$defs", "definitions"),
    )
)
MAX_BRANCHES: Final = 256
"""Alternatives of one value."""
MAX_LOOKS: Final = 20_000
"""At schemas of one tool: references may lead to the same ones on very many ways."""
TEXT: Final = "/(?s:.*)/"

_TEXTS: Final = frozenset(("minLength", "maxLength", "pattern", "format"))
_NUMBERS: Final = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))
_FOLLOWED: Final[Mapping[str, frozenset[str]]] = {
    "string": _TEXTS,
    "integer": _NUMBERS,
    "number": _NUMBERS,
    "boolean": frozenset(),
    "null": frozenset(),
    "array": frozenset(("items", "prefixItems", "minItems", "maxItems")),
    "object": frozenset(("properties", "required", "additionalProperties")),
}
"""JSON's types, and the keywords that say more of each."""
_TELLING: Final = {keyword: kind for kind, keywords in _FOLLOWED.items() for keyword in keywords if kind != "integer"}
_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), int),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "enum", "required", "prefixItems"), list),
    **dict.fromkeys(("items", "additionalProperties"), (bool, Mapping)),
    **dict.fromkeys(_NUMBERS, (int, float)),
    **dict.fromkeys(("pattern", "format", "$ref"), str),
    "properties": Mapping,
    "type": (str, list),
}
"""What a keyword's value has to be."""
_DATE: Final = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_BYTE: Final = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LABEL: Final = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
FORMATS: Final[Mapping[str, str]] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "uuid": "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "ipv4": rf"{_BYTE}(\.{_BYTE}){{3}}",
    "hostname": rf"{_LABEL}(\.{_LABEL}){{0,8}}",
    "email": rf"[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+){{0,8}}@{_LABEL}(\.{_LABEL}){{1,8}}",
}
"""Formats of texts, as regexes for the whole."""


class Rules:
    """A grammar in the making."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._numbers = itertools.count()

    def new(self) -> str:
        """A rule's name that isn't taken; written large, it is a terminal's."""
        return f"r{next(self._numbers)}"

    def rule(self, expression: str, name: str = "") -> str:
        """A rule of this expression; returns its name."""
        name = name or self.new()
        self._lines.append(f"{name}: {expression}\n")
        return name

    def terminal(self, expression: str) -> str:
        """A terminal of this expression; returns its name."""
        return self.rule(expression, self.new().upper())

    def text(self) -> str:
        """The whole."""
        return "".join(self._lines)


class Arguments:
    """The schema of one tool's arguments, an object."""

    def __init__(self, tool: core.Tool) -> None:
        self.tool = tool
        given: Schema = tool.parameters or {"additionalProperties": False}
        self.root: dict[str, Any] = {"type": "object", **given}
        self.left_out: list[str] = []
        """Keywords that the rules don't follow."""
        self._looks = 0

    @property
    def json(self) -> str:
        """As a whole, in JSON."""
        return f"%json {json.dumps(with_options(self.root, strict=self.tool.strict))}"

    def part(self, schema: object) -> str:
        """A part of it, in JSON."""
        if isinstance(schema, bool):
            schema = {} if schema else {"not": {}}
        assert isinstance(schema, Mapping)
        known: dict[str, Any] = {key: self.root[key] for key in ("$defs", "definitions") if key in self.root}
        return f"%json {json.dumps(with_options({**known, **schema}, strict=self.tool.strict))}"

    def failed(self, reason: str) -> InvalidConstraint:
        """The error that says why the tool's arguments can't be held."""
        return InvalidConstraint(f"'{self.tool.name}': {reason}")

    def leave_out(self, keyword: str) -> None:
        """A keyword isn't followed. Raises InvalidConstraint where it must be."""
        if self.tool.strict:
            message = f"'{keyword}' can't be followed there, in the syntax of this model's calls; set strict to false."
            raise self.failed(message)
        self.left_out.append(keyword)

    # ---- alternatives ------------------------------------------------------------------------------------------------

    def branches(self, schema: object) -> list[Schema]:
        """The alternatives of a schema, each of one type, or of any where it has none; references are followed.

        A branch holds `type`, what its type follows, and `enum`, whose values are all of its type.
        """
        found = list(itertools.islice(self._alternatives(schema, ()), MAX_BRANCHES + 1))
        if len(found) > MAX_BRANCHES:
            raise self.failed(f"a value may have at most {MAX_BRANCHES} alternatives.")
        return [branch for one in found for branch in self._typed(one)]

    def _alternatives(self, schema: object, within: tuple[str, ...]) -> Iterator[Schema]:
        own = self._own(schema)
        if own is None:
            return
        if "$ref" in own:
            name = own.pop("$ref")
            if name not in within:  # else it is nothing but itself
                yield from self._all(own, self._alternatives(referred(name, self.root), (*within, name)))
            return
        for keyword in ("allOf", "anyOf", "oneOf"):
            if keyword in own:
                yield from self._combined(own, keyword, own.pop(keyword), within)
                return
        yield own

    def _own(self, schema: object) -> dict[str, Any] | None:
        """What a schema demands; None: it can't be met."""
        self._looks += 1
        if self._looks > MAX_LOOKS:
            raise self.failed("its schema leads to the same parts on too many ways.")
        if isinstance(schema, bool):
            return {} if schema else None
        if not isinstance(schema, Mapping):
            raise self.failed("a part of its schema is none.")
        own = {key: value for key, value in schema.items() if key not in ANNOTATIONS}
        for key in own.keys() & _KINDS.keys():
            if not isinstance(own[key], _KINDS[key]):
                raise self.failed(f"'{key}' has a value of another kind than it should.")
        return own

    def _combined(
        self, own: dict[str, Any], keyword: str, parts: list[object], within: tuple[str, ...]
    ) -> Iterator[Schema]:
        if keyword != "allOf":
            for part in parts:
                for branch in self._alternatives(part, within):
                    yield from self._alternatives(self._both(own, branch), within)
            return
        if not parts:
            yield from self._alternatives(own, within)
        for branch in self._alternatives(parts[0], within) if parts else ():
            rest = {**own, "allOf": parts[1:]} if parts[1:] else own
            for other in self._alternatives(rest, within):
                yield self._both(other, branch)

    def _all(self, own: dict[str, Any], branches: Iterator[Schema]) -> Iterator[Schema]:
        for branch in branches:
            yield self._both(own, branch)

    def _both(self, left: Schema, right: Schema) -> dict[str, Any]:
        """What both schemas demand. Raises InvalidConstraint where they say different things with one keyword."""
        both = {**left, **right}
        for keyword in left.keys() & right.keys():
            a, b = left[keyword], right[keyword]
            if a == b:
                continue
            if keyword == "required" and isinstance(a, list) and isinstance(b, list):
                both[keyword] = [*a, *(name for name in b if name not in a)]
            elif keyword == "properties" and not a.keys() & b.keys():
                both[keyword] = {**a, **b}
            else:
                raise self.failed(f"'{keyword}' stands in schemas that hold together, in this model's syntax.")
        return both

    def _typed(self, schema: Schema) -> Iterator[Schema]:
        """A schema without alternatives, by its types."""
        values = schema.get("enum", [schema["const"]] if "const" in schema else None)
        declared = schema.get("type")
        kinds = declared if isinstance(declared, list) else [declared] if declared else []
        if values is not None:
            yield from self._listed(schema, values, kinds)
            return
        if not kinds:
            kinds = sorted({_TELLING[keyword] for keyword in schema if keyword in _TELLING})[:1]
        for kind in kinds:
            if not isinstance(kind, str) or kind not in _FOLLOWED:
                raise self.failed(f"there is no type {kind!r}.")
            yield {"type": kind, **self._followed(schema, kind)}
        if not kinds:
            self._followed(schema, "")
            yield {}

    def _listed(self, schema: Schema, values: list[object], kinds: list[str]) -> Iterator[Schema]:
        """A list of values, by their types."""
        by_kind: dict[str, list[object]] = {}
        for value in values:
            kind = kind_of(value)
            if not kinds or kind in kinds or (kind == "integer" and "number" in kinds):
                by_kind.setdefault(kind, []).append(value)
        for kind, found in by_kind.items():
            yield {"type": kind, "enum": found}
        for keyword in schema.keys() - {"type", "enum", "const"}:
            self.leave_out(keyword)

    def _followed(self, schema: Schema, kind: str) -> dict[str, Any]:
        """The keywords of one type; those of other types say nothing of it, and those of none aren't followed."""
        wanted = _FOLLOWED.get(kind, frozenset())
        for keyword in schema.keys() - wanted - {"type"} - _TELLING.keys():
            self.leave_out(keyword)
        return {key: value for key, value in schema.items() if key in wanted}

    # ---- objects -----------------------------------------------------------------------------------------------------

    def whole(self) -> Schema:
        """The arguments as one object without alternatives. Raises InvalidConstraint where they have some."""
        found = [branch for branch in self.branches(self.root) if branch.get("type") == "object"]
        if len(found) != 1:
            raise self.failed("arguments with alternatives can't be held, in the syntax of this model's calls.")
        return found[0]

    @staticmethod
    def members(schema: Schema) -> dict[str, object]:
        """The properties that are named, those that must be there too."""
        properties = schema.get("properties")
        named = dict(properties) if isinstance(properties, Mapping) else {}
        return named | {name: Arguments.others(schema, named=False) for name in _required(schema) if name not in named}

    @staticmethod
    def others(schema: Schema, *, named: bool) -> object:
        """The schema of further properties; False: none. Where some are `named`, others come only if it says so."""
        found: object = schema.get("additionalProperties", not named)
        return found

    @staticmethod
    def is_required(schema: Schema, name: str) -> bool:
        """Whether a property must be there."""
        return name in _required(schema)


def _required(schema: Schema) -> list[str]:
    required = schema.get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


# ---- terminals -------------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """A text as a literal of a grammar."""
    return json.dumps(text, ensure_ascii=False)


def literal(text: str) -> str:
    """A text within a regex."""
    escaped = re.escape(text).replace("/", r"\/")
    return escaped.replace("\\\n", r"\n").replace("\\\r", r"\r").replace("\\\t", r"\t")


def without(mark: str) -> str:
    """Any text that doesn't hold a mark."""
    return f"{TEXT} & ~/(?s:.*){literal(mark)}(?s:.*)/"


def held_text(arguments: Arguments, branch: Schema, base: str) -> str:
    """A terminal of the texts of `base` that a branch allows."""
    parts = [base]
    least, most = branch.get("minLength", 0), branch.get("maxLength")
    if least or most is not None:
        parts.append(f"/(?s:.{{{int(least)},{'' if most is None else int(most)}}})/")
    if (source := branch.get("pattern")) is not None:
        parts.append(_pattern(arguments, str(source)))
    if (name := branch.get("format")) is not None:
        if name in FORMATS:
            parts.append(f"/{FORMATS[name]}/")
        else:
            arguments.leave_out(f"format={name}")
    return " & ".join(filter(None, parts))


def _pattern(arguments: Arguments, source: str) -> str:
    """What matches a schema's pattern at some place; nothing where that isn't followed."""
    inner = re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]", "", source, flags=re.DOTALL)
    anchored = inner.startswith("^"), inner.endswith("$")
    if set(inner.removeprefix("^").removesuffix("$")) & set("^$") or (any(anchored) and "|" in inner):
        arguments.leave_out(f"pattern={source}")
        return ""
    start, end = ("" if one else "(?s:.*)" for one in anchored)
    return f"/{start}({as_pattern(source)}){end}/"
