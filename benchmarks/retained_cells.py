"""What cells of ended sequences cost each token of the running ones, and what the budget for them learns of it.

    python -m benchmarks.random_model 0.5b /tmp/half.gguf --quantize Q4_K_M
    python -m benchmarks.retained_cells /tmp/half.gguf --foreign 3072 --batch 1 8 --threads 2

Sequences are decoded in turns with nothing else in the pool and beside so many foreign cells, with flash attention and
without. Printed: the medians of a step in milliseconds, the slow-down, and the cells that may be retained by the
estimate and by the Retention that saw these steps: where the slow-down reaches a tenth.
"""

import argparse
import statistics
import time
from pathlib import Path

from heylook_llm import core
from heylook_llm.worker.providers.base import Feed
from heylook_llm.worker.providers.llama_cpp import LlamaCpp, open_model
from heylook_llm.worker.retention import Retention, estimated_budget

OWN_TOKENS = 64


class Steps:
    """Decode steps over one provider, whose first slots run and whose next one holds the foreign cells."""

    def __init__(self, provider: LlamaCpp, batch: int) -> None:
        self._provider = provider
        self._batch = batch
        self.retention = Retention(estimated_budget(provider.info))

    def _fill(self, slot: int, count: int) -> None:
        for start in range(0, count, 512):
            tokens = tuple(3 + (start + at) % 200 for at in range(min(512, count - start)))
            self._provider.step([Feed(slot, start, tokens, False)])

    def run(self, foreign: int, tokens: int) -> list[float]:
        """Seconds of each step beside so many foreign cells."""
        provider, batch = self._provider, self._batch
        for slot in range(batch + 1):
            provider.remove(slot)
        self._fill(batch, foreign)
        for slot in range(batch):
            self._fill(slot, OWN_TOKENS)
            provider.add(slot, core.Sampling(temperature=0.0), [])
        times: list[float] = []
        for at in range(OWN_TOKENS, OWN_TOKENS + tokens):
            feeds = [Feed(slot, at, (7 + at % 100,), True) for slot in range(batch)]
            began = time.perf_counter()
            provider.step(feeds)
            times.append(time.perf_counter() - began)
            own = batch * (at + 1)
            self.retention.learn(batch, own, own + foreign, int(times[-1] * 1e9))
        return times


def measure(path: Path, batch: int, flash: bool, arguments: argparse.Namespace) -> None:
    """Rounds in turns."""
    cells = arguments.foreign + batch * (OWN_TOKENS + arguments.tokens) + 256
    options = {
        "n_ctx": cells,
        "kv_tokens": cells,
        "n_parallel": batch,
        "n_threads": arguments.threads,
        "flash_attn": flash,
    }
    provider = open_model(core.Load("benchmark", "llama_cpp", str(path), options), lambda fraction: None)
    steps = Steps(provider, batch)
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(arguments.rounds):
        alone += steps.run(0, arguments.tokens)
        beside += steps.run(arguments.foreign, arguments.tokens)
    before, after = statistics.median(alone) * 1e3, statistics.median(beside) * 1e3
    name = "flash attention" if flash else "without it"
    print(
        f"  {batch} sequences, {name:15}  {before:7.2f} ms alone {after:7.2f} ms beside {arguments.foreign} cells, "
        f"{(after / before - 1) * 100:+6.1f} %   budget {estimated_budget(provider.info)} estimated, "
        f"{steps.retention.budget(batch)} learned"
    )
    provider.close()


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="What retained cells cost.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--foreign", type=int, default=3072)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print(arguments.model.name)
    for batch in arguments.batch:
        for flash in (True, False):
            measure(arguments.model, batch, flash, arguments)


if __name__ == "__main__":
    main()
