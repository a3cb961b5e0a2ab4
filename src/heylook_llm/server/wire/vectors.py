"""Vectors as JSON and base64, and durations of a Timeline: what both dialects' embeddings share."""

import base64
import struct
from collections.abc import Iterable

import msgspec


def numbers(vector: bytes) -> bytes:
    """A little-endian float32 vector as a JSON array. Each number is the double that equals the float32."""
    return msgspec.json.encode(struct.unpack(f"<{len(vector) // 4}f", vector))


def packed(vector: bytes) -> bytes:
    """A little-endian float32 vector as a JSON string of its bytes in base64, as the OpenAI SDKs ask for it."""
    return b'"' + base64.b64encode(vector) + b'"'


def array(items: Iterable[bytes]) -> bytes:
    """A JSON array of encoded values. Encoded one by one, so that other threads have their turn between them."""
    return b"[" + b",".join(items) + b"]"
