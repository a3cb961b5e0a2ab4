"""Finished requests for tests, and what an app has recorded."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from heylook_llm import core
from heylook_llm.server.performance.database import Database
from heylook_llm.server.performance.record import Finished, Labels, Moment
from heylook_llm.server.performance.recorder import Recorder
from heylook_llm.server.performance.selection import Selection

MS = 1_000_000
CLOCK = "clock"


def at(wall: float, boot: float | None = None, clock: str = CLOCK) -> Moment:
    """A moment; by itself of a machine that booted in 1970."""
    return Moment(wall, wall if boot is None else boot, clock)


def recorded(app: Any) -> Any:
    """The one request that an app has recorded."""
    recorder = app.state.server.place.performance
    ((_, only),) = recorder.question(lambda database: database.select(Selection())).result(10)
    return only


@contextlib.contextmanager
def held(recorder: Recorder) -> Iterator[None]:
    """While its thread answers a question that takes as long as this."""
    gate, begun = threading.Event(), threading.Event()

    def hold(database: Database) -> None:
        begun.set()
        assert gate.wait(10)

    answer = recorder.question(hold)
    assert begun.wait(10)
    try:
        yield
    finally:
        gate.set()
        answer.result(10)


def timeline(start_ns: int = 0, *, load: bool = False, output: int = 3) -> core.Timeline:
    """A request that came at `start_ns` and took 10 ms for each phase, and for each token after the first."""
    at = start_ns + (20 * MS if load else 0)
    first = at + 60 * MS
    last = first + (output - 1) * 10 * MS
    return core.Timeline(
        received_ns=start_ns,
        parsed_ns=start_ns + 10 * MS,
        ready_ns=start_ns + 10 * MS,
        load_start_ns=start_ns + 10 * MS if load else None,
        load_end_ns=start_ns + 30 * MS if load else None,
        submitted_ns=at + 20 * MS,
        rendered_ns=at + 30 * MS,
        tokenized_ns=at + 40 * MS,
        queued_ns=at + 40 * MS,
        admitted_ns=at + 50 * MS,
        prefill=(core.PrefillChunk(at + 50 * MS, first, 5),),
        first_token_ns=first,
        first_byte_ns=first + MS,
        last_token_ns=last,
        closed_ns=last + 10 * MS,
        steps=output,
        batch_sizes_seen={1: 1, 3: output - 2} if output > 2 else {1: 1},
    )


def finished(number: int = 0, **fields: Any) -> Finished:
    """A request that ended well, now unless `finished_at` says when."""
    wall = fields.get("finished_at", time.time())
    usage = core.Usage(prompt_tokens=7, cached_tokens=2, output_tokens=3)
    given: dict[str, Any] = {
        "id": f"req_{number:032x}",
        "model": "fake",
        "route": "/v1/chat/completions",
        "outcome": "done",
        "status": 200,
        "error": None,
        "finished_at": wall,
        "finished_boot": wall,
        "timeline": timeline(),
        "usage": usage,
        "first": usage,
        "provider": "fake",
        "labels": Labels(),
        "clock": CLOCK,
    }
    return Finished(**given | fields)
