"""What the fake provider did and when, in its own words: the measure of what the server says it measured.

JSON lines, in nanoseconds of the monotonic clock, in the order in which things ended:

    {"did": "load", "start_ns": 1, "end_ns": 2}
    {"did": "encode", "start_ns": 1, "end_ns": 2, "tokens": 9}      in a preparer's thread, beside steps
    {"did": "add", "start_ns": 1, "end_ns": 1, "slot": 0, "tokens": 9}
    {"did": "step", "start_ns": 1, "end_ns": 2, "feeds": [[slot, start, tokens, drafts, drawn], ...]}
    {"did": "release", "start_ns": 1, "end_ns": 1, "slot": 0}

`drawn` tokens are behind a feed. Texts aren't in it.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Sequence as Seq

from heylook_llm.worker.providers.base import Drawn, Feed


class Log:
    """Appends to a file; without one it keeps nothing."""

    def __init__(self, path: str | None) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if path else None

    def note(self, did: str, start_ns: int, **more: object) -> None:
        """Something was done, just now. A line goes out in one write, so threads may write beside each other."""
        if self._fd is not None:
            line = {"did": did, "start_ns": start_ns, "end_ns": time.monotonic_ns(), **more}
            os.write(self._fd, json.dumps(line).encode() + b"\n")

    def step(self, start_ns: int, feeds: Seq[Feed], drawn: Seq[Drawn]) -> None:
        """A step was computed, which has one feed of a slot."""
        if self._fd is not None:
            count = Counter(one.slot for one in drawn)
            told = [(feed.slot, feed.start, len(feed.tokens), feed.drafts, count[feed.slot]) for feed in feeds]
            self.note("step", start_ns, feeds=told)
