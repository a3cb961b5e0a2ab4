"""Measures heylook-tiny-vision on held-out pictures: exact greedy answers per skill, and how far two engines agree."""

from __future__ import annotations

import argparse
import zlib
from dataclasses import dataclass
from pathlib import Path
from random import Random

import dialogues
import engines
import export_vision
import numpy
import pictures
import sights
import tokenizer as bpe
import torch
from evaluate import Score, percent, table
from pictures import Picture
from skills import Turn
from tokenizers import Tokenizer
from vision import TowerShape
from vision_engines import MlxVlm, Mtmd, Prompt, TorchSeer, VisionEngine

LIMIT = 60
NAME = export_vision.NAME
SIDE = TowerShape().image


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt with its pictures and the right answer."""

    text: str
    squares: tuple[numpy.ndarray, ...]
    expected: str


def held_out(rng: Random) -> Picture:
    """A picture of a combination that is never taught."""
    picture = pictures.draw(rng)
    while not picture.held_out:
        picture = pictures.draw(rng)
    return picture


def asked(rng: Random, skill: str) -> tuple[Picture, Turn]:
    """A held-out picture that this question fits."""
    writer = sights.WRITERS[skill][0]
    while True:
        picture = held_out(rng)
        turn = writer(rng, picture)
        if turn is not None:
            return picture, turn


def make_case(rng: Random, turns: list[Turn], shown: list[Picture], thinking: bool = False) -> Case:
    """The prompt of a dialogue up to its last answer; with `thinking` thought about, by the template's flag."""
    messages = dialogues.assemble(rng, turns).messages
    text = bpe.render(messages[:-1], answer=True, thinking=thinking, images=True)
    thought = f"{turns[-1].thought}\n</think>\n\n" if thinking else ""
    return Case(text, tuple(picture.square(SIDE) for picture in shown), thought + messages[-1]["content"])


def single(rng: Random, skill: str) -> Case:
    """One picture, one question."""
    picture, turn = asked(rng, skill)
    return make_case(rng, [sights.shown(rng, turn)], [picture])


def later(rng: Random) -> Case:
    """A picture, a question with its answer, and another question."""
    picture = held_out(rng)
    first, second = sights.sight(rng, picture), sights.sight(rng, picture)
    return make_case(rng, [sights.shown(rng, first), second], [picture])


def another(rng: Random) -> Case:
    """A picture with a question and its answer, then another picture and a question about that."""
    shown = [held_out(rng), held_out(rng)]
    return make_case(rng, [sights.shown(rng, sights.sight(rng, picture)) for picture in shown], shown)


def blind(rng: Random) -> Case:
    """A question about a picture that isn't there."""
    return make_case(rng, [sights.blind(rng, held_out(rng))], [])


def thinking(rng: Random) -> Case:
    """One picture, one question, and the template's flag."""
    picture = held_out(rng)
    return make_case(rng, [sights.shown(rng, sights.sight(rng, picture))], [picture], thinking=True)


OTHERS = {"a second question": later, "a second picture": another, "no image": blind, "thinking by flag": thinking}
SKILLS = [*sights.WRITERS, *OTHERS]


def cases(skill: str, count: int, seed: int) -> list[Case]:
    """`count` cases of one skill, each with pictures of its own."""
    rng = Random(zlib.crc32(f"vision {skill} {seed}".encode()))
    return [OTHERS[skill](rng) if skill in OTHERS else single(rng, skill) for _ in range(count)]


def answers(engine: VisionEngine, tokenizer: Tokenizer, some: list[Case]) -> list[tuple[str, bool]]:
    """The text of each answer, and whether it ended by itself."""
    end = tokenizer.token_to_id("<|im_end|>")
    prompts = [Prompt(tokenizer.encode(case.text, add_special_tokens=False).ids, case.squares) for case in some]
    outputs = engine.complete(prompts, LIMIT)
    return [(engines.text_of(tokenizer, output, end), output[-1] == end) for output in outputs]


def score(skill: str, engine: VisionEngine, tokenizer: Tokenizer, some: list[Case]) -> Score:
    """Run cases through an engine."""
    given = answers(engine, tokenizer, some)
    good = [done and text == case.expected for case, (text, done) in zip(some, given, strict=True)]
    wrong = tuple(
        (f"{case.text} [{case.expected}]", text)
        for case, (text, _), fine in zip(some, given, good, strict=True)
        if not fine
    )
    return Score(skill, len(some), sum(good), sum(done for _, done in given), wrong)


def mixed(count: int, seed: int) -> list[Case]:
    """Cases of all skills in turn, each with a picture of its own."""
    each = -(-count // len(SKILLS))
    chosen = [case for row in zip(*(cases(skill, each, seed) for skill in SKILLS), strict=True) for case in row]
    return chosen[:count]


def engine_for(kind: str, options: argparse.Namespace, tokenizer: Tokenizer) -> VisionEngine:
    """The engine that the command line names."""
    end, image = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id(bpe.IMAGE)
    match kind:
        case "gguf":
            text, eyes = (options.models / f"{NAME}{part}.gguf" for part in ("", "-mmproj"))
            return Mtmd(text, eyes, image, options.threads)
        case "mlx":
            return MlxVlm(options.models / f"{NAME}-mlx", end, image)
        case _:
            return TorchSeer(export_vision.read_checkpoint(options.checkpoint), end, image)


def main() -> None:
    """Print the table of one engine, or how far it agrees with another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["gguf", "torch", "mlx"], default="gguf")
    parser.add_argument("--agree", choices=["gguf", "torch", "mlx"], help="compare with this engine, on --cases in all")
    parser.add_argument("--models", type=Path, default=Path(__file__).parents[2] / "src/heylook_llm/tiny")
    parser.add_argument("--checkpoint", type=Path, help="for torch")
    parser.add_argument("--cases", type=int, default=500, help="held-out pictures per skill")
    parser.add_argument("--skills", nargs="*", default=SKILLS)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wrong", type=Path, help="write the wrong answers here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = bpe.load(options.models / f"{NAME}-mlx/tokenizer.json")
    engine = engine_for(options.engine, options, tokenizer)
    if options.agree:
        some, other = mixed(options.cases, options.seed), engine_for(options.agree, options, tokenizer)
        pairs = list(zip(answers(engine, tokenizer, some), answers(other, tokenizer, some), strict=True))
        same = sum(first == second for first, second in pairs)
        print(f"{options.engine} and {options.agree}: {same} of {len(some)} alike ({percent(same, len(some))})")
        return
    scores = [score(skill, engine, tokenizer, cases(skill, options.cases, options.seed)) for skill in options.skills]
    print(table(scores))
    if options.wrong:
        options.wrong.write_text(
            "\n".join(f"{s.name}\t{prompt!r}\t{text!r}" for s in scores for prompt, text in s.wrong)
        )


if __name__ == "__main__":
    main()
