"""Batches of token ids with a loss weight for each token, made from freshly written dialogues."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

import dialogues
import tokenizer as bpe
import torch
from dialogues import Dialogue
from tokenizers import Tokenizer
from torch import Tensor

LEAST_ANSWER_WEIGHT = 0.15
CONTEXT = 4096
LONGEST_SHORT = 1024
LONG_EVERY = 8
LENGTHS = (64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024, 1536, 2048, 3072, 4096)


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs, their positions, targets and loss weights, each of shape (dialogues, length)."""

    inputs: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor


def weigh(
    ids: list[int], item: Dialogue, other_weight: float, start: int, assistant: list[int], end: int
) -> list[float]:
    """One weight per token: full in the answers that are taught, 0 where nothing is to be learnt, little elsewhere."""
    weights = [other_weight] * len(ids)
    places = [index for index, message in enumerate(item.messages) if message["role"] == "assistant"]
    position = 0
    for place in places:
        while ids[position] != start or ids[position + 1 : position + 1 + len(assistant)] != assistant:
            position += 1
        first = position + 1 + len(assistant)
        last = ids.index(end, first)
        skipped = 1 if place in item.untaught_starts else 2 if item.thinking and place == places[-1] else 0
        weight = answer_weight(last + 1 - first) if place in item.taught else 0.0
        for index in range(first, last + 1):
            weights[index] = weight
        weights[last] = min(1.0, 2 * weight)
        for index in range(first, first + skipped):
            weights[index] = 0.0
        position = last
    return weights


def answer_weight(tokens: int) -> float:
    """The weight of each token of an answer; long answers are easy, so each token of theirs counts less."""
    return max(LEAST_ANSWER_WEIGHT, min(1.0, (24 / tokens) ** 0.5))


def samples(
    tokenizer: Tokenizer, rng: Random, size: int, other_weight: float, long_share: float, longest: int
) -> list[tuple[list[int], list[float]]]:
    """Token ids and weights of `size` new dialogues; those over `longest` tokens are left out."""
    written = [dialogues.dialogue(rng, long_share, longest) for _ in range(size)]
    texts = [bpe.render(item.messages, item.tools) for item in written]
    start, end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    assistant = tokenizer.encode("assistant\n").ids
    encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    pairs = zip(encoded, written, strict=True)
    return [(ids, weigh(ids, item, other_weight, start, assistant, end)) for ids, item in pairs if len(ids) <= longest]


def stretched(rng: Random, ids: list[int], start: int, length: int) -> Tensor:
    """Positions with gaps between messages, as if up to `CONTEXT` tokens of other talk stood there.

    So short dialogues teach to look far back, at a hundredth of what long ones cost (PoSE, Zhu et al., 2023).
    """
    steps = torch.ones(length, dtype=torch.long)
    steps[0] = 0
    borders = [index for index, token in enumerate(ids) if token == start and index]
    room = rng.choice([CONTEXT - length, rng.randint(0, CONTEXT - length)])
    for place in rng.sample(borders, min(len(borders), rng.choice([1, 1, 2, 3]))):
        gap = rng.choice([room, rng.randint(0, room)])
        steps[place] += gap
        room -= gap
    return steps.cumsum(0)


def collate(rng: Random, group: list[tuple[list[int], list[float]]], length: int, start: int, far: float) -> Batch:
    """Pad a group to one length; a share of `far` gets stretched positions."""
    inputs, targets, weights = (
        torch.zeros(len(group), length, dtype=kind) for kind in (torch.long, torch.long, torch.float)
    )
    positions = torch.arange(length).repeat(len(group), 1)
    for row, (ids, weight) in enumerate(group):
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[row, : len(ids) - 1] = torch.tensor(ids[1:])
        weights[row, : len(ids) - 1] = torch.tensor(weight[1:])
        if rng.random() < far:
            positions[row] = stretched(rng, ids[:length], start, length)
    return Batch(inputs, positions, targets, weights)


def batches(
    tokenizer: Tokenizer,
    seed: int,
    first_block: int,
    block_step: int,
    tokens: int,
    other_weight: float,
    long_share: float,
    longest: int,
    far: float,
    block: int = 2500,
) -> Iterator[tuple[int, Batch]]:
    """Endless batches of about `tokens` tokens and of similar lengths, each with the number of its block of dialogues.

    There are few shapes, each used often: a new shape costs the CPU kernels half a second. Every block has its own
    random source, so a training that is resumed at a block sees the dialogues that it would have seen. The slow batches
    of long dialogues come at fixed steps, the same in all processes, so that none waits for another.
    """
    number, start = first_block, tokenizer.token_to_id("<|im_start|>")
    waiting: dict[int, list[tuple[list[int], list[float]]]] = {length: [] for length in LENGTHS}
    short: list[Batch] = []
    long: list[Batch] = []
    for step in count(1):
        while not short:
            rng = Random(seed * 1_000_003 + number)
            for pair in samples(tokenizer, rng, block, other_weight, long_share, longest):
                length = next(length for length in LENGTHS if length >= len(pair[0]) - 1)
                waiting[length].append(pair)
                if len(waiting[length]) == tokens // length:
                    ready = collate(rng, waiting[length], length, start, far)
                    (short if length <= LONGEST_SHORT else long).append(ready)
                    waiting[length] = []
            rng.shuffle(short)
            number += block_step
        yield number - block_step, (long if long and step % LONG_EVERY == 0 else short).pop()
