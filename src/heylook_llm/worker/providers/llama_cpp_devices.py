"""What ggml computes on: its devices by name, their free memory and their kinds of buffer.

Trap of the binding: `libggml.so` beside `libggml.so.0` is a second copy with a second registry.
"""

import ctypes
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

from heylook_llm.errors import LoadFailed

LIBRARIES: Final = ("libggml.so.0", "libggml.dylib", "ggml.dll")
GPU: Final = 1
"""GGML_BACKEND_DEVICE_TYPE_GPU; 0 is a processor."""
PROCESSOR: Final = 0


class Device(NamedTuple):
    """One of ggml's devices; `handle` is its address."""

    name: str
    kind: int
    handle: int


class Devices:
    """ggml's registry of devices, as the loaded back ends filled it."""

    def __init__(self, native: Any) -> None:
        folder = Path(native.__file__).parent / "lib"
        found = [folder / name for name in LIBRARIES if (folder / name).exists()]
        self._ggml: Any = _typed(ctypes.CDLL(str(found[0]))) if found else None

    @cached_property
    def all(self) -> list[Device]:
        """Every device, in ggml's order."""
        ggml = self._ggml
        if ggml is None:
            return []
        handles = [ggml.ggml_backend_dev_get(at) for at in range(ggml.ggml_backend_dev_count())]
        return [
            Device(ggml.ggml_backend_dev_name(handle).decode(), ggml.ggml_backend_dev_type(handle), handle)
            for handle in handles
        ]

    def gpu_free_bytes(self) -> int | None:
        """Free memory of all GPUs together, as their back ends report it; None: there is none, or it can't be told."""
        total = 0
        for device in self.all:
            if device.kind == GPU:
                free, whole = ctypes.c_size_t(), ctypes.c_size_t()
                self._ggml.ggml_backend_dev_memory(device.handle, ctypes.byref(free), ctypes.byref(whole))
                total += free.value
        return total or None

    def chosen(self, names: tuple[str, ...], model: str) -> Any:
        """A list of devices for llama.cpp, ended by null; "none" is the empty one. Raises LoadFailed."""
        known = {device.name: device.handle for device in self.all if device.kind != PROCESSOR}
        wanted = [name for name in names if name != "none"]
        for name in wanted:
            if name not in known:
                has = ", ".join(known) or "none"
                raise LoadFailed(f"Model '{model}': `devices` names '{name}'; this machine has: {has}.")
        return (ctypes.c_void_p * (len(wanted) + 1))(*(known[name] for name in wanted), None)

    def buffer_overrides(self, wanted: Mapping[str, str], model: str) -> Any:
        """Pattern of tensor names -> kind of buffer, as llama.cpp takes it. Raises LoadFailed for an unknown kind."""
        kinds = {}
        for device in self.all:
            kind = self._ggml.ggml_backend_dev_buffer_type(device.handle)
            kinds[self._ggml.ggml_backend_buft_name(kind).decode()] = kind
        overrides = (_BufferOverride * (len(wanted) + 1))()
        for at, (pattern, name) in enumerate(wanted.items()):
            if name not in kinds:
                raise LoadFailed(f"Model '{model}': `override_tensor` names '{name}'; there are: {', '.join(kinds)}.")
            overrides[at].pattern = pattern.encode()
            overrides[at].kind = kinds[name]
        return overrides


class _BufferOverride(ctypes.Structure):
    _fields_ = (("pattern", ctypes.c_char_p), ("kind", ctypes.c_void_p))


def _typed(ggml: Any) -> Any:
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    ggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_dev_name.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_dev_name.restype = ctypes.c_char_p
    ggml.ggml_backend_dev_buffer_type.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_dev_buffer_type.restype = ctypes.c_void_p
    ggml.ggml_backend_buft_name.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_buft_name.restype = ctypes.c_char_p
    size_pointer = ctypes.POINTER(ctypes.c_size_t)
    ggml.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, size_pointer, size_pointer]
    return ggml
