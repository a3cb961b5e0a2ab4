"""Vectors as JSON and base64, and durations of a Timeline: what both dialects' embeddings share."""

import base64
import struct
from collections.abc import Iterable
from typing import Final

import msgspec

LARGEST: Final = 32760.0


def numbers(vector: bytes) -> bytes:
    """A little-endian float32 vector as a JSON array. Each number is the double that equals the float32."""
    return msgspec.json.encode(struct.unpack(f"<{len(vector) // 4}f", vector))


def scaled(vector: bytes, norm: int) -> bytes:
    """A vector of norm 1: that of the power `norm`; 0: its largest number becomes LARGEST, as at llama.cpp."""
    values = struct.unpack(f"<{len(vector) // 4}f", vector)
    most = max(map(abs, values), default=0.0)
    if not most:
        return vector
    length = most / LARGEST if norm == 0 else most * sum((abs(value) / most) ** norm for value in values) ** (1 / norm)
    return struct.pack(f"<{len(values)}f", *(value / length for value in values))


def packed(vector: bytes) -> bytes:
    """A little-endian float32 vector as a JSON string of its bytes in base64, as the OpenAI SDKs ask for it."""
    return b'"' + base64.b64encode(vector) + b'"'


def array(items: Iterable[bytes]) -> bytes:
    """A JSON array of encoded values. Encoded one by one, so that other threads have their turn between them."""
    return b"[" + b",".join(items) + b"]"
