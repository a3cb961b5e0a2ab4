"""Where a loaded model is computed and what it takes, by what its engine said. Pure."""

from typing import Literal

from heylook_llm import core
from heylook_llm.server.backend import ModelStatus

Compute = Literal["cpu", "gpu", "hybrid"]


def compute_mode(info: core.ModelInfo | None) -> Compute | None:
    """By the layers that the engine placed on a GPU; None: it doesn't say."""
    if info is None or info.n_layers_gpu is None:
        return None
    if info.n_layers_gpu <= 0:
        return "cpu"
    return "gpu" if info.n_layers is not None and info.n_layers_gpu >= info.n_layers else "hybrid"


def engine_bytes(info: core.ModelInfo | None) -> int | None:
    """Weights and context memory, wherever they lie."""
    if info is None or info.weights_bytes is None:
        return None
    return info.weights_bytes + (info.kv_bytes or 0)


def sizes(status: ModelStatus, info: core.ModelInfo | None, file_bytes: int) -> tuple[int, int]:
    """Bytes in all, and those of them on a GPU: the former never less than the latter.

    What the engine placed; where it doesn't say, what the process holds, else the size of the file.
    """
    on_gpu = (info.gpu_bytes if info is not None else None) or 0
    return max(on_gpu, engine_bytes(info) or status.resident_bytes or file_bytes), on_gpu
