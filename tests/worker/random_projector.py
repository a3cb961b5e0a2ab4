"""Small projectors (mmproj) of random weights, for the text models of random_gguf: a ViT, and what ends it by its type.

Images of different colours and shapes become rows about as long as those of tokens, so that answers hang on them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import gguf
import numpy as np

from tests.worker.random_gguf import WIDTH as TEXT_WIDTH
from tests.worker.random_gguf import Weights

SIDE: Final = 32
PATCH: Final = 8
VIT_WIDTH: Final = 32
VIT_HEADS: Final = 2
VIT_INNER: Final = 64
LAYERS: Final = 3
MEAN: Final = (0.48, 0.46, 0.41)
DEVIATION: Final = (0.27, 0.26, 0.28)


def _vit(weights: Weights) -> None:
    """Patches and layers."""
    weights.cube("v.patch_embd.weight", (VIT_WIDTH, 3, PATCH, PATCH))
    for block in (f"v.blk.{at}" for at in range(LAYERS)):
        for name, rows, columns in (
            *((f"attn_{part}", VIT_WIDTH, VIT_WIDTH) for part in ("q", "k", "v", "out")),
            ("ffn_up", VIT_INNER, VIT_WIDTH),
            ("ffn_down", VIT_WIDTH, VIT_INNER),
        ):
            weights.matrix(f"{block}.{name}.weight", rows, columns)
            weights.values(f"{block}.{name}.bias", np.zeros(rows))
        for name in ("ln1", "ln2"):
            _norm(weights, f"{block}.{name}")


def _norm(weights: Weights, name: str) -> None:
    weights.ones(f"{name}.weight", VIT_WIDTH)
    weights.values(f"{name}.bias", np.zeros(VIT_WIDTH))


def _mlp(writer: gguf.GGUFWriter, weights: Weights, width: int) -> None:
    """LLaVA's: a CLIP with a class token, and two matrices."""
    _vit(weights)
    weights.values("v.class_embd", np.ones(VIT_WIDTH))
    weights.matrix("v.position_embd.weight", (SIDE // PATCH) ** 2 + 1, VIT_WIDTH)
    _norm(weights, "v.pre_ln")
    _norm(weights, "v.post_ln")
    for name, rows, columns in (("mm.0", 48, VIT_WIDTH), ("mm.2", width, 48)):
        weights.matrix(f"{name}.weight", rows, columns, scale=4.0)
        weights.values(f"{name}.bias", np.zeros(rows))


def _gemma3(writer: gguf.GGUFWriter, weights: Weights, width: int) -> None:
    """Gemma's: pooled by two, a norm and a matrix."""
    writer.add_uint32("clip.vision.projector.scale_factor", 2)
    writer.add_bool("clip.use_gelu", True)
    _vit(weights)
    weights.values("v.patch_embd.bias", np.zeros(VIT_WIDTH))
    weights.matrix("v.position_embd.weight", (SIDE // PATCH) ** 2, VIT_WIDTH)
    _norm(weights, "v.post_ln")
    weights.ones("mm.soft_emb_norm.weight", VIT_WIDTH)
    weights.matrix("mm.input_projection.weight", VIT_WIDTH, width, scale=60.0)


def _qwen2vl(writer: gguf.GGUFWriter, weights: Weights, width: int) -> None:
    """Qwen2-VL's: any size, four patches to one row."""
    writer.add_bool("clip.use_gelu", True)
    _vit(weights)
    weights.cube("v.patch_embd.weight.1", (VIT_WIDTH, 3, PATCH, PATCH))
    _norm(weights, "v.post_ln")
    for name, rows, columns in (("mm.0", 4 * VIT_WIDTH, 4 * VIT_WIDTH), ("mm.2", width, 4 * VIT_WIDTH)):
        weights.matrix(f"{name}.weight", rows, columns, scale=4.0)
        weights.values(f"{name}.bias", np.zeros(rows))


def _idefics3(writer: gguf.GGUFWriter, weights: Weights, width: int) -> None:
    """SmolVLM's: large images are cut to tiles, each between tokens that the vocabulary must have."""
    writer.add_uint32("clip.vision.projector.scale_factor", 2)
    writer.add_uint32("clip.vision.preproc_image_size", 2 * SIDE)
    writer.add_bool("clip.use_gelu", True)
    _vit(weights)
    weights.values("v.patch_embd.bias", np.zeros(VIT_WIDTH))
    weights.matrix("v.position_embd.weight", (SIDE // PATCH) ** 2, VIT_WIDTH)
    _norm(weights, "v.post_ln")
    weights.matrix("mm.model.fc.weight", width, 4 * VIT_WIDTH, scale=8.0)


TYPES: Final[dict[str, Callable[[gguf.GGUFWriter, Weights, int], None]]] = {
    "mlp": _mlp,
    "gemma3": _gemma3,
    "qwen2vl_merger": _qwen2vl,
    "idefics3": _idefics3,
}


def write(path: Path, kind: str, seed: int = 5, *, width: int = TEXT_WIDTH, **keys: int) -> Path:
    """Write a projector of this type. `keys`: numbers of `clip.vision` in place of its own."""
    writer = gguf.GGUFWriter(path, "clip")
    numbers = {
        "image_size": SIDE,
        "patch_size": PATCH,
        "embedding_length": VIT_WIDTH,
        "feed_forward_length": VIT_INNER,
        "block_count": LAYERS,
        "projection_dim": width,
        "attention.head_count": VIT_HEADS,
        **{key.replace("__", "."): value for key, value in keys.items()},
    }
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", kind)
    for key, value in numbers.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", MEAN)
    writer.add_array("clip.vision.image_std", DEVIATION)
    writer.add_file_type(0)
    TYPES[kind](writer, Weights(writer, seed), width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
