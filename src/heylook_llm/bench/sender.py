"""A process that sends and stamps, nothing else: no prompt is made here, nothing parsed, stored or shown.

python -m heylook_llm.bench.sender    orders come on stdin, news go to stdout (`frames.py`); it ends with its stdin
"""

import asyncio
import contextlib
import gc
import logging
import os
import sys
import time
from collections import deque
from typing import Final

import aiohttp
import msgspec

from heylook_llm.bench import connection, frames
from heylook_llm.bench.connection import Held, Stamps
from heylook_llm.bench.frames import Begin, Ended, Item, Items, More, News, Pulse, Report, Stop, Window
from heylook_llm.bench.sample import Outcome
from heylook_llm.bench.timeline import Exchange

log = logging.getLogger(__name__)

AHEAD: Final = 64
"""Items that are asked for beyond those that clients can take at once."""
SPIN_NS: Final = 1_000_000
"""Loops keep alarms to a millisecond; for the rest a request that is due is waited for in turns of the loop."""
PULSE_SECONDS: Final = 0.5
ALARM_SECONDS: Final = 0.01
STALL_CHECK_SECONDS: Final = 0.5
MOST_IN_FLIGHT: Final = 8_192
"""What is due beyond that is dropped, and reported so."""


class Cell:
    """The requests of one cell, as they are sent."""

    def __init__(self, begin: Begin, http: aiohttp.ClientSession, tell: "Teller") -> None:
        self._begin = begin
        self._http = http
        self._tell = tell
        self._queue: deque[Item] = deque()
        self._last = False
        self._asked = 0
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._given_up: Outcome = "cut"
        self._flights: dict[asyncio.Task[None], Stamps] = {}
        self._held = Held(tell.unread)
        self._stalled: set[asyncio.Task[None]] = set()
        self._end = 0
        self._cooldown: int | None = None
        """Requests that are still sent behind the measured ones; None: those go on."""
        self._loop = asyncio.get_running_loop()
        self._alarms: list[asyncio.TimerHandle] = []

    def take(self, items: Items) -> None:
        """More to send. The next turn of a conversation waits for no one, where others are sent when planned."""
        for item in items.items:
            if self._begin.clients is None and item.due_ns is None and item.phase == "measure":
                if not self._stopping.is_set():
                    self._spawn(self._taken(item), time.monotonic_ns())
            else:
                self._queue.append(item)
        self._asked = max(0, self._asked - len(items.items))
        self._last |= items.last
        self._arrived.set()

    def stop(self, order: Stop) -> None:
        """Send no more; perhaps cut off what is in flight."""
        self._end = self._end or time.monotonic_ns()
        if order.now:
            self._given_up = "cancelled" if order.cancelled else "cut"
            self._cut()
        self._no_more()

    async def run(self) -> None:
        """Send all, wait for all, and say so."""
        clients = self._begin.clients
        watch = asyncio.create_task(self._watch())
        if self._begin.warmup:
            await self._closed(clients or 1, self._begin.warmup)
        start, self._end = time.monotonic_ns(), 0
        self._tell(Window(start))
        if self._begin.duration_seconds is not None:
            self._alarms.append(self._loop.call_later(self._begin.duration_seconds, self._cool))
        await (self._open(start) if clients is None else self._closed(clients, None))
        self.stop(Stop(now=False))
        while self._flights:
            await asyncio.wait(set(self._flights))
        for alarm in self._alarms:
            alarm.cancel()
        watch.cancel()
        self._tell(Ended(start, self._end))

    def _cool(self) -> None:
        """The measured part is over; what is sent from now on only keeps those in flight company."""
        self._end = self._end or time.monotonic_ns()
        self._cooldown = self._begin.cooldown if self._cooldown is None else self._cooldown
        if not self._cooldown:
            self.stop(Stop(now=False))

    async def _watch(self) -> None:
        """Give up answers that began and went silent."""
        limit = self._begin.stall_seconds
        while limit is not None:
            await asyncio.sleep(min(STALL_CHECK_SECONDS, limit / 4))
            silent = time.monotonic_ns() - int(limit * 1e9)
            for flight, stamps in self._flights.items():
                if stamps.tape and stamps.tape[-1][0] < silent:
                    self._stalled.add(flight)
                    flight.cancel()

    def _no_more(self) -> None:
        """Whoever waits for something to send hears that there is nothing; who is in flight has a while to land."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._arrived.set()
            self._alarms.append(self._loop.call_later(self._begin.drain_seconds, self._cut))

    def _cut(self) -> None:
        for flight in self._flights:
            flight.cancel()

    async def _closed(self, clients: int, count: int | None) -> None:
        """So many clients; each sends when its last answer has ended. `count`: only so many requests."""
        places = [count]
        await asyncio.gather(*(self._client(places) for _ in range(clients)))

    async def _client(self, places: list[int | None]) -> None:
        while True:
            free = time.monotonic_ns()
            if places[0] is not None:
                if places[0] <= 0:
                    return
                places[0] -= 1
            item = await self._next()
            if item is None:
                return
            await self._fly(self._taken(item), free)

    async def _open(self, start: int) -> None:
        """Each when it is due, whatever became of those before it."""
        while (item := await self._next()) is not None:
            due = start + (item.due_ns or 0)
            await self._until(due)
            if self._stopping.is_set():
                return
            item = self._taken(item)
            if len(self._flights) >= MOST_IN_FLIGHT:
                now = time.monotonic_ns()
                self._tell(Report(Exchange(item.ordinal, item.attempt, item.phase, "cut", "dropped", due, now, now)))
                continue
            self._spawn(item, due)

    async def _until(self, due: int) -> None:
        while not self._stopping.is_set() and (left := due - time.monotonic_ns()) > 0:
            if left > SPIN_NS:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), (left - SPIN_NS) / 1e9)
            else:
                await asyncio.sleep(0)

    def _spawn(self, item: Item, due: int) -> "asyncio.Task[None]":
        stamps = Stamps(self._held)
        flight = asyncio.create_task(self._one(item, due, stamps))
        self._flights[flight] = stamps
        flight.add_done_callback(self._landed)
        return flight

    def _landed(self, flight: "asyncio.Task[None]") -> None:
        self._held.bytes -= self._flights.pop(flight).received

    async def _fly(self, item: Item, due: int) -> None:
        await asyncio.wait([self._spawn(item, due)])

    async def _next(self) -> Item | None:
        """The next to send; None: there is none, or none is to be sent any more."""
        while not self._stopping.is_set():
            wanted = AHEAD + 2 * (self._begin.clients or AHEAD)
            if not self._last and len(self._queue) + self._asked < wanted // 2:
                self._asked += wanted
                self._tell(More(wanted))
            if self._queue:
                return self._queue.popleft()
            if self._last:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return None

    def _taken(self, item: Item) -> Item:
        """An item as it is sent now, in this turn of the loop: behind the measured part it is one of the cool-down."""
        if item.phase == "cooldown" and self._cooldown is None:
            self._cool()
        if self._cooldown is None:
            return item
        self._cooldown -= 1
        if self._cooldown <= 0:
            self._loop.call_soon(self.stop, Stop(now=False))  # once this one is sent
        return msgspec.structs.replace(item, phase="cooldown")

    async def _one(self, item: Item, due: int, stamps: Stamps) -> None:
        begin = self._begin
        headers = {**begin.headers, "X-Client-Request-Id": item.request_id}
        start = time.monotonic_ns()
        outcome: Outcome = "ok"
        problem: str | None = None
        try:
            async with asyncio.timeout(begin.timeout_seconds):
                outcome, problem = await connection.post(self._http, begin.url, headers, item.body, stamps)
        except TimeoutError:
            outcome, problem = "timeout", "total"
        except asyncio.CancelledError:  # by `_cut` or `_watch` alone: a request that was cut off is told, too
            if asyncio.current_task() in self._stalled:
                outcome, problem = "timeout", "stall"
            else:
                outcome, problem = self._given_up, "drain" if self._given_up == "cut" else "cancelled"
        except Exception:  # a request ends here, whatever happened to it
            log.exception("A request failed in the sender itself")
            outcome, problem = "error", "sender"
        now = time.monotonic_ns()
        end = stamps.tape[-1][0] if outcome == "ok" and stamps.tape else now
        self._tell(
            Report(
                Exchange(
                    *(item.ordinal, item.attempt, item.phase, outcome, problem, due, start, end),
                    *(stamps.dns, stamps.tcp, stamps.tls, stamps.sent, tuple(stamps.tape)),
                )
            )
        )


class Teller:
    """Writes news without waiting for whoever reads them; if nobody does any more, nobody is told."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def __call__(self, news: News) -> None:
        if not self._writer.transport.is_closing():
            self._writer.write(frames.packed(news))

    def unread(self) -> int:
        """Bytes of news that wait for their reader."""
        return self._writer.transport.get_write_buffer_size()


async def _pulse(tell: Teller) -> None:
    """How late this loop is at its own alarms, and what the process computes."""
    cpu, at, lags = time.process_time_ns(), time.monotonic_ns(), list[int]()
    while True:
        planned = time.monotonic_ns() + int(ALARM_SECONDS * 1e9)
        await asyncio.sleep(ALARM_SECONDS)
        now = time.monotonic_ns()
        lags.append(max(0, now - planned))
        if now - at >= PULSE_SECONDS * 1e9:
            used = time.process_time_ns()
            tell(Pulse(now, (used - cpu) / (now - at), max(lags), sum(lags) // len(lags)))
            cpu, at, lags = used, now, []


async def _pipes() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Our stdin and stdout; what anything prints goes to stderr."""
    loop = asyncio.get_running_loop()
    news = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, news)
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


async def main() -> None:
    """Carry out orders until there are no more."""
    reader, writer = await _pipes()
    tell = Teller(writer)
    http = connection.session()
    pulse = asyncio.create_task(_pulse(tell))
    cell: Cell | None = None
    running: asyncio.Task[None] | None = None
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection would hold stamps up; what a cell leaves is collected between cells
    while (body := await frames.read(reader)) is not None:
        match frames.orders.decode(body):
            case Begin() as begin:
                if running is not None:
                    await running
                gc.collect()
                cell = Cell(begin, http, tell)
                running = asyncio.create_task(cell.run())
            case Items() as items if cell is not None:
                cell.take(items)
            case Stop() as stop if cell is not None:
                cell.stop(stop)
            case _:
                pass  # of no cell: there is nothing to do
    pulse.cancel()
    if running is not None:
        running.cancel()
    await connection.close(http)


def _run() -> None:
    if sys.platform == "win32":
        asyncio.run(main())
        return
    import uvloop  # noqa: PLC0415 (not on Windows)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


if __name__ == "__main__":
    _run()
