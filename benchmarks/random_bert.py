"""Writes BERT-shaped GGUF files of random weights: models that embed, or rank, to prove and to measure vectors on.

    python -m benchmarks.random_bert tiny OUT.gguf
    python -m benchmarks.random_bert small OUT.gguf --pooling rank

The vocabulary is WordPiece: the special tokens of BERT, letters and digits at the beginning of a word and within one,
some whole words, padded to the wanted size. Weights come from a seeded normal distribution, so a file is the same every
time; they are named as `transformers` names a BertModel's, for whoever loads them there.
"""

import argparse
import string
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import gguf
import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]
Weights = dict[str, Floats]
Pooling = Literal["mean", "cls", "last", "rank"]

SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNKNOWN, CLS, SEP, MASK = range(5)
WORDS: Final = ("the", "of", "and", "in", "is", "to", "capital", "france", "paris", "cat", "sat", "mat")
POOLING_TYPES: Final = {"mean": 1, "cls": 2, "last": 3, "rank": 4}
EPSILON: Final = 1e-12


class Shape(NamedTuple):
    """What a BERT is made of."""

    layers: int
    width: int
    heads: int
    feed_forward: int
    vocabulary: int
    context: int


SHAPES: Final = {
    "tiny": Shape(2, 64, 4, 128, 256, 128),
    "small": Shape(6, 384, 12, 1536, 30522, 512),  # as MiniLM-L6
    "base": Shape(12, 768, 12, 3072, 30522, 512),  # as bge-base
}


def weights(shape: Shape, seed: int = 1) -> Weights:
    """Every weight by its name in `transformers`, with the head that ranks: a dense layer, tanh, one number."""
    random = np.random.default_rng(seed)
    made: Weights = {}

    def matrix(name: str, rows: int, columns: int, scale: float = 1.0) -> None:
        made[name] = random.standard_normal((rows, columns), dtype=np.float32) * np.float32(scale)

    def dense(name: str, rows: int, columns: int) -> None:
        matrix(f"{name}.weight", rows, columns, 1.5 / columns**0.5)
        made[f"{name}.bias"] = random.standard_normal(rows, dtype=np.float32) * np.float32(0.1)

    def norm(name: str) -> None:
        made[f"{name}.weight"] = 1 + random.standard_normal(shape.width, dtype=np.float32) * np.float32(0.1)
        made[f"{name}.bias"] = random.standard_normal(shape.width, dtype=np.float32) * np.float32(0.1)

    matrix("embeddings.word_embeddings.weight", shape.vocabulary, shape.width)
    matrix("embeddings.position_embeddings.weight", shape.context, shape.width, 0.3)
    matrix("embeddings.token_type_embeddings.weight", 2, shape.width, 0.3)
    norm("embeddings.LayerNorm")
    for at in range(shape.layers):
        layer = f"encoder.layer.{at}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", shape.width, shape.width)
        dense(f"{layer}.attention.output.dense", shape.width, shape.width)
        norm(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", shape.feed_forward, shape.width)
        dense(f"{layer}.output.dense", shape.width, shape.feed_forward)
        norm(f"{layer}.output.LayerNorm")
    dense("pooler.dense", shape.width, shape.width)
    dense("classifier", 1, shape.width)
    return made


def tokens(size: int) -> list[str]:
    """The vocabulary; `##` marks what goes on within a word."""
    characters = string.ascii_lowercase + string.digits
    known = [*SPECIAL, *characters, *(f"##{c}" for c in characters), *WORDS, *string.punctuation]
    return known + [f"[unused{at}]" for at in range(size - len(known))]


def write(path: Path, shape: Shape, pooling: Pooling, seed: int = 1, *, whole: bool = False) -> None:
    """Write a file of this shape in F16, or `whole` in F32."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name(f"random {shape.layers}x{shape.width}")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_layer_norm_eps(EPSILON)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType(POOLING_TYPES[pooling]))
    writer.add_file_type(0 if whole else 1)
    _add_vocabulary(writer, shape.vocabulary)
    for name, values in weights(shape, seed).items():
        place = _place(name)
        if place is not None and (pooling == "rank" or not place.startswith("cls")):
            # ggml adds biases and norms in F32 only, and looks positions and types up in it.
            small = values.ndim == 1 or "position" in place or "types" in place
            writer.add_tensor(place, values if whole or small else values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    pieces = tokens(size)
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (size - len(SPECIAL))
    kinds[UNKNOWN] = gguf.TokenType.UNKNOWN
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([_phantom(piece) for piece in pieces])
    writer.add_token_types(kinds)
    writer.add_token_type_count(2)
    writer.add_pad_token_id(PAD)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(CLS)
    writer.add_sep_token_id(SEP)
    writer.add_mask_token_id(MASK)


def _phantom(piece: str) -> str:
    """As llama.cpp wants it: a word's beginning is marked, not what goes on within one."""
    if piece in SPECIAL:
        return piece
    return piece[2:] if piece.startswith("##") and len(piece) > 2 else "\u2581" + piece


_NAMES: Final = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "pooler.dense": "cls",
    "classifier": "cls.output",
}
_LAYER_NAMES: Final = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def _place(name: str) -> str | None:
    """A weight's name in a GGUF file."""
    stem, _, kind = name.rpartition(".")
    if stem.startswith("encoder.layer."):
        _, _, number, part = stem.split(".", 3)
        return f"blk.{number}.{_LAYER_NAMES[part]}.{kind}"
    return f"{_NAMES[stem]}.{kind}"


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pooling", choices=POOLING_TYPES, default="mean")
    arguments = parser.parse_args()
    write(arguments.out, SHAPES[arguments.shape], arguments.pooling)


if __name__ == "__main__":
    main()
