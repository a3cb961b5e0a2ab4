"""Work that comes to its end whole, even where whoever waits for it is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def uncut(work: Coroutine[Any, Any, None]) -> None:
    """Do the work; who is cancelled meanwhile waits for its end, so that nothing else begins or is undone beside it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
