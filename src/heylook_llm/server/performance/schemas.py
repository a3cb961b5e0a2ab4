"""The replies of /v1/performance as JSON schemas, which the OpenAPI document shows and the tests hold them to."""

from typing import Any, Final, get_args

from heylook_llm import core
from heylook_llm.server.performance.histogram import NAMES
from heylook_llm.server.performance.phases import PHASES
from heylook_llm.server.performance.record import Dialect, Outcome
from heylook_llm.server.performance.summary import DURATIONS, ITL, RATES, TOLD
from heylook_llm.server.performance.telling import COUNTS, DECODE, STAMPS
from heylook_llm.server.performance.verdict import Word
from heylook_llm.server.performance.windows import WINDOWS
from heylook_llm.server.schema_words import COUNT, NUMBER, TEXT, closed, list_of, map_of

NUMBER_OR_NULL: Final = {"type": ["number", "null"], "minimum": 0}
COUNTS_BY_NAME: Final = map_of(COUNT)
_INTEGERS: Final = list_of(COUNT)


def object_of(properties: dict[str, Any]) -> dict[str, Any]:
    """An object that has all of these."""
    return {"type": "object", "required": list(properties), "properties": properties}


def one_of(values: tuple[str, ...]) -> dict[str, Any]:
    """One of these words."""
    return {"type": "string", "enum": list(values)}


def maybe(kind: str) -> dict[str, Any]:
    """That, or null."""
    return {"type": [kind, "null"]}


def _list_of_named(name: str) -> dict[str, Any]:
    return list_of({"$ref": f"#/components/schemas/{name}"})


_TOKENS: Final = {name: COUNT for name in core.Usage.__struct_fields__}  # noqa: C420 (each a schema of its own)
_BRIEF: Final = {
    "id": TEXT,
    "object": {"const": "performance.request"},
    "model": TEXT,
    "provider": maybe("string"),
    "dialect": one_of(get_args(Dialect)),
    "route": TEXT,
    "stream": {"type": "boolean"},
    "choices": COUNT,
    "outcome": one_of(get_args(Outcome)),
    "status": COUNT,
    "error": maybe("string"),
    "finished_at": {**NUMBER, "description": "Seconds since 1970."},
    "client": maybe("string"),
    "client_request_id": maybe("string"),
    "run_id": maybe("string"),
    "clock_id": TEXT,
    **_TOKENS,
    **dict.fromkeys((*DURATIONS.values(), *RATES.values(), "batch_size_mean"), NUMBER_OR_NULL),
    **dict.fromkeys(("prefill_joules", "decode_joules"), NUMBER_OR_NULL),
}
_WHOLE: Final = {
    **_BRIEF,
    "energy": closed(
        {
            "method": {"const": "attributed"},
            **dict.fromkeys(("prefill_joules", "decode_joules", "joules", "baseline_watts"), NUMBER_OR_NULL),
            "counters": {"type": "array", "items": TEXT},
            "reason": {**maybe("string"), "description": "Why joules are null."},
        }
    ),
    "texts": {
        "oneOf": [closed({"prompt": TEXT, "answer": TEXT}), {"type": "null"}],
        "description": "null, unless the server was started with --record-text.",
    },
    "phases_ms": {
        "type": "object",
        "properties": dict.fromkeys(PHASES, NUMBER_OR_NULL),
        "additionalProperties": False,
        "description": "Together the E2E.",
    },
    "timeline": object_of(
        {
            **{name: {**maybe("integer"), "description": "Nanoseconds of the monotonic clock."} for name in STAMPS},
            **{key: {"type": ["integer", "string", "null"]} for key in COUNTS},
            "prefill_end_ns": maybe("integer"),
            "prefill": {
                "type": "array",
                "items": object_of(dict.fromkeys(("start_ns", "end_ns", "tokens", "step_tokens"), COUNT)),
            },
            "decode": object_of(dict.fromkeys(DECODE, _INTEGERS)),
            "batch_sizes_seen": COUNTS_BY_NAME,
        }
    ),
}
_MODEL: Final = {
    "count": COUNT,
    "outcomes": COUNTS_BY_NAME,
    "errors": COUNTS_BY_NAME,
    "tokens": object_of(_TOKENS),
    "cache_hit_share": NUMBER_OR_NULL,
    "draft_acceptance": NUMBER_OR_NULL,
    "batch_size_mean": NUMBER_OR_NULL,
    "batch_occupancy": NUMBER_OR_NULL,
    **{key: {"$ref": "#/components/schemas/Performance.Distribution"} for key in (*TOLD.values(), ITL)},
}

SCHEMAS: Final[dict[str, Any]] = {
    "Performance.Distribution": closed(
        {
            "n": COUNT,
            **{key: {**NUMBER_OR_NULL, "description": "null: n is too small for it."} for key in NAMES.values()},
            "relative_error": {**NUMBER_OR_NULL, "description": "null: exact, of the samples themselves."},
        }
    ),
    "Performance.Model": closed(_MODEL),
    "Performance.Summary": closed(
        {
            "object": {"const": "performance"},
            "window": one_of(WINDOWS),
            "from": NUMBER,
            "to": NUMBER,
            "method": one_of(("samples", "histogram")),
            "relative_error": NUMBER_OR_NULL,
            "models": {
                "type": "object",
                "additionalProperties": {"$ref": "#/components/schemas/Performance.Model"},
            },
            "refused": closed({"count": COUNT, "errors": COUNTS_BY_NAME}),
            "dropped_requests": COUNT,
        }
    ),
    "Performance.Request": closed(_BRIEF),
    "Performance.Requests": closed(
        {
            "object": {"const": "list"},
            "data": _list_of_named("Performance.Request"),
            "has_more": {"type": "boolean"},
            "next_before": maybe("integer"),
        }
    ),
    "Performance.Whole": closed(_WHOLE),
    "Performance.Export": _list_of_named("Performance.Whole"),
    "Performance.Explained": closed(
        {
            **_WHOLE,
            "why_slow": object_of(
                {
                    "verdict": one_of(get_args(Word)),
                    "causes": {
                        "type": "array",
                        "items": object_of(
                            {
                                "phase": one_of(PHASES),
                                **dict.fromkeys(("spent_ms", "expected_ms", "excess_ms"), NUMBER),
                            }
                        ),
                    },
                    "judged": {"type": "array", "items": one_of(PHASES)},
                    "compared_with": COUNT,
                }
            ),
            "shared_batch_with": {
                "type": "array",
                "items": object_of({"id": TEXT, "outcome": one_of(get_args(Outcome)), "overlap_ms": NUMBER_OR_NULL}),
            },
        }
    ),
    "Performance.Cleared": object_of({"object": {"const": "performance"}, "deleted": COUNT}),
    "Performance.Run": object_of({"id": TEXT, "object": {"const": "performance.run"}, "pinned": {"type": "boolean"}}),
}
