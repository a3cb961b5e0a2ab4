"""What is measured of a request, by its stamps: docs/performance.md has the same formulas. Unknown is None, never 0."""

from array import array
from collections.abc import Iterator

import msgspec

from heylook_llm import core
from heylook_llm.server.performance.record import Finished


class Measures(msgspec.Struct, frozen=True):
    """Durations in nanoseconds, rates in tokens per second."""

    e2e_ns: int | None = None
    queue_ns: int | None = None
    load_ns: int | None = None
    ttft_ns: int | None = None
    tpot_ns: float | None = None
    prefill_rate: float | None = None
    decode_rate: float | None = None
    batch_size: float | None = None
    """The mean over the request's decode steps."""


def measured(finished: Finished) -> Measures:
    """The measures of a request. Those of tokens are of choice 0."""
    times, first = finished.timeline, finished.first
    decode_ns = between(times.first_token_ns, times.last_token_ns)
    followers = first.output_tokens - 1
    return Measures(
        e2e_ns=between(times.received_ns, times.closed_ns),
        queue_ns=queue_ns(times),
        load_ns=load_ns(times),
        ttft_ns=between(times.received_ns, times.first_token_ns),
        tpot_ns=decode_ns / followers if decode_ns is not None and followers > 0 else None,
        prefill_rate=_rate(first.prompt_tokens - first.cached_tokens, between(times.admitted_ns, times.first_token_ns)),
        decode_rate=_rate(followers, decode_ns),
        batch_size=_mean_batch(times),
    )


def token_gaps_us(times: core.Timeline) -> Iterator[tuple[float, int]]:
    """(microseconds between tokens, how many tokens) of each decode step: those of one step share its time."""
    steps = times.decode
    accepted = steps.accepted or bytes(len(steps.ends_us) // 4)
    for gap, more in zip(array("I", steps.ends_us), accepted, strict=True):
        yield gap / (1 + more), 1 + more


def load_ns(times: core.Timeline) -> int | None:
    """What a request waited for its model's load, which may have begun before it came; None: it was loaded."""
    if times.load_start_ns is None or times.load_end_ns is None:
        return None
    begin = max(times.load_start_ns, times.ready_ns or times.received_ns or 0)
    return max(0, times.load_end_ns - begin)


def queue_ns(times: core.Timeline) -> int | None:
    """What it waited for a lease on the model, without the load, and for a place in the batch."""
    lease = between(times.ready_ns, times.submitted_ns)
    place = between(times.queued_ns, times.admitted_ns)
    if lease is None or place is None:
        return None
    return max(0, lease - (load_ns(times) or 0)) + place


def between(start: int | None, end: int | None) -> int | None:
    """Nanoseconds from one stamp to another; None where one of them is missing."""
    return None if start is None or end is None else max(0, end - start)


def _rate(tokens: int, ns: int | None) -> float | None:
    return tokens * 1e9 / ns if ns and tokens > 0 else None


def _mean_batch(times: core.Timeline) -> float | None:
    sizes = times.batch_sizes_seen
    steps = sum(sizes.values())
    return sum(size * count for size, count in sizes.items()) / steps if steps else None
