"""The profile of a window: where requests' time went, what the machine did meanwhile, which models are slow. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, get_args

from heylook_llm.server.performance.history import HOUR_MINUTES, History
from heylook_llm.server.performance.minutes import MINUTE_SECONDS, Minute, Resources

Span = Literal["1h", "6h", "24h", "7d"]
Operation = Literal["queue", "model_load", "image_processing", "prompt_processing", "token_generation", "other"]

SPANS: Final[tuple[Span, ...]] = get_args(Span)
OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)
_MINUTES: Final[dict[Span, int]] = {"1h": 60, "6h": 360, "24h": 1440, "7d": 10_080}
_BUCKET_MINUTES: Final[dict[Span, int]] = {"1h": 1, "6h": 1, "24h": 5, "7d": 60}
"""So that a timeline has a few hundred points."""
_OPERATION_OF: Final[dict[str, Operation]] = {
    "queue": "queue",
    "load": "model_load",
    "images": "image_processing",
    "prefill": "prompt_processing",
    "decode": "token_generation",
}


def first_minute(span: Span, now: float) -> int:
    """The minute that a window begins with; it ends with the current one, which isn't over."""
    return int(now // MINUTE_SECONDS) - _MINUTES[span] + 1


def read(span: Span, now: float, history: History) -> Iterator[tuple[int, str, Minute]]:
    """What was done in a window, as finely as its profile tells it."""
    since = first_minute(span, now)
    return history.hours(since) if _BUCKET_MINUTES[span] == HOUR_MINUTES else history.minutes(since)


def profile(
    span: Span, now: float, done: Iterable[tuple[int, str, Minute]], used: Mapping[int, Resources]
) -> dict[str, Any]:
    """The profile in the words of the API. `done` by `read`, `used` of the window's minutes. `now`: wall clock."""
    by_model: defaultdict[str, Minute] = defaultdict(Minute)
    by_hour: defaultdict[int, Minute] = defaultdict(Minute)
    by_bucket: defaultdict[int, Minute] = defaultdict(Minute)
    width = _BUCKET_MINUTES[span]
    for minute, model, spent in done:
        by_model[model].join(spent)
        by_bucket[minute // width].join(spent)
    for at, spent in by_bucket.items():  # an hour is whole buckets
        by_hour[at * width // HOUR_MINUTES].join(spent)
    total = Minute()
    for spent in by_model.values():
        total.join(spent)
    return {
        "time_range": {
            "window": span,
            "from": first_minute(span, now) * MINUTE_SECONDS,
            "to": now,
            "bucket_seconds": width * MINUTE_SECONDS,
        },
        "request_count": total.requests,
        "timing_breakdown": _breakdown(total),
        "resource_timeline": _timeline(by_bucket, used, width, now),
        "bottlenecks": _bottlenecks(by_model),
        "trends": _trends(by_hour),
    }


# ---- where the time went ---------------------------------------------------------------------------------------------


def _breakdown(total: Minute) -> list[dict[str, Any]]:
    """Each operation: the mean over the requests that spent time in it, and its part of all time."""
    spent, counts = _operations(total)
    return [
        {
            "operation": operation,
            "avg_time_ms": _milliseconds(spent[operation], counts[operation]),
            "count": counts[operation],
            "percentage": _percent(spent[operation], total.e2e_ns),
        }
        for operation in OPERATIONS
    ]


def _operations(sums: Minute) -> tuple[dict[Operation, int], dict[Operation, int]]:
    """Nanoseconds of each operation, and requests that spent time in it. "other" is several phases, and all have it."""
    spent: dict[Operation, int] = dict.fromkeys(OPERATIONS, 0)
    counts: dict[Operation, int] = dict.fromkeys(OPERATIONS, 0)
    for phase, ns in sums.phase_ns.items():
        operation = _OPERATION_OF.get(phase, "other")
        spent[operation] += ns
        counts[operation] = max(counts[operation], sums.phase_counts.get(phase, 0))
    return spent, counts


def _bottlenecks(models: Mapping[str, Minute]) -> list[dict[str, Any]]:
    """Models, the slowest first, and where their requests' time went on average."""
    slowest = sorted(models.items(), key=lambda pair: -(pair[1].e2e_ns / max(1, pair[1].requests)))
    return [_bottleneck(model, spent) for model, spent in slowest if spent.requests]


def _bottleneck(model: str, sums: Minute) -> dict[str, Any]:
    spent, _ = _operations(sums)
    return {
        "model": model,
        "request_count": sums.requests,
        "avg_total_ms": _milliseconds(sums.e2e_ns, sums.requests),
        "breakdown": {
            **{operation: _milliseconds(ns, sums.requests) for operation, ns in spent.items()},
            "first_token": _milliseconds(sums.first_token_ns, sums.first_tokens),
        },
        "largest": max(OPERATIONS, key=lambda operation: spent[operation]) if sums.e2e_ns else None,
    }


# ---- over time -------------------------------------------------------------------------------------------------------


def _timeline(
    done: Mapping[int, Minute], used: Mapping[int, Resources], width: int, now: float
) -> list[dict[str, Any]]:
    """What the machine and the models did in each bucket of which something is known."""
    machine: defaultdict[int, list[Resources]] = defaultdict(list)
    for minute, resources in used.items():
        machine[minute // width].append(resources)
    return [
        _bucket(at * width * MINUTE_SECONDS, width, done.get(at, Minute()), machine.get(at, []), now)
        for at in sorted(done.keys() | machine.keys())
    ]


def _bucket(start: float, width: int, sums: Minute, used: list[Resources], now: float) -> dict[str, Any]:
    """The current bucket isn't over: its rate is of the time that has passed."""
    seconds = max(1.0, min(width * MINUTE_SECONDS, now - start))
    return {
        "timestamp": start,
        "requests": sums.requests,
        "errors": sums.errors,
        "tokens_per_second": round(sums.output_tokens / seconds, 3),
        "memory_used_bytes": max((one.memory_used_bytes for one in used), default=None),
        "models_resident_bytes": _most(one.models_resident_bytes for one in used),
        "cpu_percent": _mean(one.cpu_percent for one in used),
        "gpu_percent": _mean(one.gpu_percent for one in used),
        "gpu_memory_used_bytes": _most(one.gpu_used_bytes for one in used),
        "power_watts": _mean(one.watts for one in used),
    }


def _trends(hours: Mapping[int, Minute]) -> list[dict[str, Any]]:
    """Each hour in which a request ended, and how it differs from the one listed before it."""
    told: list[dict[str, Any]] = []
    for hour, sums in sorted(hours.items()):
        if not sums.requests:
            continue
        before = told[-1] if told else {}
        response = _milliseconds(sums.e2e_ns, sums.requests)
        speed = round(sums.decode_tokens * 1e9 / sums.decode_ns, 3) if sums.decode_ns else None
        told.append(
            {
                "hour": hour * HOUR_MINUTES * MINUTE_SECONDS,
                "requests": sums.requests,
                "errors": sums.errors,
                "response_time_ms": response,
                "first_token_ms": _milliseconds(sums.first_token_ns, sums.first_tokens),
                "tokens_per_second": speed,
                "response_time_change": _change(before.get("response_time_ms"), response),
                "tps_change": _change(before.get("tokens_per_second"), speed),
                "draft_acceptance": round(sums.accepted_tokens / sums.draft_tokens, 4) if sums.draft_tokens else None,
            }
        )
    return told


def _change(before: float | None, now: float | None) -> float | None:
    """In percent; None: one of them isn't known."""
    return round(100 * (now - before) / before, 1) if before and now is not None else None


def _milliseconds(ns: int, count: int) -> float | None:
    return round(ns / 1e6 / count, 3) if count else None


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 1) if known else None


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
