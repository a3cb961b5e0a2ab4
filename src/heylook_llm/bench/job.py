"""A process that executes one kept run for somebody else, who may go away at any time.

python -m heylook_llm.bench.job    the first line of stdin is the order, with the keys; when stdin ends, so does the run
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from heylook_llm.bench import begin, calibrate, run
from heylook_llm.bench.jobs import Order
from heylook_llm.bench.run import Progress, Recorder
from heylook_llm.bench.sample import Run
from heylook_llm.bench.spec import checked
from heylook_llm.bench.store import Store
from heylook_llm.errors import HeylookError, TargetFailed

NOTE_SECONDS: Final = 0.5
"""Between two events of progress."""


class Notes:
    """What happens, as events of the run's log."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self._noted = 0.0
        self._cell = -1

    def tell(self, kind: str, **data: Any) -> None:
        """Note something."""
        self._store.add_event(self._run_id, time.time(), kind, data)

    def progress(self, now: Progress) -> None:
        """How far the run is, at most twice a second; the end of a cell always."""
        ends = bool(now.in_cell) and now.done + now.failed >= now.in_cell
        if not ends and now.cell.ordinal == self._cell and time.monotonic() - self._noted < NOTE_SECONDS:
            return
        self._noted, self._cell = time.monotonic(), now.cell.ordinal
        told: dict[str, Any] = {"cell": now.cell.ordinal, "cells": now.cells, "done": now.done, "failed": now.failed}
        told |= {"in_cell": now.in_cell or None, "seconds": round(now.seconds, 3)}
        self._store.note_progress(self._run_id, time.time(), told)


async def execute(order: Order) -> None:
    """Do it; whatever goes wrong stands in the run's log."""
    with Store(Path(order.store)) as store:
        made, notes = store.run(order.run), Notes(store, order.run)
        me = psutil.Process()
        store.set_run(made.id, time.time(), pid=me.pid, pid_started=me.create_time())
        try:
            spec = checked(json.loads(made.spec_json))
            keys_of = dict(zip(spec.targets, order.keys, strict=True))
            parties = await begin.parties_again(store, made, spec, keys_of.__getitem__)
            if order.calibration is not None:
                await _calibrated(store, made, order, notes)
        except HeylookError as error:
            notes.tell("warning", text=error.message)
            store.set_run(made.id, time.time(), "failed", ended=time.time())
            return
        if store.run(made.id).cancel_requested:
            store.set_run(made.id, time.time(), "cancelled", ended=time.time())
            return
        found = {identity: party.found for identity, party in parties.items()}
        keys = {identity: party.key for identity, party in parties.items()}
        recorder = Recorder(store, made, found, keys, notes.progress)
        leaving = asyncio.create_task(_end_with_stdin(recorder))
        try:
            await run.execute(recorder)
        except HeylookError as error:
            notes.tell("warning", text=error.message)
        leaving.cancel()


async def _calibrated(store: Store, made: Run, order: Order, notes: Notes) -> None:
    """Put today's calibration into the run's manifest; without one the run goes on, and says so."""
    notes.tell("note", text="The bench measures itself first, once a day: some seconds.")
    try:
        found = await calibrate.of_today(Path(order.calibration or ""), order.version, begin.this_machine().id)
    except TargetFailed as error:
        notes.tell("warning", text=error.message)
        return
    manifest = {**json.loads(made.manifest_json), "calibration": msgspec.structs.asdict(found)}
    store.set_run(made.id, time.time(), manifest_json=json.dumps(manifest))
    if (text := calibrate.doubt(found)) is not None:
        notes.tell("warning", text=text)


async def _end_with_stdin(recorder: Recorder) -> None:
    """Whoever ordered the run is gone, or wants it to end: it can be resumed."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    recorder.interrupt()


def main() -> None:
    """Carry out the order that stands in the first line."""
    order = msgspec.json.decode(_line(), type=Order)
    asyncio.run(execute(order))


def _line() -> bytes:
    """The first line of stdin, and nothing behind it, unbuffered: what follows is somebody else's."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            raise SystemExit("no order came")
        line += byte
    return bytes(line)


if __name__ == "__main__":
    main()
