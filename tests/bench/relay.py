"""A relay between a client and a server: it passes bytes on, and holds requests up that ask for it."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

MARK = b"x-relay-delay: "


class Relay:
    """`held`: how long it held each such request up, in nanoseconds, by the clock."""

    def __init__(self, port: int) -> None:
        self.held: list[int] = []
        self.port = 0
        self._to = port

    async def serve(self, ready: threading.Event, ending: "asyncio.Future[None]") -> None:
        """Until it is to end."""
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await ending
        server.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if MARK in data:
                began = time.monotonic_ns()
                await asyncio.sleep(float(data.partition(MARK)[2].partition(b"\r\n")[0]))
                self.held.append(time.monotonic_ns() - began)
            writer.write(data)
        writer.close()


@contextlib.contextmanager
def relaying(port: int) -> Iterator[Relay]:
    """A relay to that port of this machine, in a thread of its own."""
    relay, ready = Relay(port), threading.Event()
    loop = asyncio.new_event_loop()
    ending: asyncio.Future[None] = loop.create_future()
    thread = threading.Thread(target=lambda: loop.run_until_complete(relay.serve(ready, ending)), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield relay
    finally:
        loop.call_soon_threadsafe(ending.set_result, None)
        thread.join(10)
        loop.close()
