"""What happens now, told to whoever listens. Each message is made once for all, and nobody waits for a slow listener.

A listener holds a bounded number of messages. One that reads slower than they come gets a snapshot of what is so
instead of those it missed. Messages are numbered, so that a connection that broke can go on where it was; while nobody
has listened for a while, none is made.
"""

import asyncio
import contextlib
import secrets
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple, TypeVar

from heylook_llm.errors import Overloaded
from heylook_llm.server.backend import Change
from heylook_llm.server.wire import jsontext

Kind = Literal[
    "snapshot",
    "request.started",
    "request.finished",
    "model.loading",
    "model.loaded",
    "model.failed",
    "model.evicted",
    "model.crashed",
    "sample",
]

CHANGES: Final[dict[Change, Kind]] = {
    "loading": "model.loading",
    "loaded": "model.loaded",
    "failed": "model.failed",
    "evicted": "model.evicted",
    "crashed": "model.crashed",
}
PACE_SECONDS: Final = 0.2
"""So long what happens is gathered: to tell hundreds of each of many events would take the time that answers need."""
MOST_WAITING: Final = 256
"""Messages that a listener may leave unread."""
MOST_KEPT: Final = 512
"""Messages that a connection which broke may go on from."""
RESUME_SECONDS: Final = 30.0
MOST_LISTENERS: Final = 1024
"""benchmarks/live_sockets.py has what 500 of them cost."""


Hearer = TypeVar("Hearer")


class Message(NamedTuple):
    """One message, in the bytes of both ways to listen, made once for all who do."""

    number: int
    text: str
    """JSON: what a WebSocket sends."""
    event: bytes
    """The same as an event of an event stream."""
    frame: bytes
    """The same as a frame of a WebSocket."""


def text_frame(data: bytes) -> bytes:
    """UTF-8 text as one frame from a server (RFC 6455, 5.2): final, unmasked, not compressed."""
    size = len(data)
    if size < 126:
        return bytes((0x81, size)) + data
    if size < 1 << 16:
        return struct.pack(">BBH", 0x81, 126, size) + data
    return struct.pack(">BBQ", 0x81, 127, size) + data


class Listener:
    """Who listens: what was said and isn't read yet."""

    def __init__(self, feed: "Feed", unread: list[Message]) -> None:
        self._feed = feed
        self._unread = deque(unread)
        self._news = asyncio.Event()
        self._missed = False
        self._ended = False
        if unread:
            self._news.set()

    def offer(self, message: Message) -> None:
        """Take a message to be read; too many, and they are all given up for a snapshot."""
        if len(self._unread) >= MOST_WAITING:
            self._unread.clear()
            self._missed = True
        if not self._missed:
            self._unread.append(message)
        self._news.set()

    def end(self) -> None:
        """There will be no more."""
        self._ended = True
        self._news.set()

    async def some(self) -> list[Message]:
        """The next message and all others that are there already; none: there will be none."""
        first = await self.next()
        if first is None:
            return []
        rest = list(self._unread)
        self._unread.clear()
        self._news.clear()
        return [first, *rest]

    async def next(self) -> Message | None:
        """The next message; None: there will be none."""
        await self._news.wait()
        if self._ended:
            return None
        if self._missed:
            self._missed = False
            message = self._feed.snapshot()
        else:
            message = self._unread.popleft()
        if not self._unread:
            self._news.clear()
        return message


class Reader:
    """A connection that is written to in place, without a task of its own; one that was full gets a snapshot."""

    def __init__(self, write: Callable[[bytes], bool], stall_seconds: float) -> None:
        """`write` says whether it took the bytes. One that takes none for so long has ended."""
        self.ended = asyncio.Event()
        self.stalled = False
        """It ended since it took nothing."""
        self._write = write
        self._stall_seconds = stall_seconds
        self._full_since: float | None = None

    def offer(self, frames: bytes, snapshot: Callable[[], Message], now: float) -> None:
        """Write what everybody gets, or what it needs after it was full."""
        if self._write(frames if self._full_since is None else snapshot().frame):
            self._full_since = None
            return
        self._full_since = now if self._full_since is None else self._full_since
        if now - self._full_since >= self._stall_seconds:
            self.stalled = True
            self.ended.set()


class Feed:
    """Tells listeners. Everything is called on the event loop's thread."""

    def __init__(self, state: Callable[[], dict[str, Any]], now: Callable[[], float] = time.monotonic) -> None:
        """`state`: what is so now, for snapshots."""
        self._state = state
        self._now = now
        self._name = secrets.token_hex(4)
        """Of this run of the server: numbers of another mean nothing."""
        self._number = 0
        self._kept: deque[Message] = deque(maxlen=MOST_KEPT)
        self._listeners: set[Listener] = set()
        self._readers: set[Reader] = set()
        self._frames: list[bytes] = []
        """What readers haven't been told yet."""
        self._timer: asyncio.TimerHandle | None = None
        self._heard_until = 0.0
        self._snapshot: Message | None = None
        self._closed = False
        self.on_first: Callable[[], None] = lambda: None
        """Called when somebody begins to listen, and nobody did."""
        self.on_last: Callable[[], None] = lambda: None
        """Called when the last one leaves."""

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners) + len(self._readers)

    def publish(self, kind: Kind, fields: Callable[[], dict[str, Any]]) -> None:
        """Tell this. `fields` is asked only where somebody may want to know."""
        self._number += 1
        if not self.listeners and self._now() > self._heard_until:
            self._kept.clear()
            return
        message = self._made(kind, fields())
        self._kept.append(message)
        for listener in self._listeners:
            listener.offer(message)
        if self._readers:
            self._frames.append(message.frame)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(PACE_SECONDS, self._tell_readers)

    def _tell_readers(self) -> None:
        """Write what was gathered to every reader: the same bytes, in one go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        frames, self._frames = b"".join(self._frames), []
        if frames:
            now = self._now()
            for reader in self._readers:
                reader.offer(frames, self.snapshot, now)

    def snapshot(self) -> Message:
        """What is so after all that was told; made once, for all who need it at that point."""
        if self._snapshot is None or self._snapshot.number != self._number:
            self._snapshot = self._made("snapshot", self._state())
        return self._snapshot

    def _made(self, kind: Kind, fields: dict[str, Any]) -> Message:
        identity = f"{self._name}-{self._number}"
        data = jsontext.encode({"type": kind, "id": identity, "at": time.time(), **fields})
        head = f"id: {identity}\nevent: {kind}\ndata: ".encode()
        return Message(self._number, data.decode(), head + data + b"\n\n", text_frame(data))

    def admit(self) -> None:
        """Raises Overloaded where as many listen as may."""
        if self.listeners >= MOST_LISTENERS:
            raise Overloaded(f"{MOST_LISTENERS} listen already.", retry_after_seconds=10.0)

    @contextlib.contextmanager
    def listen(self, after: str | None = None) -> Iterator[Listener]:
        """A listener: of what came after the message of that id, where all of it is kept; else from a snapshot on."""
        listener = Listener(self, self._since(after))
        if self._closed:
            listener.end()
        with self._counted(listener, self._listeners):
            yield listener

    @contextlib.contextmanager
    def read(self, write: Callable[[bytes], bool], stall_seconds: float, after: str | None = None) -> Iterator[Reader]:
        """The same for a connection that is written to in place: `write` takes frames, or says that it is full."""
        self._tell_readers()  # what the others haven't read yet lies before this one's beginning
        reader = Reader(write, stall_seconds)
        if self._closed:
            reader.ended.set()
        reader.offer(b"".join(message.frame for message in self._since(after)), self.snapshot, self._now())
        with self._counted(reader, self._readers):
            yield reader

    @contextlib.contextmanager
    def _counted(self, one: Hearer, all_of_them: set[Hearer]) -> Iterator[None]:
        """It is among them, and whoever wants to know is told of the first and the last."""
        all_of_them.add(one)
        if self.listeners == 1:
            self.on_first()
        try:
            yield
        finally:
            all_of_them.discard(one)
            self._heard_until = self._now() + RESUME_SECONDS
            if not self.listeners:
                self.on_last()

    def _since(self, after: str | None) -> list[Message]:
        name, _, digits = (after or "").rpartition("-")
        if name == self._name and digits.isascii() and digits.isdigit() and len(digits) < 20:
            number = int(digits)
            if self._kept and self._kept[0].number <= number + 1 <= self._number + 1:
                return [message for message in self._kept if message.number > number]
        return [self.snapshot()]

    def close(self) -> None:
        """End every listener, and those to come."""
        self._closed = True
        self._tell_readers()
        for listener in self._listeners:
            listener.end()
        for reader in self._readers:
            reader.ended.set()
