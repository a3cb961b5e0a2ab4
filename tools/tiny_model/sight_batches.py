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
from batches import LENGTHS, answer_weight, weigh
from dialogues import Dialogue
from held_out import teach
from pictures import Picture
from skills import Turn
from tokenizers import Tokenizer
from torch import Tensor

LONGEST = 448


@dataclass(frozen=True, slots=True)
class Sample:
    """Token ids with a loss weight, a position and a branch for each; the pictures in their order.

    Tokens of branch 0 are seen by all that follow, those of other branches by their own alone.
    """

    ids: list[int]
    weights: list[float]
    positions: list[int]
    branches: list[int]
    pictures: list[Picture]


@dataclass(frozen=True, slots=True)
class SightBatch:
    """Inputs, their positions, targets and loss weights (dialogues, length); a mask to add to the scores of attention;
    the pixels of all pictures in their order.
    """

    inputs: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor
    mask: Tensor
    pixels: Tensor


def episode(rng: Random, picture: Picture) -> list[Turn]:
    """A picture, shown with the first of some questions about it; now and then other talk."""
    turns = [sights.sight(rng, picture) for _ in range(rng.choice([1, 1, 2, 3]))]
    turns[0] = sights.shown(rng, turns[0], behind=0.7)
    if rng.random() < 0.2:
        turns.insert(rng.randint(1, len(turns)), teach(rng, skills.plain))
    return turns


def sight_dialogue(rng: Random) -> tuple[Dialogue, list[Picture]]:
    """One or two pictures and questions about them; seldom questions about none."""
    if rng.random() < 0.15:
        turns = [sights.blind(rng, pictures.draw(rng)) for _ in range(rng.choice([1, 2, 3]))]
        turns += [teach(rng, skills.plain) for _ in range(rng.choice([1, 2, 3]))]
        rng.shuffle(turns)
        return thoughtful(rng, turns), []
    shown = [pictures.taught(rng) for _ in range(rng.choice([1, 2]))]
    turns = [turn for picture in shown for turn in episode(rng, picture)]
    if rng.random() < 0.1:
        turns.insert(0, teach(rng, skills.plain))
    return thoughtful(rng, turns), shown


def thoughtful(rng: Random, turns: list[Turn]) -> Dialogue:
    """The turns as a dialogue; in every sixth the last answer is thought about, as the template's flag asks."""
    if rng.random() > 0.16 or not turns[-1].thought or len(turns[-1].messages) != 2:
        return dialogues.assemble(rng, turns)
    last = dialogues.with_thought(rng, turns[-1], by_words=False)
    return dialogues.assemble(rng, [*turns[:-1], last], thinking=True)


class Writer:
    """Writes samples with a vocabulary."""

    def __init__(self, tokenizer: Tokenizer, patches: int) -> None:
        self._tokenizer, self._patches = tokenizer, patches
        self._start, self._end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
        self._image, self._assistant = tokenizer.token_to_id(bpe.IMAGE), tokenizer.encode("assistant\n").ids

    def sample(self, rng: Random) -> Sample:
        """A new sample: mostly many questions about one picture, none of which sees another's answer."""
        return self.apart(rng) if rng.random() < 0.45 else self.together(rng)

    def together(self, rng: Random) -> Sample:
        """A dialogue."""
        item, shown = sight_dialogue(rng)
        ids = self._encoded(bpe.render(item.messages, images=True))
        weights = weigh(ids, item, 0.0, self._start, self._assistant, self._end)
        ids, weights = self._expanded(ids, weights)
        return Sample(ids, weights, list(range(len(ids))), [0] * len(ids), shown)

    def apart(self, rng: Random) -> Sample:
        """A picture and questions, each as if it were the first: an answer before would say what the picture shows.

        Now and then another picture and a question about that were before.
        """
        shown = [pictures.taught(rng)]
        before = dialogues.assemble(rng, [])
        if rng.random() < 0.3:
            shown.insert(0, pictures.taught(rng))
            before = dialogues.assemble(rng, [sights.shown(rng, sights.sight(rng, shown[0]))])
        text = bpe.render([*before.messages, {"role": "user", "content": [{"type": "image"}]}], images=True)
        ids, weights = self._encoded(text[: text.rindex(bpe.IMAGE) + len(bpe.IMAGE)]), []
        ids, weights = self._expanded(ids, [0.0] * len(ids))
        positions, branches = list(range(len(ids))), [0] * len(ids)
        first = len(ids)
        for branch in range(1, rng.choice([7, 9, 11]) + 1):
            asked, answer, weight = self._branch(rng, sights.sight(rng, shown[-1]))
            ids += asked + answer
            weights += [0.0] * len(asked) + [weight] * (len(answer) - 1) + [min(1.0, 2 * weight)]
            positions += range(first, first + len(asked) + len(answer))
            branches += [branch] * (len(asked) + len(answer))
        return Sample(ids, weights, positions, branches, shown)

    def _branch(self, rng: Random, turn: Turn) -> tuple[list[int], list[int], float]:
        """A question behind a picture, its answer, and the weight of each of that one's tokens."""
        gap, opened, thought = rng.choice(["", "", "", "\n", " "]), "", ""
        if rng.random() < 0.12:
            opened, thought = "<think>\n", f"{turn.thought}\n</think>\n\n"
        asked = self._encoded(f"{gap}{turn.key}<|im_end|>\n<|im_start|>assistant\n{opened}")
        answer = self._encoded(f"{thought}{turn.answer}<|im_end|>")
        return asked, answer, answer_weight(len(answer))

    def _encoded(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _expanded(self, ids: list[int], weights: list[float]) -> tuple[list[int], list[float]]:
        """Every image token as often as there are patches, as the engines see it."""
        times = [self._patches if token == self._image else 1 for token in ids]
        return (
            [token for token, count in zip(ids, times, strict=True) for _ in range(count)],
            [weight for weight, count in zip(weights, times, strict=True) for _ in range(count)],
        )


def hidden(branches: Tensor) -> Tensor:
    """The mask of a batch: what comes later, and what stands in other branches."""
    length = branches.shape[1]
    seen = (branches[:, None, :] == branches[:, :, None]) | (branches[:, None, :] == 0)
    seen &= torch.ones(length, length, dtype=torch.bool).tril()
    return torch.zeros(seen.shape, dtype=torch.bfloat16).masked_fill_(~seen, float("-inf")).unsqueeze(1)


def collate(group: list[Sample], length: int, side: int) -> SightBatch:
    """Pad a group to one length; without a picture, one that no token stands for, so that all weights get gradients."""
    inputs, targets, positions = (torch.zeros(len(group), length, dtype=torch.long) for _ in range(3))
    weights, branches = torch.zeros(len(group), length), torch.full((len(group), length), -1)
    for row, sample in enumerate(group):
        used = len(sample.ids) - 1
        inputs[row, :used] = torch.tensor(sample.ids[:-1])
        positions[row, :used] = torch.tensor(sample.positions[:-1])
        branches[row, :used] = torch.tensor(sample.branches[:-1])
        targets[row, :used] = torch.tensor(sample.ids[1:])
        weights[row, :used] = torch.tensor(sample.weights[1:])
    squares = [picture.square(side) for sample in group for picture in sample.pictures]
    unused = numpy.zeros((side, side, 3), numpy.uint8)
    pixels = torch.from_numpy(numpy.stack(squares or [unused]))
    return SightBatch(inputs, positions, targets, weights, hidden(branches), pixels)


def sight_batches(
    tokenizer: Tokenizer, seed: int, first_block: int, block_step: int, tokens: int, side: int, patches: int
) -> Iterator[tuple[int, SightBatch]]:
    """Endless batches of about `tokens` tokens, each with the number of its block, as `batches.batches`."""
    number, block, writer = first_block, 200, Writer(tokenizer, patches)
    waiting: dict[int, list[Sample]] = {length: [] for length in LENGTHS}
    ready: list[SightBatch] = []
    while True:
        while not ready:
            rng = Random(seed * 1_000_003 + 500_009 + number)
            for sample in (writer.sample(rng) for _ in range(block)):
                if len(sample.ids) > LONGEST:
                    continue
                length = next(length for length in LENGTHS if length >= len(sample.ids) - 1)
                waiting[length].append(sample)
                if len(waiting[length]) == max(1, tokens // length):
                    ready.append(collate(waiting[length], length, side))
                    waiting[length] = []
            rng.shuffle(ready)
            number += block_step
        yield number - block_step, ready.pop()
