"""GGUF models on llama.cpp's low-level binding: one context, one pool of KV cells, one sampler chain per sequence.

One `llama_decode` computes a step's whole batch, from C arrays that are allocated once. Slots whose sampling is plainly
greedy need no sampler: their tokens are one argmax over the rows of logits.

Trap of the binding: sequence ids beyond n_seq_max are accepted by seq_cp and fail in decode.
"""

import ctypes
import importlib
import math
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from typing import Any, Final

import numpy as np

from heylook_llm import core
from heylook_llm.catalog.gguf_header import FILE_TYPES
from heylook_llm.errors import EngineError, LoadFailed
from heylook_llm.worker.drafting import draft_failures
from heylook_llm.worker.guide import Guide
from heylook_llm.worker.images import has_images
from heylook_llm.worker.providers import defaults
from heylook_llm.worker.providers.base import (
    Drafter,
    Drawn,
    EmbeddingBounds,
    Feed,
    Floats,
    ImageReader,
    OutOfCells,
    Sharing,
    State,
    shown,
)
from heylook_llm.worker.providers.llama_cpp_draft import DraftModel
from heylook_llm.worker.providers.llama_cpp_embedding import Embeddings, Pairs
from heylook_llm.worker.providers.llama_cpp_load import Opening, start_backend
from heylook_llm.worker.providers.llama_cpp_looking import Looking, seeing
from heylook_llm.worker.providers.llama_cpp_native import Batch, Log, Logits, rows_of
from heylook_llm.worker.providers.llama_cpp_places import Places
from heylook_llm.worker.providers.llama_cpp_sampling import Samplers, Slot
from heylook_llm.worker.providers.llama_cpp_vision import Eyes
from heylook_llm.worker.providers.llama_cpp_vocabulary import NO_TOKEN, Vocabulary
from heylook_llm.worker.providers.masks import Guided, Masks, MaskThread
from heylook_llm.worker.providers.scoring import LEAST_LOGPROB, note_scores

DRAFTS: Final = 16
"""Guesses of one step beyond one for each sequence: their logits take memory, a vocabulary's worth each."""
SCORED_TOKENS: Final = 24
"""Of prompts whose tokens are scored, so many of a step: what guesses leave their rows to, which it doesn't have."""

_GUESSED: Final = 1024
"""A flag of llama.cpp's file types: the file doesn't name its own."""
_BYTES: Final = ctypes.POINTER(ctypes.c_uint8)


def open_model(load: core.Load, progress: Callable[[float], None]) -> "LlamaCpp":
    """The provider of a Load frame. Raises LoadFailed; ImportError where llama-cpp-python is missing."""
    native: Any = importlib.import_module("llama_cpp.llama_cpp")
    return LlamaCpp(native, load, progress)


class LlamaCpp(Vocabulary):
    """See the module's docstring."""

    engine_defaults = defaults.ENGINE_DEFAULTS
    drafts_alone = False

    def __init__(self, native: Any, load: core.Load, progress: Callable[[float], None]) -> None:
        self._context: Any = None
        self._slots: dict[int, Slot] = {}
        self._mask_thread = MaskThread()
        self._log = Log(native)
        options = load.options
        start_backend(native, options)
        opening = Opening(native, load, self._log)
        super().__init__(native, opening.model(progress))
        self._n_parallel = opening.n_parallel
        self.pooling = self.configured_pooling(options)
        self._recurrent = bool(
            native.llama_model_is_recurrent(self._model) or native.llama_model_is_hybrid(self._model)
        )
        self._window = int(native.llama_model_n_swa(self._model))
        """How far the layers of a sliding window look back; 0: there are none."""
        self.sharing: Sharing = "whole" if self._recurrent or self._window else "any"
        self.spans_pool = not native.llama_model_is_recurrent(self._model)
        self.tile = opening.tile()
        narrow = self._window > 0 and not options.get("swa_full", True)
        self.slots = opening.slots(recurrent=self._recurrent, narrow=narrow)
        drafts = self._n_parallel + int(options.get("num_draft_tokens") or DRAFTS)
        self.max_drafts = 0 if self._recurrent or narrow or self.pooling else drafts
        self.scored_tokens = 0
        self._can_shift = False
        self._eyes = self._open_eyes(load)
        self.images: ImageReader | None = self._eyes
        self._places = Places(self.slots) if self._eyes is not None and self._eyes.two_dimensional else None
        self._looking: Looking | None = None
        if self.pooling:
            self._n_ctx = opening.embedding_limit(self._model)
        else:
            self._n_ctx = self._prepare_to_answer(opening)
        self._embeddings = Embeddings(opening, self._model, self._metadata, self._n_ctx, self.pooling)
        self.embedding: EmbeddingBounds | None = self._embeddings.bounds
        self._pairs = Pairs(native, self._model, self.encode)
        self._samplers = Samplers(native, self._vocab, self._n_ctx, self._ends)
        self.defaults = self.configured_defaults(options)
        self.info = self._describe(options)
        self._draft = self._draft_model(load)
        self.drafter: Drafter | None = self._draft.drafts if self._draft is not None else None

    def _draft_model(self, load: core.Load) -> DraftModel | None:
        if not load.options.get("draft_model_path"):
            return None
        if not self.max_drafts:
            raise LoadFailed(f"Model '{load.model}' can't take guesses back, so `draft_model_path` has no use for it.")
        with draft_failures(load.model):
            return DraftModel(self._native, self._vocab, load, self.info, self.slots, self._log)

    def _open_eyes(self, load: core.Load) -> Eyes | None:
        if not load.options.get("mmproj_path"):
            return None
        if self.pooling:
            raise LoadFailed(f"Model '{load.model}' only embeds texts, so `mmproj_path` has no use for it.")
        return Eyes(self._native, self._model, load, self._log, on_gpu=bool(self._log.layers_gpu))

    def _prepare_to_answer(self, opening: Opening) -> int:
        """The context with its pool of cells; returns the tokens that one sequence may have."""
        native = self._native
        n_ctx, kv_tokens = opening.sizes(self._model, self._metadata)
        more = max(self.max_drafts, SCORED_TOKENS)
        rows = max(self.slots, self._n_parallel + more)  # llama.cpp's least is a row for each sequence id
        self.scored_tokens = rows - self._n_parallel
        n_batch = opening.n_batch(kv_tokens)
        whole = opening.whole_images(self._eyes.longest_run(), n_batch) if self._eyes and self._eyes.whole else 1
        self._context = opening.context(self._model, kv_tokens, slots=self.slots, n_outputs=rows, least_ubatch=whole)
        self._memory = native.llama_get_memory(self._context)
        self._batch = Batch(native, n_batch)
        if self._eyes is not None:
            self._eyes.most_tokens = min(int(native.llama_n_ubatch(self._context)), n_batch - self._n_parallel)
            self._looking = Looking(native, self._context, self._eyes, self._batch, self._places)
        self._rows = Logits(native, self._context, self._n_vocab, rows)
        can_shift = bool(native.llama_memory_can_shift(self._memory)) and not self._recurrent
        self._can_shift = can_shift and self._places is None
        return n_ctx

    def _describe(self, options: dict[str, Any]) -> core.ModelInfo:
        native, model, metadata = self._native, self._model, self._metadata
        on_gpu = self._log.layers_gpu or 0
        projected = self._eyes.projector.header.weights_bytes if self._eyes is not None else 0
        return core.ModelInfo(
            "llama_cpp",
            str(metadata.get("general.architecture", "unknown")),
            self._n_ctx,
            n_ctx_trained=int(native.llama_model_n_ctx_train(model)),
            kv_tokens=int(native.llama_n_ctx(self._context)) if self._context else None,
            n_parallel=self._n_parallel,
            n_vocab=self._n_vocab,
            n_layers=int(native.llama_model_n_layer(model)),
            n_layers_gpu=on_gpu,
            n_embedding=self._embeddings.width if self.pooling else int(native.llama_model_n_embd(model)),
            n_parameters=int(native.llama_model_n_params(model)),
            quantization=FILE_TYPES.get(native.llama_model_ftype(model) & ~_GUESSED),
            weights_bytes=int(native.llama_model_size(model)) + projected,
            kv_bytes=int(self._log.mebibytes("KV") * (1 << 20)) or None,
            gpu_bytes=int(self._log.mebibytes(gpu=True) * (1 << 20)) + projected if on_gpu else 0,
            chat_template="" if self.pooling else self.chat_template(options),
            capabilities=self.abilities(self.pooling),
            metadata=metadata,
            pooling=self.pooling,
        )

    # ---- slots -------------------------------------------------------------------------------------------------------

    def add(
        self,
        slot: int,
        sampling: core.Sampling,
        prompt: Seq[int],
        drawing: object = None,
        guide: Guide | None = None,
    ) -> None:
        """A sampler for the slot, with the prompt's last tokens as the history of its penalties."""
        self._slots[slot] = drawing if isinstance(drawing, Slot) else self._samplers.slot(sampling, prompt, guide)

    def warm(self, sampling: core.Sampling) -> None:
        """Make the part of a sampler that goes through the whole vocabulary; callable from any thread."""
        self._samplers.warm(sampling)

    def release(self, slot: int) -> object:
        """Give the slot's sampler up: its random state and history, for `add` to take back."""
        return self._slots.pop(slot, None)

    def remove(self, slot: int, start: int = 0, end: int = -1) -> bool:
        """Forget cells; those at the end only where what is left can be computed on from."""
        if start > 0 and end < 0 and not self._is_whole(slot, start):
            return False
        position = self._position(slot, start)
        if position is None:
            return False
        if self._places is not None:
            self._places.cut(slot, start)
        return bool(self._native.llama_memory_seq_rm(self._memory, slot, position if start or end >= 0 else -1, end))

    def _position(self, slot: int, number: int) -> int | None:
        """Where the engine counts a slot's token; None: within an image, where it can't be told from the others."""
        return number if self._places is None else self._places.of(slot, number)

    def share(self, source: int, target: int, end: int) -> bool:
        """Both slots hold the same cells; nothing is copied."""
        position = self._position(source, end)
        if position is None or not self._is_whole(source, end):
            return False
        self._native.llama_memory_seq_cp(self._memory, source, target, 0, position)
        if self._places is not None:
            self._places.share(source, target, end)
        return True

    def _is_whole(self, slot: int, end: int) -> bool:
        """Whether the slot holds all that the token at position `end` looks back at.

        A recurrent state is that of its newest token. Of layers with a sliding window llama.cpp reuses the cells that
        the newest token can't see any more, and says from which position on it still has all.
        """
        native, memory = self._native, self._memory
        position = self._position(slot, end)
        if position is None:
            return False
        end = position
        if end == native.llama_memory_seq_pos_max(memory, slot) + 1:
            return True
        return not self._recurrent and native.llama_memory_seq_pos_min(memory, slot) <= max(0, end - self._window)

    def shift(self, slot: int, start: int, end: int) -> bool:
        """Drop positions and rotate the rest down."""
        if not self._can_shift or not self.remove(slot, start, end):
            return False
        self._native.llama_memory_seq_add(self._memory, slot, end, -1, start - end)
        return True

    def state_bytes(self, slot: int) -> int:
        """As llama.cpp counts them."""
        return int(self._native.llama_state_seq_get_size(self._context, slot))

    def save(self, slot: int) -> State:
        """The slot's cells as llama.cpp writes them."""
        data = np.empty(self.state_bytes(slot), dtype=np.uint8)
        written = self._native.llama_state_seq_get_data(self._context, data.ctypes.data_as(_BYTES), data.size, slot)
        if self._places is None:
            return data[:written].data
        runs = self._places.packed(slot)
        head = np.array([len(runs), *runs], dtype=np.int64).view(np.uint8)
        return np.concatenate([head, data[:written]]).data

    def restore(self, slot: int, state: State) -> bool:
        """Put saved cells into an empty slot."""
        data = np.frombuffer(state, dtype=np.uint8)
        if self._places is not None:
            count = int(data[:8].view(np.int64)[0])
            self._places.unpack(slot, data[8 : 8 + 8 * count].view(np.int64).tolist())
            data = data[8 + 8 * count :]
        pointer = data.ctypes.data_as(_BYTES)
        return bool(self._native.llama_state_seq_set_data(self._context, pointer, data.size, slot))

    def embed(self, texts: Seq[Seq[int]], start: int = 0, longest: int = 0) -> list[Floats]:
        """The rows of each text's tokens, or its score, in a context of their own."""
        return self._embeddings.embed(texts, start, longest)

    def pair(self, query: str, document: str) -> list[int]:
        """What a model that ranks reads; callable from any thread."""
        return self._pairs.tokens(query, document)

    def close(self) -> None:
        """Free everything."""
        self._mask_thread.close()
        self._slots.clear()
        if self._draft is not None:
            self._draft.close()
            self._draft = self.drafter = None
        self._embeddings.close()
        if self._eyes is not None:
            self._eyes.close()
            self._eyes = self.images = self._looking = None
        if self._context:
            self._native.llama_free(self._context)
        if self._model:
            self._native.llama_model_free(self._model)
        self._context = self._model = None
        self._log.close()

    # ---- a step ------------------------------------------------------------------------------------------------------

    def step(self, feeds: Seq[Feed]) -> list[Drawn]:
        """One llama_decode of everything but images. Raises OutOfCells with the memory as it was, EngineError."""
        if self._looking is None or not seeing(feeds):
            return self._compute(feeds)
        try:
            rest = [self._looking.look(feed) if has_images(feed.tokens) else feed for feed in feeds]
            return self._compute([feed for feed in rest if feed is not None])
        except OutOfCells:
            for feed in feeds:
                if not self.remove(feed.slot, feed.start):
                    raise EngineError("There was no room for an image, and no way back.") from None
            raise

    def _compute(self, feeds: Seq[Feed]) -> list[Drawn]:
        """One llama_decode of tokens."""
        if not feeds:
            return []
        placed = feeds
        if self._places is not None and self._looking is not None:
            placed = [self._looking.placed(feed) for feed in feeds]
        places = self._batch.fill(placed)
        drawing = [feed for feed in feeds if feed.sample]
        masks = self._mask_thread.start(self._guided(drawing))
        status = self._native.llama_decode(self._context, self._batch.struct)
        if status == 1:
            raise OutOfCells
        if status != 0:
            raise EngineError(f"llama.cpp could not compute a batch (status {status}).")
        firsts = list(self._read_scores(feeds))
        return self._draw(drawing, firsts, places, masks.result() if masks is not None else {})

    def _read_scores(self, feeds: Seq[Feed]) -> Iterator[int]:
        """Note what the rows of prompts say; gives the place of each drawing feed's first row to draw from."""
        end = 0
        for feed in feeds:
            start, end = end, end + rows_of(feed)
            if feed.scores is not None:
                note_scores(self, feed, self._rows.view(end)[start:])
            if feed.sample:
                yield end - 1 - feed.drafts

    def composition(self) -> list[tuple[int, int]]:
        """(slot, position) of every token in the last batch, as llama.cpp got it."""
        count = self._batch.struct.n_tokens
        return list(zip(self._batch.slots[:count].tolist(), self._batch.positions[:count].tolist(), strict=True))

    def logits(self, rows: int) -> Floats:
        """The first rows of the last batch's logits, where llama.cpp has them."""
        return self._rows.view(rows)

    def _guided(self, feeds: Seq[Feed]) -> dict[int, Guided]:
        """The guides of these feeds' slots, each with the draft that it is to follow."""
        found = ((feed, self._slots[feed.slot].guide) for feed in feeds)
        return {feed.slot: Guided(guide, feed.guessed) for feed, guide in found if guide is not None}

    def _draw(self, feeds: Seq[Feed], firsts: list[int], places: list[int], masks: Masks) -> list[Drawn]:
        """The draws of each feed, whose first logits are row `firsts`, and of the batch's token number `places`."""
        if not feeds:
            return []
        slots = [self._slots[feed.slot] for feed in feeds]
        rows = self._rows.view(firsts[-1] + 1 + feeds[-1].drafts)
        greedy = any(slot.chain is None for slot in slots)
        likeliest: list[int] = rows.argmax(axis=1).tolist() if greedy else [NO_TOKEN] * len(rows)
        drawn: list[Drawn] = []
        for feed, slot, row, place in zip(feeds, slots, firsts, places, strict=True):
            allowed = masks.get(feed.slot) or [None] * (1 + feed.drafts)
            for at, (guess, mask) in enumerate(zip((*feed.guessed, NO_TOKEN), allowed, strict=False)):
                logits = rows[row + at]
                token = self._samplers.draw(slot, self._context, place + at, logits, likeliest[row + at], mask=mask)
                complete = slot.guide is not None and slot.guide.complete
                wanted = None if slot.logprobs is None else self._logprob(logits, token, slot.logprobs)
                drawn.append(Drawn(feed.slot, token, wanted, complete))
                if token != guess or complete:
                    break
        return drawn

    def _logprob(self, row: Floats, token: int, top: int) -> core.TokenLogprob:
        """Log probabilities by the model's own distribution, before temperature and cuts."""
        logits = row.astype(np.float64)
        logits -= logits.max()
        logits -= math.log(float(np.exp(logits).sum()))
        ranked: list[int] = []
        if top:
            count = min(top, len(logits))
            best = np.argpartition(-logits, count - 1)[:count]
            ranked = best[np.argsort(-logits[best], kind="stable")].tolist()
        alternatives = tuple(core.TopLogprob(t, shown(self, t), _finite(logits[t])) for t in ranked)
        return core.TokenLogprob(token, shown(self, token), _finite(logits[token]), alternatives)


def _finite(value: float) -> float:
    return max(LEAST_LOGPROB, float(value))
