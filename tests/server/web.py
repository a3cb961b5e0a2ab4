"""A web server of raw bytes on loopback: it says what a test scripted, and counts who connected."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Web:
    """A running server. `pages`: path -> what is sent; `requests`: the heads that came."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes | Say] = {}
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0
        self.left = asyncio.Event()
        """A client left before all was sent."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            path = head.split(b" ")[1].decode()
            page = self.pages.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nsecret")
            try:
                if isinstance(page, bytes):
                    writer.write(page)
                else:
                    await page(reader, writer)
                await writer.drain()
            except ConnectionError:
                self.left.set()
        writer.close()

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        """Where a page is."""
        return f"{scheme}://{host}:{self.port}{path}"


@contextlib.asynccontextmanager
async def web(host: str = "127.0.0.1", **pages: Any) -> AsyncIterator[Web]:
    """A server with these pages, at /NAME each."""
    made = Web()
    made.pages = {f"/{name}": page for name, page in pages.items() if name != "tls"}
    tls: ssl.SSLContext | None = pages.get("tls")
    server = await asyncio.start_server(made.answer, host, 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


def page(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole reply."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def moved(to: str, status: int = 302) -> bytes:
    """A redirect."""
    return page(b"", f"Location: {to}", status=f"{status} Found")


async def for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body without end."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    while True:
        writer.write(piece)
        await writer.drain()


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """No answer, until the client leaves."""
    await reader.read()
    raise ConnectionResetError


async def drop_by_drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then: the pace of a slow server."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)
