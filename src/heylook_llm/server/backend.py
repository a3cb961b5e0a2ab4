"""Where a model can be used: the seam between the HTTP program and whatever runs models.

`router.ModelRouter` is the Backend of this machine; `upstream` and `cluster` have others.
The routes know this file only.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import msgspec

from heylook_llm import core
from heylook_llm.config import ModelSpec

ModelState = Literal["unloaded", "loading", "ready", "draining", "stalled", "crashed"]


Change = Literal["loading", "loaded", "failed", "evicted", "crashed"]


class ModelStatus(msgspec.Struct, frozen=True):
    """What is so of one model now. Bytes come from the engine; None is unknown."""

    spec: ModelSpec
    state: ModelState
    info: core.ModelInfo | None = None
    stats: core.WorkerStats | None = None
    in_flight: int = 0
    queued: int = 0
    """Requests that wait for this model to be loaded or for a place in its worker."""
    pinned: bool = False
    loaded_at: float | None = None
    """Wall clock, seconds since 1970."""
    expires_at: float | None = None
    """Wall clock of the idle unload; None: never, or not loaded."""
    expires: bool = False
    resident_bytes: int | None = None
    load_fraction: float | None = None
    last_error: str | None = None
    pid: int | None = None
    crashes: int = 0


class ModelChange(msgspec.Struct, frozen=True):
    """Something that happened to a model."""

    model: str
    provider: str
    kind: Change
    at: float
    """Wall clock, seconds since 1970."""
    seconds: float | None = None
    """loaded: how long loading took; evicted, crashed: how long it had been loaded."""
    reason: str | None = None
    """evicted: place, memory, reload, idle or asked (by an operator); failed, crashed: what went wrong."""
    resident_bytes: int | None = None
    """Main memory of its process: when it was loaded, or last measured before its end."""
    peak_resident_bytes: int | None = None
    """The most that it held until then."""


class Lease(Protocol):
    """The right to use one loaded model, held until its context ends. While held, the model is not evicted."""

    @property
    def spec(self) -> ModelSpec:
        """The model's registry entry."""
        ...

    @property
    def info(self) -> core.ModelInfo:
        """What the engine says of it."""
        ...

    @property
    def load_ns(self) -> tuple[int, int] | None:
        """When loading began and ended, if this lease waited for a load; None: it was already loaded."""
        ...

    def generate(self, request: core.Request) -> AsyncGenerator[tuple[core.Event, ...], None]:
        """The events of a request, all those of one engine step together.

        Ends after the last choice's Done. An error is raised as an exception of the tree (never yielded as Failed).
        Closing the generator cancels the request; that is the only way to cancel it.
        """
        ...

    async def call(self, operation: core.Operation) -> core.Answer:
        """Ask a unary operation. Raises the tree's exceptions."""
        ...


class Words(Protocol):
    """A model's vocabulary and template, whether or not its weights are loaded."""

    @property
    def info(self) -> core.ModelInfo:
        """What the engine, or the file, says of the model."""
        ...

    async def call(self, operation: core.Operation) -> core.Answer:
        """Ask Tokenize, Detokenize or Render. Raises the tree's exceptions."""
        ...


class Backend(Protocol):
    """Where models can be used."""

    @property
    def default_model(self) -> str | None:
        """What a request on /v1 without a model gets; None: such a request is refused."""
        ...

    def acquire(
        self, model: str, *, keep_alive_seconds: float | None = None, n_ctx: int | None = None, priority: int = 0
    ) -> AbstractAsyncContextManager[Lease]:
        """A lease on a model, by id or alias; loads it if need be, waits its turn, or refuses.

        keep_alive_seconds: None: leave the idle time as it is; 0: unload as soon as idle; inf: never unload.
        n_ctx: the context asked for; beyond the loaded one it reloads, only when idle.
        Raises ModelNotFound, LoadFailed, InsufficientMemory, Overloaded, ShuttingDown. Leaving the wait (cancellation)
        frees its place; a load that nobody waits for any more is stopped.
        """
        ...

    def words(self, model: str) -> AbstractAsyncContextManager[Words]:
        """A model's words, by id or alias. One that isn't loaded stays so, and none is evicted for it.

        Raises ModelNotFound, LoadFailed, Overloaded, ShuttingDown.
        """
        ...

    def resolve(self, model: str) -> ModelSpec:
        """The entry of an id or alias, `name` matching `name:latest`, case-insensitively. Raises ModelNotFound."""
        ...

    def follow(self, listener: Callable[[ModelChange], None]) -> None:
        """Tell the listener of every change from now on, on the event loop's thread; it must return at once."""
        ...

    def models(self) -> list[ModelStatus]:
        """Every enabled model, in the registry's order."""
        ...

    def status(self, model: str) -> ModelStatus:
        """One model's status. Raises ModelNotFound."""
        ...

    async def load(self, model: str, *, n_ctx: int | None = None) -> ModelStatus:
        """Load it, or join the load in flight."""
        ...

    async def unload(self, model: str, *, force: bool = False) -> ModelStatus:
        """Unload it once idle (new requests wait behind and reload it); `force` ends its requests with an error."""
        ...

    async def pin(self, model: str, pinned: bool) -> ModelStatus:
        """Pin or unpin it: a pinned model is neither evicted nor expires."""
        ...

    async def flush(self, model: str) -> core.Flushed:
        """Drop the prefixes that a model keeps: of a loaded one in its pool and in memory, and of any on disk."""
        ...

    async def stats(self, model: str) -> core.WorkerStats | None:
        """What a loaded model does now, with its sequences; None: it isn't loaded. No lease, so it stays as idle."""
        ...

    async def close(self, drain_seconds: float) -> None:
        """Refuse new leases, let held ones end for at most that long, then end every worker."""
        ...
