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
ENVIRONMENT: Final = ("PATH", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")


class Exhausted(Exception):
    """The input took more time than a process gets for it."""


class Broken(Exception):
    """The process crashed over its input, or had no memory left."""


async def run(module: str, data: bytes, *, wall_seconds: float = WALL_SECONDS) -> bytes:
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
        output, _ = await asyncio.wait_for(process.communicate(data), wall_seconds)
    except TimeoutError as error:
        raise Overloaded("This machine is too busy to check the request; try again later.") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == -EXHAUSTED:
        raise Exhausted("It takes too long.")
    if process.returncode or len(output) > OUTPUT_BYTES:
        raise Broken("It can't be processed.")
    return output
