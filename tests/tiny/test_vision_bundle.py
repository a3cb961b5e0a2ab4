"""The bundled vision model's files: complete, consistent with each other, small."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import pytest

import heylook_llm.tiny

pytestmark = pytest.mark.unit

FOLDER = Path(heylook_llm.tiny.__file__).parent
NAME = "heylook-tiny-vision"
MLX = FOLDER / f"{NAME}-mlx"
TOWER = "vision_tower.vision_model."


@pytest.fixture(scope="module")
def text() -> gguf.GGUFReader:
    return gguf.GGUFReader(FOLDER / f"{NAME}.gguf")


@pytest.fixture(scope="module")
def eyes() -> gguf.GGUFReader:
    return gguf.GGUFReader(FOLDER / f"{NAME}-mmproj.gguf")


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    value: dict[str, Any] = json.loads((MLX / "config.json").read_text())
    return value


def field(reader: gguf.GGUFReader, name: str) -> Any:
    return reader.fields[name].contents()


def held(reader: gguf.GGUFReader, name: str) -> bytes:
    """A tensor's numbers as 16 bits, whichever the file holds."""
    tensor = next(tensor for tensor in reader.tensors if tensor.name == name)
    return bytes(tensor.data.astype("float16").tobytes())


class Safetensors:
    """The tensors of a file, all of 16 bits."""

    def __init__(self, path: Path) -> None:
        raw = path.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        self.header: dict[str, Any] = json.loads(raw[8 : 8 + length])
        self.header.pop("__metadata__")
        self._numbers = raw[8 + length :]

    def held(self, name: str) -> bytes:
        assert self.header[name]["dtype"] == "F16"
        begin, end = self.header[name]["data_offsets"]
        return self._numbers[begin:end]


@pytest.fixture(scope="module")
def weights() -> Safetensors:
    return Safetensors(MLX / "model.safetensors")


def test_files_stay_under_fifteen_megabytes() -> None:
    files = [*FOLDER.glob(f"{NAME}*.gguf"), *MLX.iterdir()]
    assert len(files) == 10
    assert sum(path.stat().st_size for path in files) < 15_000_000


def test_mmproj_and_config_agree_on_the_tower(eyes: gguf.GGUFReader, config: dict[str, Any]) -> None:
    tower = config["vision_config"]
    assert field(eyes, "general.architecture") == "clip"
    assert field(eyes, "clip.has_vision_encoder") is True
    assert field(eyes, "clip.projector_type") == "mlp"
    for key, other in (
        ("image_size", "image_size"),
        ("patch_size", "patch_size"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("block_count", "num_hidden_layers"),
        ("attention.head_count", "num_attention_heads"),
        ("projection_dim", "projection_dim"),
    ):
        assert field(eyes, f"clip.vision.{key}") == tower[other], key
    assert field(eyes, "clip.vision.attention.layer_norm_epsilon") == pytest.approx(tower["layer_norm_eps"])
    processor = json.loads((MLX / "preprocessor_config.json").read_text())
    assert field(eyes, "clip.vision.image_mean") == processor["image_mean"]
    assert field(eyes, "clip.vision.image_std") == processor["image_std"]
    assert processor["size"] == {"height": tower["image_size"], "width": tower["image_size"]}
    assert (tower["image_size"] // tower["patch_size"]) ** 2 == config["image_seq_length"] <= 64


def test_the_projector_ends_in_the_text_width(
    text: gguf.GGUFReader, eyes: gguf.GGUFReader, config: dict[str, Any]
) -> None:
    width = field(text, "qwen2.embedding_length")
    assert width == config["text_config"]["hidden_size"] == field(eyes, "clip.vision.projection_dim")
    last = next(tensor for tensor in eyes.tensors if tensor.name == "mm.2.weight")
    assert list(last.shape) == [width, width]


def test_no_class_token_which_llama_cpp_misplaces(eyes: gguf.GGUFReader, config: dict[str, Any]) -> None:
    names = {tensor.name for tensor in eyes.tensors}
    assert not names & {"v.class_embd", "v.pre_ln.weight", "v.post_ln.weight"}
    assert config["vision_config"]["model_type"] == "siglip_vision_model"
    assert config["vision_feature_select_strategy"] == "full"
    assert config["vision_feature_layer"] == -2


def test_the_last_layer_is_empty_for_no_engine_computes_it(eyes: gguf.GGUFReader, weights: Safetensors) -> None:
    last = field(eyes, "clip.vision.block_count") - 1
    assert not any(held(eyes, f"v.blk.{last}.ffn_up.weight"))
    assert not any(weights.held(f"{TOWER}encoder.layers.{last}.mlp.fc1.weight"))
    assert any(held(eyes, f"v.blk.{last - 1}.ffn_up.weight"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("v.position_embd.weight", TOWER + "embeddings.position_embedding.weight"),
        ("v.blk.0.attn_q.weight", TOWER + "encoder.layers.0.self_attn.q_proj.weight"),
        ("v.blk.1.attn_out.bias", TOWER + "encoder.layers.1.self_attn.out_proj.bias"),
        ("v.blk.2.ffn_up.weight", TOWER + "encoder.layers.2.mlp.fc1.weight"),
        ("v.blk.3.ffn_down.weight", TOWER + "encoder.layers.3.mlp.fc2.weight"),
        ("v.blk.3.ln2.weight", TOWER + "encoder.layers.3.layer_norm2.weight"),
        ("mm.0.weight", "multi_modal_projector.linear_1.weight"),
        ("mm.2.bias", "multi_modal_projector.linear_2.bias"),
    ],
)
def test_both_formats_hold_the_same_eyes(eyes: gguf.GGUFReader, weights: Safetensors, one: str, other: str) -> None:
    assert held(eyes, one) == weights.held(other)


def test_both_formats_hold_the_same_decoder(text: gguf.GGUFReader, weights: Safetensors) -> None:
    prefix = "language_model.model."
    assert held(text, "token_embd.weight") == weights.held(prefix + "embed_tokens.weight")
    assert held(text, "blk.5.ffn_down.weight") == weights.held(prefix + "layers.5.mlp.down_proj.weight")
    sizes = sorted(tensor.n_elements for tensor in text.tensors)
    others = [len(weights.held(name)) // 2 for name in weights.header if name.startswith(prefix)]
    assert sizes == sorted(others)


def test_the_image_token_is_the_last_and_no_text(text: gguf.GGUFReader, config: dict[str, Any]) -> None:
    tokens, kinds = field(text, "tokenizer.ggml.tokens"), field(text, "tokenizer.ggml.token_type")
    assert tokens[-1] == "<image>"
    assert kinds[-1] == gguf.TokenType.CONTROL
    assert config["image_token_index"] == len(tokens) - 1 == config["text_config"]["vocab_size"] - 1
    tokenizer = json.loads((MLX / "tokenizer.json").read_text())
    added = {token["content"]: token for token in tokenizer["added_tokens"]}
    assert added["<image>"]["id"] == config["image_token_index"]
    assert added["<image>"]["special"] is True


def test_the_rest_of_the_vocabulary_is_the_text_model_s(text: gguf.GGUFReader) -> None:
    plain = gguf.GGUFReader(FOLDER / "heylook-tiny.gguf")
    assert field(text, "tokenizer.ggml.tokens")[:-1] == field(plain, "tokenizer.ggml.tokens")
    assert field(text, "tokenizer.ggml.merges") == field(plain, "tokenizer.ggml.merges")


def test_the_template_is_the_text_model_s_and_places_images(text: gguf.GGUFReader) -> None:
    template = (MLX / "chat_template.jinja").read_text()
    assert field(text, "tokenizer.chat_template") == template
    added = "{%- elif part.type in ['image', 'image_url', 'input_image'] -%}{{- '<image>' -}}"
    plain = (FOLDER / "heylook-tiny-mlx/chat_template.jinja").read_text()
    assert template.replace(added, "") == plain != template
