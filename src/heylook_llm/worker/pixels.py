"""Images as a model's square of pixels: the same for every engine, whose own ways of fitting one differ."""

import importlib
from typing import Any

from heylook_llm import core


def squared(image: core.ImagePart, side: int) -> core.ImagePart:
    """The whole image, stretched to a square by Pillow's bicubic filter; the same one where it is that already.

    CLIP's own processor would crop what isn't square, and llama.cpp pads it with grey.
    """
    if image.width == image.height == side:
        return image
    pillow: Any = importlib.import_module("PIL.Image")
    found = pillow.frombytes("RGB", (image.width, image.height), image.rgb)
    made = found.resize((side, side), pillow.Resampling.BICUBIC)
    return core.ImagePart(made.tobytes(), side, side)
