"""Trains heylook-tiny on the CPU and keeps checkpoints."""

from __future__ import annotations

import argparse
import copy
import logging
import os
import shutil
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import batches as feed
import tokenizer as bpe
import torch
from batches import LEAST_ANSWER_WEIGHT, Batch
from model import Decoder, Shape, count_parameters
from optimizer import optimizers
from safetensors.torch import load_file
from torch import Tensor, distributed, nn
from torch.nn import functional

log = logging.getLogger("tiny_model.train")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where tokenizer and checkpoints are kept")
    parser.add_argument("--steps", type=int, required=True, help="train until this many steps in all")
    parser.add_argument("--decay-from", type=int, help="step at which the learning rate starts to fall to zero")
    parser.add_argument("--resume", type=Path, help="go on from this checkpoint")
    parser.add_argument("--weights", type=Path, help="begin from an exported MLX folder and its vocabulary")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--muon-lr", type=float, default=0.01)
    parser.add_argument("--adam-lr", type=float, default=0.002)
    parser.add_argument("--other-weight", type=float, default=0.0, help="loss weight of tokens that are not answers")
    parser.add_argument("--long-share", type=float, default=0.03)
    parser.add_argument("--far-share", type=float, default=0.35, help="share of dialogues with stretched positions")
    parser.add_argument("--longest", type=int, default=1024, help="longest dialogue, in tokens")
    parser.add_argument("--average", type=float, default=0.99, help="decay of the running average of the weights")
    parser.add_argument("--checkpoint-seconds", type=float, default=180)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def rate(step: int, options: argparse.Namespace, warmup: int = 60) -> float:
    """Warm-up, constant, then linear to zero."""
    if options.decay_from is not None and step >= options.decay_from:
        return max(0.0, (options.steps - step) / (options.steps - options.decay_from))
    return min(1.0, (step + 1) / warmup)


def batch_loss(model: Decoder, batch: Batch) -> tuple[Tensor, Tensor]:
    """The weighted loss, and the mean loss of the taught tokens alone."""
    wanted = batch.weights.flatten().nonzero().squeeze(1)
    weights = batch.weights.flatten()[wanted]
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.logits(model(batch.inputs, positions=batch.positions).flatten(0, 1)[wanted])
    losses = functional.cross_entropy(logits.float(), batch.targets.flatten()[wanted], reduction="none")
    taught = losses.detach()[weights > LEAST_ANSWER_WEIGHT / 2]
    return (losses * weights).sum() / weights.sum(), taught.mean()


def place() -> tuple[int, int]:
    """How many processes train together, and which of them this is."""
    return (distributed.get_world_size(), distributed.get_rank()) if distributed.is_initialized() else (1, 0)


def share(model: nn.Module, stop: bool) -> bool:
    """Average the gradients over the processes, once per step; true when any of them was asked to stop.

    Two processes of one thread each lose far less on busy cores than two threads that meet at every operation.
    """
    workers, _ = place()
    if workers == 1:
        return stop
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients] + [torch.tensor([float(stop)])])
    distributed.all_reduce(flat)
    begin = 0
    for gradient in gradients:
        gradient.copy_(flat[begin : begin + gradient.numel()].view_as(gradient) / workers)
        begin += gradient.numel()
    return bool(flat[-1] > 0)


def save(
    path: Path, model: Decoder, average: Decoder, opts: list[torch.optim.Optimizer], progress: dict[str, Any]
) -> None:
    """Write a checkpoint in one piece."""
    whole = {
        "shape": asdict(model.shape),
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizers": [opt.state_dict() for opt in opts],
        "progress": progress,
    }
    torch.save(whole, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def begin_from(folder: Path, model: Decoder) -> None:
    """Load exported weights; the optimizers start anew, so the rate should warm up."""
    held = load_file(folder / "model.safetensors")
    model.load_state_dict({name.removeprefix("model."): tensor.float() for name, tensor in held.items()})


def main() -> None:
    """Train until the given step."""
    options = arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    if "RANK" in os.environ:
        distributed.init_process_group("gloo")
    options.folder.mkdir(parents=True, exist_ok=True)
    tokenizer_path = options.folder / "tokenizer.json"
    if place()[1] == 0 and not tokenizer_path.exists():
        if options.weights:
            shutil.copy(options.weights / "tokenizer.json", tokenizer_path)
        else:
            bpe.train().save(str(tokenizer_path))
    if distributed.is_initialized():
        distributed.barrier()
    tokenizer = bpe.load(tokenizer_path)
    model = Decoder(Shape(vocabulary=tokenizer.get_vocab_size()))
    if options.weights:
        begin_from(options.weights, model)
    average = copy.deepcopy(model).requires_grad_(False)
    opts = optimizers(model, options.muon_lr, options.adam_lr)
    progress: dict[str, Any] = {"step": 0, "block": 0, "tokens": 0, "seconds": 0.0}
    if options.resume:
        held = torch.load(options.resume, weights_only=True)
        model.load_state_dict(held["model"])
        average.load_state_dict(held["average"])
        for opt, state in zip(opts, held["optimizers"], strict=True):
            opt.load_state_dict(state)
        progress = held["progress"]
        progress["block"] += place()[0]
    log.info("%d parameters, %s", count_parameters(model), options)
    loop(options, model, average, opts, progress, tokenizer)


def loop(
    options: argparse.Namespace,
    model: Decoder,
    average: Decoder,
    opts: list[torch.optim.Optimizer],
    progress: dict[str, Any],
    tokenizer: Any,
) -> None:
    """The steps of the training."""
    stop, (workers, rank) = False, place()
    peaks = [options.muon_lr, options.adam_lr]
    source = feed.batches(
        tokenizer,
        options.seed,
        progress["block"] + rank,
        workers,
        options.batch_tokens,
        options.other_weight,
        options.long_share,
        options.longest,
        options.far_share,
    )
    started = saved = time.monotonic()
    seconds_before, running, seen = progress["seconds"], 0.0, 0
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked_to_stop.append(number))
    for block, batch in source:
        step = progress["step"]
        if step >= options.steps or stop:
            break
        for opt, peak in zip(opts, peaks, strict=True):
            for group in opt.param_groups:
                group["lr"] = peak * rate(step, options)
        loss, taught = batch_loss(model, batch)
        loss.backward()
        stop = share(model, bool(asked_to_stop))
        torch.nn.utils.clip_grad_norm_([p for group in opts[1].param_groups for p in group["params"]], 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad()
        decay = min(options.average, 1 - 1 / (step + 1))
        with torch.no_grad():
            for kept, new in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        running, seen = running + float(taught), seen + 1
        now = time.monotonic()
        progress.update(
            step=step + 1,
            block=block,
            tokens=progress["tokens"] + batch.inputs.numel() * workers,
            seconds=seconds_before + now - started,
        )
        if (step + 1) % 25 == 0 and rank == 0:
            log.info(
                "step %d  answers' loss %.4f  tokens %.2fM  %.0f tokens/s",
                step + 1,
                running / seen,
                progress["tokens"] / 1e6,
                progress["tokens"] / progress["seconds"],
            )
            running, seen = 0.0, 0
        if now - saved > options.checkpoint_seconds and rank == 0:
            save(options.folder / "checkpoint.pt", model, average, opts, progress)
            saved = now
    if rank == 0:
        save(options.folder / "checkpoint.pt", model, average, opts, progress)


if __name__ == "__main__":
    main()
