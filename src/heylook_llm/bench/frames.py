"""What a recorder and its sender say to each other: length-prefixed msgpack over the sender's stdin and stdout."""

import asyncio
import struct
from typing import Final

import msgspec

from heylook_llm.bench.sample import Phase
from heylook_llm.bench.timeline import Exchange

LONGEST_BYTES: Final = 1 << 30


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="begin"):
    """A cell: where its requests go, and how. The headers hold the key, which so never stands in an argument."""

    url: str
    headers: dict[str, str]
    timeout_seconds: float
    drain_seconds: float
    clients: int | None
    """At a time; None: as many as are due."""
    duration_seconds: float | None
    """How long it sends measured requests; None: until they end."""
    warmup: int
    """How many items come before the measured ones."""
    cooldown: int = 0
    """How many are sent behind them under the same load."""
    stall_seconds: float | None = None
    """How long an answer that began may be silent; None: as long as it may take in all."""


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One request."""

    ordinal: int
    attempt: int
    phase: Phase
    request_id: str
    body: bytes
    due_ns: int | None = None
    """From the start of the measured part; None: when a client is free."""


class Items(msgspec.Struct, frozen=True, array_like=True, tag="items"):
    """Requests, in the order in which they are sent; `last`: no others follow."""

    items: tuple[Item, ...]
    last: bool


class Stop(msgspec.Struct, frozen=True, array_like=True, tag="stop"):
    """Send no more; `now`: cut off what is in flight, and say that it was `outcome`."""

    now: bool
    cancelled: bool = False


class More(msgspec.Struct, frozen=True, array_like=True, tag="more"):
    """The sender can take so many more items."""

    count: int


class Window(msgspec.Struct, frozen=True, array_like=True, tag="window"):
    """The measured part began; its planned times count from here."""

    start: int


class Pulse(msgspec.Struct, frozen=True, array_like=True, tag="pulse"):
    """How the sender itself did since its last pulse."""

    at: int
    cpu_share: float
    """Of one core."""
    lag_ns: int
    """The latest that its loop was at its own alarm."""
    mean_lag_ns: int = 0
    """How late it was in the mean."""


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """The cell is over: `start` and `end` of the measured part."""

    start: int
    end: int


class Report(msgspec.Struct, frozen=True, array_like=True, tag="report"):
    """A request that ended."""

    exchange: Exchange


Order = Begin | Items | Stop
News = More | Window | Report | Pulse | Ended

_LENGTH: Final = struct.Struct("<I")
_encoder: Final = msgspec.msgpack.Encoder()
orders: Final = msgspec.msgpack.Decoder(Order)
news: Final = msgspec.msgpack.Decoder(News)


def packed(frame: Order | News) -> bytes:
    """A frame as it is written."""
    body = _encoder.encode(frame)
    return _LENGTH.pack(len(body)) + body


async def read(stream: asyncio.StreamReader) -> bytes | None:
    """The next frame's body; None: the other side has ended."""
    try:
        (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        if length > LONGEST_BYTES:
            return None
        return await stream.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
