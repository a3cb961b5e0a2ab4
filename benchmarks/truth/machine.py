"""What the machine did while a cell ran: how busy each core was, what another guest took, and who computed how much."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import psutil

from benchmarks.truth.target import on

LOOK_SECONDS: Final = 0.25


class Split(NamedTuple):
    """Which cores the target has, and which the tool; None: whatever there is."""

    target: frozenset[int] | None
    tool: frozenset[int] | None

    def __str__(self) -> str:
        if self.target is None or self.tool is None:
            return "target and tool on the same cores"
        return f"target on core {_named(self.target)}, tool on core {_named(self.tool)}"


def _named(cores: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(cores)))


def split() -> Split:
    """The last core for the target, the others for the tool, where processes can be kept to cores."""
    if sys.platform != "linux":
        return Split(None, None)
    cores = sorted(os.sched_getaffinity(0))
    return Split(None, None) if len(cores) < 2 else Split(frozenset(cores[-1:]), frozenset(cores[:-1]))


class Look(NamedTuple):
    """What the kernel had counted at a moment."""

    at: int
    busy: tuple[float, ...]
    """Seconds of each core."""
    stolen: float
    switches: int


class Used(NamedTuple):
    """Between two moments."""

    busy: tuple[float, ...]
    """The share of each core."""
    stolen: float
    """The share of all cores that another guest of the host took."""
    switches_per_second: float


class Watch:
    """Looks a few times a second, until it is left."""

    def __init__(self) -> None:
        self._looks: list[Look] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ending.is_set():
            self._looks.append(look())
            self._ending.wait(LOOK_SECONDS)
        self._looks.append(look())

    def used(self, start: int, end: int) -> Used | None:
        """What was used between two stamps; None: they lie too close together."""
        within = [one for one in self._looks if start <= one.at <= end]
        return used(within[0], within[-1]) if len(within) > 1 else None


def look() -> Look:
    """What the kernel has counted until now."""
    cores = psutil.cpu_times(percpu=True)
    busy = tuple(sum(core) - core.idle - getattr(core, "iowait", 0.0) for core in cores)
    stolen = sum(getattr(core, "steal", 0.0) for core in cores)
    return Look(time.monotonic_ns(), busy, stolen, psutil.cpu_stats().ctx_switches)


def used(one: Look, other: Look) -> Used:
    """Between two looks."""
    seconds = (other.at - one.at) / 1e9
    busy = tuple((after - before) / seconds for before, after in zip(one.busy, other.busy, strict=True))
    stolen = (other.stolen - one.stolen) / seconds / len(busy)
    return Used(busy, stolen, (other.switches - one.switches) / seconds)


class Ran(NamedTuple):
    """A command that has ended well."""

    cpu_seconds: float
    """Its own and its children's."""
    seconds: float


def run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], cores: frozenset[int] | None, limit: float
) -> Ran:
    """Run a command in a folder, where its output is kept. Raises SystemExit where it fails or takes too long."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "output.log"
    began = time.monotonic()
    with log.open("wb") as output, on(cores):
        more: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(list(command), cwd=folder, env=dict(environment), **more)
    stop = threading.Timer(limit, process.kill)
    stop.start()
    _, status, usage = os.wait4(process.pid, 0)
    stop.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ... ended with {process.returncode}; its output is in {log}.")
    return Ran(usage.ru_utime + usage.ru_stime, time.monotonic() - began)
