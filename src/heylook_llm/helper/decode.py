"""Decodes images where it can do no harm: jobs on stdin, pixels on stdout (`python -m heylook_llm.helper.decode`).

What is too large is refused by its header. Each image has so much of the processor's time; one that takes more, or more
memory, ends the process, and what was answered before it counts.
"""

import io
import resource
import sys
from typing import Final

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from heylook_llm.helper import limits, pictures
from heylook_llm.helper.pictures import Job, Pixels, Shape

MEMORY_BYTES: Final = 1 << 30
SECONDS: Final = 2.0
"""Of the processor's time, for one image."""
GROUND: Final = (255, 255, 255)
"""What shows through where an image is transparent."""
_PLUGINS: Final = (
    BmpImagePlugin, GifImagePlugin, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin,
)  # fmt: skip
"""Imported before anything is decoded, because then no file can be opened. TIFF reads EXIF, MPO is what phones write
behind a JPEG's header; neither is taken as a file of its own."""
_ORIENTATION: Final = 0x0112
UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING: Final = (5, 6, 7, 8)


class _Refused(Exception):
    """By which reason."""

    def __init__(self, reason: int) -> None:
        super().__init__(reason)
        self.reason = reason


def main() -> None:
    """Answer the jobs of stdin, in their order."""
    seal()
    for job in pictures.jobs(sys.stdin.buffer):
        limits.allow_seconds(SECONDS)
        sys.stdout.buffer.write(pictures.answer(_result(job)))
        sys.stdout.buffer.flush()


def seal() -> None:
    """From now on little memory, and nothing more can be opened: no file, no socket."""
    Image.MAX_IMAGE_PIXELS = None  # ours is checked instead
    Image.preinit()
    limits.confine(memory_bytes=MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _result(job: Job) -> Pixels | int:
    try:
        return _decoded(job)
    except _Refused as refused:
        return refused.reason
    except MemoryError:
        return pictures.TOO_MUCH_MEMORY
    except Exception:  # whatever a decoder raises over a stranger's file
        return pictures.UNREADABLE


def _decoded(job: Job) -> Pixels:
    image: Image.Image
    with Image.open(io.BytesIO(job.data), formats=pictures.FORMATS) as image:
        _check(image)
        orientation = _orientation(image)
        lying = orientation in _LYING
        upright = image.size[::-1] if lying else image.size
        size = target(*upright, job.shape)
        image.draft(None, size[::-1] if lying else size)  # a JPEG is decoded no larger than needed
        image.load()
        plain = _plain(image)
    if plain.size != (goal := size[::-1] if lying else size):
        plain = plain.resize(goal, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if orientation in UPRIGHT:
        plain = plain.transpose(UPRIGHT[orientation])
    return Pixels(*size, _on_ground(plain).tobytes())


def _check(image: Image.Image) -> None:
    """What the header says, before anything is decoded."""
    width, height = image.size
    if width * height > pictures.MAX_DECODED_PIXELS:
        raise _Refused(pictures.TOO_LARGE)
    _check_sides(width, height)
    if getattr(image, "n_frames", 1) > pictures.MAX_FRAMES:
        raise _Refused(pictures.TOO_MANY_FRAMES)


def _check_sides(width: int, height: int) -> None:
    if min(width, height) < pictures.LEAST_SIDE or max(width, height) > pictures.MAX_RATIO * min(width, height):
        raise _Refused(pictures.TOO_NARROW)


def _orientation(image: Image.Image) -> int:
    """How a camera was held; 1 where the file doesn't say."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF is no reason to refuse an image that can be decoded
        return 1
    return found if found in UPRIGHT else 1


def _plain(image: Image.Image) -> Image.Image:
    """The first frame as RGB, or RGBA where something of it is transparent."""
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value / 257).convert("L")  # 16 bits to 8
    return image.convert("RGB")


def _on_ground(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    ground = Image.new("RGB", image.size, GROUND)
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def target(width: int, height: int, shape: Shape) -> tuple[int, int]:
    """The size that an upright image of this size gets."""
    asked = (width, height)
    if shape.width is not None or shape.height is not None:
        asked = _asked(width, height, shape)
        if asked[0] * asked[1] > shape.max_pixels:
            raise _Refused(pictures.TOO_LARGE_ASKED)
    elif shape.longest is not None:
        asked = _shrunk(*asked, shape.longest / max(asked))
    if shape.within is not None:
        asked = _shrunk(*asked, shape.within / max(asked))
    found = _shrunk(*asked, (shape.max_pixels / (asked[0] * asked[1])) ** 0.5)
    _check_sides(*found)
    return found


def _asked(width: int, height: int, shape: Shape) -> tuple[int, int]:
    if shape.width is not None and shape.height is not None:
        return shape.width, shape.height
    if shape.width is not None:
        return shape.width, max(1, round(height * shape.width / width))
    assert shape.height is not None
    return max(1, round(width * shape.height / height)), shape.height


def _shrunk(width: int, height: int, factor: float) -> tuple[int, int]:
    """A size times a factor below 1; a factor above it changes nothing."""
    if factor >= 1:
        return width, height
    return max(1, int(width * factor)), max(1, int(height * factor))


if __name__ == "__main__":
    main()
