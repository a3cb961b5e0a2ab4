"""Images as the dialects send them, not yet read: files in base64, data URLs, and URLs for the server to fetch."""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final, NoReturn

import msgspec

from heylook_llm import core
from heylook_llm.errors import BadRequest

UNREAD: Final = core.ImagePart(b"", 0, 0)
"""Stands in a prompt for an image that is to be read; the n-th one is the n-th picture of the request."""
LOW_DETAIL: Final = 512
"""Pixels of the longer side, as OpenAI defines `detail: low`."""
_MEDIA_TYPES: Final = ("png", "jpeg", "jpg", "webp", "gif", "bmp", "x-ms-bmp")
_MAX_HEAD: Final = 256
_DATA_URL: Final = re.compile(r"data:([\w.+-]*/?[\w.+-]*)(?:;[\w.+-]+=[\w.+-]*)*;base64", re.IGNORECASE)


class Picture(msgspec.Struct, frozen=True):
    """An image that a client sent: the bytes of a file, or where to fetch it."""

    place: str
    """The field that holds it, in the caller's spelling."""
    data: bytes = b""
    url: str = ""
    within: int | None = None
    """No side may be longer."""


class Sizing(msgspec.Struct, frozen=True):
    """The size that a request asks for, of all its images: see helper.pictures.Shape."""

    width: int | None = None
    height: int | None = None
    longest: int | None = None


def of_url(text: str, place: str, within: int | None = None) -> Picture:
    """A picture by its URL, which may hold it. Raises BadRequest."""
    if text[:5].lower() != "data:":
        return Picture(place, url=text, within=within)
    head, _, payload = text.partition(",")
    found = _DATA_URL.fullmatch(head) if len(head) <= _MAX_HEAD else None
    if found is None or not _may_be_image(found[1].lower()):
        _refuse("a data URL must be of a PNG, JPEG, WebP, GIF or BMP image, in base64", place)
    return of_base64(payload, place, within)


def _may_be_image(media_type: str) -> bool:
    """Whether a file of this type may be an image that is read here; which one it is, its own bytes say."""
    return media_type in ("", "application/octet-stream") or media_type.removeprefix("image/") in _MEDIA_TYPES


def of_base64(text: str, place: str, within: int | None = None) -> Picture:
    """A picture by its file in base64. Raises BadRequest."""
    try:
        data = base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        _refuse("illegal base64 data", place)
    if not data:
        _refuse("the image is empty", place)
    return Picture(place, data, within=within)


def _refuse(reason: str, place: str) -> NoReturn:
    raise BadRequest(f"{place}: {reason}.", code="invalid_image", param=place)


def filled(prompt: core.ChatPrompt, images: Sequence[core.ImagePart]) -> core.ChatPrompt:
    """The prompt with its images in their places."""
    left = iter(images)
    turns = (
        msgspec.structs.replace(turn, parts=tuple(next(left) if part is UNREAD else part for part in turn.parts))
        for turn in prompt.messages
    )
    return msgspec.structs.replace(prompt, messages=tuple(turns))
