"""How large and how deep a client's schema, regex or grammar may be: read in linear time, before anything compiles it.

The limits are what compilers survive with ease, and more than people write. What they let through may still be costly;
that is for the process that compiles it first.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from heylook_llm.errors import InvalidConstraint

MAX_BYTES: Final = 64 << 10
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 10_000
"""JSON values in a schema."""
MAX_PROPERTIES: Final = 256
"""Of one object: each may be left out, so a mask has to consider all that follow."""
MAX_COUNT: Final = 10_000
"""For minItems, maxLength and their like."""
MAX_MULTIPLE: Final = 10_000
MAX_PATTERN: Final = 512
MAX_GROUPS: Final = 20
"""Nested ones, in a pattern."""
MAX_REPETITION: Final = 2_000
MAX_RULES: Final = 500
MAX_CHOICES: Final = 1_000
MAX_PARENTHESES: Final = 64

_COUNTS: Final = frozenset(
    ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties", "minContains", "maxContains")
)
_REPETITION: Final = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")
_OPENING: Final = "([{"
_CLOSING: Final = ")]}"


def schema(text: str) -> dict[str, Any]:
    """The JSON schema of a text. Raises InvalidConstraint."""
    _size(text, "schema")
    _nesting(text)
    try:
        found = json.loads(text, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidConstraint("the schema is not valid JSON.") from error
    if isinstance(found, bool):
        found = {} if found else {"not": {}}
    if not isinstance(found, dict):
        raise InvalidConstraint("the schema must be a JSON object.")
    _values(found)
    return found


def regex(text: str) -> None:
    """A pattern. Raises InvalidConstraint."""
    if len(text) > MAX_PATTERN:
        raise InvalidConstraint(f"a pattern may have at most {MAX_PATTERN} characters.", code="invalid_value")
    depth = deepest = 0
    for character in _outside(text, "[", "]"):
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    if deepest > MAX_GROUPS:
        raise InvalidConstraint(f"a pattern may have at most {MAX_GROUPS} nested groups.", code="invalid_value")
    _repetitions(text)


def grammar(text: str) -> None:
    """A grammar, GBNF or Lark: its size, nesting, repetitions and number of rules. Raises InvalidConstraint."""
    _size(text, "grammar", code="invalid_value")
    depth = deepest = 0
    for character in _outside(text, '"', '"'):
        depth += (character in _OPENING) - (character in _CLOSING)
        deepest = max(deepest, depth)
    if deepest > MAX_PARENTHESES:
        message = f"a grammar may nest at most {MAX_PARENTHESES} parentheses."
        raise InvalidConstraint(message, code="invalid_value")
    if len(re.findall(r"^\s*[?!]?[\w-]+(?:\[[^\]]*\])?\s*(?::|::=)", text, re.MULTILINE)) > MAX_RULES:
        raise InvalidConstraint(f"a grammar may have at most {MAX_RULES} rules.", code="invalid_value")
    _repetitions(text)


def choices(text: str) -> list[str]:
    """The texts of a JSON list. Raises InvalidConstraint."""
    _size(text, "list of choices", code="invalid_value")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidConstraint("the choices are not valid JSON.", code="invalid_value") from error
    if not isinstance(found, list) or not found or not all(isinstance(choice, str) for choice in found):
        raise InvalidConstraint("the choices must be a list of texts, at least one.", code="invalid_value")
    if len(found) > MAX_CHOICES:
        raise InvalidConstraint(f"there may be at most {MAX_CHOICES} choices.", code="invalid_value")
    return found


def _size(text: str, what: str, *, code: str | None = None) -> None:
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise InvalidConstraint(f"the {what} is larger than {MAX_BYTES >> 10} KiB.", code=code)


def _constant(name: str) -> NoReturn:
    raise ValueError(name)


def _nesting(text: str) -> None:
    """Refuse deep JSON before a recursive parser sees it."""
    depth = 0
    for character in _outside(text, '"', '"'):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth > MAX_DEPTH:
            raise InvalidConstraint(f"the schema is nested deeper than {MAX_DEPTH} levels.")


def _outside(text: str, opening: str, closing: str) -> Iterator[str]:
    """The characters that stand outside of quotes or brackets, and aren't escaped."""
    inside = escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif inside:
            inside = character != closing
        elif character == opening:
            inside = True
            if opening != closing:
                yield character
        else:
            yield character


def _values(schema: dict[str, Any]) -> None:
    """Refuse a schema of too many values, or with a count or a pattern beyond its limit."""
    waiting: list[Any] = [schema]
    seen = 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > MAX_VALUES:
            raise InvalidConstraint(f"the schema has more than {MAX_VALUES} values.")
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
            _keywords(value)


def _keywords(value: dict[str, Any]) -> None:
    properties = value.get("properties")
    if isinstance(properties, dict) and len(properties) > MAX_PROPERTIES:
        raise InvalidConstraint(f"an object may have at most {MAX_PROPERTIES} properties.")
    for name in _COUNTS & value.keys():
        _number(name, value[name], MAX_COUNT)
    _number("multipleOf", value.get("multipleOf"), MAX_MULTIPLE)
    if isinstance(pattern := value.get("pattern"), str):
        regex(pattern)
    if isinstance(patterns := value.get("patternProperties"), dict):
        for pattern in patterns:
            regex(pattern)


def _number(name: str, value: object, most: int) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and value > most:
        raise InvalidConstraint(f"{name} may be at most {most}.")


def _repetitions(text: str) -> None:
    for least, most in _REPETITION.findall(text):
        if any(len(number) > 9 or int(number) > MAX_REPETITION for number in (least, most) if number):
            message = f"a repetition may have a count of at most {MAX_REPETITION}."
            raise InvalidConstraint(message, code="invalid_value")
