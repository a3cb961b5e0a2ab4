"""What the process says that tries a grammar (precompile.py), in words for whoever sent it."""

import json
from typing import Any, Final

from heylook_llm.helper import starting, waiting

MODULE: Final = "heylook_llm.helper.precompile"
TOO_LONG: Final = "it takes too long to compile; make it smaller."
UNABLE: Final = "it can't be compiled: it is nested too deeply, or needs too much memory."
MAX_REASON: Final = 600


def failure(source: str) -> str | None:
    """Try a grammar and wait for what comes of it: why it can't be used, or None. Raises Overloaded."""
    try:
        found: dict[str, Any] = json.loads(waiting.run(MODULE, source.encode("utf-8", "replace")))
    except starting.Exhausted:
        return TOO_LONG
    except starting.Broken:
        return UNABLE
    return found["error"] and shortened(found["error"])


def shortened(reason: str) -> str:
    """A compiler's message on one line."""
    line = " ".join(reason.replace("<non-verbose/>", "").split())
    return line if len(line) <= MAX_REASON else line[:MAX_REASON] + "..."
