"""Ours beside llama-server, llama_cpp.server and mlx_lm.server: same weights, same client, in turns. See docs/peers.md.

    make bench-peers LLAMA_SERVER=/path/to/llama-server
    make bench-peers ARGS="--models tiny --workloads one eight --rounds 5"

All servers of a model run at once, and only one is asked at a time: round by round, each round begun by another one.
A round sends every server the same prompts; no prompt comes twice. Printed, and written as Markdown and JSON: medians
with least and greatest, ours / theirs round by round, and which goals that meets.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from benchmarks import random_mlx, random_model
from benchmarks.peers import report
from benchmarks.peers.client import Played, play
from benchmarks.peers.measures import figures
from benchmarks.peers.report import Contest, Results
from benchmarks.peers.servers import BUILD, Running, Server, gguf_servers, mlx_servers, running
from benchmarks.peers.workloads import WORKLOADS, Author, Sizes, Workload


class Subject(NamedTuple):
    """A model to measure with: where it lies (written anew where it is missing) and how long its answers are."""

    name: str
    what: str
    path: Path
    write: Callable[[Path], None]
    sizes: Sizes


def _write_half(path: Path) -> None:
    random_model.write_quantized(path, random_model.SHAPES["0.5b"], "Q4_K_M")


def _write_mlx(path: Path) -> None:
    random_mlx.write(path)


def _bundled(path: Path) -> None:
    raise SystemExit(f"{path} is missing.")


SUBJECTS: Final = (
    Subject(
        "0.5b",
        "random weights in the shape of Qwen2.5-0.5B, Q4_K_M",
        BUILD / "half.gguf",
        _write_half,
        Sizes(one=96, many=64, streams=96, late=8, short=16),
    ),
    Subject(
        "tiny",
        "the bundled model, F16",
        random_model.BUNDLED,
        _bundled,
        Sizes(one=400, many=200, streams=500, late=8, short=32),
    ),
    Subject(
        "tiny-mlx",
        "the bundled model for MLX",
        random_model.BUNDLED.with_name("heylook-tiny-mlx"),
        _bundled,
        Sizes(one=200, many=100, streams=200, late=8, short=32),
    ),
    Subject(
        "small-mlx",
        "random weights for MLX: 6 layers, width 512, F16",
        BUILD / "small-mlx",
        _write_mlx,
        Sizes(one=96, many=64, streams=96, late=8, short=16),
    ),
)


def contest(subject: Subject, servers: list[Server], options: argparse.Namespace) -> Contest:
    """Measure all servers with one model."""
    found = Contest(subject.name, subject.what, servers)
    with running(servers, BUILD / "logs" / subject.name) as targets:
        for target in targets:  # buffers are allocated, templates compiled, weights read
            _round(target, Author(f"warm-up {subject.name}"), WORKLOADS[1], subject.sizes._replace(many=8))
        for workload in (one for one in WORKLOADS if one.name in options.workloads):
            for number in range(options.rounds):
                turn = number % len(targets)
                for target in [*targets[turn:], *targets[:turn]]:
                    if workload.name == "late" and not target.server.batches:
                        continue
                    seed = f"{options.seed} {subject.name} {workload.name} {number}"
                    played = _round(target, Author(seed), workload, subject.sizes)
                    found.add(workload.name, target.server.name, played)
                    report.say(subject.name, workload.name, target.server.name, figures(played))
    return found


def _round(target: Running, author: Author, workload: Workload, sizes: Sizes) -> Played:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(play(workload.plan(author, sizes), target))


def servers_of(subject: Subject, options: argparse.Namespace) -> list[Server]:
    """Those that can serve a model and are wanted."""
    if not subject.path.exists():
        print(f"writing {subject.path} ...", flush=True)
        subject.path.parent.mkdir(parents=True, exist_ok=True)
        subject.write(subject.path)
    if subject.path.suffix == ".gguf":
        found = gguf_servers(subject.path, options.threads, options.llama_server)
    else:
        found = mlx_servers(subject.path)
    return [server for server in found if not options.servers or server.name in options.servers]


def main() -> None:
    """See the module's docstring."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers end with it
    began = time.monotonic()
    contests: list[Contest] = []
    for subject in (one for one in SUBJECTS if one.name in options.models):
        contests.append(contest(subject, servers_of(subject, options), options))
        _keep(Results(contests, options.threads, options.rounds, time.monotonic() - began), options)


def _keep(results: Results, options: argparse.Namespace) -> None:
    """Write what there is, so that what comes later can't lose it."""
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(report.as_json(results))
    text = report.markdown(results)
    print(text, flush=True)
    if options.write is not None:
        report.put_into(options.write, text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [subject.name for subject in SUBJECTS]
    workloads = [workload.name for workload in WORKLOADS]
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    parser.add_argument("--workloads", nargs="+", choices=workloads, default=workloads)
    parser.add_argument("--servers", nargs="+", default=[], help="only these, by name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", default=str(time.time_ns()), help="the same seed, the same prompts")
    parser.add_argument("--llama-server", default=os.environ.get("LLAMA_SERVER"), metavar="PROGRAM")
    parser.add_argument("--json", type=Path, default=BUILD / "results.json", metavar="FILE")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this Markdown file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
