"""What tests of the router share: routers over fake models, requests, and waiting for a condition with a deadline."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil

from heylook_llm import config, core
from heylook_llm.server.backend import Lease
from heylook_llm.server.fit import Bytes
from heylook_llm.server.router import ModelRouter

THREE = """
max_loaded_models: 2
prewarm: false
models:
  - {id: a, provider: fake, config: {n_ctx: 4096, n_parallel: 2}}
  - {id: b, provider: fake, config: {n_ctx: 4096, n_parallel: 2}}
  - {id: c, provider: fake, config: {n_ctx: 4096, n_parallel: 2}}
"""


@contextlib.asynccontextmanager
async def routing(
    models: str = THREE, free_memory: Callable[[], Bytes | None] = lambda: None, **limits: float
) -> AsyncIterator[ModelRouter]:
    """A started router over models.yaml's text with these limits; closed at the end, and every worker gone."""
    settings = config.parse(models, Path("/nowhere/models.yaml"))
    settings = settings.model_copy(update={"limits": settings.limits.model_copy(update=limits)})
    router = ModelRouter(settings, free_memory)
    router.start()
    try:
        yield router
    finally:
        pids = [status.pid for status in router.models() if status.pid is not None]
        await router.close(0)
        assert not [pid for pid in pids if psutil.pid_exists(pid)], "orphans"


def chat(model: str, text: str, **sampling: object) -> core.Request:
    """A chat of one turn."""
    prompt = core.ChatPrompt((core.Message("user", (core.TextPart(text),)),))
    return core.Request("r", model, (prompt,), core.Sampling(**sampling))  # type: ignore[arg-type]  # test's own


async def answer(lease: Lease, request: core.Request) -> core.Result:
    """The whole reply."""
    fold = core.Fold(request.n, len(request.prompts))
    async with contextlib.aclosing(lease.generate(request)) as stream:
        async for events in stream:
            for event in events:
                fold.feed(event)
    return fold.result()


async def ask(router: ModelRouter, model: str, text: str = "hello", **acquiring: object) -> str:
    """The text of the answer."""
    async with router.acquire(model, **acquiring) as lease:  # type: ignore[arg-type]  # test's own
        return (await answer(lease, chat(model, text))).choices[0].text


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until it holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        await asyncio.sleep(0.005)


async def stats(router: ModelRouter, model: str) -> core.WorkerStats:
    """What the worker does now. Takes no lease on the model."""
    process = router._entries[model].worker
    assert process is not None
    measured = await process.process.call(core.Stats())
    assert isinstance(measured, core.Measured)
    return measured.stats


async def idle(router: ModelRouter, model: str, seconds: float = 2.0) -> None:
    """Wait until no sequence is live in the worker."""
    deadline = time.monotonic() + seconds
    while (now := await stats(router, model)).waiting or now.running:
        assert time.monotonic() < deadline, f"still busy: {now}"
        await asyncio.sleep(0.005)
