"""What measuring costs: 8 streams of the tiny model with every request recorded in a file, and with none, in turns.

    python -m benchmarks.recording [--streams 8] [--tokens 64] [--requests 10] [--rounds 60]

Two servers, each in a process of its own, answer the same load in turns: `--streams` clients, each with `--requests`
requests one after another, until the last of them is written. What a pair of turns has in common, such as a slower
machine, cancels: the ratio is of the turns of one pair, and the order within pairs changes. Printed, each with the
95 % interval of its mean over the pairs:

    tokens/s with / without    Goal: at least 0.99
    CPU per token, us          what server and worker take of it more with than without
    ... of all                 the same as a part of what they take without

and the CPU of its largest parts, which a busy machine disturbs less: writing a request's row in the server's thread for
that, and, which is always done, noting a decode step in the worker and counting a request for /metrics in the server.
About four minutes; nothing else should run beside it.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from array import array
from pathlib import Path

import msgspec
import psutil
from tests.serving import Running, running

from benchmarks import performance_queries
from benchmarks.serve_overhead import MODELS, body, cpu_seconds, stream
from heylook_llm import core
from heylook_llm.server.performance.database import Database
from heylook_llm.server.performance.prometheus import Metrics
from heylook_llm.server.performance.record import Finished
from heylook_llm.worker.decoded import Decoded

ROUTE = "chat"


async def client(port: int, payload: bytes, requests: int) -> int:
    """Requests one after another; their tokens."""
    return sum([(await stream(port, ROUTE, payload))[0] for _ in range(requests)])


async def written(port: int) -> None:
    """Wait until all that ended is written: what is asked of it waits for that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v1/performance/requests?limit=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    await reader.read()
    writer.close()


async def measured(server: Running, arguments: argparse.Namespace) -> tuple[float, float]:
    """One round: tokens per second, and microseconds of CPU per token of server and worker."""
    payload = body(ROUTE, "tiny", arguments.tokens)
    parent = psutil.Process(server.process.pid)
    if not parent.children():
        await stream(server.port, ROUTE, payload)
    processes = [parent, *parent.children()]
    before, start = sum(map(cpu_seconds, processes)), time.perf_counter()
    counts = await asyncio.gather(*(client(server.port, payload, arguments.requests) for _ in range(arguments.streams)))
    await written(server.port)
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


def observing_us(finished: Finished, requests: int = 5_000) -> float:
    """Microseconds of CPU that counting a request for /metrics takes."""
    metrics, start = Metrics(list, lambda: 0, lambda: 0), time.thread_time()
    for _ in range(requests):
        metrics.observe(finished)
    return (time.thread_time() - start) / requests * 1e6


def writing_us(finished: Finished, together: int, times: int = 40) -> float:
    """Microseconds of CPU that a row takes, if so many are committed together."""
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "performance.sqlite3").touch()
        database = Database(path, keep_seconds=1e9, keep_bytes=1 << 30)
        rows, start = [finished] * together, time.thread_time()
        for _ in range(times):
            database.write(rows)
        spent = time.thread_time() - start
        database.close()
    return spent / times / together * 1e6


def parts(arguments: argparse.Namespace, speed: float, cpu_us: float) -> None:
    """Print what each part of measuring takes, and all of them for a token."""
    (finished,) = performance_queries.requests(1)
    steps = range(arguments.tokens - 1)
    gaps, sizes = array("I", [2000 + step for step in steps]), array("H", [arguments.streams for _ in steps])
    decode = core.DecodeSteps(gaps.tobytes(), sizes.tobytes())
    finished = msgspec.structs.replace(finished, timeline=msgspec.structs.replace(finished.timeline, decode=decode))
    a_second = max(1, round(speed / arguments.tokens))
    noting, observing, writing = noting_ns(), observing_us(finished), writing_us(finished, a_second)
    print(f"noting a decode step      {noting:.0f} ns")
    print(f"counting for /metrics     {observing:.0f} us a request")
    print(f"writing a row             {writing:.0f} us, of {a_second} a second")
    total = noting / 1e3 + (observing + writing) / arguments.tokens
    print(f"together                  {total:.2f} us a token, {total / cpu_us:.2%} of all")


def told(values: list[float]) -> str:
    """The mean, and the 95 % interval of it."""
    mean, error = statistics.fmean(values), 1.96 * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.4f} ({mean - error:.4f} to {mean + error:.4f}; n {len(values)})"


async def compare(arguments: argparse.Namespace) -> None:
    """Print the comparison."""
    models = MODELS["tiny"].replace("STREAMS", str(arguments.streams))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        file = str(Path(folder) / "performance.sqlite3")
        with (
            running(models, Path(folder), recorder=file) as recording,
            running(models, Path(other), recorder="off") as plain,
        ):
            pairs = []
            for turn in range(arguments.rounds + 1):
                order = (recording, plain) if turn % 2 else (plain, recording)
                found = {server.port: await measured(server, arguments) for server in order}
                pairs.append((found[recording.port], found[plain.port]))
    pairs = pairs[1:]  # the first loads the models
    print(f"tokens/s with / without   {told([one[0] / other[0] for one, other in pairs])}")
    print(f"CPU per token, us         {told([one[1] - other[1] for one, other in pairs])}")
    print(f"... of all                {told([one[1] / other[1] - 1 for one, other in pairs])}")
    speed, cpu = (statistics.median(one[at] for _, one in pairs) for at in (0, 1))
    print(f"without                   {speed:.0f} tokens/s, {cpu:.0f} us of CPU a token")
    parts(arguments, speed, cpu)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("streams", 8), ("tokens", 64), ("requests", 10), ("rounds", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asyncio.run(compare(parser.parse_args()))


if __name__ == "__main__":
    main()
