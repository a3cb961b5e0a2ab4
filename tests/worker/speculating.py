"""A scheduler over a provider in this process, with and without guesses; every step takes the same time."""

from collections.abc import Sequence as Seq
from typing import NamedTuple

from heylook_llm import core
from heylook_llm.worker.providers.base import OutOfCells, Provider
from heylook_llm.worker.scheduler import Scheduler
from heylook_llm.worker.sequence import Sequence
from heylook_llm.worker.speculate import Speculator

STEP_NS = 10_000_000


class Answered(NamedTuple):
    """What came of a prompt."""

    tokens: list[int]
    usage: core.Usage


def answered(
    provider: Provider,
    prompts: Seq[Seq[int]],
    sampling: core.Sampling,
    *,
    guess: bool,
    lookup: bool = True,
    prediction: Seq[int] = (),
) -> list[Answered]:
    """The answers to prompts that run together. `guess`: from the prediction, by the drafter, and `lookup`."""
    speculator = Speculator(
        most=16,
        max_drafts=provider.max_drafts,
        alone=provider.drafts_alone,
        lookup=lookup,
        drafter=provider.drafter,
    )
    scheduler = Scheduler(
        provider,
        slots=provider.slots,
        parallel=provider.info.n_parallel,
        kv_tokens=provider.info.kv_tokens or 0,
        speculation=speculator if guess else None,
    )
    sequences = [
        Sequence(at, 0, prompt, sampling, limit_tokens=provider.info.n_ctx, prediction=tuple(prediction))
        for at, prompt in enumerate(prompts)
    ]
    for sequence in sequences:
        scheduler.submit(sequence, 0)
    now = 0
    while not scheduler.idle:
        feeds = scheduler.plan(now)
        try:
            drawn = provider.step(feeds)
        except OutOfCells:
            scheduler.make_room()
            continue
        scheduler.commit(drawn, now, now + STEP_NS)
        now += STEP_NS
    scheduler.pool.flush()
    return [
        Answered(sequence.tokens[len(prompt) :], sequence.usage())
        for sequence, prompt in zip(sequences, prompts, strict=True)
    ]
