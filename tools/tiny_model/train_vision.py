"""Trains heylook-tiny-vision: the tower of `train_tower.py` and the text model's decoder, joined by a new projector.

The tower goes on answering the questions of `train_tower.py` beside, on pictures of their own: they teach it more in
less time than the decoder's answers do.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import logging
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import batches as feed
import sight_batches
import tokenizer as bpe
import torch
import train_tower
from batches import LEAST_ANSWER_WEIGHT
from model import Shape, count_parameters
from optimizer import optimizers
from safetensors.torch import load_file
from sight_batches import SightBatch
from tokenizers import Tokenizer
from torch import Tensor, distributed, nn
from torch.nn import functional
from train import batch_loss, place, rate, share
from train_tower import Heads
from vision import Seer, TowerShape

log = logging.getLogger("tiny_model.train_vision")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="with tower.pt; where checkpoints are kept")
    parser.add_argument("--text", type=Path, required=True, help="the text model's MLX folder, to begin from")
    parser.add_argument("--resume", type=Path, help="go on from this checkpoint")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--decay-from", type=int, help="step at which the learning rate starts to fall to zero")
    parser.add_argument("--projector-steps", type=int, default=60, help="first steps, which teach the projector alone")
    parser.add_argument("--sight-tokens", type=int, default=4096, help="tokens about pictures per step")
    parser.add_argument("--text-tokens", type=int, default=1024, help="tokens of text dialogues per step")
    parser.add_argument("--pictures", type=int, default=48, help="pictures per step that the tower is asked about")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--muon-lr", type=float, default=0.01)
    parser.add_argument("--adam-lr", type=float, default=0.0015)
    parser.add_argument("--average", type=float, default=0.99)
    parser.add_argument("--checkpoint-seconds", type=float, default=150)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def beginning(options: argparse.Namespace, tokenizer: Tokenizer) -> Seer:
    """The model before its first step: the trained tower, the shipped decoder with one token more."""
    seer = Seer(Shape(vocabulary=tokenizer.get_vocab_size()), TowerShape())
    seer.vision_tower.load_state_dict(torch.load(options.folder / "tower.pt", weights_only=True)["tower"])
    held = {
        name.removeprefix("model."): tensor.float()
        for name, tensor in load_file(options.text / "model.safetensors").items()
    }
    taught = held["embed_tokens.weight"]
    held["embed_tokens.weight"] = torch.cat((taught, torch.zeros(1, taught.shape[1])))
    seer.language_model.load_state_dict(held)
    return seer


def sight_loss(seer: Seer, batch: SightBatch, image_token: int) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted loss, the mean loss of the taught tokens alone, and the share of them that were likeliest."""
    wanted = batch.weights.flatten().nonzero().squeeze(1)
    weights = batch.weights.flatten()[wanted]
    right = batch.targets.flatten()[wanted]
    with torch.autocast("cpu", torch.bfloat16):
        embedded = seer.embed(batch.inputs, batch.pixels, image_token)
        states = seer.language_model.compute(embedded, batch.mask, batch.positions)
        logits = seer.language_model.logits(states.flatten(0, 1)[wanted])
    losses = functional.cross_entropy(logits.float(), right, reduction="none")
    taught = weights > LEAST_ANSWER_WEIGHT / 2
    hits = (logits.detach().argmax(-1) == right)[taught].float().mean()
    return (losses * weights).sum() / weights.sum(), losses.detach()[taught].mean(), hits


def save(
    path: Path, seer: Seer, heads: Heads, average: Seer, opts: list[torch.optim.Optimizer], progress: dict[str, Any]
) -> None:
    """Write a checkpoint in one piece."""
    whole = {
        "text_shape": asdict(seer.language_model.shape),
        "tower_shape": asdict(seer.vision_tower.shape),
        "model": seer.state_dict(),
        "heads": heads.state_dict(),
        "average": average.state_dict(),
        "optimizers": [opt.state_dict() for opt in opts],
        "progress": progress,
    }
    torch.save(whole, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def main() -> None:
    """Train until the given step."""
    options = arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    if "RANK" in os.environ:
        distributed.init_process_group("gloo")
    tokenizer = bpe.with_images(bpe.load(options.text / "tokenizer.json"))
    if place()[1] == 0:
        tokenizer.save(str(options.folder / "tokenizer.json"))
    seer = beginning(options, tokenizer)
    heads = Heads(seer.vision_tower.shape.width)
    average = copy.deepcopy(seer).requires_grad_(False)
    opts = [
        *optimizers(seer.multi_modal_projector, options.muon_lr, options.adam_lr),
        *optimizers(seer.vision_tower, options.muon_lr / 2, options.adam_lr / 2),
        *optimizers(seer.language_model, options.muon_lr / 2, options.adam_lr / 2),
        *optimizers(heads, options.muon_lr / 2, 2 * options.adam_lr),
    ]
    peaks = [group["lr"] for opt in opts for group in opt.param_groups]
    progress: dict[str, Any] = {"step": 0, "block": 0, "text_block": 0, "tokens": 0, "seconds": 0.0}
    if options.resume:
        held = torch.load(options.resume, weights_only=True)
        seer.load_state_dict(held["model"])
        heads.load_state_dict(held["heads"])
        average.load_state_dict(held["average"])
        for opt, state in zip(opts, held["optimizers"], strict=True):
            opt.load_state_dict(state)
        progress = held["progress"]
    log.info("%d parameters, %s", count_parameters(seer), options)
    loop(options, seer, heads, average, opts, peaks, progress, tokenizer)


def freeze(seer: Seer, frozen: bool) -> None:
    """Whether the tower and the decoder stay as they are."""
    seer.vision_tower.requires_grad_(not frozen)
    seer.language_model.requires_grad_(not frozen)


def loop(
    options: argparse.Namespace,
    seer: Seer,
    heads: Heads,
    average: Seer,
    opts: list[torch.optim.Optimizer],
    peaks: list[float],
    progress: dict[str, Any],
    tokenizer: Tokenizer,
) -> None:
    """The steps of the training."""
    stop, (workers, rank) = False, place()
    whole = nn.ModuleList([seer, heads])
    tower, image_token = seer.vision_tower.shape, tokenizer.token_to_id(bpe.IMAGE)
    sights = sight_batches.sight_batches(
        tokenizer, options.seed, progress["block"] + rank, workers, options.sight_tokens, tower.image, tower.patches
    )
    texts = feed.batches(
        tokenizer, options.seed + 100, progress["text_block"] + rank, workers, options.text_tokens, 0.0, 0.0, 1024, 0.35
    )
    scenes = train_tower.batches(tower, options.seed + 200 + rank, options.pictures, progress["step"])
    started = saved = time.monotonic()
    seconds_before = progress["seconds"]
    seen: list[Tensor] = []
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked_to_stop.append(number))
    for step in itertools.count(progress["step"]):
        if step >= options.steps or stop:
            break
        alone = step < options.projector_steps
        freeze(seer, alone)
        for group, peak in zip((group for opt in opts for group in opt.param_groups), peaks, strict=True):
            group["lr"] = peak * rate(step, options)
        block, batch = next(sights)
        loss, taught, hits = sight_loss(seer, batch, image_token)
        loss.backward()
        pixels, labels = next(scenes)
        with torch.autocast("cpu", torch.bfloat16):
            scene = heads(seer.vision_tower(pixels), labels)
        (0.3 * train_tower.loss_of(scene)).backward()
        text_block, text_taught = progress["text_block"], torch.tensor(0.0)
        if not alone and options.text_tokens:
            text_block, text = next(texts)
            text_loss, text_taught = batch_loss(seer.language_model, text)
            text_loss.backward()
        stop = share(whole, bool(asked_to_stop))
        for adam in opts[1:6:2]:
            torch.nn.utils.clip_grad_norm_([p for group in adam.param_groups for p in group["params"]], 1.0)
        for opt in [*opts[:2], *opts[6:]] if alone else opts:
            opt.step()
            opt.zero_grad()
        with torch.no_grad():
            for kept, new in zip(average.parameters(), seer.parameters(), strict=True):
                kept.lerp_(new, 1 - min(options.average, 1 - 1 / (step + 1)))
        now = time.monotonic()
        progress.update(
            step=step + 1,
            block=block,
            text_block=text_block,
            tokens=progress["tokens"] + batch.inputs.numel() * workers,
            seconds=seconds_before + now - started,
        )
        shares = train_tower.accuracy(scene)
        seen.append(torch.tensor([taught, hits, text_taught, shares["thing"], shares["count"], 1.0]))
        if (step + 1) % 25 == 0 and rank == 0:
            means = (torch.stack(seen).sum(0) / len(seen)).tolist()
            log.info(
                "step %d  sight %.4f  right tokens %.2f %%  text %.4f  things %.1f %%  counts %.1f %%  %.2fM, %.0f/s",
                step + 1,
                means[0],
                100 * means[1],
                means[2],
                100 * means[3],
                100 * means[4],
                progress["tokens"] / 1e6,
                progress["tokens"] / progress["seconds"],
            )
            seen = []
        if now - saved > options.checkpoint_seconds and rank == 0:
            save(options.folder / "checkpoint.pt", seer, heads, average, opts, progress)
            saved = now
    if rank == 0:
        save(options.folder / "checkpoint.pt", seer, heads, average, opts, progress)


if __name__ == "__main__":
    main()
