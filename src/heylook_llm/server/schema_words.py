"""Words of JSON schemas, for those that say what the server replies."""

from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "number"}
SECONDS: Final = NUMBER
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
STATE: Final[Schema] = {"type": "string", "examples": ["ready", "unloaded", "loading", "draining", "crashed"]}


def closed(required: Schema, optional: Schema | None = None) -> Schema:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


def closed_or_null(required: Schema) -> Schema:
    """The same, or null."""
    return {**closed(required), "type": ["object", "null"]}


def map_of(values: Schema) -> Schema:
    """An object whose values are these, under any names."""
    return {"type": "object", "additionalProperties": values}


def list_of(items: Schema) -> Schema:
    """An array of these."""
    return {"type": "array", "items": items}


def or_null(schema: Schema) -> Schema:
    """That, or null."""
    return {**schema, "type": [schema["type"], "null"]}


def just(word: str) -> Schema:
    """This word."""
    return {"type": "string", "const": word}


def see(name: str) -> Schema:
    """The schema of this name."""
    return {"$ref": f"#/components/schemas/Reply.{name}"}
