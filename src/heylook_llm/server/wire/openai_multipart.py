"""The form of a chat completion: the fields of its JSON body as text, and its images as files, without base64."""

from typing import Any, Final

import msgspec
import pydantic

from heylook_llm.errors import BadRequest
from heylook_llm.server.wire import jsontext, multipart, openai, table
from heylook_llm.server.wire.exchange import Arrival
from heylook_llm.server.wire.openai_body import ChatBody
from heylook_llm.server.wire.pictures import Picture

PLACEHOLDER: Final = "__RAW_IMAGE__"
"""The URL of an image part that the next file fills."""
FILES: Final = ("images", "images[]", "image")
"""What a file's field may be called."""
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["model", "messages"],
    "description": f"Every field of ChatBody, as text; an image part with the URL {PLACEHOLDER} takes the next file.",
    "properties": {
        "model": {"type": "string"},
        "messages": {"type": "string", "description": "The messages as JSON."},
        "images": {"type": "array", "items": {"type": "string", "format": "binary"}},
    },
    "additionalProperties": {"type": "string"},
}
_TYPES: Final = {
    field.alias or name: pydantic.TypeAdapter[Any](field.annotation or Any)
    for name, field in ChatBody.model_fields.items()
}


def parse(body: bytes, content_type: str, arrival: Arrival) -> openai.Chat:
    """A form as an exchange. Raises BadRequest, UnsupportedFeature."""
    document: dict[str, Any] = {}
    files: list[bytes] = []
    for part in multipart.parts(body, content_type):
        if part.name in FILES:
            files.append(part.data)
        elif part.name in document:
            raise BadRequest(f"The field '{part.name[:64]}' is given twice.", param=part.name[:64])
        else:
            document[part.name] = _value(part)
    chat = openai.chat_of(table.validate(ChatBody, document), arrival)
    chat.asked = msgspec.structs.replace(chat.asked, pictures=_with_files(chat.asked.pictures, files))
    return chat


def _value(part: multipart.Part) -> Any:
    """A field as its type asks: text where it may be text, else JSON."""
    text, kind = part.text, _TYPES.get(part.name)
    if kind is None:
        return text
    try:
        value = jsontext.decode(part.data)
    except BadRequest as error:
        if part.name == "messages":
            raise BadRequest("messages is not valid JSON.", code="invalid_json", param="messages") from error
        return text
    if part.name == "messages":
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    candidates = (text, value) if number else (value, text)
    return next((one for one in candidates if _fits(kind, one)), value)


def _fits(kind: "pydantic.TypeAdapter[Any]", value: object) -> bool:
    try:
        kind.validate_python(value)
    except pydantic.ValidationError:
        return False
    return True


def _with_files(pictures: tuple[Picture, ...], files: list[bytes]) -> tuple[Picture, ...]:
    """The pictures, with a file in each place that waits for one."""
    places = sum(picture.url == PLACEHOLDER for picture in pictures)
    if places != len(files):
        message = f"The messages have {places} times {PLACEHOLDER}, but {len(files)} files came."
        raise BadRequest(message, code="invalid_form", param="images")
    left = iter(files)
    return tuple(_filled(picture, next(left)) if picture.url == PLACEHOLDER else picture for picture in pictures)


def _filled(picture: Picture, data: bytes) -> Picture:
    if not data:
        raise BadRequest(f"{picture.place}: the image is empty.", code="invalid_image", param=picture.place)
    return msgspec.structs.replace(picture, url="", data=data)
