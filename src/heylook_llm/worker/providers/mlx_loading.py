"""From an MLX model's folder to weights in memory, and the kinds of cache that its configuration asks for."""

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from heylook_llm.catalog import mlx_vision
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.worker.providers import defaults, mlx_adapter
from heylook_llm.worker.providers.mlx_eyes import ModelClasses, Preparation, model_classes, preparation_of
from heylook_llm.worker.providers.mlx_memory import Caches, cell_bytes
from heylook_llm.worker.providers.mlx_quantized import Quantization
from heylook_llm.worker.providers.mlx_rotating import Rotating

mx: Any = importlib.import_module("mlx.core")
nn: Any = importlib.import_module("mlx.nn")
library: Any = importlib.import_module("mlx_lm.models.cache")
loader: Any = importlib.import_module("mlx_lm.utils")

QUANTIZED_BITS: Final = (1, 2, 3, 4, 5, 6, 8)
"""What mlx packs; the library's own quantized cache only 2, 4 and 8."""
DEFAULT_BITS: Final = 8
ROTATING_KEEP_TOKENS: Final = 4
"""The beginning that a rotating cache keeps, as in the library's own generate()."""

log = logging.getLogger("heylook_llm.worker.mlx")

_FILE_NAMES: Final = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
"""Keys of generation_config.json."""


# ---- weights ---------------------------------------------------------------------------------------------------------


def load_weights(
    folder: Folder,
    progress: Callable[[float], None],
    *,
    on_processor: bool,
    widen: bool,
    adapter: Path | None = None,
    classes: ModelClasses | None = None,
) -> Any:
    """The model with its weights in memory; `widen`: 16-bit ones as float32. Raises LoadFailed.

    mlx_lm's loader imports only its own architectures, or takes the `classes` of one that could see.
    """
    own = {} if classes is None else {"get_model_classes": classes}
    try:
        model, _ = loader.load_model(folder.path, lazy=True, trust_remote_code=False, **own)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, ArithmeticError) as error:
        reason = str(error).replace(str(folder.path), "its folder").splitlines()
        raise folder.failed(f"{type(error).__name__}: {reason[0] if reason else 'mlx_lm gives no reason'}") from error
    if adapter is not None:
        mlx_adapter.apply(model if classes is None else model.language_model, adapter, folder)
    if widen:
        model.set_dtype(mx.float32)
    layers = [module for _, module in model.named_modules() if not module.children()]
    for at, layer in enumerate(layers):
        if on_processor:
            _lay_out(layer)
        mx.eval(layer.parameters())
        progress(at / len(layers))
    mx.eval(model.parameters())
    return model.eval()


def _lay_out(layer: Any) -> None:
    """Lay a float32 matrix out so that the processor's BLAS adds columns instead of taking dot products.

    The reference BLAS of the mlx-cpu wheel isn't vectorized in the other form; the values and the shape stay the same.
    """
    weight = layer.get("weight")
    if isinstance(layer, nn.Linear | nn.Embedding) and weight is not None and weight.dtype == mx.float32:
        layer.weight = mx.contiguous(weight.T).T


# ---- what is configured ----------------------------------------------------------------------------------------------


def refuse_options(options: dict[str, Any], folder: Folder) -> None:
    """Refuse settings that can't be honoured. Raises LoadFailed naming the key."""
    kind = options.get("cache_type") or "standard"
    if kind == "rotating" and not options.get("max_kv_size"):
        raise folder.failed("`cache_type: rotating` needs `max_kv_size`, the tokens that it keeps.")
    if options.get("kv_bits") and kind != "quantized":
        raise folder.failed("`kv_bits` needs `cache_type: quantized`.")
    if options.get("kv_bits") and options["kv_bits"] not in QUANTIZED_BITS:
        raise folder.failed(f"`kv_bits` must be one of {', '.join(map(str, QUANTIZED_BITS))}.")


class Sight(NamedTuple):
    """How images are prepared; None: it sees nothing. How a folder that could see is loaded; None: as mlx_lm does."""

    preparation: Preparation | None
    classes: ModelClasses | None


def sight_of(options: dict[str, Any], folder: Folder) -> Sight:
    """What is to be loaded of a folder. Raises LoadFailed where it can't see as configured."""
    eyes = mlx_vision.loads_eyes(folder, options.get("vision"))
    if reason := mlx_vision.problem(folder):
        if mlx_vision.sees(folder):
            log.warning("Images aren't read: %s.", reason)
        return Sight(None, None)
    return Sight(preparation_of(folder) if eyes else None, model_classes(folder, eyes=eyes))


def quantization_of(options: dict[str, Any]) -> Quantization | None:
    """How keys and values are to be quantized; None: not."""
    if options.get("cache_type") != "quantized":
        return None
    start = options.get("quantized_kv_start")
    bits = int(options.get("kv_bits") or DEFAULT_BITS)
    # An empty cache has nothing to quantize, and no shape yet.
    return Quantization(bits, int(options.get("kv_group_size") or 64), max(1, 2048 if start is None else int(start)))


def cache_maker(model: Any, options: dict[str, Any], folder: Folder) -> Callable[[], Caches]:
    """Makes the caches of a new sequence. Raises LoadFailed where the model's own kinds don't allow what is asked."""
    kind = options.get("cache_type") or "standard"

    def own() -> Caches:
        return list(library.make_prompt_cache(model))

    if kind == "standard":
        return own
    layers = own()
    if any(type(cache) is not library.KVCache for cache in layers):
        raise folder.failed(
            f"`cache_type: {kind}` doesn't go with this architecture, which has its own kinds of cache."
        )
    if kind == "quantized":
        return own
    size = int(options["max_kv_size"])
    keep = min(ROTATING_KEEP_TOKENS, size - 1)
    return lambda: [Rotating(max_size=size, keep=keep) for _ in layers]


def measured_cell_bytes(
    model: Any, new: Callable[[], Caches], quantization: Quantization | None, folder: Folder
) -> float:
    """Bytes of one token's cells. Computes one token with each kind of cache: what can't work fails here."""
    caches = new()
    try:
        mx.eval(model(mx.array([[0]]), cache=caches))
        if quantization is not None:
            caches = [quantization.of(cache) for cache in caches]
            mx.eval(model(mx.array([[0]]), cache=caches))
    except (ValueError, RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        raise folder.failed(f"the model can't compute with these settings: {error}") from error
    return cell_bytes(caches)


def file_defaults(file: dict[str, Any]) -> dict[str, Any]:
    """What generation_config.json says, by the names of Sampling's fields."""
    return {
        defaults.FIELDS[key]: value
        for key in _FILE_NAMES
        if isinstance(value := file.get(key), int | float) and not isinstance(value, bool)
    }
