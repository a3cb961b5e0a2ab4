"""Writes a checkpoint's averaged weights, rounded to 16 bits, as GGUF and as an MLX folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import numpy
import tokenizer as bpe
import torch
from model import Decoder, Shape, count_parameters
from safetensors.numpy import save_file
from tokenizers import Tokenizer

NAME = "heylook-tiny"
TENSOR_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def read_checkpoint(path: Path) -> Decoder:
    """The averaged model of a checkpoint, its weights rounded as they are exported."""
    held = torch.load(path, weights_only=True, map_location="cpu")
    model = Decoder(Shape(**held["shape"])).eval().requires_grad_(False)
    model.load_state_dict(held["average"])
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    return model


def gguf_name(name: str) -> str:
    """`layers.3.mlp.up_proj.weight` -> `blk.3.ffn_up.weight`."""
    if name == "embed_tokens.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, layer, rest = name.split(".", 2)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{TENSOR_NAMES[module]}.{kind}"


def has_images(tokenizer: Tokenizer) -> bool:
    """Whether this is the vocabulary of the model with eyes."""
    return tokenizer.token_to_id(bpe.IMAGE) is not None


def control_tokens(tokenizer: Tokenizer) -> list[str]:
    """The tokens that no text becomes."""
    return bpe.CONTROL_TOKENS + ([bpe.IMAGE] if has_images(tokenizer) else [])


def write_gguf(path: Path, model: Decoder, tokenizer: Tokenizer, name: str = NAME) -> None:
    """Matrices as F16, vectors as F32 (llama.cpp's rule), vocabulary and chat template inside."""
    shape = model.shape
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name(name)
    writer.add_basename(name)
    writer.add_size_label(f"{count_parameters(model) / 1e6:.1f}M")
    writer.add_description("A very small model for wiring and measuring a model server; it knows next to nothing.")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    add_vocabulary(writer, tokenizer)
    for label, parameter in model.named_parameters():
        array = parameter.detach().numpy()
        writer.add_tensor(gguf_name(label), array.astype(numpy.float16) if array.ndim == 2 else array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    """Tokens, types, merges, special ids and the chat template."""
    kinds = dict.fromkeys(control_tokens(tokenizer), gguf.TokenType.CONTROL) | dict.fromkeys(
        bpe.TEXT_TOKENS, gguf.TokenType.USER_DEFINED
    )
    tokens = [tokenizer.id_to_token(index) for index in range(tokenizer.get_vocab_size())]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.token_to_id("<|endoftext|>"))
    writer.add_eos_token_id(tokenizer.token_to_id("<|im_end|>"))
    writer.add_eot_token_id(tokenizer.token_to_id("<|im_end|>"))
    writer.add_pad_token_id(tokenizer.token_to_id("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(bpe.template_text(has_images(tokenizer)))


def ends(tokenizer: Tokenizer) -> tuple[int, int]:
    """The token that ends a turn, and the one that fills."""
    return tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")


def write_mlx(folder: Path, model: Decoder, tokenizer: Tokenizer) -> None:
    """The folder that mlx_lm and transformers load."""
    tensors = {f"model.{name}": parameter.detach().half().numpy() for name, parameter in model.named_parameters()}
    write_folder(folder, tensors, model_config(model.shape, *ends(tokenizer)), tokenizer, model.shape)


def write_folder(
    folder: Path, tensors: dict[str, numpy.ndarray], config: dict[str, Any], tokenizer: Tokenizer, shape: Shape
) -> None:
    """Weights, config, tokenizer, chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "mlx"})
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(bpe.template_text(has_images(tokenizer)))
    write_json(folder / "config.json", config)
    end, padding = ends(tokenizer)
    write_json(
        folder / "generation_config.json",
        {"bos_token_id": padding, "pad_token_id": padding, "eos_token_id": [end, padding], "do_sample": False},
    )
    write_json(folder / "tokenizer_config.json", tokenizer_config(tokenizer, shape))


def model_config(shape: Shape, end: int, padding: int) -> dict[str, Any]:
    """The config.json of a Qwen2 model."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "torch_dtype": "float16",
        "use_cache": True,
        "bos_token_id": padding,
        "eos_token_id": end,
        "pad_token_id": padding,
    }


def tokenizer_config(tokenizer: Tokenizer, shape: Shape) -> dict[str, Any]:
    """The tokenizer_config.json beside tokenizer.json."""
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token in control_tokens(tokenizer),
        }
        for token in [*control_tokens(tokenizer), *bpe.TEXT_TOKENS]
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": added,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": shape.context,
        "errors": "replace",
    }


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Indented JSON with a newline at the end."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    """Export one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the training's folder")
    parser.add_argument("--checkpoint", default="checkpoint.pt")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "src/heylook_llm/tiny")
    options = parser.parse_args()
    model = read_checkpoint(options.folder / options.checkpoint)
    tokenizer = bpe.load(options.folder / "tokenizer.json")
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"{NAME}.gguf"
    write_gguf(target.with_suffix(".part"), model, tokenizer)
    target.with_suffix(".part").replace(target)
    write_mlx(options.out / f"{NAME}-mlx", model, tokenizer)


if __name__ == "__main__":
    main()
