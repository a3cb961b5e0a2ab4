"""Fetches what a URL of a request names: the only place where the server connects to where a stranger says.

Of each URL the host is resolved once, all that it resolves to is checked, and exactly that is connected to; a redirect
is a new URL. Whatever goes wrong is one text to the client, so that nothing can be learned about what lies behind this
machine; the log says what it was.
"""

import asyncio
import concurrent.futures
import contextlib
import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import httpcore2

from heylook_llm import hardware
from heylook_llm.errors import BadRequest, Overloaded, UnsupportedFeature
from heylook_llm.server import media_url
from heylook_llm.server.media_url import Address, Url

log = logging.getLogger(__name__)

MAX_BYTES: Final = 20 << 20
SECONDS: Final = 10.0
"""For all of it: the name, every redirect, the last byte."""
REDIRECTS: Final = 3
FETCHES: Final = 8
"""At a time: each may hold MAX_BYTES."""
LOOKUPS: Final = 8
"""At a time: one that doesn't answer holds a thread longer than its request waits."""
ADDRESSES: Final = 4
"""Of one host, tried one after the other."""
FAILED: Final = (
    "The image can't be fetched: its URL must lead to a public web server which sends it, at most "
    f"{MAX_BYTES >> 20} MiB, within {SECONDS:.0f} seconds."
)
_HEADERS: Final = (("User-Agent", "heylookllm"), ("Accept", "image/*"), ("Accept-Encoding", "identity"))
_REDIRECTING: Final = (301, 302, 303, 307, 308)

_FAILURES: Final = (
    OSError,
    ValueError,
    TimeoutError,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    httpcore2.UnsupportedProtocol,
)

Resolve = Callable[..., list[tuple[Any, ...]]]
"""As socket.getaddrinfo."""


@dataclass(frozen=True, slots=True)
class MediaOptions:
    """What the operator allows."""

    urls: Literal["public", "listed", "off"] = "public"
    """--media-urls: any public host, only those of `allow_hosts`, or none."""
    allow_hosts: tuple[str, ...] = ()
    """--allow-media-host: hosts that are fetched from wherever they are; `*.example.com` is those below it."""


class _Refused(Exception):
    """What the log says of a fetch that failed."""


class Fetcher:
    """Fetches, so many at a time."""

    def __init__(
        self,
        options: MediaOptions | None = None,
        *,
        getaddrinfo: Resolve = socket.getaddrinfo,
        own_addresses: Callable[[], frozenset[str]] = hardware.own_addresses,
        trust: ssl.SSLContext | None = None,
        seconds: float = SECONDS,
    ) -> None:
        """`trust`: whose certificates count; None: those that this machine trusts."""
        self._options = options or MediaOptions()
        self._lookups = _Lookups(getaddrinfo)
        self._own_addresses = own_addresses
        self._trust = trust
        self._seconds = seconds
        self._places = asyncio.Semaphore(FETCHES)

    def check(self, text: str) -> Url:
        """The URL of a text, before anything is fetched. Raises BadRequest, UnsupportedFeature."""
        if self._options.urls == "off":
            raise UnsupportedFeature("Images are not fetched from URLs here: send the image as a base64 data URL.")
        return media_url.parse(text)

    async def fetch(self, url: Url) -> bytes:
        """What it names. Raises BadRequest with one text for whatever went wrong, Overloaded."""
        async with self._place():
            try:
                async with asyncio.timeout(self._seconds):
                    return await self._followed(url)
            except (_Refused, BadRequest, *_FAILURES) as error:
                log.info("image of %s not fetched: %s", url.host, error or type(error).__name__)
                raise BadRequest(FAILED, code="media_fetch_failed") from error

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self._places.acquire(), self._seconds)
        except TimeoutError as error:
            raise Overloaded("Too many images are being fetched; try again later.") from error
        try:
            yield
        finally:
            self._places.release()

    async def _followed(self, url: Url) -> bytes:
        for _ in range(REDIRECTS + 1):
            found = await self._once(url)
            if isinstance(found, bytes):
                return found
            url = media_url.follow(url, found)
        raise _Refused(f"more than {REDIRECTS} redirects")

    async def _once(self, url: Url) -> bytes | str:
        """What it names, or where it redirects to."""
        backend = _Pinned(await self._addresses(url))
        origin = httpcore2.Origin(url.scheme.encode(), url.host.encode(), url.port)
        target = httpcore2.URL(
            scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=url.target.encode()
        )
        request = httpcore2.Request("GET", target, headers=[("Host", url.authority), *_HEADERS])
        trust = await self._trusted() if url.scheme == "https" else None
        connection = httpcore2.AsyncHTTPConnection(origin, ssl_context=trust, network_backend=backend)
        try:
            return await _answer(await connection.handle_async_request(request))
        finally:
            await connection.aclose()

    async def _trusted(self) -> ssl.SSLContext:
        """Read once, in a thread: a machine's certificates take some time."""
        if self._trust is None:
            self._trust = await asyncio.to_thread(httpcore2.default_ssl_context)
        return self._trust

    # ---- where to ----

    async def _addresses(self, url: Url) -> list[Address]:
        """Where the host may be connected to: all that it resolves to is public, or the operator lists it."""
        listed = media_url.is_listed(url.host, self._options.allow_hosts)
        if not listed:
            self._check_name(url)
        addresses = [url.address] if url.address is not None else await self._lookups.ask(url.host, url.port)
        if not addresses:
            raise _Refused("the host has no address")
        if not listed:
            self._check_addresses(addresses)
        return list(dict.fromkeys(addresses))[:ADDRESSES]

    def _check_name(self, url: Url) -> None:
        if self._options.urls != "public":
            raise _Refused("the host isn't listed by --allow-media-host")
        if media_url.is_private_name(url.host):
            raise _Refused("the host's name is a private one; to allow it, start with --allow-media-host")
        if not media_url.is_public_port(url):
            raise _Refused(f"port {url.port} isn't a web server's")

    def _check_addresses(self, addresses: Iterable[Address]) -> None:
        own = self._own_addresses()
        for address in addresses:
            if not media_url.is_public(address) or str(address) in own:
                raise _Refused("the host isn't public; to allow it, start with --allow-media-host")


async def _answer(response: httpcore2.Response) -> bytes | str:
    headers = {name.lower(): value for name, value in response.headers}
    if response.status in _REDIRECTING:
        return _location(headers.get(b"location", b""))
    if response.status != 200:
        raise _Refused(f"status {response.status}")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise _Refused("it is packed")
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > MAX_BYTES:
        raise _Refused("it is too large")
    found = bytearray()
    async for piece in response.aiter_stream():
        found += piece
        if len(found) > MAX_BYTES:
            raise _Refused("it is too large")
    return bytes(found)


def _location(given: bytes) -> str:
    try:
        return given.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Refused("its redirect is no text") from error


class _Pinned(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that were checked, whatever the host is called."""

    def __init__(self, addresses: list[Address]) -> None:
        self._addresses = addresses
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the library's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to the first address that takes it."""
        *others, last = self._addresses
        for address in others:
            try:
                return await self._network.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except httpcore2.ConnectError:
                log.debug("%s doesn't answer", address)
        return await self._network.connect_tcp(str(last), port, timeout, local_address, socket_options)


class _Lookups:
    """Names to addresses, each in a thread of its own: a resolver can't be interrupted, and ours must not run out."""

    def __init__(self, getaddrinfo: Resolve) -> None:
        self._getaddrinfo = getaddrinfo
        self._places = asyncio.Semaphore(LOOKUPS)

    async def ask(self, host: str, port: int) -> list[Address]:
        """The host's addresses. Raises OSError, ValueError."""
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        answer: concurrent.futures.Future[list[Address]] = concurrent.futures.Future()
        answer.set_running_or_notify_cancel()  # so that whoever stops waiting doesn't spoil it

        def look_up() -> None:
            try:
                found = self._getaddrinfo(host, port, type=socket.SOCK_STREAM)
                answer.set_result([ipaddress.ip_address(info[4][0]) for info in found])
            except (OSError, ValueError) as error:
                answer.set_exception(error)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._places.release)

        threading.Thread(target=look_up, name="look-up", daemon=True).start()
        return await asyncio.wrap_future(answer)
