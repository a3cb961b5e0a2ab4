"""Schemas of tools' arguments, and whether a value is one that a schema allows: for call grammars."""

import re
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

NAMES = ("city", "days", "note", "on", "x1", "unit")
DEFINITIONS: dict[str, Any] = {
    "Level": {"enum": ["low", "high", 3]},
    "Tree": {
        "type": "object",
        "properties": {
            "leaf": {"type": "integer"},
            "inner": {"type": "array", "items": {"$ref": "#/$defs/Tree"}, "maxItems": 2},
        },
        "required": ["leaf"],
        "additionalProperties": False,
    },
}
TEXTS = (
    {"type": "string"},
    {"type": "string", "maxLength": 6},
    {"type": "string", "minLength": 2, "maxLength": 5},
    {"type": "string", "pattern": "^[a-c]{2,4}$"},
    {"type": "string", "pattern": "[0-9]/x"},
    {"type": "string", "format": "date"},
    {"enum": ["red", "light blue", "'quoted'", "null", "12", ""]},
    {"const": "so"},
    {"type": ["string", "null"], "maxLength": 4},
    {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}], "default": None, "title": "Maybe"},
)
OTHERS: tuple[Any, ...] = (
    {"type": "integer"},
    {"type": "integer", "minimum": 1, "maximum": 31},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number"},
    {"type": "boolean"},
    {"type": "null"},
    {"enum": [1, 2.5, True, None]},
    {"$ref": "#/$defs/Level"},
    {"$ref": "#/$defs/Tree"},
    {"anyOf": [{"type": "integer", "maximum": 9, "minimum": 0}, {"type": "string", "maxLength": 3}]},
    {"type": ["string", "integer", "boolean"], "maximum": 5, "minimum": 0, "maxLength": 4},
    {"allOf": [{"type": "string"}, {"maxLength": 2}]},
    {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "string", "maxLength": 2}], "items": False},
    {},
    True,
)
PLAIN = st.sampled_from([*TEXTS, *OTHERS])


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    arrays = st.builds(
        lambda items, least, more: {"type": "array", "items": items, "minItems": least, "maxItems": least + more},
        inner,
        st.integers(0, 2),
        st.integers(0, 2),
    )
    return arrays | objects(inner)


def objects(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Schemas of objects with such properties, some of which must be there, and perhaps others beside them."""

    def built(properties: dict[str, Any], required: int, others: Any) -> dict[str, Any]:
        names = [name for at, name in enumerate(properties) if required >> at & 1]
        found = {"type": "object", "properties": properties, "required": names}
        return found if others is None else {**found, "additionalProperties": others}

    others = st.sampled_from([None, False, False, True, {"type": "integer"}, {"type": "string", "maxLength": 3}])
    return st.builds(built, st.dictionaries(st.sampled_from(NAMES), parts, max_size=3), st.integers(0, 7), others)


SCHEMAS = objects(st.recursive(PLAIN, _grown, max_leaves=4)).map(lambda schema: {**schema, "$defs": DEFINITIONS})
"""Schemas of arguments."""

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str, "number": (int, float), "boolean": bool, "null": type(None), "array": list, "object": dict
}  # fmt: skip


def holds(value: Any, schema: Any, root: Mapping[str, Any]) -> bool:
    """Whether a value is one that a schema allows."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        return holds(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if not all(holds(value, part, root) for part in schema.get("allOf", ())):
        return False
    if "anyOf" in schema and not any(holds(value, part, root) for part in schema["anyOf"]):
        return False
    listed = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if listed is not None and not any(type(one) is type(value) and one == value for one in listed):
        return False
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return (not kinds or any(_is(value, kind) for kind in kinds)) and _within(value, schema, root)


def _is(value: Any, kind: str) -> bool:
    if kind == "integer":
        return type(value) is int or (type(value) is float and value.is_integer())
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _within(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    match value:
        case str():
            fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9)
            return fits and bool(re.search(schema.get("pattern", ""), value)) and _formatted(value, schema)
        case bool() | None:
            return True
        case int() | float():
            return bool(schema.get("minimum", -1e999) <= value <= schema.get("maximum", 1e999))
        case list():
            return _items_hold(value, schema, root)
        case dict():
            return _members_hold(value, schema, root)
    return False


def _formatted(value: str, schema: Mapping[str, Any]) -> bool:
    return schema.get("format") != "date" or bool(re.fullmatch(r"\d{4}-\d\d-\d\d", value))


def _items_hold(value: list[Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    firsts = schema.get("prefixItems", [])
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9):
        return False
    parts = [*firsts, *[schema.get("items", True)] * len(value)]
    return all(holds(item, part, root) for item, part in zip(value, parts, strict=False))


def _members_hold(value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    if not set(schema.get("required", ())) <= set(value):
        return False
    return all(holds(part, properties.get(key, others), root) for key, part in value.items())
