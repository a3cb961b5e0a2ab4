"""The replies of /v1/performance as JSON schemas, which the OpenAPI document shows and the tests hold them to."""

from typing import Any, Final, get_args

from heylook_llm import core
from heylook_llm.server.performance.histogram import NAMES
from heylook_llm.server.performance.phases import PHASES
from heylook_llm.server.performance.record import Dialect, Outcome
from heylook_llm.server.performance.summary import DURATIONS, ITL, RATES, TOLD
from heylook_llm.server.performance.telling import COUNTS, STAMPS
from heylook_llm.server.performance.verdict import Word
from heylook_llm.server.performance.windows import WINDOWS

_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_NUMBER: Final = {"type": "number"}
_NUMBER_OR_NULL: Final = {"type": ["number", "null"], "minimum": 0}
_COUNTS_BY_NAME: Final = {"type": "object", "additionalProperties": _COUNT}
_INTEGERS: Final = {"type": "array", "items": _COUNT}


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties, **more}


def _enum(values: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


def _maybe(kind: str) -> dict[str, Any]:
    return {"type": [kind, "null"]}


def _list(name: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


_TOKENS: Final = {name: _COUNT for name in core.Usage.__struct_fields__}  # noqa: C420 (each a schema of its own)
_BRIEF: Final = {
    "id": _TEXT,
    "object": {"const": "performance.request"},
    "model": _TEXT,
    "provider": _maybe("string"),
    "dialect": _enum(get_args(Dialect)),
    "route": _TEXT,
    "stream": {"type": "boolean"},
    "choices": _COUNT,
    "outcome": _enum(get_args(Outcome)),
    "status": _COUNT,
    "error": _maybe("string"),
    "finished_at": {**_NUMBER, "description": "Seconds since 1970."},
    "client": _maybe("string"),
    "client_request_id": _maybe("string"),
    "run_id": _maybe("string"),
    "clock_id": _TEXT,
    **_TOKENS,
    **dict.fromkeys((*DURATIONS.values(), *RATES.values(), "batch_size_mean"), _NUMBER_OR_NULL),
}
_WHOLE: Final = {
    **_BRIEF,
    "phases_ms": {
        "type": "object",
        "properties": dict.fromkeys(PHASES, _NUMBER_OR_NULL),
        "additionalProperties": False,
        "description": "Together the E2E.",
    },
    "timeline": _object(
        {
            **{name: {**_maybe("integer"), "description": "Nanoseconds of the monotonic clock."} for name in STAMPS},
            **{key: {"type": ["integer", "string", "null"]} for key in COUNTS},
            "prefill": {
                "type": "array",
                "items": _object({"start_ns": _COUNT, "end_ns": _COUNT, "tokens": _COUNT}),
            },
            "decode": _object(dict.fromkeys(("gaps_us", "batch_sizes", "drafted", "accepted"), _INTEGERS)),
            "batch_sizes_seen": _COUNTS_BY_NAME,
        }
    ),
}
_MODEL: Final = {
    "count": _COUNT,
    "outcomes": _COUNTS_BY_NAME,
    "errors": _COUNTS_BY_NAME,
    "tokens": _object(_TOKENS),
    "cache_hit_share": _NUMBER_OR_NULL,
    "draft_acceptance": _NUMBER_OR_NULL,
    "batch_size_mean": _NUMBER_OR_NULL,
    "batch_occupancy": _NUMBER_OR_NULL,
    **{key: {"$ref": "#/components/schemas/Performance.Distribution"} for key in (*TOLD.values(), ITL)},
}

SCHEMAS: Final[dict[str, Any]] = {
    "Performance.Distribution": _object(
        {
            "n": _COUNT,
            **{key: {**_NUMBER_OR_NULL, "description": "null: n is too small for it."} for key in NAMES.values()},
            "relative_error": {**_NUMBER_OR_NULL, "description": "null: exact, of the samples themselves."},
        },
        additionalProperties=False,
    ),
    "Performance.Model": _object(_MODEL, additionalProperties=False),
    "Performance.Summary": _object(
        {
            "object": {"const": "performance"},
            "window": _enum(WINDOWS),
            "from": _NUMBER,
            "to": _NUMBER,
            "method": _enum(("samples", "histogram")),
            "relative_error": _NUMBER_OR_NULL,
            "models": {
                "type": "object",
                "additionalProperties": {"$ref": "#/components/schemas/Performance.Model"},
            },
            "refused": _object({"count": _COUNT, "errors": _COUNTS_BY_NAME}, additionalProperties=False),
            "dropped_requests": _COUNT,
        },
        additionalProperties=False,
    ),
    "Performance.Request": _object(_BRIEF, additionalProperties=False),
    "Performance.Requests": _object(
        {
            "object": {"const": "list"},
            "data": _list("Performance.Request"),
            "has_more": {"type": "boolean"},
            "next_before": _maybe("integer"),
        },
        additionalProperties=False,
    ),
    "Performance.Whole": _object(_WHOLE, additionalProperties=False),
    "Performance.Export": _list("Performance.Whole"),
    "Performance.Explained": _object(
        {
            **_WHOLE,
            "why_slow": _object(
                {
                    "verdict": _enum(get_args(Word)),
                    "causes": {
                        "type": "array",
                        "items": _object(
                            {
                                "phase": _enum(PHASES),
                                **dict.fromkeys(("spent_ms", "expected_ms", "excess_ms"), _NUMBER),
                            }
                        ),
                    },
                    "judged": {"type": "array", "items": _enum(PHASES)},
                    "compared_with": _COUNT,
                }
            ),
            "shared_batch_with": {
                "type": "array",
                "items": _object({"id": _TEXT, "outcome": _enum(get_args(Outcome)), "overlap_ms": _NUMBER_OR_NULL}),
            },
        },
        additionalProperties=False,
    ),
    "Performance.Cleared": _object({"object": {"const": "performance"}, "deleted": _COUNT}),
    "Performance.Run": _object({"id": _TEXT, "object": {"const": "performance.run"}, "pinned": {"type": "boolean"}}),
}
