"""Which folders see, by their configuration and the names of their tensors; what their eyes take."""

from pathlib import Path
from typing import Any

import pytest

from heylook_llm.catalog import mlx_vision
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.errors import LoadFailed
from tests.catalog.places import llava

pytestmark = pytest.mark.unit


def opened(folder: Path) -> Folder:
    """The folder, read."""
    return Folder(folder, "m")


def test_a_sparse_llava_sees_and_is_whole(tmp_path: Path) -> None:
    """As transformers writes LLaVA 1.5: only what differs from the defaults."""
    folder = opened(llava(tmp_path / "m", text_config={"model_type": "llama", "vocab_size": 32064}))
    assert mlx_vision.problem(folder) == ""
    assert folder.number("hidden_size") == 4096
    assert folder.number("num_key_value_heads") == 32
    assert folder.number("vocab_size") == 32064
    assert mlx_vision.text_config(folder)["tie_word_embeddings"] is True
    assert mlx_vision.tower(folder) == mlx_vision.Tower(336, 14, 1024, 24, 16)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vision_config": None}, "no `vision_config`"),
        ({"model_type": "qwen2_5_vl", "rope_scaling": {"mrope_section": [16, 24, 24]}}, "M-RoPE"),
        ({"model_type": "qwen3_vl", "text_config": {"rope_parameters": {"mrope_section": [24, 20, 20]}}}, "M-RoPE"),
        ({"model_type": "gemma3"}, "it is a gemma3"),
        ({"vision_config": {"model_type": "pixtral"}}, "'pixtral'"),
        ({"vision_config": {"model_type": "clip_vision_model", "hidden_act": "gelu"}}, "hidden_act"),
        ({"vision_config": {"model_type": "siglip_vision_model"}}, "gelu_pytorch_tanh"),
        ({"vision_config": {"model_type": ["clip_vision_model"]}}, "vision_config.model_type"),
        ({"text_config": {"model_type": "gemma2"}}, "'gemma2'"),
        ({"text_config": None}, "text_config.model_type"),
        ({"projector_hidden_act": "relu"}, "relu"),
        ({"vision_feature_layer": [-2, -5]}, "one layer"),
        ({"vision_feature_select_strategy": "cls_patch"}, "cls_patch"),
    ],
)
def test_what_is_not_served_says_why(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    folder = opened(llava(tmp_path / "m", **changes))
    assert reason in mlx_vision.problem(folder)
    assert not mlx_vision.loads_eyes(folder, "auto")
    with pytest.raises(LoadFailed, match="`vision: true` can't be had"):
        mlx_vision.loads_eyes(folder, True)


def test_a_folder_without_the_towers_weights_is_blind(tmp_path: Path) -> None:
    folder = opened(llava(tmp_path / "m", names=("language_model.model.norm.weight",)))
    assert "no vision tower" in mlx_vision.problem(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_size": "336"}, "image_size"),
        ({"image_size": 1 << 20}, "image_size"),
        ({"patch_size": 0}, "patch_size"),
        ({"patch_size": True}, "patch_size"),
        ({"patch_size": 400}, "larger than an image"),
        ({"num_hidden_layers": 1}, "vision_feature_layer"),
        ({"num_attention_heads": -1}, "num_attention_heads"),
        ({"hidden_size": 1.5}, "hidden_size"),
    ],
)
def test_sizes_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    config = {"model_type": "clip_vision_model", **changes}
    folder = opened(llava(tmp_path / "m", vision_config=config, vision_feature_layer=-3))
    with pytest.raises(LoadFailed, match=reason):
        mlx_vision.tower(folder)


def test_what_eyes_take(tmp_path: Path) -> None:
    """Of six layers as in LLaVA 1.5 mlx held 83 MB at most while it encoded; without eyes, weights stay on disk."""
    folder = opened(llava(tmp_path / "m", vision_config={"model_type": "clip_vision_model", "num_hidden_layers": 6}))
    assert 83e6 < mlx_vision.bytes_beside_text(folder, eyes=True) < 100e6
    assert mlx_vision.bytes_beside_text(folder, eyes=False) == -16
    blind = opened(llava(tmp_path / "blind", model_type="llama"))
    assert mlx_vision.bytes_beside_text(blind, eyes=False) == 0
