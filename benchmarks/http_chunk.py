"""What a streamed chunk costs in each HTTP protocol of uvicorn, without the kernel: which one serves.

    python -m benchmarks.http_chunk [--chunks 20000] [--rounds 7]

An ASGI app sends chunks of 200 bytes through the protocol into a transport that throws them away. Printed: microseconds
of CPU per chunk, median over the rounds, for our bounded httptools, uvicorn's httptools, and h11.
"""

import argparse
import asyncio
import logging
import statistics
import time
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from heylook_llm.server.http import BoundedProtocol

CHUNK = b"x" * 200
REQUEST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


class Nowhere(asyncio.Transport):
    """A transport that throws away what is written."""

    def write(self, data: Any) -> None:
        """Nothing."""

    def is_closing(self) -> bool:
        """Never."""
        return False

    def abort(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


async def seconds_per_chunk(protocol: Any, chunks: int) -> float:
    """CPU seconds of one chunk."""
    ended = asyncio.Event()
    spent = 0.0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal spent
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        start = time.process_time()
        for _ in range(chunks):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        spent = time.process_time() - start
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        ended.set()

    config = Config(app, http=protocol, log_config=None, access_log=False, server_header=False, lifespan="off")
    config.load()
    connection = protocol(config=config, server_state=ServerState(), app_state={})
    connection.connection_made(Nowhere())
    connection.data_received(REQUEST)
    await ended.wait()
    return spent / chunks


def main() -> None:
    """Measure and print."""
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    for protocol in (BoundedProtocol, HttpToolsProtocol, H11Protocol):
        rounds = [asyncio.run(seconds_per_chunk(protocol, arguments.chunks)) for _ in range(arguments.rounds)]
        print(f"{protocol.__name__:20} {statistics.median(rounds) * 1e6:6.2f} µs of CPU per chunk")


if __name__ == "__main__":
    main()
