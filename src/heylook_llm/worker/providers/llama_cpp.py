"""GGUF models on llama.cpp's low-level binding: one context, one pool of KV cells, one sampler chain per sequence.

One `llama_decode` computes a step's whole batch, from C arrays that are allocated once. Slots whose sampling is plainly
greedy need no sampler: their tokens are one argmax over the rows of logits.

Traps of the binding: the log callback must be kept referenced or the process segfaults; `libggml.so` beside
`libggml.so.0` is a second copy with a second registry; a sampler that is added to a chain belongs to the chain;
sequence ids beyond n_seq_max are accepted by seq_cp and fail in decode.
"""

import ctypes
import importlib
import logging
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from heylook_llm import core
from heylook_llm.errors import EngineError, LoadFailed, UnsupportedFeature
from heylook_llm.worker.providers import defaults
from heylook_llm.worker.providers.base import Drawn, Feed, OutOfCells
from heylook_llm.worker.text import MARKUP

RANDOM_SEED: Final = 0xFFFFFFFF
NO_TOKEN: Final = -1
LEAST_LOGPROB: Final = -9999.0
KV_MEMORY_SHARE: Final = 0.5
"""Of the memory that is free after loading: what the pool takes at most when nobody sets its size."""
GPU_RESERVE_BYTES: Final = 512 << 20
"""Of each GPU's free memory: left for compute buffers."""
WEIGHTS_PER_THREAD_BYTES: Final = 16 << 20
ENDLESS: Final = 1 << 60
MIROSTAT_TOKENS: Final = 100
CELL_PADDING: Final = 256
"""llama.cpp rounds the pool up to this."""

_CACHE_TYPES: Final = {"f32": 0, "f16": 1, "bf16": 30, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8}
_CACHE_BITS: Final = {
    "f32": 32.0, "f16": 16.0, "bf16": 16.0, "q4_0": 4.5, "q4_1": 5.0, "q5_0": 5.5, "q5_1": 6.0, "q8_0": 8.5
}  # fmt: skip
_ROPE_SCALING: Final = {"none": 0, "linear": 1, "yarn": 2, "longrope": 3}
_SPLIT_MODES: Final = {"none": 0, "layer": 1, "row": 2}
_FILE_KEYS: Final = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repeat_penalty",
    "general.sampling.penalty_last_n": "repeat_last_tokens",
    "general.sampling.mirostat": "mirostat",
    "general.sampling.mirostat_tau": "mirostat_tau",
    "general.sampling.mirostat_eta": "mirostat_eta",
}
_LOG_LEVELS: Final = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
"""ggml.h's; the table in llama-cpp-python is another one. 5 continues the line before."""
_NOISE: Final = ("n_ctx_seq (", "failed to find a memory slot")
"""It takes the pool for one sequence's context; and a full pool is the scheduler's daily business."""
_BUFFER: Final = re.compile(r"(\S+)\s+(model|KV|compute|output) buffer size\s*=\s*([\d.]+) MiB")
_OFFLOADED: Final = re.compile(r"offloaded (\d+)/\d+ layers")

Floats = np.ndarray[Any, np.dtype[np.float32]]
Integers = np.ndarray[Any, np.dtype[Any]]

log = logging.getLogger("heylook_llm.worker.llama_cpp")


def open_model(load: core.Load, progress: Callable[[float], None]) -> "LlamaCpp":
    """The provider of a Load frame. Raises LoadFailed; ImportError where llama-cpp-python is missing."""
    native: Any = importlib.import_module("llama_cpp.llama_cpp")
    return LlamaCpp(native, load, progress)


class _Log:
    """What llama.cpp logs: warnings go on to our log; errors and buffer sizes are kept."""

    def __init__(self, native: Any) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self.buffers: list[tuple[str, str, float]] = []
        """(device, kind, MiB)"""
        self.layers_gpu: int | None = None
        self._level = logging.INFO
        self._native = native
        self._callback = native.llama_log_callback(self._take)
        native.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _: object) -> None:
        if level in _LOG_LEVELS:
            self._level = _LOG_LEVELS[level]
        line = text.decode("utf-8", "replace").strip()
        if not line or line == "." or any(noise in line for noise in _NOISE):
            return
        if self._level >= logging.ERROR:
            self.errors.append(line)
        if found := _BUFFER.search(line):
            self.buffers.append((found.group(1), found.group(2), float(found.group(3))))
        if found := _OFFLOADED.search(line):
            self.layers_gpu = int(found.group(1))
        log.log(self._level if self._level >= logging.WARNING else logging.DEBUG, "%s", line)

    def mebibytes(self, kind: str | None = None, *, gpu: bool = False) -> float:
        """The sum of the buffers of one kind; `gpu`: only those on GPUs."""
        return sum(
            size
            for device, k, size in self.buffers
            if (kind is None or k == kind) and not (gpu and device.startswith(("CPU", "BLAS", "AMX")))
        )

    def close(self) -> None:
        """llama.cpp logs to stderr again."""
        self._native.llama_log_set(self._native.llama_log_callback(0), ctypes.c_void_p(0))


class _Batch:
    """A llama_batch over arrays of our own, filled from numpy without a Python object per token."""

    def __init__(self, native: Any, capacity: int) -> None:
        self._token = (ctypes.c_int32 * capacity)()
        self._position = (ctypes.c_int32 * capacity)()
        self._counts = (ctypes.c_int32 * capacity)(*([1] * capacity))
        self._slot = (ctypes.c_int32 * capacity)()
        pointer = ctypes.POINTER(ctypes.c_int32)
        self._slot_pointers = (pointer * capacity)()
        base, size = ctypes.addressof(self._slot), ctypes.sizeof(ctypes.c_int32)
        addresses = np.frombuffer(memoryview(self._slot_pointers).cast("B"), dtype=np.uintp)
        addresses[:] = base + size * np.arange(capacity, dtype=np.uintp)
        self._wanted = (ctypes.c_int8 * capacity)()
        self.struct = native.llama_batch(
            0, self._token, None, self._position, self._counts, self._slot_pointers, self._wanted
        )
        self.tokens: Integers = np.ctypeslib.as_array(self._token)
        self.positions: Integers = np.ctypeslib.as_array(self._position)
        self.slots: Integers = np.ctypeslib.as_array(self._slot)
        self.wanted: Integers = np.ctypeslib.as_array(self._wanted)
        self._steps = np.arange(capacity, dtype=np.int32)

    def fill(self, feeds: Seq[Feed]) -> list[int]:
        """Put the feeds in; returns the place of the last token of each feed that wants a token drawn."""
        at = 0
        last: list[int] = []
        token, position, slot, wanted = self._token, self._position, self._slot, self._wanted
        for feed in feeds:
            count = len(feed.tokens)
            if count == 1:
                token[at] = feed.tokens[0]
                position[at] = feed.start
                slot[at] = feed.slot
                wanted[at] = feed.sample
            else:
                end = at + count
                self.tokens[at:end] = feed.tokens
                self.positions[at:end] = self._steps[:count]
                self.positions[at:end] += feed.start
                self.slots[at:end] = feed.slot
                self.wanted[at:end] = 0
                wanted[end - 1] = feed.sample
            at += count
            if feed.sample:
                last.append(at - 1)
        self.struct.n_tokens = at
        return last


class _Slot:
    """What a slot in use draws with: no chain means the likeliest token. Its end frees the chain."""

    __slots__ = ("_free", "chain", "forced", "logprobs")

    def __init__(self, chain: Any | None, forced: int, logprobs: int | None, free: Callable[[Any], None]) -> None:
        self.chain = chain
        self._free = free
        self.forced = forced
        """Tokens still to come before the end of text may be drawn."""
        self.logprobs = logprobs

    def __del__(self) -> None:
        if self.chain is not None:
            self._free(self.chain)


class LlamaCpp:
    """See the module's docstring."""

    engine_defaults = defaults.ENGINE_DEFAULTS
    unsupported: frozenset[str] = frozenset()

    def __init__(self, native: Any, load: core.Load, progress: Callable[[float], None]) -> None:
        self._native = native
        self._model: Any = None
        self._context: Any = None
        self._slots: dict[int, _Slot] = {}
        self._log = _Log(native)
        options = load.options
        native.llama_backend_init()
        if options.get("numa"):
            native.llama_numa_init(1)
        self._model = self._load_model(load, progress)
        self._vocab = native.llama_model_get_vocab(self._model)
        self._n_vocab = int(native.llama_vocab_n_tokens(self._vocab))
        self._metadata = dict(_metadata(native, self._model))
        self._n_parallel = int(options.get("n_parallel") or 8)
        self._n_ctx, kv_tokens = self._context_sizes(load)
        self._n_batch = max(min(int(options.get("n_batch") or 2048), kv_tokens), self._n_parallel)
        self._context = self._new_context(load.model, options, kv_tokens)
        self._memory = native.llama_get_memory(self._context)
        self._batch = _Batch(native, self._n_batch)
        self._rows = _Logits(native, self._context, self._n_vocab, self._n_parallel)
        self._ends = frozenset(t for t in range(self._n_vocab) if native.llama_vocab_is_eog(self._vocab, t))
        self._window = int(native.llama_model_n_swa(self._model)) > 0 and not options.get("swa_full", True)
        recurrent = native.llama_model_is_recurrent(self._model) or native.llama_model_is_hybrid(self._model)
        self._can_share = not recurrent and not self._window
        self._can_shift = bool(native.llama_memory_can_shift(self._memory)) and not recurrent
        in_file = {field: self._metadata[key] for key, field in _FILE_KEYS.items() if key in self._metadata}
        self.defaults = defaults.of_model(options, in_file)
        self.info = self._describe(options)

    # ---- loading -----------------------------------------------------------------------------------------------------

    def _load_model(self, load: core.Load, progress: Callable[[float], None]) -> Any:
        native, options = self._native, load.options
        params = native.llama_model_default_params()
        params.n_gpu_layers = self._gpu_layers(load)
        params.split_mode = _SPLIT_MODES[options.get("split_mode") or "layer"]
        params.main_gpu = int(options.get("main_gpu") or 0)
        params.load_mode = int(options.get("use_mmap", True)) + 2 * int(options.get("use_mlock", False))
        if split := options.get("tensor_split"):
            shares = (ctypes.c_float * int(native.llama_max_devices()))(*split)
            params.tensor_split = ctypes.cast(shares, ctypes.POINTER(ctypes.c_float))

        def go_on(fraction: float, _: object) -> bool:
            progress(fraction)
            return True

        callback = native.llama_progress_callback(go_on)
        params.progress_callback = callback
        if not os.path.isfile(load.path):
            raise LoadFailed(f"Model '{load.model}' can't be loaded: its file is missing.")
        model = native.llama_model_load_from_file(os.fsencode(load.path), params)
        if not model:
            raise LoadFailed(f"Model '{load.model}' can't be loaded: {self._reason(load.path)}")
        if not native.llama_model_has_decoder(model):
            native.llama_model_free(model)
            raise LoadFailed(f"Model '{load.model}' can't be loaded: it has no decoder, so it can't generate text.")
        return model

    def _reason(self, path: str) -> str:
        """The first error that llama.cpp logged, without the file's place."""
        text = self._log.errors[0] if self._log.errors else "llama.cpp gives no reason."
        return text.replace(path, "the file") if path else text

    def _gpu_layers(self, load: core.Load) -> int:
        """Layers for the GPUs: as configured; "auto": as many as fit in their memory with their part of the pool."""
        wanted = load.options.get("n_gpu_layers", "auto")
        if not self._native.llama_supports_gpu_offload():
            return 0
        if wanted != "auto":
            return int(wanted)
        free = gpu_free_bytes(self._native)
        if free is None or not os.path.isfile(load.path):
            return -1
        layers, cell_bytes = self._peek(load)
        cells = int(load.options.get("kv_tokens") or load.options.get("n_ctx") or 4096)
        per_layer = os.path.getsize(load.path) / (layers + 1) + cells * cell_bytes / max(1, layers)
        return max(0, min(layers + 1, int((free - GPU_RESERVE_BYTES) / per_layer)))

    def _peek(self, load: core.Load) -> tuple[int, float]:
        """(layers, bytes of one KV cell) from the file's header alone."""
        native = self._native
        params = native.llama_model_default_params()
        params.vocab_only = True
        params.n_gpu_layers = 0
        model = native.llama_model_load_from_file(os.fsencode(load.path), params)
        if not model:
            raise LoadFailed(f"Model '{load.model}' can't be loaded: {self._reason(load.path)}")
        metadata = dict(_metadata(native, model))
        native.llama_model_free(model)
        architecture = str(metadata.get("general.architecture", ""))
        return int(metadata.get(f"{architecture}.block_count", 1)), _cell_bytes(metadata, load.options)

    def _context_sizes(self, load: core.Load) -> tuple[int, int]:
        """(tokens of one sequence, cells of the pool): as configured, else as trained and up to what memory allows."""
        options = load.options
        trained = int(self._native.llama_model_n_ctx_train(self._model)) or 4096
        n_ctx = int(options.get("n_ctx") or trained)
        cells = int(options.get("kv_tokens") or 0)
        if not cells:
            free = self._free_bytes(load) * KV_MEMORY_SHARE
            fitting = int(free / max(1.0, _cell_bytes(self._metadata, options)))
            cells = max(CELL_PADDING, min(n_ctx * self._n_parallel, fitting))
            if options.get("n_ctx"):
                cells = max(cells, n_ctx)
        cells = math.ceil(cells / CELL_PADDING) * CELL_PADDING
        return min(n_ctx, cells), cells

    def _free_bytes(self, load: core.Load) -> int:
        """Memory for the pool: of what the server grants the model in all, what its weights leave; on GPUs, theirs."""
        granted = load.limits.get("memory_bytes")
        free = int(psutil.virtual_memory().available)
        if granted is not None:
            free = max(0, granted - int(self._native.llama_model_size(self._model)))
        if not load.options.get("offload_kqv", True) or not self._log.layers_gpu:
            return free
        share = self._log.layers_gpu / max(1, int(self._native.llama_model_n_layer(self._model)))
        return pool_bytes(free, gpu_free_bytes(self._native), min(1.0, share))

    def _new_context(self, model: str, options: dict[str, Any], kv_tokens: int) -> Any:
        native = self._native
        params = native.llama_context_default_params()
        params.n_ctx = kv_tokens
        params.n_batch = self._n_batch
        params.n_ubatch = min(int(options.get("n_ubatch") or 512), self._n_batch)
        params.n_seq_max = self._n_parallel
        params.n_outputs_max = self._n_parallel
        params.kv_unified = True
        params.n_threads = int(options.get("n_threads") or self._threads())
        params.n_threads_batch = int(options.get("n_threads_batch") or params.n_threads)
        params.offload_kqv = bool(options.get("offload_kqv", True))
        params.swa_full = bool(options.get("swa_full", True))
        params.no_perf = True
        flash = options.get("flash_attn", "auto")
        params.flash_attn_type = -1 if flash in ("auto", None) else int(bool(flash))
        params.type_k = _CACHE_TYPES[options.get("type_k") or "f16"]
        params.type_v = _CACHE_TYPES[options.get("type_v") or "f16"]
        if scaling := options.get("rope_scaling_type"):
            params.rope_scaling_type = _ROPE_SCALING[scaling]
        params.rope_freq_base = float(options.get("rope_freq_base") or 0)
        params.rope_freq_scale = float(options.get("rope_freq_scale") or 0)
        context = native.llama_init_from_model(self._model, params)
        if not context:
            raise LoadFailed(
                f"Model '{model}' can't be loaded with a context of {kv_tokens} tokens: {self._reason('')} "
                "Set a smaller `n_ctx`, `kv_tokens` or `n_parallel`."
            )
        return context

    def _threads(self) -> int:
        """The physical cores, but few for a small model: its threads would mostly wait for each other."""
        worth = 1 + int(self._native.llama_model_size(self._model)) // WEIGHTS_PER_THREAD_BYTES
        return min(physical_cores(), worth)

    def _describe(self, options: dict[str, Any]) -> core.ModelInfo:
        native, model, metadata = self._native, self._model, self._metadata
        capabilities = ["completion"]
        if self.infill("", "") is not None:
            capabilities.append("insert")
        on_gpu = self._log.layers_gpu or 0
        return core.ModelInfo(
            "llama_cpp",
            str(metadata.get("general.architecture", "unknown")),
            self._n_ctx,
            n_ctx_trained=int(native.llama_model_n_ctx_train(model)),
            kv_tokens=int(native.llama_n_ctx(self._context)),
            n_parallel=self._n_parallel,
            n_vocab=self._n_vocab,
            n_layers=int(native.llama_model_n_layer(model)),
            n_layers_gpu=on_gpu,
            n_embedding=int(native.llama_model_n_embd(model)),
            n_parameters=int(native.llama_model_n_params(model)),
            quantization=native.llama_ftype_name(native.llama_model_ftype(model)).decode() or None,
            weights_bytes=int(native.llama_model_size(model)),
            kv_bytes=int(self._log.mebibytes("KV") * (1 << 20)) or None,
            gpu_bytes=int(self._log.mebibytes(gpu=True) * (1 << 20)) if on_gpu else 0,
            chat_template=self._chat_template(options),
            capabilities=tuple(capabilities),
            metadata=metadata,
        )

    def _chat_template(self, options: dict[str, Any]) -> str:
        if text := options.get("chat_template"):
            return str(text)
        if path := options.get("chat_format_template"):
            return Path(path).read_text(encoding="utf-8")
        template = self._native.llama_model_chat_template(self._model, None)
        return template.decode("utf-8", "replace") if template else ""

    # ---- vocabulary --------------------------------------------------------------------------------------------------

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Text to token ids; callable from any thread."""
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        tokens = (ctypes.c_int32 * size)()
        count = self._native.llama_tokenize(self._vocab, data, len(data), tokens, size, add_special, parse_special)
        if count < 0:
            raise EngineError("The prompt can't be tokenized.")
        return tokens[:count]

    def piece(self, token: int) -> bytes:
        """The bytes of a token; empty for control tokens, but for the tags that the text layer reads."""
        if not 0 <= token < self._n_vocab:
            return b""
        native = self._native
        special = native.llama_vocab_is_control(self._vocab, token) and self._token_text(token) in MARKUP
        buffer = ctypes.create_string_buffer(512)
        size = native.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = native.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:size]

    def is_end(self, token: int) -> bool:
        """Whether the token ends generation."""
        return token in self._ends

    def infill(self, prefix: str, suffix: str) -> list[int] | None:
        """Prefix, suffix, middle: the order that code models are trained on. None without the tokens for it."""
        native, vocab = self._native, self._vocab
        marks = [f(vocab) for f in (native.llama_vocab_fim_pre, native.llama_vocab_fim_suf, native.llama_vocab_fim_mid)]
        if NO_TOKEN in marks:
            return None
        before = self.encode(prefix, add_special=False, parse_special=False)
        after = self.encode(suffix, add_special=False, parse_special=False)
        return [marks[0], *before, marks[1], *after, marks[2]]

    def special(self, name: str) -> str:
        """The text of the vocabulary's "bos", "eos" or "eot" token."""
        token = getattr(self._native, f"llama_vocab_{name}")(self._vocab)
        return self._token_text(token) if token != NO_TOKEN else ""

    def _token_text(self, token: int) -> str:
        text = self._native.llama_vocab_get_text(self._vocab, token)
        return text.decode("utf-8", "replace") if text else ""

    # ---- slots -------------------------------------------------------------------------------------------------------

    def add(self, slot: int, sampling: core.Sampling, prompt: Seq[int], drawing: object = None) -> None:
        """A sampler for the slot, with the prompt's last tokens as the history of its penalties."""
        if isinstance(drawing, _Slot):
            self._slots[slot] = drawing
            return
        forced = ENDLESS if sampling.ignore_eos else sampling.min_tokens
        chain = None if _is_plain_greedy(sampling) else self._new_chain(sampling, prompt)
        self._slots[slot] = _Slot(chain, forced, sampling.logprobs, self._native.llama_sampler_free)

    def release(self, slot: int) -> object:
        """Give the slot's sampler up: its random state and history, for `add` to take back."""
        return self._slots.pop(slot, None)

    def remove(self, slot: int, start: int = 0, end: int = -1) -> bool:
        """Forget cells; behind a sliding window the cells before the cut are gone, so nothing partial is left."""
        if self._window and start > 0:
            return False
        return bool(self._native.llama_memory_seq_rm(self._memory, slot, start if start or end >= 0 else -1, end))

    def share(self, source: int, target: int, end: int) -> bool:
        """Both slots hold the same cells; nothing is copied."""
        if not self._can_share:
            return False
        self._native.llama_memory_seq_cp(self._memory, source, target, 0, end)
        return True

    def shift(self, slot: int, start: int, end: int) -> bool:
        """Drop positions and rotate the rest down."""
        if not self._can_shift or not self.remove(slot, start, end):
            return False
        self._native.llama_memory_seq_add(self._memory, slot, end, -1, start - end)
        return True

    def save(self, slot: int) -> bytes:
        """The slot's cells as llama.cpp writes them."""
        size = self._native.llama_state_seq_get_size(self._context, slot)
        data = (ctypes.c_uint8 * size)()
        written = self._native.llama_state_seq_get_data(self._context, data, size, slot)
        return bytes(memoryview(data)[:written])

    def restore(self, slot: int, state: bytes) -> None:
        """Put saved cells into an empty slot."""
        data = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if not self._native.llama_state_seq_set_data(self._context, data, len(state), slot):
            raise OutOfCells

    def embed(self, prompts: Seq[Seq[int]], pooling: str | None, normalize: bool) -> list[bytes]:
        """Not offered yet."""
        raise UnsupportedFeature("This version computes no embeddings.")

    def close(self) -> None:
        """Free everything."""
        self._slots.clear()
        if self._context:
            self._native.llama_free(self._context)
        if self._model:
            self._native.llama_model_free(self._model)
        self._context = self._model = None
        self._log.close()

    # ---- a step ------------------------------------------------------------------------------------------------------

    def step(self, feeds: Seq[Feed]) -> list[Drawn]:
        """One llama_decode of everything. Raises OutOfCells with the memory as it was, EngineError."""
        last = self._batch.fill(feeds)
        status = self._native.llama_decode(self._context, self._batch.struct)
        if status == 1:
            raise OutOfCells
        if status != 0:
            raise EngineError(f"llama.cpp could not compute a batch (status {status}).")
        return self._draw([feed.slot for feed in feeds if feed.sample], last)

    def composition(self) -> list[tuple[int, int]]:
        """(slot, position) of every token in the last batch, as llama.cpp got it."""
        count = self._batch.struct.n_tokens
        return list(zip(self._batch.slots[:count].tolist(), self._batch.positions[:count].tolist(), strict=True))

    def _draw(self, numbers: list[int], last: list[int]) -> list[Drawn]:
        if not numbers:
            return []
        slots = [self._slots[number] for number in numbers]
        rows = self._rows.view(len(numbers))
        likeliest: list[int] = rows.argmax(axis=1).tolist() if any(slot.chain is None for slot in slots) else []
        drawn: list[Drawn] = []
        for at, (number, slot) in enumerate(zip(numbers, slots, strict=True)):
            if slot.chain is not None:
                token = self._sample(slot, last[at])
            elif slot.forced and likeliest[at] in self._ends:
                token = self._likeliest_but_the_end(rows[at])
            else:
                token = likeliest[at]
            slot.forced -= slot.forced > 0
            wanted = slot.logprobs
            drawn.append(Drawn(number, token, None if wanted is None else self._logprob(rows[at], token, wanted)))
        return drawn

    def _sample(self, slot: _Slot, at: int) -> int:
        token = int(self._native.llama_sampler_sample(slot.chain, self._context, at))
        if slot.forced == 1:  # the chain's first sampler prevents the end till then
            self._native.llama_sampler_free(self._native.llama_sampler_chain_remove(slot.chain, 0))
        return token

    def _likeliest_but_the_end(self, row: Floats) -> int:
        allowed = row.copy()
        allowed[list(self._ends)] = -np.inf
        return int(allowed.argmax())

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
        alternatives = tuple(core.TopLogprob(t, self.piece(t), _finite(logits[t])) for t in ranked)
        return core.TokenLogprob(token, self.piece(token), _finite(logits[token]), alternatives)

    # ---- samplers ----------------------------------------------------------------------------------------------------

    def _new_chain(self, sampling: core.Sampling, prompt: Seq[int]) -> Any:
        """llama.cpp's samplers in its own order: bias, penalties, cuts, temperature, draw."""
        native = self._native
        params = native.llama_sampler_chain_default_params()
        params.no_perf = True
        chain = native.llama_sampler_chain_init(params)
        for sampler in self._samplers(sampling):
            native.llama_sampler_chain_add(chain, sampler)
        if _has_penalties(sampling):
            window = _penalty_window(sampling, self._n_ctx)
            for token in prompt[-window:] if window else ():
                native.llama_sampler_accept(chain, token)
        return chain

    def _samplers(self, sampling: core.Sampling) -> Iterator[Any]:
        native = self._native
        if sampling.ignore_eos or sampling.min_tokens:
            yield self._bias(dict.fromkeys(self._ends, -math.inf))
        if sampling.logit_bias:
            yield self._bias({t: bias for t, bias in sampling.logit_bias.items() if 0 <= t < self._n_vocab})
        if _has_penalties(sampling):
            yield native.llama_sampler_init_penalties(
                self._n_vocab,
                _penalty_window(sampling, self._n_ctx),
                sampling.repeat_penalty or 1.0,
                sampling.frequency_penalty or 0.0,
                sampling.presence_penalty or 0.0,
            )
        if not sampling.temperature or sampling.temperature <= 0:
            yield native.llama_sampler_init_greedy()
            return
        seed = RANDOM_SEED if sampling.seed is None else sampling.seed % RANDOM_SEED
        if sampling.mirostat:
            yield native.llama_sampler_init_temp(sampling.temperature)
            yield self._mirostat(sampling, seed)
            return
        yield from self._cuts(sampling)
        yield native.llama_sampler_init_temp(sampling.temperature)
        yield native.llama_sampler_init_dist(seed)

    def _cuts(self, sampling: core.Sampling) -> Iterator[Any]:
        native = self._native
        if sampling.top_k:
            yield native.llama_sampler_init_top_k(sampling.top_k)
        if sampling.typical_p is not None and sampling.typical_p < 1:
            yield native.llama_sampler_init_typical(sampling.typical_p, 1)
        if sampling.top_p is not None and sampling.top_p < 1:
            yield native.llama_sampler_init_top_p(sampling.top_p, 1)
        if sampling.min_p:
            yield native.llama_sampler_init_min_p(sampling.min_p, 1)

    def _mirostat(self, sampling: core.Sampling, seed: int) -> Any:
        tau = 5.0 if sampling.mirostat_tau is None else sampling.mirostat_tau
        eta = 0.1 if sampling.mirostat_eta is None else sampling.mirostat_eta
        if sampling.mirostat == 1:
            return self._native.llama_sampler_init_mirostat(self._n_vocab, seed, tau, eta, MIROSTAT_TOKENS)
        return self._native.llama_sampler_init_mirostat_v2(seed, tau, eta)

    def _bias(self, biases: dict[int, float]) -> Any:
        native = self._native
        array = (native.llama_logit_bias * max(1, len(biases)))()
        for at, (token, bias) in enumerate(biases.items()):
            array[at].token = token
            array[at].bias = bias
        return native.llama_sampler_init_logit_bias(self._n_vocab, len(biases), array)


class _Logits:
    """The rows of logits of the last batch, as numpy views on llama.cpp's own buffer."""

    def __init__(self, native: Any, context: Any, n_vocab: int, rows: int) -> None:
        self._address_of = native._lib["llama_get_logits"]
        self._address_of.argtypes = [ctypes.c_void_p]
        self._address_of.restype = ctypes.c_void_p
        self._context = ctypes.cast(context, ctypes.c_void_p)
        self._shape = (rows, n_vocab)
        self._views: dict[int, Floats] = {}

    def view(self, rows: int) -> Floats:
        """The first rows: [rows, n_vocab], one per token that wanted logits, in the batch's order."""
        address = self._address_of(self._context)
        view = self._views.get(address)
        if view is None:
            buffer = (ctypes.c_float * (self._shape[0] * self._shape[1])).from_address(address)
            view = self._views[address] = np.ctypeslib.as_array(buffer).reshape(self._shape)
        return view[:rows]


# ---- what the machine and the file say ------------------------------------------------------------------------------


def physical_cores() -> int:
    """Cores that this process may use; two threads of one core don't help llama.cpp."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))


def gpu_free_bytes(native: Any) -> int | None:
    """Free memory of all GPUs together, as ggml's back ends report it; None: there is none, or it can't be told."""
    folder = Path(native.__file__).parent / "lib"
    found = [folder / name for name in ("libggml.so.0", "libggml.dylib", "ggml.dll") if (folder / name).exists()]
    if not found:
        return None
    ggml = ctypes.CDLL(str(found[0]))
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    ggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    size_pointer = ctypes.POINTER(ctypes.c_size_t)
    ggml.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, size_pointer, size_pointer]
    total = 0
    for at in range(ggml.ggml_backend_dev_count()):
        device = ggml.ggml_backend_dev_get(at)
        if ggml.ggml_backend_dev_type(device) != 1:  # GGML_BACKEND_DEVICE_TYPE_GPU
            continue
        free, whole = ctypes.c_size_t(), ctypes.c_size_t()
        ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(whole))
        total += free.value
    return total or None


def pool_bytes(free: int, gpu_free: int | None, gpu_share: float) -> int:
    """What the pool may take in all, if `gpu_share` of it lies on GPUs, with the layers that it belongs to."""
    if gpu_free is None or gpu_share <= 0:
        return free
    return min(free, int(max(0, gpu_free - GPU_RESERVE_BYTES) / gpu_share))


def _metadata(native: Any, model: Any) -> Iterator[tuple[str, Any]]:
    """Key and value of the file's metadata; arrays and the chat template are left out."""
    buffer = ctypes.create_string_buffer(1 << 16)
    for at in range(native.llama_model_meta_count(model)):
        if native.llama_model_meta_key_by_index(model, at, buffer, len(buffer)) < 0:
            continue
        key = buffer.value.decode("utf-8", "replace")
        if native.llama_model_meta_val_str_by_index(model, at, buffer, len(buffer)) < 0 or "chat_template" in key:
            continue
        yield key, _plain_value(buffer.value.decode("utf-8", "replace"))


def _plain_value(text: str) -> Any:
    """llama.cpp gives every value as text; numbers and booleans become what they were."""
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    if re.fullmatch(r"-?\d+\.\d+(e[+-]?\d+)?", text):
        return float(text)
    return text


def _cell_bytes(metadata: dict[str, Any], options: dict[str, Any]) -> float:
    """Bytes of one token's keys and values over all layers, by the file's header."""
    architecture = metadata.get("general.architecture", "")

    def number(key: str, default: float) -> float:
        value = metadata.get(f"{architecture}.{key}", default)
        return float(value) if isinstance(value, int | float) else default

    heads = number("attention.head_count", 1)
    kv_heads = number("attention.head_count_kv", heads)
    width = number("embedding_length", 4096) / max(1.0, heads)
    key_bits = number("attention.key_length", width) * _CACHE_BITS[options.get("type_k") or "f16"]
    value_bits = number("attention.value_length", width) * _CACHE_BITS[options.get("type_v") or "f16"]
    return number("block_count", 32) * kv_heads * (key_bits + value_bits) / 8


def _has_penalties(sampling: core.Sampling) -> bool:
    active = (sampling.repeat_penalty or 1.0) != 1.0 or sampling.frequency_penalty or sampling.presence_penalty
    return bool(active) and sampling.repeat_last_tokens != 0


def _penalty_window(sampling: core.Sampling, n_ctx: int) -> int:
    window = 64 if sampling.repeat_last_tokens is None else sampling.repeat_last_tokens
    return n_ctx if window < 0 else window


def _is_plain_greedy(sampling: core.Sampling) -> bool:
    """Whether the next token is just the likeliest one."""
    greedy = not sampling.temperature or sampling.temperature <= 0
    return greedy and not (sampling.logit_bias or _has_penalties(sampling))


def _finite(value: float) -> float:
    return max(LEAST_LOGPROB, float(value))
