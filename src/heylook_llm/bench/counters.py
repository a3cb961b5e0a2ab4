"""vLLM's /metrics, read before a cell and behind it: what it measured of the requests between, as means. Pure.

Its counters know no single request, so whoever else asks the server meanwhile is in them, too.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

from heylook_llm.bench.sample import Point

SOURCE: Final = "vllm"
_HISTOGRAMS: Final = {
    "queue": "vllm:request_queue_time_seconds",
    "prefill": "vllm:request_prefill_time_seconds",
    "decode": "vllm:request_decode_time_seconds",
    "ttft": "vllm:time_to_first_token_seconds",
    "e2e": "vllm:e2e_request_latency_seconds",
}
_HITS, _QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"
_KEPT: Final = {*(f"{name}_{end}" for name in _HISTOGRAMS.values() for end in ("sum", "count")), _HITS, _QUERIES}
_LINE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{.*\})?\s+(\S+)(?:\s+\S+)?")


def counters(text: str) -> dict[str, float]:
    """The counters of Prometheus's text that are used here; those of several labels together."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None or match[1] not in _KEPT:
            continue
        try:
            value = float(match[2])
        except ValueError:
            continue
        if math.isfinite(value):
            found[match[1]] = found.get(match[1], 0.0) + value
    return found


def told(points: Iterable[Point], windows: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Means in milliseconds over these windows, and `cached`, the share of prompt tokens that a prefix cache held."""
    series: dict[str, list[Point]] = {}
    for point in points:
        if point.source == SOURCE:
            series.setdefault(point.name, []).append(point)
    grown = {name: sum(_growth(each, window) for window in windows) for name, each in series.items()}
    means = {
        name: 1000 * grown[f"{metric}_sum"] / grown[f"{metric}_count"]
        for name, metric in _HISTOGRAMS.items()
        if grown.get(f"{metric}_count", 0) > 0 and f"{metric}_sum" in grown
    }
    if grown.get(_QUERIES, 0) > 0 and _HITS in grown:
        means["cached"] = grown[_HITS] / grown[_QUERIES]
    return means


def _growth(series: Sequence[Point], window: tuple[int, int]) -> float:
    """From the last reading before a window to the first behind it; a counter that began anew has grown by nothing."""
    before = [point for point in series if point.t <= window[0]]
    behind = [point for point in series if point.t >= window[1]]
    if not before or not behind:
        return 0.0
    return max(0.0, min(behind, key=_time).value - max(before, key=_time).value)


def _time(point: Point) -> int:
    return point.t
