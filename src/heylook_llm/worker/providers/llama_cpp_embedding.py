"""Vectors and scores by llama.cpp: a context of its own over the same weights, so that no answer's cells are touched.

The context gives every token's row of the last layer; who asked pools them. Only where the file holds a head that ranks
does llama.cpp pool itself, as the head needs. The context is made at the first use, for passes of some hundred tokens,
and made anew for a longer text: its cells, or where tokens look both ways the whole text's activations, grow with that.
"""

import math
import re
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Any, Final

import numpy as np

from heylook_llm import core
from heylook_llm.catalog.gguf_header import looks_both_ways
from heylook_llm.errors import EngineError, InsufficientMemory
from heylook_llm.worker.providers.base import EmbeddingBounds, Feed, Floats
from heylook_llm.worker.providers.llama_cpp_load import CELL_PADDING, Opening, cell_bytes_of
from heylook_llm.worker.providers.llama_cpp_native import Batch

LOGITS_BYTES: Final = 64 << 20
"""A decoder computes the logits of every token whose row is wanted; what they may take bounds its passes."""
LEAST_BATCH_TOKENS: Final = 32
MAX_TEXTS: Final = 64
"""Texts of one pass."""
MAX_STATES: Final = 8
"""... of a recurrent model, which reserves a state for each."""
SCRATCH_BYTES: Final = 32 << 20
LEAST_SHARE: Final = 1e-7
_NO_TOKEN: Final = -1
_WORD_PIECE: Final = 3
"""llama.h's LLAMA_VOCAB_TYPE_WPM."""
_POOL_NONE: Final = 0
_POOL_RANK: Final = 4
_PLACES: Final = re.compile(r"(\{query\}|\{document\})")
_SHARES: Final = ("qwen3", "qwen3vl")
"""Architectures whose ranking head llama.cpp ends with a softmax over yes and no, not with a logit."""

Encode = Callable[..., list[int]]


class Embeddings:
    """The vectors or scores of one model."""

    def __init__(
        self, opening: Opening, model: Any, metadata: dict[str, Any], n_ctx: int, pooling: core.Pooling
    ) -> None:
        native = self._native = opening.native
        self._opening = opening
        self._model = model
        self._n_ctx = n_ctx
        self._pool = _POOL_RANK if pooling == "rank" else _POOL_NONE
        self._architecture = str(metadata.get("general.architecture", ""))
        self._cell_bytes = cell_bytes_of(metadata, opening.options)
        self._n_vocab = int(native.llama_vocab_n_tokens(native.llama_model_get_vocab(model)))
        self.width = int(native.llama_model_n_embd_out(model))
        self._whole = looks_both_ways(self._architecture, metadata.get(f"{self._architecture}.attention.causal"))
        recurrent = native.llama_model_is_recurrent(model) or native.llama_model_is_hybrid(model)
        tokens = self._batch_tokens()  # a pass of fewer tokens than texts fails an assertion of llama.cpp
        self.bounds = EmbeddingBounds(tokens, min(tokens, MAX_STATES if recurrent else MAX_TEXTS), self._whole)
        self._context: Any = None
        self._memory: Any = None
        self._batch: Batch | None = None
        self._size = 0
        """Tokens of the longest text that the context holds."""

    def _batch_tokens(self) -> int:
        """Tokens of one pass: as configured, fewer for a vocabulary whose logits would take much memory."""
        wanted = int(self._opening.options.get("n_ubatch") or 512)
        if self._whole:
            return wanted
        return min(wanted, max(LEAST_BATCH_TOKENS, LOGITS_BYTES // (4 * self._n_vocab)))

    # ---- a pass ------------------------------------------------------------------------------------------------------

    def embed(self, texts: Seq[Seq[int]], start: int, longest: int) -> list[Floats]:
        """The rows of each text's tokens, or its score. Raises InsufficientMemory, EngineError."""
        native = self._native
        count = sum(map(len, texts))
        if start == 0:
            self._make_room(max(count, longest))
        assert self._batch is not None
        self._batch.fill([Feed(slot, start, tuple(text), True) for slot, text in enumerate(texts)])
        self._batch.wanted[:count] = 1
        status = native.llama_decode(self._context, self._batch.struct)
        if status != 0:
            raise EngineError(f"llama.cpp could not compute texts (status {status}).")
        if self._pool == _POOL_RANK:
            return [self._score(slot) for slot in range(len(texts))]
        rows = np.ctypeslib.as_array(native.llama_get_embeddings(self._context), shape=(count, self.width)).copy()
        return list(np.split(rows, np.cumsum([len(text) for text in texts])[:-1]))

    def _score(self, slot: int) -> Floats:
        """The head's first number as a logit."""
        score = float(self._native.llama_get_embeddings_seq(self._context, slot)[0])
        if self._architecture in _SHARES:
            share = min(max(score, LEAST_SHARE), 1 - LEAST_SHARE)
            score = math.log(share / (1 - share))
        return np.array([[score]], dtype=np.float32)

    # ---- the context -------------------------------------------------------------------------------------------------

    def _make_room(self, tokens: int) -> None:
        """An empty context for texts of so many tokens; made anew where it is too small."""
        if tokens <= self._size:
            if self._memory is not None:
                self._native.llama_memory_clear(self._memory, False)
            return
        self.close()
        size = max(self.bounds.batch_tokens, tokens, min(1 << (tokens - 1).bit_length(), self._n_ctx))
        size = math.ceil(size / CELL_PADDING) * CELL_PADDING
        self._refuse_beyond_memory(size, tokens)
        batch = size if self._whole else self.bounds.batch_tokens
        context = self._opening.embedding_context(self._model, size, batch, self.bounds.batch_inputs, self._pool)
        if not context:
            raise InsufficientMemory(f"llama.cpp has no memory for texts of {tokens} tokens.", retry_after_seconds=10.0)
        self._context, self._size = context, size
        self._memory = self._native.llama_get_memory(context) or None
        self._batch = Batch(self._native, batch)

    def _refuse_beyond_memory(self, size: int, tokens: int) -> None:
        """Raises InsufficientMemory with the numbers: llama.cpp itself would abort, or be killed."""
        batch = size if self._whole else self.bounds.batch_tokens
        need = SCRATCH_BYTES + (0 if self._whole else int(size * self._cell_bytes) + 8 * batch * self._n_vocab)
        free = self._opening.free_bytes()
        if need > free:
            raise InsufficientMemory(
                f"Texts of {tokens} tokens need {need >> 20} MiB beside the model, and {free >> 20} MiB are free: "
                "send shorter texts.",
                retry_after_seconds=10.0,
            )

    def close(self) -> None:
        """Free the context."""
        if self._context:
            self._native.llama_free(self._context)
        self._context = self._memory = self._batch = None
        self._size = 0


class Pairs:
    """What a model that ranks reads of a query and a document; callable from any thread."""

    def __init__(self, native: Any, model: Any, encode: Encode) -> None:
        vocab = native.llama_model_get_vocab(model)
        self._encode = encode
        template = native.llama_model_chat_template(model, b"rerank")
        self._template = _PLACES.split(template.decode("utf-8", "replace")) if template else []
        separator = native.llama_vocab_sep(vocab)
        end = native.llama_vocab_eos(vocab)
        end = separator if end == _NO_TOKEN else end
        self._begin = [native.llama_vocab_bos(vocab)] if native.llama_vocab_get_add_bos(vocab) else []
        self._end = [end] if native.llama_vocab_get_add_eos(vocab) else []
        self._between = [*self._end, *([separator] if native.llama_vocab_get_add_sep(vocab) else [])]
        if native.llama_vocab_type(vocab) == _WORD_PIECE:  # it puts these around every text, whatever the file says
            self._begin, self._between, self._end = [native.llama_vocab_bos(vocab)], [separator], [separator]

    def tokens(self, query: str, document: str) -> list[int]:
        """By the file's template for ranking, else with the vocabulary's own tokens around both."""
        if self._template:
            texts = {"{query}": query, "{document}": document}
            whole = "".join(texts.get(part, part) for part in self._template)
            return self._encode(whole, add_special=False, parse_special=True)
        first, second = (self._encode(text, add_special=False, parse_special=False) for text in (query, document))
        return [*self._begin, *first, *self._between, *second, *self._end]
