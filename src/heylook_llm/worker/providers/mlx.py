"""MLX models: mlx_lm's architectures and caches behind the Provider protocol, many sequences in one forward pass.

A step computes the prompts' tokens, each prompt's but its last, and then one forward pass with one token of every
slot that wants a token drawn. Slots join and leave that batch at every step (mlx_memory says how, and which kinds of
cache can). The scheduler's feeds bound what one step computes, where mlx_lm's BatchGenerator decides for itself.

As soon as tokens are drawn, or with greedy sampling even before they are known, the next forward pass of the same slots
starts, so that the device computes while the scheduler, the text and the pipe have their turn. A slot that doesn't go
on as expected drops that one cell again; only caches that can go back are computed ahead.

What is true of it:
    all calls to mlx come from the one thread that loaded the model, which never ends while the worker lives; but images
    are encoded in the thread that prepares their request, in that thread's own stream
    no code of a model's folder is ever run; only *.safetensors with a checked header are mapped
    `cache_type: quantized` is batched; `rotating` (max_kv_size) is computed one sequence at a time
    a shared prefix saves its computation, not its memory: each slot has its own copy
    guesses are computed for a sequence that decodes alone: the rows of a batch can't go back by different numbers
    on the processor 16-bit weights are widened to float32, in which it computes faster, where the memory allows it
"""

import importlib
import logging
from collections.abc import Callable
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from heylook_llm import core
from heylook_llm.catalog import safetensors_header
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.errors import EngineError, UnsupportedFeature
from heylook_llm.worker.cells import Ledger
from heylook_llm.worker.drafting import draft_failures
from heylook_llm.worker.guide import Guide
from heylook_llm.worker.images import has_images
from heylook_llm.worker.providers import defaults, mlx_loading, mlx_states
from heylook_llm.worker.providers.base import (
    Drafter,
    Drawn,
    EmbeddingBounds,
    Feed,
    Floats,
    ImageReader,
    InfillMarks,
    OutOfCells,
    State,
    shown,
)
from heylook_llm.worker.providers.choosing import Chooser, logprobs
from heylook_llm.worker.providers.mlx_draft import DraftModel
from heylook_llm.worker.providers.mlx_embedding import Embeddings
from heylook_llm.worker.providers.mlx_eyes import Eyes
from heylook_llm.worker.providers.mlx_images import Images
from heylook_llm.worker.providers.mlx_memory import Memory, picked
from heylook_llm.worker.providers.mlx_sampling import choose
from heylook_llm.worker.providers.mlx_vocabulary import Vocabulary
from heylook_llm.worker.providers.scoring import note_scores

mx: Any = importlib.import_module("mlx.core")
loader: Any = importlib.import_module("mlx_lm.utils")

KV_MEMORY_SHARE: Final = 0.5
"""Of the memory that is free after loading: what the pool takes at most when nobody sets its size."""
LEAST_CELLS: Final = 256
SPARE_SLOTS: Final = 8
"""Slots that only keep prefixes."""
DEVICE_CACHE_BYTES: Final = 512 << 20
"""Freed buffers that mlx keeps for later steps, where allocating takes time."""
PROCESSOR_CACHE_BYTES: Final = 16 << 20
"""More made nothing faster here, and stays in the process."""

DRAFTS: Final = 64
"""Guesses of one step."""
SCORED_TOKENS: Final = 64
"""Of prompts whose tokens are scored, so many of a step: each has a row of logits."""

log = logging.getLogger("heylook_llm.worker.mlx")


def open_model(load: core.Load, progress: Callable[[float], None]) -> "Mlx":
    """The provider of a Load frame. Raises LoadFailed."""
    return Mlx(load, progress)


class Mlx:
    """See the module's docstring."""

    engine_defaults = defaults.ENGINE_DEFAULTS
    drafts_alone = True
    scored_tokens = SCORED_TOKENS

    def __init__(self, load: core.Load, progress: Callable[[float], None]) -> None:
        options = load.options
        folder = Folder(Path(load.path), load.model)
        mlx_loading.refuse_options(options, folder)
        self._on_processor = mx.default_device() == mx.cpu
        if self._on_processor:
            mx.disable_compile()  # its fused kernels there are compiled by g++, which may be missing, at the first use
        main_bytes = load.limits.get("memory_bytes")
        self._memory_bytes = (main_bytes if self._on_processor else load.limits.get("gpu_bytes", main_bytes)) or None
        if self._memory_bytes:
            mx.set_memory_limit(self._memory_bytes)
        mx.set_cache_limit(PROCESSOR_CACHE_BYTES if self._on_processor else DEVICE_CACHE_BYTES)
        loader.maybe_set_recommended_wired_limit()  # on Metal: weights stay where the GPU reaches them
        adapter = options.get("adapter_path")
        sight = mlx_loading.sight_of(options, folder)
        whole = mlx_loading.load_weights(
            folder,
            progress,
            on_processor=self._on_processor,
            widen=self._may_widen(folder),
            adapter=Path(adapter) if adapter else None,
            classes=sight.classes,
        )
        self._model = whole if sight.classes is None else whole.language_model
        eyes = (
            Eyes(whole, sight.preparation, on_processor=self._on_processor) if sight.preparation is not None else None
        )
        images = Images(eyes, self._model.model.embed_tokens) if eyes is not None else None
        self.images: ImageReader | None = images
        self._n_parameters = int(loader.get_total_parameters(whole))
        self._vocabulary = Vocabulary(folder, load.model, folder.end_tokens())
        self._n_parallel = int(options.get("n_parallel") or 8)
        quantization = mlx_loading.quantization_of(options)
        new = mlx_loading.cache_maker(self._model, options, folder)
        cell = mlx_loading.measured_cell_bytes(self._model, new, quantization, folder)
        self._n_ctx, kv_tokens = self._context_sizes(options, folder, cell)
        self._kv_tokens = kv_tokens
        self.slots = self._n_parallel + SPARE_SLOTS
        self._ledger = Ledger(self.slots)
        self._memory = Memory(self._model, new, self.slots, quantization, images.embedded if images else None)
        self.sharing = self._memory.sharing
        self.spans_pool = False
        self.tile = 1
        self.max_drafts = DRAFTS if self._memory.can_undo else 0
        self._prefills_together = not self._on_processor
        self._choosers: dict[int, Chooser] = {}
        self._ahead: dict[int, int] = {}
        """Slot -> its row in `_ahead_logits`, of slots whose next token's cell is computed already."""
        self._ahead_tokens: dict[int, int] = {}
        self._ahead_logits: Any = None
        self.defaults = defaults.of_model(options, mlx_loading.file_defaults(folder.generation_config))
        self._pooling: core.Pooling = options.get("pooling") or folder.pooling()
        self.info = self._describe(options, folder, kv_bytes=int(kv_tokens * cell))
        self._embeddings = Embeddings(self._model, self.info.n_embedding, together=not self._on_processor)
        self.embedding: EmbeddingBounds | None = self._embeddings.bounds
        if self._pooling and self.embedding is None:
            raise folder.failed("vectors can't be had of its architecture here.")
        self.drafter: Drafter | None = self._drafter(load, folder)

    # ---- loading -----------------------------------------------------------------------------------------------------

    def _may_widen(self, folder: Folder) -> bool:
        """Whether 16-bit weights have room as float32, in which the processor computes faster."""
        return self._on_processor and safetensors_header.weights_bytes(folder.tensors) * 2 < self._free_bytes() // 2

    def _context_sizes(self, options: dict[str, Any], folder: Folder, cell: float) -> tuple[int, int]:
        """(tokens of one sequence, cells of all together): as configured, else as trained and up to what fits."""
        trained = folder.context_length or 4096
        n_ctx = int(options.get("n_ctx") or trained)
        if options.get("max_kv_size") and options.get("cache_type", "standard") != "rotating":
            n_ctx = min(n_ctx, int(options["max_kv_size"]))
        cells = int(options.get("kv_tokens") or 0)
        if not cells:
            fitting = int(self._free_bytes() * KV_MEMORY_SHARE / max(1.0, cell))
            cells = max(LEAST_CELLS, min(n_ctx * self._n_parallel, fitting))
            if options.get("n_ctx"):
                cells = max(cells, n_ctx)
        return min(n_ctx, cells), cells

    def _free_bytes(self) -> int:
        """What may still be allocated where the model computes, within what the router allows."""
        used = int(mx.get_active_memory())
        free = psutil.virtual_memory().available
        if not self._on_processor:
            device = mx.device_info()
            whole = device.get("max_recommended_working_set_size") or device.get("memory_size")
            free = int(whole) - used if whole else free
        return max(0, free if self._memory_bytes is None else min(free, self._memory_bytes - used))

    def _drafter(self, load: core.Load, folder: Folder) -> Drafter | None:
        if not load.options.get("draft_model_path"):
            return None
        if not self.max_drafts:
            raise folder.failed("its caches can't take guesses back, so `draft_model_path` has no use for it.")
        with draft_failures(load.model):
            return DraftModel(
                load, self.info, self._vocabulary, slots=self.slots, on_processor=self._on_processor
            ).drafts

    def _describe(self, options: dict[str, Any], folder: Folder, *, kv_bytes: int) -> core.ModelInfo:
        layers = len(self._model.layers) if hasattr(self._model, "layers") else folder.number("num_hidden_layers")
        return core.ModelInfo(
            "mlx",
            folder.architecture,
            self._n_ctx,
            n_ctx_trained=folder.context_length,
            kv_tokens=self._kv_tokens,
            n_parallel=self._n_parallel,
            n_vocab=folder.number("vocab_size") or self._vocabulary.size,
            n_layers=layers,
            n_layers_gpu=0 if self._on_processor else layers,
            n_embedding=folder.number("hidden_size", "n_embd", "d_model"),
            n_parameters=self._n_parameters,
            quantization=folder.quantization(),
            weights_bytes=safetensors_header.weights_bytes(folder.tensors),
            kv_bytes=kv_bytes,
            gpu_bytes=0 if self._on_processor else int(mx.get_active_memory()),
            chat_template="" if self._pooling else str(options.get("chat_template") or folder.chat_template()),
            capabilities=self._capabilities(),
            metadata=folder.metadata(),
            pooling=self._pooling,
        )

    def _capabilities(self) -> tuple[str, ...]:
        if self._pooling:
            return ("embedding",)
        return ("completion", "insert") if self.infill is not None else ("completion",)

    # ---- vocabulary --------------------------------------------------------------------------------------------------

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Text to token ids; callable from any thread: no call to mlx."""
        return self._vocabulary.encode(text, add_special=add_special, parse_special=parse_special)

    def piece(self, token: int) -> bytes:
        """The bytes of a token; empty for control tokens."""
        return self._vocabulary.piece(token)

    def control(self, token: int) -> str:
        """The text of a control token; empty: it is none."""
        return self._vocabulary.control(token)

    def is_end(self, token: int) -> bool:
        """Whether the token ends generation."""
        return token in self._vocabulary.ends

    @property
    def infill(self) -> InfillMarks | None:
        """The tokens that ask for the text between others; None: this model can't fill in."""
        return self._vocabulary.infill

    def special(self, name: str) -> str:
        """The text of the "bos", "eos" or "eot" token."""
        return self._vocabulary.special(name)

    # ---- slots -------------------------------------------------------------------------------------------------------

    def warm(self, sampling: core.Sampling) -> None:
        """Nothing takes long here."""

    def add(
        self,
        slot: int,
        sampling: core.Sampling,
        prompt: Seq[int],
        drawing: object = None,
        guide: Guide | None = None,
    ) -> None:
        """A chooser for the slot, with the prompt as its history; what it draws hangs on seed and position alone."""
        if isinstance(drawing, Chooser):
            self._choosers[slot] = drawing
            return
        n_vocab = self.info.n_vocab or self._vocabulary.size
        ends = sorted(self._vocabulary.ends)
        self._choosers[slot] = Chooser(sampling, prompt, ends=ends, n_vocab=n_vocab, guide=guide, arrays=mx)

    def release(self, slot: int) -> object:
        """Give the slot's chooser up; its cells stay."""
        self._step_back([slot])
        return self._choosers.pop(slot, None)

    def remove(self, slot: int, start: int = 0, end: int = -1) -> bool:
        """Forget cells: all, or those at the end where the caches can go back."""
        self._step_back([slot])
        if start == 0 and end < 0:
            self._memory.clear(slot)
            self._ledger.remove(slot)
            return True
        if 0 <= end < self._memory.length(slot) or not self._memory.cut(slot, start):
            return False
        self._ledger.remove(slot, start)
        return True

    def share(self, source: int, target: int, end: int) -> bool:
        """Copy cells. False where the caches can't be cut there, or the copies of all slots would outgrow the pool."""
        held = sum(self._memory.length(slot) for slot in range(self.slots))
        if held + end > self._kv_tokens or not self._memory.share(source, target, end):
            return False
        self._ledger.share(source, target, end)
        return True

    def shift(self, slot: int, start: int, end: int) -> bool:
        """Not in place: the keys hold their positions. The scheduler computes what is left anew."""
        return False

    def embed(self, texts: Seq[Seq[int]], start: int = 0, longest: int = 0) -> list[Floats]:
        """The rows of each text's tokens, with caches of their own."""
        try:
            return self._embeddings.embed(texts, start)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise EngineError(f"MLX could not compute texts: {error}") from error

    def pair(self, query: str, document: str) -> list[int]:
        """Not offered: mlx_lm has no architecture that ranks."""
        raise UnsupportedFeature("MLX ranks no documents.")

    def state_bytes(self, slot: int) -> int:
        """What its caches hold."""
        self._step_back([slot])
        return self._memory.state_bytes(slot)

    def save(self, slot: int) -> State:
        """The slot's caches in the library's own format."""
        self._step_back([slot])
        try:
            return mlx_states.dumped(self._memory.take(slot), self._memory.length(slot))
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"MLX could not save a slot's state: {error}") from error

    def restore(self, slot: int, state: State) -> bool:
        """Put saved caches into an empty slot."""
        try:
            caches, length = mlx_states.loaded(state)
        except (ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
            log.warning("A saved state can't be restored: %s", error)
            return False
        if self._ledger.used + length > self._kv_tokens:
            return False
        self._memory.put(slot, caches, length)
        self._ledger.extend(slot, length)
        return True

    def close(self) -> None:
        """Free everything."""
        self._choosers.clear()
        del self._memory, self._model
        mx.clear_cache()

    # ---- a step ------------------------------------------------------------------------------------------------------

    def step(self, feeds: Seq[Feed]) -> list[Drawn]:
        """Compute one batch. Raises OutOfCells before anything is computed, EngineError."""
        if self._ledger.used + sum(len(feed.tokens) for feed in feeds) > self._kv_tokens:
            raise OutOfCells
        for feed in feeds:
            held = self._memory.length(feed.slot) - (feed.slot in self._ahead)
            if feed.start != held:
                raise EngineError(f"Slot {feed.slot} holds {held} tokens, but was fed at {feed.start}.")
        try:
            drawn = self._compute(feeds)
        except (RuntimeError, ValueError, MemoryError) as error:
            self._ahead, self._ahead_tokens = {}, {}  # the scheduler forgets the cells of all that run
            log.exception("mlx could not compute a batch")
            raise EngineError(f"MLX could not compute a batch: {error}") from error
        for feed in feeds:
            self._ledger.extend(feed.slot, len(feed.tokens))
        return drawn

    def _compute(self, feeds: Seq[Feed]) -> list[Drawn]:
        feeds = [left for feed in feeds if (left := self._scored(feed)) is not None]
        guessed = [feed for feed in feeds if feed.drafts]
        drawn = self._decoded([feed for feed in feeds if not feed.drafts])
        self._step_back([feed.slot for feed in guessed])
        for feed in guessed:
            drawn += self._verified(feed)
        return drawn

    def _scored(self, feed: Feed) -> Feed | None:
        """What of a feed is left to be computed once a prompt's tokens are scored, in a pass of its own."""
        if feed.scores is None:
            return feed
        self._step_back([feed.slot])
        body = feed.tokens[:-1] if feed.sample else feed.tokens
        if body:
            rows = self._memory.verify(feed.slot, body).astype(mx.float32)
            note_scores(self, feed, np.array(rows))
        last = feed.start + len(body)
        return Feed(feed.slot, last, feed.tokens[-1:], sample=True) if feed.sample else None

    def _verified(self, feed: Feed) -> list[Drawn]:
        """The draws of a feed with guesses: a pass of its own, since the rows of a batch can't go back one by one."""
        chooser = self._choosers[feed.slot]
        rows = self._memory.verify(feed.slot, feed.tokens).astype(mx.float32)
        likeliest: list[int] = mx.argmax(rows, axis=-1).tolist() if chooser.takes_likeliest else []
        first = feed.start + len(feed.tokens) - feed.drafts
        drawn: list[Drawn] = []
        for at, guess in enumerate((*feed.guessed, None), len(feed.tokens) - feed.drafts - 1):
            place = first + len(drawn)
            token = likeliest[at] if likeliest else choose(rows[at : at + 1], [chooser], [place])[0]
            wanted = chooser.logprobs
            logprob = None if wanted is None else self._logprob(rows[at], token, wanted)
            drawn.append(Drawn(feed.slot, token, logprob, chooser.complete))
            if token != guess:
                break
        return drawn

    def _decoded(self, feeds: Seq[Feed]) -> list[Drawn]:
        unexpected = [feed.slot for feed in feeds if feed.tokens != (self._ahead_tokens.get(feed.slot),)]
        self._step_back(unexpected)
        bodies = [(feed.slot, feed.tokens[:-1] if feed.sample else feed.tokens) for feed in feeds]
        self._prefill([(slot, body) for slot, body in bodies if body])
        drawing = [feed for feed in feeds if feed.sample]
        if not drawing:
            return []
        logits = self._logits(drawing).astype(mx.float32)
        slots = [feed.slot for feed in drawing]
        positions = [feed.start + len(feed.tokens) for feed in drawing]
        choosers = [self._choosers[slot] for slot in slots]
        if all(chooser.takes_likeliest for chooser in choosers):
            likeliest = mx.argmax(logits, axis=-1)
            ahead = self._look_ahead(slots, likeliest, positions)
            tokens: list[int] = likeliest.tolist()
        else:
            tokens = choose(logits, choosers, positions)
            ahead = self._look_ahead(slots, mx.array(tokens), positions)
        token_of = dict(zip(slots, tokens, strict=True))
        self._ahead_tokens = {slot: token_of[slot] for slot in ahead}
        return [
            Drawn(slot, token, None if c.logprobs is None else self._logprob(logits[at], token, c.logprobs), c.complete)
            for at, (slot, token, c) in enumerate(zip(slots, tokens, choosers, strict=True))
        ]

    def _prefill(self, parts: Seq[tuple[int, Seq[int]]]) -> None:
        """Prompts together fill a wide device; the processor computes them no faster so, and the padding besides."""
        joined = [part for part in parts if self._prefills_together and not has_images(part[1])]
        if len(joined) > 1:
            self._memory.prefill_together(joined)
            parts = [part for part in parts if has_images(part[1])]
        for slot, body in parts:
            self._memory.prefill(slot, body)

    # ---- computing ahead ---------------------------------------------------------------------------------------------

    def _logits(self, drawing: Seq[Feed]) -> Any:
        """The logits [slots, vocabulary] of these feeds' last tokens: computed ahead, or now."""
        if any(feed.tokens[-1] < 0 for feed in drawing):
            return self._logits_behind_images(drawing)
        ahead, found = self._ahead, self._ahead_logits
        late = [feed for feed in drawing if feed.slot not in ahead]
        self._step_back([slot for slot in ahead if all(slot != feed.slot for feed in drawing)])
        if len(late) > 1:  # one pass for all of them costs less than one for each
            self._step_back(list(ahead))
            late = list(drawing)
        if len(late) == len(drawing):
            tokens = mx.array([feed.tokens[-1] for feed in drawing])
            return self._memory.decode([feed.slot for feed in drawing], tokens)
        rows = found if not late else mx.concatenate([found, *(self._beside(feed) for feed in late)])
        place = ahead | {feed.slot: found.shape[0] + at for at, feed in enumerate(late)}
        self._ahead, self._ahead_tokens, self._ahead_logits = {}, {}, None
        return picked(rows, [place[feed.slot] for feed in drawing])

    def _logits_behind_images(self, drawing: Seq[Feed]) -> Any:
        """The same where a prompt ends with an image, whose last row is a pass of its own."""
        rows = {feed.slot: self._memory.verify(feed.slot, feed.tokens[-1:]) for feed in drawing if feed.tokens[-1] < 0}
        others = [feed for feed in drawing if feed.slot not in rows]
        if others:
            found = self._logits(others)
            rows |= {feed.slot: found[at : at + 1] for at, feed in enumerate(others)}
        return mx.concatenate([rows[feed.slot] for feed in drawing])

    def _beside(self, feed: Feed) -> Any:
        return self._memory.decode_beside(feed.slot, mx.array([feed.tokens[-1]]))

    def _look_ahead(self, slots: Seq[int], tokens: Any, positions: Seq[int]) -> list[int]:
        """Start the next forward pass of the slots that may go on; tokens may be lazy. Returns those slots."""
        if not self._memory.can_undo:
            return []
        places = [
            at
            for at, (slot, position) in enumerate(zip(slots, positions, strict=True))
            if self._choosers[slot].may_follow(position + 1) and position + 1 < self._n_ctx
        ]
        if not places:
            return []
        going = [slots[at] for at in places]
        wanted = tokens if len(going) == len(slots) else tokens[mx.array(places)]
        self._ahead_logits = self._memory.decode(going, wanted)
        mx.async_eval(tokens, self._ahead_logits)
        self._ahead = {slot: row for row, slot in enumerate(going)}
        return going

    def _step_back(self, slots: Seq[int]) -> None:
        """Drop what was computed ahead of these slots."""
        known = [slot for slot in slots if slot in self._ahead]
        if not known:
            return
        self._memory.undo(known)
        for slot in known:
            del self._ahead[slot]
            self._ahead_tokens.pop(slot, None)

    def _logprob(self, row: Any, token: int, top: int) -> core.TokenLogprob:
        value, ranked = logprobs(row, token, top)
        alternatives = tuple(core.TopLogprob(other, shown(self, other), chance) for other, chance in ranked)
        return core.TokenLogprob(token, shown(self, token), value, alternatives)
