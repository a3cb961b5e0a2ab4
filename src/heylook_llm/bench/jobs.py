"""Runs that are ordered over HTTP: kept before anything is sent, and executed one after the other.

Each has a process of its own, which ends with ours; what it had sent stays, and the run can be resumed.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import psutil

from heylook_llm.bench import told
from heylook_llm.bench.kept import PREFIX, Kept
from heylook_llm.bench.keys import address_of
from heylook_llm.bench.sample import ENDED, Run, RunState
from heylook_llm.bench.spec import RunSpec, TargetSpec, checked
from heylook_llm.bench.store import Store
from heylook_llm.errors import Conflict, Forbidden, NotFound, ShuttingDown

log = logging.getLogger(__name__)

SECRET_WORDS: Final = ("KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "AUTH")
"""Of names of variables that a run's process doesn't get: keys come by its standard input."""
LAND_SECONDS: Final = 15.0
"""How long a run's process may take to end when we do."""
Answer = TypeVar("Answer")


class Order(msgspec.Struct, frozen=True):
    """What a run's process is told. Keys are in the order of the spec's targets; they stand nowhere else."""

    store: str
    run: str
    keys: list[str | None]
    version: str
    calibration: str | None
    """Where today's calibration is kept; None: the bench isn't measured itself."""

    def __repr__(self) -> str:
        """Without the keys."""
        return f"Order({self.run})"


class Own(NamedTuple):
    """The server that these routes are part of."""

    url: str
    key: str | None


class Setting(NamedTuple):
    """Where everything lies, and who we are."""

    store: Path
    kept: Kept
    version: str
    calibration: Path
    """Where today's calibration is kept."""
    own: Own | None


class Jobs:
    """The runs that wait and the one that goes on. Everything is called on the event loop's thread."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._waiting: deque[Order] = deque()
        self._going: Order | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._working: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, question: Callable[[Store], Answer]) -> Answer:
        """Something of the store, in a thread."""
        return await asyncio.to_thread(self._asked, question)

    def _asked(self, question: Callable[[Store], Answer]) -> Answer:
        with Store(self._setting.store) as store:
            return question(store)

    def place(self, run_id: str) -> int | None:
        """How many runs are before one that waits; None: it doesn't wait here."""
        ids = [order.run for order in self._waiting]
        return ids.index(run_id) + (self._going is not None) if run_id in ids else None

    # ---- orders ------------------------------------------------------------------------------------------------------

    async def start(self, spec: RunSpec, calibrated: bool) -> Run:
        """Keep a new run and have it executed. Raises TargetFailed, ConfigError, Forbidden, ShuttingDown."""
        from heylook_llm.bench import begin  # noqa: PLC0415 (its HTTP client loads slowly)

        self._admit()
        refuse_files(spec)
        keys = {given: self.key_of(given) for given in spec.targets}
        found = await begin.parties(spec, keys=keys.__getitem__)
        version = self._setting.version
        made = await self.ask(lambda store: begin.created(store, spec, found, version=version, origin="web"))
        return await self._queue(made, [keys[given] for given in spec.targets], calibrated)

    async def resume(self, name: str) -> Run:
        """Have the rest of a run executed. Raises NotFound, Conflict, ConfigError, Forbidden, ShuttingDown."""
        self._admit()
        made = await self.ask(lambda store: told.current(store, store.run(name)))
        if made.goes_on:
            raise Conflict(f"The run {made.id[-8:]} goes on already.", code="run_goes_on")
        if made.state == "done":
            raise Conflict(f"The run {made.id[-8:]} is done: nothing is left to send.", code="run_is_done")
        spec = checked(json.loads(made.spec_json))
        keys = [self.key_of(given, trusted=made.origin == "cli") for given in spec.targets]
        return await self._queue(made, keys, calibrated=False)

    async def cancel(self, name: str) -> Run:
        """Have a run end, whoever executes it; what it has is kept. Raises NotFound, Conflict."""
        made = await self.ask(lambda store: told.current(store, store.run(name)))
        if made.state in ENDED:
            raise Conflict(f"The run {made.id[-8:]} has ended: {made.state}.", code="run_has_ended")
        for order in self._waiting:
            if order.run == made.id:
                self._waiting.remove(order)
                break
        else:
            if made.state != "pending":
                await self.ask(lambda store: store.request_cancel(made.id))
                return await self.ask(lambda store: store.run(made.id))
        return await self._set(made.id, "cancelled")

    async def delete(self, name: str) -> Run:
        """Forget a run that has ended. Raises NotFound, Conflict."""
        made = await self.ask(lambda store: told.current(store, store.run(name)))
        if made.goes_on:
            raise Conflict(f"The run {made.id[-8:]} goes on; cancel it first.", code="run_goes_on")
        await self.ask(lambda store: store.delete(made.id))
        return made

    def key_of(self, given: TargetSpec, *, trusted: bool = False) -> str | None:
        """The key to send to a target. A client can't name files or variables of ours, only kept keys.

        `trusted`: the spec is of somebody at this machine's command line. Raises ConfigError, Forbidden.
        """
        own = self._setting.own
        if given.key is None:
            return own.key if own is not None and address_of(own.url) == address_of(given.url) else None
        if not trusted and not given.key.startswith(PREFIX):
            raise Forbidden(
                f"Over HTTP a target's key is one that is kept, as {PREFIX}NAME; {given.key.partition(':')[0]}: is for "
                "the command line.",
                code="key_not_allowed",
                param="targets",
            )
        return self._setting.kept.key_of(given)

    def _admit(self) -> None:
        if self._closed:
            raise ShuttingDown("The server is ending; it begins no runs.")

    # ---- executing ---------------------------------------------------------------------------------------------------

    async def _queue(self, made: Run, keys: list[str | None], calibrated: bool) -> Run:
        me = psutil.Process()
        mine = {"pid": me.pid, "pid_started": me.create_time(), "ended": None, "cancel_requested": False}
        taken = await self.ask(lambda store: store.take_up(made, time.time(), "queued", **mine))
        if taken is None:  # two pages, or two servers, resume it at once
            raise Conflict(f"The run {made.id[-8:]} was taken up by somebody else.", code="run_goes_on")
        setting = self._setting
        calibration = str(setting.calibration) if calibrated else None
        order = Order(str(setting.store), taken.id, keys, setting.version, calibration)
        self._waiting.append(order)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return taken

    async def _set(self, run_id: str, state: RunState, **changes: Any) -> Run:
        if state in ENDED:
            changes["ended"] = time.time()

        def change(store: Store) -> Run:
            store.set_run(run_id, time.time(), state, **changes)
            return store.run(run_id)

        return await self.ask(change)

    async def _work(self) -> None:
        """Execute what waits, until nothing does."""
        while self._waiting and not self._closed:
            self._going = self._waiting.popleft()
            try:
                await self._carry_out(self._going)
            except Exception:  # a run ends here, whatever happened to it; the next one begins
                log.exception("The run %s can't be executed", self._going.run)
            finally:
                self._going = None

    async def _carry_out(self, order: Order) -> None:
        await self.ask(lambda store: _warn_of_others(store, order.run))
        try:
            await self._execute(order)
        finally:
            await self.ask(lambda store: _settle(store, order.run))

    async def _execute(self, order: Order) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "heylook_llm.bench.job"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            env={
                name: value
                for name, value in os.environ.items()
                if not any(word in name.upper() for word in SECRET_WORDS)
            },
            start_new_session=True,  # Ctrl-C is ours: the run hears of it from us
        )
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            if self._closed:  # it was being started meanwhile
                await _landed(self._process)
            await self._process.wait()
        finally:
            self._process = None

    async def close(self) -> None:
        """End what goes on, to be resumed; what waits was never begun."""
        self._closed = True
        while self._waiting:
            await self._set(self._waiting.popleft().run, "interrupted")
        if self._process is not None:
            await _landed(self._process)
        if self._working is not None:
            await self._working


async def _landed(process: asyncio.subprocess.Process) -> None:
    """Have a run's process end, by itself or not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), LAND_SECONDS)
    except TimeoutError:
        process.kill()


def refuse_files(spec: RunSpec) -> None:
    """A client can't have us read files: whoever may order runs isn't thereby this machine's user. Raises Forbidden."""
    if spec.dataset is not None and spec.dataset.path is not None:
        raise Forbidden("Over HTTP a dataset is a list of prompts, no file.", code="file_not_allowed", param="dataset")


def _settle(store: Store, run_id: str) -> None:
    """A run whose process ended without a word of it was interrupted; a deleted one is nothing."""
    with contextlib.suppress(NotFound):
        if store.run(run_id).state not in ENDED:
            store.add_event(run_id, time.time(), "warning", {"text": "The run's process ended before the run did."})
            store.set_run(run_id, time.time(), "interrupted", ended=time.time())


def _warn_of_others(store: Store, run_id: str) -> None:
    """A run that goes on in another process takes this one's time, and the other way round."""
    for other in store.runs(50):
        if other.id != run_id and told.current(store, other).state == "running" and other.pid != os.getpid():
            text = f"Another run, {other.id[-8:]}, goes on in process {other.pid}: the two disturb each other."
            store.add_event(run_id, time.time(), "warning", {"text": text})
