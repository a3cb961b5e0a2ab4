"""What the worker's step loop costs over the raw engine: the same model, the same batches, greedy, interleaved rounds.

    python -m benchmarks.random_model 0.5b /tmp/half.gguf --quantize Q4_K_M
    python -m benchmarks.engine_loop /tmp/half.gguf --streams 1 8 --tokens 100
    python -m benchmarks.engine_loop src/heylook_llm/tiny/heylook-tiny.gguf --streams 1 8 --tokens 300 --threads 1

The peer is a bare loop over llama-cpp-python's low-level binding: one llama_batch, llama_decode, llama_sampler_sample
with llama.cpp's greedy sampler. Ours is the worker's Engine as the process runs it: Scheduler, provider, text, and the
encoded frames written to /dev/null. Printed: medians of tokens/s and of microseconds of CPU per token, ours / raw, and
with --profile where our time goes.
"""

import argparse
import cProfile
import ctypes
import importlib
import os
import pstats
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, NamedTuple

from heylook_llm import core
from heylook_llm.worker.__main__ import Engine, Mark, Outlet, Prepared
from heylook_llm.worker.prepare import Model
from heylook_llm.worker.providers.llama_cpp import open_model
from heylook_llm.worker.providers.llama_cpp_threads import physical_cores

PROMPT_TOKENS = 16


class Round(NamedTuple):
    """One measured round: wall and CPU seconds for so many decoded tokens."""

    seconds: float
    cpu_seconds: float
    tokens: int


class Raw:
    """The bare loop."""

    def __init__(self, path: Path, streams: int, threads: int, n_ctx: int) -> None:
        native: Any = importlib.import_module("llama_cpp.llama_cpp")
        self._native, self._streams = native, streams
        model_params = native.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self._model = native.llama_model_load_from_file(os.fsencode(path), model_params)
        params = native.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = n_ctx, streams, True
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        self._context = native.llama_init_from_model(self._model, params)
        self._batch = native.llama_batch_init(PROMPT_TOKENS * streams, 0, 1)
        chain = native.llama_sampler_chain_init(native.llama_sampler_chain_default_params())
        native.llama_sampler_chain_add(chain, native.llama_sampler_init_greedy())
        self._sampler = chain

    def run(self, prompts: list[list[int]], tokens: int) -> Round:
        """Prefill, then decode; only the decoding is measured."""
        native, batch = self._native, self._batch
        native.llama_memory_clear(native.llama_get_memory(self._context), False)
        at = 0
        for slot, prompt in enumerate(prompts):
            for position, token in enumerate(prompt):
                self._put(at, token, position, slot, position == len(prompt) - 1)
                at += 1
        batch.n_tokens = at
        native.llama_decode(self._context, batch)
        ends = [(slot + 1) * PROMPT_TOKENS - 1 for slot in range(self._streams)]
        drawn = [native.llama_sampler_sample(self._sampler, self._context, end) for end in ends]
        began, cpu = time.perf_counter(), time.process_time()
        for step in range(tokens):
            for slot, token in enumerate(drawn):
                self._put(slot, token, PROMPT_TOKENS + step, slot, True)
            batch.n_tokens = self._streams
            native.llama_decode(self._context, batch)
            drawn = [native.llama_sampler_sample(self._sampler, self._context, slot) for slot in range(self._streams)]
        return Round(time.perf_counter() - began, time.process_time() - cpu, tokens * self._streams)

    def _put(self, at: int, token: int, position: int, slot: int, wanted: bool) -> None:
        batch = self._batch
        batch.token[at] = token
        batch.pos[at] = position
        batch.n_seq_id[at] = 1
        batch.seq_id[at][0] = slot
        batch.logits[at] = wanted


class Ours:
    """The worker's Engine, without its process."""

    def __init__(self, path: Path, streams: int, threads: int, n_ctx: int, **further: Any) -> None:
        sizes = {"n_ctx": n_ctx, "kv_tokens": n_ctx, "n_parallel": streams, "n_threads": threads, "n_gpu_layers": 0}
        options = {**sizes, **further}
        provider = open_model(core.Load("bench", "llama_cpp", str(path), options), lambda fraction: None)
        model = Model("bench", provider, SystemRandom(), time.monotonic_ns)
        self._marks: dict[int, Mark] = {}
        self._engine = Engine(model, Outlet(os.open(os.devnull, os.O_WRONLY)), dict(options), self._marks)
        self._model = model

    def run(self, prompts: list[list[int]], tokens: int) -> Round:
        """The same as Raw.run."""
        engine, scheduler = self._engine, self._engine.scheduler
        scheduler.pool.flush()
        sampling = core.Sampling(temperature=0.0, max_tokens=tokens + 1, ignore_eos=True)
        for number, prompt in enumerate(prompts):
            body = core.Request(str(number), "bench", (core.TokenPrompt(tuple(prompt)),), sampling)
            mark = self._marks[number] = Mark(number)
            choices = self._model.prepare(number, body)
            engine.take(Prepared(mark, choices, time.monotonic_ns()))
        while any(not sequence.output_tokens for sequence in scheduler.live()):
            engine.step()
        before = scheduler.output_tokens
        began, cpu = time.perf_counter(), time.process_time()
        while not scheduler.idle:
            engine.step()
        return Round(time.perf_counter() - began, time.process_time() - cpu, scheduler.output_tokens - before)


def cells_for(streams: int, tokens: int) -> int:
    """Cells of the pool, as llama.cpp rounds them."""
    return -(-(PROMPT_TOKENS + tokens + 8) * streams // 256) * 256


def prompts_of(random: Random, streams: int) -> list[list[int]]:
    """A prompt for each stream."""
    return [[random.randrange(3, 200) for _ in range(PROMPT_TOKENS)] for _ in range(streams)]


def silence(native: Any) -> object:
    """Nothing of llama.cpp's log is printed, as long as the result is kept."""
    silent = native.llama_log_callback(lambda *_: None)
    native.llama_log_set(silent, ctypes.c_void_p(0))
    return silent


def measure(path: Path, streams: int, tokens: int, rounds: int, threads: int) -> None:
    """Interleave rounds of both and print their medians."""
    n_ctx = cells_for(streams, tokens)
    raw, ours = Raw(path, streams, threads, n_ctx), Ours(path, streams, threads, n_ctx)
    random = Random(7)  # noqa: S311  # the same prompts every time
    results: dict[str, list[Round]] = {"raw": [], "ours": []}
    for at in range(rounds + 1):
        prompts = prompts_of(random, streams)
        runs: list[tuple[str, Callable[[list[list[int]], int], Round]]] = [("raw", raw.run), ("ours", ours.run)]
        for name, run in runs if at % 2 else reversed(runs):
            results[name].append(run(prompts, tokens))
    print(f"{path.name}: {streams} streams, {tokens} tokens each, {threads} threads, median of {rounds} rounds")
    speed: dict[str, float] = {}
    cost: dict[str, float] = {}
    for name, measured in results.items():
        speed[name] = statistics.median(one.tokens / one.seconds for one in measured[1:])
        cost[name] = statistics.median(one.cpu_seconds / one.tokens for one in measured[1:]) * 1e6
        print(f"  {name:5} {speed[name]:10.1f} tokens/s   {cost[name]:10.1f} us CPU per token")
    print(f"  ours / raw: {speed['ours'] / speed['raw']:.3f} tokens/s, {cost['ours'] - cost['raw']:+.1f} us per token")


def profile(path: Path, streams: int, tokens: int, threads: int) -> None:
    """Where our loop spends its time."""
    ours = Ours(path, streams, threads, cells_for(streams, tokens))
    profiler = cProfile.Profile()
    profiler.enable()
    ours.run([list(range(10 + slot, 10 + slot + PROMPT_TOKENS)) for slot in range(streams)], tokens)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="The worker's step loop against the raw engine.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    silent = silence(importlib.import_module("llama_cpp.llama_cpp"))  # noqa: F841  # is kept
    for streams in arguments.streams:
        if arguments.profile:
            profile(arguments.model, streams, arguments.tokens, arguments.threads)
        else:
            measure(arguments.model, streams, arguments.tokens, arguments.rounds, arguments.threads)


if __name__ == "__main__":
    main()
