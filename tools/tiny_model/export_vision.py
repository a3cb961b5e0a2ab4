"""Writes a vision checkpoint as a GGUF with its mmproj, and as the LLaVA folder that mlx-vlm loads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gguf
import numpy
import tokenizer as bpe
import torch
from export import ends, model_config, write_folder, write_gguf, write_json
from model import Shape
from tokenizers import Tokenizer
from vision import Seer, TowerShape

NAME = "heylook-tiny-vision"
TENSOR_NAMES = {
    "layer_norm1": "ln1",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "layer_norm2": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}


def read_checkpoint(path: Path) -> Seer:
    """The averaged model of a checkpoint, its weights rounded as they are exported."""
    held = torch.load(path, weights_only=True, map_location="cpu")
    seer = Seer(Shape(**held["text_shape"]), TowerShape(**held["tower_shape"])).eval().requires_grad_(False)
    seer.load_state_dict(held["average"])
    return rounded(seer)


def rounded(seer: Seer) -> Seer:
    """Every weight as 16 bits hold it."""
    for parameter in seer.parameters():
        parameter.data = parameter.data.half().float()
    return seer


def tower_tensors(seer: Seer) -> dict[str, numpy.ndarray]:
    """The tower's weights by HF's names, with a last layer of zeros that no engine computes."""
    tensors = {name: parameter.detach().numpy() for name, parameter in seer.vision_tower.named_parameters()}
    last = seer.vision_tower.shape.layers
    unused = {
        name.replace("layers.0.", f"layers.{last}."): numpy.zeros_like(tensor)
        for name, tensor in tensors.items()
        if ".layers.0." in name
    }
    return tensors | unused


def mmproj_name(name: str) -> str:
    """`encoder.layers.3.mlp.fc1.weight` -> `v.blk.3.ffn_up.weight`."""
    if name.startswith("embeddings."):
        module, kind = name.removeprefix("embeddings.").rsplit(".", 1)
        return f"v.{'patch_embd' if module == 'patch_embedding' else 'position_embd'}.{kind}"
    layer, rest = name.removeprefix("encoder.layers.").split(".", 1)
    module, kind = rest.rsplit(".", 1)
    return f"v.blk.{layer}.{TENSOR_NAMES[module]}.{kind}"


def write_mmproj(path: Path, seer: Seer) -> None:
    """The tower and the projector (`mm.0`, `mm.2`) as llama.cpp's mtmd reads them; quick-GELU is its default."""
    shape = seer.vision_tower.shape
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type(gguf.GGUFType.MMPROJ)
    writer.add_name(NAME)
    writer.add_description("The eyes of heylook-tiny-vision: they know a few shapes, colours and digits.")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_uint32("clip.vision.image_size", shape.image)
    writer.add_uint32("clip.vision.patch_size", shape.patch)
    writer.add_uint32("clip.vision.embedding_length", shape.width)
    writer.add_uint32("clip.vision.feed_forward_length", shape.feed_forward)
    writer.add_uint32("clip.vision.projection_dim", seer.language_model.shape.width)
    writer.add_uint32("clip.vision.block_count", shape.layers + 1)
    writer.add_uint32("clip.vision.attention.head_count", shape.heads)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", shape.norm_eps)
    writer.add_array("clip.vision.image_mean", [shape.mean] * 3)
    writer.add_array("clip.vision.image_std", [shape.deviation] * 3)
    tensors = {mmproj_name(name): tensor for name, tensor in tower_tensors(seer).items()}
    for name, parameter in seer.multi_modal_projector.named_parameters():
        number, kind = name.removeprefix("linear_").split(".")
        tensors[f"mm.{2 * int(number) - 2}.{kind}"] = parameter.detach().numpy()
    for name, tensor in tensors.items():
        matrix = tensor.ndim > 1 and "position" not in name
        writer.add_tensor(name, tensor.astype(numpy.float16) if matrix else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_llava(folder: Path, seer: Seer, tokenizer: Tokenizer) -> None:
    """The folder that mlx-vlm loads as LLaVA."""
    width = seer.vision_tower.shape.width
    tower = tower_tensors(seer) | {
        "post_layernorm.weight": numpy.ones(width),
        "post_layernorm.bias": numpy.zeros(width),
    }
    tensors = {f"vision_tower.vision_model.{name}": tensor for name, tensor in tower.items()}
    patches = "vision_tower.vision_model.embeddings.patch_embedding.weight"
    tensors[patches] = tensors[patches].transpose(0, 2, 3, 1)
    for prefix, part in (
        ("multi_modal_projector.", seer.multi_modal_projector),
        ("language_model.model.", seer.language_model),
    ):
        tensors |= {prefix + name: parameter.detach().numpy() for name, parameter in part.named_parameters()}
    half = {name: numpy.ascontiguousarray(tensor.astype(numpy.float16)) for name, tensor in tensors.items()}
    write_folder(folder, half, llava_config(seer, tokenizer), tokenizer, seer.language_model.shape)
    write_json(folder / "preprocessor_config.json", preprocessor_config(seer.vision_tower.shape))
    write_json(folder / "processor_config.json", processor_config(seer.vision_tower.shape))


def llava_config(seer: Seer, tokenizer: Tokenizer) -> dict[str, Any]:
    """The config.json of a LLaVA model; its tower has no class token, so every row is kept (`full`)."""
    end, padding = ends(tokenizer)
    shape = seer.vision_tower.shape
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": tokenizer.token_to_id(bpe.IMAGE),
        "image_seq_length": shape.patches,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "full",
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "bos_token_id": padding,
        "eos_token_id": end,
        "pad_token_id": padding,
        "vocab_size": seer.language_model.shape.vocabulary,
        "text_config": model_config(seer.language_model.shape, end, padding),
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_act": "quick_gelu",
            "hidden_size": shape.width,
            "intermediate_size": shape.feed_forward,
            "num_hidden_layers": shape.layers + 1,
            "num_attention_heads": shape.heads,
            "num_channels": 3,
            "image_size": shape.image,
            "patch_size": shape.patch,
            "projection_dim": seer.language_model.shape.width,
            "layer_norm_eps": shape.norm_eps,
            "attention_dropout": 0.0,
            "vision_use_head": False,
        },
    }


def preprocessor_config(shape: TowerShape) -> dict[str, Any]:
    """How a picture becomes pixels: squashed to a square, bicubic, scaled to -1 to 1."""
    return {
        "image_processor_type": "SiglipImageProcessor",
        "do_resize": True,
        "size": {"height": shape.image, "width": shape.image},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [shape.mean] * 3,
        "image_std": [shape.deviation] * 3,
        "do_convert_rgb": True,
    }


def processor_config(shape: TowerShape) -> dict[str, Any]:
    """What joins pictures and text."""
    return {
        "processor_class": "LlavaProcessor",
        "image_token": bpe.IMAGE,
        "patch_size": shape.patch,
        "num_additional_image_tokens": 0,
        "vision_feature_select_strategy": "full",
    }


def write_all(out: Path, seer: Seer, tokenizer: Tokenizer) -> None:
    """All files of the model."""
    out.mkdir(parents=True, exist_ok=True)
    for target, write in (
        (out / f"{NAME}.gguf", lambda path: write_gguf(path, seer.language_model, tokenizer, NAME)),
        (out / f"{NAME}-mmproj.gguf", lambda path: write_mmproj(path, seer)),
    ):
        write(target.with_suffix(".part"))
        target.with_suffix(".part").replace(target)
    write_llava(out / f"{NAME}-mlx", seer, tokenizer)


def main() -> None:
    """Export one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the training's folder")
    parser.add_argument("--checkpoint", default="checkpoint.pt")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "src/heylook_llm/tiny")
    options = parser.parse_args()
    seer = read_checkpoint(options.folder / options.checkpoint)
    write_all(options.out, seer, bpe.load(options.folder / "tokenizer.json"))


if __name__ == "__main__":
    main()
