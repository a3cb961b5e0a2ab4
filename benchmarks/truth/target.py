"""A null target in a process of its own, on cores of its own, and its log at the end."""

import contextlib
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Final, NamedTuple

from benchmarks.truth.answers import Answer, answers

ENDING_SECONDS: Final = 10


class Plan(NamedTuple):
    """What it answers with: its options."""

    ttft_ms: float
    itl_ms: float
    tokens: int
    phase: str = "own"

    def options(self) -> list[str]:
        """As its command line takes them."""
        plain = {name.replace("_", "-"): str(value) for name, value in self._asdict().items()}
        return [part for name, value in plain.items() for part in (f"--{name}", value)]


class Target(NamedTuple):
    """A running one."""

    url: str

    def log(self) -> list[Answer]:
        """What it answered until now."""
        with urllib.request.urlopen(f"{self.url}/log", timeout=30) as response:  # noqa: S310 (our own)
            return answers(response.read().decode())


@contextlib.contextmanager
def target(plan: Plan, cores: frozenset[int] | None) -> Iterator[Target]:
    """Start one; it ends with its stdin."""
    command = [sys.executable, "-m", "heylook_llm.bench.null", *plan.options()]
    with on(cores):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Target(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.stdin.close()
        try:
            process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextlib.contextmanager
def on(cores: frozenset[int] | None) -> Iterator[None]:
    """Processes that are started within keep to these cores, and so do their children."""
    if cores is None or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # of this thread, from which they are forked
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
