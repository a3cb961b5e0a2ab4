"""The parent's half of one worker process: start it, speak frames with it, watch it, end it.

The child is spawned by the event loop's thread, and that thread must live as long as the worker: on Linux the worker
asks for a signal at its parent's death, and the kernel sends it when the spawning *thread* ends.

The hot path is one callback per read: decode, then append each event to its request's list and wake the one consumer.
Nothing here waits for a consumer; what a slow one leaves lying is folded together.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, cast

import msgspec
import psutil

from heylook_llm import core, pipe
from heylook_llm.config import ModelSpec
from heylook_llm.errors import (
    Cancelled,
    EngineError,
    HeylookError,
    InsufficientMemory,
    LoadFailed,
    ProtocolError,
    WorkerDied,
)

log = logging.getLogger(__name__)

STDERR_LINES: Final = 50
STDERR_LINE_BYTES: Final = 2000
PING_SECONDS: Final = 1.0
STOP_GRACE_SECONDS: Final = 2.0
FOLD_AT_EVENTS: Final = 512
MAX_UNREAD_LOGPROBS: Final = 100_000
"""Alternatives that a reader may leave lying, some 15 MB; their request is ended then. Text is far smaller."""
LAST_WORDS_SECONDS: Final = 0.25
PREPARE_STALLS: Final = 10
FOLDER_PREFIX: Final = "heylook-worker-"

ENVIRONMENT_NAMES: Final = frozenset(
    [
        "PATH",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "DYLD_FALLBACK_LIBRARY_PATH",
        "PYTHONPATH",
        "PYTHONHASHSEED",
        "PYTHONFAULTHANDLER",
        "VIRTUAL_ENV",
        "COVERAGE_PROCESS_START",
        "COVERAGE_PROCESS_CONFIG",
        "GLIBC_TUNABLES",
    ]
)
ENVIRONMENT_PREFIXES: Final = (
    *(
        "LC_",
        "OMP_",
        "GOMP_",
        "KMP_",
        "MKL_",
        "OPENBLAS_",
        "GGML_",
        "LLAMA_",
        "MLX_",
        "MTL_",
        "METAL_",
        "HEYLOOK_WORKER_",
    ),
    *("CUDA_", "NVIDIA_", "NCCL_", "ROCR_", "ROCM_", "HSA_", "HIP_", "GPU_", "AMD_", "VK_", "MESA_", "ONEAPI_", "ZE_"),
)
SECRET_WORDS: Final = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "APIKEY", "ACCESS_KEY", "AUTH")

State = Literal["loading", "ready", "ended"]
Fault = Literal["crashed", "stalled"]


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What of our environment a worker gets: search paths, locale, engines' switches. No keys, no tokens, no HOME.

    A failed assertion of ggml would start a debugger on the worker, whose output buries the assertion. malloc asks
    Linux for large pages: weights are read from end to end for each token (worker/providers/llama_cpp_pages.py).
    """
    return {"GGML_NO_BACKTRACE": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} | {
        name: value
        for name, value in environment.items()
        if (name in ENVIRONMENT_NAMES or name.startswith(ENVIRONMENT_PREFIXES))
        and not any(word in name.upper() for word in SECRET_WORDS)
    }


def remove_left_folders() -> None:
    """Remove the empty working folders of workers whose server was killed before it could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        server = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if server.isdigit() and not psutil.pid_exists(int(server)):
            with contextlib.suppress(OSError):  # another user's, or not empty
                folder.rmdir()


class Watch:
    """Decides when a worker has stalled. Counts only time in which this process itself ran (no mass kill on resume)."""

    def __init__(self, stall_seconds: float, load_seconds: float, now: float) -> None:
        self._stall_seconds = stall_seconds
        self._load_seconds = load_seconds
        self.interval_seconds = min(PING_SECONDS, stall_seconds / 4, load_seconds / 4)
        self._ticked_at = now
        self._unloaded_for = self._silent_for = self._stuck_for = self._unprepared_for = 0.0
        self._steps = -1
        self._images = 0
        self._scheduled = 0
        self._ready = False

    def loading(self) -> None:
        """The load advanced."""
        self._unloaded_for = 0.0

    def ready(self) -> None:
        """The load ended; from now on pings and steps count."""
        self._ready = True
        self._silent_for = self._stuck_for = self._unprepared_for = 0.0

    def pong(self, stats: core.WorkerStats) -> None:
        """The worker answered."""
        self._silent_for = 0.0
        self._scheduled = stats.waiting + stats.running
        if stats.steps != self._steps:
            self._steps = stats.steps
            self._stuck_for = self._unprepared_for = 0.0
        if stats.images != self._images:  # a prompt may hold many of them
            self._images = stats.images
            self._unprepared_for = 0.0

    def tick(self, now: float, live: int) -> str | None:
        """Time has passed and `live` requests are in the worker; returns what is wrong with it, or None.

        A request that is still being rendered and tokenized needs no step: it has ten times as long.
        """
        awake = min(now - self._ticked_at, 2 * self.interval_seconds)
        self._ticked_at = now
        if not self._ready:
            self._unloaded_for += awake
            return "no progress while loading" if self._unloaded_for > self._load_seconds else None
        self._silent_for += awake
        self._stuck_for = self._stuck_for + awake if live and self._scheduled else 0.0
        self._unprepared_for = self._unprepared_for + awake if live and not self._scheduled else 0.0
        if self._silent_for > self._stall_seconds:
            return "no answer to pings"
        if self._stuck_for > self._stall_seconds:
            return "no step while requests wait"
        return "no prompt got ready" if self._unprepared_for > PREPARE_STALLS * self._stall_seconds else None


class Stderr:
    """The last lines that a worker wrote to stderr; a flood costs no more than its tail."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._partial = b""
        self.lines: deque[str] = deque(maxlen=STDERR_LINES)

    def feed(self, data: bytes) -> None:
        """Take what was read, in any cuts."""
        keep = STDERR_LINES * STDERR_LINE_BYTES
        *whole, self._partial = (self._partial + data)[-keep:].split(b"\n")
        self._partial = self._partial[-STDERR_LINE_BYTES:]
        for line in whole[-STDERR_LINES:]:
            self._add(line)

    def end(self) -> None:
        """There is no more: the last line may lack its end."""
        if self._partial:
            self._add(self._partial)
            self._partial = b""

    def _add(self, line: bytes) -> None:
        text = line[:STDERR_LINE_BYTES].decode("utf-8", "replace").rstrip()
        self.lines.append(text)
        log.debug("worker %s: %s", self._name, text)


class _Stream:
    """The events of one request that its consumer has not taken yet."""

    __slots__ = ("choices", "error", "events", "fold_at", "has_done", "waiter")

    def __init__(self, choices: int) -> None:
        self.choices = choices
        self.has_done = False
        self.events: list[core.Event] = []
        self.error: HeylookError | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.fold_at = FOLD_AT_EVENTS

    def wake(self) -> None:
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, error: HeylookError) -> None:
        if self.error is None:
            self.error = error
        self.wake()

    def take(self) -> tuple[core.Event, ...]:
        events = tuple(self.events)
        self.events.clear()
        return events

    def fold(self) -> None:
        """Bound what a slow consumer costs: runs of one choice's text become one event."""
        self.events = fold_events(self.events)
        self.fold_at = max(FOLD_AT_EVENTS, 2 * len(self.events))

    @property
    def unread_logprobs(self) -> int:
        held = (logprob for event in self.events for logprob in getattr(event, "logprobs", ()))
        return sum(1 + len(logprob.top) for logprob in held)


def fold_events(events: list[core.Event]) -> list[core.Event]:
    """The same events in fewer, choice by choice: pieces of one text are joined, superseded Progress is dropped."""
    latest = {_choice(event): event for event in events if isinstance(event, core.Progress)}
    kept = [event for event in events if not isinstance(event, core.Progress) or _tells(event, latest)]
    folded: list[core.Event] = []
    for _, group in itertools.groupby(sorted(kept, key=_choice), key=_fold_key):
        run = list(group)
        folded.append(run[0] if len(run) == 1 else _joined(run))
    return folded


def _tells(event: core.Progress, latest: Mapping[int, core.Progress]) -> bool:
    """Whether a Progress says what no later one of its choice does."""
    return event is latest[event.choice] or bool(event.prompt or event.left_out or event.prompt_logprobs)


def _choice(event: core.Event) -> int:
    return 0 if isinstance(event, core.Failed) else event.choice


def _fold_key(event: core.Event) -> tuple[object, ...]:
    match event:
        case core.Text() | core.Reasoning():
            return type(event), event.choice
        case core.ToolCallArgs():
            return type(event), event.choice, event.index
        case _:
            return (id(event),)


def _joined(run: list[core.Event]) -> core.Event:
    pieces = cast(list[core.Text], run)  # or Reasoning, ToolCallArgs: the same three fields
    return msgspec.structs.replace(
        pieces[0],
        text="".join(piece.text for piece in pieces),
        tokens=tuple(itertools.chain.from_iterable(piece.tokens for piece in pieces)),
        logprobs=tuple(itertools.chain.from_iterable(piece.logprobs for piece in pieces)),
    )


class _Outbox:
    """Frames on their way to the worker. Long messages go piece by piece, and short ones pass between the pieces."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._encoder = pipe.Encoder()
        self._long: deque[tuple[int | None, Iterator[bytes]]] = deque()
        self._begun = False
        self._late_cancels: set[int] = set()
        self._paused = False

    def send(self, message: core.Downward) -> None:
        frames = self._encoder.frames(message)
        first = next(frames)
        second = next(frames, None)
        if second is None:
            self._write(first)
            return
        number = _number(message)
        self._long.append((number, itertools.chain((first, second), frames)))
        self._pump()

    def cancel(self, request: int) -> None:
        """Stop a request: one not yet sent never is; one half sent is finished first, so that Cancel finds it."""
        for at, (number, _) in enumerate(self._long):
            if number == request and at == 0 and self._begun:
                self._late_cancels.add(request)
                return
            if number == request:
                del self._long[at]
                return
        self.send(core.Cancel(request))

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._pump()

    def _pump(self) -> None:
        while self._long and not self._paused:
            number, frames = self._long[0]
            frame = next(frames, None)
            self._begun = frame is not None
            if frame is not None:
                self._write(frame)
                continue
            self._long.popleft()
            if number in self._late_cancels:
                self._late_cancels.discard(number)
                self.send(core.Cancel(number))


def _number(message: core.Downward) -> int | None:
    """What a Cancel of it would name."""
    match message:
        case core.Submit():
            return message.request
        case core.Call():
            return message.call
    return None


class WorkerProcess(asyncio.SubprocessProtocol):
    """One worker: loading, then ready, then ended; never reused. All methods belong to the event loop's thread."""

    def __init__(
        self,
        spec: ModelSpec,
        *,
        stall_seconds: float,
        load_timeout_seconds: float,
        on_end: Callable[["WorkerProcess"], None] = lambda process: None,
    ) -> None:
        self.spec = spec
        self.state: State = "loading"
        self.info: core.ModelInfo | None = None
        self.stats: core.WorkerStats | None = None
        self.load_fraction = 0.0
        self.pid: int | None = None
        self.fault: Fault | None = None
        """Why it ended, if not because we asked."""
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._watch = Watch(stall_seconds, load_timeout_seconds, time.monotonic())
        self._stderr = Stderr(spec.id)
        self._decoder: pipe.Decoder[core.Upward] = pipe.Decoder(core.Upward)  # type: ignore[arg-type]  # a union
        self._numbers = itertools.count(1)
        self._live: dict[int, _Stream] = {}
        self._calls: dict[int, asyncio.Future[core.Answer]] = {}
        self._computed: set[int] = set()
        """The calls that the engine computes in steps."""
        self._loaded: asyncio.Future[core.ModelInfo] = self._loop.create_future()
        self._exited: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.SubprocessTransport | None = None
        self._outbox = _Outbox(self._write)
        self._ticker: asyncio.TimerHandle | None = None
        self._folder = ""
        self._asked_to_end = False
        self._signalled = False
        self._died_itself = False
        self._refused = False
        self._reported = False

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self, load: core.Load) -> core.ModelInfo:
        """Spawn the worker and load its model. Raises LoadFailed, InsufficientMemory or what the worker refused with.

        On an error, or when this call is cancelled, the process is gone before it returns.
        """
        try:
            await self._spawn()
            self._send(load)
            self._tick()
            return await asyncio.shield(self._loaded)
        except OSError as error:
            raise LoadFailed(f"The engine of '{self.spec.id}' can't be started: {error.strerror}.") from error
        finally:
            if self.state != "ready":
                await self.kill()

    async def _spawn(self) -> None:
        self._folder = tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-")
        transport, _ = await self._loop.subprocess_exec(
            lambda: self,
            *(sys.executable, "-P", "-m", "heylook_llm.worker"),
            cwd=self._folder,
            env=worker_environment(os.environ),
            close_fds=True,
            # Ctrl-C in the terminal signals its whole process group; our workers must outlive it to drain.
            start_new_session=True,
        )
        _forbid_core_dump(transport.get_pid())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self.pid = self._transport.get_pid()

    async def stop(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """End the process: end of input, SIGTERM, SIGKILL, each after a grace. What is live gets WorkerDied."""
        self._asked_to_end = True
        if self._transport is not None and (stdin := self._transport.get_pipe_transport(0)) is not None:
            stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if await self._wait_exit(grace_seconds):
                break
            self._signal(number)
        await self._gone()

    async def kill(self) -> None:
        """End the process at once and wait until it is gone."""
        self._asked_to_end = True
        self._signal(signal.SIGKILL)
        await self._gone()

    def end_requests(self, error: HeylookError) -> None:
        """Give every live request and call this error: a copy each, for a raised one grows a traceback."""
        told = core.ErrorInfo.of(error)
        live, self._live = self._live, {}
        for stream in live.values():
            stream.fail(told.exception())
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(told.exception())

    async def _wait_exit(self, seconds: float) -> bool:
        if self._transport is None:
            return True
        await asyncio.wait((self._exited,), timeout=seconds)
        return self._exited.done()

    async def _gone(self) -> None:
        if self._transport is not None:
            await asyncio.shield(self._exited)
        self._end(None)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        """To the worker's whole process group: start_new_session made it the leader, so what it forked goes too."""
        if self.pid is not None and not self._exited.done():
            self._signalled = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    # ---- requests ----------------------------------------------------------------------------------------------------

    @property
    def live(self) -> int:
        """Requests in the worker, and calls that the engine computes."""
        return len(self._live) + len(self._computed)

    async def submit(self, request: core.Request) -> AsyncGenerator[tuple[core.Event, ...], None]:
        """The events of a request, those of one step together; ends after the last Done. Closing it cancels."""
        number, stream = next(self._numbers), _Stream(len(request.prompts) * request.n)
        self._require_ready()
        submitted_ns = time.monotonic_ns()
        self._live[number] = stream
        try:
            self._send(core.Submit(number, request))
            while stream.choices or stream.events:
                if not stream.events:
                    if stream.error is not None:
                        raise stream.error
                    stream.waiter = self._loop.create_future()
                    await stream.waiter
                    continue
                if stream.has_done:
                    stream.has_done = False
                    yield _stamp(stream.take(), submitted_ns)
                else:
                    yield stream.take()
        finally:
            if self._live.pop(number, None) is not None and self.state == "ready":
                self._outbox.cancel(number)

    async def call(self, operation: core.Operation) -> core.Answer:
        """Ask a unary operation. Raises the tree's exceptions. Cancelling it stops one that takes the engine's time."""
        self._require_ready()
        number = next(self._numbers)
        future: asyncio.Future[core.Answer] = self._loop.create_future()
        self._calls[number] = future
        computed = isinstance(operation, core.Embed | core.Rerank)
        if computed:
            self._computed.add(number)
        try:
            self._send(core.Call(number, operation))
            return await future
        finally:
            self._calls.pop(number, None)
            self._computed.discard(number)
            if computed and future.cancelled() and self.state == "ready":
                self._outbox.cancel(number)

    def _require_ready(self) -> None:
        if self.state != "ready":
            raise self._died()

    def _died(self) -> WorkerDied:
        why = "made no progress and was ended" if self.fault == "stalled" else "ended"
        return WorkerDied(
            f"The engine of '{self.spec.id}' {why} with this request in it; send the request again.",
            retry_after_seconds=1.0,
        )

    # ---- frames ------------------------------------------------------------------------------------------------------

    def _send(self, message: core.Downward) -> None:
        self._outbox.send(message)

    def _write(self, data: bytes) -> None:
        if self._transport is None or (stdin := self._transport.get_pipe_transport(0)) is None:
            return
        if not stdin.is_closing():
            cast(asyncio.WriteTransport, stdin).write(data)

    def pause_writing(self) -> None:
        """The worker's stdin is full."""
        self._outbox.pause()

    def resume_writing(self) -> None:
        """The worker's stdin takes more."""
        self._outbox.resume()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """The worker wrote frames (1) or log lines (2)."""
        if fd == 2:
            self._stderr.feed(data)
            return
        try:
            for message in self._decoder.feed(data):
                self._dispatch(message)
        except ProtocolError as error:
            log.error("worker %s broke the frame protocol and is ended: %s", self.spec.id, error.message)
            self._end("crashed")

    def _dispatch(self, message: core.Upward) -> None:
        match message:
            case core.Step():
                self._events(message)
            case core.Pong():
                self.stats = message.stats
                self._watch.pong(message.stats)
            case core.Returned():
                if (future := self._calls.get(message.call)) is not None and not future.done():
                    future.set_result(message.answer)
            case core.Failure():
                if (future := self._calls.get(message.call)) is not None and not future.done():
                    future.set_exception(message.error.exception())
            case core.LoadProgress():
                self.load_fraction = message.fraction
                self._watch.loading()
            case core.Ready():
                self._ready(message.info)
            case core.Refused():
                self._refused = True
                self._settle_load(message.error.exception())

    def _events(self, step: core.Step) -> None:
        live = self._live
        for number, event in step.events:
            stream = live.get(number)
            if stream is None:
                continue  # cancelled; these were on their way
            kind = type(event)
            if kind is core.Failed:
                del live[number]
                stream.fail(cast(core.Failed, event).error.exception())
                continue
            events = stream.events
            events.append(event)
            if kind is core.Done:
                stream.has_done = True
                stream.choices -= 1
                if not stream.choices:
                    del live[number]
            elif len(events) >= stream.fold_at:
                stream.fold()
                if stream.unread_logprobs > MAX_UNREAD_LOGPROBS:
                    self._give_up(number, stream)
            if stream.waiter is not None:
                stream.wake()

    def _give_up(self, number: int, stream: _Stream) -> None:
        """End a request whose reader leaves more lying than this process should hold."""
        del self._live[number]
        stream.events.clear()
        stream.fail(Cancelled("The reply was read too slowly, and too many log probabilities lay unread."))
        self._outbox.cancel(number)

    def _ready(self, info: core.ModelInfo) -> None:
        self.info, self.state = info, "ready"
        self._watch.ready()
        if not self._loaded.done():
            self._loaded.set_result(info)

    def _settle_load(self, error: HeylookError) -> None:
        if not self._loaded.done():
            self._loaded.set_exception(error)
            self._loaded.exception()  # seen: a cancelled load has no one left to tell

    # ---- watching and death ------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.state == "ended":
            return
        if self.state == "ready":
            self._send(core.Ping(0))
        if (trouble := self._watch.tick(time.monotonic(), self.live)) is not None:
            log.error("worker %s (pid %s) is ended: %s", self.spec.id, self.pid, trouble)
            self._end("stalled")
            return
        self._ticker = self._loop.call_later(self._watch.interval_seconds, self._tick)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """A pipe closed; stdout's end is the death notice, and every event before it has been taken."""
        if fd == 1:
            self._died_itself = self._died_itself or not self._signalled
            self._end(None if self._asked_to_end else "crashed")

    def process_exited(self) -> None:
        """The process is reaped. Its last frames may still lie in the pipe; whatever it forked must not hold them."""
        self._died_itself = self._died_itself or not self._signalled
        if not self._exited.done():
            self._exited.set_result(None)
        self._loop.call_later(LAST_WORDS_SECONDS, self._last_words)
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _last_words(self) -> None:
        self._end(None if self._asked_to_end else "crashed")
        self._stderr.end()
        self._report()
        if self._transport is not None:
            self._transport.close()

    def _report(self) -> None:
        """Once: the last lines of a worker that failed, or of one that couldn't load; many such causes stand there."""
        lines = "\n".join(self._stderr.lines)
        if self._reported:
            return
        if self.fault is not None:
            self._reported = True
            ended = (self.spec.id, self.pid, self._exit_name(), lines or "(none)")
            log.error("worker %s (pid %s) ended with %s; its last lines:\n%s", *ended)
        elif self._refused and lines:
            self._reported = True
            log.warning("worker %s couldn't load; its last lines:\n%s", self.spec.id, lines)

    def _exit_name(self) -> str:
        code = self._transport.get_returncode() if self._transport is not None else None
        return _signal_name(-code) if code is not None and code < 0 else f"exit status {code}"

    def _end(self, fault: Fault | None) -> None:
        """The worker is of no more use: kill what is left of it and end what is in it. Idempotent."""
        if self.state == "ended":
            return
        was_loading, self.state, self.fault = self.state == "loading", "ended", fault
        if self._ticker is not None:
            self._ticker.cancel()
        if not self._asked_to_end:
            self._signal(signal.SIGKILL)
        if was_loading:
            self._loop.create_task(self._explain_failed_load())
        self.end_requests(self._died())
        self._on_end(self)

    async def _explain_failed_load(self) -> None:
        await self._wait_exit(STOP_GRACE_SECONDS)
        self._settle_load(self._load_error())

    def _load_error(self) -> HeylookError:
        name, code = self.spec.id, self._transport.get_returncode() if self._transport is not None else None
        if self.fault == "stalled":
            return LoadFailed(f"Loading '{name}' got no further and was given up.")
        if code == -signal.SIGKILL and self._died_itself:
            return InsufficientMemory(
                f"The system ended the engine of '{name}' while it was loading, most likely for lack of memory.",
                retry_after_seconds=10.0,
            )
        if self._asked_to_end:
            return EngineError(f"Loading '{name}' was stopped.")
        return LoadFailed(f"The engine ended while loading '{name}'; the model's file may be damaged.")


def _stamp(events: tuple[core.Event, ...], submitted_ns: int) -> tuple[core.Event, ...]:
    """Done's Timeline also says when the request was handed to the worker."""
    return tuple(
        msgspec.structs.replace(event, timeline=msgspec.structs.replace(event.timeline, submitted_ns=submitted_ns))
        if isinstance(event, core.Done)
        else event
        for event in events
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _forbid_core_dump(pid: int) -> None:
    """A worker's memory holds prompts and must not reach a core file. Linux lets us say so from outside."""
    if sys.platform == "linux":
        import resource  # noqa: PLC0415 (absent on Windows)

        with contextlib.suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
