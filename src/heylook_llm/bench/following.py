"""The log of all runs, followed: what anybody's process writes into it comes to whoever listens, in its order.

One reader looks for news, while somebody listens; each message is made once for all. A listener that reads too slowly
is let go: the log has everything, and it may come back with the number of the last message that it read.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

from heylook_llm.bench.sample import Occurrence
from heylook_llm.bench.store import Store
from heylook_llm.errors import Overloaded

LOOK_SECONDS: Final = 0.2
MOST_WAITING: Final = 1024
MOST_LISTENERS: Final = 512

Answer = TypeVar("Answer")


class Message(NamedTuple):
    """One event, in the bytes of both ways to listen."""

    seq: int
    run_id: str
    text: str
    """JSON: what a WebSocket sends."""
    event: bytes
    """The same as an event of an event stream."""


class Listener:
    """Who listens: to one run, or to all."""

    def __init__(self, run_id: str | None) -> None:
        self._run_id = run_id
        self._after = 0
        self._unread: deque[Message] = deque()
        self._held: list[Message] | None = []
        """What comes while the past is still being read."""
        self._news = asyncio.Event()
        self._over = False

    def begin(self, past: Iterable[Message], after: int) -> None:
        """What was before comes first, however much; then what came meanwhile."""
        self._after = after
        for message in past:
            self._after = message.seq
            self._unread.append(message)
        held, self._held = self._held or [], None
        for message in held:
            self.offer(message)
        if self._unread:
            self._news.set()

    def offer(self, message: Message) -> None:
        """Take a message, if it is wanted and new; too many unread ones end it."""
        if self._over:
            return
        if self._held is not None:
            self._held.append(message)
        elif message.seq > self._after and self._run_id in (None, message.run_id):
            self._after = message.seq
            self._unread.append(message)
            self._over |= len(self._unread) > MOST_WAITING
            self._news.set()

    def end(self) -> None:
        """There will be no more."""
        self._over = True
        self._news.set()

    async def next(self) -> Message | None:
        """The next; None: there will be none."""
        await self._news.wait()
        if self._over:
            return None
        message = self._unread.popleft()
        if not self._unread:
            self._news.clear()
        return message


class Following:
    """Follows the log of one store. Everything is called on the event loop's thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listeners: set[Listener] = set()
        self._reading: asyncio.Task[None] | None = None
        self._at = asyncio.Event()
        """Set once the reader knows from where on it reads."""
        self._closed = False

    def admit(self) -> None:
        """Raises Overloaded where as many listen as may."""
        if len(self._listeners) >= MOST_LISTENERS:
            raise Overloaded(f"{MOST_LISTENERS} listen already.", retry_after_seconds=10.0)

    @contextlib.asynccontextmanager
    async def listen(self, run_id: str | None, after: int | None) -> AsyncIterator[Listener]:
        """A listener to what came after an event; None: of a run everything, of all runs what comes from now on.

        Of progress in the past only the last of each run is told.
        """
        listener = Listener(run_id)
        self._listeners.add(listener)
        try:
            await self._begin(listener, run_id, after)
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._reading is not None:
                self._reading.cancel()
                self._reading = None
                self._at.clear()

    async def _begin(self, listener: Listener, run_id: str | None, after: int | None) -> None:
        """Give it the past. The reader goes on meanwhile, from a place before the past's end: nothing is left out."""
        if self._closed:
            listener.end()
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        reading, ready = self._reading, asyncio.ensure_future(self._at.wait())
        await asyncio.wait({ready, reading}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():  # the store can't be read
            ready.cancel()
            reading.result()

        def past(store: Store) -> tuple[list[Occurrence], int]:
            if run_id is not None:
                return store.events(run_id, after or 0), after or 0
            start = store.last_event() if after is None else after
            return store.happened(start), start

        found, start = await asyncio.to_thread(_with, self._path, past)
        listener.begin(map(_message, _abridged(found)), start)

    async def _read(self) -> None:
        """Look for news in a thread that keeps the file open."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "bench-events") as thread:
            store = await loop.run_in_executor(thread, Store, self._path)
            try:
                at = await loop.run_in_executor(thread, store.last_event)
                self._at.set()
                while True:
                    await asyncio.sleep(LOOK_SECONDS)
                    news = await loop.run_in_executor(thread, store.happened, at)
                    at = news[-1].seq if news else at
                    for message in map(_message, news):
                        for listener in tuple(self._listeners):
                            listener.offer(message)
            finally:
                thread.submit(store.close)
                if self._reading is asyncio.current_task():  # else all who listened have left: whoever is there is new
                    self._reading = None
                    self._at.clear()
                    for listener in self._listeners:
                        listener.end()

    def close(self) -> None:
        """End every listener, and those to come."""
        self._closed = True
        for listener in self._listeners:
            listener.end()


def _with(path: Path, ask: Callable[[Store], Answer]) -> Answer:
    with Store(path) as store:
        return ask(store)


def _abridged(events: Sequence[Occurrence]) -> list[Occurrence]:
    """Without progress that a later one of the same run says better."""
    last = {event.run_id: event.seq for event in events if event.type == "progress"}
    return [event for event in events if event.type != "progress" or last[event.run_id] == event.seq]


def _message(event: Occurrence) -> Message:
    told = {"type": event.type, "id": str(event.seq), "run_id": event.run_id, "at": event.wall}
    data = msgspec.json.encode({**told, **msgspec.json.decode(event.data_json.encode())})
    head = f"id: {event.seq}\nevent: {event.type}\ndata: ".encode()
    return Message(event.seq, event.run_id, data.decode(), head + data + b"\n\n")
