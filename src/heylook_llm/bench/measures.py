"""What is measured of one sample: each number with its formula, as docs/bench_metrics.md has them. Pure.

Unknown is left out, never 0. Durations are in milliseconds, rates in tokens per second.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, Literal

import msgspec

from heylook_llm.bench.sample import Sample, stamps_of, tokens_of

Better = Literal["lower", "higher"]


class Measure(msgspec.Struct, frozen=True):
    """A number and what it means."""

    name: str
    title: str
    unit: str
    formula: str
    better: Better = "lower"
    leaves_out: str = ""
    """Requests that don't have it, beside those that didn't end well."""


MEASURES: Final[dict[str, Measure]] = {
    measure.name: measure
    for measure in (
        Measure("ttfe", "first event", "ms", "first event - origin - connect"),
        Measure(
            "ttft",
            "first token (TTFT)",
            "ms",
            "first event with text, reasoning or a call - origin - connect",
            leaves_out="answers without a token",
        ),
        Measure(
            "ttfo",
            "first visible token",
            "ms",
            "first event with text or a call - origin - connect",
            leaves_out="answers of reasoning alone",
        ),
        Measure(
            "tpot",
            "time per output token (TPOT)",
            "ms",
            "(last token - first token) / (output tokens - tokens of the first chunk)",
            leaves_out="answers whose tokens all came in one chunk, and those whose tokens nobody counted",
        ),
        Measure(
            "itl",
            "inter-token latency (ITL)",
            "ms",
            "gap between chunks / tokens of the later one, once for each of its tokens",
            leaves_out="answers whose chunks hold nobody knows how many tokens",
        ),
        Measure(
            "icl",
            "inter-chunk latency",
            "ms",
            "gap between chunks, whatever they hold",
            leaves_out="answers of one chunk",
        ),
        Measure("stall", "longest gap", "ms", "the longest gap between chunks", leaves_out="answers of one chunk"),
        Measure("e2e", "whole request (E2E)", "ms", "last byte - origin"),
        Measure("service", "E2E since it was taken up", "ms", "last byte - start"),
        Measure("lag", "schedule lag", "ms", "start - due"),
        Measure(
            "connect",
            "connection set-up",
            "ms",
            "connection ready - start",
            leaves_out="requests on a connection that was open",
        ),
        Measure(
            "speed",
            "tokens per second of one request",
            "tokens/s",
            "1000 / TPOT",
            better="higher",
            leaves_out="those without TPOT",
        ),
        Measure(
            "prefill",
            "prompt tokens per second until the first token",
            "tokens/s",
            "(prompt tokens - cached) / TTFT",
            better="higher",
            leaves_out="answers whose prompt tokens nobody counted",
        ),
    )
}
POOLED: Final = frozenset({"itl", "icl"})
"""Of these a request has many values, which aren't independent of each other: so they get no interval."""


def values(sample: Sample, open_loop: bool) -> dict[str, float]:
    """Every number of a sample that it has one of."""
    begin = origin(sample, open_loop)
    connect = connect_ns(sample)
    ready = None if begin is None else begin + (connect or 0)
    found = {
        "ttfe": _ms(ready, sample.t_first_event),
        "ttft": (ttft := _ms(ready, sample.t_first_token)),
        "ttfo": _ms(ready, sample.t_first_visible),
        "tpot": (tpot := tpot_ms(sample)),
        "stall": max(_gaps_ms(stamps_of(sample)), default=None),
        "e2e": _ms(begin, sample.t_end),
        "service": _ms(sample.t_start, sample.t_end),
        "lag": _ms(sample.t_due, sample.t_start),
        "connect": None if connect is None else connect / 1e6,
        "speed": 1000 / tpot if tpot else None,
        "prefill": _prefill_rate(sample, ttft),
    }
    return {name: value for name, value in found.items() if value is not None}


def origin(sample: Sample, open_loop: bool) -> int | None:
    """Where latency counts from: the planned moment of an open loop, else when the request was taken up."""
    if open_loop and sample.t_due is not None:
        return sample.t_due
    return sample.t_start


def connect_ns(sample: Sample) -> int | None:
    """How long its connection took to open; None: it was open."""
    opened = sample.t_tls if sample.t_tls is not None else sample.t_tcp
    return None if opened is None or sample.t_start is None else opened - sample.t_start


def input_tokens(sample: Sample) -> int | None:
    """Of the prompt, by who knows best: the engine, then `usage`."""
    return sample.in_engine if sample.in_engine is not None else sample.in_usage


def output_tokens(sample: Sample) -> int | None:
    """Of the answer, by who knows best: the engine, `usage`, then the target's tokenizer over the text."""
    for count in (sample.out_engine, sample.out_usage, sample.out_counted):
        if count is not None:
            return count
    return None


def chunk_tokens(sample: Sample) -> Sequence[int] | None:
    """How many tokens each chunk holds: as they said, or one each where there are as many; None: nobody knows."""
    chunks = len(sample.chunk_times) // 8
    told = tokens_of(sample)
    if told and len(told) == chunks:
        return told
    return [1] * chunks if chunks and output_tokens(sample) == chunks else None


def tpot_ms(sample: Sample) -> float | None:
    """Time per token after the first chunk."""
    tokens, spent = output_tokens(sample), _ms(sample.t_first_token, sample.t_last_token)
    if tokens is None or spent is None:
        return None
    counts = chunk_tokens(sample)
    followers = tokens - (counts[0] if counts else 1)
    return spent / followers if followers > 0 and sample.t_last_token != sample.t_first_token else None


def token_gaps_ms(sample: Sample) -> Iterator[tuple[float, int]]:
    """(gap before each of them, how many tokens) of the chunks after the first.

    A chunk without a whole token, as text whose token's last bytes are still to come, adds its gap to the next.
    """
    counts = chunk_tokens(sample)
    if counts is None:
        return
    stamps = stamps_of(sample)
    before = stamps[0]
    for stamp, count in zip(stamps[1:], counts[1:], strict=True):
        if count:
            yield (stamp - before) / 1e6 / count, count
            before = stamp


def chunk_gaps_ms(sample: Sample) -> Iterator[float]:
    """The gaps between chunks."""
    return _gaps_ms(stamps_of(sample))


def is_ordered(sample: Sample) -> bool:
    """Whether its stamps are in the order of time."""
    steps = (
        sample.t_start,
        sample.t_sent,
        sample.t_headers,
        sample.t_first_event,
        sample.t_first_token,
        sample.t_last_token,
        sample.t_end,
    )
    stamps = stamps_of(sample)
    known = [stamp for stamp in steps if stamp is not None]
    chunks_fit = not stamps or (sample.t_first_token in (None, stamps[0]) and sample.t_last_token in (None, stamps[-1]))
    return chunks_fit and all(a <= b for a, b in pairwise(known)) and all(a <= b for a, b in pairwise(stamps))


def _gaps_ms(stamps: Sequence[int]) -> Iterator[float]:
    return ((b - a) / 1e6 for a, b in pairwise(stamps))


def _ms(start: int | None, end: int | None) -> float | None:
    return None if start is None or end is None else (end - start) / 1e6


def _prefill_rate(sample: Sample, ttft: float | None) -> float | None:
    tokens = input_tokens(sample)
    if tokens is None or not ttft or ttft < 0:
        return None
    computed = tokens - (sample.cached or 0)
    return computed * 1000 / ttft if computed > 0 else None
