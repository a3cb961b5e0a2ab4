"""How fast one client is served beside the bare engine: tokens/s over HTTP against a raw loop, in turns.

    python -m benchmarks.random_model 0.5b /tmp/half.gguf --quantize Q4_K_M
    python -m benchmarks.serve_speed /tmp/half.gguf --tokens 100 --rounds 7 --threads 2

A server in a process of its own streams an answer to one raw socket; the client's clock counts from the first token's
chunk to the last one's. The peer is the loop of `engine_loop`: llama_decode and a greedy sampler, nothing else, on the
same file, prompt length, context and threads. Both decode the same number of tokens. Printed: tokens/s of each round,
the medians, and the median of the rounds' ratios served / raw. Goal: 0.97 on a 0.5B-class file.
"""

import argparse
import asyncio
import ctypes
import importlib
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.serving import Running, running

from benchmarks.engine_loop import PROMPT_TOKENS, Raw

MODELS = """
default_model: measured
models:
  - id: measured
    provider: llama_cpp
    config: {{model_path: {path}, n_ctx: {n_ctx}, kv_tokens: {n_ctx}, n_parallel: 1, n_threads: {threads}}}
"""


async def served(port: int, tokens: int) -> float:
    """Tokens per second of one streamed answer, first token to last, by the client's clock."""
    fields: dict[str, Any] = {"model": "measured", "prompt": list(range(3, 3 + PROMPT_TOKENS)), "stream": True}
    body = json.dumps(fields | {"max_tokens": tokens + 1, "temperature": 0, "ignore_eos": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    clock = asyncio.get_running_loop().time
    stamps: list[float] = []
    while line := await reader.readline():
        if line.startswith(b"data: {") and b'"finish_reason":null' in line:
            stamps.append(clock())
    writer.close()
    if len(stamps) != tokens + 1:
        raise SystemExit(f"The server sent {len(stamps)} chunks for {tokens + 1} tokens.")
    return tokens / (stamps[-1] - stamps[0])


def measure(server: Running, raw: Raw, tokens: int, rounds: int) -> None:
    """Interleave rounds of both, the first of each to warm up, and print them."""
    prompt = [list(range(3, 3 + PROMPT_TOKENS))]
    pairs: list[tuple[float, float]] = []
    for at in range(rounds + 1):
        ours = asyncio.run(served(server.port, tokens)) if at % 2 else 0.0
        one = raw.run(prompt, tokens)
        ours = ours or asyncio.run(served(server.port, tokens))
        pairs.append((ours, one.tokens / one.seconds))
    for ours, bare in pairs[1:]:
        print(f"  served {ours:8.2f} tokens/s   raw {bare:8.2f}   ratio {ours / bare:.3f}")
    medians = [statistics.median(column) for column in zip(*pairs[1:], strict=True)]
    ratio = statistics.median(ours / bare for ours, bare in pairs[1:])
    print(f"median: served {medians[0]:.2f}, raw {medians[1]:.2f} tokens/s; served / raw {ratio:.3f}")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    native: Any = importlib.import_module("llama_cpp.llama_cpp")
    silent = native.llama_log_callback(lambda *_: None)
    native.llama_log_set(silent, ctypes.c_void_p(0))
    n_ctx = -(-(PROMPT_TOKENS + arguments.tokens + 8) // 256) * 256
    raw = Raw(arguments.model, 1, arguments.threads, n_ctx)
    models = MODELS.format(path=arguments.model.resolve(), n_ctx=n_ctx, threads=arguments.threads)
    print(f"{arguments.model.name}: one client, {arguments.tokens} tokens, {arguments.threads} threads")
    with tempfile.TemporaryDirectory() as folder, running(models, Path(folder)) as server:
        measure(server, raw, arguments.tokens, arguments.rounds)


if __name__ == "__main__":
    main()
