"""The live feed over HTTP (an event stream) and over WebSocket."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from heylook_llm.errors import Cancelled, Overloaded
from heylook_llm.server.endpoint import Server
from heylook_llm.server.generate import ABORT, FRAMES, while_connected
from heylook_llm.server.performance.live import PACE_SECONDS, Feed, Listener, Reader

QUIET_SECONDS: Final = 15.0
"""After so long without a message a comment is sent, so that proxies keep the connection."""
GOING_AWAY: Final = 1001
TRY_LATER: Final = 1013


class EventStream(Response):
    """The feed as server-sent events, until the client leaves, reads nothing for too long, or the server ends."""

    def __init__(self, feed: Feed, after: str | None, stall_seconds: float) -> None:
        self.background = None  # what FastAPI reads of a Response
        self._feed = feed
        self._after = after
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell what happens."""
        abort = scope.get("extensions", {}).get(ABORT, {}).get("call")
        try:
            with self._feed.listen(self._after) as listener, contextlib.suppress(Cancelled):
                await while_connected(receive, self._tell(listener, send))
        except TimeoutError:  # it reads nothing: its connection is dropped
            if abort is not None:
                abort()

    async def _tell(self, listener: Listener, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        headers.append((b"x-accel-buffering", b"no"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while (body := await _next(listener)) is not None:
            async with asyncio.timeout(self._stall_seconds):
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(PACE_SECONDS)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _next(listener: Listener) -> bytes | None:
    """The next events, or a comment after a while without one; None: there are no more."""
    try:
        async with asyncio.timeout(QUIET_SECONDS):
            messages = await listener.some()
    except TimeoutError:
        return b": nothing happened\n\n"
    return b"".join(message.event for message in messages) if messages else None


async def stream_performance(server: Server, request: Request) -> Response:
    """What happens now, as server-sent events: requests, models, and a sample each second.

    The first event is a snapshot, unless `Last-Event-ID` (or `after`) names an event from which all is still kept.
    """
    server.place.live.admit()
    return EventStream(server.place.live, _after(request), server.options.pace.stall_seconds)


async def follow_performance(server: Server, socket: WebSocket) -> None:
    """The same over WebSocket, each message a JSON text. What the client sends is ignored."""
    try:
        server.place.live.admit()
    except Overloaded:
        await socket.close(TRY_LATER)
        return
    await socket.accept()
    feed, stall_seconds = server.place.live, server.options.pace.stall_seconds
    direct = socket.scope.get("extensions", {}).get(FRAMES)
    if direct is None:  # another HTTP server than ours
        with feed.listen(_after(socket)) as listener:
            await _until_either_ends(socket, _send(socket, listener, stall_seconds))
        return
    with feed.read(direct["write"], stall_seconds, _after(socket)) as reader:
        await _until_either_ends(socket, _ended(reader, direct["abort"]))


async def _ended(reader: Reader, abort: Callable[[], None]) -> None:
    """Until there is no more to tell. One that stalled is dropped at once: to close it would wait for its reading."""
    await reader.ended.wait()
    if reader.stalled:
        abort()


async def _until_either_ends(socket: WebSocket, telling: Coroutine[Any, Any, Any]) -> None:
    """Until there is no more to tell, or the client leaves."""
    sending = asyncio.create_task(telling)
    reading = asyncio.create_task(_read(socket))
    done, pending = await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*done, *pending, return_exceptions=True)
    if reading not in done:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it has left meanwhile
            await socket.close(GOING_AWAY)


async def _send(socket: WebSocket, listener: Listener, stall_seconds: float) -> None:
    while messages := await listener.some():
        async with asyncio.timeout(stall_seconds):
            for message in messages:
                await socket.send_text(message.text)
        await asyncio.sleep(PACE_SECONDS)


async def _read(socket: WebSocket) -> None:
    """Until it leaves."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _after(connection: HTTPConnection) -> str | None:
    return connection.headers.get("last-event-id") or connection.query_params.get("after")
