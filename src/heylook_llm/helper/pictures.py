"""What the server and the process that decodes images say to each other: jobs one way, pixels or a reason the other."""

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO, Final

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_DECODED_PIXELS: Final = 50_000_000
"""Of a file: more than any phone makes in its usual mode."""
MAX_FRAMES: Final = 1_000
"""Of an animation; its first is taken."""
LEAST_SIDE: Final = 2
MAX_RATIO: Final = 200
"""Of the longer side to the shorter: models cut images to squares or patches, and some can't do so beyond it."""
PIXEL_BYTES: Final = 3

REASONS: Final = {
    1: "it is not a PNG, JPEG, WebP, GIF or BMP file, or it is damaged",
    2: f"it has more than {MAX_DECODED_PIXELS // 1_000_000} million pixels",
    3: f"it has more than {MAX_FRAMES} frames",
    4: f"it must be at least {LEAST_SIDE} pixels wide and high, and at most {MAX_RATIO} times as long as it is narrow",
    5: "at the size that is asked for it would have more pixels than this server's limits.max_image_pixels",
    6: "decoding it takes too long",
    7: "decoding it takes too much memory",
}
"""All that is ever said of an image: nothing of what a decoder says leaves its process."""
UNREADABLE, TOO_LARGE, TOO_MANY_FRAMES, TOO_NARROW, TOO_LARGE_ASKED, TOO_SLOW, TOO_MUCH_MEMORY = REASONS

_SIZES: Final = struct.Struct(">II")
_VERDICT: Final = struct.Struct(">BII")


@dataclass(frozen=True, slots=True)
class Shape:
    """Which size an image gets, upright. None: as it is, but for `max_pixels`."""

    max_pixels: int
    """It is made smaller to have at most so many."""
    width: int | None = None
    height: int | None = None
    """Both: exactly so; one: the other keeps its proportion, and it may grow."""
    longest: int | None = None
    """Without `width` and `height`: it is made smaller so that no side is longer."""
    within: int | None = None
    """Whatever else is asked: no side is longer (OpenAI's `detail: low`)."""


@dataclass(frozen=True, slots=True)
class Job:
    """A file to be decoded."""

    data: bytes
    shape: Shape


@dataclass(frozen=True, slots=True)
class Pixels:
    """RGB, eight bits each, row by row from the top left."""

    width: int
    height: int
    rgb: bytes


# ---- to the process --------------------------------------------------------------------------------------------------


def packed(jobs: list[Job]) -> bytes:
    """Jobs as the process reads them."""
    pieces: list[bytes] = []
    for job in jobs:
        shape = json.dumps(asdict(job.shape)).encode()
        pieces += [_SIZES.pack(len(shape), len(job.data)), shape, job.data]
    return b"".join(pieces)


def jobs(stream: BinaryIO) -> Iterator[Job]:
    """The jobs of a stream, one after the other."""
    while head := stream.read(_SIZES.size):
        of_shape, of_data = _SIZES.unpack(head)
        yield Job(shape=Shape(**json.loads(stream.read(of_shape))), data=stream.read(of_data))


# ---- from it ---------------------------------------------------------------------------------------------------------


def answer(result: Pixels | int) -> bytes:
    """Pixels, or a reason, as the server reads them."""
    if isinstance(result, int):
        return _VERDICT.pack(result, 0, 0)
    return _VERDICT.pack(0, result.width, result.height) + result.rgb


def answers(output: bytes) -> list[Pixels | int]:
    """The whole answers of an output, which may end within one; what can't be one ends them too."""
    found: list[Pixels | int] = []
    at = 0
    while at + _VERDICT.size <= len(output):
        reason, width, height = _VERDICT.unpack_from(output, at)
        at += _VERDICT.size
        size = width * height * PIXEL_BYTES
        if at + size > len(output) or (reason and (size or reason not in REASONS)) or not (reason or size):
            break
        found.append(reason or Pixels(width, height, output[at : at + size]))
        at += size
    return found


def most_bytes(jobs: list[Job]) -> int:
    """The most that a process may answer to them."""
    return sum(_VERDICT.size + job.shape.max_pixels * PIXEL_BYTES for job in jobs)
