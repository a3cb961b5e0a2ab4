"""The bundled model's files: complete, consistent with each other, small."""

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
GGUF = FOLDER / "heylook-tiny.gguf"
MLX = FOLDER / "heylook-tiny-mlx"


@pytest.fixture(scope="module")
def reader() -> gguf.GGUFReader:
    return gguf.GGUFReader(GGUF)


def field(reader: gguf.GGUFReader, name: str) -> Any:
    return reader.fields[name].contents()


def safetensors_header(path: Path) -> dict[str, dict[str, Any]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, dict[str, Any]] = json.loads(file.read(length))
    return header


def test_files_stay_under_twelve_megabytes() -> None:
    assert sum(path.stat().st_size for path in [GGUF, *MLX.iterdir()]) < 12_000_000


def test_gguf_and_config_agree_on_the_shape(reader: gguf.GGUFReader) -> None:
    config = json.loads((MLX / "config.json").read_text())
    assert field(reader, "general.architecture") == config["model_type"] == "qwen2"
    assert field(reader, "qwen2.context_length") == config["max_position_embeddings"] == 4096
    assert field(reader, "qwen2.embedding_length") == config["hidden_size"]
    assert field(reader, "qwen2.block_count") == config["num_hidden_layers"]
    assert field(reader, "qwen2.attention.head_count") == config["num_attention_heads"]
    assert field(reader, "qwen2.attention.head_count_kv") == config["num_key_value_heads"]
    assert field(reader, "qwen2.feed_forward_length") == config["intermediate_size"]


def test_both_formats_hold_the_same_embedding(reader: gguf.GGUFReader) -> None:
    header = safetensors_header(MLX / "model.safetensors")
    entry = header["model.embed_tokens.weight"]
    begin, end = entry["data_offsets"]
    raw = (MLX / "model.safetensors").read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    embedding = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
    assert entry["dtype"] == "F16"
    assert embedding.data.tobytes() == raw[start + begin : start + end]


def test_both_formats_hold_the_same_tensors(reader: gguf.GGUFReader) -> None:
    header = safetensors_header(MLX / "model.safetensors")
    sizes = sorted(tensor.n_elements for tensor in reader.tensors)
    other = [
        entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"
    ]
    assert sizes == sorted(size // 2 for size in other)


def test_vocabularies_agree_and_cover_every_byte(reader: gguf.GGUFReader) -> None:
    tokenizer = json.loads((MLX / "tokenizer.json").read_text())
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    ids = tokenizer["model"]["vocab"] | added
    tokens = field(reader, "tokenizer.ggml.tokens")
    assert [token for token, _ in sorted(ids.items(), key=lambda pair: pair[1])] == tokens
    assert sum(1 for token in tokens if len(token) == 1) >= 256
    assert [" ".join(pair) for pair in tokenizer["model"]["merges"]] == field(reader, "tokenizer.ggml.merges")


def test_special_tokens(reader: gguf.GGUFReader) -> None:
    tokens, kinds = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.token_type")
    kind_of = dict(zip(tokens, kinds, strict=True))
    assert {kind_of[token] for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")} == {gguf.TokenType.CONTROL}
    assert {kind_of[token] for token in ("<think>", "</think>", "<tool_call>", "</tool_call>")} == {
        gguf.TokenType.USER_DEFINED
    }
    assert tokens[field(reader, "tokenizer.ggml.eos_token_id")] == "<|im_end|>"
    assert field(reader, "tokenizer.ggml.add_bos_token") is False


def test_the_template_is_the_same_everywhere(reader: gguf.GGUFReader) -> None:
    source = Path(__file__).parents[2] / "tools/tiny_model/chat_template.jinja"
    template = (MLX / "chat_template.jinja").read_text()
    assert field(reader, "tokenizer.chat_template") == template == source.read_text()
