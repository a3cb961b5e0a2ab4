"""The parent's half of a helper process on an event loop: start it, give it its input, take its output, end it."""

import asyncio
import contextlib
from typing import Final

from heylook_llm.errors import Overloaded
from heylook_llm.helper import starting
from heylook_llm.helper.starting import OUTPUT_BYTES, WALL_SECONDS

PIECE_BYTES: Final = 256 << 10


async def run(
    module: str, data: bytes, *, wall_seconds: float = WALL_SECONDS, output_bytes: int = OUTPUT_BYTES
) -> bytes:
    """What `python -m module` writes when it reads `data`. Raises starting.Exhausted, starting.Broken, Overloaded."""
    process = await asyncio.create_subprocess_exec(
        *starting.command(module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=starting.environment(),
        cwd="/",
        limit=OUTPUT_BYTES,
    )
    starting.give_way(process.pid)
    try:
        output = await asyncio.wait_for(_exchange(process, data, output_bytes), wall_seconds)
    except TimeoutError as error:
        raise Overloaded(starting.BUSY) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return starting.output_of(process.returncode or 0, output, output_bytes)


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
