"""Whole dialogues: turns put together, with the rule that keeps held-out prompts out of the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import memory
import sessions
import skills
import structured
import words
from held_out import teach
from skills import Message, Turn

THINK_WORDS = [
    " Think step by step.",
    " Think first.",
    " Please think step by step.",
    " Explain your thinking.",
    " Take your time and think.",
    " Let's think step by step.",
]
THINK_OPENERS = ["Think step by step: ", "Think first: ", "Think: "]


@dataclass(slots=True)
class Dialogue:
    """Messages and tools as a client sends them, and which assistant messages are taught."""

    messages: list[Message]
    tools: list[Message] = field(default_factory=list)
    thinking: bool = False
    taught: set[int] = field(default_factory=set)
    untaught_starts: set[int] = field(default_factory=set)


LONE: list[tuple[Callable[[Random], Turn], float]] = [
    (structured.tool_call, 4.0),
    (structured.tool_result, 4.0),
    (structured.tool_abstain, 1.6),
    (structured.forced_call, 0.3),
    (structured.json_words, 3.0),
    (structured.json_schema, 3.5),
    (structured.json_free, 2.0),
    (structured.forced_json, 0.5),
    (memory.persona, 1.4),
    (memory.briefed, 2.5),
    (memory.manner, 2.0),
    (memory.notes, 2.0),
    (memory.last_words, 0.5),
    (memory.no_persona, 0.25),
    (memory.not_told, 0.9),
]


def lone(rng: Random) -> Turn:
    """A turn that brings its own system prompt or tools, or looks back."""
    functions, weights = zip(*LONE, strict=True)
    return teach(rng, rng.choices(functions, weights)[0])


def with_thought(rng: Random, turn: Turn, by_words: bool) -> Turn:
    """The same turn with a reasoning before its last answer."""
    messages = [dict(message) for message in turn.messages]
    messages[-1]["reasoning_content"] = turn.thought
    if by_words:
        asked = messages[0]["content"]
        messages[0]["content"] = (
            rng.choice(THINK_OPENERS) + asked if rng.random() < 0.3 else asked + rng.choice(THINK_WORDS)
        )
    return Turn(
        turn.skill, messages, turn.key, turn.thought, turn.check, turn.system, turn.tools, turn.topic, turn.short
    )


def thinking_dialogue(rng: Random) -> Dialogue:
    """A dialogue whose last answer is thought about: by the template's flag or by the user's words."""
    turn = teach(rng, skills.plain) if rng.random() < 0.85 else lone(rng)
    while not turn.thought or len(turn.messages) != 2:
        turn = teach(rng, skills.plain)
    by_words = rng.random() < 0.5
    before = [teach(rng, skills.plain) for _ in range(rng.choice([0, 0, 0, 0, 0, 1]))]
    if turn.topic or turn.tools:
        before = []
    return assemble(rng, [*before, with_thought(rng, turn, by_words)], thinking=not by_words, last_only=True)


def long_dialogue(rng: Random, least_characters: int) -> Dialogue:
    """Many things told, most of them early, other talk, and the questions, most of them late."""
    turns = [lone(rng)] if rng.random() < 0.3 else [teach(rng, skills.plain)]
    while turns[0].unforced or turns[0].system or turns[0].skill in ("last_words", "not_told"):
        turns = [lone(rng)]
    while sum(len(turn.key) + 60 for turn in turns) < 0.6 * least_characters:
        turns.append(filler(rng, least_characters))
    if turns[0].tools:
        turns = [turns[0], *follow_up(rng, turns[0], turns[1:])]
    pairs = {pair[0].topic: pair for pair in (sessions.recall_pair(rng) for _ in range(least_characters // 300))}
    placed = [((index + rng.random()) / len(turns), turn) for index, turn in enumerate(turns[1:])]
    for told, asked in pairs.values():
        first = rng.random() ** 3
        placed += [(first, told), (1 - (1 - first) * rng.random() ** 2, asked)]
    return assemble(rng, [turns[0], *(turn for _, turn in sorted(placed, key=lambda pair: pair[0]))])


def ordinary_dialogue(rng: Random) -> Dialogue:
    """One to six turns of mixed skills."""
    count = rng.choice([1, 1, 1, 2, 2, 3, 4, 5, 6])
    turns = [lone(rng)] if rng.random() < 0.62 else [teach(rng, skills.plain)]
    if turns[0].unforced:
        return assemble(rng, turns)
    turns += [teach(rng, skills.plain) for _ in range(count - 1)]
    styled = turns[0].skill in ("manner",) or bool(turns[0].system and "JSON" in turns[0].system)
    if styled:
        turns = turns[:1]
    if turns[0].skill in ("persona",):
        turns[1:] = [turn for turn in turns[1:] if turn.topic != "identity"]
    if turns[0].tools:
        turns[1:] = follow_up(rng, turns[0], turns[1:])
    if not styled and rng.random() < 0.3:
        insert_recall(rng, turns, rng.choice([1, 1, 1, 2, 3]))
    first = turns[0]
    if rng.random() < 0.4 and first.skill != "last_words" and not any(turn.skill in ("not_told",) for turn in turns):
        rotate_first(rng, turns)
    return assemble(rng, turns)


def follow_up(rng: Random, first: Turn, others: list[Turn]) -> list[Turn]:
    """Later turns of a dialogue with tools: only those that none of its tools would fit."""
    return [
        turn
        for turn in others
        if turn.skill not in ("arithmetic", "unknown", "comparing", "counting", "word_problem", "stories")
    ]


def filler(rng: Random, least_characters: int) -> Turn:
    """A turn to make a dialogue long."""
    roll = rng.random()
    if roll < 0.2:
        return teach(rng, skills.stories)
    if roll < 0.35:
        return teach(rng, lambda source: memory.notes(source, rng.randint(5, 40 if least_characters > 3000 else 10)))
    if roll < 0.5:
        text = " ".join(words.sentence(rng).capitalize() + "." for _ in range(rng.randint(4, 30)))
        return Turn("filler", [skills.user(text), skills.assistant("All right. What would you like to do next?")], text)
    return teach(rng, skills.plain)


def insert_recall(rng: Random, turns: list[Turn], count: int) -> None:
    """Put statements early and their questions later."""
    topics: set[str] = {turn.topic for turn in turns if turn.topic}
    for _ in range(count):
        told, asked = sessions.recall_pair(rng)
        if told.topic in topics or (told.topic == "name" and turns[0].skill == "briefed"):
            continue
        topics.add(told.topic)
        place = rng.randint(0, max(0, len(turns) // 2))
        if turns[0].skill in ("last_words",) or turns[0].tools or turns[0].system:
            place = max(1, place)
        turns.insert(place, told)
        turns.insert(rng.randint(place + 1, len(turns)), asked)


def rotate_first(rng: Random, turns: list[Turn]) -> None:
    """Move the turn that brings the system prompt or the tools to a later place (recall pairs keep their order)."""
    if turns[0].skill == "recall":
        return
    first = turns.pop(0)
    turns.insert(rng.randint(0, len(turns)), first)


def assemble(rng: Random, turns: list[Turn], thinking: bool = False, last_only: bool = False) -> Dialogue:
    """Join turns under one system prompt."""
    system = next((turn.system for turn in turns if turn.system is not None), None)
    tools = next((turn.tools for turn in turns if turn.tools), [])
    if system is None and rng.random() < 0.4:
        system = memory.neutral_system(rng)
    messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    dialogue = Dialogue(messages, tools, thinking)
    for place, turn in enumerate(turns):
        for message in turn.messages:
            if message["role"] == "assistant" and (not last_only or place == len(turns) - 1):
                dialogue.taught.add(len(messages))
                if turn.unforced:
                    dialogue.untaught_starts.add(len(messages))
            messages.append(message)
    return dialogue


def dialogue(rng: Random, long_share: float = 0.03, longest: int = 1024) -> Dialogue:
    """One dialogue of the training text; `long_share` of them run over up to about `longest` tokens."""
    roll = rng.random()
    if roll < long_share:
        return long_dialogue(rng, rng.randint(longest, longest * 9 // 4))
    if roll < long_share + 0.3:
        return thinking_dialogue(rng)
    if roll < long_share + 0.77:
        return assemble(rng, sessions.session(rng))
    return ordinary_dialogue(rng)
