"""Models that aren't loaded, as far as counting needs them: workers that read a vocabulary and leave the weights alone.

They take no place of a loaded model, and are few: each stays for a while, so that a client that counts before every
turn waits for one only once.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from heylook_llm import core
from heylook_llm.config import ModelSpec
from heylook_llm.errors import HeylookError, Overloaded, ShuttingDown
from heylook_llm.server import measure
from heylook_llm.server.process import WorkerProcess

MOST: Final = 4
"""How many at once; a large vocabulary takes some hundred megabytes."""
KEEP_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 1.0

NewProcess = Callable[[ModelSpec, Callable[[WorkerProcess], None]], WorkerProcess]


class Words:
    """See backend.Words."""

    def __init__(self, process: WorkerProcess, info: core.ModelInfo) -> None:
        self._process = process
        self._info = info

    @property
    def info(self) -> core.ModelInfo:
        """What the file says of the model."""
        return self._info

    async def call(self, operation: core.Operation) -> core.Answer:
        """Ask Tokenize, Detokenize or Render."""
        return await self._process.call(operation)


class _Open:
    """One worker, who uses it, and when it ends."""

    def __init__(self, spec: ModelSpec, process: WorkerProcess, loaded: "asyncio.Task[core.ModelInfo]") -> None:
        self.spec = spec
        self.process = process
        self.loaded = loaded
        self.users = 0
        self.timer: asyncio.TimerHandle | None = None

    def serves(self, spec: ModelSpec) -> bool:
        """Whether it is of this entry of the registry, as it stands now."""
        return self.spec.loaded_parts == spec.loaded_parts


class Vocabularies:
    """The workers of one server, by model. All methods belong to the event loop's thread."""

    def __init__(self, new_process: NewProcess, keep_seconds: float = KEEP_SECONDS, most: int = MOST) -> None:
        self._new_process = new_process
        self._most = most
        self._keep_seconds = keep_seconds
        self._open: dict[str, _Open] = {}
        """The least recently used first."""
        self._ending: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def of(self, spec: ModelSpec) -> AsyncIterator[Words]:
        """A model's words; starts a worker or joins one. Raises LoadFailed, Overloaded."""
        held = self._held(spec)
        held.users += 1
        try:
            yield Words(held.process, await _loaded(held))
        finally:
            held.users -= 1
            self._rest(held)

    def _held(self, spec: ModelSpec) -> _Open:
        held = self._open.pop(spec.id, None)
        if held is not None and not held.serves(spec):
            self._leave(held)
            held = None
        held = held or self._start(spec)
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None
        self._open[spec.id] = held
        return held

    def _start(self, spec: ModelSpec) -> _Open:
        if len(self._open) >= self._most:
            idle = next((name for name, held in self._open.items() if not held.users), None)
            if idle is None:
                raise Overloaded(
                    f"The tokens of {self._most} models that aren't loaded are being counted; try again in "
                    f"{RETRY_SECONDS:.0f} s.",
                    retry_after_seconds=RETRY_SECONDS,
                )
            self._leave(self._open.pop(idle))
        process = self._new_process(spec, self._died)
        load = core.Load(
            spec.id,
            spec.provider,
            spec.config.model_path,
            spec.config.model_dump(mode="json"),
            vocabulary_only=True,
            system=spec.system,
            messages=spec.turns,
        )
        loaded = asyncio.get_running_loop().create_task(_load(process, load))
        held = _Open(spec, process, loaded)
        loaded.add_done_callback(lambda task: self._started(held, task))
        return held

    def _started(self, held: _Open, task: "asyncio.Task[core.ModelInfo]") -> None:
        if task.cancelled() or task.exception() is not None:
            self._forget(held)

    def _died(self, process: WorkerProcess) -> None:
        for held in [held for held in self._open.values() if held.process is process]:
            self._forget(held)

    def _forget(self, held: _Open) -> None:
        """Whoever asks next gets another one."""
        if self._open.get(held.spec.id) is held:
            del self._open[held.spec.id]
        self._leave(held)

    def _rest(self, held: _Open) -> None:
        """Nobody may use it any more: it ends after a while, or at once where another has taken its place."""
        if held.users:
            return
        if self._open.get(held.spec.id) is not held:
            self._leave(held)
        elif held.timer is None:
            held.timer = asyncio.get_running_loop().call_later(self._keep_seconds, self._forget, held)

    def _leave(self, held: _Open) -> None:
        """End it as soon as nobody uses it."""
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None
        if not held.users:
            task = asyncio.get_running_loop().create_task(_end(held))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End them all."""
        opened, self._open = list(self._open.values()), {}
        for held in opened:
            held.users = 0
            self._leave(held)
        while self._ending:
            await asyncio.wait(self._ending)


async def _load(process: WorkerProcess, load: core.Load) -> core.ModelInfo:
    """Our own reader sees the files first, so that a damaged one starts no engine. Raises LoadFailed."""
    await asyncio.to_thread(measure.need, process.spec)
    return await process.start(load)


async def _loaded(held: _Open) -> core.ModelInfo:
    """What it loaded. An error is a copy for each who waits: a raised one grows a traceback."""
    await asyncio.wait((held.loaded,))
    if held.loaded.cancelled():
        raise ShuttingDown("The server is shutting down; it takes no new requests.", retry_after_seconds=5.0)
    try:
        return held.loaded.result()
    except HeylookError as error:
        raise core.ErrorInfo.of(error).exception() from None


async def _end(held: _Open) -> None:
    if not held.loaded.done():
        held.loaded.cancel()  # the process is gone once start() has returned
        await asyncio.wait((held.loaded,))
    await held.process.stop()
