"""What open dashboards cost: 8 streams of the tiny model beside 500 WebSockets of the live feed, and beside none.

    python -m benchmarks.live_sockets [--sockets 500] [--streams 8] [--tokens 64] [--requests 20] [--rounds 9]

A server in a process of its own answers `--streams` clients, each with `--requests` requests one after another. In
turns `--sockets` WebSockets are open meanwhile, held by a process that reads what comes and does nothing with it.
Printed: the mean over the rounds of the ratio of tokens/s (with / without), of the CPU per token that server and worker
take more, and of how much came over one socket in a second, each with its 95 % interval. Goal: a ratio of at least
0.95. The sockets' holder takes time of the same cores, which on a small machine is part of the ratio. Nothing else
should run beside it.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.serving import Running, running

from benchmarks.recording import measured, told
from benchmarks.serve_overhead import MODELS

HANDSHAKE = (
    "GET /v1/performance/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Dashboard(asyncio.Protocol):
    """One socket that is read, and nothing more. It never answers pings, which a round is too short to need."""

    def __init__(self) -> None:
        self.bytes = 0
        self.is_open = True
        self.begun = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the feed."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(HANDSHAKE.encode())

    def data_received(self, data: bytes) -> None:
        """Count it."""
        if not self.begun.done():
            assert data.startswith(b"HTTP/1.1 101"), data[:200]
            self.begun.set_result(None)
        self.bytes += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """It costs nothing any more."""
        self.is_open = False


async def hold(port: int, count: int) -> None:
    """Open the sockets, say so, read until a line comes; then print the bytes that came over one in a second."""
    loop = asyncio.get_running_loop()
    held = [(await loop.create_connection(Dashboard, "127.0.0.1", port))[1] for _ in range(count)]
    await asyncio.gather(*(one.begun for one in held))
    start = time.monotonic()
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    lost = sum(not one.is_open for one in held)
    assert not lost, f"{lost} of {count} sockets were closed meanwhile"
    print(sum(one.bytes for one in held) / count / (time.monotonic() - start), flush=True)


@contextmanager
def dashboards(server: Running, count: int, rates: list[float]) -> Iterator[None]:
    """So many sockets are open meanwhile."""
    command = [sys.executable, "-m", "benchmarks.live_sockets", "--hold", str(server.port), "--sockets", str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "open\n"
        yield
        process.stdin.write("\n")
        process.stdin.close()
        rates.append(float(process.stdout.readline()))


async def compare(arguments: argparse.Namespace) -> None:
    """Print the comparison."""
    models = MODELS["tiny"].replace("STREAMS", str(arguments.streams))
    speeds, costs, rates = list[float](), list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder, running(models, Path(folder)) as server:
        await measured(server, arguments)
        for turn in range(arguments.rounds):
            found = {}
            for open_sockets in (True, False) if turn % 2 else (False, True):
                if open_sockets:
                    with dashboards(server, arguments.sockets, rates):
                        found[True] = await measured(server, arguments)
                else:
                    found[False] = await measured(server, arguments)
            speeds.append(found[True][0] / found[False][0])
            costs.append(found[True][1] - found[False][1])
    print(f"tokens/s with / without  {told(speeds)}")
    print(f"CPU per token, us        {told(costs)}")
    print(f"bytes/s of a socket      {told(rates)}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("sockets", 500), ("streams", 8), ("tokens", 64), ("requests", 20), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--hold", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    asyncio.run(compare(arguments) if arguments.hold is None else hold(arguments.hold, arguments.sockets))


if __name__ == "__main__":
    main()
