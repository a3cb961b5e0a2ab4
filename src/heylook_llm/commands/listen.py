"""Listen on the sockets, run the app on them, and end it in order when a signal comes."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import uvicorn

from heylook_llm.errors import HeylookError

log = logging.getLogger(__name__)

BACKLOG: Final = 2048
OPEN_FILES_WANTED: Final = 65536
AFTER_DRAIN_SECONDS: Final = 2
"""How long connections may take to close once every request has ended."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class PortBusy(HeylookError):
    """The address can't be listened on."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortBusy with one line that says what to do."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise PortBusy(f"--host {host}: {error.strerror or error}") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise PortBusy(_busy_text(host, port, error)) from error
    listener.setblocking(False)
    return listener


def _busy_text(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; stop what listens there, or choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights; choose one from 1024 with --port"
    return f"can't listen on {host} port {port}: {error.strerror or error}"


def bind_unix(path: Path) -> socket.socket:
    """A listening Unix socket that only this user may connect to. A dead server's leftover is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if path.is_socket():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise PortBusy(f"a server listens on {path} already")
        path.unlink()
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise PortBusy(f"can't listen on {path}: {error.strerror or error}") from error
    finally:
        os.umask(mask)
    listener.setblocking(False)
    return listener


def raise_open_files() -> None:
    """Each connection takes a descriptor; many systems begin with 256 or 1024."""
    import resource  # noqa: PLC0415 (not on every system)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_WANTED if hard < 0 else min(OPEN_FILES_WANTED, hard)
    if 0 <= soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Listener(uvicorn.Server):
    """uvicorn that drains before it closes: until `drain` returns, new requests are still answered (with 503)."""

    def __init__(
        self, settings: uvicorn.Config, drain: Callable[[], Awaitable[None]], started: Callable[[], None]
    ) -> None:
        super().__init__(settings)
        self._drain = drain
        self._announce = started
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell the user once requests are answered."""
        await super().startup(sockets)
        if not self.should_exit:
            self._announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Our order instead of uvicorn's, which ends by the signal itself and not with exit status 0."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _signalled(self, number: int) -> None:
        if self._draining is not None:
            log.warning("%s again: ending now", signal.Signals(number).name)
            logging.shutdown()
            os._exit(1)  # workers see their standard input end, and end too
        log.info("%s: ending the requests in flight, then the server", signal.Signals(number).name)
        self._draining = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        try:
            await self._drain()
        finally:
            self.should_exit = True
