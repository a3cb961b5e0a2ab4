"""Cards: files are read beside the event loop, once for whoever asks meanwhile, and again when they change."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from heylook_llm.catalog import gguf_header
from heylook_llm.config import ModelSpec
from heylook_llm.errors import LoadFailed
from heylook_llm.server.backend import ModelStatus
from heylook_llm.server.cards import Cards
from tests.server.scripted import ScriptedBackend

pytestmark = pytest.mark.unit

TINY = Path(gguf_header.__file__).parents[1] / "tiny" / "heylook-tiny.gguf"
COUNT = 100


class _Library(ScriptedBackend):
    """Many models of one file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        entry = {"provider": "llama_cpp", "config": {"model_path": str(path)}}
        self.specs = [ModelSpec.model_validate({"id": f"m{at}", **entry}) for at in range(COUNT)]

    def models(self) -> list[ModelStatus]:
        """All of them, unloaded."""
        return [ModelStatus(spec, "unloaded", None) for spec in self.specs]

    def status(self, model: str) -> ModelStatus:
        """One of them."""
        return next(status for status in self.models() if status.spec.id == model)


class _Reader:
    """Reads headers once it may, and notes for which models and in which thread."""

    def __init__(self, *, fails: bool = False) -> None:
        self.models: list[str] = []
        self.threads: set[int] = set()
        self.may = threading.Event()
        self._fails = fails

    def __call__(self, path: Path, model: str) -> gguf_header.Header:
        self.may.wait(10)
        self.models.append(model)
        self.threads.add(threading.get_ident())
        if self._fails:
            raise LoadFailed("damaged")
        return gguf_header.read(path, model)


async def test_files_are_read_once_beside_the_event_loop(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(TINY.read_bytes())
    read = _Reader()
    cards = Cards(_Library(path), read)
    asked = [asyncio.create_task(cards.all()) for _ in range(3)]
    one = asyncio.create_task(cards.one("m7"))
    await asyncio.sleep(0)
    asked[0].cancel()
    read.may.set()
    listed = await asyncio.gather(*asked[1:])
    assert (await one).info is not None
    assert sorted(read.models) == sorted(f"m{at}" for at in range(COUNT))
    assert len(read.threads) == 1
    assert threading.get_ident() not in read.threads
    assert [card.digest for card in listed[0]] == [card.digest for card in listed[1]]

    await cards.all()
    assert len(read.models) == COUNT
    os.utime(path, (1, 1))
    assert (await cards.one("m7")).modified_at == 1
    assert read.models[COUNT:] == ["m7"]


async def test_a_damaged_file_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    read = _Reader(fails=True)
    read.may.set()
    cards = Cards(_Library(path), read)
    for at in range(1, 3):
        card = await cards.one("m0")
        assert (card.info, card.size_bytes, len(card.digest), len(read.models)) == (None, 4, 64, at)
