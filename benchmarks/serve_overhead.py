"""What serving costs: CPU per streamed token beyond the engine, at 8 concurrent streams of the tiny model.

    python -m benchmarks.serve_overhead [--streams 8] [--tokens 400] [--rounds 5] [--route chat|completions|ollama]
                                        [--http ours|httptools|h11] [--model tiny|fake] [--speed 250]

It starts a server in a process of its own, streams from it over raw sockets, and reads the CPU time (user and system)
of the server's process and of its worker before and after. In turns with it the engine alone computes the same batches
in a bare loop over the provider. Printed, in microseconds of CPU per token, as medians over the rounds:

    server     the HTTP program: frames in, dialect, HTTP out. Goal: at most 150 for all but the engine together
    worker     the model program: engine, scheduler, text, frames out
    engine     the bare loop
    overhead   server + worker - engine

CPU time and not wall time, so a busy machine disturbs it little; still, nothing else should run beside it.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
from tests.serving import Running, running

ROOT = Path(__file__).parent.parent
TINY = ROOT / "src" / "heylook_llm" / "tiny" / "heylook-tiny.gguf"
PROMPT = "Count from one to one hundred."
MODELS = {
    "tiny": f"""
default_model: tiny
models:
  - {{id: tiny, provider: llama_cpp, config: {{model_path: {TINY}, n_ctx: 1024, n_parallel: STREAMS, n_threads: 1}}}}
""",
    "fake": """
default_model: fake
models:
  - id: fake
    provider: fake
    config: {n_ctx: 100000, n_parallel: STREAMS, reply: REPLY, decode_tokens_per_second: SPEED}
""",
}
HTTP = {
    "httptools": "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol",
    "h11": "uvicorn.protocols.http.h11_impl:H11Protocol",
}
ROUTES = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "ollama": "/api/chat"}


def body(route: str, model: str, tokens: int) -> bytes:
    """A streaming request that generates exactly `tokens` tokens, greedily."""
    messages = [{"role": "user", "content": PROMPT}]
    common: dict[str, Any] = {"model": model, "stream": True}
    if route == "ollama":
        # `num_predict` alone can't keep a small model from ending early, so the prompt asks for a long text.
        asked = {**common, "messages": messages, "think": False, "options": {"num_predict": tokens, "temperature": 0}}
        return json.dumps(asked).encode()
    common |= {"max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream_options": {"include_usage": True}}
    return json.dumps(common | ({"prompt": PROMPT} if route == "completions" else {"messages": messages})).encode()


async def stream(port: int, route: str, payload: bytes) -> tuple[int, int]:
    """One request over a raw socket; the tokens that the reply counts, and the chunks it came in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    lines = ("Host: 127.0.0.1", "Connection: close", f"Content-Length: {len(payload)}", "", "")
    writer.write("\r\n".join((f"POST {ROUTES[route]} HTTP/1.1", *lines)).encode() + payload)
    tail, chunks = b"", 0
    while data := await reader.read(1 << 16):
        chunks += data.count(b'"created')
        tail = (tail + data)[-4096:]
    writer.close()
    marker = b'"eval_count":' if route == "ollama" else b'"completion_tokens":'
    return int(tail.rpartition(marker)[2].partition(b",")[0]), chunks


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(server: Running, arguments: argparse.Namespace) -> tuple[float, float, float, float]:
    """One round: server's and worker's microseconds of CPU per token, tokens per second, and chunks per token."""
    parent = psutil.Process(server.process.pid)
    payload = body(arguments.route, arguments.model, arguments.tokens)
    if not parent.children():
        await stream(server.port, arguments.route, payload)
    (worker,) = parent.children()
    before = cpu_seconds(parent), cpu_seconds(worker)
    start = asyncio.get_running_loop().time()
    counts = await asyncio.gather(*(stream(server.port, arguments.route, payload) for _ in range(arguments.streams)))
    seconds = asyncio.get_running_loop().time() - start
    tokens = sum(count for count, _ in counts)
    served, worked = cpu_seconds(parent) - before[0], cpu_seconds(worker) - before[1]
    return served / tokens * 1e6, worked / tokens * 1e6, tokens / seconds, sum(n for _, n in counts) / tokens


ENGINE = """
import sys, time
from heylook_llm import core
from heylook_llm.worker.providers import llama_cpp
from heylook_llm.worker.providers.base import Feed
path, streams, tokens = sys.argv[1], *map(int, sys.argv[2:])
options = {"n_ctx": 1024, "n_parallel": streams, "n_threads": 1}
engine = llama_cpp.open_model(core.Load("tiny", "llama_cpp", path, options), lambda fraction: None)
prompt = engine.encode("Count from one to one hundred.", add_special=True, parse_special=True)
for _ in sys.stdin:
    feeds = []
    for slot in range(streams):
        engine.add(slot, core.Sampling(temperature=0.0), prompt)
        feeds.append(Feed(slot, 0, tuple(prompt), True))
    start = time.process_time()
    drawn = engine.step(feeds)
    for at in range(tokens - 1):
        drawn = engine.step([Feed(one.slot, len(prompt) + at, (one.token,), True) for one in drawn])
    print((time.process_time() - start) / (streams * tokens) * 1e6, flush=True)
    for slot in range(streams):
        engine.remove(slot)
        engine.release(slot)
"""


class BareEngine:
    """The provider alone, in a process of its own that computes a round when it is asked to."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        command = [sys.executable, "-c", ENGINE, str(TINY), str(arguments.streams), str(arguments.tokens)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def round(self) -> float:
        """Microseconds of CPU per token."""
        asked, answer = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answer is not None
        asked.write("\n")
        asked.flush()
        return float(answer.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def rounds(server: Running, arguments: argparse.Namespace) -> list[tuple[float, ...]]:
    """Server, worker, engine, overhead, tokens/s and chunks per token of each round; server and engine in turns."""
    engine = BareEngine(arguments) if arguments.model == "tiny" else None
    measured: list[tuple[float, ...]] = []
    for _ in range(arguments.rounds + 1):
        bare = engine.round() if engine is not None else 0.0
        served, worked, speed, chunks = asyncio.run(measure(server, arguments))
        measured.append((served, worked, bare, served + worked - bare, speed, chunks))
    if engine is not None:
        engine.close()
    return measured[1:]  # the first warms up


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--route", choices=list(ROUTES), default="chat")
    parser.add_argument("--http", choices=["ours", *HTTP], default="ours")
    parser.add_argument("--model", choices=list(MODELS), default="tiny")
    parser.add_argument("--speed", type=float, default=250, help="steps per second of the fake model; 0: no waiting")
    arguments = parser.parse_args()
    models = MODELS[arguments.model].replace("STREAMS", str(arguments.streams))
    models = models.replace("REPLY", "x" * arguments.tokens).replace("SPEED", str(arguments.speed))
    options: dict[str, Any] = {} if arguments.http == "ours" else {"http": HTTP[arguments.http]}
    with tempfile.TemporaryDirectory() as folder, running(models, Path(folder), **options) as server:
        measured = rounds(server, arguments)
    served, worked, engine, overhead, speed, chunks = map(statistics.median, zip(*measured, strict=True))
    print(f"{arguments.model}, {arguments.route}, http {arguments.http}")
    print(f"{arguments.streams} streams of {arguments.tokens} tokens")
    print(f"server    {served:8.1f} µs of CPU per token")
    print(f"worker    {worked:8.1f}")
    print(f"engine    {engine:8.1f}")
    print(f"overhead  {overhead:8.1f}   each round: {', '.join(f'{one[3]:.0f}' for one in measured)}")
    print(f"          {speed:8.0f} tokens/s together, {chunks:.2f} chunks per token")


if __name__ == "__main__":
    main()
