"""Image files as tests need them: plain ones, and such as attack whoever decodes them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

RED = (255, 0, 0)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
FAITHFUL: dict[str, dict[str, Any]] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
"""Options by which a format keeps colours, a JPEG nearly."""


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The image as a file of a kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(width: int = 12, height: int = 8, colour: tuple[int, ...] = RED, kind: str = "PNG", **options: Any) -> bytes:
    """A file of one colour."""
    return file_of(Image.new("RGB" if len(colour) == 3 else "RGBA", (width, height), colour), kind, **options)


def quarters(width: int = 16, height: int = 8) -> Image.Image:
    """Red and green above, blue and white below: every turn of it looks different."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    pixels[height // 2 :, width // 2 :] = (255, 255, 255)
    return Image.fromarray(pixels)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """What can't be packed."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def animation(kind: str, frames: int) -> bytes:
    """So many frames, each of its own."""
    first, *others = (noise(8, 8, at) for at in range(frames))
    return file_of(first, kind, save_all=True, append_images=others)


def scan_bomb(scans: int = 3000, side: int = 2500) -> bytes:
    """A progressive JPEG of some 200 kilobytes whose last scan comes again and again."""
    whole = plain(side, side, kind="JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * scans + whole[-2:]


# ---- PNG by hand -----------------------------------------------------------------------------------------------------


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *more: bytes, rows: bytes | None = None, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG with chunks of one's own before its pixels, which are black unless `rows` says otherwise."""
    if rows is None:
        rows = bytes((1 + 3 * width) * height)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + data


def pixel_bomb(side: int = 30_000) -> bytes:
    """A PNG of a few hundred kilobytes with side * side pixels of one bit."""
    return png(side, side, rows=bytes((1 + (side + 7) // 8) * side), depth=1, colour=0)


def text_bomb(size: int = 80 << 20) -> bytes:
    """A PNG with so many bytes of packed text."""
    return png(4, 4, chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(size), 1)))


def profile_bomb(size: int = 80 << 20) -> bytes:
    """A PNG with so many bytes of packed colour profile."""
    return png(4, 4, chunk(b"iCCP", b"profile\x00\x00" + zlib.compress(bytes(size), 1)))
