"""What an MLX model's context memory takes by its config.json, against what the engine then allocates."""

import json
from pathlib import Path
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.catalog import mlx_cache
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.config import MlxConfig
from tests.worker import random_mlx

pytest.importorskip("mlx_lm", reason="mlx-lm isn't installed: pip install 'heylookllm[mlx]'", exc_type=ImportError)
mlx = pytest.importorskip("heylook_llm.worker.providers.mlx", exc_type=ImportError)

pytestmark = pytest.mark.integration


def measured(folder: Path, **options: Any) -> mlx_cache.Cache:
    """By the file, for a model that the processor computes."""
    return mlx_cache.measured(Folder(folder, "m"), MlxConfig(model_path=str(folder), **options), widened=True)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ("llama", {}),
        ("wide", {"cache_type": "quantized", "kv_group_size": 32, "kv_bits": 4, "quantized_kv_start": 0}),
        ("wide", {"cache_type": "quantized", "kv_group_size": 32, "quantized_kv_start": 0}),
        ("sliding", {}),
        ("recurrent", {}),
    ],
)
def test_the_files_say_what_the_engine_takes(tmp_path: Path, shape: str, options: dict[str, Any]) -> None:
    folder = random_mlx.write(tmp_path / shape, shape)
    given = {"n_ctx": 256, "n_parallel": 2, **options}
    info = mlx.open_model(core.Load("m", "mlx", str(folder), given), lambda fraction: None).info
    found = measured(folder, **options)
    window = json.loads((folder / "config.json").read_text()).get("sliding_window") or 1
    per_token = found.bytes_per_token + found.constant_bytes / window
    assert per_token == pytest.approx(info.kv_bytes / info.kv_tokens, rel=0.01)


def folder_of(tmp_path: Path, **changes: Any) -> Path:
    """A llama's folder whose config says otherwise: 2 layers, 2 heads of 16 for keys and values, float32."""
    folder = random_mlx.write(tmp_path / "m", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


LAYER = 2 * (16 + 16) * 4


@pytest.mark.parametrize(
    ("changes", "options", "cache"),
    [
        ({}, {}, (2 * LAYER, 0)),
        ({"num_hidden_layers": 6}, {}, (6 * LAYER, 0)),
        ({"head_dim": None}, {}, (2 * LAYER, 0)),
        ({"num_key_value_heads": None}, {}, (4 * LAYER, 0)),
        ({"kv_lora_rank": 50, "qk_rope_head_dim": 10}, {}, (2 * 60 * 4, 0)),
        ({"v_head_dim": 32}, {}, (2 * 2 * (16 + 32) * 4, 0)),
        ({"num_hidden_layers": 8, "full_attention_interval": 4}, {}, (2 * LAYER, 0)),
        ({"num_hidden_layers": 6, "sliding_window": 100, "sliding_window_pattern": 6}, {}, (LAYER, 5 * 100 * LAYER)),
        (
            {"layer_types": ["full_attention", "sliding_attention", "linear_attention"], "sliding_window": 10},
            {},
            (LAYER, 10 * LAYER),
        ),
        ({"text_config": {"layer_types": ["full_attention"]}}, {}, (LAYER, 0)),
        ({"model_type": "mamba2"}, {}, (0, 0)),
        ({}, {"cache_type": "rotating", "max_kv_size": 100}, (0, 2 * LAYER * 100)),
    ],
)
def test_kinds_of_layers(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], cache: tuple[int, int]
) -> None:
    assert measured(folder_of(tmp_path, **changes), **options) == cache
