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
    (skills.arithmetic, 3.0),
    (skills.spelling, 2.0),
    (skills.calendar, 2.5),
    (skills.counting, 2.2),
    (skills.repeating, 4.0),
    (skills.capitals, 0.8),
    (skills.opposites, 1.0),
    (skills.small_talk, 0.6),
    (skills.unknown, 1.2),
    (structured.json_words, 4.5),
    (structured.json_schema, 7.0),
    (structured.json_free, 3.5),
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
    text, questions = memory.note_questions(rng, rng.choice([3, 4, 5, 6, 8]))
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
        if rng.random() < 0.4:
            turn = structured.with_result(rng, turn)
        if not held_out(turn):
            turns.append(turn)
    for _ in range(rng.choice([0, 0, 1, 2])):
        other = teach(rng, structured.tool_abstain)
        if not structured.numeric(other, tools):
            other.tools = tools
            turns.insert(rng.randint(0, len(turns)), other)
    return turns or tool_session(rng)


KINDS: list[tuple[Callable[[Random], list[Turn]], float]] = [
    (drill, 5.0),
    (tool_session, 4.0),
    (manner_session, 2.2),
    (note_session, 1.8),
]


def session(rng: Random) -> list[Turn]:
    """Any of these."""
    kinds, weights = zip(*KINDS, strict=True)
    return rng.choices(kinds, weights)[0](rng)
