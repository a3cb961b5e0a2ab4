"""What an MLX model's keys and values take in memory, by its config.json: per token, and whatever its context."""

import math
from typing import Final, NamedTuple

from heylook_llm.catalog import safetensors_header
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.config import MlxConfig

_WITHOUT_CACHE: Final = ("mamba", "rwkv")
"""Beginnings of `model_type` of models whose state doesn't grow."""
_FULL: Final = ("full_attention", "attention", "global", "full")
_SLIDING: Final = ("sliding_attention", "chunked_attention", "local", "sliding")
"""As `layer_types` names them; all others keep a state of fixed size, which is small."""


class Cache(NamedTuple):
    """Bytes of one sequence's cache. `constant_bytes` doesn't grow with its context."""

    bytes_per_token: int
    constant_bytes: int = 0


class _Layers(NamedTuple):
    full: int
    sliding: int
    window: int


def measured(folder: Folder, options: MlxConfig, *, widened: bool) -> Cache:
    """The cache of a model with these options; `widened`: 16-bit weights are computed in float32."""
    width = 4 if widened or safetensors_header.main_dtype(folder.tensors) == "F32" else 2
    value = _value_bytes(width, options)
    layer = _values_per_layer(folder) * value
    layers = _layers(folder)
    constant = layers.sliding * layers.window * layer
    if options.cache_type == "rotating" and options.max_kv_size:
        return Cache(0, math.ceil(constant + layers.full * options.max_kv_size * layer))
    return Cache(math.ceil(layers.full * layer), math.ceil(constant))


def _value_bytes(width: int, options: MlxConfig) -> float:
    """Of one number; a quantized one has its part of a scale and a bias."""
    if options.cache_type != "quantized":
        return width
    return (options.kv_bits or 8) / 8 + 2 * width / options.kv_group_size


def _values_per_layer(folder: Folder) -> int:
    """Numbers that a token's keys and values have in one layer."""
    if (rank := folder.number("kv_lora_rank")) is not None:  # multi-head latent attention: one shared head
        return rank + (folder.number("qk_rope_head_dim") or 0)
    heads = folder.number("num_attention_heads", "n_head", "n_heads") or 1
    kv_heads = folder.number("num_key_value_heads", "num_kv_heads", "n_kv_heads") or heads
    hidden = folder.number("hidden_size", "n_embd", "d_model", "dim") or 0
    key = folder.number("head_dim") or hidden // heads
    return kv_heads * (key + (folder.number("v_head_dim") or key))


def _layers(folder: Folder) -> _Layers:
    count = folder.number("num_hidden_layers", "n_layer", "n_layers", "num_layers") or 0
    window = folder.number("sliding_window") or 0
    if folder.architecture.startswith(_WITHOUT_CACHE):
        return _Layers(0, 0, 0)
    if kinds := folder.texts("layer_types"):
        sliding = sum(kind in _SLIDING for kind in kinds) if window else 0
        return _Layers(sum(kind in _FULL for kind in kinds), sliding, window)
    if (interval := folder.number("full_attention_interval")) is not None:
        return _Layers(count // interval, 0, 0)
    if (pattern := folder.number("sliding_window_pattern")) is not None and window:
        return _Layers(count // pattern, count - count // pattern, window)
    return _Layers(count, 0, 0)
