"""The bundled GGUF with its numbers as float32.

llama.cpp multiplies 16-bit weights, and computes flash attention, in another precision for one sequence than for
several. So log probabilities differ by up to a hundredth between alone and batched, and a draw near a border may fall
on its other side. With float32 everywhere and without flash attention they differ by a hundred thousandth.
"""

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np


def widened(source: Path, target: Path) -> Path:
    """Write the copy."""
    return rewritten(source, target, np.dtype(np.float32))


def rewritten(
    source: Path, target: Path, numbers: "np.dtype[np.float32] | None" = None, added: Mapping[str, int] | None = None
) -> Path:
    """Write a copy of a GGUF with its numbers in another type, or with more of its own keys."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields[gguf.Keys.General.ARCHITECTURE].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == gguf.Keys.General.ARCHITECTURE:
            continue
        kind = field.types[0]
        of = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=of)
    for key, value in (added or {}).items():
        writer.add_uint32(key, value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data if numbers is None else tensor.data.astype(numbers))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
