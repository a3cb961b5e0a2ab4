"""A window's requests as a trace that a benchmark can replay: when they came, how long they were, which began alike.

One JSON object a line, with the field names of Mooncake's traces. Equal `hash_ids` at the same place are equal prompts
up to the end of that block; they are numbered anew for each trace, so nothing of a text can be found out from them.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from heylook_llm import core
from heylook_llm.server.performance.record import Finished

DEFAULT_BLOCK_TOKENS: Final = 512
"""Of Mooncake's traces."""
MOST_BLOCK_TOKENS: Final = 1 << 20
MOST_REQUESTS: Final = 200_000


class Arrival(NamedTuple):
    """A request as a trace needs it."""

    seconds: float
    """Wall clock; of one clock all by the same distance to it, so that its steps move nothing."""
    model: str
    input_tokens: int
    output_tokens: int
    blocks: bytes


class Arrivals:
    """Takes finished requests in any order."""

    def __init__(self) -> None:
        self._offsets: dict[str, float] = {}
        self._found: list[Arrival] = []

    def __len__(self) -> int:
        return len(self._found)

    def take(self, rows: Iterable[Finished]) -> None:
        """Those that generated, and ended well."""
        for row in rows:
            times = row.timeline
            if row.outcome != "done" or times.received_ns is None or times.first_token_ns is None:
                continue
            offset = self._offsets.setdefault(row.clock, row.finished_at - (times.closed_ns or 0) / 1e9)
            seconds = times.received_ns / 1e9 + offset
            first = row.first
            self._found.append(
                Arrival(seconds, row.model, first.prompt_tokens, first.output_tokens, times.prompt_blocks)
            )

    def lines(self, block_tokens: int) -> Iterator[dict[str, Any]]:
        """The trace, in the order of arrival; `block_tokens` is a multiple of core.BLOCK_TOKENS."""
        ordered = sorted(self._found)
        numbers: dict[bytes, int] = {}
        for arrival in ordered:
            hashes = coarser(arrival.blocks, block_tokens // core.BLOCK_TOKENS)
            yield {
                "timestamp": round((arrival.seconds - ordered[0].seconds) * 1000),
                "input_length": arrival.input_tokens,
                "output_length": arrival.output_tokens,
                "hash_ids": [numbers.setdefault(one, len(numbers)) for one in hashes],
                "model": arrival.model,
            }


def coarser(blocks: bytes, times: int) -> list[bytes]:
    """The hashes of blocks that are so many times longer: a hash is of all up to its end, so some are left out."""
    size = core.BLOCK_HASH_BYTES
    every = [blocks[at : at + size] for at in range(0, len(blocks), size)]
    return [every[min(at + times, len(every)) - 1] for at in range(0, len(every), times)]
