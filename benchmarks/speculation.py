"""What guessing ahead gains and costs: tokens/s with guesses that are right to a given part, against none, in turns.

    python -m benchmarks.random_model 0.5b /tmp/half.gguf --quantize Q4_K_M
    python -m benchmarks.speculation /tmp/half.gguf --tokens 128 --rounds 5 --threads 2
    python -m benchmarks.speculation FOLDER --provider mlx
    python -m benchmarks.speculation LARGE.gguf --draft SMALL.gguf

The scheduler and the provider run in this process, as in a worker's step loop; one sequence is answered greedily. Its
answer without guesses is what the guesses are made of: a prediction in which every k-th token is another one, so that
guesses are right as often as in a text that is copied with so many changes. With one in three changed, two tokens
match and what follows is wrong: the worst that a lookup meets. `--draft` guesses by a smaller model besides. Printed:
tokens/s of each, their ratio to plain in the same round, and how many of the guessed tokens were right. Expected: the
ratio of a whole copy well above 1, and none below 0.95.
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any, Final, NamedTuple

from heylook_llm import core
from heylook_llm.worker.__main__ import PROVIDERS
from heylook_llm.worker.providers.base import Provider
from heylook_llm.worker.scheduler import Scheduler
from heylook_llm.worker.sequence import Sequence
from heylook_llm.worker.speculate import Speculator

PROMPT_TOKENS: Final = 200
COPIES: Final = {"whole copy": 0, "1 in 20 changed": 20, "1 in 5 changed": 5, "1 in 3 changed": 3}
"""Name -> every how manieth token is another one."""


class Run(NamedTuple):
    """An answer, and how fast it came."""

    tokens: list[int]
    per_second: float
    usage: core.Usage


class Bench:
    """One loaded model, with the speculation that learns over all runs, as a worker's does."""

    def __init__(self, provider: Provider, tokens: int) -> None:
        self._provider = provider
        self._prompt = [at * 7 % 400 + 3 for at in range(PROMPT_TOKENS)]
        self._sampling = core.Sampling(temperature=0.0, ignore_eos=True, max_tokens=tokens + 1)

    def speculator(self, *, drafting: bool = False) -> Speculator:
        """A fresh one."""
        provider = self._provider
        drafter = provider.drafter if drafting else None
        return Speculator(most=16, max_drafts=provider.max_drafts, alone=provider.drafts_alone, drafter=drafter)

    def run(self, speculator: Speculator | None, prediction: Seq[int] = ()) -> Run:
        """One answer, timed from its first token to its last."""
        provider, info = self._provider, self._provider.info
        scheduler = Scheduler(
            provider, slots=provider.slots, kv_tokens=info.kv_tokens or info.n_ctx, speculation=speculator
        )
        sequence = Sequence(1, 0, self._prompt, self._sampling, limit_tokens=info.n_ctx, prediction=tuple(prediction))
        scheduler.submit(sequence, 0)
        while not scheduler.idle:
            start_ns = time.monotonic_ns()
            drawn = provider.step(scheduler.plan(start_ns))
            scheduler.commit(drawn, start_ns, time.monotonic_ns())
        scheduler.pool.flush()
        stamps = sequence.stamps
        assert stamps.first_token_ns is not None
        assert stamps.last_token_ns is not None
        seconds = (stamps.last_token_ns - stamps.first_token_ns) / 1e9
        return Run(sequence.tokens[PROMPT_TOKENS:], (sequence.output_tokens - 1) / seconds, sequence.usage())


def changed(tokens: Seq[int], every: int) -> list[int]:
    """The tokens with every so manieth another one; 0: none."""
    return [token + 1 if every and at % every == every - 1 else token for at, token in enumerate(tokens)]


def measure(bench: Bench, rounds: int, *, drafting: bool) -> None:
    """Rounds of plain and of each kind of guess by turns, and their medians."""
    answer = bench.run(None).tokens
    kinds: dict[str, tuple[Speculator, list[int]]] = {
        name: (bench.speculator(), changed(answer, every)) for name, every in COPIES.items()
    }
    if drafting:
        kinds["small model"] = (bench.speculator(drafting=True), [])
    found: dict[str, list[tuple[float, float, core.Usage]]] = {name: [] for name in kinds}
    for _ in range(rounds):
        plain = bench.run(None).per_second
        for name, (speculator, prediction) in kinds.items():
            run = bench.run(speculator, prediction)
            if run.tokens != answer:
                print(f"  {name}: another answer: the shape of a batch moved a near-tie")
            found[name].append((run.per_second, run.per_second / plain, run.usage))
    for name, runs in found.items():
        speed, ratio = (statistics.median(column) for column in ([one[0] for one in runs], [one[1] for one in runs]))
        guessed, right = sum(one[2].draft_tokens for one in runs), sum(one[2].accepted_tokens for one in runs)
        print(f"  {name:16} {speed:8.2f} tokens/s   ratio to plain {ratio:.3f}   right {right} of {guessed} guessed")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--provider", choices=[name for name in PROVIDERS if name != "fake"], default="llama_cpp")
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    options: dict[str, Any] = {"n_ctx": PROMPT_TOKENS + arguments.tokens + 64, "n_parallel": 1}
    if arguments.provider == "llama_cpp":
        options["n_threads"] = arguments.threads
    if arguments.draft is not None:
        options["draft_model_path"] = str(arguments.draft)
    load = core.Load("measured", arguments.provider, str(arguments.model), options)
    module: Any = importlib.import_module(PROVIDERS[arguments.provider])
    provider: Provider = module.open_model(load, lambda fraction: None)
    print(f"{arguments.model.name}: {arguments.tokens} tokens, medians of {arguments.rounds} rounds")
    measure(Bench(provider, arguments.tokens), arguments.rounds, drafting=arguments.draft is not None)
    provider.close()


if __name__ == "__main__":
    main()
