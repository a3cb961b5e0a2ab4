"""Small GGUF files of random weights in architectures with every kind of memory that llama.cpp has.

Weights are whole (F32), so that with a whole cache too rounding hardly depends on the batch. Their scale is such that
the likeliest token hangs on the distant past too, and is some way ahead of the next.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

from benchmarks import random_model

WIDTH: Final = 64
HEADS: Final = 4
KV_HEADS: Final = 2
HEAD_WIDTH: Final = WIDTH // HEADS
FEED_FORWARD: Final = 128
VOCABULARY: Final = 320
INNER: Final = 2 * WIDTH
STATE: Final = 8
CONVOLUTION: Final = 4
STEP_RANK: Final = 4
WINDOW: Final = 16

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


class Weights:
    """Seeded tensors, by llama.cpp's names."""

    def __init__(self, writer: gguf.GGUFWriter, seed: int) -> None:
        self._writer = writer
        self._random = np.random.default_rng(seed)

    def matrix(self, name: str, rows: int, columns: int, scale: float = 1.5) -> None:
        """Normal values, of rows as long as `scale`."""
        values = self._random.standard_normal((rows, columns), dtype=np.float32) * (scale / columns**0.5)
        self._writer.add_tensor(name, values)

    def cube(self, name: str, shape: tuple[int, ...], scale: float = 1.5) -> None:
        """Normal values of a convolution."""
        values = self._random.standard_normal(shape, dtype=np.float32) * (scale / np.prod(shape[1:]) ** 0.5)
        self._writer.add_tensor(name, values.astype(np.float32))

    def ones(self, name: str, size: int) -> None:
        """A norm that scales nothing."""
        self._writer.add_tensor(name, np.ones(size, dtype=np.float32))

    def values(self, name: str, values: Floats) -> None:
        """As given."""
        self._writer.add_tensor(name, values.astype(np.float32))

    def attention(self, block: str) -> None:
        """Queries, keys, values and what joins the heads."""
        self.matrix(f"{block}.attn_q.weight", HEADS * HEAD_WIDTH, WIDTH)
        self.matrix(f"{block}.attn_k.weight", KV_HEADS * HEAD_WIDTH, WIDTH)
        self.matrix(f"{block}.attn_v.weight", KV_HEADS * HEAD_WIDTH, WIDTH)
        self.matrix(f"{block}.attn_output.weight", WIDTH, HEADS * HEAD_WIDTH)

    def feed_forward(self, block: str) -> None:
        """Norm, gate, up, down."""
        self.ones(f"{block}.ffn_norm.weight", WIDTH)
        self.matrix(f"{block}.ffn_gate.weight", FEED_FORWARD, WIDTH)
        self.matrix(f"{block}.ffn_up.weight", FEED_FORWARD, WIDTH)
        self.matrix(f"{block}.ffn_down.weight", WIDTH, FEED_FORWARD)

    def selective_scan(self, block: str) -> None:
        """A Mamba layer, that forgets slowly."""
        self.matrix(f"{block}.ssm_in.weight", 2 * INNER, WIDTH)
        self.matrix(f"{block}.ssm_conv1d.weight", INNER, CONVOLUTION)
        self.values(f"{block}.ssm_conv1d.bias", np.zeros(INNER))
        self.matrix(f"{block}.ssm_x.weight", STEP_RANK + 2 * STATE, INNER)
        self.matrix(f"{block}.ssm_dt.weight", INNER, STEP_RANK)
        self.values(f"{block}.ssm_dt.bias", np.full(INNER, -3.0))
        self.values(f"{block}.ssm_a", -np.tile(np.arange(1, STATE + 1) / STATE, (INNER, 1)))
        self.values(f"{block}.ssm_d", np.ones(INNER))
        self.matrix(f"{block}.ssm_out.weight", WIDTH, INNER)


def _llama(writer: gguf.GGUFWriter, weights: Weights) -> None:
    writer.add_block_count(2)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    for block in ("blk.0", "blk.1"):
        weights.ones(f"{block}.attn_norm.weight", WIDTH)
        weights.attention(block)
        weights.feed_forward(block)


def _gemma3(writer: gguf.GGUFWriter, weights: Weights) -> None:
    """Of six layers one looks at everything, and five at the last tokens only."""
    writer.add_block_count(6)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_WIDTH)
    writer.add_value_length(HEAD_WIDTH)
    writer.add_sliding_window(WINDOW)
    for block in (f"blk.{at}" for at in range(6)):
        weights.attention(block)
        weights.feed_forward(block)
        for name in ("attn_norm", "post_attention_norm", "post_ffw_norm"):
            weights.ones(f"{block}.{name}.weight", WIDTH)
        for name in ("attn_q_norm", "attn_k_norm"):
            weights.ones(f"{block}.{name}.weight", HEAD_WIDTH)


def _scanning(writer: gguf.GGUFWriter) -> None:
    writer.add_ssm_conv_kernel(CONVOLUTION)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(STEP_RANK)


def _mamba(writer: gguf.GGUFWriter, weights: Weights) -> None:
    writer.add_block_count(2)
    _scanning(writer)
    for block in ("blk.0", "blk.1"):
        weights.ones(f"{block}.attn_norm.weight", WIDTH)
        weights.selective_scan(block)


def _jamba(writer: gguf.GGUFWriter, weights: Weights) -> None:
    """Mamba, attention, Mamba."""
    writer.add_block_count(3)
    _scanning(writer)
    writer.add_head_count_kv([0, KV_HEADS, 0])
    for at in range(3):
        block = f"blk.{at}"
        weights.ones(f"{block}.attn_norm.weight", WIDTH)
        if at == 1:
            weights.attention(block)
        else:
            weights.selective_scan(block)
            weights.ones(f"{block}.ssm_dt_norm.weight", STEP_RANK)
            weights.ones(f"{block}.ssm_b_norm.weight", STATE)
            weights.ones(f"{block}.ssm_c_norm.weight", STATE)
        weights.feed_forward(block)


def _lfm2(writer: gguf.GGUFWriter, weights: Weights) -> None:
    """Short convolutions, attention, short convolutions."""
    writer.add_block_count(3)
    writer.add_head_count_kv([0, KV_HEADS, 0])
    writer.add_shortconv_l_cache(3)
    writer.add_vocab_size(VOCABULARY)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    for at in range(3):
        block = f"blk.{at}"
        weights.ones(f"{block}.attn_norm.weight", WIDTH)
        if at == 1:
            weights.attention(block)
            weights.ones(f"{block}.attn_q_norm.weight", HEAD_WIDTH)
            weights.ones(f"{block}.attn_k_norm.weight", HEAD_WIDTH)
        else:
            weights.matrix(f"{block}.shortconv.conv.weight", WIDTH, 3)
            weights.matrix(f"{block}.shortconv.in_proj.weight", 3 * WIDTH, WIDTH)
            weights.matrix(f"{block}.shortconv.out_proj.weight", WIDTH, WIDTH)
        weights.feed_forward(block)


def _qwen2vl(writer: gguf.GGUFWriter, weights: Weights) -> None:
    """Qwen2 with positions of two dimensions."""
    writer.add_block_count(2)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_sections([2, 3, 3, 0])
    for block in ("blk.0", "blk.1"):
        weights.ones(f"{block}.attn_norm.weight", WIDTH)
        weights.attention(block)
        for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            weights.values(f"{block}.attn_{name}.bias", np.zeros(heads * HEAD_WIDTH))
        weights.feed_forward(block)


ARCHITECTURES: Final[dict[str, Callable[[gguf.GGUFWriter, Weights], None]]] = {
    "llama": _llama,
    "gemma3": _gemma3,
    "mamba": _mamba,
    "jamba": _jamba,
    "lfm2": _lfm2,
    "qwen2vl": _qwen2vl,
}


def write(path: Path, architecture: str, seed: int = 3, control: Sequence[str] = ()) -> Path:
    """Write a file of this architecture, with these control tokens; the same seed writes the same."""
    writer = gguf.GGUFWriter(path, architecture)
    weights = Weights(writer, seed)
    writer.add_name(f"random {architecture}")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(0 if architecture == "mamba" else FEED_FORWARD)
    writer.add_head_count(0 if architecture == "mamba" else HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_file_type(0)
    random_model.add_vocabulary(writer, VOCABULARY, control)
    weights.matrix("token_embd.weight", VOCABULARY, WIDTH, scale=WIDTH**0.5)
    weights.ones("token_embd_norm.weight" if architecture == "lfm2" else "output_norm.weight", WIDTH)
    weights.matrix("output.weight", VOCABULARY, WIDTH, scale=3.0)
    ARCHITECTURES[architecture](writer, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
