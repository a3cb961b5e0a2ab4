"""A client's schema, regex, grammar or list of choices as one of llguidance's grammars, checked against the bounds.

Grammars are values of its JSON form: {"grammars": [{"name": ..., "lark_grammar": ...} or {..., "json_schema": ...}]},
the first of which is the whole; `@name` refers to another one.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from heylook_llm.errors import InvalidConstraint
from heylook_llm.helper import bounds, gbnf

WHITESPACE: Final = r"( |\n[ \t]{0,40})"
"""Between the parts of JSON, at most once: a model that finds no way on would write white space for ever."""
OPTIONS: Final = "x-guidance"
CHEAP_BYTES: Final = 16 << 10
CHEAP_VALUES: Final = 1_000
CHEAP_COUNT: Final = 100

_CHEAP_KEYWORDS: Final = frozenset(
    (
        *("type", "properties", "required", "additionalProperties", "items", "prefixItems", "enum", "const", "anyOf"),
        *("$ref", "$defs", "definitions", "title", "description", "default", "examples", "$schema", "$comment"),
        *("minItems", "maxItems", "minLength", "maxLength", "deprecated", "readOnly", "writeOnly"),
    )
)
_NAMES_OF_SCHEMAS: Final = frozenset(("properties", "$defs", "definitions"))
_SCHEMAS: Final = frozenset(("items", "additionalProperties", "prefixItems", "anyOf"))
_DIGITS: Final = {"d": "0-9", "D": "^0-9"}


def answer(kind: str, source: str, *, strict: bool = False) -> dict[str, Any]:
    """The grammar of a constraint (core.Constraint's kind and source), without a name. Raises InvalidConstraint.

    `strict`: a keyword that can't be followed is refused; else it is left out.
    """
    match kind:
        case "json_object":
            return {"json_schema": with_options({"type": "object"}, strict=False)}
        case "json_schema":
            return {"json_schema": with_options(bounds.schema(source), strict=strict)}
        case "regex":
            return {"lark_grammar": f"start: /{pattern(source)}/\n"}
        case "choice":
            choices = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in bounds.choices(source))
            return {"lark_grammar": f"start: CHOICE\nCHOICE: {choices}\n"}
        case "gbnf":
            bounds.grammar(source)
            return {"lark_grammar": gbnf.to_lark(source)}
        case "lark":
            return {"lark_grammar": _lark(source)}
    raise InvalidConstraint(f"there is no constraint of kind '{kind}'.", code="invalid_value")


def with_options(schema: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """A schema with our options instead of its own."""
    ours = {"whitespace_pattern": WHITESPACE, "lenient": not strict}
    return {key: value for key, value in schema.items() if key != OPTIONS} | {OPTIONS: ours}


def text(*grammars: Mapping[str, Any]) -> str:
    """Grammars in llguidance's JSON form; the first is the whole."""
    return json.dumps({"grammars": list(grammars)}, ensure_ascii=False)


def is_cheap(kind: str, source: str) -> bool:
    """Whether compiling it is sure to cost little: each value adds a bounded part, and nothing multiplies another."""
    if kind == "json_object":
        return True
    if kind == "choice":
        return len(source) <= CHEAP_BYTES
    if kind != "json_schema" or len(source) > CHEAP_BYTES:
        return False
    try:
        schema = bounds.schema(source)
    except InvalidConstraint:
        return False
    return _is_cheap_schema(schema)


def _is_cheap_schema(schema: dict[str, Any]) -> bool:
    waiting: list[Any] = [schema]
    left = CHEAP_VALUES
    while waiting:
        value = waiting.pop()
        if isinstance(value, bool):
            continue
        if not isinstance(value, dict) or not value.keys() <= _CHEAP_KEYWORDS:
            return False
        left -= 1 + len(value.get("enum") or ())
        if left < 0 or any(_is_large(value.get(name)) for name in ("minItems", "maxItems", "minLength", "maxLength")):
            return False
        for name in _NAMES_OF_SCHEMAS & value.keys():
            if not isinstance(value[name], dict):
                return False
            waiting.extend(value[name].values())
        for name in _SCHEMAS & value.keys():
            waiting.extend(value[name] if isinstance(value[name], list) else [value[name]])
    return True


def _is_large(count: object) -> bool:
    return count is not None and not (type(count) is int and 0 <= count <= CHEAP_COUNT)


def pattern(source: str) -> str:
    r"""A regex within /.../: whole matches, as Python's fullmatch; \d is an ASCII digit."""
    bounds.regex(source)
    source = source.removeprefix("^")
    if source.endswith("$") and not re.search(r"(?<!\\)(?:\\\\)*\\\$$", source):
        source = source[:-1]
    written: list[str] = []
    inside = escaped = False
    for character in source:
        if escaped:
            written.append(_escape(character, inside=inside))
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            inside = (inside or character == "[") and character != "]"
            written.append({"/": "\\/", "\n": "\\n", "\r": "\\r"}.get(character, character))
    return "".join(written) + "\\" * escaped


def _escape(character: str, *, inside: bool) -> str:
    if character in _DIGITS and not (inside and character == "D"):
        return _DIGITS[character] if inside else f"[{_DIGITS[character]}]"
    return "\\n" if character == "\n" else "\\" + character


def _lark(source: str) -> str:
    """A client's own Lark. What it embeds is within the bounds too; tokens can't be named: it doesn't know them."""
    bounds.grammar(source)
    for directive in re.findall(r"%(\w+)", source):
        if directive not in ("json", "regex", "ignore", "import", "llguidance"):
            raise InvalidConstraint(f"%{directive} is not offered in a grammar here.", code="invalid_value")
    plain = re.sub(r'"(?:[^"\\\n]|\\.)*"|/(?:[^/\\\n]|\\.)+/|//[^\n]*|#[^\n]*', "", source)
    if re.search(r"<[^<>\n]+>|@\w", plain):
        raise InvalidConstraint("tokens and other grammars can't be named in a grammar here.", code="invalid_value")
    return source
