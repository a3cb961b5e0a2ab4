"""Fixtures that several folders share."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Running, running

TINY = Path(__file__).parent.parent / "src" / "heylook_llm" / "tiny" / "heylook-tiny.gguf"
FAKES = """
default_model: fake
max_loaded_models: 2
models:
  - {id: fake, aliases: [gpt-4o, org/fake], provider: fake, config: {n_ctx: 2048, n_parallel: 8}}
  - {id: slow, provider: fake, config: {n_ctx: 2048, decode_tokens_per_second: 50}}
  - {id: heavy, provider: fake, config: {load_seconds: 30}}
  - {id: broken, provider: fake, config: {load_error: the file is damaged}}
"""
REAL = """
default_model: heylook-tiny
models:
  - {id: heylook-tiny, aliases: [gpt-4o], provider: llama_cpp, config: {model_path: MODEL, n_ctx: 4096, n_threads: 1}}
"""


def pytest_collection_finish() -> None:
    """Thousands of tests and all that they import live to the end: no collection of garbage need look at them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def fake_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over fake models: `fake`, `slow` (50 tokens/s), `heavy` (loads for 30 s), `broken` (can't load)."""
    with running(FAKES, tmp_path_factory.mktemp("fakes"), pace={"tick_seconds": 0.05, "silence_seconds": 0.3}) as it:
        yield it


@pytest.fixture(scope="session")
def tiny_path() -> Path:
    """The bundled GGUF."""
    return TINY


@pytest.fixture(scope="session")
def tiny_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over the bundled tiny model."""
    with running(REAL.replace("MODEL", str(TINY)), tmp_path_factory.mktemp("tiny")) as it:
        yield it
