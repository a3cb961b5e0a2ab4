"""JSON as it crosses the wire: strict on the way in, safe for every line reader on the way out."""

import json
import math
import re
from typing import Any, Final, NoReturn

import msgspec

from heylook_llm.errors import BadRequest

MAX_DEPTH: Final = 200
"""How deep a body may nest. Tool schemas are the deepest honest bodies, with about a dozen levels."""
MAX_KEYS: Final = 100_000
MAX_COMMAS: Final = 4_000_000
"""Counted in the bytes before they are decoded, text included: beyond honest bodies, but decoded in under a second."""

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_LINE_SEPARATORS: Final = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))


class _Malformed(ValueError):
    """What the hooks below raise; becomes a BadRequest."""


def decode(body: bytes, *, trailing: bool = False) -> Any:
    """The value of a JSON text in UTF-8. `trailing`: whatever follows the first value is ignored.

    Raises BadRequest (code "invalid_json") for everything that isn't plain JSON: a byte-order mark, invalid UTF-8, lone
    surrogates, NaN and infinities, a key given twice, numbers beyond a double, nesting beyond MAX_DEPTH.
    """
    try:
        _refuse_size(body)
        text = body.decode("utf-8")
        value = _decode_first(text) if trailing else _DECODER.decode(text)
        _refuse_surrogates(body, value)
        _refuse_depth(body, value)
    except UnicodeDecodeError as error:
        raise _invalid(f"invalid UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise _invalid(f"nested deeper than {MAX_DEPTH} levels") from error
    except json.JSONDecodeError as error:
        raise _invalid(f"{error.msg} at character {error.pos}") from error
    except ValueError as error:
        raise _invalid(str(error) if isinstance(error, _Malformed) else "a number is too large") from error
    return value


def _invalid(reason: str) -> BadRequest:
    return BadRequest(f"The request body is not valid JSON: {reason}.", code="invalid_json")


def _decode_first(text: str) -> Any:
    start = len(text) - len(text.lstrip(" \t\r\n"))
    return _DECODER.raw_decode(text, start)[0]


def _refuse_size(body: bytes) -> None:
    # A key takes five bytes at least and a comma two, so most bodies need no scan.
    many = len(body) > 5 * MAX_KEYS and (keys := body.count(b'":')) > MAX_KEYS
    if many and keys - body.count(b'\\":') > MAX_KEYS:
        raise _Malformed(f"more than {MAX_KEYS} keys")
    if len(body) > 2 * MAX_COMMAS and body.count(b",") > MAX_COMMAS:
        raise _Malformed(f"more than {MAX_COMMAS} commas")


def _refuse_surrogates(body: bytes, value: Any) -> None:
    if b"\\" not in body or not _SURROGATE.search(body):
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise _Malformed("a lone surrogate is not a character") from error


def _refuse_depth(body: bytes, value: Any) -> None:
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _Malformed(f"nested deeper than {MAX_DEPTH} levels")
        level = [inner for outer in level for inner in _children(outer) if isinstance(inner, dict | list)]


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _Malformed(f"the key {key[:64]!r} is given twice")
        seen.add(key)
    return made


def _constant(name: str) -> NoReturn:
    raise _Malformed(f"{name} is not a JSON number")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _Malformed("a number is too large")
    return number


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8, on one line to every reader: U+0085, U+2028 and U+2029 are escaped.

    httpx's line reader, and what is built on it, splits on those three. Lone surrogates become U+FFFD.
    """
    try:
        data = msgspec.json.encode(value)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_mended(value))
    return data if data.isascii() else _one_line(data)


def quoted(text: str) -> bytes:
    """A JSON string of a text, as `encode` but for the hot path."""
    if text.isascii():
        return msgspec.json.encode(text)
    return encode(text)


def _one_line(data: bytes) -> bytes:
    for raw, escaped in _LINE_SEPARATORS:
        if raw in data:
            data = data.replace(raw, escaped)
    return data


def _mended(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        case dict():
            return {_mended(key): _mended(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_mended(inner) for inner in value]
    return value
