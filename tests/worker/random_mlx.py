"""Small folders of random weights in architectures of mlx_lm, with the bundled model's tokenizer."""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

from heylook_llm import tiny

BUNDLED = Path(tiny.__file__).parent / "heylook-tiny-mlx"
_WIDTHS: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "eos_token_id": 1019,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "num_hidden_layers": 2},
    "wide": {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 128, "head_dim": 32},
    # Two layers of three look back over 16 tokens only.
    "sliding": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 3,
        "sliding_window": 16,
        "sliding_window_pattern": 3,
        "rope_local_base_freq": 10000.0,
        "query_pre_attn_scalar": 16,
    },
    "recurrent": {
        "model_type": "mamba",
        "num_hidden_layers": 2,
        "state_size": 8,
        "conv_kernel": 4,
        "time_step_rank": 4,
        "use_bias": False,
        "use_conv_bias": True,
    },
}


def write(folder: Path, shape: str, seed: int = 7) -> Path:
    """A folder with that shape's model in F32; the same seed writes the same weights."""
    mx: Any = importlib.import_module("mlx.core")
    utils: Any = importlib.import_module("mlx.utils")
    loader: Any = importlib.import_module("mlx_lm.utils")
    config = _WIDTHS | SHAPES[shape]
    model_class, arguments_class = loader._get_classes(config)
    mx.random.seed(seed)
    model = model_class(arguments_class.from_dict(config))
    weights = utils.tree_flatten(model.parameters())
    # Matrices as wide as trained ones make the logits differ by more than rounding does.
    grown = {name: value * 4 if value.ndim > 1 else value for name, value in weights}
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / "model.safetensors"), grown, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(BUNDLED / name, folder / name)
    return folder
