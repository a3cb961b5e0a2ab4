"""How soon sequences that share a long beginning have their first tokens, with sharing and without, in turns.

    python -m benchmarks.random_model 0.5b /tmp/half.gguf --quantize Q4_K_M
    python -m benchmarks.shared_prefix /tmp/half.gguf --sequences 8 --prefix 700 --threads 2

Both run the worker's Scheduler over one loaded provider. All sequences are submitted at once. Without sharing, the
provider is taken for one that can share nothing. Printed, as medians: seconds until the first of them and until all
have their first token, the prompt tokens that were computed, and the ratio of with to without.
"""

import argparse
import importlib
import statistics
import time
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from heylook_llm import core
from heylook_llm.worker.providers.base import Provider, Sharing
from heylook_llm.worker.scheduler import Scheduler
from heylook_llm.worker.sequence import Sequence


class Times(NamedTuple):
    """Seconds from the submission, and prompt tokens computed."""

    first: float
    all: float
    computed: int


def opened(path: Path, sequences: int, tokens: int, threads: int) -> Provider:
    """The provider of a GGUF file or an MLX folder."""
    name = "mlx" if path.is_dir() else "llama_cpp"
    options = {"n_ctx": tokens + 64, "n_parallel": sequences, "n_threads": threads, "kv_tokens": 0}
    options["kv_tokens"] = sequences * (tokens + 64)
    module = importlib.import_module(f"heylook_llm.worker.providers.{name}")
    provider: Provider = module.open_model(core.Load("benchmark", name, str(path), options), lambda fraction: None)
    return provider


def run(provider: Provider, prompts: list[list[int]], sharing: Sharing) -> Times:
    """One round, over an empty pool."""
    for slot in range(provider.slots):
        provider.remove(slot)
    provider.sharing = sharing
    scheduler = Scheduler(
        provider,
        slots=provider.slots,
        parallel=len(prompts),
        kv_tokens=provider.info.kv_tokens or 0,
        n_batch=2048,
        prefill_tokens=512,
    )
    sampling = core.Sampling(max_tokens=1, temperature=0.0)
    began = time.perf_counter()
    for at, prompt in enumerate(prompts):
        scheduler.submit(Sequence(at, 0, prompt, sampling, limit_tokens=len(prompt) + 8), time.monotonic_ns())
    firsts: list[float] = []
    while not scheduler.idle:
        start_ns = time.monotonic_ns()
        drawn = provider.step(scheduler.plan(start_ns))
        outcomes = scheduler.commit(drawn, start_ns, time.monotonic_ns())
        firsts += [time.perf_counter() - began] * len(outcomes)
    return Times(firsts[0], firsts[-1], scheduler.prompt_tokens)


def measure(provider: Provider, arguments: argparse.Namespace) -> dict[str, list[Times]]:
    """Rounds in turns, each with other tokens."""
    random = Random(7)  # noqa: S311  # the same prompts every time
    size = min(provider.info.n_vocab or 1000, 1000)
    able = provider.sharing
    results: dict[str, list[Times]] = {"without": [], "with": []}
    for at in range(arguments.rounds + 1):
        prefix = [random.randrange(3, size) for _ in range(arguments.prefix)]
        prompts = [
            [*prefix, *(random.randrange(3, size) for _ in range(arguments.suffix))] for _ in range(arguments.sequences)
        ]
        turns: list[tuple[str, Sharing]] = [("without", "none"), ("with", able)]
        for name, sharing in turns if at % 2 else turns[::-1]:
            results[name].append(run(provider, prompts, sharing))
    return {name: rounds[1:] for name, rounds in results.items()}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="First tokens of sequences that share a beginning.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--prefix", type=int, default=700)
    parser.add_argument("--suffix", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    tokens = arguments.prefix + arguments.suffix
    provider: Any = opened(arguments.model, arguments.sequences, tokens, arguments.threads)
    results = measure(provider, arguments)
    print(f"{arguments.model.name}: {arguments.sequences} sequences, {arguments.prefix} tokens shared, {tokens} each")
    medians: dict[str, Times] = {}
    for name, rounds in results.items():
        median = Times(*(statistics.median(values) for values in zip(*rounds, strict=True)))
        medians[name] = median
        print(
            f"  {name:8} first {median.first:7.3f} s   all {median.all:7.3f} s   {median.computed:6.0f} tokens computed"
        )
    print(f"  with / without: all {medians['with'].all / medians['without'].all:.3f}")
    provider.close()


if __name__ == "__main__":
    main()
