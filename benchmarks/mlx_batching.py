"""Tokens per second of the mlx provider under our Scheduler, beside mlx_lm's own BatchGenerator on the same weights.

    python -m benchmarks.mlx_batching [--model FOLDER] [--tokens 64] [--rounds 3] [--prompt-tokens 64]

Both run in this process, in turn, round by round, with greedy sampling and prompts of random tokens. `whole` is the
whole run, prompts included; `decode` counts from the step in which the last sequence got its first token. The peer is
measured as mlx_lm loads it, and once more with the weights as our provider lays them out. Medians over the rounds.
"""

import argparse
import importlib
import random
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

from heylook_llm import core, tiny
from heylook_llm.worker.providers import mlx as provider_module
from heylook_llm.worker.scheduler import Scheduler
from heylook_llm.worker.sequence import Sequence

mx: Any = importlib.import_module("mlx.core")
generate: Any = importlib.import_module("mlx_lm.generate")
loader: Any = importlib.import_module("mlx_lm.utils")

BUNDLED = Path(tiny.__file__).parent / "heylook-tiny-mlx"


class Speed(NamedTuple):
    """Tokens per second."""

    whole: float
    decode: float


def ours(provider: Any, prompts: list[list[int]], tokens: int) -> Speed:
    """Our Scheduler and provider."""
    info = provider.info
    for slot in range(info.n_parallel):
        provider.remove(slot)
    scheduler = Scheduler(provider, slots=info.n_parallel, kv_tokens=info.kv_tokens or 1 << 20)
    sampling = core.Sampling(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    start = time.perf_counter()
    sequences = [Sequence(at, 0, prompt, sampling, limit_tokens=info.n_ctx) for at, prompt in enumerate(prompts)]
    for sequence in sequences:
        scheduler.submit(sequence, 0)
    begun, produced = 0.0, 0
    while not scheduler.idle:
        stepped_ns = time.monotonic_ns()
        outcomes = scheduler.commit(provider.step(scheduler.plan(0)), stepped_ns, time.monotonic_ns())
        if begun:
            produced += len(outcomes)
        elif all(sequence.output_tokens for sequence in sequences):
            begun = time.perf_counter()
    end = time.perf_counter()
    return Speed(len(prompts) * tokens / (end - start), produced / (end - begun))


def theirs(model: Any, prompts: list[list[int]], tokens: int) -> Speed:
    """mlx_lm's BatchGenerator, as its server drives it."""
    generator = generate.BatchGenerator(model, max_tokens=tokens)
    start = time.perf_counter()
    generator.insert(prompts, max_tokens=[tokens] * len(prompts))
    begun, produced, seen, live = 0.0, 0, set[int](), len(prompts)
    while live:
        responses = generator.next_generated()
        for response in responses:
            seen.add(response.uid)
            live -= response.finish_reason is not None
        if begun:
            produced += len(responses)
        elif len(seen) == len(prompts):
            begun = time.perf_counter()
    end = time.perf_counter()
    generator.close()
    return Speed(len(prompts) * tokens / (end - start), produced / (end - begun))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    provider = provider_module.open_model(core.Load("ours", "mlx", str(given.model), {}), lambda fraction: None)
    plain, _ = loader.load_model(given.model)
    chance = random.Random(1)  # noqa: S311  # no secret
    print(f"{mx.default_device()}, mlx {mx.__version__}; {given.tokens} tokens after {given.prompt_tokens}")
    print(f"{'sequences':>9}  {'ours':>15}  {'BatchGenerator':>15}  {'... our weights':>15}  ratio  to our weights")
    for count in (1, 8):
        prompts = [[chance.randrange(3, 1000) for _ in range(given.prompt_tokens)] for _ in range(count)]
        rounds: list[tuple[Speed, Speed, Speed]] = []
        for _ in range(given.rounds):
            mx.enable_compile()
            as_loaded = theirs(plain, prompts, given.tokens)
            mx.disable_compile()
            as_ours = theirs(provider._model, prompts, given.tokens)
            rounds.append((ours(provider, prompts, given.tokens), as_loaded, as_ours))
        columns = [list(column) for column in zip(*rounds, strict=True)]
        whole = [statistics.median(speed.whole for speed in column) for column in columns]
        decode = [statistics.median(speed.decode for speed in column) for column in columns]
        for name, values in (("whole", whole), ("decode", decode)):
            cells = "  ".join(f"{value:8.1f} {name:>6}" for value in values)
            print(f"{count:>9}  {cells}  {values[0] / values[1]:5.2f}  {values[0] / values[2]:14.2f}")


if __name__ == "__main__":
    main()
