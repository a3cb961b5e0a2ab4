"""A POST over a WebSocket of the same path: browsers open six connections to an origin, which six streams would take.

The client sends the body in messages, then an empty one; what comes back is a JSON text with `status` and `headers`,
then the answer's body as texts, and the end. The request goes the one way of every request, through the whole app.
"""

import asyncio
import codecs
import contextlib
from typing import Any, Final

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from heylook_llm.server.endpoint import Server
from heylook_llm.server.generate import ABORT, FRAMES
from heylook_llm.server.guard import key_of_socket
from heylook_llm.server.wire import jsontext

PATHS: Final = ("/v1/chat/completions", "/api/pull")
"""What the web pages stream."""
BODY_SECONDS: Final = 30.0
"""In which each piece of the body must come."""


async def carry(server: Server, socket: WebSocket) -> None:
    """Answer one request."""
    await socket.accept()
    app = server.inward.app
    assert app is not None, "the app is composed before it answers"
    carrying = _Carrying(socket)
    try:
        await app(_scope(socket), carrying.receive, carrying.send)
    except Exception:  # the framework answers with a 500, logs why, and raises it once more
        if not carrying.begun:
            raise
    await carrying.end()


def _scope(socket: WebSocket) -> dict[str, Any]:
    """The request's scope: the socket's, with the headers that are not of the socket itself."""
    headers = [(name, value) for name, value in socket.scope["headers"] if name not in _OF_SOCKETS]
    key = key_of_socket(socket.scope["subprotocols"])
    if key is not None:
        headers.append((b"authorization", b"Bearer " + key.encode("latin-1", "replace")))
    abort = socket.scope["extensions"].get(FRAMES, {}).get("abort")
    return {
        **{name: socket.scope[name] for name in _ALIKE},
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": "POST",
        "scheme": "https" if socket.scope["scheme"] == "wss" else "http",
        "headers": [*headers, (b"content-type", b"application/json")],
        "extensions": {} if abort is None else {ABORT: {"call": abort}},
        "state": dict(socket.scope.get("state", {})),
    }


_ALIKE: Final = ("http_version", "path", "raw_path", "query_string", "root_path", "client", "server")
_OF_SOCKETS: Final = frozenset(
    {
        *(b"connection", b"upgrade", b"content-type", b"content-length", b"transfer-encoding", b"content-encoding"),
        *(b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-protocol", b"sec-websocket-extensions"),
    }
)


class _Carrying:
    """The request's body on the way in, its answer on the way out."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._is_whole = False
        self._has_left = False
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self.begun = False
        """The client was told a status."""

    async def receive(self) -> Message:
        """The next piece of the body, then nothing until the client leaves."""
        while not self._has_left:
            message = await self._next()
            if message["type"] == "websocket.disconnect":
                self._has_left = True
            elif not self._is_whole:
                piece = message.get("bytes") or (message.get("text") or "").encode()
                self._is_whole = not piece
                return {"type": "http.request", "body": piece, "more_body": bool(piece)}
        return {"type": "http.disconnect"}

    async def _next(self) -> Message:
        if self._is_whole:
            return await self._socket.receive()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._socket.receive()
        except TimeoutError:
            return {"type": "websocket.disconnect"}

    async def send(self, message: Message) -> None:
        """Pass the answer on; who has left is told nothing."""
        if message["type"] == "http.response.start":
            self.begun = True
            headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
            text = jsontext.encode({"status": message["status"], "headers": headers}).decode()
        else:
            is_last = not message.get("more_body", False)
            text = self._text.decode(message.get("body", b""), final=is_last)
        if text:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await self._socket.send_text(text)

    async def end(self) -> None:
        """The answer is whole, or never will be."""
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._socket.close()
