"""Threads of llama.cpp: how many."""

import os
from typing import Final

import psutil

WEIGHTS_PER_THREAD_BYTES: Final = 16 << 20


def threads_for(weights_bytes: int) -> int:
    """The physical cores, but few for a small model: its threads would mostly wait for each other."""
    return min(physical_cores(), 1 + weights_bytes // WEIGHTS_PER_THREAD_BYTES)


def physical_cores() -> int:
    """Cores that this process may use; two threads of one core don't help llama.cpp."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))
