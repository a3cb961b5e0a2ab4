"""The dialogues that the bundled model is trained on are written without torch, so their rules are tested here."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

pytestmark = pytest.mark.unit


def test_a_seed_gives_the_same_dialogues(generator: Any) -> None:
    dialogues = generator("dialogues")
    assert [dialogues.dialogue(Random(3)) for _ in range(5)] == [dialogues.dialogue(Random(3)) for _ in range(5)]


def test_no_skill_teaches_what_is_held_out(generator: Any) -> None:
    held, skills, sessions = generator("held_out"), generator("skills"), generator("sessions")
    rng = Random(5)
    turns = [held.teach(rng, skills.plain) for _ in range(300)]
    turns += [turn for _ in range(100) for turn in sessions.session(rng)]
    assert not any(held.held_out(turn) for turn in turns)
    assert any(held.held_out(skills.plain(rng)) for _ in range(100))


def test_every_call_fits_a_tool_that_is_offered(generator: Any) -> None:
    dialogues, seen = generator("dialogues"), 0
    for seed in range(150):
        dialogue = dialogues.dialogue(Random(seed))
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in dialogue.tools}
        for message in dialogue.messages:
            for call in message.get("tool_calls", []):
                assert fits(call["function"]["arguments"], offered[call["function"]["name"]])
                seen += 1
    assert seen > 40


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """The part of JSON Schema that the generator writes."""
    if "enum" in schema:
        return value in schema["enum"]
    if schema["type"] == "object":
        properties = schema["properties"]
        return set(schema.get("required", [])) <= set(value) <= set(properties) and all(
            fits(part, properties[key]) for key, part in value.items()
        )
    if schema["type"] == "array":
        return all(fits(part, schema["items"]) for part in value)
    return {"string": str, "boolean": bool, "integer": int, "number": (int, float)}[schema["type"]] in kinds(value)


def kinds(value: Any) -> list[Any]:
    """The Python types that a JSON value may count as."""
    if isinstance(value, bool):
        return [bool]
    return [int, (int, float)] if isinstance(value, int) else [(int, float)] if isinstance(value, float) else [str]


@pytest.mark.parametrize("seed", range(10))
def test_json_by_a_schema_fits_it(generator: Any, seed: int) -> None:
    structured, rng = generator("structured"), Random(seed)
    schema = structured.object_schema(rng)
    turn = structured.schema_data(rng, schema, structured.schema_system(rng, schema))
    assert fits(json.loads(turn.answer), schema)


def test_a_dialogue_is_rendered_to_its_last_answer(generator: Any) -> None:
    dialogue = generator("dialogues").dialogue(Random(11))
    assert dialogue.messages[-1]["role"] == "assistant"
    assert dialogue.taught <= {i for i, message in enumerate(dialogue.messages) if message["role"] == "assistant"}
