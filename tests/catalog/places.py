"""Folders of made-up models, as a person's machine has them."""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.catalog.handmade import STRING, U32, Made, pair, tensor


def gguf(path: Path, **fields: Any) -> Path:
    """A GGUF file of little weight. `fields` are those of `made`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made(**fields).bytes_())
    return path


def made(
    architecture: str = "llama",
    *,
    template: str | None = "{{ messages }}",
    width: int = 64,
    vocabulary: int = 8,
    rows: int = 1,
    tokenizer: str | None = "gpt2",
    **numbers: int | str,
) -> Made:
    """A file of one embedding table and `rows` further rows. Names in `numbers` have __ for a dot."""
    pairs = [pair("general.architecture", STRING, architecture)]
    if tokenizer is not None:
        pairs.append(pair("tokenizer.ggml.model", STRING, tokenizer))
    if template is not None:
        pairs.append(pair("tokenizer.chat_template", STRING, template))
    pairs.append(pair(f"{architecture}.embedding_length", U32, width))
    for name, value in numbers.items():
        pairs.append(pair(name.replace("__", "."), STRING if isinstance(value, str) else U32, value))
    table = width * vocabulary * 4
    tensors = [tensor("token_embd.weight", (width, vocabulary), 0, 0), tensor("rest", (32, rows), 0, table)]
    return Made(pairs=pairs, tensors=tensors, data=bytes(table + 128 * rows))


def safetensors(path: Path, tensors: Mapping[str, tuple[str, list[int], int]]) -> Path:
    """A file of zeros: name -> (dtype, shape, bytes)."""
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return path


def mlx(folder: Path, *, tokenizer: Mapping[str, Any] | None = None, **config: Any) -> Path:
    """An MLX model's folder: four numbers of weights."""
    safetensors(folder / "model.safetensors", {"a.weight": ("F16", [2, 2], 8)})
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 8, **config}))
    if tokenizer is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


LLAVA = ("language_model.model.norm.weight", "vision_tower.a.weight", "multi_modal_projector.b.weight")


def llava(folder: Path, *, names: Sequence[str] = LLAVA, **changes: Any) -> Path:
    """A folder that says it is a LLaVA, with a tensor of four numbers for each name."""
    safetensors(
        folder / "model.safetensors",
        {name: ("F16", [2, 2], 8) for name in names},
    )
    parts = {"vision_config": {"model_type": "clip_vision_model"}, "text_config": {"model_type": "llama"}}
    (folder / "config.json").write_text(json.dumps({"model_type": "llava", **parts, **changes}))
    return folder


def snapshot(cache: Path, repository: str, revision: str = "abc", *, current: bool = True) -> Path:
    """A snapshot's folder in a Hugging Face cache."""
    base = cache / f"models--{repository.replace('/', '--')}"
    if current:
        (base / "refs").mkdir(parents=True, exist_ok=True)
        (base / "refs" / "main").write_text(revision)
    folder = base / "snapshots" / revision
    folder.mkdir(parents=True)
    return folder


def ollama(store: Path, name: str, model: Path | None, projector: Path | None = None, digest: str = "") -> Path:
    """A manifest of Ollama's store, and the blobs that it names."""
    layers = [_blob(store, file, kind) for file, kind in ((model, "model"), (projector, "projector")) if file]
    if digest:
        layers.append({"mediaType": "application/vnd.ollama.image.model", "digest": digest})
    title, _, tag = name.partition(":")
    path = store / "manifests" / "registry.ollama.ai" / "library" / title / (tag or "latest")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    return path


def _blob(store: Path, file: Path, kind: str) -> dict[str, str]:
    digest = hashlib.sha256(str(file).encode()).hexdigest()
    blob = store / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(file.read_bytes())
    return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}"}
