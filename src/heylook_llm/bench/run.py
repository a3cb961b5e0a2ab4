"""The recorder: feeds a sender, commits what it reports, and only then shows it.

It can be killed at any moment: what was committed stays, and `resume` sends the rest, with the same prompts.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
import psutil

from heylook_llm.bench import pairing
from heylook_llm.bench.counters import SOURCE
from heylook_llm.bench.frames import Ended, Items, More, News, Pulse, Report, Stop, Window
from heylook_llm.bench.meanwhile import SENDER
from heylook_llm.bench.planning import Planner
from heylook_llm.bench.probe import Found, Probe, probing
from heylook_llm.bench.requests import CellRequests
from heylook_llm.bench.sample import CLIENT_LIMITED, NOT_REACHED, Cell, CellState, Point, Run, RunState, Sample, Target
from heylook_llm.bench.sending import SenderProcess
from heylook_llm.bench.spec import RunSpec, checked
from heylook_llm.bench.store import Store
from heylook_llm.bench.targets import dialect_of
from heylook_llm.bench.watch import Watch
from heylook_llm.errors import HeylookError, InsufficientStorage, TargetFailed

log = logging.getLogger(__name__)

BEAT_SECONDS: Final = 1.0
COMMIT_SECONDS: Final = 0.1
SHOW_SECONDS: Final = 0.25
SATURATED: Final = 0.9
"""Of a core: a sender that computes so much and is late can't be trusted with its stamps."""
LATE_NS: Final = 2_000_000
STARVED_NS: Final = 5_000_000
"""In the mean at its alarms: whatever held a sender up so, other processes for one, stands in its stamps."""
SATURATED_SHARE: Final = 0.1
"""Of a cell's pulses, from which on it counts."""
LOST_AFTER: Final = 20
"""Failures in a row, and one more for each client, after which a cell may be given up."""
LOST_SECONDS: Final = 10.0
"""Without one good answer: a server that is asked for too much refuses many, and answers others."""
LOCAL: Final = "localhost"
UNKEPT_SECONDS: Final = 30.0
"""For so long a store that can't be written is tried again, while answers are held; then nothing more is sent."""
MOST_AT_ONCE: Final = 8
"""Requests that are made without a look at anything else."""


class Progress(msgspec.Struct, frozen=True):
    """How far a run is: what was committed, never more."""

    cell: Cell
    cells: int
    done: int
    failed: int
    in_cell: int
    seconds: float


Show = Callable[[Progress], None]
Value = TypeVar("Value")


class Recorder:
    """Executes one run, or the rest of one."""

    def __init__(
        self, store: Store, run: Run, found: dict[str, Found], keys: dict[str, str | None], show: Show
    ) -> None:
        """`found` and `keys` by the id of the target; a key is held here and nowhere else."""
        self._store = store
        self._run = run
        self._spec: RunSpec = checked(json.loads(run.spec_json))
        self._targets = store.targets(run.id)
        self._found = found
        self._keys = keys
        self._show = show
        self._cells = store.cells(run.id)
        self._stage = 0
        self._ending = asyncio.Event()
        self._interrupted = False
        self._active: set[_CellRun] = set()
        self._planner = Planner(store, run, self._spec, self._cells, found, keys)
        self._flags: set[str] = set(json.loads(run.flags_json))

    def stop(self) -> None:
        """First: send no more, and let what is in flight end. Then: cut it off."""
        self._stage += 1
        self._ending.set()
        for active in self._active:
            active.order(Stop(now=self._stage > 1))

    def cancel(self) -> None:
        """End at once; what is in flight is kept as cancelled."""
        self._stage = max(self._stage, 2)
        self._ending.set()
        for active in self._active:
            active.order(Stop(now=True, cancelled=True))

    def interrupt(self) -> None:
        """End at once, to be resumed: what is in flight is kept as cut."""
        self._stage = max(self._stage, 2)
        self._ending.set()
        self._interrupted = True
        for active in self._active:
            active.order(Stop(now=True))

    async def execute(self) -> RunState:
        """Run all cells that aren't done; the state in which it ended. Raises TargetFailed, InsufficientStorage."""
        me = psutil.Process()
        run_id = self._run.id
        started = self._run.started or time.time()
        self._store.set_run(
            run_id, time.time(), "running", started=started, pid=me.pid, pid_started=me.create_time(), ended=None
        )
        beating = asyncio.create_task(self._beat())
        state: RunState = "failed"
        try:
            state = await self._all()
            await self._pair()
        except asyncio.CancelledError:
            state = "interrupted"
            raise
        finally:
            beating.cancel()
            flags = json.dumps(sorted(self._flags))
            self._store.set_run(run_id, time.time(), state, ended=time.time(), flags_json=flags)
        return state

    async def _beat(self) -> None:
        """Say that it lives, listen whether it is to end, and note what the machine does."""
        watch = await asyncio.to_thread(Watch, self._local_ports())
        try:
            while True:
                await asyncio.sleep(BEAT_SECONDS)
                points = await asyncio.to_thread(watch.points)
                with contextlib.suppress(InsufficientStorage):  # whoever commits samples says so
                    if self._store.beat(self._run.id, time.time()):
                        self.cancel()
                    self._store.add_series(self._run.id, points)
        finally:
            watch.close()

    def _local_ports(self) -> dict[str, int]:
        """Of targets on this machine."""
        urls = {target.name: urlsplit(target.base_url) for target in self._targets.values()}
        own = {name: url for name, url in urls.items() if host_of(url.geturl()) == LOCAL}
        return {name: url.port or (443 if url.scheme == "https" else 80) for name, url in own.items()}

    async def _all(self) -> RunState:
        """Every lane side by side, each with a sender of its own; the state that is worst."""
        try:
            async with asyncio.TaskGroup() as group:
                lanes = [group.create_task(self._lane(number, cells)) for number, cells in enumerate(self._lanes())]
        except ExceptionGroup as several:
            if (unkept := several.subgroup(InsufficientStorage)) is None:
                raise
            raise _first(unkept) from several
        states = {lane.result() for lane in lanes}
        order: tuple[RunState, ...] = ("interrupted", "cancelled", "failed")
        return next((state for state in order if state in states), "done")

    def _lanes(self) -> list[list[Cell]]:
        """Cells that run in turn: those of one host, of one target, or all."""
        lanes: dict[str, list[Cell]] = {}
        for cell in self._cells:
            target = self._targets[cell.target_id]
            names = {"none": "", "host": host_of(target.base_url), "all": target.id}
            lanes.setdefault(names[self._spec.parallel], []).append(cell)
        return list(lanes.values())

    async def _lane(self, number: int, cells: Sequence[Cell]) -> RunState:
        failed = 0
        async with SenderProcess(secrets=[key for key in self._keys.values() if key]) as sender:
            for cell in cells:
                if cell.state == "done" or self._stage:
                    continue
                state = await self._one(sender, number, cell)
                failed += state == "failed"
                if not sender.alive:
                    self._warn("the sender's process ended")
                    return "interrupted"
        if self._stage:
            return "interrupted" if self._interrupted else "cancelled"
        return "failed" if failed else "done"

    async def _one(self, sender: SenderProcess, lane: int, cell: Cell) -> CellState:
        """One cell, from its preparation to its state."""
        target = self._targets[cell.target_id]
        async with probing() as http:
            probe = self._probe(http, target)
            try:
                cell = self._planner.swept(cell)
                if (why := await self._unless_ending(self._planner.is_beyond(probe, cell))) is not None:
                    self._warn(f"cell {cell.ordinal}: {why}")
                    self._store.set_cell(cell, time.time(), "skipped", flags=(*cell.flags, "beyond-context"))
                    return "skipped"
                plan = await self._unless_ending(self._planner.plan(probe, cell, target, lane))
                flags = await self._unless_ending(self._prepared(probe, cell))  # last: to be asked for tokens loads it
            except HeylookError as error:
                self._warn(f"cell {cell.ordinal}: {error.message}")
                self._store.set_cell(cell, time.time(), "failed")
                return "failed"
            if self._stage or plan is None:  # asked to end while it was prepared: nothing was sent
                return "cancelled"
            if flags is None:
                self._store.set_cell(cell, time.time(), "skipped", flags=(*cell.flags, "cold-not-offered"))
                return "skipped"
            active = _CellRun(self._store, sender, plan, self._progress, lambda: self._prepared(probe, cell))
            self._active.add(active)
            self._store.set_cell(cell, time.time(), "running")
            await self._note_counters(probe, cell)
            await active.execute()
            await self._note_counters(probe, cell)
            await self._note_place(probe, cell)
            self._active.discard(active)
            if active.problem is not None:
                self._warn(f"cell {cell.ordinal}: {active.problem}")
            state = self._judged(active, plan)
            self._flags |= {flag for flag in active.flags if flag == CLIENT_LIMITED}
            kept = tuple(dict.fromkeys((*cell.flags, *flags, *plan.flags, *active.flags)))
            window = {"window_start": active.start, "window_end": active.end}
            self._store.set_cell(cell, time.time(), state, flags=kept, **window)
        return state

    async def _unless_ending(self, work: Coroutine[Any, Any, Value]) -> Value | None:
        """What a target is asked before a cell, which may take minutes; None: the run is to end, so it is given up."""
        asking, ending = asyncio.ensure_future(work), asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait((asking, ending), return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else None
        finally:
            asking.cancel()
            ending.cancel()

    async def _note_counters(self, probe: Probe, cell: Cell) -> None:
        """What the target counts itself; one that is gone counts nothing more."""
        with contextlib.suppress(TargetFailed):
            told = await probe.counters(self._found[cell.target_id].flavor)
            now = time.monotonic_ns()
            self._store.add_series(self._run.id, [Point(now, SOURCE, name, value) for name, value in told.items()])

    async def _note_place(self, probe: Probe, cell: Cell) -> None:
        """Where the target computes the cell's model and what that takes, in the run's manifest."""
        with contextlib.suppress(TargetFailed):
            told = await probe.placed(self._found[cell.target_id].flavor, cell.model)
            if told is None:
                return
            manifest = json.loads(self._store.run(self._run.id).manifest_json)
            target = manifest.setdefault("targets", {}).setdefault(cell.target_id, {})
            target.setdefault("models", {})[cell.model] = told
            self._store.set_run(self._run.id, time.time(), manifest_json=json.dumps(manifest))

    def _judged(self, active: "_CellRun", plan: "CellRequests") -> CellState:
        if self._stage or not active.ended:
            return "cancelled"
        good, failed = active.good + plan.good, active.failed + plan.failed
        return "failed" if active.lost or (failed and not good) else "done"

    async def _prepared(self, probe: Probe, cell: Cell) -> tuple[str, ...] | None:
        """The model as the cell wants it; None: the target can't be brought there."""
        flavor = self._found[cell.target_id].flavor
        if cell.cache == "cold":
            return ("cold",) if await probe.make_cold(flavor, cell.model) else None
        await probe.make_warm(flavor, cell.model)
        return ()

    async def _pair(self) -> None:
        """Add what the targets measured. What can't be had is a warning: the samples stand without it."""
        targets = {cell.id: cell.target_id for cell in self._cells}
        samples = self._store.samples(self._run.id)
        self._store.add_pairs(pairing.told_pairs(samples))
        for target in self._targets.values():
            if self._found[target.id].flavor != "heylook":
                continue
            asked = [sample for sample in samples if targets[sample.cell_id] == target.id]
            try:
                async with probing() as http:
                    rows = await self._probe(http, target).rows(self._run.id)
                self._store.add_pairs(pairing.heylook_pairs(asked, rows))
            except (HeylookError, ValueError) as error:
                self._warn(f"{target.name}: the server's own times can't be had: {error}")

    def _probe(self, http: aiohttp.ClientSession, target: Target) -> Probe:
        key = self._keys[target.id]
        return Probe(http, target.base_url, dialect_of(target.kind).headers(key), key)

    def _progress(self, active: "_CellRun") -> None:
        seconds = time.monotonic() - active.begun
        cell = active.plan.cell
        progress = Progress(cell, len(self._cells), active.good, active.failed, active.plan.expected, seconds)
        self._show(progress)

    def _warn(self, text: str) -> None:
        self._store.add_event(self._run.id, time.time(), "warning", {"text": text})


def _first(several: ExceptionGroup[InsufficientStorage]) -> InsufficientStorage:
    """Lanes write to one store: what one of them finds, the others do, too."""
    one = several.exceptions[0]
    return _first(one) if isinstance(one, ExceptionGroup) else one


def host_of(url: str) -> str:
    """The machine behind an address; this one has several names."""
    host = urlsplit(url).hostname or ""
    return LOCAL if host in ("127.0.0.1", "::1") or host.endswith(f".{LOCAL}") else host


class _CellRun:
    """One cell while it is sent."""

    def __init__(
        self,
        store: Store,
        sender: SenderProcess,
        plan: CellRequests,
        show: "Callable[[_CellRun], None]",
        prepare: Callable[[], Awaitable[object]],
    ) -> None:
        """`prepare` brings the model back to where a cold cell's requests find it."""
        self.plan = plan
        self.good = 0
        self.failed = 0
        self.lost = False
        self.problem: str | None = None
        self.ended = False
        self.start: int | None = None
        self.end: int | None = None
        self.flags: tuple[str, ...] = ()
        self.begun = time.monotonic()
        self._store = store
        self._sender = sender
        self._show = show
        self._prepare = prepare
        self._is_cold = plan.cold
        """Whether the model is where a cold request wants it."""
        self._owed = 0
        """Items that the sender has asked for and not got."""
        self._told_last = False
        self._pending: list[Sample] = []
        self._points: list[Point] = []
        self._pulses: list[Pulse] = []
        self._missed = 0
        self._unreached = 0
        self._good_at: float | None = None
        self._shown = 0.0
        self._unkept: float | None = None
        """Since when nothing could be committed; None: it can."""

    def order(self, stop: Stop) -> None:
        """Pass an order on."""
        self._sender.send(stop)

    async def execute(self) -> None:
        """Send everything and commit every answer."""
        self._sender.send(self.plan.begin())
        committing = asyncio.create_task(self._commit_now_and_then())
        try:
            while not self.ended and (news := await self._sender.news()) is not None:
                self._hear(news)
                if self.plan.cold and not self.plan.asked and not self._is_cold:
                    await self._cool()
                while self._feed():  # noqa: ASYNC110 (not to wait: what came is committed while prompts are made)
                    await asyncio.sleep(0)
        finally:
            committing.cancel()
            await self._commit_all()
        pulses = [pulse for pulse in self._pulses if self.start is not None and pulse.at >= self.start]
        self.flags = (CLIENT_LIMITED,) if saturated(pulses) else ()

    async def _cool(self) -> None:
        """Have the model unloaded for the next of a cold cell's requests."""
        try:
            await self._prepare()
            self._is_cold = True
        except HeylookError as error:
            self.lost, self.problem = True, error.message
            self.order(Stop(now=False))

    def _hear(self, news: News) -> None:
        match news:
            case More(count):
                self._owed += count
            case Report(exchange):
                self._take(self.plan.sample(exchange))
            case Window(start):
                self.start = start
            case Pulse(at, share, lag, mean):
                self._pulses.append(news)
                self._points += [
                    Point(at, SENDER, "cpu_share", share),
                    Point(at, SENDER, "loop_lag_seconds", lag / 1e9),
                    Point(at, SENDER, "loop_late_seconds", mean / 1e9),
                ]
            case Ended(_, end):
                self.end, self.ended = end, True

    def _feed(self) -> bool:
        """Give the sender some of what it asked for; whether there was something."""
        most = min(self._owed, MOST_AT_ONCE)
        if self.plan.cold:  # all clients together, then none until the model is cold again
            most = min(self._owed, self.plan.load.clients or 1) if self._is_cold else 0
        items = self.plan.ready(most) if most else []
        if not items and (self._told_last or not self.plan.last):
            return False
        self._owed -= len(items)
        self._is_cold &= not items
        self._told_last = self.plan.last
        self._sender.send(Items(tuple(items), last=self.plan.last))
        return bool(items)

    def _take(self, sample: Sample) -> None:
        self._pending.append(sample)
        if not self.lost and self._losing(sample):
            self.lost = True
            self.order(Stop(now=False))

    def _losing(self, sample: Sample) -> bool:
        """Whether nothing is to be hoped for: none was ever answered, none can be reached, or none was for a while."""
        now = time.monotonic()
        if sample.outcome == "ok":
            self._good_at, self._missed, self._unreached = now, 0, 0
            return False
        failed = sample.outcome in ("error", "timeout")
        self._missed = self._missed + 1 if failed else 0
        self._unreached = self._unreached + 1 if failed and sample.error_class in NOT_REACHED else 0
        most = LOST_AFTER + (self.plan.load.clients or 0)
        silent = self._good_at is None or now - self._good_at > LOST_SECONDS
        return self._unreached >= most or (self._missed >= most and silent)

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            if not self._try_to_commit() and self._is_lost_to_us():
                self.order(Stop(now=False))

    def _is_lost_to_us(self) -> bool:
        return self._unkept is not None and time.monotonic() - self._unkept > UNKEPT_SECONDS

    async def _commit_all(self) -> None:
        """What is left, or at last an end: a store that is held up is waited for. Raises InsufficientStorage."""
        while not self._try_to_commit():
            if self._is_lost_to_us():
                self.commit()
            await asyncio.sleep(COMMIT_SECONDS)

    def _try_to_commit(self) -> bool:
        """Whether it can be done; what can't be kept now is held."""
        try:
            self.commit()
        except InsufficientStorage as error:
            if self._unkept is None:
                self._unkept = time.monotonic()
                log.warning("%s It is tried again for %g s.", error.message, UNKEPT_SECONDS)
            return False
        self._unkept = None
        return True

    def commit(self) -> None:
        """Keep what came, then show it. Raises InsufficientStorage, and holds it."""
        if self._points:
            self._store.add_series(self.plan.cell.run_id, self._points)
            self._points = []
        if self._pending:
            self._store.add_samples(self._pending)
            measured = [one for one in self._pending if one.phase == "measure"]
            self._pending = []
            self.good += sum(one.outcome == "ok" for one in measured)
            self.failed += sum(one.outcome != "ok" for one in measured)
        if time.monotonic() - self._shown >= SHOW_SECONDS or self.ended:
            self._shown = time.monotonic()
            self._show(self)


def saturated(pulses: Sequence[Pulse]) -> bool:
    """Whether a sender couldn't keep up: it computed all the time and was late, or it was let compute too late.

    One that waits for requests due every millisecond computes, but isn't late.
    """
    full = sum(
        (pulse.cpu_share >= SATURATED and pulse.lag_ns >= LATE_NS) or pulse.mean_lag_ns >= STARVED_NS
        for pulse in pulses
    )
    return full > max(1, SATURATED_SHARE * len(pulses))


async def execute(recorder: Recorder) -> RunState:
    """Execute a run under the terminal's signals: once to drain, twice to stop."""
    loop = asyncio.get_running_loop()
    if os.name == "posix":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, recorder.stop)
    return await recorder.execute()
