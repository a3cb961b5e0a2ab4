"""The replies of the profile, the models' history and the trace as JSON schemas; the tests hold them to these."""

from typing import Any, Final

from heylook_llm.server.performance.live_schemas import CHANGE
from heylook_llm.server.performance.profile import OPERATIONS, SPANS
from heylook_llm.server.performance.schemas import COUNTS_BY_NAME, NUMBER_OR_NULL, maybe, one_of
from heylook_llm.server.schema_words import COUNT, NUMBER, TEXT, closed, list_of

_TIME: Final = {**NUMBER, "description": "Seconds since 1970."}
_CHANGE_OR_NULL: Final = {**maybe("number"), "description": "In percent of the one before."}
_BYTES_OR_NULL: Final = maybe("integer")

_BUCKET: Final = closed(
    {
        "timestamp": _TIME,
        "requests": COUNT,
        "errors": COUNT,
        "tokens_per_second": NUMBER,
        **dict.fromkeys(("memory_used_bytes", "models_resident_bytes", "gpu_memory_used_bytes"), _BYTES_OR_NULL),
        **dict.fromkeys(("cpu_percent", "gpu_percent", "power_watts"), NUMBER_OR_NULL),
    }
)
_TREND: Final = closed(
    {
        "hour": _TIME,
        "requests": COUNT,
        "errors": COUNT,
        **dict.fromkeys(("response_time_ms", "first_token_ms", "tokens_per_second"), NUMBER_OR_NULL),
        **dict.fromkeys(("response_time_change", "tps_change"), _CHANGE_OR_NULL),
        "draft_acceptance": NUMBER_OR_NULL,
    }
)
_MODEL: Final = closed(
    {
        "model": TEXT,
        "provider": TEXT,
        "state": TEXT,
        "compute": {"enum": ["cpu", "gpu", "hybrid", None]},
        "layers": maybe("integer"),
        "layers_gpu": maybe("integer"),
        "loaded_at": maybe("number"),
        **dict.fromkeys(("loads", "failures", "crashes"), COUNT),
        "evictions": {**COUNTS_BY_NAME, "description": "By reason: place, memory, reload, idle, asked."},
        "load_ms": {"$ref": "#/components/schemas/Performance.Distribution"},
        "memory": closed(
            dict.fromkeys(
                (
                    *("resident_bytes", "peak_resident_bytes", "weights_bytes", "kv_bytes", "gpu_bytes"),
                    *("kv_tokens", "kv_used_tokens"),
                ),
                _BYTES_OR_NULL,
            )
        ),
        "history": list_of(CHANGE),
    }
)

SCHEMAS: Final[dict[str, Any]] = {
    "Performance.Profile": closed(
        {
            "object": {"const": "performance.profile"},
            "time_range": closed({"window": one_of(SPANS), "from": _TIME, "to": _TIME, "bucket_seconds": NUMBER}),
            "request_count": COUNT,
            "timing_breakdown": list_of(
                closed(
                    {
                        "operation": one_of(OPERATIONS),
                        "avg_time_ms": NUMBER_OR_NULL,
                        "count": COUNT,
                        "percentage": NUMBER_OR_NULL,
                    }
                )
            ),
            "resource_timeline": list_of(_BUCKET),
            "bottlenecks": list_of(
                closed(
                    {
                        "model": TEXT,
                        "request_count": COUNT,
                        "avg_total_ms": NUMBER_OR_NULL,
                        "breakdown": closed(dict.fromkeys((*OPERATIONS, "first_token"), NUMBER_OR_NULL)),
                        "largest": {"enum": [*OPERATIONS, None]},
                    }
                )
            ),
            "trends": list_of(_TREND),
        }
    ),
    "Performance.Models": closed({"object": {"const": "list"}, "data": list_of(_MODEL)}),
    "Performance.Trace": {
        **closed(
            {
                "timestamp": {**COUNT, "description": "Milliseconds since the first request came."},
                "input_length": COUNT,
                "output_length": COUNT,
                "hash_ids": list_of(COUNT),
                "model": TEXT,
            }
        ),
        "description": "Of each line.",
    },
}
