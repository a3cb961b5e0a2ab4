"""A smaller GGUF beside the model that is served: its own weights, context and cells, one argmax for each guess."""

import os
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from typing import Any, Final

import msgspec
import numpy as np

from heylook_llm import core
from heylook_llm.errors import EngineError, LoadFailed
from heylook_llm.worker.drafting import READ_TOKENS, Drafts
from heylook_llm.worker.providers.base import Feed, OutOfCells
from heylook_llm.worker.providers.llama_cpp_load import Opening
from heylook_llm.worker.providers.llama_cpp_native import Batch, Log, Logits, metadata_of

MOST_TOKENS_APART: Final = 128
"""Vocabularies are padded to different sizes; llama-server allows as much."""
SHARED_OPTIONS: Final = (
    "n_threads", "n_threads_batch", "n_gpu_layers", "main_gpu", "split_mode", "devices", "flash_attn", "use_mmap",
    "use_mlock", "use_direct_io", "offload_kqv", "numa", "type_k", "type_v",
)  # fmt: skip
"""Options of the model that hold for its small one too."""


class DraftModel:
    """The drafting.Computer of llama.cpp."""

    def __init__(  # noqa: PLR0917 (the larger model's native parts, and how it was asked for)
        self, native: Any, vocab: Any, load: core.Load, info: core.ModelInfo, slots: int, log: Log
    ) -> None:
        """Loads `draft_model_path` for `slots` slots of as many cells as the model has. Raises LoadFailed."""
        self._native = native
        opening = Opening(native, _load_of(load, info, slots), log)
        self._model = opening.model(lambda fraction: None)
        try:
            self._check(vocab, load.model)
            cells = opening.sizes(self._model, dict(metadata_of(native, self._model)))[1]
            self._context = opening.context(self._model, cells, slots=slots, n_outputs=slots)
        except LoadFailed:
            native.llama_model_free(self._model)
            raise
        self._memory = native.llama_get_memory(self._context)
        self._batch = Batch(native, max(READ_TOKENS, slots))
        own_vocab = native.llama_model_get_vocab(self._model)
        self._rows = Logits(native, self._context, int(native.llama_vocab_n_tokens(own_vocab)), slots)
        self.drafts = Drafts(self, slots, int(native.llama_vocab_n_tokens(vocab)))

    def _check(self, vocab: Any, name: str) -> None:
        """Refuse a model that can't guess for this vocabulary."""
        native, own = self._native, self._native.llama_model_get_vocab(self._model)
        if native.llama_model_is_recurrent(self._model) or native.llama_model_is_hybrid(self._model):
            raise LoadFailed(f"Model '{name}': a recurrent model can't take guesses back.")
        if reason := _difference(native, vocab, own):
            raise LoadFailed(f"Model '{name}': it has another vocabulary: {reason}.")

    def remove(self, slot: int, start: int) -> None:
        """Forget a slot's cells from that position on."""
        self._native.llama_memory_seq_rm(self._memory, slot, start, -1)

    def compute(self, feeds: Seq[Feed]) -> list[tuple[int, float]]:
        """See drafting.Computer."""
        self._batch.fill(feeds)
        status = self._native.llama_decode(self._context, self._batch.struct)
        if status == 1:
            raise OutOfCells
        if status != 0:
            raise EngineError(f"llama.cpp could not compute a guess (status {status}).")
        count = sum(feed.sample for feed in feeds)
        if not count:
            return []
        rows = self._rows.view(count)
        likeliest = rows.argmax(axis=1)
        highest = rows[np.arange(count), likeliest]
        chances = 1 / np.exp(rows - highest[:, None]).sum(axis=1)
        return list(zip(likeliest.tolist(), chances.tolist(), strict=True))

    def close(self) -> None:
        """Free everything."""
        self._native.llama_free(self._context)
        self._native.llama_model_free(self._model)


def _load_of(load: core.Load, info: core.ModelInfo, slots: int) -> core.Load:
    """How the small model is asked for."""
    options: Mapping[str, Any] = load.options
    own = {name: options[name] for name in SHARED_OPTIONS if name in options}
    own |= {"n_parallel": slots, "n_ctx": info.n_ctx, "kv_tokens": info.kv_tokens, "n_batch": max(READ_TOKENS, slots)}
    return msgspec.structs.replace(load, path=os.fspath(options["draft_model_path"]), options=own)


def _difference(native: Any, one: Any, other: Any) -> str:
    """What sets two vocabularies apart; empty: the same tokens have the same numbers."""
    if native.llama_vocab_type(one) != native.llama_vocab_type(other):
        return "another kind of tokenizer"
    sizes = [int(native.llama_vocab_n_tokens(vocab)) for vocab in (one, other)]
    if abs(sizes[0] - sizes[1]) > MOST_TOKENS_APART:
        return f"{sizes[1]} tokens instead of {sizes[0]}"
    for name in ("bos", "eos"):
        numbers = [getattr(native, f"llama_vocab_{name}")(vocab) for vocab in (one, other)]
        if numbers[0] != numbers[1]:
            return f"its {name} token is number {numbers[1]} instead of {numbers[0]}"
    for token in range(min(sizes)):
        texts = [native.llama_vocab_get_text(vocab, token) for vocab in (one, other)]
        if texts[0] != texts[1]:
            return f"token {token} is {_shown(texts[1])} instead of {_shown(texts[0])}"
    return ""


def _shown(text: bytes | None) -> str:
    return repr((text or b"").decode("utf-8", "replace")[:40])
