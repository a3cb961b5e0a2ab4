"""Work that would hold up the event loop, done in a thread where it is large."""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

ON_LOOP: Final = 64 << 10
"""Bytes that are parsed on the event loop. The slowest, a list of token ids, take half a microsecond each."""
P = ParamSpec("P")
T = TypeVar("T")


async def off_loop(size: int, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """The result of work on so many bytes or tokens: of many in a thread, so that other streams flow on meanwhile."""
    if size <= ON_LOOP:
        return work(*arguments, **options)
    return await asyncio.to_thread(work, *arguments, **options)
