"""What a server measured, joined to what the bench saw: pure. A request that can't be matched stays alone."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from heylook_llm.bench.sample import Pair, PairSource, Sample

MOST_STAMP: Final = 1 << 62
"""Nanoseconds; of what lies below, any difference can be kept."""


def heylook_pairs(samples: Iterable[Sample], rows: Iterable[dict[str, Any]]) -> list[Pair]:
    """Our server's rows by the id that the bench gave each request; whoever says to be our server may say anything.

    An id that several rows or samples have pairs none of them: whose it is can't be known.
    """
    by_id: dict[str, dict[str, Any] | None] = {}
    for row in rows:
        identity = row.get("client_request_id")
        if isinstance(identity, str):
            by_id[identity] = None if identity in by_id else row
    known = [sample for sample in samples if sample.client_request_id is not None]
    counts = Counter(sample.client_request_id for sample in known)
    pairs = []
    for sample in known:
        found = by_id.get(sample.client_request_id or "")
        if found is not None and counts[sample.client_request_id] == 1:
            pairs.append(Pair(sample.id, "heylook", json.dumps(found), residual_ns(sample, found)))
    return pairs


def residual_ns(sample: Sample, row: dict[str, Any]) -> int | None:
    """What neither side accounts for: on the way to the server, and on the way back until the first bytes arrived.

    A stream's head goes out with its first event. None where stamps are of different clocks, or one is missing.
    """
    times = row.get("timeline")
    if row.get("clock_id") != sample.clock_id or not isinstance(times, dict):
        return None
    received, flushed = (_stamp(times.get(name)) for name in ("received_ns", "first_byte_ns"))
    if received is None or flushed is None or sample.t_sent is None or sample.t_headers is None:
        return None
    return (received - sample.t_sent) + (sample.t_headers - flushed)


def _stamp(told: Any) -> int | None:
    """A stamp as clocks have them; None: it is none."""
    return told if type(told) is int and 0 <= told < MOST_STAMP else None


def told_pairs(samples: Iterable[Sample]) -> list[Pair]:
    """What targets said of their own times in the answers themselves: durations only, without a residual."""
    pairs = []
    for sample in samples:
        timings = json.loads(sample.extra_json or "{}").get("timings")
        if timings:
            pairs.append(Pair(sample.id, _source_of(timings), json.dumps(timings)))
    return pairs


def _source_of(timings: dict[str, Any]) -> PairSource:
    if "generation_time_ms" in timings or "queue_time_ms" in timings:
        return "vllm"
    return "llama-server" if "predicted_n" in timings or "prompt_ms" in timings else "ollama"
