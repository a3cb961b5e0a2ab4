"""multipart/form-data, read from a body that is there as a whole: strict, and in one pass over its bytes.

What isn't plainly a form is refused: lines that end otherwise than in CRLF, more parts or longer heads than any client
sends, text that isn't UTF-8. Files keep their bytes as they came.
"""

import re
from typing import Final, NoReturn

import msgspec

from heylook_llm.errors import BadRequest

MAX_PARTS: Final = 256
MAX_HEAD: Final = 4096
"""Bytes of a part's headers."""
_BOUNDARY: Final = re.compile(r"""[0-9A-Za-z'()+_,./:=?-]{1,70}""")
_PARAMETER: Final = re.compile(r';[ \t]*([a-z*]+)=("(?:[^"\\\r\n]|\\.)*"|[^;" \t]*)', re.IGNORECASE)
_PLAIN: Final = ("", "binary", "8bit", "7bit")


class Part(msgspec.Struct, frozen=True):
    """One part of a form."""

    name: str
    data: bytes
    filename: str = ""

    @property
    def text(self) -> str:
        """A field's text. Raises BadRequest."""
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError:
            _refuse(f"the field '{self.name}' is not UTF-8")


def parts(body: bytes, content_type: str) -> list[Part]:
    """The parts of a form, in their order. Raises BadRequest."""
    delimiter = b"--" + _boundary(content_type)
    if not body.startswith(delimiter):
        _refuse("it does not begin with its boundary")
    found: list[Part] = []
    at = len(delimiter)
    while not body.startswith(b"--", at):
        if len(found) == MAX_PARTS:
            _refuse(f"it has more than {MAX_PARTS} parts")
        if not body.startswith(b"\r\n", at):
            _refuse("a boundary is not followed by a line's end")
        # A head that is empty ends with the line of its boundary.
        start = body.find(b"\r\n\r\n", at, at + MAX_HEAD + 4)
        if start < 0:
            _refuse(f"a part's head has no end within {MAX_HEAD} bytes")
        end = body.find(b"\r\n" + delimiter, start + 4)
        if end < 0:
            _refuse("a part has no end")
        name, filename = _names(body[at + 2 : start])
        found.append(Part(name, body[start + 4 : end], filename))
        at = end + 2 + len(delimiter)
    return found


def _boundary(content_type: str) -> bytes:
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise BadRequest("This route takes multipart/form-data.", code="invalid_content_type")
    boundary = _parameters(content_type[:1024]).get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        _refuse("its Content-Type names no boundary")
    return boundary.encode("ascii")


def _parameters(value: str) -> dict[str, str]:
    return {found[1].lower(): found[2].strip('"') for found in _PARAMETER.finditer(value)}


def _names(head: bytes) -> tuple[str, str]:
    """The name of a part by its head, and that of its file."""
    try:
        lines = head.decode("utf-8").split("\r\n")
    except UnicodeDecodeError:
        _refuse("a part's head is not UTF-8")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    disposition = headers.get("content-disposition", "")
    parameters = _parameters(disposition)
    name = parameters.get("name", "")
    if disposition.partition(";")[0].strip().lower() != "form-data" or not name:
        _refuse("a part has no name")
    if headers.get("content-transfer-encoding", "").lower() not in _PLAIN:
        _refuse(f"the part '{name[:64]}' is not sent as it is")
    return name, parameters.get("filename", "")


def _refuse(reason: str) -> NoReturn:
    raise BadRequest(f"The form can't be read: {reason}.", code="invalid_form")
