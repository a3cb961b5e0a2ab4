"""Values that a model wrote without JSON's quotes: which JSON value is meant, by the schema of the tool."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from heylook_llm.worker.formats.json_calls import dumps, loads
from heylook_llm.worker.formats.literals import value_of
from heylook_llm.worker.formats.reader import NotACall

MAX_PARTS: Final = 256
"""Of a schema: it is looked at within the step loop."""

_KINDS: Final[dict[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}


def kind_of(value: object) -> str:
    """JSON's name of a value's type."""
    return _KINDS[type(value)]


def kinds_of(parameters: Mapping[str, Any], key: str) -> frozenset[str]:
    """JSON's names of the types that a parameter may have; empty: its schema doesn't say."""
    properties = parameters.get("properties")
    schema = properties.get(key) if isinstance(properties, dict) else None
    return frozenset(_kinds(schema, parameters, set()))


def _kinds(schema: object, root: Mapping[str, Any], seen: set[int]) -> Iterator[str]:
    """The types of a schema. Each of its parts is looked at once: references may lead round in circles."""
    if not isinstance(schema, dict) or id(schema) in seen or len(seen) >= MAX_PARTS:
        return
    seen.add(id(schema))
    declared = schema.get("type")
    if declared is not None:
        yield from (one for one in (declared if isinstance(declared, list) else [declared]) if isinstance(one, str))
        return
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    yield from (_KINDS[type(one)] for one in (values if isinstance(values, list) else []) if type(one) in _KINDS)
    for name in ("anyOf", "oneOf", "allOf"):
        branches = schema.get(name)
        for branch in branches[:MAX_PARTS] if isinstance(branches, list) else []:
            yield from _kinds(branch, root, seen)
    yield from _kinds(referred(schema.get("$ref"), root), root, seen)


def referred(reference: object, root: Mapping[str, Any]) -> object:
    """What `#/$defs/Name` names."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    here: object = root
    for part in reference.removeprefix("#/").split("/"):
        here = here.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(here, Mapping) else None
    return here


def as_json(text: str, kinds: frozenset[str]) -> str:
    """The JSON text of a value that may be of these kinds, none: of any; a text that is none of them is a string."""
    if kinds == {"string"}:
        return dumps(text)
    for value, written in _readings(text.strip()):
        if not isinstance(value, str) and (not kinds or _fits(value, kinds)):
            return written
    return dumps(text)


def _readings(text: str) -> Iterator[tuple[object, str]]:
    """What a text says as JSON, or as Python, with its JSON text."""
    value = loads(text)
    if value is not None or text == "null":
        yield value, text
        return
    try:
        found = value_of(text)
        yield found, dumps(found)
    except NotACall:
        return


def _fits(value: object, kinds: frozenset[str]) -> bool:
    kind = kind_of(value)
    if kind == "null":
        return kind in kinds or "string" not in kinds
    if kind == "number" and "number" not in kinds:
        return "integer" in kinds and isinstance(value, float) and value.is_integer()
    return kind in kinds or (kind == "integer" and "number" in kinds)
