"""Conversations by their turns: each holds more than the one before it, so their mean says little. Pure."""

from collections.abc import Iterable

import msgspec

from heylook_llm.bench.measures import input_tokens
from heylook_llm.bench.sample import Sample
from heylook_llm.bench.statistics import percentile


class Turn(msgspec.Struct, frozen=True):
    """The requests that were so far in their conversations."""

    turn: int
    """From 1."""
    n: int
    ttft_p50: float | None
    """Milliseconds."""
    e2e_p50: float | None
    input_tokens: float | None
    """Of their prompts, in the mean; None: nobody counted some."""
    cached: float | None
    """The share of these that was taken from a cache."""


def turns_of(found: Iterable[tuple[Sample, dict[str, float]]]) -> list[Turn]:
    """Of a row's latencies; empty where nothing was a conversation."""
    by_turn: dict[int, list[tuple[Sample, dict[str, float]]]] = {}
    for sample, numbers in found:
        if (turn := _turn(sample)) is not None:
            by_turn.setdefault(turn, []).append((sample, numbers))
    return [_summed(turn + 1, by_turn[turn]) for turn in sorted(by_turn)]


def _turn(sample: Sample) -> int | None:
    try:
        told = msgspec.json.decode((sample.extra_json or "{}").encode())
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None
    turn = told.get("turn") if isinstance(told, dict) else None
    return turn if type(turn) is int else None


def _summed(turn: int, found: list[tuple[Sample, dict[str, float]]]) -> Turn:
    tokens = [input_tokens(sample) for sample, _ in found]
    counted = sum(count for count in tokens if count is not None) if None not in tokens else None
    cached = [sample.cached for sample, _ in found]
    held = sum(count for count in cached if count is not None) if None not in cached else None
    return Turn(
        turn,
        len(found),
        _median(numbers.get("ttft") for _, numbers in found),
        _median(numbers.get("e2e") for _, numbers in found),
        None if counted is None else counted / len(found),
        None if held is None or not counted else held / counted,
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    return percentile(known, 0.5) if known else None
