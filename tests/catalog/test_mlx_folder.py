"""Folders of MLX models: what is read of them, and what is refused before a library sees it."""

import json
from pathlib import Path
from typing import Any

import pytest

from heylook_llm import tiny
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.errors import LoadFailed

pytestmark = pytest.mark.unit

BUNDLED = Path(tiny.__file__).parent / "heylook-tiny-mlx"


def folder(path: Path, config: dict[str, Any] | str | None = None, **files: dict[str, Any] | str) -> Path:
    """A folder with one tensor; `files` by their name without .json."""
    header = json.dumps({"w": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    (path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    for name, content in {"config": {"model_type": "llama"} if config is None else config, **files}.items():
        (path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_bundled_model() -> None:
    found = Folder(BUNDLED, "m")
    assert (found.architecture, found.quantization()) == ("qwen2", "F16")
    assert found.number("max_position_embeddings") == 4096
    assert len(found.end_tokens()) == 2
    assert found.special_tokens() == {"eos": "<|im_end|>"}
    assert "add_generation_prompt" in found.chat_template()
    assert "architectures" not in found.metadata()


def test_what_vision_models_nest(tmp_path: Path) -> None:
    text = {"max_position_embeddings": 100, "eos_token_id": [5, 6], "hidden_size": True}
    config = {"model_type": "x", "text_config": text, "eos_token_id": 7, "quantization": {"bits": 4, "group_size": 64}}
    found = Folder(folder(tmp_path, config, generation_config={"eos_token_id": 8}), "m")
    assert found.number("n_positions", "max_position_embeddings") == 100
    assert found.number("hidden_size") is None
    assert found.end_tokens() == {5, 6, 7, 8}
    assert found.quantization() == "4bit"


def test_templates_and_special_tokens(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    tokens = {"chat_template": named, "bos_token": {"content": "<s>"}, "eos_token": None}
    found = Folder(folder(tmp_path, tokenizer_config=tokens), "m")
    assert (found.chat_template(), found.special_tokens()) == ("tools", {"bos": "<s>"})
    (tmp_path / "tokenizer_config.json").unlink()
    folder(tmp_path, chat_template={"chat_template": "own"}, special_tokens_map={"eos_token": "</s>"})
    found = Folder(tmp_path, "m")
    assert (found.chat_template(), found.special_tokens()) == ("own", {"eos": "</s>"})
    (tmp_path / "chat_template.jinja").write_text("file")
    assert Folder(tmp_path, "m").chat_template() == "file"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "holds no config.json"),
        ("[]", "not a JSON object"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ({"model_type": 5}, "model_type"),
        ({"model_type": "../evil"}, "model_type"),
        ({"model_type": "a.b"}, "model_type"),
        ({"model_type": "llama", "quantization": "4bit"}, "`quantization` of its config.json is no object"),
        ({"model_type": "llama", "quantization_config": [4]}, "`quantization_config` of its config.json is no object"),
        ({"model_type": "llama", "quantization": {"bits": 4}}, "a `group_size` of 32, 64, 128"),
        ({"model_type": "llama", "quantization": {"bits": 7, "group_size": 64}}, "`bits` of 2, 3, 4, 5, 6, 8"),
        ({"model_type": "llama", "quantization": {"bits": True, "group_size": 64}}, "`bits` of"),
        ({"model_type": "llama", "quantization": {"bits": 4, "group_size": 64, "mode": "mxfp4"}}, "`group_size` of 32"),
        ({"model_type": "llama", "quantization": {"bits": 4, "group_size": 64, "mode": []}}, "`quantization.mode`"),
        ({"model_type": "llama", "auto_map": {"AutoConfig": "evil.Config"}}, "`auto_map`"),
        ({"model_type": "llama", "model_file": "evil.py"}, "`model_file`"),
        ({"model_type": "llama", "a": [{"b": {"custom_pipelines": {"x": {}}}}]}, "`custom_pipelines`"),
    ],
)
def test_what_is_refused(tmp_path: Path, config: dict[str, Any] | str, words: str) -> None:
    with pytest.raises(LoadFailed, match=words) as refused:
        Folder(folder(tmp_path, config), "m")
    assert str(tmp_path) not in refused.value.message


def test_code_of_the_tokenizer_and_files_that_are_too_large(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="has `auto_map`"):
        Folder(folder(tmp_path, tokenizer_config={"auto_map": {"AutoTokenizer": ["evil.T", None]}}), "m")
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "chat_template.jinja").write_text("x" * (5 << 20))
    with pytest.raises(LoadFailed, match="larger than"):
        Folder(tmp_path, "m").chat_template()
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(LoadFailed, match="can't be read"):
        Folder(tmp_path, "m").chat_template()
