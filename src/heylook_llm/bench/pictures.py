"""Images that are sent: seeded, each with bytes of its own, so that no cache of a server knows it. Pure."""

import random
import struct
import zlib
from typing import Final

BLOCK: Final = 16
"""Pixels of a side of what has one colour: noise would be megabytes, and one colour alone nothing to look at."""
_HEAD: Final = b"\x89PNG\r\n\x1a\n"
_UP: Final = 2
"""PNG's filter of a row that is told by its differences from the one above it."""


def png(width: int, height: int, random: random.Random) -> bytes:
    """Coloured squares, as RGB of 8 bits."""
    across = -(-width // BLOCK)
    same = bytes([_UP]) + bytes(3 * width)
    rows = []
    for top in range(0, height, BLOCK):
        colours = (random.randbytes(3) * BLOCK for _ in range(across))
        rows.append(b"\0" + b"".join(colours)[: 3 * width] + same * (min(BLOCK, height - top) - 1))
    shape = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return _HEAD + _part(b"IHDR", shape) + _part(b"IDAT", zlib.compress(b"".join(rows), 1)) + _part(b"IEND", b"")


def _part(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
