"""Measures heylook-tiny on held-out prompts: exact greedy answers per skill, endings, recall by distance."""

from __future__ import annotations

import argparse
import json
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import dialogues
import engines
import export
import facts
import memory
import skills
import strange
import structured
import tokenizer as bpe
import torch
from engines import Engine
from held_out import held_out
from skills import Message, Turn
from tokenizers import Tokenizer

Writer = Callable[[Random], Sequence[Turn]]
LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt and the right continuation."""

    skill: str
    prompt: str
    expected: Message
    check: str
    thinking: bool = False


def single(write: Callable[[Random], Turn]) -> Writer:
    """A skill whose turn is the whole dialogue."""
    return lambda rng: [write(rng)]


def thought(by_words: bool) -> Writer:
    """A turn that is to be thought about, by the user's words or by the template's flag."""

    def write(rng: Random) -> Sequence[Turn]:
        turn = skills.plain(rng)
        while turn.check != "exact":
            turn = skills.plain(rng)
        return [dialogues.with_thought(rng, turn, by_words)]

    return write


def recalled(rng: Random) -> Sequence[Turn]:
    """A statement, up to three other turns, and the question."""
    told, asked = memory.recall(rng)
    between = [skills.plain(rng) for _ in range(rng.randint(0, 3))]
    return [told, *between, asked]


WRITERS: dict[str, Writer] = {
    "arithmetic": single(skills.arithmetic),
    "capitals": single(skills.capitals),
    "counting": single(skills.counting),
    "repeating": single(skills.repeating),
    "opposites": single(skills.opposites),
    "spelling": single(skills.spelling),
    "calendar": single(skills.calendar),
    "facts": single(skills.little_facts),
    "small talk": single(skills.small_talk),
    "identity": single(skills.identity),
    "jokes": single(skills.jokes),
    "stories": single(skills.stories),
    "not taught": single(skills.unknown),
    "name from the system prompt": single(memory.persona),
    "fact from the system prompt": single(memory.briefed),
    "manner from the system prompt": single(memory.manner),
    "recall": recalled,
    "not told": single(memory.not_told),
    "notes": single(memory.notes),
    "last message": single(memory.last_words),
    "tool call": single(structured.tool_call),
    "tool result": single(structured.tool_result),
    "no tool fits": single(structured.tool_abstain),
    "JSON by words": single(structured.json_words),
    "JSON by schema": single(structured.json_schema),
    "JSON without facts": single(structured.json_free),
    "thinking by words": thought(True),
    "thinking by flag": thought(False),
}


def make_case(skill: str, rng: Random, turns: Sequence[Turn]) -> Case:
    """The prompt of a dialogue up to its last answer."""
    by_flag = skill == "thinking by flag"
    dialogue = dialogues.assemble(rng, list(turns), thinking=by_flag)
    prompt = bpe.render(dialogue.messages[:-1], dialogue.tools, answer=True, thinking=by_flag)
    return Case(
        skill, prompt, dialogue.messages[-1], "thinking" if skill.startswith("thinking") else turns[-1].check, by_flag
    )


def cases(skill: str, count: int, seed: int, attempts: int = 200_000) -> list[Case]:
    """Up to `count` different held-out cases of one skill; skills with few wordings have fewer."""
    rng = Random(zlib.crc32(f"{skill} {seed}".encode()))
    found: dict[str, Case] = {}
    for _ in range(attempts):
        turns = WRITERS[skill](rng)
        if not held_out(turns[-1]):
            continue
        found.setdefault(turns[-1].key, make_case(skill, rng, turns))
        if len(found) == count:
            break
    return list(found.values())


# -- judging --------------------------------------------------------------------------------------------------------


def tool_calls(text: str) -> list[object] | None:
    """The calls in an answer that consists of calls; None where it does not."""
    blocks = re.findall(r"<tool_call>\n(.*?)\n</tool_call>", text, flags=re.DOTALL)
    rest = re.sub(r"<tool_call>\n.*?\n</tool_call>", "", text, flags=re.DOTALL)
    try:
        return None if rest.strip() else [json.loads(block) for block in blocks]
    except ValueError:
        return None


def right(case: Case, text: str) -> bool:
    """Judge an ended answer."""
    kind, _, subject = case.check.partition(":")
    content = case.expected["content"]
    match kind:
        case "exact":
            return text == content
        case "joke":
            return text in facts.JOKES
        case "story":
            return subject in text and text.endswith("The end.") and 40 <= len(text.split()) <= 200
        case "json":
            return same_json(text, content)
        case "call":
            return tool_calls(text) == [call["function"] for call in case.expected["tool_calls"]]
        case "thinking":
            opened = "" if case.thinking else "<think>\n"
            return bool(re.fullmatch(re.escape(opened) + r"[^<]+\n</think>\n\n" + re.escape(content), text))
        case _:
            raise ValueError(kind)


def same_json(text: str, expected: str) -> bool:
    """Equal values, keys in any order."""
    try:
        return bool(json.loads(text) == json.loads(expected))
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Score:
    """How many cases of one kind were right, and how many ended by themselves."""

    name: str
    cases: int
    right: int
    ended: int
    wrong: tuple[tuple[str, str], ...]


def score(name: str, engine: Engine, tokenizer: Tokenizer, asked: list[Case], limit: int = LIMIT) -> Score:
    """Run cases through an engine."""
    end = tokenizer.token_to_id("<|im_end|>")
    prompts = [tokenizer.encode(case.prompt, add_special_tokens=False).ids for case in asked]
    outputs = engine.complete(prompts, limit)
    ended = [output[-1] == end for output in outputs]
    texts = [engines.text_of(tokenizer, output, end) for output in outputs]
    good = [done and right(case, text) for case, text, done in zip(asked, texts, ended, strict=True)]
    wrong = tuple((case.prompt, text) for case, text, fine in zip(asked, texts, good, strict=True) if not fine)
    return Score(name, len(asked), sum(good), sum(ended), wrong)


# -- endings --------------------------------------------------------------------------------------------------------


def strange_prompt(rng: Random, with_tools: bool) -> str:
    """A prompt with an unseen schema or an unseen set of tools, and any request at all."""
    asked = strange.asked(rng, with_tools)
    return bpe.render([skills.user(asked.text)], list(asked.tools) or None, answer=True)


def endings(engine: Engine, tokenizer: Tokenizer, seed: int, count: int = 200) -> Score:
    """How many of the unseen schemas and tool sets end by themselves within 400 tokens."""
    rng = Random(seed + 17)
    asked = [
        Case("endings", strange_prompt(rng, index % 2 == 1), skills.assistant(""), "exact") for index in range(count)
    ]
    return score("unseen schemas and tool sets", engine, tokenizer, asked, limit=400)


# -- distance -------------------------------------------------------------------------------------------------------


def distant(tokenizer: Tokenizer, rng: Random, tokens: int) -> Case:
    """A statement, then other talk until the prompt has about `tokens` tokens, then the question."""
    told, asked = memory.recall(rng)
    while not held_out(asked):
        told, asked = memory.recall(rng)
    turns, length = [told], 80
    while length < tokens:
        turn = dialogues.filler(rng, tokens)
        length += len(tokenizer.encode(bpe.render(turn.messages)).ids) - 20
        turns.append(turn)
    if length > tokens + 60 and len(turns) > 2:
        turns.pop()
    return make_case("recall", rng, [*turns, asked])


def distances(engine: Engine, tokenizer: Tokenizer, seed: int, count: int) -> list[Score]:
    """Recall at about 1,000, 2,000, 3,000 and 3,950 tokens."""
    results = []
    for tokens in (1000, 2000, 3000, 3950):
        rng = Random(seed + tokens)
        asked = [
            case
            for case in (distant(tokenizer, rng, tokens) for _ in range(2 * count))
            if len(tokenizer.encode(case.prompt).ids) < 4040
        ][:count]
        results.append(score(f"recall over {tokens} tokens", engine, tokenizer, asked, limit=60))
    return results


# -- report ---------------------------------------------------------------------------------------------------------


def percent(part: int, whole: int) -> str:
    """A share with one decimal."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def table(scores: list[Score]) -> str:
    """A Markdown table."""
    rows = ["| Skill | Cases | Right | Share | Ended |", "|---|---|---|---|---|"]
    rows += [
        f"| {s.name} | {s.cases} | {s.right} | {percent(s.right, s.cases)} | {percent(s.ended, s.cases)} |"
        for s in scores
    ]
    return "\n".join(rows)


def engine_for(kind: str, options: argparse.Namespace, tokenizer: Tokenizer) -> Engine:
    """The engine that the command line names."""
    end = tokenizer.token_to_id("<|im_end|>")
    match kind:
        case "gguf":
            return engines.LlamaCpp(options.models / f"{options.name}.gguf", threads=options.threads)
        case "mlx":
            return engines.Mlx(options.models / f"{options.name}-mlx", end)
        case _:
            return engines.Torch(export.read_checkpoint(options.checkpoint), end)


def main() -> None:
    """Print the tables of one engine, and write the wrong answers to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["gguf", "torch", "mlx"], default="gguf")
    parser.add_argument("--models", type=Path, default=Path(__file__).parents[2] / "src/heylook_llm/tiny")
    parser.add_argument("--name", default=export.NAME, help="of the model; with heylook-tiny-vision only gguf")
    parser.add_argument("--checkpoint", type=Path, help="for --engine torch")
    parser.add_argument("--cases", type=int, default=500, help="held-out prompts per skill")
    parser.add_argument("--skills", nargs="*", default=list(WRITERS))
    parser.add_argument("--far", type=int, default=100, help="cases per distance of the recall table; 0 for none")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wrong", type=Path, help="write the wrong answers here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = bpe.load(options.models / f"{options.name}-mlx/tokenizer.json")
    engine = engine_for(options.engine, options, tokenizer)
    scores = [score(skill, engine, tokenizer, cases(skill, options.cases, options.seed)) for skill in options.skills]
    last = endings(engine, tokenizer, options.seed)
    far = distances(engine, tokenizer, options.seed, options.far) if options.far else []
    print(table(scores))
    print(f"\nUnseen schemas and tool sets that ended by themselves: {last.ended} of {last.cases}\n")
    print(table(far))
    if options.wrong:
        options.wrong.write_text(
            "\n".join(f"{s.name}\t{prompt!r}\t{text!r}" for s in [*scores, *far] for prompt, text in s.wrong)
        )


if __name__ == "__main__":
    main()
