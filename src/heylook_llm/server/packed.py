"""Request bodies that come packed (Content-Encoding), unpacked within bounds as they arrive."""

import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from heylook_llm.errors import BadRequest, TooLarge, UnsupportedEncoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FREE_BYTES: Final = 1 << 20
"""Unpacked, whatever they were packed to: blanks and repetitions pack well."""
MOST_RATIO: Final = 200
"""... and beyond that, so many times what has arrived. Conversations pack to a tenth."""
MOST_MEMBERS: Final = 256
"""Each starts another decoder, which a few bytes could ask for."""
PIECE_BYTES: Final = 64 << 10
ZSTD_WINDOW_LOG: Final = 23
"""8 MiB, the most that HTTP allows (RFC 9659): a frame may ask its reader for 2 GiB of memory."""
_HEAD_BYTES: Final = 2
"""What tells a zlib header from none."""


class _Decoder(Protocol):
    """One member of a body; zlib's and zstd's look alike here."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """zlib's decoder, which gives back input that its output had no room for."""

    def __init__(self, bits: int) -> None:
        self._decoder = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        """What came behind its end."""
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """The next bytes, at most so many; called with none until fewer come."""
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)


def _gzip(head: bytes) -> _Decoder:
    return _Zlib(16 + zlib.MAX_WBITS)


def _deflate(head: bytes) -> _Decoder:
    """By the standard it has zlib's header; some clients leave that out."""
    headed = head[0] & 15 == 8 and int.from_bytes(head[:_HEAD_BYTES], "big") % 31 == 0
    return _Zlib(zlib.MAX_WBITS if headed else -zlib.MAX_WBITS)


def _zstd(head: bytes) -> _Decoder:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})


_DECODERS: Final[Mapping[str, Callable[[bytes], _Decoder]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}
"""What starts with these bytes -> its decoder, by the content coding's name."""


def unpacker(content_encoding: Sequence[str], limit_bytes: int) -> "Unpacker | None":
    """What unpacks a body with these Content-Encoding headers; None: it comes as it is. Raises UnsupportedEncoding."""
    codings = [coding.strip().lower() for value in content_encoding for coding in value.split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _DECODERS:
        shown = re.sub(r"[^ -~]", "?", ", ".join(codings))[:64]
        raise UnsupportedEncoding(
            f"Content-Encoding '{shown}' is not accepted: send the body as it is, or packed once, by gzip, deflate or "
            "zstd."
        )
    return Unpacker(codings[0], limit_bytes)


class Unpacker:
    """One packed body: `feed` it as it arrives, then `end`."""

    def __init__(self, coding: str, limit_bytes: int) -> None:
        self._coding = coding
        self._limit = limit_bytes
        self._decoder: _Decoder | None = None
        self._head = b""
        """Of a member, while it is too short to tell how that is packed."""
        self._members = 0
        self._arrived = 0
        self._given = 0

    def feed(self, data: bytes) -> bytes:
        """What these bytes unpack to. Raises TooLarge, BadRequest."""
        self._arrived += len(data)
        pieces: list[bytes] = []
        try:
            for piece in self._pieces(data):
                self._count(len(piece))
                pieces.append(piece)
        except (zlib.error, zstd.ZstdError) as error:
            raise self._damaged("is damaged") from error
        return b"".join(pieces)

    def end(self) -> None:
        """All has arrived. Raises BadRequest where it ends within a member."""
        if self._head or self._decoder is not None:
            raise self._damaged("ends too early")

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """Piece by piece, so that nothing beyond the bounds is ever made. A body may have several members."""
        while data or self._decoder is not None:
            if self._decoder is None:
                self._head += data
                if len(self._head) < _HEAD_BYTES:
                    return
                self._decoder = self._member(self._head)
                data, self._head = self._head, b""
            piece = self._decoder.decompress(data, PIECE_BYTES)
            yield piece
            data = b""
            if self._decoder.eof:
                data, self._decoder = self._decoder.unused_data, None
            elif len(piece) < PIECE_BYTES:
                return

    def _member(self, head: bytes) -> _Decoder:
        self._members += 1
        most = 1 if self._coding == "deflate" else MOST_MEMBERS
        if self._members > most:
            raise self._damaged(f"goes on behind its end, after {most} packed pieces")
        return _DECODERS[self._coding](head)

    def _count(self, given: int) -> None:
        self._given += given
        if self._given > self._limit:
            raise too_large(self._limit)
        if self._given > FREE_BYTES + MOST_RATIO * self._arrived:
            raise TooLarge(f"The request body unpacks to more than {MOST_RATIO} times its size ({self._coding}).")

    def _damaged(self, how: str) -> BadRequest:
        return BadRequest(f"The request body {how} (Content-Encoding: {self._coding}).", code="invalid_encoding")


def too_large(limit_bytes: int) -> TooLarge:
    """The error of a body beyond the limit, packed or not."""
    return TooLarge(f"The request body is beyond this server's limit of {limit_bytes} bytes (limits.max_body_bytes).")
