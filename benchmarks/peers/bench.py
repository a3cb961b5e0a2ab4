"""Ours, llama_cpp.server and mlx_lm.server measured by one run spec in one command. See docs/bench_servers.md.

    make bench-servers
    make bench-servers LLAMA_SERVER=/path/to/llama-server ARGS="--requests 100 --write docs/bench_servers.md"

All serve the bundled model, as GGUF or for MLX, and stay loaded; `heylookllm bench` asks one at a time, and they take
turns within each combination. Written as Markdown; the spec and every form of the report stay in build/peers/bench.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.report import called, put_into
from benchmarks.peers.servers import BUILD, OURS, Running, Server, gguf_servers, mlx_servers, running
from benchmarks.random_model import BUNDLED
from heylook_llm import hardware

FOLDER: Final = BUILD / "bench"
TINY_MLX: Final = BUNDLED.with_name("heylook-tiny-mlx")
OUTPUT_TOKENS: Final = 64


def servers(threads: int, llama_server: str | None) -> list[Server]:
    """All that serve the bundled model; ours twice, once for each engine."""
    of_gguf, of_mlx = gguf_servers(BUNDLED, threads, llama_server), mlx_servers(TINY_MLX)
    named = [(of_gguf, "llama.cpp"), (of_mlx, "MLX")]
    return [_told_apart(server, engine) for found, engine in named for server in found]


def _told_apart(server: Server, engine: str) -> Server:
    if server.name == OURS:
        return server._replace(name=f"{server.name} ({engine})")
    # mlx_lm.server's name of a model is its path, which would stand in the report
    return server._replace(model="default_model") if server.name == "mlx_lm.server" else server


def spec(targets: Sequence[Running], levels: Sequence[int], requests: int, repeats: int) -> dict[str, Any]:
    """What is measured. Every server is told alike not to end an answer early: by a bias on what ends a text."""
    (bias,) = {json.dumps(found) for one in targets if (found := one.server.extra.get("logit_bias"))}
    return {
        "name": "servers",
        "targets": [
            {
                "name": one.server.name,
                "url": f"http://127.0.0.1:{one.port}",
                "kind": "openai",
                "models": [one.server.model],
            }
            for one in targets
        ],
        "scenarios": [f"D(100,{OUTPUT_TOKENS})"],
        "loads": [{"kind": "closed", "levels": list(levels)}],
        "requests": requests,
        "repeats": repeats,
        "force_length": False,
        "options": {"temperature": 0, "logit_bias": json.loads(bias)},
    }


def measured(targets: Sequence[Running], options: argparse.Namespace) -> str:
    """Run the spec, and what its report says as Markdown. Raises SystemExit where the run fails."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "servers.json"
    path.write_text(json.dumps(spec(targets, options.levels, options.requests, options.repeats), indent=2))
    status = _bench("run", "--spec", str(path)).returncode
    if status not in (0, 3):
        raise SystemExit(f"The run ended with {status}: heylookllm bench show, with HOME={FOLDER}.")
    for form in ("json", "html", "jsonl"):
        _bench("export", "last", "--format", form, "--output", str(FOLDER / f"servers.{form}"), "--force")
    return _bench("report", "last", "--format", "markdown", capture_output=True, text=True).stdout


def _bench(*arguments: str, **more: Any) -> "subprocess.CompletedProcess[str]":
    """Our command, with a store of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    command = [sys.executable, "-m", "heylook_llm.cli", "bench", *arguments]
    return subprocess.run(command, env={**environment, "HOME": str(FOLDER)}, check=False, **more)


def markdown(report: str, found: Sequence[Server], options: argparse.Namespace) -> str:
    """The report below what it was made with; its headings stand below the page's."""
    cpu = hardware.cpu()
    lines = [
        called("benchmarks.peers.bench"),
        f"- Machine: {cpu.name}, {cpu.available_cores:g} cores; {options.threads} threads for every GGUF server",
        f"- Versions: {', '.join(sorted({f'{server.name} {server.version}' for server in found}))}",
        "",
        *(f"##{line}" if line.startswith("#") else line for line in report.splitlines()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--requests", type=int, default=40, help="measured ones of each combination")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--llama-server", default=os.environ.get("LLAMA_SERVER"), metavar="PROGRAM")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the report into this Markdown file")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers end with it
    found = servers(options.threads, options.llama_server)
    with running(found, BUILD / "logs" / "bench") as targets:
        text = markdown(measured(targets, options), found, options)
    print(text, flush=True)
    if options.write is not None:
        put_into(options.write, text)


if __name__ == "__main__":
    main()
