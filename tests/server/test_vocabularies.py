"""Words of models that aren't loaded: the same as loaded ones say, by few processes, which put nothing out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from heylook_llm import config, core
from heylook_llm.config import ModelSpec
from heylook_llm.errors import LoadFailed, Overloaded
from heylook_llm.server.process import WorkerProcess
from heylook_llm.server.router import ModelRouter
from heylook_llm.server.vocabularies import Vocabularies
from tests.conftest import TINY
from tests.server.routing import until

pytestmark = pytest.mark.integration

MOST = 2
MODELS = f"""
max_loaded_models: 1
models:
  - {{id: gguf, provider: llama_cpp, config: {{model_path: {TINY}, n_ctx: 512, n_threads: 1}}}}
  - {{id: mlx, provider: mlx, config: {{model_path: {TINY.parent / "heylook-tiny-mlx"}, n_ctx: 512}}}}
  - {{id: fake, provider: fake, config: {{}}}}
"""
CHAT = core.ChatPrompt(
    (core.Message("system", (core.TextPart("Be brief."),)), core.Message("user", (core.TextPart("hé"),)))
)
ASKED: tuple[core.Operation, ...] = (
    core.Tokenize(CHAT, with_pieces=True),
    core.Tokenize(core.TextPrompt("one two")),
    core.Render(CHAT),
    core.Detokenize((72, 73, 74)),
)


@contextlib.asynccontextmanager
async def routing(folder: Path) -> AsyncIterator[ModelRouter]:
    router = ModelRouter(config.parse(MODELS, folder / "models.yaml"))
    try:
        yield router
    finally:
        await router.close(0)


def children() -> set[int]:
    """The workers of this process; servers of other tests may run beside them."""
    found: set[int] = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it ends just now
            found |= {child.pid} if "heylook_llm.worker" in child.cmdline() else set()
    return found


async def test_a_vocabulary_says_what_the_loaded_model_says(tmp_path: Path) -> None:
    async with routing(tmp_path) as router:
        async with router.acquire("fake"):
            pass
        told = {}
        for model in ("gguf", "mlx"):
            async with router.words(model) as words:
                told[model] = [await words.call(operation) for operation in ASKED]
                assert {"chat", "tools"} <= set(words.info.capabilities)
        assert {status.spec.id: status.state for status in router.models()} == {
            "gguf": "unloaded",
            "mlx": "unloaded",
            "fake": "ready",
        }
        assert told["mlx"] == told["gguf"], "both are the same model"
        async with router.acquire("gguf") as lease:
            assert [await lease.call(operation) for operation in ASKED] == told["gguf"]
        async with router.words("gguf") as words:
            assert await words.call(ASKED[0]) == told["gguf"][0]
    assert not children()


def fakes(count: int) -> list[ModelSpec]:
    return [ModelSpec.model_validate({"id": f"m{at}", "provider": "fake", "config": {}}) for at in range(count)]


def vocabularies(keep_seconds: float = 60.0) -> Vocabularies:
    return Vocabularies(
        lambda spec, on_end: WorkerProcess(spec, stall_seconds=30, load_timeout_seconds=30, on_end=on_end),
        keep_seconds,
        most=MOST,
    )


async def test_they_are_few_and_shared() -> None:
    held = vocabularies()
    specs = fakes(MOST + 1)
    async with contextlib.AsyncExitStack() as stack:
        used = [await stack.enter_async_context(held.of(spec)) for spec in specs[:MOST]]
        again = await stack.enter_async_context(held.of(specs[0]))
        answers = await asyncio.gather(*(words.call(ASKED[0]) for words in (*used, again)))
        assert len(set(answers)) == 1
        assert len(children()) == MOST
        with pytest.raises(Overloaded, match="try again"):
            await stack.enter_async_context(held.of(specs[-1]))
    async with held.of(specs[-1]) as words:
        assert await words.call(ASKED[0]) == answers[0]
    await held.close()
    assert not children()


async def test_an_idle_one_ends_by_itself_and_a_changed_entry_gets_another() -> None:
    held = vocabularies(keep_seconds=0.0)
    (spec,) = fakes(1)
    async with held.of(spec):
        (first,) = children()
        changed = spec.model_copy(update={"config": spec.config.model_copy(update={"n_ctx": 99})})
        async with held.of(changed) as words:
            assert words.info.n_ctx == 99
            assert first in children()
    await until(lambda: not children(), 30)
    await held.close()


async def test_everybody_who_waits_for_a_file_that_is_missing_is_told() -> None:
    held = vocabularies()
    spec = ModelSpec.model_validate({"id": "m", "provider": "llama_cpp", "config": {"model_path": "/no/such.gguf"}})

    async def ask() -> None:
        async with held.of(spec):
            pass

    told = await asyncio.gather(ask(), ask(), return_exceptions=True)
    assert all(isinstance(error, LoadFailed) and "/no/such" not in error.message for error in told)
    await held.close()
    assert not children()
