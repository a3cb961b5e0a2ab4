"""Trains the tower of heylook-tiny-vision alone: each patch says what lies in it, and what the whole picture holds.

So the tower learns from dozens of labels per picture and without the decoder, which takes four fifths of the time of a
step. The heads that ask are thrown away afterwards; `train_vision.py` goes on from the tower.
"""

from __future__ import annotations

import argparse
import copy
import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy
import pictures
import torch
from model import count_parameters
from optimizer import optimizers
from pictures import COLOURS, KINDS, Picture
from torch import Tensor, nn
from torch.nn import functional
from train import rate
from vision import Tower, TowerShape

log = logging.getLogger("tiny_model.train_tower")

THINGS = ["", *KINDS, *map(str, range(10))]
NOTHING = -100
MOST_SHAPES = 3


@dataclass(frozen=True, slots=True)
class Labels:
    """What a batch shows: per patch (pictures, patches), and per picture; -100 where there is no answer."""

    things: Tensor
    colours: Tensor
    ranks: Tensor
    grounds: Tensor
    counts: Tensor
    digits: Tensor


class Heads(nn.Module):
    """Questions to every patch: which thing has its middle here, in which colour, which from the left; and, the same
    for all patches of a picture, its ground, how many shapes of each kind, and its digit.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = [len(THINGS), len(COLOURS), MOST_SHAPES, len(COLOURS), len(KINDS) * (MOST_SHAPES + 1), 11]
        self.out = nn.Linear(width, sum(self.sizes))

    def forward(self, states: Tensor, labels: Labels) -> dict[str, tuple[Tensor, Tensor]]:
        """Scores and right answers of each question, flat."""
        patches = states.shape[1]
        things, colours, ranks, grounds, counts, digits = self.out(states).split(self.sizes, dim=-1)
        counts = counts.unflatten(-1, (len(KINDS), MOST_SHAPES + 1))
        return {
            "thing": (things.flatten(0, 1), labels.things.flatten()),
            "colour": (colours.flatten(0, 1), labels.colours.flatten()),
            "rank": (ranks.flatten(0, 1), labels.ranks.flatten()),
            "ground": (grounds.flatten(0, 1), labels.grounds.repeat_interleave(patches)),
            "count": (counts.flatten(0, 2), labels.counts.unsqueeze(1).expand(-1, patches, -1).flatten()),
            "digit": (digits.flatten(0, 1), labels.digits.repeat_interleave(patches)),
        }


def read(batch: list[Picture], shape: TowerShape) -> tuple[Tensor, Labels]:
    """Pixels and labels of pictures."""
    across, names = shape.image // shape.patch, list(COLOURS)
    pixels = torch.from_numpy(numpy.stack([picture.square(shape.image) for picture in batch]))
    things = torch.zeros(len(batch), shape.patches, dtype=torch.long)
    colours, ranks = torch.full_like(things, NOTHING), torch.full_like(things, NOTHING)
    for row, picture in enumerate(batch):
        for rank, thing in enumerate(picture.things):
            place = int(thing.y * across) * across + int(thing.x * across)
            things[row, place], colours[row, place] = THINGS.index(thing.kind), names.index(thing.colour)
            if len(picture.things) > 1:
                ranks[row, place] = rank
    counts = [[sum(thing.kind == kind for thing in picture.things) for kind in KINDS] for picture in batch]
    digits = [THINGS.index(picture.digit.kind) - len(KINDS) if picture.digit else 0 for picture in batch]
    grounds = [names.index(picture.ground) for picture in batch]
    return pixels, Labels(things, colours, ranks, torch.tensor(grounds), torch.tensor(counts), torch.tensor(digits))


def batches(shape: TowerShape, seed: int, size: int, first: int) -> Iterator[tuple[Tensor, Labels]]:
    """Endless batches; every one has its own random source, so a training that is resumed sees what it would have."""
    while True:
        rng = Random(seed * 1_000_003 + first)
        yield read([pictures.taught(rng) for _ in range(size)], shape)
        first += 1


def loss_of(answers: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    """The sum of all questions' losses; the patches with something in them count as much as the many without."""
    weights = torch.tensor([0.3, *[3.0] * (len(THINGS) - 1)])
    losses = [
        functional.cross_entropy(scores.float(), right, weights if name == "thing" else None, ignore_index=NOTHING)
        for name, (scores, right) in answers.items()
    ]
    return torch.stack(losses).sum()


@torch.no_grad()
def accuracy(answers: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """The share of right answers to each question; that of things only where something is."""
    shares = {}
    for name, (scores, right) in answers.items():
        asked = right > 0 if name == "thing" else right != NOTHING
        shares[name] = float((scores.argmax(-1) == right)[asked].float().mean())
    return shares


def save(path: Path, average: Tower, progress: int) -> None:
    """Write the averaged tower in one piece."""
    whole = {"tower_shape": asdict(average.shape), "tower": average.state_dict(), "steps": progress}
    torch.save(whole, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def main() -> None:
    """Train for a number of steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where tower.pt is kept")
    parser.add_argument("--begin", type=Path, help="go on from the tower of this file, with new heads")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--decay-from", type=int)
    parser.add_argument("--pictures", type=int, default=128, help="pictures per step")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--adam-lr", type=float, default=0.003)
    parser.add_argument("--average", type=float, default=0.99)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.folder.mkdir(parents=True, exist_ok=True)
    tower = Tower(TowerShape())
    if options.begin:
        tower.load_state_dict(torch.load(options.begin, weights_only=True)["tower"])
    log.info("%d parameters, %s", count_parameters(tower), options)
    train(options, tower, Heads(tower.shape.width))


def train(options: argparse.Namespace, tower: Tower, heads: Heads) -> None:
    """The steps of the training."""
    average = copy.deepcopy(tower).requires_grad_(False)
    opts = optimizers(tower, options.muon_lr, options.adam_lr)
    opts.append(torch.optim.AdamW(heads.parameters(), lr=options.adam_lr, betas=(0.9, 0.95), weight_decay=0.0))
    peaks = [group["lr"] for opt in opts for group in opt.param_groups]
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked_to_stop.append(number))
    started = saved = time.monotonic()
    for step, (pixels, labels) in enumerate(batches(tower.shape, options.seed, options.pictures, 0)):
        if step >= options.steps or asked_to_stop:
            break
        for group, peak in zip((group for opt in opts for group in opt.param_groups), peaks, strict=True):
            group["lr"] = peak * rate(step, options)
        with torch.autocast("cpu", torch.bfloat16):
            answers = heads(tower(pixels), labels)
        loss_of(answers).backward()
        for opt in opts:
            opt.step()
            opt.zero_grad()
        with torch.no_grad():
            for kept, new in zip(average.parameters(), tower.parameters(), strict=True):
                kept.lerp_(new, 1 - min(options.average, 1 - 1 / (step + 1)))
        now = time.monotonic()
        if (step + 1) % 50 == 0:
            shares = "  ".join(f"{name} {100 * share:.1f}" for name, share in accuracy(answers).items())
            log.info("step %d  %s  %.0f pictures/s", step + 1, shares, (step + 1) * len(pixels) / (now - started))
        if now - saved > 120:
            save(options.folder / "tower.pt", average, step + 1)
            saved = now
    save(options.folder / "tower.pt", average, step)


if __name__ == "__main__":
    main()
