"""The `heylookllm` command as a user runs it, in a home of its own."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

COMMAND = [sys.executable, "-m", "heylook_llm.cli"]
MODELS = """
default_model: fake
models:
  - {id: fake, aliases: [gpt-4o], provider: fake, config: {n_ctx: 2048}}
  - {id: slow, provider: fake, config: {n_ctx: 2048, decode_tokens_per_second: 20}}
"""


class Home:
    """A folder that stands for the user's home; nothing outside it is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = folder / "models.yaml"
        self.models.write_text(MODELS)

    def environment(self, **more: str) -> dict[str, str]:
        """Ours without the variables that the command reads."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OLLAMA_", "HEYLOOK_", "XDG_"))}
        return {**kept, "HOME": str(self.folder), "COLUMNS": "120", **more}

    def run(self, *arguments: str, stdin: str = "", **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(**more),
            cwd=self.folder,
            timeout=60,
        )

    @contextlib.contextmanager
    def serving(self, *arguments: str, **more: str) -> Iterator["Server"]:
        """A server, ready; killed at the end if it is still there."""
        process = subprocess.Popen(
            [*COMMAND, "--config", str(self.models), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(**more),
            cwd=self.folder,
        )
        server = Server(process)
        try:
            server.wait_until_ready()
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
            server.close()


class Server:
    """A running `heylookllm`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._ready = threading.Event()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((process.stdout, self.lines), (process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Iterator[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))
            if line.startswith("  log: "):
                self._ready.set()
        self._ready.set()

    def wait_until_ready(self) -> None:
        """Until the start lines stand."""
        assert self._ready.wait(30), "no start lines within 30 s"
        assert self.process.poll() is None, self.errors

    @property
    def url(self) -> str:
        """The first address in the start lines."""
        found = re.search(r"(http://\S+|unix:\S+)", self.lines[0])
        assert found, self.lines
        return found[1]

    @property
    def port(self) -> int:
        """The first port."""
        return int(self.url.rpartition(":")[2])

    def close(self) -> None:
        """End the readers."""
        self.process.wait(20)
        for reader in self._readers:
            reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
