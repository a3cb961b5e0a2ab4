"""A helper process from an event loop: its output, its end, and that nothing of it remains."""

import asyncio

import psutil
import pytest

from heylook_llm.errors import Overloaded
from heylook_llm.helper import process, starting, trying, waiting

pytestmark = pytest.mark.integration


def children() -> set[int]:
    """Processes of ours that still run."""
    return {child.pid for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}


async def test_whoever_is_cancelled_leaves_no_process() -> None:
    before = children()
    waits = [asyncio.ensure_future(process.run(trying.MODULE, b"x" * (8 << 20))) for _ in range(3)]
    while len(children() - before) < len(waits):
        assert not any(wait.done() for wait in waits), "it ended before it was seen"
        await asyncio.sleep(0)
    for wait in waits:
        wait.cancel()
    ends = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError] * 3
    assert children() <= before


async def test_more_time_than_allowed_is_our_fault() -> None:
    with pytest.raises(Overloaded):
        await process.run(trying.MODULE, b"start: /a/", wall_seconds=0)


async def test_what_is_written_beyond_the_limit_is_not_read() -> None:
    with pytest.raises(starting.Broken) as broken:
        await process.run(trying.MODULE, b"start: /a/", output_bytes=3)
    assert broken.value.output.startswith(b'{"er')


def test_a_child_that_was_given_up_is_ended_as_it_starts() -> None:
    child = waiting.Child()
    child.end()
    with pytest.raises(Overloaded):
        waiting.run(trying.MODULE, b"start: /a/", child=child)
