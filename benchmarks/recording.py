"""What measuring costs: 8 streams of the tiny model with every request recorded in a file, and with none, in turns.

    python -m benchmarks.recording [--streams 8] [--tokens 64] [--requests 20] [--rounds 9]

Two servers, each in a process of its own, answer the same load in turns: `--streams` clients, each with `--requests`
requests one after another. Printed: the median over the rounds of the ratio of tokens/s (with / without) and of the CPU
that server and worker take per token, each with its quartiles; and what a worker takes to note a decode step, which it
always does. Goal: a ratio of at least 0.99. Nothing else should run beside it.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from tests.serving import Running, running

from benchmarks.serve_overhead import MODELS, body, cpu_seconds, stream
from heylook_llm.worker.decoded import Decoded

ROUTE = "chat"


async def client(port: int, payload: bytes, requests: int) -> int:
    """Requests one after another; their tokens."""
    return sum([(await stream(port, ROUTE, payload))[0] for _ in range(requests)])


async def measured(server: Running, arguments: argparse.Namespace) -> tuple[float, float]:
    """One round: tokens per second, and microseconds of CPU per token of server and worker."""
    payload = body(ROUTE, "tiny", arguments.tokens)
    parent = psutil.Process(server.process.pid)
    if not parent.children():
        await stream(server.port, ROUTE, payload)
    processes = [parent, *parent.children()]
    before, start = sum(map(cpu_seconds, processes)), time.perf_counter()
    counts = await asyncio.gather(*(client(server.port, payload, arguments.requests) for _ in range(arguments.streams)))
    seconds, spent = time.perf_counter() - start, sum(map(cpu_seconds, processes)) - before
    return sum(counts) / seconds, spent / sum(counts) * 1e6


def noting_ns(steps: int = 200_000) -> float:
    """Nanoseconds that noting a decode step takes, its packing included."""
    noted, start = Decoded(), time.perf_counter_ns()
    for step in range(steps):
        if step % 256 == 0:
            noted.packed(0)
            noted = Decoded()
        noted.step(step * 1_000_000, 8, 0)
    return (time.perf_counter_ns() - start) / steps


def told(values: list[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.4f} ({low:.4f} to {high:.4f})"


async def compare(arguments: argparse.Namespace) -> None:
    """Print the comparison."""
    models = MODELS["tiny"].replace("STREAMS", str(arguments.streams))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        file = str(Path(folder) / "performance.sqlite3")
        with (
            running(models, Path(folder), recorder=file) as recording,
            running(models, Path(other), recorder="off") as plain,
        ):
            for server in (recording, plain):
                await measured(server, arguments)
            speeds, costs = list[float](), list[float]()
            for turn in range(arguments.rounds):
                order = (recording, plain) if turn % 2 else (plain, recording)
                found = {server.port: await measured(server, arguments) for server in order}
                speeds.append(found[recording.port][0] / found[plain.port][0])
                costs.append(found[recording.port][1] - found[plain.port][1])
    print(f"tokens/s with / without  {told(speeds)}")
    print(f"CPU per token, us        {told(costs)}")
    print(f"noting a decode step, ns {noting_ns():.0f}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("streams", 8), ("tokens", 64), ("requests", 20), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asyncio.run(compare(parser.parse_args()))


if __name__ == "__main__":
    main()
