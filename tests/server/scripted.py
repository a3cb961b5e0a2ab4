"""A Backend whose models say what a test scripted: real events, no engine, no process."""

import asyncio
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from heylook_llm import core
from heylook_llm.config import ModelSpec, canonical
from heylook_llm.errors import HeylookError, ModelNotFound
from heylook_llm.server.backend import Lease, ModelChange, ModelState, ModelStatus

Step = tuple[core.Event, ...] | HeylookError | asyncio.Event
Script = Callable[[core.Request], Iterable[Step]]
"""What a model does with a request: the events of each step, an error to raise, or an asyncio.Event to wait for."""


def done(choice: int = 0, reason: core.FinishReason = "stop", *, prompt: int = 7, output: int = 3) -> core.Done:
    """The end of a choice, with a timeline that has every stamp an engine sets."""
    now = time.monotonic_ns()
    timeline = core.Timeline(
        rendered_ns=now - 8_000,
        tokenized_ns=now - 7_000,
        queued_ns=now - 6_000,
        admitted_ns=now - 5_000,
        first_token_ns=now - 4_000,
        last_token_ns=now - 1_000,
        steps=output,
        batch_sizes_seen={1: output},
    )
    usage = core.Usage(prompt_tokens=prompt, cached_tokens=2, output_tokens=output)
    return core.Done(choice, reason, usage, timeline, prompt_tokens=tuple(range(prompt)))


def says(*texts: str, reason: core.FinishReason = "stop") -> Script:
    """Every choice says these pieces, one a step."""

    def script(request: core.Request) -> Iterable[Step]:
        count = request.n * len(request.prompts)
        for at, text in enumerate(texts):
            yield tuple(core.Text(choice, text, (100 + at,)) for choice in range(count))
        yield tuple(done(choice, reason, output=len(texts)) for choice in range(count))

    return script


INFO = core.ModelInfo(
    provider="fake",
    architecture="fake",
    n_ctx=4096,
    n_ctx_trained=8192,
    n_vocab=1000,
    n_layers=2,
    n_embedding=64,
    n_parameters=2_100_000,
    quantization="F16",
    capabilities=("completion", "chat", "tools", "thinking"),
    chat_template="{{ tools }}",
    metadata={"tokenizer.ggml.tokens": ["a"] * 9, "general.name": "x"},
)


class ScriptedLease:
    """A lease on a scripted model."""

    def __init__(self, backend: "ScriptedBackend", spec: ModelSpec) -> None:
        self._backend = backend
        self.spec = spec
        self.info = backend.info
        self.load_ns: tuple[int, int] | None = None

    async def generate(self, request: core.Request) -> AsyncGenerator[tuple[core.Event, ...], None]:
        """The script's steps."""
        self._backend.requests.append(request)
        self._backend.generating += 1
        try:
            for step in self._backend.script(request):
                match step:
                    case HeylookError():
                        raise step
                    case asyncio.Event():
                        self._backend.paused.set()
                        await step.wait()
                    case _:
                        yield step
        finally:
            self._backend.generating -= 1
            self._backend.freed.set()

    async def call(self, operation: core.Operation) -> core.Answer:
        """Characters are tokens."""
        match operation:
            case core.Tokenize(prompt=core.TextPrompt(text=text)):
                pieces = tuple(c.encode() for c in text) if operation.with_pieces else ()
                return core.Tokens(tuple(map(ord, text)), pieces)
            case core.Tokenize(prompt=core.ChatPrompt(messages=messages)):
                return core.Tokens(tuple(ord(c) for m in messages for c in f"<{m.role}>{m.text}"))
            case core.Detokenize(tokens=tokens):
                return core.Rendered("".join(map(chr, tokens)))
            case core.Embed(prompts=prompts):
                vector = struct.pack("<4f", 0.5, -0.5, 0.5, 0.5)
                return core.Vectors((vector,) * len(prompts), (3,) * len(prompts), done().timeline)
            case core.Rerank(query=query, documents=documents):
                scores = tuple(float(document.count(query)) for document in documents)
                return core.Scores(scores, (5,) * len(documents), done().timeline)
            case core.Render(prompt=prompt):
                return core.Rendered("".join(f"<{m.role}>{m.text}" for m in prompt.messages))
        raise AssertionError(operation)


class ScriptedBackend:
    """One model, `scripted`, with the alias `gpt-4o`."""

    def __init__(self, script: Script | None = None, info: core.ModelInfo = INFO) -> None:
        self.script: Script = script or says("Hello", " world")
        self.info = info
        self.spec = ModelSpec.model_validate(
            {"id": "org/scripted", "aliases": ("gpt-4o", "scripted"), "provider": "fake", "config": {}}
        )
        self.requests: list[core.Request] = []
        self.acquired: list[tuple[float | None, int | None, int]] = []
        self.generating = 0
        self.paused = asyncio.Event()
        self.freed = asyncio.Event()
        self.gate: asyncio.Event | None = None
        self.refusal: HeylookError | None = None
        self.waiting = 0
        self.pinned = False
        self.loaded = True
        self.default_model: str | None = None
        self.listeners: list[Callable[[ModelChange], None]] = []

    @asynccontextmanager
    async def acquire(
        self, model: str, *, keep_alive_seconds: float | None = None, n_ctx: int | None = None, priority: int = 0
    ) -> AsyncIterator[Lease]:
        """A lease; waits for `gate`, or raises `refusal`."""
        spec = self.resolve(model)
        self.acquired.append((keep_alive_seconds, n_ctx, priority))
        if self.gate is not None:
            self.waiting += 1
            self.paused.set()
            try:
                await self.gate.wait()
            finally:
                self.waiting -= 1
                self.freed.set()
        if self.refusal is not None:
            raise self.refusal
        self.loaded = True
        yield ScriptedLease(self, spec)

    @asynccontextmanager
    async def words(self, model: str) -> AsyncIterator[Lease]:
        """Its words, which load nothing."""
        yield ScriptedLease(self, self.resolve(model))

    def resolve(self, model: str) -> ModelSpec:
        """By id or alias."""
        if canonical(model) not in {canonical(name) for name in (self.spec.id, *self.spec.aliases)}:
            raise ModelNotFound(model=model)
        return self.spec

    def follow(self, listener: Callable[[ModelChange], None]) -> None:
        """Its model never changes by itself; a test tells the listeners."""
        self.listeners.append(listener)

    def models(self) -> list[ModelStatus]:
        """The one model."""
        state: ModelState = "ready" if self.loaded else "unloaded"
        info = self.info if self.loaded else None
        return [ModelStatus(self.spec, state, info, in_flight=self.generating, pinned=self.pinned)]

    def status(self, model: str) -> ModelStatus:
        """The one model."""
        self.resolve(model)
        return self.models()[0]

    async def load(self, model: str, *, n_ctx: int | None = None) -> ModelStatus:
        """Load it."""
        self.resolve(model)
        self.loaded = True
        return self.models()[0]

    async def unload(self, model: str, *, force: bool = False) -> ModelStatus:
        """Unload it."""
        self.resolve(model)
        self.loaded = False
        return self.models()[0]

    async def pin(self, model: str, pinned: bool) -> ModelStatus:
        """Pin it."""
        self.resolve(model)
        self.pinned = pinned
        return self.models()[0]

    async def flush(self, model: str) -> core.Flushed:
        """Nothing is kept."""
        self.resolve(model)
        return core.Flushed()

    async def stats(self, model: str) -> core.WorkerStats | None:
        """Each request that is being answered is one sequence."""
        self.resolve(model)
        if not self.loaded:
            return None
        live = tuple(core.SequenceStats(at, 0, "running", 7, 7, 2, 3, 5) for at in range(self.generating))
        return core.WorkerStats(running=len(live), sequences=live)

    async def close(self, drain_seconds: float) -> None:
        """Nothing to end."""
