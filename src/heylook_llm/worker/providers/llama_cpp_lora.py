"""LoRA adapters of a llama.cpp model: read and checked when the model is loaded, and always in force."""

import ctypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heylook_llm.catalog import gguf_header
from heylook_llm.errors import LoadFailed
from heylook_llm.worker.providers.llama_cpp_native import Log

ALPHA = "adapter.lora.alpha"


def apply(  # noqa: PLR0917 (what llama.cpp needs of a model to hang an adapter on it)
    native: Any, model: Any, context: Any, adapters: Sequence[Mapping[str, Any]], name: str, log: Log
) -> None:
    """Put the adapters of a configuration on a context. They end with the model. Raises LoadFailed."""
    if not adapters:
        return
    handles = (native.llama_adapter_lora_p_ctypes * len(adapters))()
    for at, adapter in enumerate(adapters):
        handles[at] = _read(native, model, str(adapter["path"]), name, log)
    scales = (ctypes.c_float * len(adapters))(*(float(adapter.get("scale", 1.0)) for adapter in adapters))
    if native.llama_set_adapters_lora(context, handles, len(adapters), scales) != 0:
        raise LoadFailed(f"Model '{name}': its LoRA adapters can't be applied together: {_reason(log)}")


def _read(native: Any, model: Any, path: str, name: str, log: Log) -> Any:
    _check(Path(path), name)
    log.errors.clear()
    handle = native.llama_adapter_lora_init(model, os.fsencode(path))
    if not handle:
        raise LoadFailed(f"{_place(path, name)} doesn't fit the model: {_reason(log)}")
    if native.llama_adapter_get_alora_n_invocation_tokens(handle):
        raise LoadFailed(f"{_place(path, name)} is in force only behind certain words (aLoRA), which isn't offered.")
    return handle


def _check(path: Path, name: str) -> None:
    """Refuse what llama.cpp's own reader would end the process over."""
    try:
        header = gguf_header.read(path, name)
    except LoadFailed as error:
        raise LoadFailed(f"{_place(str(path), name)} can't be read: {error.message}") from error
    kind = header.metadata.get("general.type")
    if kind != "adapter" or header.metadata.get("adapter.type") != "lora":
        raise LoadFailed(f"{_place(str(path), name)} is no LoRA adapter: its general.type is {kind!r}.")
    if not isinstance(header.metadata.get(ALPHA, 0.0), float):
        raise LoadFailed(f"{_place(str(path), name)} is damaged: its {ALPHA} is no number with a fraction.")


def _place(path: str, name: str) -> str:
    return f"Model '{name}': the LoRA adapter {os.path.basename(path)}"


def _reason(log: Log) -> str:
    return log.errors[0] if log.errors else "llama.cpp gives no reason."
