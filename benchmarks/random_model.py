"""Writes Qwen2-shaped GGUF files of random weights, to run engines and tests on before, or instead of, real ones.

    python -m benchmarks.random_model tiny OUT.gguf
    python -m benchmarks.random_model 0.5b OUT.gguf --quantize Q4_K_M

The vocabulary is the bundled model's where there is room for it, so that a word is a token or two and the template is a
chat model's; else all bytes and a few control tokens (byte-level BPE without merges). It is padded to the wanted size
with tokens that no text yields, but that are text when drawn. Weights come from a seeded normal distribution, so a file
is the same every time.
"""

import argparse
import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import gguf
import numpy as np

from heylook_llm import tiny

BUNDLED: Final = Path(tiny.__file__).parent / "heylook-tiny.gguf"
CONTROL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
FILE_TYPES: Final = {"Q4_K_M": 15, "Q8_0": 7, "Q4_0": 2}


class Shape(NamedTuple):
    """What a Qwen2 decoder is made of."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    context: int


class Vocabulary(NamedTuple):
    """Tokens with their kinds (gguf.TokenType), merges, the ids that begin and end a text, the chat template."""

    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    start: int
    end: int
    template: str


SHAPES: Final = {
    "tiny": Shape(2, 64, 4, 2, 128, 512, 4096),
    "0.5b": Shape(24, 896, 14, 2, 4864, 151936, 32768),
}


def write(path: Path, shape: Shape, seed: int = 1, *, whole: bool = False) -> None:
    """Write a file of this shape in F16, or `whole` in F32: then rounding hardly depends on the batch."""
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name(f"random {shape.layers}x{shape.width}")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_file_type(0 if whole else 1)
    add_vocabulary(writer, shape.vocabulary)
    _add_tensors(writer, shape, np.random.default_rng(seed), np.dtype(np.float32 if whole else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: gguf.GGUFWriter, size: int, control: Sequence[str] = ()) -> None:
    """The bundled model's vocabulary, or all bytes, with these control tokens, padded to this size."""
    vocabulary = bundled_vocabulary()
    if size < len(vocabulary.tokens):
        vocabulary = byte_vocabulary()
    room = size - len(vocabulary.tokens) - len(control)
    kinds = [int(gguf.TokenType.CONTROL)] * len(control) + [int(gguf.TokenType.NORMAL)] * room
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*vocabulary.tokens, *control, *(f"[{at}]" for at in range(room))])
    writer.add_token_types([*vocabulary.kinds, *kinds])
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(vocabulary.end)
    writer.add_bos_token_id(vocabulary.start)
    writer.add_add_bos_token(False)
    writer.add_chat_template(vocabulary.template)


def bundled_vocabulary() -> Vocabulary:
    """The bundled model's."""
    fields = gguf.GGUFReader(BUNDLED).fields

    def value(key: str) -> Any:
        return fields[f"tokenizer.{key}"].contents()

    return Vocabulary(
        value("ggml.tokens"),
        value("ggml.token_type"),
        value("ggml.merges"),
        value("ggml.bos_token_id"),
        value("ggml.eos_token_id"),
        value("chat_template"),
    )


def byte_vocabulary() -> Vocabulary:
    """Control tokens and the 256 bytes."""
    tokens = [*CONTROL, *_byte_characters()]
    kinds = [int(gguf.TokenType.CONTROL)] * len(CONTROL) + [int(gguf.TokenType.NORMAL)] * (len(tokens) - len(CONTROL))
    return Vocabulary(tokens, kinds, ["\u0120 \u0120"], 0, 2, TEMPLATE)


def _byte_characters() -> list[str]:
    """GPT-2's printable stand-ins of the 256 bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    stand_in = {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}
    return [stand_in[byte] for byte in range(256)]


def _add_tensors(
    writer: gguf.GGUFWriter, shape: Shape, random: np.random.Generator, kind: np.dtype[np.floating[Any]]
) -> None:
    kv_width = shape.width // shape.heads * shape.kv_heads

    def matrix(name: str, rows: int, columns: int, scale: float = 1.0) -> None:
        values = random.standard_normal((rows, columns), dtype=np.float32) * (scale / columns**0.5)
        writer.add_tensor(name, values.astype(kind))

    def vector(name: str, size: int, value: float) -> None:
        writer.add_tensor(name, np.full(size, value, dtype=np.float32))

    matrix("token_embd.weight", shape.vocabulary, shape.width, scale=shape.width**0.5)
    vector("output_norm.weight", shape.width, 1.0)
    matrix("output.weight", shape.vocabulary, shape.width, scale=3.0)
    for at in range(shape.layers):
        block = f"blk.{at}"
        vector(f"{block}.attn_norm.weight", shape.width, 1.0)
        vector(f"{block}.ffn_norm.weight", shape.width, 1.0)
        for name, rows in (("q", shape.width), ("k", kv_width), ("v", kv_width)):
            matrix(f"{block}.attn_{name}.weight", rows, shape.width)
            vector(f"{block}.attn_{name}.bias", rows, 0.0)
        matrix(f"{block}.attn_output.weight", shape.width, shape.width)
        matrix(f"{block}.ffn_gate.weight", shape.feed_forward, shape.width)
        matrix(f"{block}.ffn_up.weight", shape.feed_forward, shape.width)
        matrix(f"{block}.ffn_down.weight", shape.width, shape.feed_forward)


def quantize(source: Path, target: Path, file_type: str) -> None:
    """Quantize a file through the binding. Raises RuntimeError."""
    native: Any = importlib.import_module("llama_cpp.llama_cpp")
    params = native.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[file_type]
    if native.llama_model_quantize(str(source).encode(), str(target).encode(), params) != 0:
        raise RuntimeError(f"{source} can't be quantized to {file_type}.")


def write_quantized(path: Path, shape: Shape, file_type: str) -> None:
    """Write a file of this shape and type."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / "f16.gguf"
        write(whole, shape)
        quantize(whole, path, file_type)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--quantize", choices=FILE_TYPES)
    arguments = parser.parse_args()
    if arguments.quantize is None:
        write(arguments.out, SHAPES[arguments.shape])
        return
    write_quantized(arguments.out, SHAPES[arguments.shape], arguments.quantize)


if __name__ == "__main__":
    main()
