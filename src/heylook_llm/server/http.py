"""How bytes become requests: uvicorn's httptools protocol with the limits that it lacks, and uvicorn's settings.

httptools has no limit on a request's head or on chunk extensions, and uvicorn none on how slowly either may arrive.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from heylook_llm.server.generate import ABORT, FRAMES

log = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 64 << 10
"""Request line and headers, and all that isn't body in a chunked request."""
FRAMING_BYTES_PER_BODY_BYTE: Final = 16
"""A chunk of one byte takes six; more than this is padding."""
COUNT_REFUSAL: Final = "heylook.count_refusal"
"""Key of the app's lifespan state: what takes the code of a request that was refused here, which no app saw whole."""
COUNTED: Final = "heylook.counted"
"""Key of such a request's scope, where its head had come: the app need not count what it then raises."""
KEEP_ALIVE_SECONDS: Final = 75
USER_TIMEOUT_MILLISECONDS: Final = 30_000
"""How long the peer's machine may leave our bytes unacknowledged: a pulled cable."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Limits the head, the framing, and the time that each may take."""

    head_seconds: ClassVar[float] = 10.0
    body_idle_seconds: ClassVar[float] = 30.0
    linger_seconds: ClassVar[float] = 5.0
    """How long a body is still read after its answer was sent, so that the answer isn't lost to a reset."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        self._framing_bytes = 0
        self._in_body = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        _notice_dead_peers(transport)
        self._within(self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            self._head_bytes += len(data)
            if self._deadline is None:
                self._within(self.head_seconds)
        self._framing_bytes += len(data)
        super().data_received(data)
        if not self._in_body and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, "request_head_too_large", "The request's head is too large.")
        elif self._in_body and self._framing_bytes > MAX_HEAD_BYTES:
            self._refuse(400, "invalid_http", "The request's body is padded.")

    def send_400_response(self, msg: str) -> None:
        """Answer to what isn't HTTP."""
        self._count("invalid_http")
        super().send_400_response(msg)

    def handle_websocket_upgrade(self) -> None:
        self._relax()
        super().handle_websocket_upgrade()

    # ---- the parser's callbacks ----

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"call": self.transport.abort}}

    def on_headers_complete(self) -> None:
        self._in_body, self._head_bytes, self._framing_bytes = True, 0, 0
        self._use_absolute_form()
        if any(name == b"content-length" for name, _ in self.headers) and any(
            name == b"transfer-encoding" for name, _ in self.headers
        ):
            raise ValueError("content-length beside transfer-encoding")
        self._within(self.body_idle_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._framing_bytes -= len(body) * FRAMING_BYTES_PER_BODY_BYTE
        self._within(self.body_idle_seconds)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body, self._head_bytes, self._framing_bytes = False, 0, 0
        self._relax()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body:
            self._within(self.linger_seconds)

    def _use_absolute_form(self) -> None:
        """`GET http://name/path`: the name counts, not the Host header (RFC 9112, 3.2.2)."""
        if self.url.startswith(b"/") or b"://" not in self.url:
            return
        authority = self.url.split(b"://", 1)[1].partition(b"/")[0]
        self.headers[:] = [(name, authority if name == b"host" else value) for name, value in self.headers]

    # ---- time ----

    def _within(self, seconds: float) -> None:
        """What is being read must come within so long."""
        self._relax()
        self._deadline = self.loop.call_later(seconds, self._expire)

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self._in_body and self.cycle.response_started:
            self.transport.abort()
        elif self._in_body or self._head_bytes:
            self._refuse(408, "request_timeout", "The request took too long to arrive.")
        else:
            self.transport.close()

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer by ourselves, unless the app has begun to, and close; a request that is half read is dropped."""
        self._relax()
        self._count(code)
        cycle = self.cycle
        if cycle is None or not cycle.response_started or (cycle.response_complete and not self._in_body):
            body = message.encode()
            head = b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
            length = b"content-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + length + body)
        self.transport.close()

    def _count(self, code: str) -> None:
        """Count a refusal, unless the app has answered this request, and so knows of it."""
        cycle = self.cycle
        if self._in_body and cycle is not None and cycle.scope is self.scope:
            if cycle.response_started:
                return
            self.scope[COUNTED] = True  # type: ignore[typeddict-unknown-key]  # ours
        _count_refusal(self.app_state, code)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, which takes a refusal with a status and a body for a mistake of the app, and logs it as that.

    Who tells many sockets the same may write frames to them in place (FRAMES); `write` says whether they were taken.
    """

    async def run_asgi(self) -> None:
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[FRAMES] = {"write": self._write_frames, "abort": self.transport.abort}
        await super().run_asgi()

    def _write_frames(self, frames: bytes) -> bool:
        is_open = self.handshake_complete and not (self.close_sent or self.disconnected or self.transport.is_closing())
        if not is_open or not self.writable.is_set():
            return False
        self.transport.write(frames)
        return True

    def handle_ping(self) -> None:
        """Who reads nothing gets no pongs: they would pile up in our memory."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def keepalive_timeout(self) -> None:
        """Who answers no ping is dropped; to close politely would wait until it has read what is due."""
        super().keepalive_timeout()
        if not self.writable.is_set():
            self.transport.abort()

    def shutdown(self) -> None:
        """The server ends; who reads nothing doesn't keep it."""
        super().shutdown()
        if not self.writable.is_set():
            self.transport.abort()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            _count_refusal(self.app_state, "invalid_handshake")


def _count_refusal(state: dict[str, Any], code: str) -> None:
    count: Callable[[str], None] | None = state.get(COUNT_REFUSAL)
    if count is not None:
        count(code)


def _notice_dead_peers(transport: asyncio.Transport) -> None:
    """A peer that is gone without a word is noticed within half a minute."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MILLISECONDS)


def uvicorn_config(app: ASGIApp, host: str, port: int, **more: Any) -> uvicorn.Config:
    """uvicorn's settings for this server.

    No proxy headers: whoever could send them would choose what peer the guard sees. Access is logged by nobody yet.
    """
    settings: dict[str, Any] = {
        "http": BoundedProtocol,
        "loop": "auto",
        "lifespan": "on",
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
        "log_config": None,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "ws": WebSocketProtocol,
        "ws_max_size": 1 << 20,
        "ws_ping_interval": 20.0,
        "ws_ping_timeout": 20.0,
    }
    return uvicorn.Config(app, host=host, port=port, **(settings | more))
