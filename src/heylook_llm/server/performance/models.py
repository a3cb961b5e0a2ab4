"""The models' own history: how often and how long they were loaded, what they held, why they had to go. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from heylook_llm.server.backend import ModelChange, ModelStatus
from heylook_llm.server.performance import telling
from heylook_llm.server.performance.histogram import percentiles_of_samples
from heylook_llm.server.performance.summary import distribution
from heylook_llm.server.placement import compute_mode

MOST_TOLD: Final = 100
"""Changes of one model that are told one by one."""


def model_history(status: ModelStatus, changes: Sequence[ModelChange]) -> dict[str, Any]:
    """One model now, and what happened to it, newest first."""
    info, stats = status.info, status.stats
    loads = [change for change in changes if change.kind == "loaded"]
    return {
        "model": status.spec.id,
        "provider": status.spec.provider,
        "state": status.state,
        "compute": compute_mode(info),
        "layers": info.n_layers if info else None,
        "layers_gpu": info.n_layers_gpu if info else None,
        "loaded_at": status.loaded_at,
        "loads": len(loads),
        "failures": _count(changes, "failed"),
        "crashes": _count(changes, "crashed"),
        "evictions": dict(Counter(change.reason or "" for change in changes if change.kind == "evicted")),
        "load_ms": distribution(percentiles_of_samples(1e3 * load.seconds for load in loads if load.seconds), None),
        "memory": {
            "resident_bytes": _resident(status, loads),
            "peak_resident_bytes": _peak(status, changes),
            "weights_bytes": info.weights_bytes if info else None,
            "kv_bytes": info.kv_bytes if info else None,
            "gpu_bytes": info.gpu_bytes if info else None,
            "kv_tokens": info.kv_tokens if info else None,
            "kv_used_tokens": stats.kv_used_tokens if stats and info else None,
        },
        "history": [telling.change(change) for change in changes[:MOST_TOLD]],
    }


def _count(changes: Iterable[ModelChange], kind: str) -> int:
    return sum(change.kind == kind for change in changes)


def _resident(status: ModelStatus, loads: Sequence[ModelChange]) -> int | None:
    """What it holds; in its first second what it held when it was loaded."""
    if status.resident_bytes is None and status.info is not None and loads:
        return loads[0].resident_bytes
    return status.resident_bytes


def _peak(status: ModelStatus, changes: Iterable[ModelChange]) -> int | None:
    """The most that any of its processes held, the one that runs among them."""
    known = [held for change in changes for held in (change.peak_resident_bytes, change.resident_bytes)]
    known.append(status.stats.peak_resident_bytes if status.stats else None)
    return max((peak for peak in known if peak is not None), default=None)
