"""Pulling from the stand-in hub, in this process and in others."""

import contextlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from heylook_llm.catalog import hub as names
from heylook_llm.catalog.pull import Progress, Pull
from tests.catalog.hub import Hub
from tests.commands_at_work import COMMAND, Home

SIZE = 300_000
DATA = random.Random(1).randbytes(SIZE)


class Ran(NamedTuple):
    """Where a pulled model lies, and what was told."""

    path: Path
    told: list[Progress]


def pull(hub: Hub, root: Path, name: str = "org/model") -> Ran:
    """A pull in this process."""
    told: list[Progress] = []
    pulled = Pull(names.parse_name(name), told.append, root, hub.url).run()
    return Ran(pulled.path, told)


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[bool]:
    """A disk of its own at `folder` meanwhile; False where this machine allows none."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all that is free on a disk; the file that takes it."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


def begun(home: Home, hub: Hub, name: str = "org/model", **more: str) -> "subprocess.Popen[str]":
    """`heylookllm pull` in a process of its own."""
    return subprocess.Popen(
        [*COMMAND, "pull", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=home.environment(HF_ENDPOINT=hub.url, **more),
        cwd=home.folder,
    )


def models(home: Home) -> Path:
    """Where a home's pulled models lie."""
    return home.folder / ".local" / "share" / "heylookllm" / "models"
