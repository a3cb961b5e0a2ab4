"""How a helper process is started, by what command and in what environment; how it gives way; what its end means."""

import contextlib
import ctypes
import os
import platform
import struct
import sys
from pathlib import Path
from typing import Final

from heylook_llm.helper.limits import EXHAUSTED

WALL_SECONDS: Final = 60.0
"""A process that got no more of the processor than it may use in so long a time says nothing about its input."""
OUTPUT_BYTES: Final = 1 << 20
BUSY: Final = "This machine is too busy to check the request; try again later."
ENVIRONMENT: Final = ("PATH", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")
NICENESS: Final = 5
GROUP_NICENESS: Final = 10
"""Of its session, where Linux first shares the processor among sessions, and then within each."""
SLICE_NS: Final = 100_000
"""What a thread may compute before another one's turn is looked at; Linux' usual 3 ms is a token of a small model."""
_SCHED_BATCH: Final = 3
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES: Final = struct.Struct("IIQiIQQQ")


class Ended(Exception):
    """A process ended before its work was done. `output` is what it wrote until then."""

    def __init__(self, message: str, output: bytes) -> None:
        super().__init__(message)
        self.output = output


class Exhausted(Ended):
    """The input took more time than a process gets for it."""


class Broken(Ended):
    """The process crashed over its input, had no memory left, or wrote more than it may."""


def command(module: str) -> list[str]:
    """What starts a module as a process."""
    return [sys.executable, "-m", module]


def environment() -> dict[str, str]:
    """What a process finds in its environment: no key of ours."""
    return {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}


def give_way(process: int) -> None:
    """Let a process that was just started yield to the threads of streams, its interpreter's start included.

    It has a session of its own, a smaller share of the processor, doesn't interrupt others when it wakes, and is
    interrupted soon itself. Not SCHED_IDLE: while all cores decode, an honest schema would wait until they are done.
    """
    with contextlib.suppress(OSError):  # it ended already, or may not be asked
        niceness = min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        os.setpriority(os.PRIO_PROCESS, process, niceness)
        number = _SCHED_SETATTR.get(platform.machine()) if sys.platform == "linux" else None
        if number is not None:  # where a kernel knows no slices, they are ignored
            wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, _SCHED_BATCH, 0, niceness, 0, SLICE_NS, 0, 0)
            ctypes.CDLL(None).syscall(number, process, wanted, 0)
    with contextlib.suppress(OSError):  # a kernel without such groups
        Path(f"/proc/{process}/autogroup").write_text(str(GROUP_NICENESS), encoding="ascii")


def output_of(status: int, output: bytes, most_bytes: int) -> bytes:
    """What a process wrote that ended with this status. Raises Exhausted, Broken."""
    if status == -EXHAUSTED:
        raise Exhausted("It takes too long.", output)
    if status or len(output) > most_bytes:
        raise Broken("It can't be processed.", output)
    return output
