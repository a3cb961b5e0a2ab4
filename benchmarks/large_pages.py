"""What large pages and reading a file do for an engine on the processor: the same model, the same steps, in turns.

    python -m benchmarks.random_model 0.5b /tmp/half.gguf --quantize Q4_K_M
    python -m benchmarks.large_pages /tmp/half.gguf --streams 1 8 --rounds 7

Three processes, since malloc is told once, at its start: one with the file mapped and pages of 4 KiB, one whose malloc
asks Linux for large pages, and one that also reads the file, as workers do (worker/providers/llama_cpp_pages.py). They
decode in turns. Printed: medians of tokens/s, least and greatest, and the ratio to the first, round by round.
"""

import argparse
import importlib
import os
import statistics
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from benchmarks import engine_loop
from heylook_llm.worker.providers.llama_cpp_threads import physical_cores


class Way(NamedTuple):
    """One way to hold the weights."""

    name: str
    large: bool
    mapped: bool


WAYS: Final = (Way("mapped", large=False, mapped=True), Way("large", large=True, mapped=True), Way("read", True, False))


class Child:
    """A process that holds a model one way."""

    def __init__(self, way: Way, arguments: list[str]) -> None:
        environment = {**os.environ, "GLIBC_TUNABLES": f"glibc.malloc.hugetlb={int(way.large)}"}
        command = [sys.executable, "-m", "benchmarks.large_pages", *arguments, "--child", way.name]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)

    def round(self, seed: int) -> float:
        """Tokens/s of one round."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(seed, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def end(self) -> None:
        """Its input's end is its own."""
        self._process.communicate()


def measure(arguments: list[str], streams: int, rounds: int) -> None:
    """Interleave rounds of all ways and print what came of them."""
    children = {way.name: Child(way, [*arguments, "--streams", str(streams)]) for way in WAYS}
    speeds: dict[str, list[float]] = {name: [] for name in children}
    for at in range(rounds + 1):  # the first is a warm-up
        names = list(children)
        for name in names[at % len(names) :] + names[: at % len(names)]:
            speeds[name].append(children[name].round(at))
    for child in children.values():
        child.end()
    print(f"{streams} streams, {rounds} rounds")
    base = speeds[WAYS[0].name][1:]
    for name, found in speeds.items():
        ratios = [one / other for one, other in zip(found[1:], base, strict=True)]
        print(
            f"  {name:7} {statistics.median(found[1:]):8.1f} tokens/s ({min(found[1:]):.1f}-{max(found[1:]):.1f})   "
            f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})"
        )


def serve(way: Way, path: Path, streams: int, tokens: int, threads: int) -> None:
    """A round for each line of the input."""
    silent = engine_loop.silence(importlib.import_module("llama_cpp.llama_cpp"))  # noqa: F841  # is kept
    cells = engine_loop.cells_for(streams, tokens)
    ours = engine_loop.Ours(path, streams, threads, cells, use_mmap=way.mapped)
    for line in sys.stdin:
        played = ours.run(engine_loop.prompts_of(Random(int(line)), streams), tokens)  # noqa: S311
        print(played.tokens / played.seconds, flush=True)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Large pages beside small ones.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--child", choices=[way.name for way in WAYS], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        way = next(way for way in WAYS if way.name == given.child)
        serve(way, given.model, given.streams[0], given.tokens, given.threads)
        return
    for streams in given.streams:
        shared = [str(given.model), "--tokens", str(given.tokens), "--threads", str(given.threads)]
        measure(shared, streams, given.rounds)


if __name__ == "__main__":
    main()
