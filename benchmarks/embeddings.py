"""How many texts are embedded in a second: many in one request beside one at a time, over HTTP, in turns in one run.

    python -m benchmarks.random_bert small /tmp/bert.gguf
    python -m benchmarks.embeddings /tmp/bert.gguf --texts 64 --words 12 --rounds 5 --threads 2

A server in a process of its own holds the model; one client asks /v1/embeddings in base64, as the OpenAI SDK does. Each
round sends the same texts three ways: in one request, one request after the other, and one a request from `--clients`
connections at once, which the worker packs into shared passes. Printed: texts/s of each round and way, and the medians
with their ratio to one at a time.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
from tests.serving import running

from benchmarks.random_bert import WORDS

MODELS = """
default_model: measured
models:
  - id: measured
    provider: {provider}
    config: {{model_path: '{path}'{threads}}}
"""
Way = Callable[[list[str]], Awaitable[None]]


class Ways:
    """The three ways to ask for the same vectors."""

    def __init__(self, http: httpx.AsyncClient, clients: int) -> None:
        self._http = http
        self._clients = asyncio.Semaphore(clients)

    async def _ask(self, texts: str | list[str], count: int) -> None:
        reply = await self._http.post("/v1/embeddings", json={"input": texts, "encoding_format": "base64"})
        if reply.status_code != 200 or len(reply.json()["data"]) != count:
            raise SystemExit(f"The server said {reply.status_code}: {reply.text[:200]}")

    async def together(self, texts: list[str]) -> None:
        """All in one request."""
        await self._ask(texts, len(texts))

    async def alone(self, texts: list[str]) -> None:
        """One after the other."""
        for text in texts:
            await self._ask(text, 1)

    async def concurrent(self, texts: list[str]) -> None:
        """One a request, several at once."""

        async def one(text: str) -> None:
            async with self._clients:
                await self._ask(text, 1)

        await asyncio.gather(*(one(text) for text in texts))


async def measure(url: str, texts: list[str], rounds: int, clients: int) -> None:
    """Interleave the ways, the first round to warm up, and print them."""
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as http:
        ways = Ways(http, clients)
        asks: dict[str, Way] = {"together": ways.together, "concurrent": ways.concurrent, "alone": ways.alone}
        rates: dict[str, list[float]] = {name: [] for name in asks}
        for at in range(rounds + 1):
            for name, ask in asks.items():
                begun = time.perf_counter()
                await ask(texts)
                if at:
                    rates[name].append(len(texts) / (time.perf_counter() - begun))
            if at:
                print("  " + "   ".join(f"{name} {rate[-1]:9.1f} texts/s" for name, rate in rates.items()))
    medians = {name: statistics.median(rate) for name, rate in rates.items()}
    for name, rate in medians.items():
        print(f"median {name:10} {rate:9.1f} texts/s, {rate / medians['alone']:.2f} of one at a time")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a GGUF file, or an MLX folder")
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--words", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    chosen = random.Random(1)  # noqa: S311 (the same texts every time)
    texts = [" ".join(chosen.choices(WORDS, k=arguments.words)) for _ in range(arguments.texts)]
    provider = "mlx" if arguments.model.is_dir() else "llama_cpp"
    threads = f", n_threads: {arguments.threads}" if provider == "llama_cpp" else ""
    models = MODELS.format(path=arguments.model.resolve(), provider=provider, threads=threads)
    print(json.dumps(vars(arguments), default=str))
    with tempfile.TemporaryDirectory() as folder, running(models, Path(folder)) as server:
        asyncio.run(measure(server.url, texts, arguments.rounds, arguments.clients))


if __name__ == "__main__":
    main()
