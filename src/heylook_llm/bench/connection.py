"""HTTP that takes stamps: aiohttp with a protocol and a connector of our own.

A stamp of what was received is taken in `data_received`, before a byte is parsed and before any task wakes up. aiohttp
tells of no TLS handshake and of nothing while a stream goes on, so the phases of connecting are stamped in the
connector, and what was sent is stamped once the transport has it. This overrides members that aiohttp doesn't promise
to keep; pyproject.toml names the versions that have them.
"""

import asyncio
import contextlib
import contextvars
import functools
import select
import ssl
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import aiohappyeyeballs
import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection

from heylook_llm.bench.sample import Outcome

MOST_BYTES: Final = 32 << 20
"""Of one answer; a target that sends more is cut off. aiohttp reads on until then, though nobody takes what it parsed:
we take all from the tape, at the end."""
MOST_HELD: Final = 256 << 20
"""Of all answers together that were received and not yet handed on; beyond it, those that are long are cut off."""
LEAST_BYTES: Final = 128 << 10
"""Of a long one."""
KEPT_PIECES: Final = 16
"""Of an answer that was too long: its beginning."""
SOON_SECONDS: Final = 0.5
"""A server whose connection ends so soon behind an answer didn't lose patience: it keeps none."""


class Held:
    """The bytes that are held of answers; `unread` tells of those that nobody has taken yet."""

    __slots__ = ("bytes", "unread")

    def __init__(self, unread: Callable[[], int]) -> None:
        self.bytes = 0
        self.unread = unread

    def too_many(self) -> bool:
        """Whether long answers are to be cut off."""
        return self.bytes + self.unread() > MOST_HELD


class Stamps:
    """What becomes known of one request while it goes on."""

    __slots__ = ("body", "dns", "flooded", "held", "received", "sent", "tape", "tcp", "tls")

    def __init__(self, held: Held) -> None:
        self.held = held
        self.body = b""
        self.dns: int | None = None
        self.tcp: int | None = None
        self.tls: int | None = None
        self.sent: int | None = None
        self.tape: list[tuple[int, bytes]] = []
        self.received = 0
        self.flooded = False


_current: contextvars.ContextVar[Stamps] = contextvars.ContextVar("stamps")


class _Transport:
    """A transport that notes when it is given something to send: before, so the other side can't have it earlier.

    A body goes out with its head, at once. aiohttp writes bodies in a task of their own, so of requests that begin
    together each would wait until all others had begun.
    """

    __slots__ = ("_protocol", "_transport", "body")

    def __init__(self, transport: asyncio.Transport, protocol: "StampingProtocol") -> None:
        self._transport = transport
        self._protocol = protocol
        self.body = b""
        """What goes behind the next bytes."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """As a transport's."""
        body, self.body = self.body, b""
        self._stamp()
        self._transport.write(bytes(data) + body if body else data)

    def writelines(self, data: Iterable[bytes | bytearray | memoryview]) -> None:
        """As a transport's."""
        self._stamp()
        self._transport.writelines(data)

    def _stamp(self) -> None:
        if self._protocol.stamps is not None:
            self._protocol.stamps.sent = time.monotonic_ns()


class StampingProtocol(ResponseHandler):
    """One connection; `stamps` are those of the request that has it now."""

    stamps: Stamps | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As a protocol's."""
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, _Transport(cast(asyncio.Transport, transport), self))

    def is_connected(self) -> bool:
        """Whether it can carry another request: only asked of connections that wait for one.

        Its end lies in the socket before the loop hears of it, and whatever is to be read where nothing was asked
        makes it unusable.
        """
        return super().is_connected() and not _readable(cast(Any, self.transport).get_extra_info("socket").fileno())

    def data_received(self, data: bytes) -> None:
        """As a protocol's."""
        now = time.monotonic_ns()
        stamps = self.stamps
        if stamps is None and data:  # nothing was asked: whatever it is, nobody would ever take it
            self.abort()
            return
        if stamps is not None and data:
            stamps.tape.append((now, bytes(data)))
            stamps.received += len(data)
            stamps.held.bytes += len(data)
            if stamps.received > LEAST_BYTES and (stamps.received > MOST_BYTES or stamps.held.too_many()):
                stamps.flooded = True
                del stamps.tape[KEPT_PIECES:]
                self.abort()
                return
        super().data_received(data)


class StampingConnector(aiohttp.TCPConnector):
    """Opens connections in phases that are stamped, and gives each to one request at a time."""

    def __init__(self) -> None:
        super().__init__(limit=0, ttl_dns_cache=None)
        self._closers: set[ConnectionKey] = set()
        """Servers that were seen to close a connection behind an answer that promised to keep it, as llama-server does
        behind a stream. A request on the next would race with its end, so each opens its own."""
        self._factory = cast(Any, functools.partial(StampingProtocol, loop=self._loop))

    async def connect(self, req: ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout) -> Connection:  # noqa: ASYNC109 (its)
        """As a connector's."""
        connection = await super().connect(req, traces, timeout)
        protocol, stamps = cast(StampingProtocol, connection.protocol), _current.get()
        protocol.stamps = stamps
        if isinstance(protocol.transport, _Transport):  # else it was lost meanwhile, which sending finds out
            protocol.transport.body = stamps.body
        return connection

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        """Its answer has ended: what comes from now on is of nobody."""
        cast(StampingProtocol, protocol).stamps = None
        super()._release(key, protocol, should_close=should_close)

    async def _get(self, key: ConnectionKey, traces: list[Any]) -> Connection | None:
        """A kept connection; None: none can be used."""
        kept = self._conns.get(key)
        while kept and not kept[0][0].is_connected():
            protocol, since = kept.popleft()
            protocol.close()
            if time.monotonic() - since < SOON_SECONDS:
                self._closers.add(key)
        return None if key in self._closers else await super()._get(key, traces)

    async def _resolve_host(self, host: str, port: int, traces: Any = None) -> Any:
        found = await super()._resolve_host(host, port, traces)
        _current.get().dns = time.monotonic_ns()
        return found

    async def _wrap_create_connection(
        self,
        *args: Any,
        addr_infos: Any,
        req: ClientRequest,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 (its)
        client_error: type[Exception] = aiohttp.ClientConnectorError,
        **kwargs: Any,
    ) -> Any:
        stamps = _current.get()
        try:
            sock = await aiohappyeyeballs.start_connection(addr_infos=addr_infos, loop=self._loop)
            stamps.tcp = time.monotonic_ns()
            made = await self._loop.create_connection(*args, **kwargs, sock=sock)
        except OSError as error:
            raise client_error(req.connection_key, error) from error
        if kwargs.get("ssl"):
            stamps.tls = time.monotonic_ns()
        return made


def _readable(socket: int) -> bool:
    """Whether a socket has bytes or its end to be read, now."""
    if sys.platform == "win32":
        return bool(select.select([socket], [], [], 0)[0])
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return bool(poll.poll(0))


def session() -> aiohttp.ClientSession:
    """A session over such connections. It follows no redirect: a key goes nowhere else."""
    return aiohttp.ClientSession(
        connector=StampingConnector(),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=MOST_BYTES,
        timeout=aiohttp.ClientTimeout(),
        skip_auto_headers=("User-Agent", "Accept-Encoding"),
        max_line_size=1 << 16,
        max_field_size=1 << 16,
    )


async def post(
    http: aiohttp.ClientSession, url: str, headers: dict[str, str], body: bytes, stamps: Stamps
) -> tuple[Outcome, str | None]:
    """Send one request and wait until its answer has ended; how the transport did, and what went wrong.

    Nothing is sent a second time. Cancelling it drops the connection.
    """
    stamps.body = body
    mark = _current.set(stamps)
    sized = {**headers, "Content-Length": str(len(body))}
    try:
        async with http.post(url, headers=sized, allow_redirects=False) as response:
            if (problem := response.content.exception()) is not None:
                raise problem
            await response.content.wait_eof()
    except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
        return "error", "flood" if stamps.flooded else _named(error)
    finally:
        _current.reset(mark)
    return ("error", "flood") if stamps.flooded else ("ok", None)  # one without a length ends as we drop it


def _named(error: BaseException) -> str:
    """What went wrong, in one word."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "dns"
        case aiohttp.ClientConnectorError():
            return "tls" if isinstance(error.os_error, ssl.SSLError) else "connect"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "disconnected"
        case ConnectionResetError() | BrokenPipeError() | aiohttp.ClientOSError():
            return "reset"
        case _:
            return "protocol"


async def close(http: aiohttp.ClientSession) -> None:
    """Close a session, whatever its connections are at."""
    with contextlib.suppress(aiohttp.ClientError, OSError):
        await http.close()
