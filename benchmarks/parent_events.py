"""What the server's half of the pipe costs per event: 8 streams of the fake provider, read and thrown away.

python -m benchmarks.parent_events [uvloop]
"""

import asyncio
import sys
import time
from pathlib import Path

import uvloop

from heylook_llm import config, core
from heylook_llm.server.router import ModelRouter

STREAMS = 8
TOKENS = 2000
LEASES = 300
MODELS = "models: [{id: m, provider: fake, config: {n_ctx: 900000, n_parallel: 8, decode_tokens_per_second: 400}}]"


async def stream(router: ModelRouter) -> int:
    """Read one stream; returns how many events it had."""
    prompt = core.TextPrompt("[[count:100000]]")
    request = core.Request("r", "m", (prompt,), core.Sampling(max_tokens=TOKENS))
    count = 0
    async with router.acquire("m") as lease:
        async for events in lease.generate(request):
            count += len(events)
    return count


async def main() -> None:
    """Print the figures."""
    router = ModelRouter(config.parse(MODELS, Path("/models.yaml")))
    await router.load("m")
    begun, cpu = time.perf_counter(), time.process_time()
    count = sum(await asyncio.gather(*(stream(router) for _ in range(STREAMS))))
    used, took = time.process_time() - cpu, time.perf_counter() - begun
    print(f"{count} events of {STREAMS} streams in {took:.2f} s: {used / count * 1e6:.1f} µs of CPU per event")
    cpu = time.process_time()
    for _ in range(LEASES):
        async with router.acquire("m"):
            pass
    print(f"a lease on a loaded model: {(time.process_time() - cpu) / LEASES * 1e6:.0f} µs of CPU")
    await router.close(0)


if __name__ == "__main__":
    (uvloop.run if "uvloop" in sys.argv else asyncio.run)(main())
