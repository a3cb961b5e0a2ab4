"""Length-prefixed msgpack frames between server and worker, over the worker's stdin and stdout.

On the wire a frame is 4 bytes little-endian length, then msgpack of one `core.Downward` or `core.Upward`. A message
longer than PIECE_BYTES travels as several Piece frames under one number, so that another message (a cancel) can pass
between them. A frame longer than MAX_FRAME_BYTES, a message longer than MAX_MESSAGE_BYTES, or bytes that don't decode
are a ProtocolError: the peer is broken and is given up.

This module encodes and decodes; it reads and writes no file.
"""

import itertools
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

import msgspec

from heylook_llm import core
from heylook_llm.errors import BadRequest, ProtocolError

PIECE_BYTES: Final = 1 << 20
MAX_FRAME_BYTES: Final = PIECE_BYTES + 1024
MAX_MESSAGE_BYTES: Final = 1 << 30
MAX_OPEN_MESSAGES: Final = 256
PREFIX_BYTES: Final = 4

Message = TypeVar("Message")


class Piece(msgspec.Struct, frozen=True, array_like=True, tag="piece"):
    """A part of a long message's msgpack; `last` ends it."""

    message: int
    data: bytes
    last: bool


def _frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(PREFIX_BYTES, "little") + payload


class Encoder:
    """Messages to frames. One per direction: piece numbers are its own."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._numbers = itertools.count()

    def encode(self, message: core.Downward | core.Upward) -> bytes:
        """All frames of a message, joined."""
        return b"".join(self.frames(message))

    def frames(self, message: core.Downward | core.Upward) -> Iterator[bytes]:
        """The frames of a message, one at a time: a writer may send others' frames between them.

        Raises BadRequest for a number beyond 64 bits, which JSON allows within a tool's schema, and msgpack doesn't.
        """
        try:
            payload = self._encoder.encode(message)
        except OverflowError as error:
            raise BadRequest("The request holds a number beyond 64 bits.") from error
        if len(payload) <= PIECE_BYTES:
            yield _frame(payload)
            return
        if len(payload) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"A message of {len(payload)} bytes is beyond the limit of {MAX_MESSAGE_BYTES}.")
        number = next(self._numbers)
        for start in range(0, len(payload), PIECE_BYTES):
            last = start + PIECE_BYTES >= len(payload)
            yield _frame(self._encoder.encode(Piece(number, payload[start : start + PIECE_BYTES], last)))


class Decoder(Generic[Message]):
    """Bytes, in any cuts, to messages of one direction."""

    def __init__(self, message_type: type[Message]) -> None:
        self._decoder: msgspec.msgpack.Decoder[Message | Piece] = msgspec.msgpack.Decoder(message_type | Piece)
        self._whole: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(message_type)
        self._buffer = bytearray()
        self._open: dict[int, bytearray] = {}

    def feed(self, data: bytes) -> list[Message]:
        """The messages that these bytes complete. Raises ProtocolError on anything that isn't a frame."""
        self._buffer += data
        messages: list[Message] = []
        at = 0
        while (end := self._frame_end(at)) is not None:
            message = self._decode(bytes(self._buffer[at + PREFIX_BYTES : end]))
            at = end
            if message is not None:
                messages.append(message)
        if at:
            del self._buffer[:at]
        return messages

    def _frame_end(self, at: int) -> int | None:
        if len(self._buffer) - at < PREFIX_BYTES:
            return None
        length = int.from_bytes(self._buffer[at : at + PREFIX_BYTES], "little")
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(f"A frame of {length} bytes is beyond the limit of {MAX_FRAME_BYTES}.")
        end = at + PREFIX_BYTES + length
        return end if end <= len(self._buffer) else None

    def _decode(self, payload: bytes) -> Message | None:
        try:
            message = self._decoder.decode(payload)
            if not isinstance(message, Piece):
                return message
            joined = self._join(message)
            return None if joined is None else self._whole.decode(joined)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"A frame doesn't decode: {error}") from error

    def _join(self, piece: Piece) -> bytes | None:
        joined = self._open.setdefault(piece.message, bytearray())
        joined += piece.data
        if len(self._open) > MAX_OPEN_MESSAGES or len(joined) > MAX_MESSAGE_BYTES:
            raise ProtocolError("The pieces of a message never end.")
        if not piece.last:
            return None
        del self._open[piece.message]
        return bytes(joined)
