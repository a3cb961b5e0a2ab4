"""Batches of dialogues about pictures: token ids with a loss weight for each, and the pictures' pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import dialogues
import numpy
import pictures
import sights
import skills
import tokenizer as bpe
import torch
from batches import LENGTHS, weigh
from dialogues import Dialogue
from held_out import teach
from pictures import Picture
from skills import Turn
from tokenizers import Tokenizer
from torch import Tensor

LONGEST = 448
Sample = tuple[list[int], list[float], list[Picture]]


@dataclass(frozen=True, slots=True)
class SightBatch:
    """Inputs, targets and loss weights (dialogues, length); the pixels of all pictures in their order."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor
    pixels: Tensor


def episode(rng: Random, picture: Picture) -> list[Turn]:
    """A picture, shown with the first of some questions about it; now and then other talk."""
    turns = [sights.sight(rng, picture) for _ in range(rng.choice([2, 4, 5, 6, 7]))]
    turns[0] = sights.shown(rng, turns[0])
    if rng.random() < 0.2:
        turns.insert(rng.randint(1, len(turns)), teach(rng, skills.plain))
    return turns


def sight_dialogue(rng: Random) -> tuple[Dialogue, list[Picture]]:
    """One or two pictures and questions about them; seldom questions about none."""
    if rng.random() < 0.06:
        turns = [sights.blind(rng, pictures.draw(rng)) for _ in range(rng.choice([1, 2, 3]))]
        turns += [teach(rng, skills.plain) for _ in range(rng.choice([1, 2, 3]))]
        rng.shuffle(turns)
        return dialogues.assemble(rng, turns), []
    shown = [pictures.taught(rng) for _ in range(rng.choice([1, 1, 1, 1, 1, 2]))]
    turns = [turn for picture in shown for turn in episode(rng, picture)]
    if rng.random() < 0.1:
        turns.insert(0, teach(rng, skills.plain))
    return dialogues.assemble(rng, turns), shown


def expand(ids: list[int], weights: list[float], image: int, patches: int) -> tuple[list[int], list[float]]:
    """Every image token `patches` times, as the engines see it."""
    long: list[int] = []
    heavy: list[float] = []
    for token, weight in zip(ids, weights, strict=True):
        times = patches if token == image else 1
        long += [token] * times
        heavy += [weight] * times
    return long, heavy


def samples(tokenizer: Tokenizer, rng: Random, size: int, patches: int) -> list[Sample]:
    """Token ids, weights and pictures of `size` new dialogues, those too long left out."""
    written = [sight_dialogue(rng) for _ in range(size)]
    texts = [bpe.render(item.messages, images=True) for item, _ in written]
    start, end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    image, assistant = tokenizer.token_to_id(bpe.IMAGE), tokenizer.encode("assistant\n").ids
    found: list[Sample] = []
    for encoding, (item, shown) in zip(tokenizer.encode_batch_fast(texts), written, strict=True):
        ids, weights = expand(encoding.ids, weigh(encoding.ids, item, 0.0, start, assistant, end), image, patches)
        if len(ids) <= LONGEST:
            found.append((ids, weights, shown))
    return found


def collate(group: list[Sample], length: int, side: int) -> SightBatch:
    """Pad a group to one length; without a picture, one that no token stands for, so that all weights get gradients."""
    inputs, targets, weights = (
        torch.zeros(len(group), length, dtype=kind) for kind in (torch.long, torch.long, torch.float)
    )
    for row, (ids, weight, _) in enumerate(group):
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[row, : len(ids) - 1] = torch.tensor(ids[1:])
        weights[row, : len(ids) - 1] = torch.tensor(weight[1:])
    squares = [picture.square(side) for _, _, shown in group for picture in shown]
    unused = numpy.zeros((side, side, 3), numpy.uint8)
    return SightBatch(inputs, targets, weights, torch.from_numpy(numpy.stack(squares or [unused])))


def sight_batches(
    tokenizer: Tokenizer, seed: int, first_block: int, block_step: int, tokens: int, side: int, patches: int
) -> Iterator[tuple[int, SightBatch]]:
    """Endless batches of about `tokens` tokens, each with the number of its block, as `batches.batches`."""
    number, block = first_block, 400
    waiting: dict[int, list[Sample]] = {length: [] for length in LENGTHS}
    ready: list[SightBatch] = []
    while True:
        while not ready:
            rng = Random(seed * 1_000_003 + 500_009 + number)
            for sample in samples(tokenizer, rng, block, patches):
                length = next(length for length in LENGTHS if length >= len(sample[0]) - 1)
                waiting[length].append(sample)
                if len(waiting[length]) == max(1, tokens // length):
                    ready.append(collate(waiting[length], length, side))
                    waiting[length] = []
            rng.shuffle(ready)
            number += block_step
        yield number - block_step, ready.pop()
