"""Opening a GGUF by its configuration: what llama.cpp is asked for, and sizes that the machine's memory allows."""

import ctypes
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

from heylook_llm import core
from heylook_llm.errors import LoadFailed
from heylook_llm.worker.providers import llama_cpp_lora, llama_cpp_pages
from heylook_llm.worker.providers.llama_cpp_devices import Devices
from heylook_llm.worker.providers.llama_cpp_native import Log, metadata_of
from heylook_llm.worker.providers.llama_cpp_threads import threads_for

KV_MEMORY_SHARE: Final = 0.5
"""Of the memory that is free after loading: what the pool takes at most when nobody sets its size."""
GPU_RESERVE_BYTES: Final = 512 << 20
"""Of each GPU's free memory: left for compute buffers."""
MAX_SLOTS: Final = 256
"""llama.cpp's LLAMA_MAX_SEQ."""
SPARE_SLOTS: Final = 8
"""Sequence ids that only keep prefixes: they cost nothing but the cells that they hold."""
SPARE_STATES: Final = 2
"""The same of a recurrent model, where each has the memory of a whole state."""
FLASH_TILE: Final = 64
"""Rows of queries that llama.cpp's flash attention on CPUs takes at once (GGML_FA_TILE_Q)."""
CELL_PADDING: Final = 256
"""llama.cpp rounds the pool up to this."""

_CACHE_TYPES: Final = {
    "f32": 0, "f16": 1, "bf16": 30, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20
}  # fmt: skip
_CACHE_BITS: Final = {
    "f32": 32.0, "f16": 16.0, "bf16": 16.0, "q4_0": 4.5, "q4_1": 5.0, "q5_0": 5.5, "q5_1": 6.0, "q8_0": 8.5,
    "iq4_nl": 4.5,
}  # fmt: skip
_ROPE_SCALING: Final = {"none": 0, "linear": 1, "yarn": 2, "longrope": 3}
_YARN: Final = ("yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow", "yarn_orig_ctx")
_SPLIT_MODES: Final = {"none": 0, "layer": 1, "row": 2, "tensor": 3}
_DIRECT_IO: Final = 4
_NUMA: Final = {"distribute": 1, "isolate": 2, "numactl": 3}
_EXPERTS: Final = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
"""The tensors of a mixture's experts, as llama-server's --n-cpu-moe finds them."""
_VALUE_KINDS: Final[dict[type, tuple[int, str]]] = {
    int: (0, "val_i64"),
    float: (1, "val_f64"),
    bool: (2, "val_bool"),
    str: (3, "val_str"),
}


class Opening:
    """One Load frame on its way to a model and its context."""

    def __init__(self, native: Any, load: core.Load, log: Log) -> None:
        self.native = native
        self.options = load.options
        self._load = load
        self._log = log
        self._devices = Devices(native)
        self._kept: list[Any] = []
        """Arrays that llama.cpp reads while it loads."""
        self.n_parallel = int(load.options.get("n_parallel") or 8)

    # ---- the model ---------------------------------------------------------------------------------------------------

    def model(self, progress: Callable[[float], None]) -> Any:
        """The weights. Raises LoadFailed."""
        native, load = self.native, self._load
        params = self._model_params()

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

    def _model_params(self) -> Any:
        native, options = self.native, self.options
        params = native.llama_model_default_params()
        params.n_gpu_layers = self._gpu_layers()
        params.split_mode = _SPLIT_MODES[options.get("split_mode") or "layer"]
        params.main_gpu = int(options.get("main_gpu") or 0)
        params.load_mode = self._load_mode(on_gpu=params.n_gpu_layers != 0)
        params.check_tensors = bool(options.get("check_tensors", False))
        params.use_extra_bufts = bool(options.get("repack", True))
        params.no_host = bool(options.get("no_host", False))
        if split := options.get("tensor_split"):
            shares = (ctypes.c_float * int(native.llama_max_devices()))(*split)
            params.tensor_split = ctypes.cast(shares, ctypes.POINTER(ctypes.c_float))
        if names := options.get("devices"):
            params.devices = self._address(self._devices.chosen(tuple(names), self._load.model))
        if overrides := tensor_overrides(options):
            params.tensor_buft_overrides = self._address(self._devices.buffer_overrides(overrides, self._load.model))
        if values := options.get("override_kv"):
            params.kv_overrides = self._metadata_overrides(values)
        return params

    def _load_mode(self, *, on_gpu: bool) -> int:
        options = self.options
        if options.get("use_direct_io"):
            return _DIRECT_IO
        mapped = llama_cpp_pages.maps(options.get("use_mmap"), Path(self._load.path), on_gpu=on_gpu)
        return int(mapped) + 2 * int(options.get("use_mlock", False))

    def _address(self, array: Any) -> int:
        self._kept.append(array)
        return ctypes.addressof(array)

    def _metadata_overrides(self, values: dict[str, Any]) -> Any:
        overrides = (self.native.llama_model_kv_override * (len(values) + 1))()
        for at, (key, value) in enumerate(values.items()):
            overrides[at].tag, member = _VALUE_KINDS[type(value)]
            overrides[at].key = key.encode()
            setattr(overrides[at].value, member, value.encode() if isinstance(value, str) else value)
        return overrides

    def tile(self) -> int:
        """Tokens that attention takes at once: llama.cpp's flash attention on CPUs works in tiles, where it can."""
        options = self.options
        types = {options.get("type_k") or "f16", options.get("type_v") or "f16"}
        tiled = options.get("flash_attn", "auto") in ("auto", None, True) and types in ({"f16"}, {"f32"})
        return FLASH_TILE if tiled and self._gpu_layers() == 0 else 1

    def _reason(self, path: str) -> str:
        """The first error that llama.cpp logged, without the file's place."""
        text = self._log.errors[0] if self._log.errors else "llama.cpp gives no reason."
        return text.replace(path, "the file") if path else text

    def _gpu_layers(self) -> int:
        """Layers for the GPUs: as configured; "auto": as many as fit in their memory with their part of the pool."""
        options, path = self.options, self._load.path
        wanted = options.get("n_gpu_layers", "auto")
        if not self.native.llama_supports_gpu_offload():
            return 0
        if wanted != "auto":
            return int(wanted)
        free = self._devices.gpu_free_bytes()
        if free is None or not os.path.isfile(path):
            return -1
        layers, cell_bytes = self._peek()
        cells = int(options.get("kv_tokens") or options.get("n_ctx") or 4096)
        per_layer = os.path.getsize(path) / (layers + 1) + cells * cell_bytes / max(1, layers)
        return max(0, min(layers + 1, int((free - GPU_RESERVE_BYTES) / per_layer)))

    def _peek(self) -> tuple[int, float]:
        """(layers, bytes of one KV cell) from the file's header alone."""
        model = self.vocabulary()
        metadata = dict(metadata_of(self.native, model))
        self.native.llama_model_free(model)
        architecture = str(metadata.get("general.architecture", ""))
        return int(metadata.get(f"{architecture}.block_count", 1)), cell_bytes_of(metadata, self.options)

    def vocabulary(self) -> Any:
        """The model without its weights. Raises LoadFailed."""
        native, load = self.native, self._load
        params = native.llama_model_default_params()
        params.vocab_only = True
        params.n_gpu_layers = 0
        if values := load.options.get("override_kv"):
            params.kv_overrides = self._metadata_overrides(values)
        if not os.path.isfile(load.path):
            raise LoadFailed(f"Model '{load.model}' can't be loaded: its file is missing.")
        model = native.llama_model_load_from_file(os.fsencode(load.path), params)
        if not model:
            raise LoadFailed(f"Model '{load.model}' can't be loaded: {self._reason(load.path)}")
        return model

    # ---- the context -------------------------------------------------------------------------------------------------

    def sizes(self, model: Any, metadata: dict[str, Any]) -> tuple[int, int]:
        """(tokens of one sequence, cells of the pool): as configured, else as trained and up to what memory allows."""
        options = self.options
        trained = int(self.native.llama_model_n_ctx_train(model)) or 4096
        n_ctx = int(options.get("n_ctx") or trained)
        cells = int(options.get("kv_tokens") or 0)
        if not cells:
            free = self._free_bytes(model) * KV_MEMORY_SHARE
            fitting = int(free / max(1.0, cell_bytes_of(metadata, options)))
            cells = max(CELL_PADDING, min(n_ctx * self.n_parallel, fitting))
            if options.get("n_ctx"):
                cells = max(cells, n_ctx)
        cells = math.ceil(cells / CELL_PADDING) * CELL_PADDING
        return min(n_ctx, cells), cells

    def n_batch(self, kv_tokens: int) -> int:
        """Most tokens of one step."""
        return max(min(int(self.options.get("n_batch") or 2048), kv_tokens), self.n_parallel)

    def whole_images(self, tokens: int, n_batch: int) -> int:
        """The least `n_ubatch` of a model that computes an image's tokens together. Raises LoadFailed."""
        if tokens > n_batch - self.n_parallel:
            raise LoadFailed(
                f"Model '{self._load.model}' can't be loaded: an image is {tokens} tokens, which one step computes; "
                f"set `n_batch` to at least {tokens + self.n_parallel}."
            )
        return tokens

    def _free_bytes(self, model: Any) -> int:
        """Memory for the pool: of what the server grants the model in all, what its weights leave; on GPUs, theirs."""
        native = self.native
        limits = self._load.limits
        free = int(psutil.virtual_memory().available)
        if "memory_bytes" in limits:
            granted = limits["memory_bytes"] + (limits.get("gpu_bytes", 0) if self._log.layers_gpu else 0)
            free = max(0, granted - int(native.llama_model_size(model)))
        if not self.options.get("offload_kqv", True) or not self._log.layers_gpu:
            return free
        share = self._log.layers_gpu / max(1, int(native.llama_model_n_layer(model)))
        return pool_bytes(free, self._devices.gpu_free_bytes(), min(1.0, share))

    def slots(self, *, recurrent: bool, narrow: bool) -> int:
        """Sequence ids. A narrow window's own pool grows by the window for each."""
        spare = SPARE_STATES if recurrent else 0 if narrow else SPARE_SLOTS
        return min(MAX_SLOTS, self.n_parallel + spare)

    def context(self, model: Any, kv_tokens: int, *, slots: int, n_outputs: int, least_ubatch: int = 1) -> Any:
        """A context of so many cells, of which a step may give `n_outputs` rows of logits. Raises LoadFailed."""
        params = self._context_params(model, kv_tokens, n_outputs)
        params.n_ubatch = max(params.n_ubatch, least_ubatch)
        params.n_seq_max = slots
        context = self.native.llama_init_from_model(model, params)
        if not context:
            raise LoadFailed(
                f"Model '{self._load.model}' can't be loaded with a context of {kv_tokens} tokens: {self._reason('')} "
                "Set a smaller `n_ctx`, `kv_tokens` or `n_parallel`."
            )
        self._hang_adapters(model, context)
        return context

    def _hang_adapters(self, model: Any, context: Any) -> None:
        adapters = self.options.get("lora") or ()
        llama_cpp_lora.apply(self.native, model, context, adapters, self._load.model, self._log)

    def embedding_context(self, model: Any, cells: int, batch: int, texts: int, pooling: int) -> Any:
        """A context that gives rows or scores of up to so many texts at once; null where llama.cpp has no room."""
        params = self._context_params(model, cells, 0)
        params.n_batch = params.n_ubatch = batch
        params.n_seq_max = texts
        params.embeddings = True
        params.pooling_type = pooling
        params.swa_full = True
        context = self.native.llama_init_from_model(model, params)
        if context:
            self._hang_adapters(model, context)
        return context

    def embedding_limit(self, model: Any) -> int:
        """Tokens of one text: as configured, and at most as trained, for many have a vector for each position."""
        trained = int(self.native.llama_model_n_ctx_train(model)) or 512
        return min(int(self.options.get("n_ctx") or trained), trained)

    def free_bytes(self) -> int:
        """Memory that is free now, where the model lies."""
        on_gpu = self._devices.gpu_free_bytes() if self._log.layers_gpu else None
        return int(psutil.virtual_memory().available) if on_gpu is None else on_gpu

    def _context_params(self, model: Any, kv_tokens: int, n_outputs: int) -> Any:
        options = self.options
        params = self.native.llama_context_default_params()
        params.n_ctx = kv_tokens
        params.n_batch = self.n_batch(kv_tokens)
        params.n_ubatch = min(int(options.get("n_ubatch") or 512), params.n_batch)
        params.n_outputs_max = n_outputs
        params.kv_unified = True
        weights = int(self.native.llama_model_size(model))
        params.n_threads = int(options.get("n_threads") or threads_for(weights))
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
        for name in _YARN:
            if options.get(name) is not None:
                setattr(params, name, options[name])
        params.op_offload = bool(options.get("op_offload", True))
        return params


def start_backend(native: Any, options: dict[str, Any]) -> None:
    """Initialize llama.cpp, once in a process."""
    native.llama_backend_init()
    if numa := options.get("numa"):
        native.llama_numa_init(_NUMA["distribute" if numa is True else numa])


def tensor_overrides(options: dict[str, Any]) -> dict[str, str]:
    """Pattern of tensor names -> kind of buffer; the first that matches counts, so what is configured goes first."""
    layers = int(options.get("n_cpu_moe") or 0)
    experts = [_EXPERTS] if layers < 0 else [rf"blk\.{layer}{_EXPERTS}" for layer in range(layers)]
    return {**(options.get("override_tensor") or {}), **dict.fromkeys(experts, "CPU")}


def pool_bytes(free: int, gpu_free: int | None, gpu_share: float) -> int:
    """What the pool may take in all, if `gpu_share` of it lies on GPUs, with the layers that it belongs to."""
    if gpu_free is None or gpu_share <= 0:
        return free
    return min(free, int(max(0, gpu_free - GPU_RESERVE_BYTES) / gpu_share))


def cell_bytes_of(metadata: dict[str, Any], options: dict[str, Any]) -> float:
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
