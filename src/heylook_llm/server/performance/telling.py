"""A finished request in the words of the API."""

from array import array
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from heylook_llm import core
from heylook_llm.server.backend import ModelChange
from heylook_llm.server.performance.energy import EnergyShare
from heylook_llm.server.performance.measures import measured
from heylook_llm.server.performance.phases import phases
from heylook_llm.server.performance.record import Finished
from heylook_llm.server.performance.summary import DURATIONS, RATES
from heylook_llm.server.performance.verdict import Verdict

DECODE: Final = ("gaps_us", "batch_sizes", "drafted", "accepted", "busy_us", "step_tokens")
STAMPS: Final = tuple(name for name in core.Timeline.__struct_fields__ if name.endswith("_ns"))
COUNTS: Final = ("preemptions", "dropped_tokens", "steps", "kv_cells", "cached_from", "shared_with", "peak_bytes")


def brief(row: Finished) -> dict[str, Any]:
    """A request without its Timeline."""
    measures = measured(row)
    return {
        "id": row.id,
        "object": "performance.request",
        "model": row.model,
        "provider": row.provider,
        "dialect": row.dialect,
        "route": row.route,
        "stream": row.stream,
        "choices": row.choices,
        "outcome": row.outcome,
        "status": row.status,
        "error": row.error,
        "finished_at": row.finished_at,
        "client": row.labels.client,
        "client_request_id": row.labels.client_request_id,
        "run_id": row.labels.run_id,
        "clock_id": row.clock,
        **msgspec.structs.asdict(row.usage),
        **{told: _milliseconds(getattr(measures, name)) for name, told in DURATIONS.items()},
        **{told: _rounded(getattr(measures, name)) for name, told in RATES.items()},
        "batch_size_mean": _rounded(measures.batch_size),
        "prefill_joules": row.energy.prefill_joules if row.energy else None,
        "decode_joules": row.energy.decode_joules if row.energy else None,
    }


def whole(row: Finished) -> dict[str, Any]:
    """A request with its Timeline and where its time went."""
    times = row.timeline
    return {
        **brief(row),
        "energy": _energy(row.energy),
        "texts": None if row.texts is None else {"prompt": row.texts.prompt, "answer": row.texts.answer},
        "phases_ms": {phase: _milliseconds(ns) for phase, ns in phases(times).items()},
        "timeline": {
            **{name: getattr(times, name) for name in STAMPS},
            **{name: getattr(times, name) for name in COUNTS},
            "prefill": [msgspec.structs.asdict(chunk) for chunk in times.prefill],
            "prefill_end_ns": _prefill_end(times),
            "decode": _decode(times.decode),
            "batch_sizes_seen": {str(size): count for size, count in sorted(times.batch_sizes_seen.items())},
        },
    }


def _energy(share: EnergyShare | None) -> dict[str, Any]:
    """What was attributed to a request, of which counters, and why it is unknown where it is."""
    found = share or EnergyShare(reason="no energy counter could be read (GET /hardware/live says why)")
    known = found.prefill_joules is not None and found.decode_joules is not None
    return {
        "method": "attributed",
        "prefill_joules": found.prefill_joules,
        "decode_joules": found.decode_joules,
        "joules": round((found.prefill_joules or 0) + (found.decode_joules or 0), 6) if known else None,
        "baseline_watts": found.baseline_watts,
        "counters": list(found.counters),
        "reason": found.reason,
    }


def _prefill_end(times: core.Timeline) -> int | None:
    """The end of the last step that computed prompt before the first token."""
    ends = [
        chunk.end_ns for chunk in times.prefill if times.first_token_ns is None or chunk.end_ns <= times.first_token_ns
    ]
    return max(ends, default=None)


def _decode(steps: core.DecodeSteps) -> dict[str, list[int]]:
    """By DECODE, one entry for each step."""
    packed = (
        array("I", steps.ends_us),
        array("H", steps.batch_sizes),
        steps.drafted,
        steps.accepted,
        array("I", steps.busy_us),
        array("I", steps.step_tokens),
    )
    return {name: list(values) for name, values in zip(DECODE, packed, strict=True)}


def explained(row: Finished, found: Verdict, company: Sequence[Finished]) -> dict[str, Any]:
    """A request with why it took so long, and who was computed beside it."""
    return {
        **whole(row),
        "why_slow": {
            "verdict": found.word,
            "causes": [
                {
                    "phase": cause.phase,
                    "spent_ms": _milliseconds(cause.spent_ns),
                    "expected_ms": _milliseconds(cause.expected_ns),
                    "excess_ms": _milliseconds(cause.excess_ns),
                }
                for cause in found.causes
            ],
            "judged": list(found.judged),
            "compared_with": found.samples,
        },
        "shared_batch_with": [
            {"id": other.id, "outcome": other.outcome, "overlap_ms": _milliseconds(_overlap(row, other))}
            for other in company
        ],
    }


def change(happened: ModelChange) -> dict[str, Any]:
    """Something that happened to a model."""
    return {
        "id": happened.model,
        "provider": happened.provider,
        "change": happened.kind,
        "at": happened.at,
        "seconds": None if happened.seconds is None else round(happened.seconds, 3),
        "reason": happened.reason,
        "resident_bytes": happened.resident_bytes,
        "peak_resident_bytes": happened.peak_resident_bytes,
    }


def _overlap(row: Finished, other: Finished) -> int | None:
    """How long both were in the batch."""
    spans = [(one.timeline.admitted_ns, one.timeline.last_token_ns) for one in (row, other)]
    (begin, end), (others_begin, others_end) = spans
    if begin is None or end is None or others_begin is None or others_end is None:
        return None
    return max(0, min(end, others_end) - max(begin, others_begin))


def _milliseconds(ns: float | None) -> float | None:
    return None if ns is None else round(ns / 1e6, 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
