"""Schemas and tools with names that the training never used, and requests about them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import skills
import structured
import words

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Strange:
    """A user's message, with the schema that it asks for or the tools that come with it."""

    text: str
    schema: Schema | None = None
    tools: tuple[Schema, ...] = ()


def word(rng: Random) -> str:
    """A word of a make that the training text does not have."""
    return "".join(rng.choice("bcdfgjkmpqvwxz") + rng.choice("aeiouy") for _ in range(rng.randint(1, 4))) + rng.choice(
        ["", "7", "x", "_id", "List"]
    )


def schema(rng: Random, depth: int = 0) -> Schema:
    """A random schema with strange names, up to three levels deep."""
    roll = rng.random()
    if depth < 3 and (depth == 0 or roll < 0.2):
        properties = {word(rng): schema(rng, depth + 1) for _ in range(rng.randint(1, 6))}
        return {
            "type": "object",
            "properties": properties,
            "required": rng.sample(list(properties), rng.randint(0, len(properties))),
        }
    if roll < 0.35:
        return {"type": "array", "items": {"type": rng.choice(["string", "integer", "number", "boolean"])}}
    if roll < 0.45:
        return {"enum": [word(rng) for _ in range(rng.randint(1, 5))]}
    return {"type": rng.choice(["string", "integer", "number", "boolean"])}


def asked(rng: Random, with_tools: bool) -> Strange:
    """Any request at all, for JSON of an unseen schema or with an unseen set of tools."""
    request = rng.choice(
        [
            words.sentence(rng),
            skills.plain(rng).key,
            f"{word(rng)} {word(rng)} {rng.randint(0, 999)}",
            "Please help me with this.",
        ]
    )
    if not with_tools:
        wanted = schema(rng)
        shown = structured.dump(wanted)
        forms = [
            f"{request}\nAnswer in JSON with this schema: {shown}",
            f"Schema: {shown}\n{request}",
            f"Reply with JSON matching {shown}",
        ]
        return Strange(rng.choice(forms), schema=wanted)
    tools = tuple(_tool(rng) for _ in range(rng.randint(1, 5)))
    chosen = rng.choice(tools)["function"]
    if rng.random() < 0.5:
        request = f"{chosen['description']} {rng.choice(['for', 'with', 'of'])} {words.value_text(rng)}"
    return Strange(request, tools=tools)


def _tool(rng: Random) -> Schema:
    function = {"name": word(rng), "description": f"{word(rng)} the {word(rng)}", "parameters": schema(rng)}
    return {"type": "function", "function": function}
