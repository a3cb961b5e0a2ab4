"""What a model's own files say it is: read from headers and configurations, never guessed from names."""

import importlib.util
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from heylook_llm.catalog import gguf_header, mlx_vision, projector, safetensors_header
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.errors import LoadFailed

Kind = Literal["chat", "base", "embedding", "reranker", "projector", "adapter"]
Provider = Literal["llama_cpp", "mlx"]

NOT_TEXT: Final = {
    "clip": "a projector",
    "whisper": "speech recognition",
    "wavtokenizer-dec": "a decoder of sound",
    **dict.fromkeys(
        (
            "flux",
            "sd1",
            "sdxl",
            "sd3",
            "aura",
            "hidream",
            "cosmos",
            "ltxv",
            "hyvid",
            "wan",
            "lumina2",
            "qwen_image",
            "pig",
        ),
        "an image or video model",
    ),
}
MLX_ALIASES: Final = {
    **dict.fromkeys(("mistral", "iquestcoder"), "llama"),
    "llava": "mistral3",
    "phi-msft": "phixtral",
    "falcon_mamba": "mamba",
    "joyai_llm_flash": "deepseek_v3",
    "kimi_k2": "deepseek_v3",
    "qwen2_5_vl": "qwen2_vl",
    "minimax_m2": "minimax",
}
"""`model_type`s that mlx_lm serves by another's module."""
MLX_ENCODERS: Final = frozenset(
    ("bert", "roberta", "xlm-roberta", "modernbert", "nomic_bert", "jina_bert", "deberta-v2")
)
SENTENCE_TRANSFORMERS: Final = "modules.json"


@dataclass(frozen=True, slots=True)
class Facts:
    """One model, projector or adapter. Unknown is None."""

    provider: Provider
    kind: Kind
    architecture: str
    name: str | None
    parameters: int | None
    quantization: str | None
    context_length: int | None
    embedding_length: int | None
    size_bytes: int
    abilities: tuple[str, ...] = ()
    """Of tools, thinking, vision."""
    vocabulary: str | None = None
    """Two models of one vocabulary may draft for one another."""


def template_abilities(template: str) -> tuple[str, ...]:
    """What a chat template seems to offer, by the variables and tags in its source; the worker knows better."""
    found = {
        "tools": "tools" in template or ".Tools" in template,
        "thinking": any(word in template for word in ("<think>", "enable_thinking", ".Think")),
    }
    return tuple(name for name, has in found.items() if has)


# ---- GGUF ------------------------------------------------------------------------------------------------------------


def of_gguf(path: Path) -> Facts:
    """The facts of a GGUF file and its further parts. Raises LoadFailed with the reason why it can't be served."""
    header = gguf_header.read(path, path.stem)
    kind = _gguf_kind(header)
    template = header.chat_template or ""
    return Facts(
        provider="llama_cpp",
        kind=kind,
        architecture=header.architecture,
        name=header.name,
        parameters=header.parameters,
        quantization=header.quantization,
        context_length=header.context_length,
        embedding_length=projector.of(header, path.stem).width if kind == "projector" else header.embedding_length,
        size_bytes=header.file_bytes,
        abilities=template_abilities(template) if kind == "chat" else (),
        vocabulary=_gguf_vocabulary(header),
    )


def _gguf_kind(header: gguf_header.Header) -> Kind:
    declared = header.metadata.get("general.type")
    if declared == "adapter":
        return "adapter"
    if declared in ("mmproj", "projector") or header.architecture == "clip":
        return "projector"
    if not header.tensors:
        raise LoadFailed("holds a vocabulary and no weights")
    if declared == "imatrix" or header.architecture == "imatrix":
        raise LoadFailed("is an importance matrix, not a model")
    if header.architecture in NOT_TEXT:
        raise LoadFailed(f"is {NOT_TEXT[header.architecture]} ({header.architecture}), not a text model")
    if header.tokenizer is None:
        raise LoadFailed(f"holds no tokenizer (architecture {header.architecture})")
    if header.pooling:
        return "reranker" if header.pooling == "rank" else "embedding"
    return "chat" if header.chat_template else "base"


def _gguf_vocabulary(header: gguf_header.Header) -> str | None:
    table = next((tensor for tensor in header.tensors if tensor.name == "token_embd.weight"), None)
    if table is None or header.tokenizer is None:
        return None
    return f"{header.tokenizer}/{header.metadata.get('tokenizer.ggml.pre', '')}/{table.dimensions[-1]}"


# ---- MLX and other safetensors folders -------------------------------------------------------------------------------


def of_folder(path: Path) -> Facts:
    """The facts of a folder of safetensors. Raises LoadFailed with the reason why it can't be served."""
    folder = Folder(path, path.name)
    kind = _folder_kind(folder)
    template = folder.chat_template()
    vision = () if mlx_vision.problem(folder) else ("vision",)
    size = folder.number("vocab_size")
    return Facts(
        provider="mlx",
        kind=kind or ("chat" if template else "base"),
        architecture=folder.architecture,
        name=None,
        parameters=_parameters(folder),
        quantization=folder.quantization(),
        context_length=folder.number("max_position_embeddings", "n_ctx", "max_seq_len"),
        embedding_length=folder.number("hidden_size", "n_embd", "d_model"),
        size_bytes=sum(tensor.end - tensor.start for tensor in folder.tensors),
        abilities=(*template_abilities(template), *vision),
        vocabulary=f"{folder.tokenizer_config.get('tokenizer_class', '')}/{size}" if size else None,
    )


def _folder_kind(folder: Folder) -> Kind | None:
    if (folder.path / SENTENCE_TRANSFORMERS).is_file() or folder.architecture in MLX_ENCODERS:
        return "embedding"
    known = mlx_architectures()
    architecture = MLX_ALIASES.get(folder.architecture, folder.architecture)
    if known and architecture not in known and mlx_vision.problem(folder):
        raise LoadFailed(f"has the architecture {folder.architecture}, which the installed mlx_lm doesn't know")
    return None


def mlx_architectures() -> frozenset[str]:
    """The `model_type`s that the installed mlx_lm has a module for; none where it isn't installed. Imports nothing."""
    found = importlib.util.find_spec("mlx_lm")
    places: Iterable[str] = (found.submodule_search_locations or ()) if found is not None else ()
    return frozenset(file.stem for place in places for file in Path(place, "models").glob("*.py"))


def _parameters(folder: Folder) -> int:
    """Numbers in the weights; of a quantized matrix, those that its packed words stand for."""
    settings = folder.config.get("quantization") or folder.config.get("quantization_config")
    bits = settings.get("bits") if isinstance(settings, dict) else None
    names = {tensor.name for tensor in folder.tensors}
    return sum(
        _elements(tensor, names, bits if isinstance(bits, int) and 0 < bits < 32 else None) for tensor in folder.tensors
    )


def _elements(tensor: safetensors_header.Tensor, names: set[str], bits: int | None) -> int:
    stem, _, part = tensor.name.rpartition(".")
    quantized = bits is not None and f"{stem}.scales" in names
    if quantized and part in ("scales", "biases"):
        return 0
    count = math.prod(tensor.shape)
    return count * 32 // bits if quantized and bits and tensor.dtype == "U32" else count
