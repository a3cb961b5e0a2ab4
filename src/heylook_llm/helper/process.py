"""The parent's half of a helper process: start it, give it its input, take its output, end it."""

import asyncio
import contextlib
import os
import sys
from typing import Final

from heylook_llm.errors import Overloaded
from heylook_llm.helper.limits import EXHAUSTED

WALL_SECONDS: Final = 60.0
"""A process that got no more of the processor than it may use in so long a time says nothing about its input."""
OUTPUT_BYTES: Final = 1 << 20
PIECE_BYTES: Final = 256 << 10
ENVIRONMENT: Final = ("PATH", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")


class Ended(Exception):
    """A process ended before its work was done. `output` is what it wrote until then."""

    def __init__(self, message: str, output: bytes) -> None:
        super().__init__(message)
        self.output = output


class Exhausted(Ended):
    """The input took more time than a process gets for it."""


class Broken(Ended):
    """The process crashed over its input, had no memory left, or wrote more than it may."""


async def run(
    module: str, data: bytes, *, wall_seconds: float = WALL_SECONDS, output_bytes: int = OUTPUT_BYTES
) -> bytes:
    """What `python -m module` writes when it reads `data`. Raises Exhausted, Broken, Overloaded."""
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        cwd="/",
        limit=OUTPUT_BYTES,
    )
    try:
        output = await asyncio.wait_for(_exchange(process, data, output_bytes), wall_seconds)
    except TimeoutError as error:
        raise Overloaded("This machine is too busy to check the request; try again later.") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == -EXHAUSTED:
        raise Exhausted("It takes too long.", output)
    if process.returncode or len(output) > output_bytes:
        raise Broken("It can't be processed.", output)
    return output


async def _exchange(process: asyncio.subprocess.Process, data: bytes, output_bytes: int) -> bytes:
    """Write all, read all; of more than it may write no more is read."""
    assert process.stdin is not None
    assert process.stdout is not None
    feeding = asyncio.create_task(_feed(process.stdin, data))
    output = bytearray()
    try:
        while len(output) <= output_bytes and (piece := await process.stdout.read(PIECE_BYTES)):
            output += piece
    finally:
        feeding.cancel()
    if len(output) <= output_bytes:
        await process.wait()
    return bytes(output)


async def _feed(stdin: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended: its status says why
        stdin.write(data)
        await stdin.drain()
    stdin.close()
