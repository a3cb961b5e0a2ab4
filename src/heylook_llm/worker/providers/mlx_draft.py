"""A smaller MLX model beside the one that is served: its own weights and caches, one argmax for each guess."""

import importlib
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any, Final

from heylook_llm import core
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.worker.drafting import Drafts
from heylook_llm.worker.providers import mlx_loading
from heylook_llm.worker.providers.base import Feed, OutOfCells
from heylook_llm.worker.providers.mlx_memory import Memory
from heylook_llm.worker.providers.mlx_vocabulary import Vocabulary

mx: Any = importlib.import_module("mlx.core")

MOST_TOKENS_APART: Final = 128
"""Vocabularies are padded to different sizes."""


class DraftModel:
    """The drafting.Computer of MLX."""

    def __init__(
        self, load: core.Load, info: core.ModelInfo, vocabulary: Vocabulary, *, slots: int, on_processor: bool
    ) -> None:
        """Loads `draft_model_path` with as many slots and cells as the model has. Raises LoadFailed."""
        folder = Folder(Path(load.options["draft_model_path"]), load.model)
        if reason := _difference(vocabulary, Vocabulary(folder, load.model, folder.end_tokens())):
            raise folder.failed(f"it has another vocabulary: {reason}.")
        model = mlx_loading.load_weights(folder, lambda fraction: None, on_processor=on_processor, widen=on_processor)
        new = mlx_loading.cache_maker(model, {}, folder)
        self._cells = info.kv_tokens or info.n_ctx * info.n_parallel
        self._memory = Memory(model, new, slots, None)
        if not self._memory.can_undo:
            raise folder.failed("its caches can't take guesses back.")
        self.drafts = Drafts(self, slots, info.n_vocab or vocabulary.size)
        self._slots = range(slots)

    def remove(self, slot: int, start: int) -> None:
        """Forget a slot's cells from that position on."""
        if start:
            self._memory.cut(slot, start)
        else:
            self._memory.clear(slot)

    def compute(self, feeds: Seq[Feed]) -> list[tuple[int, float]]:
        """See drafting.Computer."""
        held = sum(self._memory.length(slot) for slot in self._slots)
        if held + sum(len(feed.tokens) for feed in feeds) > self._cells:
            raise OutOfCells
        for feed in feeds:
            body = feed.tokens[:-1] if feed.sample else feed.tokens
            if body:
                self._memory.prefill(feed.slot, body)
        asked = [feed for feed in feeds if feed.sample]
        if not asked:
            return []
        tokens = mx.array([feed.tokens[-1] for feed in asked])
        logits = self._memory.decode([feed.slot for feed in asked], tokens).astype(mx.float32)
        likeliest = mx.argmax(logits, axis=-1)
        chances = mx.exp(mx.max(logits, axis=-1) - mx.logsumexp(logits, axis=-1))
        mx.eval(likeliest, chances)
        return list(zip(likeliest.tolist(), chances.tolist(), strict=True))


def _difference(one: Vocabulary, other: Vocabulary) -> str:
    """What sets two vocabularies apart; empty: the same tokens have the same numbers."""
    if abs(one.size - other.size) > MOST_TOKENS_APART:
        return f"it has {other.size} tokens instead of {one.size}"
    if one.ends != other.ends:
        return "other tokens end its texts"
    for token in range(min(one.size, other.size)):
        mine, others = one.piece(token) or one.control(token), other.piece(token) or other.control(token)
        if mine != others:
            return f"its token {token} is {others!r} instead of {mine!r}"
    return ""
