"""The parent's half of a helper process for an event loop.

A thread starts the process and waits for it, not the loop: uvloop forks, which copies the page tables of the whole
server, 8 ms and more in which no stream's token goes out; the standard library has a process started without a copy.
"""

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from heylook_llm.helper import waiting
from heylook_llm.helper.starting import OUTPUT_BYTES, WALL_SECONDS

MOST_AT_ONCE: Final = 16
_THREADS: Final = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="helper")


async def run(
    module: str, data: bytes, *, wall_seconds: float = WALL_SECONDS, output_bytes: int = OUTPUT_BYTES
) -> bytes:
    """What `python -m module` writes when it reads `data`. Raises starting.Exhausted, starting.Broken, Overloaded."""
    child = waiting.Child()
    work = functools.partial(
        waiting.run, module, data, wall_seconds=wall_seconds, output_bytes=output_bytes, child=child
    )
    ending = asyncio.get_running_loop().run_in_executor(_THREADS, work)
    try:
        return await asyncio.shield(ending)
    finally:
        if not ending.done():  # cancelled: nothing of it may remain
            child.end()
            await asyncio.wait([ending])
            ending.exception()
