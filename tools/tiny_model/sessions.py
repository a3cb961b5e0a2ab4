"""Dialogues that stay with one skill for many turns, so that each prompt teaches many answers."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import memory
import skills
import structured
from held_out import held_out, teach
from skills import Turn

DRILLS: list[tuple[Callable[[Random], Turn], float]] = [
    (skills.arithmetic, 1.5),
    (skills.spelling, 6.0),
    (skills.calendar, 1.2),
    (skills.counting, 4.5),
    (skills.repeating, 6.5),
    (skills.capitals, 0.8),
    (skills.opposites, 1.0),
    (skills.small_talk, 1.0),
    (skills.jokes, 0.2),
    (skills.unknown, 1.2),
    (structured.json_words, 9.0),
    (structured.json_schema, 9.0),
    (structured.json_free, 9.0),
    (memory.not_told, 0.3),
    (memory.last_words, 0.3),
]


def drill(rng: Random) -> list[Turn]:
    """One skill again and again, now and then something else between."""
    functions, weights = zip(*DRILLS, strict=True)
    write, least, size = rng.choices(functions, weights)[0], rng.choice([100, 300, 600, 900]), 0
    turns: list[Turn] = []
    while size < least:
        turn = teach(rng, write if rng.random() < 0.85 else rng.choices(functions, weights)[0])
        if turn.system is None:
            turns.append(turn)
        size += len(turn.key) + len(turn.answer) // 3
    return turns


def note_session(rng: Random) -> list[Turn]:
    """Several questions about one text."""
    text, questions = memory.note_questions(rng, rng.choice([3, 4, 5, 6]))
    rng.shuffle(questions)
    first = rng.choice([f"{text}\n{questions[0][0]}", f"{text}\n\n{questions[0][0]}"])
    turns = [Turn("notes", [skills.user(first), skills.assistant(questions[0][1])], first)]
    for question, answer in questions[1:]:
        turns.append(Turn("notes", [skills.user(question), skills.assistant(answer)], f"{text}\n{question}"))
    if held_out(turns[0]):
        return note_session(rng)
    return [turn for turn in turns if not held_out(turn)]


def manner_session(rng: Random) -> list[Turn]:
    """One rule of the system prompt, kept over several turns."""
    system, apply = memory.rule(rng)
    turns = [memory.mannered(rng, system, apply) for _ in range(rng.randint(2, 9))]
    kept = [turn for turn in turns if not held_out(turn)]
    return kept or manner_session(rng)


def schema_session(rng: Random) -> list[Turn]:
    """Several facts for one schema of the system prompt."""
    schema = structured.object_schema(rng, 1)
    system = structured.schema_system(rng, schema)
    turns = [structured.schema_data(rng, schema, system) for _ in range(rng.randint(2, 6))]
    return [turn for turn in turns if not held_out(turn)] or schema_session(rng)


def tool_session(rng: Random) -> list[Turn]:
    """Several tools, each called once, some with a result and an answer, and questions that none fits."""
    calls: list[structured.Call] = []
    for _ in range(rng.choice([2, 3, 3, 4, 5])):
        new = structured.call(rng)
        if not any(structured.similar(new.tool, old.tool) or structured.same_name(new.tool, old.tool) for old in calls):
            calls.append(new)
    tools = structured.finished(rng, [item.tool for item in calls])
    turns: list[Turn] = []
    for item in calls:
        turn = structured.call_turn(rng, [item], tools)
        if rng.random() < 0.6:
            turn = structured.with_result(rng, turn)
        if not held_out(turn):
            turns.append(turn)
    for _ in range(rng.choice([0, 0, 1, 2])):
        other = teach(rng, structured.tool_abstain)
        if not structured.numeric(other, tools):
            other.tools = tools
            turns.insert(rng.randint(0, len(turns)), other)
    return turns or tool_session(rng)


def recall_pair(rng: Random) -> list[Turn]:
    """A statement and its question, not held out."""
    pair = memory.recall(rng)
    while held_out(pair[0]) or held_out(pair[1]):
        pair = memory.recall(rng)
    return pair


def recall_session(rng: Random) -> list[Turn]:
    """Several things told, some other turns, and the questions for them."""
    pairs = {pair[0].topic: pair for pair in (recall_pair(rng) for _ in range(rng.choice([2, 3, 4, 6, 8])))}
    told, asked = [pair[0] for pair in pairs.values()], [pair[1] for pair in pairs.values()]
    between = [teach(rng, skills.plain) for _ in range(rng.choice([0, 0, 1, 2, 3]))]
    rng.shuffle(asked)
    return [*told, *between, *asked]


KINDS: list[tuple[Callable[[Random], list[Turn]], float]] = [
    (drill, 6.5),
    (tool_session, 6.0),
    (manner_session, 1.5),
    (note_session, 2.5),
    (recall_session, 1.2),
    (schema_session, 2.0),
]


def session(rng: Random) -> list[Turn]:
    """Any of these."""
    kinds, weights = zip(*KINDS, strict=True)
    return rng.choices(kinds, weights)[0](rng)
