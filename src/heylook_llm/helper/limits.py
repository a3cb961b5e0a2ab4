"""What a helper process may use: set by itself, before it reads a byte of what a stranger sent."""

import contextlib
import resource
import signal
from typing import Final

EXHAUSTED: Final = signal.SIGPROF
"""The signal that ends a process whose time is used up."""


def confine(*, memory_bytes: int, file_bytes: int = 0) -> None:
    """Bound memory and what may be written, and leave no core file."""
    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, file_bytes), (resource.RLIMIT_AS, memory_bytes)]
    for kind, most in limits:
        with contextlib.suppress(ValueError, OSError):  # not every system has each of them
            resource.setrlimit(kind, (most, most))


def allow_seconds(seconds: float) -> None:
    """From now on, so much time of the processor; then EXHAUSTED ends the process, whatever it is in."""
    signal.signal(EXHAUSTED, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
