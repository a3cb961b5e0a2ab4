"""ModelRouter, the Backend of this machine: `plan()` decides which models are loaded, this acts on it.

One writer: all of `_state` changes on the event loop's thread, without an await between deciding and recording. Every
event (a request, a lease's end, a worker's death, a timer) records what happened and calls `_settle`, which asks the
plan until it has no more to say. What takes time (reading a file, loading, ending a worker) runs in a task that ends by
recording what came of it and settling again.
"""

import asyncio
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, assert_never

import msgspec

from heylook_llm import core, hardware
from heylook_llm.catalog import prefix_files
from heylook_llm.config import FOREVER, ModelSpec, Settings, canonical, named
from heylook_llm.errors import (
    Cancelled,
    Conflict,
    HeylookError,
    LoadFailed,
    ModelNotFound,
    Overloaded,
    ShuttingDown,
)
from heylook_llm.server import measure
from heylook_llm.server import plan as planning
from heylook_llm.server.backend import Change, Lease, ModelChange, ModelState, ModelStatus, Words
from heylook_llm.server.fit import Bytes
from heylook_llm.server.plan import Evict, Grant, Load, Measure, Refuse, State, StopLoad, Waiter
from heylook_llm.server.process import WorkerProcess, remove_left_folders
from heylook_llm.server.vocabularies import Vocabularies

log = logging.getLogger(__name__)

DRAIN_WINDOW_SECONDS: Final = 30.0
RETRY_SECONDS: Final = (1.0, 30.0)


class _Worker:
    """A process with the leases on it. A model that is loaded again gets a new one; old leases stay with the old."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process = process
        self.leases = 0
        self.load_ns: tuple[int, int] = (0, 0)
        self.loaded_at = 0.0
        self.stopping = False
        self.task: asyncio.Task[None] | None = None


class _Entry:
    """What the router holds of one model beside its State: the spec, the worker, and what last went wrong."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.worker: _Worker | None = None
        self.last_error: str | None = None
        self.fault: ModelState | None = None
        self.crashes = 0
        self.gone: list[asyncio.Future[None]] = []
        """Who waits until it is unloaded."""

    def differs(self, spec: ModelSpec) -> bool:
        """Whether another entry of the registry asks for another load."""
        return self.spec.loaded_parts != spec.loaded_parts


class _Lease:
    """See backend.Lease."""

    def __init__(self, spec: ModelSpec, worker: _Worker, info: core.ModelInfo, waited: bool) -> None:
        self._spec, self._worker, self._info = spec, worker, info
        self._load_ns = worker.load_ns if waited else None

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    @property
    def info(self) -> core.ModelInfo:
        return self._info

    @property
    def load_ns(self) -> tuple[int, int] | None:
        return self._load_ns

    def generate(self, request: core.Request) -> AsyncGenerator[tuple[core.Event, ...], None]:
        return self._worker.process.submit(request)

    async def call(self, operation: core.Operation) -> core.Answer:
        return await self._worker.process.call(operation)


class ModelRouter:
    """See backend.Backend. `free_memory` says what is available now; None: unknown, load anything.

    `note_steps`: whether workers note what each step computed in all (core.Load.note_steps).
    """

    def __init__(
        self,
        settings: Settings,
        free_memory: Callable[[], Bytes | None] = measure.available,
        *,
        note_steps: bool = False,
    ) -> None:
        self._settings = settings
        self._note_steps = note_steps
        self._hash_key = secrets.token_bytes(16)
        self._listeners: list[Callable[[ModelChange], None]] = []
        self._free_memory = free_memory
        self._entries = {spec.id: _Entry(spec) for spec in settings.enabled}
        self._names = {canonical(name): spec.id for spec in settings.enabled for name in (spec.id, *spec.aliases)}
        self._state = State(
            {spec.id: _as_planned(spec) for spec in settings.enabled},
            max_loaded=settings.max_loaded_models,
            age_seconds=settings.limits.same_model_age_seconds,
            max_queue=settings.limits.max_queue,
            reserve=Bytes(settings.limits.memory_reserve_bytes, measure.GPU_RESERVE_BYTES),
        )
        self._waiting: dict[int, asyncio.Future[_Worker | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._released_at: deque[float] = deque(maxlen=256)
        self._vocabularies = Vocabularies(self._new_process)
        self._timer: asyncio.TimerHandle | None = None
        self._settling = False
        self._closing = False
        self._hurry = asyncio.Event()
        self._idle = asyncio.Event()

    def start(self) -> None:
        """Begin to load the default model, if `prewarm` says so. Its failure is logged and shown in its status."""
        remove_left_folders()
        self._prewarm_default()

    def _prewarm_default(self) -> None:
        default = self._settings.default_model
        if default is not None and self._settings.prewarm:
            self._spawn(self._prewarm(self.resolve(default).id))

    async def _prewarm(self, model: str) -> None:
        try:
            await self._order(model, None)
        except HeylookError as error:
            entry = self._entries.get(model)
            if entry is None or error.message != entry.last_error:  # that one stands in the log
                log.warning("The default model %s isn't loaded: %s", model, error.message)

    # ---- the registry ------------------------------------------------------------------------------------------------

    @property
    def default_model(self) -> str | None:
        """See backend.Backend."""
        return self._settings.default_model

    def configure(self, settings: Settings) -> None:
        """Take another registry. What is in flight or waits ends as it began; then what changed is loaded anew.

        `limits` but those of the queue and of memory are the HTTP program's, and stay as they were at the start.
        """
        wanted = {spec.id: spec for spec in settings.enabled}
        reload = {name for name, spec in wanted.items() if name in self._entries and self._entries[name].differs(spec)}
        limits, before, self._settings = settings.limits, self._settings, settings
        self._state = msgspec.structs.replace(
            planning.registered(self._state, map(_as_planned, wanted.values()), reload),
            max_loaded=settings.max_loaded_models,
            age_seconds=limits.same_model_age_seconds,
            max_queue=limits.max_queue,
            reserve=Bytes(limits.memory_reserve_bytes, measure.GPU_RESERVE_BYTES),
        )
        entries = {name: self._entries.get(name) or _Entry(spec) for name, spec in wanted.items()}
        for name, spec in wanted.items():
            entries[name].spec = spec
        leaving = {name: entry for name, entry in self._entries.items() if name not in wanted}
        self._entries = entries | {name: entry for name, entry in leaving.items() if name in self._state.models}
        self._names = {canonical(name): spec.id for spec in wanted.values() for name in (spec.id, *spec.aliases)}
        self._settle()
        if settings.default_model != before.default_model:
            self._prewarm_default()

    def _forget_ended(self) -> None:
        """Models that left the registry and have ended now are gone."""
        for name in [name for name in self._entries if name not in self._names.values()]:
            if planning.is_free(self._state, name):
                del self._entries[name]
                self._state = planning.forgotten(self._state, name)

    # ---- leases ------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def acquire(
        self, model: str, *, keep_alive_seconds: float | None = None, n_ctx: int | None = None, priority: int = 0
    ) -> AsyncIterator[Lease]:
        """See backend.Backend."""
        name = self.resolve(model).id
        self._admit(name)
        waiter = self._arrive(name, n_ctx=n_ctx, keep_alive=keep_alive_seconds, priority=priority)
        worker = await self._granted(waiter)
        served = False
        try:
            info = worker.process.info
            assert info is not None  # a lease is on a loaded model
            waited = waiter.number < self._state.models[name].ready_mark
            yield _Lease(self._entries[name].spec, worker, info, waited)
            served = worker.process.state == "ready"
        finally:
            self._release(name, worker, served)

    @asynccontextmanager
    async def words(self, model: str) -> AsyncIterator[Words]:
        """See backend.Backend."""
        spec = self.resolve(model)
        self._refuse_if_closing()
        if self.status(model).state == "ready":
            async with self.acquire(model) as lease:
                yield lease
        else:
            async with self._vocabularies.of(spec) as words:
                yield words

    def _admit(self, model: str) -> None:
        self._refuse_if_closing()
        if not planning.admits(self._state, model):
            raise Overloaded(
                f"The queue is full: {self._settings.limits.max_queue} requests wait already (limits.max_queue).",
                retry_after_seconds=self._retry_seconds(),
            )

    def _retry_seconds(self) -> float:
        """How long the queue takes to drain at the rate of late, scattered so that not all come back at once."""
        now = time.monotonic()
        recent = [at for at in self._released_at if now - at < DRAIN_WINDOW_SECONDS]
        waiting = planning.queued(self._state)
        span = max(1.0, now - recent[0]) if recent else DRAIN_WINDOW_SECONDS
        seconds = waiting * span / len(recent) if recent else RETRY_SECONDS[1] / 3
        scattered = seconds * random.uniform(0.9, 1.1)  # noqa: S311 (not for secrets)
        return min(max(scattered, RETRY_SECONDS[0]), RETRY_SECONDS[1])

    def _arrive(
        self,
        model: str,
        *,
        n_ctx: int | None = None,
        keep_alive: float | None = None,
        priority: int = 0,
        lasting: bool = False,
    ) -> Waiter:
        self._state, waiter = planning.arrived(
            self._state,
            model,
            time.monotonic(),
            n_ctx=n_ctx,
            keep_alive=keep_alive,
            priority=priority,
            lasting=lasting,
        )
        self._waiting[waiter.number] = asyncio.get_running_loop().create_future()
        self._settle()
        return waiter

    async def _granted(self, waiter: Waiter) -> _Worker:
        future = self._waiting[waiter.number]
        try:
            worker = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                granted = future.result()  # let in and cancelled in the same turn of the loop
                if granted is not None:
                    self._release(waiter.model, granted, served=False)
            else:
                self._state = planning.left(self._state, waiter.number)
                self._settle()
            raise
        finally:
            self._waiting.pop(waiter.number, None)
        assert worker is not None  # only lasting waiters are granted without a lease
        return worker

    def _release(self, model: str, worker: _Worker, served: bool) -> None:
        worker.leases -= 1
        now = time.monotonic()
        self._released_at.append(now)
        entry = self._entries.get(model)  # gone: it left the registry, and its worker died
        if entry is not None and entry.worker is worker and not worker.stopping:
            self._state = planning.released(self._state, model, now, served=served)
        self._settle()

    # ---- the loop of deciding and acting -----------------------------------------------------------------------------

    def _settle(self) -> None:
        """Do all that the plan says now, and come back when time alone may change it."""
        if self._settling:
            return
        self._settling = True
        try:
            while actions := planning.plan(self._seen(), time.monotonic()):
                for action in actions:
                    self._act(action)
            self._forget_ended()
        finally:
            self._settling = False
        self._set_timer()
        if self._closing and not any(e.worker is not None and e.worker.leases for e in self._entries.values()):
            self._idle.set()

    def _seen(self) -> State:
        """The State, with the memory that is free now if somebody's load depends on it."""
        models = self._state.models
        if any(models[w.model].phase != "ready" or w.n_ctx is not None for w in self._state.waiters):
            self._state = msgspec.structs.replace(self._state, available=self._free_memory())
        return self._state

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        if not self._closing and (at := planning.wake_at(self._state, now)) is not None:
            self._timer = asyncio.get_running_loop().call_later(at - now + 0.001, self._settle)

    def _act(self, action: planning.Action) -> None:
        match action:
            case Grant():
                self._let_in(action.waiter)
            case Refuse():
                self._refuse(action.waiter, action.error)
            case Measure():
                self._state = planning.measuring(self._state, action.model)
                self._spawn(self._measure(action.model))
            case Load():
                self._begin_load(action)
            case Evict():
                log.info("%s is unloaded (%s)", action.model, action.reason)
                self._begin_stop(action.model, action.reason)
            case StopLoad():
                log.info("loading %s is stopped: nobody waits for it any more", action.model)
                self._stop_load(action.model, "nobody waited for it any more")
            case _:
                assert_never(action)

    def _let_in(self, waiter: Waiter) -> None:
        self._state = planning.granted(self._state, waiter, time.monotonic())
        future, worker = self._waiting[waiter.number], self._entries[waiter.model].worker
        if future.done():  # cancelled in this very turn of the loop: its own handler can no longer take it back
            if not waiter.lasting:
                self._state = planning.released(self._state, waiter.model, time.monotonic(), served=False)
            return
        if worker is not None and not waiter.lasting:
            worker.leases += 1
        future.set_result(None if waiter.lasting else worker)

    def _refuse(self, waiter: Waiter, error: HeylookError) -> None:
        self._state = planning.left(self._state, waiter.number)
        future = self._waiting[waiter.number]
        if not future.done():
            future.set_exception(error)
            future.exception()  # seen: a lasting order may have no one left to tell
        if waiter.lasting:
            self._entries[waiter.model].last_error = error.message

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---- measuring, loading, ending ----------------------------------------------------------------------------------

    async def _measure(self, model: str) -> None:
        spec = self._entries[model].spec
        try:
            need = await asyncio.to_thread(measure.need, spec)
        except HeylookError as error:
            self._fail_load(model, error)
        except Exception:  # whatever it is: a model that is being measured for ever would keep all others from loading
            log.exception("%s can't be measured", model)
            self._fail_load(model, _unexpected(model))
        else:
            self._state = planning.measured(self._state, model, need if spec == self._entries[model].spec else None)
            self._settle()

    def _begin_load(self, action: Load) -> None:
        entry = self._entries[action.model]
        self._state = planning.loading(self._state, action)
        process = self._new_process(entry.spec, lambda process: self._worker_ended(action.model, worker))
        worker = _Worker(process)
        entry.worker, entry.fault = worker, None
        self._tell(entry, "loading", worker)
        worker.task = self._spawn(self._load(entry, worker, action))
        # A task that is cancelled before its first step never runs, so it can't see to its own end.
        worker.task.add_done_callback(lambda task: self._stopped(action.model, worker) if task.cancelled() else None)

    def _new_process(self, spec: ModelSpec, on_end: Callable[[WorkerProcess], None]) -> WorkerProcess:
        limits = self._settings.limits
        return WorkerProcess(
            spec, stall_seconds=limits.stall_seconds, load_timeout_seconds=limits.load_timeout_seconds, on_end=on_end
        )

    async def _load(self, entry: _Entry, worker: _Worker, action: Load) -> None:
        model, start_ns = entry.spec.id, time.monotonic_ns()
        try:
            info = await worker.process.start(self._load_frame(entry.spec, action.n_ctx))
        except asyncio.CancelledError:
            self._stopped(model, worker)  # StopLoad; start() has waited until the process was gone
        except HeylookError as error:
            self._load_failed(entry, worker, error)
        except Exception:  # as above
            log.exception("%s can't be started", model)
            self._load_failed(entry, worker, _unexpected(model))
        else:
            worker.load_ns, worker.loaded_at = (start_ns, time.monotonic_ns()), time.time()
            entry.last_error = None
            log.info("%s is loaded in %.2f s", model, (worker.load_ns[1] - start_ns) / 1e9)
            self._loaded(entry, worker, info)

    def _load_frame(self, spec: ModelSpec, n_ctx: int) -> core.Load:
        """The Load frame; its limits are what the model may take in all, so that the engine can size its pool."""
        options = spec.config.model_dump(mode="json")
        options["n_ctx"] = n_ctx or options["n_ctx"]
        limits = measure.granted(self._state.available, self._state.reserve)
        return core.Load(
            *(spec.id, spec.provider, spec.config.model_path, options, limits),
            system=spec.system,
            messages=spec.turns,
            hash_key=self._hash_key,
            note_steps=self._note_steps,
        )

    def _loaded(self, entry: _Entry, worker: _Worker, info: core.ModelInfo) -> None:
        if worker.process.state != "ready":  # it died in the turn of the loop that told us of its success
            self._load_failed(entry, worker, LoadFailed(f"The engine of '{entry.spec.id}' ended right after loading."))
            return
        self._tell(entry, "loaded", worker, seconds=(worker.load_ns[1] - worker.load_ns[0]) / 1e9)
        self._state = planning.ready(
            self._state,
            entry.spec.id,
            time.monotonic(),
            n_ctx=info.n_ctx,
            n_parallel=info.n_parallel,
            loaded=measure.loaded(entry.spec, worker.process.pid, info),
        )
        if entry.spec.id not in self._names.values():  # it left the registry while it waited for its load
            self._state = planning.unload_asked(self._state, entry.spec.id)
        self._settle()

    def _load_failed(self, entry: _Entry, worker: _Worker, error: HeylookError) -> None:
        entry.worker = None
        if worker.process.fault is not None:
            entry.crashes += 1
            entry.fault = worker.process.fault
            self._state = planning.crashed(self._state, entry.spec.id, time.monotonic())
        self._fail_load(entry.spec.id, error)

    def _fail_load(self, model: str, error: HeylookError) -> None:
        """A load came to nothing: everybody who waits for it is told, once."""
        entry = self._entries[model]
        log.warning("%s isn't loaded (%s): %s", model, entry.spec.path, error.message)
        entry.last_error = error.message
        self._tell(entry, "failed", None, reason=error.message)
        self._state = planning.stopped(self._state, model)
        for waiter in [waiter for waiter in self._state.waiters if waiter.model == model]:
            self._refuse(waiter, core.ErrorInfo.of(error).exception())  # one each: a raised one grows
        self._tell_gone(model)
        self._settle()

    def _begin_stop(self, model: str, reason: str) -> None:
        worker = self._entries[model].worker
        assert worker is not None  # only a ready model is ended
        self._tell(self._entries[model], "evicted", worker, seconds=time.time() - worker.loaded_at, reason=reason)
        self._state = planning.stopping(self._state, model, time.monotonic(), reload=reason == "reload")
        worker.stopping = True
        worker.task = self._spawn(self._stop(model, worker))

    async def _stop(self, model: str, worker: _Worker) -> None:
        await worker.process.stop()
        self._stopped(model, worker)

    def _stop_load(self, model: str, why: str) -> None:
        worker = self._entries[model].worker
        assert worker is not None
        assert worker.task is not None
        self._tell(self._entries[model], "failed", worker, reason=f"Loading was stopped: {why}.")
        self._state = planning.stopping(self._state, model, time.monotonic())
        worker.stopping = True
        worker.task.cancel()

    def _stopped(self, model: str, worker: _Worker) -> None:
        entry = self._entries[model]
        if entry.worker is worker:
            entry.worker = None
            self._state = planning.stopped(self._state, model)
            self._tell_gone(model)
        self._settle()

    def _worker_ended(self, model: str, worker: _Worker) -> None:
        """A worker is of no more use. One that loads or is being ended is seen to by its task."""
        entry, process = self._entries[model], worker.process
        if entry.worker is not worker or worker.stopping or self._state.models[model].phase != "ready":
            return
        entry.worker = None
        if process.fault is not None:
            entry.fault, entry.crashes = process.fault, entry.crashes + 1
            entry.last_error = f"The engine {process.fault}; the server's log has its last lines."
        self._tell(entry, "crashed", worker, seconds=time.time() - worker.loaded_at, reason=entry.last_error)
        self._state = planning.crashed(self._state, model, time.monotonic())
        worker.task = self._spawn(process.kill())
        self._tell_gone(model)
        asyncio.get_running_loop().call_soon(self._settle)

    def _tell_gone(self, model: str) -> None:
        waiting, self._entries[model].gone = self._entries[model].gone, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def follow(self, listener: Callable[[ModelChange], None]) -> None:
        """See backend.Backend."""
        self._listeners.append(listener)

    def _tell(
        self,
        entry: _Entry,
        kind: Change,
        worker: _Worker | None,
        *,
        seconds: float | None = None,
        reason: str | None = None,
    ) -> None:
        """Tell the listeners of a change, with what the worker last held."""
        stats = worker.process.stats if worker is not None else None
        held = (
            hardware.process_memory(worker.process.pid) if kind == "loaded" and worker and worker.process.pid else None
        )
        resident = held.resident_bytes if held is not None else stats.resident_bytes if stats is not None else None
        peak = stats.peak_resident_bytes if stats is not None else None
        spec = entry.spec
        change = ModelChange(spec.id, spec.provider, kind, time.time(), seconds, reason, resident, peak)
        for listener in self._listeners:
            listener(change)

    # ---- what is so --------------------------------------------------------------------------------------------------

    def resolve(self, model: str) -> ModelSpec:
        """See backend.Backend."""
        name = self._names.get(canonical(model))
        if name is None:
            raise self._not_found(model)
        return self._entries[name].spec

    def _not_found(self, model: str) -> ModelNotFound:
        spec = named(self._settings.left_out, model)
        if spec is None:
            return ModelNotFound(model=model)
        return ModelNotFound(
            f"The model '{model}' is not served: its engine, {spec.missing}, isn't installed "
            "(heylookllm doctor says how).",
            model=model,
        )

    def models(self) -> list[ModelStatus]:
        """See backend.Backend."""
        now, served = time.monotonic(), set(self._names.values())
        return [self._status(entry, now) for name, entry in self._entries.items() if name in served]

    def status(self, model: str) -> ModelStatus:
        """See backend.Backend."""
        return self._status(self._entries[self.resolve(model).id], time.monotonic())

    def _status(self, entry: _Entry, now: float) -> ModelStatus:
        planned, worker = self._state.models[entry.spec.id], entry.worker
        process = worker.process if worker is not None else None
        stats = process.stats if process is not None else None
        ready = planned.phase == "ready"
        expires = ready and not planned.pinned and planned.keep_alive != FOREVER
        idle_for = 0.0 if planned.leases else now - planned.idle_since
        return ModelStatus(
            spec=entry.spec,
            state=self._model_state(entry, planned, now),
            info=process.info if process is not None and ready else None,
            stats=stats,
            in_flight=planned.leases,
            queued=sum(1 for w in self._state.waiters if w.model == entry.spec.id and not w.lasting)
            + max(0, planned.leases - planned.n_parallel),
            pinned=planned.pinned,
            loaded_at=worker.loaded_at if worker is not None and ready else None,
            expires_at=time.time() + planned.keep_alive - idle_for if expires else None,
            expires=expires,
            resident_bytes=stats.resident_bytes if stats is not None else None,
            load_fraction=process.load_fraction if process is not None and planned.phase == "loading" else None,
            last_error=entry.last_error,
            pid=process.pid if process is not None else None,
            crashes=entry.crashes,
        )

    def _model_state(self, entry: _Entry, planned: planning.Model, now: float) -> ModelState:
        match planned.phase:
            case "unloaded":
                return "loading" if planned.measuring else entry.fault or "unloaded"
            case "loading":
                return "loading"
            case "stopping":
                return "draining"
            case "ready":
                held = planned.unload_mark is not None or entry.spec.id in planning.draining(self._state, now)
                return "draining" if held else "ready"
            case _:
                assert_never(planned.phase)

    # ---- what an operator asks ---------------------------------------------------------------------------------------

    async def load(self, model: str, *, n_ctx: int | None = None) -> ModelStatus:
        """See backend.Backend."""
        name = self.resolve(model).id
        self._refuse_if_closing()
        await self._order(name, n_ctx)
        return self.status(name)

    async def _order(self, model: str, n_ctx: int | None) -> None:
        """Load it whoever leaves: cancelling this call leaves the order standing. Orders for one load are one."""
        standing = next(
            (w for w in self._state.waiters if w.lasting and w.model == model and (w.n_ctx or 0) >= (n_ctx or 0)), None
        )
        waiter = standing or self._arrive(model, n_ctx=n_ctx, lasting=True)
        future = self._waiting[waiter.number]
        future.add_done_callback(lambda _: self._waiting.pop(waiter.number, None))
        await asyncio.shield(future)

    async def unload(self, model: str, *, force: bool = False) -> ModelStatus:
        """See backend.Backend. A pinned model is unloaded only by force: Conflict otherwise."""
        name = self.resolve(model).id
        planned, entry = self._state.models[name], self._entries[name]
        if planned.phase == "unloaded":
            return self.status(name)
        if planned.pinned and not force:
            raise Conflict(f"'{name}' is pinned. Unpin it first, or unload it by force.", code="model_pinned")
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry.gone.append(gone)
        if force and entry.worker is not None:
            entry.worker.process.end_requests(Cancelled(f"'{name}' was unloaded by an operator."))
            if planned.phase == "ready":
                self._begin_stop(name, "asked")
            elif planned.phase == "loading":
                self._stop_load(name, "an operator unloaded it")
        else:
            self._state = planning.unload_asked(self._state, name)
        self._settle()
        await gone
        return self.status(name)

    async def pin(self, model: str, pinned: bool) -> ModelStatus:
        """See backend.Backend."""
        name = self.resolve(model).id
        self._state = planning.pinned(self._state, name, pinned)
        self._settle()
        return self.status(name)

    async def flush(self, model: str) -> core.Flushed:
        """See backend.Backend."""
        spec = self.resolve(model)
        worker = self._entries[spec.id].worker
        if worker is None or worker.process.state != "ready":
            folder = prefix_files.folder_of(spec.id, spec.config.prefix_folder)
            return core.Flushed(0, await asyncio.to_thread(prefix_files.delete_all, folder))
        answer = await worker.process.call(core.FlushCache())
        assert isinstance(answer, core.Flushed), "the answer to FlushCache"
        return answer

    async def stats(self, model: str) -> core.WorkerStats | None:
        """See backend.Backend."""
        worker = self._entries[self.resolve(model).id].worker
        if worker is None or worker.process.state != "ready":
            return None
        answer = await worker.process.call(core.Stats())
        assert isinstance(answer, core.Measured), "the answer to Stats"
        return answer.stats

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise _shutting_down()

    async def close(self, drain_seconds: float) -> None:
        """See backend.Backend. A second call, with a shorter time, hurries the first."""
        if self._closing and drain_seconds <= 0:
            self._hurry.set()
        self._closing = True
        for waiter in self._state.waiters:
            self._refuse(waiter, _shutting_down())
        self._settle()
        await self._drained(drain_seconds)
        workers = [entry.worker for entry in self._entries.values() if entry.worker is not None]
        for worker in workers:
            worker.process.end_requests(_shutting_down())
        await asyncio.gather(self._vocabularies.close(), *(self._end(worker) for worker in workers))
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _drained(self, seconds: float) -> None:
        waits = {asyncio.ensure_future(self._idle.wait()), asyncio.ensure_future(self._hurry.wait())}
        _, pending = await asyncio.wait(waits, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()

    async def _end(self, worker: _Worker) -> None:
        if worker.task is not None and not worker.task.done():
            if not worker.stopping:  # it loads; a second cancel would cut the first one's waiting for the end short
                worker.stopping = True
                worker.task.cancel()
            await asyncio.wait({worker.task})
        else:
            worker.stopping = True
            await worker.process.stop()


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("The server is shutting down; it takes no new requests.", retry_after_seconds=5.0)


def _unexpected(model: str) -> LoadFailed:
    return LoadFailed(f"Model '{model}' can't be loaded; the server's log has the cause.")


def _as_planned(spec: ModelSpec) -> planning.Model:
    return planning.Model(
        spec.id,
        n_parallel=spec.config.n_parallel,
        n_ctx_configured=spec.config.n_ctx,
        idle_ttl=spec.idle_ttl,
        keep_alive=spec.idle_ttl,
        pinned=spec.pinned,
        pinned_configured=spec.pinned,
    )
