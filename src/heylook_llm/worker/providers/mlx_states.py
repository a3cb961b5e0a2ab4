"""A slot's caches as bytes, and back: mlx_lm's own format of prompt caches."""

import importlib
import io
from typing import Any

from heylook_llm.worker.providers.base import State
from heylook_llm.worker.providers.mlx_memory import Caches
from heylook_llm.worker.providers.mlx_quantized import Quantized
from heylook_llm.worker.providers.mlx_rotating import Rotating

mx: Any = importlib.import_module("mlx.core")
library: Any = importlib.import_module("mlx_lm.models.cache")


class _File(io.BytesIO):
    """A file in memory. Its name tells mlx the format."""

    name = "state.safetensors"


def dumped(caches: Caches, length: int) -> State:
    """The caches of `length` tokens."""
    file = _File()
    library.save_prompt_cache(file, [_plain(cache) for cache in caches], {"tokens": str(length)})
    return file.getbuffer()


def loaded(state: State) -> tuple[Caches, int]:
    """The caches of a state, and how many tokens they hold."""
    caches, metadata = library.load_prompt_cache(_File(state), return_metadata=True)
    mx.eval([cache.state for cache in caches])
    return [_own(cache) for cache in caches], int(metadata["tokens"])


def _plain(cache: Any) -> Any:
    """A cache of the library's own class: its loader looks the class up by name."""
    if isinstance(cache, Quantized):
        return library.QuantizedKVCache.from_state(cache.state)
    return cache.plain() if isinstance(cache, Rotating) else cache


def _own(cache: Any) -> Any:
    if isinstance(cache, library.QuantizedKVCache):
        return Quantized.from_state(cache.state)
    return Rotating.of(cache) if type(cache) is library.RotatingKVCache and cache.keep else cache
