"""Writes an MLX folder of random weights with the bundled model's architecture, vocabulary and templates.

    python -m benchmarks.random_mlx OUT_FOLDER [--layers 6] [--width 512]

Weights come from a seeded normal distribution, as 16-bit floats, so a folder is the same every time.
"""

import argparse
import importlib
import json
import shutil
from pathlib import Path
from typing import Any, Final

from heylook_llm import tiny

BUNDLED: Final = Path(tiny.__file__).parent / "heylook-tiny-mlx"
HEAD_WIDTH: Final = 64


def write(folder: Path, layers: int = 6, width: int = 512, seed: int = 1) -> None:
    """A folder that mlx_lm loads."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in BUNDLED.iterdir():
        if source.name != "model.safetensors":
            shutil.copyfile(source, folder / source.name)
    config: dict[str, Any] = json.loads((BUNDLED / "config.json").read_text(encoding="utf-8"))
    heads = width // HEAD_WIDTH
    config |= {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": width * 11 // 4}
    config |= {"num_attention_heads": heads, "num_key_value_heads": heads}
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    mx: Any = importlib.import_module("mlx.core")
    mx.save_safetensors(str(folder / "model.safetensors"), _weights(mx, config, seed), metadata={"format": "mlx"})


def _weights(mx: Any, config: dict[str, Any], seed: int) -> dict[str, Any]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    key = mx.random.key(seed)
    found: dict[str, Any] = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        nonlocal key
        key, own = mx.random.split(key)
        found[f"{name}.weight"] = (mx.random.normal((rows, columns), key=own) / columns**0.5).astype(mx.float16)

    def vector(name: str, size: int, value: float) -> None:
        found[name] = mx.full((size,), value, dtype=mx.float16)

    matrix("model.embed_tokens", config["vocab_size"], width)
    vector("model.norm.weight", width, 1.0)
    for at in range(config["num_hidden_layers"]):
        block = f"model.layers.{at}"
        vector(f"{block}.input_layernorm.weight", width, 1.0)
        vector(f"{block}.post_attention_layernorm.weight", width, 1.0)
        for name in ("q", "k", "v", "o"):
            matrix(f"{block}.self_attn.{name}_proj", width, width)
        for name in ("q", "k", "v"):
            vector(f"{block}.self_attn.{name}_proj.bias", width, 0.0)
        matrix(f"{block}.mlp.gate_proj", inner, width)
        matrix(f"{block}.mlp.up_proj", inner, width)
        matrix(f"{block}.mlp.down_proj", width, inner)
    return found


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=512)
    arguments = parser.parse_args()
    write(arguments.folder, arguments.layers, arguments.width)


if __name__ == "__main__":
    main()
