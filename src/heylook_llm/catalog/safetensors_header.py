"""Reads the headers of a folder's safetensors files: what the tensors are, before any engine maps a byte of them.

Every length, shape and offset is checked against the bounds below and the file's own length; no tensor is read, and
every problem is a LoadFailed whose message names it. Format: 8 bytes little-endian length, a JSON object of that
length, the tensors' bytes without holes or overlaps.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from heylook_llm.errors import LoadFailed

MAX_HEADER_BYTES: Final = 32 << 20
"""The format's own bound is 100 MB; models of many thousand tensors stay below 10."""
MAX_TENSORS: Final = 1 << 18
MAX_DIMENSIONS: Final = 8
MAX_NAME_CHARACTERS: Final = 4096
MAX_FILES: Final = 1024
LENGTH_BYTES: Final = 8
METADATA: Final = "__metadata__"

DTYPE_BITS: Final = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4},
    **{"U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32},
    **{"U64": 64, "I64": 64, "F64": 64, "C64": 64},
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's entry; `start` and `end` count from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class _Damaged(Exception):
    """What is wrong with a file, in words that follow "the file"."""


def read_folder(folder: Path, model: str, pattern: str = "model*.safetensors") -> tuple[Tensor, ...]:
    """The tensors of all files that match, checked. Raises LoadFailed, whose message names no path but the file's name.

    A tensor that two files name is an error: which one an engine takes would hang on the order of their names.
    """
    files = sorted(folder.glob(pattern))
    if not files:
        raise LoadFailed(f"Model '{model}' can't be loaded: its folder holds no {pattern}.")
    if len(files) > MAX_FILES:
        raise LoadFailed(f"Model '{model}' can't be loaded: {len(files)} weight files are more than {MAX_FILES}.")
    found: dict[str, Tensor] = {}
    for file in files:
        for tensor in read(file, model):
            if tensor.name in found:
                raise _invalid(model, file, f"names the tensor '{_shown(tensor.name)}' that another file has too")
            found[tensor.name] = tensor
    return tuple(found.values())


def read(file: Path, model: str) -> tuple[Tensor, ...]:
    """The tensors of one file, in the order of their bytes. Raises LoadFailed."""
    try:
        if not file.is_file():
            raise _Damaged("is not a regular file")
        with file.open("rb") as source:
            return parse(source, file.stat().st_size)
    except _Damaged as error:
        raise _invalid(model, file, str(error)) from None
    except OSError as error:
        raise _invalid(model, file, f"can't be read ({error.strerror})") from None


def parse(source: BinaryIO, size: int) -> tuple[Tensor, ...]:
    """The tensors of an open file of `size` bytes."""
    prefix = source.read(LENGTH_BYTES)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < LENGTH_BYTES or length > size - LENGTH_BYTES:
        raise _Damaged("is not a whole safetensors file: its header goes beyond its end")
    if length > MAX_HEADER_BYTES:
        raise _Damaged(f"has a header of {length} bytes; at most {MAX_HEADER_BYTES} are read")
    tensors = [_tensor(name, entry) for name, entry in _entries(source.read(length)) if name != METADATA]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.end))
    _check_data(tensors, size - LENGTH_BYTES - length)
    return tuple(tensors)


def weights_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of all tensors."""
    return sum(tensor.end - tensor.start for tensor in tensors)


def main_dtype(tensors: Iterable[Tensor]) -> str | None:
    """The dtype that holds most bytes: "F16", "U32" for packed weights; None without tensors."""
    shares: Counter[str] = Counter()
    for tensor in tensors:
        shares[tensor.dtype] += tensor.end - tensor.start
    return shares.most_common(1)[0][0] if shares else None


def _invalid(model: str, file: Path, problem: str) -> LoadFailed:
    name = _shown(file.name)
    return LoadFailed(f"Model '{model}' can't be loaded: the file '{name}' {problem}.", code="model_file_invalid")


def _shown(name: str) -> str:
    return ascii(name[:80])[1:-1]


def _entries(text: bytes) -> list[tuple[str, Any]]:
    """Name and value of each entry of the header's object; a name that is given twice is an error at every level."""
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise _Damaged("has a header that is not JSON") from None
    if not isinstance(header, dict):
        raise _Damaged("has a header that is not a JSON object")
    if len(header) > MAX_TENSORS:
        raise _Damaged(f"names {len(header)} tensors; at most {MAX_TENSORS} are read")
    return list(header.items())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Damaged("gives a name twice in its header")
    return found


def _tensor(name: str, entry: Any) -> Tensor:
    if len(name) > MAX_NAME_CHARACTERS:
        raise _Damaged(f"has a tensor name of {len(name)} characters")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _Damaged(f"describes the tensor '{_shown(name)}' in an unknown way")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise _Damaged(f"has the tensor '{_shown(name)}' of an unknown type")
    if not _are_counts(shape) or len(shape) > MAX_DIMENSIONS or not _are_counts(offsets) or len(offsets) != 2:
        raise _Damaged(f"gives the tensor '{_shown(name)}' a shape or offsets that are none")
    start, end = offsets
    if (end - start) * 8 != math.prod(shape) * DTYPE_BITS[dtype]:
        raise _Damaged(f"gives the tensor '{_shown(name)}' another number of bytes than its shape takes")
    return Tensor(name, dtype, tuple(shape), start, end)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _check_data(tensors: list[Tensor], size: int) -> None:
    """The tensors fill the data from its start to its end, each byte once."""
    at = 0
    for tensor in tensors:
        if tensor.start != at:
            raise _Damaged(f"has a hole or an overlap before the tensor '{_shown(tensor.name)}'")
        at = tensor.end
    if at != size:
        raise _Damaged(f"holds {size} bytes of tensors, but its header describes {at}")
