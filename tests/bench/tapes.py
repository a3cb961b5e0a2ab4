"""Streams as they cross the wire, on a synthetic clock: each write has its stamp."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from heylook_llm.bench.sample import Phase
from heylook_llm.bench.timeline import Exchange, Measured

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: req_1\r\ntransfer-encoding: chunked\r\n\r\n"
)


def framed(body: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(body), body) if body else b""


def tape(*events: tuple[int, bytes], head: bytes = HEAD, end: int | None = None) -> tuple[tuple[int, bytes], ...]:
    """The head at stamp 10, then each event in a piece of its own, then the end of the body."""
    last = end if end is not None else (events[-1][0] if events else 10)
    return ((10, head), *((at, framed(data)) for at, data in events), (last, b"0\r\n\r\n"))


def exchange(pieces: Sequence[tuple[int, bytes]], **more: Any) -> Exchange:
    """What a sender reports of them."""
    phase: Phase = "measure"
    given = {"outcome": "ok", "error_class": None, **more}
    return Exchange(0, 0, phase, t_due=0, t_start=1, t_end=pieces[-1][0] if pieces else 99, tape=tuple(pieces), **given)


def cut(pieces: Iterable[tuple[int, bytes]], at: Sequence[int]) -> tuple[tuple[int, bytes], ...]:
    """The same bytes with further cuts; each byte keeps its stamp, as pieces that arrived together would."""
    whole = [(stamp, bytes([byte])) for stamp, data in pieces for byte in data]
    places = sorted({place % (len(whole) + 1) for place in at} | {0, len(whole)})
    made = []
    for one, other in itertools.pairwise(places):
        for stamp, group in itertools.groupby(whole[one:other], key=lambda pair: pair[0]):
            made.append((stamp, b"".join(byte for _, byte in group)))
    return tuple(made)


def fields(measured: Measured, *names: str) -> tuple[Any, ...]:
    """Some of its fields."""
    return tuple(getattr(measured, name) for name in names)
