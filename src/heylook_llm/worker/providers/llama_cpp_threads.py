"""Threads of llama.cpp: how many, and how they wait for each other."""

import os
from typing import Final

import psutil

WEIGHTS_PER_THREAD_BYTES: Final = 16 << 20
SPINS: Final = "1000"
"""How often a thread looks whether the others are done, before it sleeps until they are: some 20 µs."""
_SPINNING: Final = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""The variables by which a user decides that."""


def threads_for(weights_bytes: int) -> int:
    """The physical cores, but few for a small model: its threads would mostly wait for each other."""
    return min(physical_cores(), 1 + weights_bytes // WEIGHTS_PER_THREAD_BYTES)


def physical_cores() -> int:
    """Cores that this process may use; two threads of one core don't help llama.cpp."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))


def bound_spinning() -> None:
    """Have threads sleep when another is late; to be said before llama.cpp's libraries are loaded.

    They wait for each other some hundred times in a token. GNU's OpenMP spins for milliseconds each time, so wherever
    anything else wants their cores, those that wait hold up the one that is late. With every core taken by other work a
    0.5B file decoded 12 tokens/s instead of 5, for a quarter of the CPU time.
    """
    if not any(name in os.environ for name in _SPINNING):
        os.environ[_SPINNING[0]] = SPINS
