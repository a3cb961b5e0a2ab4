"""Reads the header of a GGUF file: what the model is and what it takes, before any engine sees the file.

The engine's own reader aborts the process on some damaged files, so every length, offset and size is checked here
first, against the bounds below and against the file's length. Nothing is allocated by a declared size, no tensor is
read, and every problem is a LoadFailed whose message names it. Format: ggml's docs/gguf.md; versions 2 and 3.
"""

import functools
import hashlib
import math
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from heylook_llm import core
from heylook_llm.catalog import split
from heylook_llm.errors import LoadFailed

MAX_HEADER_BYTES: Final = 256 << 20
MAX_STRING_BYTES: Final = 16 << 20
MAX_KEY_BYTES: Final = 64 << 10
MAX_NAME_BYTES: Final = 256
"""ggml itself takes up to 63."""
MAX_ARRAY_ELEMENTS: Final = 64 << 20
MAX_SKIPPED_STRINGS: Final = 2 << 20
"""Of all string arrays together: the largest vocabularies and their merges are 0.8 Mi. Bounds the time."""
MAX_METADATA: Final = 1 << 16
MAX_TENSORS: Final = 1 << 16
MAX_DIMENSIONS: Final = 4
MAX_ALIGNMENT: Final = 1 << 20
KEPT_STRING_BYTES: Final = 1 << 20
KEPT_BYTES: Final = 16 << 20
"""Of all keys and values together. Bounds the memory."""
KEPT_ARRAY_ELEMENTS: Final = 1024
"""Longer arrays and strings are checked and left out: vocabularies, not the per-layer numbers."""
WHOLE_BYTES: Final = 64 << 20
"""Of all keys and values together, where long arrays are asked for."""
POINTER_BYTES: Final = 8
WINDOW_BYTES: Final = 1 << 18

Value = int | float | bool | str | tuple[int | float | bool | str, ...]

_SCALARS: Final = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_STRING: Final = 8
_ARRAY: Final = 9
_U32: Final = _SCALARS[4]
_U64: Final = _SCALARS[10]

BLOCKS: Final = {
    **{0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82)},
    **{23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2)},
    **{34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18)},
}
"""ggml's tensor types: (elements per block, bytes per block)."""
TENSOR_TYPES: Final = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K"},
    **{12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S"},
    **{20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64"},
    **{29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0"},
}
"""... and what they are called."""
MAX_TENSOR_TYPE: Final = 255

FILE_TYPES: Final = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S"},
    **{12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K"},
    **{19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL"},
    **{26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0"},
    **{37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0"},
}
"""llama.cpp's general.file_type."""

CACHE_TYPE_BYTES: Final = {
    **{"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32},
    "iq4_nl": 18 / 32,
    **{"q4_0": 18 / 32, "q4_1": 20 / 32, "q5_0": 22 / 32, "q5_1": 24 / 32},
}
"""Bytes per element of a KV cache, by type_k and type_v."""


ENCODERS: Final = frozenset(
    (
        *("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "modern-bert"),
        *("eurobert", "gemma-embedding", "t5encoder"),
    )
)
"""Architectures that only make vectors, also where the file names no pooling."""
_POOLINGS: Final[dict[int, core.Pooling]] = {0: "mean", 1: "mean", 2: "cls", 3: "last", 4: "rank"}
"""llama.cpp's pooling types. 0 leaves each token its own vector: one for the text is their mean."""


def pooling_of(architecture: str, pooling_type: int | None, causal: object) -> core.Pooling:
    """How a model makes a vector, or a score, of a text's tokens; empty: it generates."""
    if pooling_type in _POOLINGS:
        return _POOLINGS[pooling_type]
    return "mean" if looks_both_ways(architecture, causal) else ""


def looks_both_ways(architecture: str, causal: object) -> bool:
    """Whether a token's state hangs on the tokens behind it, too, so that a text must be computed in one piece."""
    return architecture in ENCODERS or causal is False


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's entry. `bytes_` is None for a type that this version doesn't know the size of."""

    name: str
    dimensions: tuple[int, ...]
    type_: int
    offset: int
    bytes_: int | None

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.dimensions)


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says of itself. Unknown is None."""

    version: int
    metadata: dict[str, Value] = field(repr=False)
    """Long arrays and strings are left out."""
    tensors: tuple[Tensor, ...] = field(repr=False)
    data_start: int
    file_bytes: int
    digest: str
    """SHA-256, as hex, of the header's bytes and the file's length (not of the tensors): stable, and quick to read."""
    weights_bytes: int
    """Of all parts of a split model."""
    left_out: tuple[str, ...] = field(default=(), repr=False)
    """Keys of the metadata whose values are too long to keep."""

    @property
    def architecture(self) -> str:
        """`general.architecture`."""
        return self._text("general.architecture") or "unknown"

    @property
    def name(self) -> str | None:
        """`general.name`."""
        return self._text("general.name")

    @property
    def parameters(self) -> int:
        """How many numbers the tensors of this file hold."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def quantization(self) -> str | None:
        """The name of `general.file_type`, "Q4_K_M" for example."""
        number = self._number("general.file_type")
        return None if number is None else FILE_TYPES.get(number)

    @property
    def context_length(self) -> int | None:
        """Tokens that it was trained for."""
        return self._own("context_length")

    @property
    def embedding_length(self) -> int | None:
        """The width of the model."""
        return self._own("embedding_length")

    @property
    def block_count(self) -> int | None:
        """Layers."""
        return self._own("block_count")

    @property
    def head_count(self) -> int | None:
        """Attention heads of the widest layer."""
        return max(self._per_layer("attention.head_count"), default=None)

    @property
    def head_count_kv(self) -> int | None:
        """KV heads of the widest layer."""
        return max(self._kv_heads(), default=None)

    @property
    def key_length(self) -> int | None:
        """Numbers per head in a key."""
        return self._own("attention.key_length") or self._head_width()

    @property
    def value_length(self) -> int | None:
        """Numbers per head in a value."""
        return self._own("attention.value_length") or self._head_width()

    @property
    def chat_template(self) -> str | None:
        """`tokenizer.chat_template`: Jinja."""
        return self._text("tokenizer.chat_template")

    @property
    def pooling(self) -> core.Pooling:
        """How it makes a vector, or a score, of a text's tokens; empty: it generates."""
        return pooling_of(self.architecture, self._own("pooling_type"), self._causal)

    @property
    def _causal(self) -> Value | None:
        return self.metadata.get(f"{self.architecture}.attention.causal")

    @property
    def tokenizer(self) -> str | None:
        """`tokenizer.ggml.model`: "gpt2", "llama", ..."""
        return self._text("tokenizer.ggml.model")

    def kv_bytes_per_token(self, type_k: str = "f16", type_v: str = "f16") -> int:
        """Context memory that one token takes in all layers; 0 if the file doesn't say.

        Recurrent models have none, nor have those that read a text in both directions at once.
        """
        if looks_both_ways(self.architecture, self._causal):
            return 0
        k, v = CACHE_TYPE_BYTES[type_k], CACHE_TYPE_BYTES[type_v]
        if (rank := self._own("attention.kv_lora_rank")) is not None:  # multi-head latent attention: one shared head
            rope = self._own("rope.dimension_count") or 0
            return math.ceil((self.block_count or 0) * ((rank + rope) * k + rank * v))
        key, value = self.key_length, self.value_length
        if key is None or value is None:
            return 0
        return math.ceil(sum(self._kv_heads()) * (key * k + value * v))

    def _kv_heads(self) -> tuple[int, ...]:
        """KV heads of each layer."""
        return self._per_layer("attention.head_count_kv") or self._per_layer("attention.head_count")

    def _per_layer(self, key: str) -> tuple[int, ...]:
        value = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, tuple):
            return tuple(int(item) for item in value if isinstance(item, int) and item >= 0)
        number = self._own(key)
        layers = min(self.block_count or 0, MAX_METADATA)
        return () if number is None else (number,) * layers

    def _head_width(self) -> int | None:
        width, heads = self.embedding_length, self.head_count
        return width // heads if width and heads else None

    def _own(self, key: str) -> int | None:
        return self._number(f"{self.architecture}.{key}")

    def _number(self, key: str) -> int | None:
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    def _text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None


class _Damaged(Exception):
    """What is wrong with a file, in words that follow "the file"."""


def read(path: Path, model: str) -> Header:
    """The header of a GGUF file, and of the other parts where it is split. Cached by path, length and time of change.

    Raises LoadFailed, whose message names the model and the problem, and no path.
    """
    try:
        header = _cached(path)
        others = [_cached(part) for part in _other_parts(path, header)]
    except _Damaged as error:
        raise LoadFailed(f"Model '{model}' can't be loaded: the file {error}.", code="model_file_invalid") from None
    except FileNotFoundError:
        raise LoadFailed(f"Model '{model}' can't be loaded: its file does not exist.") from None
    except OSError as error:
        raise LoadFailed(f"Model '{model}' can't be loaded: its file can't be read ({error.strerror}).") from None
    if not others:
        return header
    return _whole(header, others)


def _whole(header: Header, others: list[Header]) -> Header:
    return Header(
        version=header.version,
        metadata=header.metadata,
        tensors=(*header.tensors, *(tensor for other in others for tensor in other.tensors)),
        data_start=header.data_start,
        file_bytes=header.file_bytes + sum(other.file_bytes for other in others),
        digest=hashlib.sha256("".join(part.digest for part in (header, *others)).encode()).hexdigest(),
        weights_bytes=header.weights_bytes + sum(other.weights_bytes for other in others),
        left_out=header.left_out,
    )


def long_values(path: Path, model: str) -> dict[str, Value]:
    """The metadata of a GGUF file with its long arrays: vocabularies, merges. Raises LoadFailed."""
    try:
        with path.open("rb", buffering=0) as file:
            return parse(file, path.stat().st_size, whole=True).metadata
    except (_Damaged, OSError) as error:
        raise LoadFailed(f"Model '{model}': the long arrays of its file can't be read.") from error


def _other_parts(path: Path, header: Header) -> list[Path]:
    """The further files of a split model: name-00002-of-00003.gguf, ..."""
    count = header.metadata.get("split.count")
    if not isinstance(count, int) or count <= 1:
        return []
    part = split.part_of(path.name)
    if part is None or part.count != count or part.number != 1:
        raise _Damaged(f"is one of {count} parts; name the first, which ends in -00001-of-{count:05}.gguf")
    return split.parts(path)[1:]


def _cached(path: Path) -> Header:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO waits for its writer
        raise _Damaged("is not a regular file")
    return _read(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _read(path: Path, size: int, changed_ns: int) -> Header:
    with path.open("rb", buffering=0) as file:
        return parse(file, size)


def parse(file: BinaryIO, size: int, *, whole: bool = False) -> Header:
    """The header at the start of an open file of `size` bytes. `whole`: with its long arrays."""
    source = _Source(file, size, whole=whole)
    if size < 4 or source.take(4) != b"GGUF":
        raise _Damaged("is not a GGUF file")
    version = source.number(_U32)
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3)
        raise _Damaged("is big-endian" if swapped else f"has the GGUF version {version}; 2 and 3 can be read")
    n_tensors = source.count("tensors", MAX_TENSORS, least_bytes=24)
    n_metadata = source.count("metadata entries", MAX_METADATA, least_bytes=13)
    metadata, left_out = _metadata(source, n_metadata)
    alignment = _alignment(metadata)
    tensors = _tensors(source, n_tensors)
    data_start = -(-source.at // alignment) * alignment
    _check_data(tensors, data_start, alignment, size)
    return Header(
        version,
        metadata,
        tensors,
        data_start if tensors else source.at,
        size,
        source.digest(),
        max(0, size - data_start),
        left_out,
    )


class _Source:
    """A file read forward through a small window; every read is checked against the file's end and the bound."""

    def __init__(self, file: BinaryIO, size: int, *, whole: bool = False) -> None:
        self.kept_elements = MAX_ARRAY_ELEMENTS if whole else KEPT_ARRAY_ELEMENTS
        self._kept_bytes = WHOLE_BYTES if whole else KEPT_BYTES
        self._file = file
        self._size = size
        self._window = b""
        self._window_at = 0
        self._hash = hashlib.sha256()
        self._skipped_strings = 0
        self._kept = 0
        self.at = 0

    def digest(self) -> str:
        """Of what was read so far (the rest of the window doesn't count), and of the length."""
        used = self.at - self._window_at
        self._hash.update(self._window[:used])
        self._hash.update(_U64.pack(self._size))
        return self._hash.hexdigest()

    def need(self, count: int) -> None:
        """Check that `count` more bytes exist and are in bounds."""
        if count > self._size - self.at:
            raise _Damaged(f"is truncated: byte {self.at + count} is needed, it ends at {self._size}")
        if self.at + count > MAX_HEADER_BYTES:
            raise _Damaged(f"has a header beyond {MAX_HEADER_BYTES >> 20} MiB")

    def take(self, count: int) -> bytes:
        """The next bytes; `count` must be small, or bounded by its caller."""
        self.need(count)
        start = self.at - self._window_at
        if start + count > len(self._window):
            self._refill(count)
            start = 0
        self.at += count
        return self._window[start : start + count]

    def skip(self, count: int) -> None:
        """Pass over bytes, a window at a time."""
        self.need(count)
        while count:
            part = min(count, WINDOW_BYTES)
            self.take(part)
            count -= part

    def number(self, kind: struct.Struct) -> int:
        """A scalar."""
        value: int = kind.unpack(self.take(kind.size))[0]
        return value

    def count(self, what: str, most: int, *, least_bytes: int) -> int:
        """A declared count: bounded, and no larger than the rest of the file can hold."""
        count = self.number(_U64)
        if count > most:
            raise _Damaged(f"declares {count} {what}; {most} are allowed")
        self.need(count * least_bytes)
        return count

    def text(self, what: str, most: int) -> str:
        """A string that is kept."""
        length = self.number(_U64)
        if length > most:
            raise _Damaged(f"declares a {what} of {length} bytes; {most} are allowed")
        return self.take(length).decode("utf-8", "replace")

    def value_text(self) -> str | None:
        """A string value; None if it is too long to keep."""
        length = self.number(_U64)
        if length > MAX_STRING_BYTES:
            raise _Damaged(f"declares a string of {length} bytes; {MAX_STRING_BYTES} are allowed")
        if length > KEPT_STRING_BYTES or not self.keeps(length):
            self.skip(length)
            return None
        return self.take(length).decode("utf-8", "replace")

    def keeps(self, count: int) -> bool:
        """Whether so many more bytes may be kept; if so, they count."""
        self._kept += count if (fits := self._kept + count <= self._kept_bytes) else 0
        return fits

    def skip_strings(self, count: int) -> None:
        """Pass over `count` strings, each checked."""
        self._skipped_strings += count
        if self._skipped_strings > MAX_SKIPPED_STRINGS:
            raise _Damaged(f"holds more than {MAX_SKIPPED_STRINGS} strings in arrays")
        unpack, size = _U64.unpack_from, self._size
        for _ in range(count):
            start = self.at - self._window_at
            if start + 8 > len(self._window):
                self.need(8)
                self._refill(8)
                start = 0
            (length,) = unpack(self._window, start)
            if length > MAX_STRING_BYTES:
                raise _Damaged(f"declares a string of {length} bytes; {MAX_STRING_BYTES} are allowed")
            if start + 8 + length <= len(self._window) and self.at + 8 + length <= size:
                self.at += 8 + length
            else:
                self.at += 8
                self.skip(length)

    def _refill(self, count: int) -> None:
        used = self.at - self._window_at
        self._hash.update(self._window[:used])
        rest = self._window[used:]
        parts, have = [rest], len(rest)
        while have < count:
            data = self._file.read(max(count - have, WINDOW_BYTES))
            if not data:
                raise _Damaged(f"is truncated: it ended while it was read, at byte {self.at + have}")
            parts.append(data)
            have += len(data)
        self._window, self._window_at = b"".join(parts), self.at


def _metadata(source: _Source, count: int) -> tuple[dict[str, Value], tuple[str, ...]]:
    """The values that are kept, by key, and the keys of those that aren't."""
    seen: dict[str, None] = {}
    metadata: dict[str, Value] = {}
    for _ in range(count):
        key = source.text("key", MAX_KEY_BYTES)
        if not source.keeps(len(key)):
            raise _Damaged(f"has metadata keys beyond {KEPT_BYTES >> 20} MiB")
        if not key:
            raise _Damaged("has an empty metadata key")
        if key in seen:
            raise _Damaged(f"has the metadata key {_shown(key)} twice")
        seen[key] = None
        value = _value(source, key, source.number(_U32))
        if value is not None:
            metadata[key] = value
    return metadata, tuple(key for key in seen if key not in metadata)


def _value(source: _Source, key: str, kind: int) -> Value | None:
    if kind in _SCALARS:
        return source.number(_SCALARS[kind])
    if kind == _STRING:
        return source.value_text()
    if kind == _ARRAY:
        return _array(source, key)
    raise _Damaged(f"has the unknown value type {kind} at {_shown(key)}")


def _array(source: _Source, key: str) -> Value | None:
    kind, count = source.number(_U32), source.number(_U64)
    if count > MAX_ARRAY_ELEMENTS:
        raise _Damaged(f"declares {count} elements at {_shown(key)}; {MAX_ARRAY_ELEMENTS} are allowed")
    if kind == _STRING:
        source.need(8 * count)
        if count > source.kept_elements or not source.keeps(POINTER_BYTES * count):
            source.skip_strings(count)
            return None
        texts = [source.value_text() for _ in range(count)]
        return tuple(text for text in texts if text is not None)
    if kind not in _SCALARS:
        raise _Damaged(f"has an array of the type {kind} at {_shown(key)}")
    scalar = _SCALARS[kind]
    source.need(scalar.size * count)
    if count > source.kept_elements or not source.keeps(POINTER_BYTES * count):
        source.skip(scalar.size * count)
        return None
    return tuple(number for (number,) in scalar.iter_unpack(source.take(scalar.size * count)))


def _alignment(metadata: dict[str, Value]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if isinstance(alignment, bool) or not isinstance(alignment, int):
        raise _Damaged("has an alignment that is no whole number")
    if not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise _Damaged(f"has the alignment {alignment}, which is no power of two up to {MAX_ALIGNMENT}")
    return alignment


def _tensors(source: _Source, count: int) -> tuple[Tensor, ...]:
    tensors: dict[str, Tensor] = {}
    for _ in range(count):
        tensor = _tensor(source)
        if tensor.name in tensors:
            raise _Damaged(f"has the tensor {_shown(tensor.name)} twice")
        tensors[tensor.name] = tensor
    return tuple(tensors.values())


def _tensor(source: _Source) -> Tensor:
    name = source.text("tensor name", MAX_NAME_BYTES)
    n_dimensions = source.number(_U32)
    if not 0 < n_dimensions <= MAX_DIMENSIONS:
        raise _Damaged(
            f"has the tensor {_shown(name)} with {n_dimensions} dimensions; 1 to {MAX_DIMENSIONS} are allowed"
        )
    dimensions = tuple(source.number(_U64) for _ in range(n_dimensions))
    type_, offset = source.number(_U32), source.number(_U64)
    if 0 in dimensions or math.prod(dimensions) >= 1 << 63:
        raise _Damaged(f"has the tensor {_shown(name)} of the impossible shape {list(dimensions)}")
    if type_ > MAX_TENSOR_TYPE:
        raise _Damaged(f"has the tensor {_shown(name)} of the unknown type {type_}")
    return Tensor(name, dimensions, type_, offset, _tensor_bytes(name, dimensions, type_))


def _tensor_bytes(name: str, dimensions: tuple[int, ...], type_: int) -> int | None:
    if type_ not in BLOCKS:
        return None
    elements, block_bytes = BLOCKS[type_]
    if dimensions[0] % elements:
        raise _Damaged(f"has the tensor {_shown(name)} with rows of {dimensions[0]}, no multiple of {elements}")
    return math.prod(dimensions) // elements * block_bytes


def _check_data(tensors: tuple[Tensor, ...], data_start: int, alignment: int, size: int) -> None:
    """Tensors lie one behind the other, aligned, and end within the file: the engine demands the same."""
    expected: int | None = 0
    for tensor in tensors:
        if tensor.offset % alignment or (expected is not None and tensor.offset != expected):
            raise _Damaged(f"has the tensor {_shown(tensor.name)} at the wrong offset {tensor.offset}")
        end = data_start + tensor.offset + (tensor.bytes_ or 0)
        if end > size:
            raise _Damaged(f"is truncated: the tensor {_shown(tensor.name)} ends at byte {end}, the file at {size}")
        expected = None if tensor.bytes_ is None else -(-(tensor.offset + tensor.bytes_) // alignment) * alignment


def _shown(name: str) -> str:
    """A name from the file, fit for a message."""
    return repr(name if len(name) <= 64 else name[:61] + "...")
