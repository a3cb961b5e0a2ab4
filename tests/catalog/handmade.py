"""GGUF files written by hand, right and wrong ones."""

import struct
from dataclasses import dataclass, field
from typing import Any

STRING, ARRAY, U32, U64, BOOL, F32 = 8, 9, 4, 10, 7, 6
PACKED = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}


def text(value: str | bytes) -> bytes:
    """A string: length, bytes."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def value(kind: int, content: Any) -> bytes:
    """A typed value; an array's content is (element type, elements)."""
    return struct.pack("<I", kind) + _body(kind, content)


def _body(kind: int, content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    if kind == STRING:
        return text(content)
    if kind == ARRAY:
        of, items = content
        return struct.pack("<IQ", of, len(items)) + b"".join(_body(of, item) for item in items)
    return struct.pack(PACKED[kind], content)


def pair(key: str | bytes, kind: int, content: Any) -> bytes:
    """A metadata entry."""
    return text(key) + value(kind, content)


def tensor(name: str | bytes, dimensions: tuple[int, ...], kind: int, offset: int) -> bytes:
    """A tensor's entry."""
    sizes = b"".join(struct.pack("<Q", size) for size in dimensions)
    return text(name) + struct.pack("<I", len(dimensions)) + sizes + struct.pack("<IQ", kind, offset)


@dataclass
class Made:
    """The parts of a file; change one and the file is wrong."""

    magic: bytes = b"GGUF"
    version: int = 3
    pairs: list[bytes] = field(default_factory=list)
    tensors: list[bytes] = field(default_factory=list)
    n_pairs: int | None = None
    n_tensors: int | None = None
    alignment: int = 32
    data: bytes = b""

    def header(self) -> bytes:
        """All before the data, unpadded."""
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_pairs = len(self.pairs) if self.n_pairs is None else self.n_pairs
        start = self.magic + struct.pack("<IQQ", self.version, n_tensors, n_pairs)
        return start + b"".join(self.pairs) + b"".join(self.tensors)

    def bytes_(self) -> bytes:
        """The file."""
        header = self.header()
        return header + bytes(-len(header) % self.alignment) + self.data


def good() -> Made:
    """A file that is right: two layers of a llama, one tensor of each of F32 and Q8_0."""
    pairs = [
        pair("general.architecture", STRING, "llama"),
        pair("general.name", STRING, "Hand Made"),
        pair("general.file_type", U32, 7),
        pair("llama.context_length", U32, 2048),
        pair("llama.embedding_length", U32, 64),
        pair("llama.block_count", U32, 2),
        pair("llama.attention.head_count", U32, 4),
        pair("llama.attention.head_count_kv", U32, 2),
        pair("tokenizer.ggml.model", STRING, "gpt2"),
        pair("tokenizer.ggml.tokens", ARRAY, (STRING, [f"token {n}" for n in range(2000)])),
        pair("tokenizer.ggml.scores", ARRAY, (F32, [0.5] * 2000)),
        pair("tokenizer.ggml.add_bos_token", BOOL, False),
        pair("tokenizer.chat_template", STRING, "{{ messages }}"),
    ]
    tensors = [tensor("one", (8, 4), 0, 0), tensor("two", (32, 2), 8, 128)]
    return Made(pairs=pairs, tensors=tensors, data=bytes(128 + 68))
