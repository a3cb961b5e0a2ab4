"""Small projectors (mmproj) of random weights, for the text models of random_gguf: a ViT, and what ends it by its type.

Images of different colours and shapes become rows about as long as those of tokens, so that answers hang on them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import gguf
import numpy as np

from tests.worker.random_gguf import WIDTH as TEXT_WIDTH
from tests.worker.random_gguf import Weights


class Shape(NamedTuple):
    """What a ViT is made of."""

    side: int
    patch: int
    width: int
    heads: int
    inner: int
    layers: int

    @property
    def patches(self) -> int:
        """Of an image."""
        return (self.side // self.patch) ** 2


SMALL: Final = Shape(32, 8, 32, 2, 64, 3)
SIDE: Final = SMALL.side
MEAN: Final = (0.48, 0.46, 0.41)
DEVIATION: Final = (0.27, 0.26, 0.28)


def _vit(weights: Weights, shape: Shape) -> None:
    """Patches and layers."""
    weights.cube("v.patch_embd.weight", (shape.width, 3, shape.patch, shape.patch))
    for block in (f"v.blk.{at}" for at in range(shape.layers)):
        for name, rows, columns in (
            *((f"attn_{part}", shape.width, shape.width) for part in ("q", "k", "v", "out")),
            ("ffn_up", shape.inner, shape.width),
            ("ffn_down", shape.width, shape.inner),
        ):
            weights.matrix(f"{block}.{name}.weight", rows, columns)
            weights.values(f"{block}.{name}.bias", np.zeros(rows))
        for name in ("ln1", "ln2"):
            _norm(weights, f"{block}.{name}", shape.width)


def _norm(weights: Weights, name: str, width: int) -> None:
    weights.ones(f"{name}.weight", width)
    weights.values(f"{name}.bias", np.zeros(width))


def _mlp(writer: gguf.GGUFWriter, weights: Weights, shape: Shape, width: int) -> None:
    """LLaVA's: a CLIP with a class token, and two matrices."""
    _vit(weights, shape)
    weights.values("v.class_embd", np.ones(shape.width))
    weights.matrix("v.position_embd.weight", shape.patches + 1, shape.width)
    _norm(weights, "v.pre_ln", shape.width)
    _norm(weights, "v.post_ln", shape.width)
    for name, rows, columns in (("mm.0", 48, shape.width), ("mm.2", width, 48)):
        weights.matrix(f"{name}.weight", rows, columns, scale=4.0)
        weights.values(f"{name}.bias", np.zeros(rows))


def _gemma3(writer: gguf.GGUFWriter, weights: Weights, shape: Shape, width: int) -> None:
    """Gemma's: pooled by two, a norm and a matrix."""
    writer.add_uint32("clip.vision.projector.scale_factor", 2)
    writer.add_bool("clip.use_gelu", True)
    _vit(weights, shape)
    weights.values("v.patch_embd.bias", np.zeros(shape.width))
    weights.matrix("v.position_embd.weight", shape.patches, shape.width)
    _norm(weights, "v.post_ln", shape.width)
    weights.ones("mm.soft_emb_norm.weight", shape.width)
    weights.matrix("mm.input_projection.weight", shape.width, width, scale=60.0)


def _qwen2vl(writer: gguf.GGUFWriter, weights: Weights, shape: Shape, width: int) -> None:
    """Qwen2-VL's: any size, four patches to one row."""
    writer.add_bool("clip.use_gelu", True)
    _vit(weights, shape)
    weights.cube("v.patch_embd.weight.1", (shape.width, 3, shape.patch, shape.patch))
    _norm(weights, "v.post_ln", shape.width)
    for name, rows, columns in (("mm.0", 4 * shape.width, 4 * shape.width), ("mm.2", width, 4 * shape.width)):
        weights.matrix(f"{name}.weight", rows, columns, scale=4.0)
        weights.values(f"{name}.bias", np.zeros(rows))


def _idefics3(writer: gguf.GGUFWriter, weights: Weights, shape: Shape, width: int) -> None:
    """SmolVLM's: large images are cut to tiles, each between tokens that the vocabulary must have."""
    writer.add_uint32("clip.vision.projector.scale_factor", 2)
    writer.add_uint32("clip.vision.preproc_image_size", 2 * shape.side)
    writer.add_bool("clip.use_gelu", True)
    _vit(weights, shape)
    weights.values("v.patch_embd.bias", np.zeros(shape.width))
    weights.matrix("v.position_embd.weight", shape.patches, shape.width)
    _norm(weights, "v.post_ln", shape.width)
    weights.matrix("mm.model.fc.weight", width, 4 * shape.width, scale=8.0)


TYPES: Final[dict[str, Callable[[gguf.GGUFWriter, Weights, Shape, int], None]]] = {
    "mlp": _mlp,
    "gemma3": _gemma3,
    "qwen2vl_merger": _qwen2vl,
    "idefics3": _idefics3,
}


def write(
    path: Path,
    kind: str,
    seed: int = 5,
    *,
    width: int = TEXT_WIDTH,
    shape: Shape = SMALL,
    keys: Mapping[str, int] | None = None,
) -> Path:
    """Write a projector of this type. `keys`: numbers of `clip.vision` in place of its own."""
    writer = gguf.GGUFWriter(path, "clip")
    numbers = {
        "image_size": shape.side,
        "patch_size": shape.patch,
        "embedding_length": shape.width,
        "feed_forward_length": shape.inner,
        "block_count": shape.layers,
        "projection_dim": width,
        "attention.head_count": shape.heads,
        **(keys or {}),
    }
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", kind)
    for key, value in numbers.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", MEAN)
    writer.add_array("clip.vision.image_std", DEVIATION)
    writer.add_file_type(0)
    TYPES[kind](writer, Weights(writer, seed), shape, width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
