"""LoRA adapters for the files of benchmarks/random_model.py, as GGUF."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np


def write(path: Path, *, up: float, rank: int = 4, width: int = 64, architecture: str = "qwen2", **more: Any) -> Path:
    """An adapter of the first layer's attention output: `up` scales the random B; 0 makes it change nothing."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(more.get("general_type", "adapter"))
    writer.add_string("adapter.type", more.get("adapter_type", "lora"))
    if "whole_alpha" in more:
        writer.add_uint32("adapter.lora.alpha", more["whole_alpha"])
    else:
        writer.add_float32("adapter.lora.alpha", float(rank))
    random = np.random.default_rng(3)
    down = random.standard_normal((rank, width)).astype(np.float32)
    widen = (random.standard_normal((width, rank)) * up).astype(np.float32)
    name = more.get("tensor", "blk.0.attn_output.weight")
    writer.add_tensor(f"{name}.lora_a", down)
    writer.add_tensor(f"{name}.lora_b", widen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
