"""What questions to a million recorded requests take: every performance route, window, filter and page.

    python -m benchmarks.performance_queries [--requests 1000000] [--file FILE] [--times 5]

The requests are written by the recorder's own writer: some weeks of them over three boots of the machine, five models,
a busy last hour. FILE is kept, and used again where it is there already. Then a server opens the file, and each route
is asked so often over HTTP. Printed: the median and the longest in milliseconds, and the server's CPU for one of them,
which a busy machine disturbs less. Goal: below 200 each.
"""

import argparse
import random
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import psutil
from tests.serving import Running, running

from benchmarks.serve_overhead import cpu_seconds
from heylook_llm import core, hardware
from heylook_llm.server.performance.database import Database
from heylook_llm.server.performance.record import Finished, Labels, Outcome
from heylook_llm.server.performance.windows import WINDOWS
from heylook_llm.worker.decoded import Decoded

GOAL_MS: Final = 200.0
DAYS: Final = 25.0
DAY: Final = 86_400.0
KEEP_BYTES: Final = 64 << 30
BATCH: Final = 1_000
BUSY_SHARE: Final = 0.03
"""Of the requests, those of the last hour."""
MODELS: Final = ("qwen", "llama", "tiny", "gemma", "phi")
MS: Final = 1_000_000
FAKE: Final = "default_model: tiny\nprewarm: false\nmodels:\n  - {id: tiny, provider: fake, config: {n_ctx: 2048}}\n"
OUTCOMES: Final[tuple[tuple[Outcome, int, str | None], ...]] = (
    *((("done", 200, None),) * 96),
    *((("error", 500, "worker_died"),) * 2),
    ("cancelled", 503, "request_cancelled"),
    ("disconnected", 499, "request_cancelled"),
)


class Boot(NamedTuple):
    """A time that the machine ran."""

    clock: str
    begin: float
    """Wall clock."""


def timeline(end_ns: int, chance: random.Random) -> tuple[core.Timeline, core.Usage]:
    """A request of random durations that ended then."""
    output, prompt = chance.randint(16, 128), chance.randint(20, 2000)
    step = chance.randint(2, 20) * MS
    steps, at = Decoded(), 0
    for _ in range(output - 1):
        at += step + chance.randint(0, MS)
        steps.step(at, chance.randint(1, 8), 0)
    prefill, queue = prompt * 20_000, chance.randint(0, 50) * MS
    first = end_ns - at - MS
    received = first - prefill - queue - 3 * MS
    stamps = core.Timeline(
        received_ns=received, parsed_ns=received + MS, ready_ns=received + MS, submitted_ns=received + MS + 50_000,
        rendered_ns=received + 2 * MS, tokenized_ns=received + 3 * MS, queued_ns=received + 3 * MS,
        admitted_ns=first - prefill, prefill=(core.PrefillChunk(first - prefill, first, prompt),), first_token_ns=first,
        first_byte_ns=first + 200_000, last_token_ns=first + at, closed_ns=end_ns, steps=output,
        batch_sizes_seen={1: output // 2, 8: output - output // 2}, kv_cells=prompt + output,
        decode=steps.packed(0), all_tokens_ns=first + at,
    )  # fmt: skip
    return stamps, core.Usage(prompt_tokens=prompt, cached_tokens=prompt // 3, output_tokens=output)


def times(count: int, now: float, chance: random.Random) -> list[float]:
    """When requests ended, ages in seconds: most of them over some weeks, many within the last hour."""
    busy = round(count * BUSY_SHARE)
    ages = [chance.random() * DAYS * DAY for _ in range(count - busy)] + [chance.random() * 3600 for _ in range(busy)]
    return sorted(now - age for age in ages)


def requests(count: int) -> Iterator[Finished]:
    """Oldest first."""
    chance = random.Random(1)  # noqa: S311
    now, booted = time.time(), time.time() - hardware.boot_seconds()
    boots = [Boot(hardware.clock_id(), booted), Boot("boot-2", now - 10 * DAY), Boot("boot-1", now - (DAYS + 1) * DAY)]
    samples = [timeline(0, chance) for _ in range(500)]
    for number, wall in enumerate(times(count, now, chance)):
        boot = next(boot for boot in boots if wall >= boot.begin)
        stamps, usage = chance.choice(samples)
        outcome, status, error = chance.choice(OUTCOMES)
        clock_ns = round((wall - boot.begin) * 1e9)
        run = f"run-{number // 20_000}" if number % 5 == 0 else None
        yield Finished(
            id=f"req_{number:032x}",
            model=chance.choices(MODELS, (60, 20, 10, 9, 1))[0],
            route="/v1/chat/completions",
            outcome=outcome,
            status=status,
            error=error,
            finished_at=wall,
            timeline=moved(stamps, clock_ns),
            usage=usage,
            first=usage,
            provider="llama_cpp",
            stream=True,
            labels=Labels(chance.choice((None, "bench", "editor")), f"c-{number}" if run else None, run),
            clock=boot.clock,
            finished_boot=wall - boot.begin,
        )


def moved(times: core.Timeline, by_ns: int) -> core.Timeline:
    """The same, later."""
    stamps = {
        name: value + by_ns
        for name in core.Timeline.__struct_fields__
        if name.endswith("_ns") and (value := getattr(times, name)) is not None
    }
    chunks = tuple(core.PrefillChunk(c.start_ns + by_ns, c.end_ns + by_ns, c.tokens) for c in times.prefill)
    return msgspec.structs.replace(times, **stamps, prefill=chunks)


def fill(path: Path, count: int) -> None:
    """Write them."""
    path.touch(mode=0o600)
    database, batch, start = Database(path, keep_seconds=DAYS * 2 * DAY, keep_bytes=KEEP_BYTES), [], time.perf_counter()
    for finished in requests(count):
        batch.append(finished)
        if len(batch) == BATCH:
            database.write(batch)
            batch = []
    database.write(batch)
    database.close()
    seconds = time.perf_counter() - start
    print(f"{count} requests written in {seconds:.0f} s: {path.stat().st_size / count:.0f} bytes each")


def routes(count: int) -> Iterator[str]:
    """Every question."""
    yield "/v1/performance"
    for known in WINDOWS:
        yield f"/v1/performance?window={known}"
        yield f"/v1/performance?window={known}&model=phi"
    filters = (
        *("", "model=qwen", "model=phi", "outcome=error", "outcome=done", "outcome=disconnected"),
        *("model=phi&outcome=error", "model=qwen&outcome=done", "run_id=run-3", "run_id=nothing", "client=bench"),
        *("client=nobody", "client_request_id=c-50000", "run_id=run-3&outcome=error", "client=editor&outcome=error"),
        *("client=bench&model=phi&outcome=disconnected", "model=nothing", "run_id=run-3&model=phi&client=bench"),
    )
    for chosen in filters:
        for window in (None, *WINDOWS):
            where = "&".join(part for part in (chosen, f"window={window}" if window else "") if part)
            yield f"/v1/performance/requests?{where}"
    for limit, before in ((1000, None), (100, count // 2), (1000, 2000), (100, 2)):
        yield f"/v1/performance/requests?limit={limit}" + (f"&before={before}" if before else "")
    for number in (0, count // 2, count - 2):
        yield f"/v1/performance/requests/req_{number:032x}"
    yield "/v1/performance/requests/req_none"
    for chosen in ("", "run_id=run-3", "outcome=error", "window=1m", "window=1h", "window=7d", "model=phi&window=24h"):
        for form in ("csv", "ndjson", "json"):
            yield f"/v1/performance/export?format={form}&{chosen}"
    for span in ("1h", "6h", "24h", "7d"):
        yield f"/v1/performance/profile/{span}"
    yield "/v1/performance/models"
    yield "/metrics"


def asked(server: Running, path: str) -> float:
    """Milliseconds until the answer, of a file its first bytes, was there."""
    start = time.perf_counter()
    try:
        with urllib.request.urlopen(server.url + path, timeout=600) as reply:  # noqa: S310 (our own server)
            reply.read(1 << 14 if "/export" in path or "/trace" in path else None)
            return (time.perf_counter() - start) * 1e3
    except urllib.error.HTTPError:
        return (time.perf_counter() - start) * 1e3


def measure(path: Path, count: int, often: int) -> list[str]:
    """Ask, and print; the routes that took longer than they may."""
    keeping = {"keep_bytes": KEEP_BYTES, "keep_seconds": DAYS * 2 * DAY}
    slow = []
    with (
        tempfile.TemporaryDirectory() as folder,
        running(FAKE, Path(folder), recorder=str(path), keeping=keeping) as server,
    ):
        process = psutil.Process(server.process.pid)
        print(f"{asked(server, '/v1/performance'):8.1f} ms  the first question, which opens the file")
        for route in routes(count):
            before = cpu_seconds(process)
            took = [asked(server, route) for _ in range(often)]
            spent = (cpu_seconds(process) - before) / often * 1e3
            print(f"{statistics.median(took):8.1f} {max(took):8.1f} {spent:8.1f}  {route}", flush=True)
            if statistics.median(took) > GOAL_MS:
                slow.append(route)
    return slow


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file or Path(folder) / "performance.sqlite3"
        if not path.exists():
            fill(path, arguments.requests)
        slow = measure(path, arguments.requests, arguments.times)
        print(f"{len(slow)} beyond {GOAL_MS:.0f} ms: {slow}")


if __name__ == "__main__":
    main()
