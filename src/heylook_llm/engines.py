"""Which engines are installed, and whether they were built to compute on a GPU. Nothing of them is imported."""

import functools
import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from typing import Final

LIBRARIES: Final = {"llama_cpp": "llama_cpp", "mlx": "mlx_lm"}
"""Provider -> the package that its worker imports. Other providers need none."""
DISTRIBUTIONS: Final = {"llama_cpp": "llama-cpp-python", "mlx": "mlx-lm"}
EYES: Final = {"mlx": "mlx_vlm"}
"""Provider -> the package that a model needs to see. Others need none."""
EYES_DISTRIBUTIONS: Final = {"mlx": "mlx-vlm"}
_GPU_BACK_ENDS: Final = ("cuda", "hip", "vulkan", "sycl", "metal", "musa", "cann", "opencl")
"""Of ggml, as its libraries are named."""
_MLX_CUDA: Final = ("mlx-cuda-12", "mlx-cuda-13", "mlx-cuda")


def installed(provider: str) -> bool:
    """Whether the provider's engine is installed."""
    library = LIBRARIES.get(provider)
    return library is None or importlib.util.find_spec(library) is not None


def missing(provider: str, *, sees: bool = False) -> str:
    """What isn't installed of what the provider needs; `sees`: for a model that is to see. Empty: all is there."""
    if not installed(provider):
        return DISTRIBUTIONS[provider]
    eyes = EYES.get(provider) if sees else None
    return EYES_DISTRIBUTIONS[provider] if eyes is not None and importlib.util.find_spec(eyes) is None else ""


def version(provider: str) -> str | None:
    """The installed version of the provider's engine; None: it isn't installed."""
    return _version(DISTRIBUTIONS[provider])


@functools.cache
def uses_gpu(provider: str) -> bool:
    """Whether the engine, as it was built, computes on a GPU where there is one."""
    match provider:
        case "llama_cpp":
            return any(name in library.name for library in _ggml_libraries() for name in _GPU_BACK_ENDS)
        case "mlx":
            return sys.platform == "darwin" or any(_version(name) is not None for name in _MLX_CUDA)
        case _:
            return False


def _ggml_libraries() -> list[Path]:
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return []
    return list((Path(spec.origin).parent / "lib").glob("*ggml-*"))


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
