"""Prefixes that leave the pool, and the process: real workers, stopped and started over one folder."""

import time
from pathlib import Path
from typing import Any

import pytest

from heylook_llm import core
from tests.worker.client import Client
from tests.worker.test_reuse import CHATS, GREEDY, MODELS
from tests.worker.tiers import LONG

pytestmark = pytest.mark.integration

FAKE: tuple[str, str, dict[str, Any]] = ("fake", "", {})
OTHERWISE: dict[str, dict[str, Any]] = {
    "fake": {"reply": "other"},
    "llama_cpp": {"rope_freq_base": 20000.0},
    "mlx": {"cache_type": "quantized"},
}
"""Settings of which a state is none of the others."""


@pytest.fixture(params=["fake", *MODELS])
def model(request: pytest.FixtureRequest) -> tuple[str, str, dict[str, Any]]:
    """Provider, path and options."""
    if request.param == "mlx":
        pytest.importorskip("mlx_lm", reason="mlx-lm isn't installed", exc_type=ImportError)
    return MODELS.get(request.param, FAKE)


def started(model: tuple[str, str, dict[str, Any]], folder: Path, **more: Any) -> Client:
    """A worker that keeps prefixes in this folder."""
    provider, path, options = model
    budgets = {"prefix_memory_bytes": 64 << 20, "prefix_disk_bytes": 64 << 20}
    return Client(provider, path, **{"n_ctx": 1024, **options, **budgets, "prefix_folder": str(folder), **more})


def files(folder: Path) -> list[Path]:
    """The files of saved prefixes."""
    return list(folder.rglob("*.prefix"))


def wait_for_files(client: Client, folder: Path, count: int) -> None:
    """Until the worker has written so many."""
    deadline = time.monotonic() + 30
    while len(files(folder)) < count:
        assert time.monotonic() < deadline
        client.ping()


def test_a_restart_finds_prefixes_and_a_flush_ends_them(model: tuple[str, str, dict[str, Any]], tmp_path: Path) -> None:
    with started(model, tmp_path) as client:
        fresh = []
        for prompt in CHATS[:2]:
            fresh.append(client.run(prompt, **GREEDY))
            wait_for_files(client, tmp_path, len(fresh))  # what idles is saved
    with started(model, tmp_path) as client:
        found = [client.run(prompt, **GREEDY) for prompt in CHATS[:2]]
        assert found[0].usage.cached_tokens == found[0].usage.prompt_tokens - 1
        assert found[0].timeline.cached_from == "disk"
        assert found[1].timeline.cached_from == "ended"
        assert [result.choices[0].tokens for result in found] == [result.choices[0].tokens for result in fresh]
        flushed = client.call(core.FlushCache())
        assert isinstance(flushed, core.Flushed)
        assert flushed.saved_bytes > 0
        assert files(tmp_path) == []
        assert client.run(CHATS[0], **GREEDY).usage.cached_tokens == 0


@pytest.mark.skipif(not LONG, reason="starts many workers; the files are the same for every provider")
def test_other_settings_and_damage_leave_files_unused(
    model: tuple[str, str, dict[str, Any]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with started(model, tmp_path) as client:
        fresh = client.run(CHATS[0], **GREEDY)
        wait_for_files(client, tmp_path, 1)
    with started(model, tmp_path, **OTHERWISE[model[0]]) as client:
        assert client.run(CHATS[0], **GREEDY).usage.cached_tokens == 0
    for path in files(tmp_path):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with started(model, tmp_path) as client:
        again = client.run(CHATS[0], **GREEDY)
        assert (again.usage.cached_tokens, again.choices[0].tokens) == (0, fresh.choices[0].tokens)
    assert "can't be used" in capfd.readouterr().err


def test_what_the_pool_had_no_room_for_comes_back_from_memory(model: tuple[str, str, dict[str, Any]]) -> None:
    provider, path, options = model
    prompts = [core.TextPrompt(f"{n} bottles stand on the wall. " * 24) for n in (3, 5, 7, 9)]
    with Client(provider, path, n_ctx=1024, kv_tokens=1024, prefix_memory_bytes=64 << 20, **options) as client:
        fresh = [client.run(prompt, **GREEDY) for prompt in prompts]
        assert all(result.usage.cached_tokens < 100 for result in fresh)
        again = client.run(prompts[0], **GREEDY)
        assert again.usage.cached_tokens == again.usage.prompt_tokens - 1
        assert again.choices[0].tokens == fresh[0].choices[0].tokens
