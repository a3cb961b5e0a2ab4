"""The servers that are compared, each started as its documents say for 8 clients, and how a process of it lives.

Where a server has an option that would hold it back here, it gets the better value, so that it is measured at its best.
"""

import contextlib
import http.client
import importlib.metadata
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import gguf

import heylook_llm

ROOT: Final = Path(__file__).resolve().parent.parent.parent
BUILD: Final = ROOT / "build" / "peers"
PACKAGES: Final = BUILD / "site"
"""Where `make bench-peers` puts what only llama_cpp.server needs; the engine is the one that ours runs."""
READY_SECONDS: Final = 120
CONTEXT: Final = 4096
CLIENTS: Final = 8
END_TOKENS: Final = ("<|endoftext|>", "<|im_end|>")

OURS = "heylookllm"


class Server(NamedTuple):
    """How to start one, and how to ask it for answers of a fixed length."""

    name: str
    version: str
    command: tuple[str, ...]
    """`{port}` stands for the port."""
    model: str
    extra: dict[str, Any]
    environment: Mapping[str, str] = {}
    batches: bool = True
    """False: it answers one request after the other, so nothing ever comes while it decodes."""


class Running(NamedTuple):
    """A started server."""

    server: Server
    port: int


def gguf_servers(path: Path, threads: int, llama_server: str | None) -> list[Server]:
    """Those that serve a GGUF file: ours, llama-server where its path is given, llama_cpp.server where it is built."""
    bias = {str(token): -100 for token in _gguf_ends(path)}
    found = [_ours(path, "llama_cpp", "model_path", {"n_threads": threads, "kv_tokens": CLIENTS * CONTEXT})]
    if llama_server:
        found.append(_llama_server(llama_server, path, threads))
    if PACKAGES.exists():
        found.append(_llama_cpp_server(path, threads, bias))
    return found


def mlx_servers(folder: Path) -> list[Server]:
    """Those that serve an MLX folder: ours and mlx_lm.server; both use the cores as MLX likes."""
    bias = {str(token): -100 for token in _mlx_ends(folder)}
    command = (sys.executable, "-m", "mlx_lm", "server", "--model", str(folder), "--port", "{port}")
    quiet = ("--log-level", "ERROR", "--chat-template-args", '{"enable_thinking": false}')  # else it thinks if it can
    version = importlib.metadata.version("mlx-lm")
    cache = BUILD / "huggingface"  # where there is none, it lists no models and says nothing of that
    cache.mkdir(parents=True, exist_ok=True)
    environment = {"HF_HUB_CACHE": str(cache)}
    theirs = Server("mlx_lm.server", version, (*command, *quiet), str(folder), {"logit_bias": bias}, environment)
    return [_ours(folder, "mlx", "model_path", {}), theirs]


def _ours(path: Path, provider: str, key: str, options: dict[str, int]) -> Server:
    config = {key: str(path.resolve()), "n_ctx": CONTEXT, "n_parallel": CLIENTS} | options
    models = {
        "default_model": "measured",
        "prewarm": True,
        "models": [{"id": "measured", "provider": provider, "config": config}],
    }
    registry = BUILD / f"{path.stem}.yaml"
    registry.parent.mkdir(parents=True, exist_ok=True)
    registry.write_text(json.dumps(models))  # JSON is YAML
    program = Path(sys.executable).parent / "heylookllm"
    command = (str(program), "serve", "--port", "{port}", "--config", str(registry))
    return Server(OURS, heylook_llm.__version__, command, "measured", {"ignore_eos": True})


def _llama_server(program: str, path: Path, threads: int) -> Server:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"version: (.+)", said.stdout + said.stderr)
    sizes = ("--parallel", str(CLIENTS), "--ctx-size", str(CLIENTS * CONTEXT), "--threads", str(threads))
    command = (program, "--model", str(path), "--port", "{port}", *sizes)
    extra = {"ignore_eos": True, "chat_template_kwargs": {"enable_thinking": False}}  # else it thinks where it can
    return Server("llama-server", version[1] if version else "unknown", command, "measured", extra)


def _llama_cpp_server(path: Path, threads: int, bias: dict[str, int]) -> Server:
    """Its defaults interrupt a stream when another request comes, and keep the logits of every prompt token."""
    sizes = ("--n_ctx", str(CONTEXT), "--n_threads", str(threads), "--n_threads_batch", str(threads))
    better = ("--interrupt_requests", "false", "--logits_all", "false", "--flash_attn", "true", "--verbose", "false")
    command = (sys.executable, "-m", "llama_cpp.server", "--model", str(path), "--port", "{port}", *sizes, *better)
    version = importlib.metadata.version("llama-cpp-python")
    environment = {"PYTHONPATH": str(PACKAGES)}
    return Server("llama_cpp.server", version, command, "measured", {"logit_bias": bias}, environment, batches=False)


def _gguf_ends(path: Path) -> list[int]:
    tokens = gguf.GGUFReader(path).fields["tokenizer.ggml.tokens"].contents()
    return [token for token, text in enumerate(tokens) if text in END_TOKENS]


def _mlx_ends(folder: Path) -> list[int]:
    added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    return [token["id"] for token in added if token["content"] in END_TOKENS]


# ---- processes -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(servers: list[Server], logs: Path) -> Iterator[list[Running]]:
    """All of them started and ready, each with its log in the folder; ended at the end."""
    logs.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        started: list[Running] = []
        for server in servers:
            port = _free_port()
            process = stack.enter_context(_process(server, port, logs / f"{server.name}.log"))
            _wait_until_ready(server, process, port)
            started.append(Running(server, port))
        yield started


@contextlib.contextmanager
def _process(server: Server, port: int, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [part.replace("{port}", str(port)) for part in server.command]
    environment = {**os.environ, **server.environment}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_ready(server: Server, process: "subprocess.Popen[bytes]", port: int) -> None:
    """Until it lists its models. Raises SystemExit when it ends before that, or takes too long."""
    last = time.monotonic() + READY_SECONDS
    while time.monotonic() < last and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/v1/models")
            if connection.getresponse().status == 200:
                return
        connection.close()
        time.sleep(0.2)
    raise SystemExit(f"{server.name} doesn't answer; its log is in {BUILD}.")
