"""Files beside the bundled models': adapters that change what they say, and copies that are damaged."""

import json
import shutil
from pathlib import Path
from typing import Any

from tests.worker import lora_file

STRONG = 3.0


def gguf_adapter(path: Path, width: int) -> Path:
    """A LoRA adapter of the bundled GGUF."""
    return lora_file.write(path, up=STRONG, width=width)


def mlx_adapter(path: Path, model: Path) -> Path:
    """A LoRA adapter of the bundled MLX folder: of its last layer's queries."""
    import mlx.core as mx  # may be missing

    config = json.loads((model / "config.json").read_text())
    width, layers, rank = int(config["hidden_size"]), int(config["num_hidden_layers"]), 4
    path.mkdir()
    parameters = {"rank": rank, "scale": 10.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]}
    written = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": parameters}
    (path / "adapter_config.json").write_text(json.dumps(written))
    name = f"model.layers.{layers - 1}.self_attn.q_proj"
    weights: dict[str, Any] = {
        f"{name}.lora_a": mx.random.normal((width, rank), key=mx.random.key(1)),
        f"{name}.lora_b": mx.random.normal((rank, width), key=mx.random.key(2)) * STRONG,
    }
    mx.save_safetensors(str(path / "adapters.safetensors"), weights)
    return path


def cut(source: Path, target: Path) -> Path:
    """A copy of a model whose weights end in the midst, as a download does that was broken off."""
    return _changed(source, target, lambda data: data[: len(data) // 2])


def overwritten(source: Path, target: Path) -> Path:
    """A copy of a model the head of whose weights was written over."""
    return _changed(source, target, lambda data: b"\xff" * 64 + data[64:])


def _changed(source: Path, target: Path, change: Any) -> Path:
    weights = target
    if source.is_dir():
        shutil.copytree(source, target)
        [weights] = target.glob("*.safetensors")
    else:
        shutil.copyfile(source, target)
    weights.write_bytes(change(weights.read_bytes()))
    return target
