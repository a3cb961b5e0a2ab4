"""Threads whose work can wait: the streams' next tokens are waited for."""

import os
import sys
import threading
from typing import Final

NICENESS: Final = 10


def yield_to_others() -> None:
    """Let this thread, and those that an engine makes for it, go last."""
    if sys.platform == "linux":  # elsewhere a priority is the whole process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
