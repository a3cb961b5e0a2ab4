"""An image as the square that some models see, the same for every provider.

The whole image is kept in its proportions, in the middle of a square of CLIP's mean colour, as LLaVA was trained. The
engines' own ways differ: llama.cpp does about this, Hugging Face's processors crop what stands out.
"""

from typing import Final

from heylook_llm import core

BACKGROUND: Final = (122, 116, 104)
"""CLIP's mean colour."""


def squared(image: core.ImagePart, side: int) -> core.ImagePart:
    """The image fitted into a square of so many pixels, resized bicubically."""
    from PIL import Image  # noqa: PLC0415  # only models with vision need it

    if (image.width, image.height) == (side, side):
        return image
    longest = max(image.width, image.height)
    width, height = (max(1, round(size * side / longest)) for size in (image.width, image.height))
    picture = Image.frombytes("RGB", (image.width, image.height), image.rgb)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    square = Image.new("RGB", (side, side), BACKGROUND)
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return core.ImagePart(square.tobytes(), side, side)
