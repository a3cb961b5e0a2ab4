"""A small LLaVA of random weights as an MLX folder, and mlx-vlm's own forward pass of it."""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from heylook_llm import core
from tests.worker.random_mlx import BUNDLED

SIDE = 32
PATCHES = 16
IMAGE_TOKEN = 5
QUANTIZED_GROUP = 32
MEAN, DEVIATION = [0.48, 0.45, 0.41], [0.27, 0.26, 0.28]
TEXT: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "eos_token_id": 1019,
}
VISION: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 8,
    "projection_dim": 32,
}
SIGLIP: dict[str, Any] = VISION | {"model_type": "siglip_vision_model", "hidden_act": "quick_gelu"}
"""A tower that makes rows of patches alone."""


def config_of(text: str = "qwen2", **changes: Any) -> dict[str, Any]:
    """Its config.json."""
    return {
        "model_type": "llava",
        "image_token_index": IMAGE_TOKEN,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "text_config": TEXT | {"model_type": text},
        "vision_config": VISION,
        **changes,
    }


def write(folder: Path, config: dict[str, Any] | None = None, *, seed: int = 11, bits: int = 0) -> Path:
    """A folder with such a model in F32, or quantized; the same seed writes the same weights."""
    mx: Any = importlib.import_module("mlx.core")
    utils: Any = importlib.import_module("mlx.utils")
    config = config or config_of()
    mx.random.seed(seed)
    model = library_model(config)
    parameters = dict(utils.tree_flatten(model.parameters()))
    # Matrices as wide as trained ones make the logits differ by more than rounding does.
    grown = {name: value * 4 if value.ndim > 1 else value for name, value in parameters.items()}
    name = "vision_tower.vision_model.embeddings.class_embedding"
    if name in grown:
        grown[name] = mx.random.normal(grown[name].shape)
    model.load_weights(list(grown.items()))
    if bits:
        config = config | {"quantization": {"group_size": QUANTIZED_GROUP, "bits": bits}}
        _quantize(model, bits)
    weights = dict(utils.tree_flatten(model.parameters()))
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    preprocessor = {"image_mean": MEAN, "image_std": DEVIATION, "size": {"height": SIDE, "width": SIDE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(BUNDLED / name, folder / name)
    return folder


def around(text: Path, target: Path, vision: dict[str, Any]) -> Path:
    """A folder of a text model that there is, with random eyes of that `vision_config`, all in F16."""
    mx: Any = importlib.import_module("mlx.core")
    utils: Any = importlib.import_module("mlx.utils")
    shutil.copytree(text, target)
    told = json.loads((text / "config.json").read_text())
    config = config_of(text_config=told, vision_config=vision, vocab_size=told["vocab_size"])
    weights = {f"language_model.{name}": value for name, value in mx.load(str(text / "model.safetensors")).items()}
    small = config | {"text_config": told | {"num_hidden_layers": 0, "vocab_size": 1}}
    for name, value in utils.tree_flatten(library_model(small).parameters()):
        if not name.startswith("language_model."):
            weights[name] = value.astype(mx.float16)
    mx.save_safetensors(str(target / "model.safetensors"), weights, {"format": "mlx"})
    (target / "config.json").write_text(json.dumps(config))
    (target / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": DEVIATION}))
    return target


def _quantize(model: Any, bits: int) -> None:
    nn: Any = importlib.import_module("mlx.nn")

    def fits(_: str, module: Any) -> bool:
        return hasattr(module, "to_quantized") and module.weight.shape[-1] % QUANTIZED_GROUP == 0

    nn.quantize(model, group_size=QUANTIZED_GROUP, bits=bits, class_predicate=fits)


def renamed(folder: Path, target: Path) -> Path:
    """The same folder with the tensors' names that transformers writes by now."""
    mx: Any = importlib.import_module("mlx.core")
    shutil.copytree(folder, target)
    weights = mx.load(str(folder / "model.safetensors"))
    names = {
        name: f"model.{name}".replace("language_model.model.", "language_model.")
        if "lm_head" not in name
        else "lm_head.weight"
        for name in weights
    }
    mx.save_safetensors(str(target / "model.safetensors"), {names[name]: value for name, value in weights.items()})
    return target


def library_model(config: dict[str, Any]) -> Any:
    """mlx-vlm's own model of that configuration, with random weights."""
    library: Any = importlib.import_module("mlx_vlm.models.llava")
    parts = {
        "text_config": library.TextConfig.from_dict(config["text_config"]),
        "vision_config": library.VisionConfig.from_dict(config["vision_config"]),
    }
    return library.Model(library.ModelConfig.from_dict(config | parts))


def library_logits(folder: Path, tokens: list[int], image: core.ImagePart) -> Any:
    """What mlx-vlm computes of a prompt with one image, whole: the logits after each token. Negative ids are its."""
    mx: Any = importlib.import_module("mlx.core")
    config = json.loads((folder / "config.json").read_text())
    model = library_model(config)
    if "quantization" in config:
        _quantize(model, config["quantization"]["bits"])
    model.load_weights(str(folder / "model.safetensors"))
    values = np.frombuffer(image.rgb, np.uint8).reshape(SIDE, SIDE, 3) / 255
    pixels = ((values - MEAN) / DEVIATION).astype(np.float32).transpose(2, 0, 1)[None]
    ids = [token if token >= 0 else IMAGE_TOKEN for token in tokens]
    return np.array(model(mx.array([ids]), mx.array(pixels), None).logits[0])


def noise(seed: int, width: int = SIDE, height: int = SIDE) -> core.ImagePart:
    """An image of coloured noise."""
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return core.ImagePart(rgb.tobytes(), width, height)
