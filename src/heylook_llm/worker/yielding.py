"""Threads whose work can wait: the streams' next tokens are waited for."""

import os
import sys
import threading
from typing import Final

NICENESS: Final = 10
SOME_NICENESS: Final = 5
"""Of work that a client waits for who isn't answered before: a third of what a stream's thread gets, not a tenth."""


def yield_to_others(niceness: int = NICENESS) -> None:
    """Let this thread, and those that an engine makes for it, go after the streams'."""
    if sys.platform == "linux":  # elsewhere a priority is the whole process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
