"""What a model will need, what is free, and what a loaded one holds: the readings behind the memory verdict.

The files are read within bounds, and no engine is started.
"""

from pathlib import Path
from typing import Final, assert_never

from heylook_llm import core, engines, hardware
from heylook_llm.catalog import gguf_header, mlx_cache, mlx_vision, projector, safetensors_header
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.config import FakeConfig, LlamaCppConfig, MlxConfig, ModelSpec
from heylook_llm.server.fit import Bytes, Need, Placement

GPU_RESERVE_BYTES: Final = 512 << 20
"""Of the GPUs' memory: left for compute buffers, as the engines leave it."""


def available() -> Bytes:
    """What is free now. nvml comes with the extra that one installs for a GPU, so what it lists counts."""
    return Bytes(hardware.memory().available_bytes, hardware.gpu_free_bytes())


def need(spec: ModelSpec) -> Need:
    """What the model will need, from its files alone. Raises LoadFailed if they are missing or damaged."""
    match spec.config:
        case LlamaCppConfig():
            return _gguf_need(spec, spec.config)
        case MlxConfig():
            return _mlx_need(spec, spec.config)
        case FakeConfig():
            return Need(spec.config.resident_bytes)
        case _:
            assert_never(spec.config)


def _gguf_need(spec: ModelSpec, config: LlamaCppConfig) -> Need:
    """Of its file, and of a smaller model, adapters and a projector beside it."""
    header = gguf_header.read(spec.path, spec.id)
    weights = header.weights_bytes + sum(_file_bytes(adapter.path) for adapter in config.lora)
    cache = header.kv_bytes_per_token(config.type_k, config.type_v)
    if config.draft_model_path is not None:
        draft = gguf_header.read(Path(config.draft_model_path), spec.id)
        weights += draft.weights_bytes
        cache += draft.kv_bytes_per_token(config.type_k, config.type_v)
    if config.mmproj_path is not None:
        eyes = projector.read(Path(config.mmproj_path), spec.id)
        if header.embedding_length is not None:
            projector.check_fits(eyes, header.embedding_length, spec.id)
        weights += eyes.header.weights_bytes + eyes.compute_bytes(flash=config.flash_attn is not False)
    return Need(
        weights,
        cache,
        header.context_length,
        config.kv_tokens,
        placement=_gguf_placement(config, header.block_count or 1),
    )


def _file_bytes(path: str) -> int:
    """0 if it can't be read: the worker says so, with its reason."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _gguf_placement(config: LlamaCppConfig, layers: int) -> Placement:
    """Where llama.cpp puts layers, and the cache with them."""
    if not engines.uses_gpu("llama_cpp"):
        return Placement()
    cached = 1.0 if config.offload_kqv else 0.0
    if config.n_gpu_layers == "auto":
        return Placement(1.0, cached, spills=True, layers=layers)
    if config.n_gpu_layers < 0:
        return Placement(1.0, cached)
    count = config.n_gpu_layers
    return Placement(min(1.0, count / (layers + 1)), min(1.0, count / layers) * cached)


def _mlx_need(spec: ModelSpec, config: MlxConfig) -> Need:
    folder = Folder(spec.path, spec.id)
    on_gpu = engines.uses_gpu("mlx")
    cache = mlx_cache.measured(folder, config, widened=not on_gpu)
    share = 1.0 if on_gpu else 0.0
    weights, per_token = safetensors_header.weights_bytes(folder.tensors), cache.bytes_per_token
    weights += mlx_vision.bytes_beside_text(folder, eyes=mlx_vision.loads_eyes(folder, config.vision))
    if config.adapter_path is not None:
        weights += _file_bytes(str(Path(config.adapter_path, "adapters.safetensors")))
    if config.draft_model_path is not None:
        draft = Folder(Path(config.draft_model_path), spec.id)
        weights += safetensors_header.weights_bytes(draft.tensors)
        per_token += mlx_cache.measured(draft, config, widened=not on_gpu).bytes_per_token
    return Need(
        weights,
        per_token,
        folder.context_length,
        config.kv_tokens,
        cache.constant_bytes,
        Placement(share, share),
    )


def loaded(spec: ModelSpec, pid: int | None, info: core.ModelInfo) -> Bytes:
    """What ending the worker would give back: its private memory; pages of a mapped file count as free already.

    Where the GPU shares the machine's memory, what the engine holds there is the process's own.
    """
    if isinstance(spec.config, FakeConfig):
        return Bytes(spec.config.resident_bytes)
    held = hardware.process_memory(pid) if pid is not None else None
    private, on_gpu = held.private_bytes if held is not None else 0, info.gpu_bytes or 0
    return Bytes(private, on_gpu) if hardware.gpus() else Bytes(max(private, on_gpu))


def granted(free: Bytes | None, reserve: Bytes) -> dict[str, int]:
    """What a model that is loaded now may take, as the Load frame says it; empty: nobody knows."""
    if free is None:
        return {}
    limits = {"memory_bytes": max(0, free.main - reserve.main)}
    return limits if free.gpu is None else {**limits, "gpu_bytes": max(0, free.gpu - (reserve.gpu or 0))}
