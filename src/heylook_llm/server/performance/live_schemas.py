"""The messages of the live feed as a JSON schema, which the OpenAPI document shows and the tests hold them to."""

from typing import Any, Final, get_args

from heylook_llm.server.performance.live import CHANGES, Kind
from heylook_llm.server.performance.schemas import NUMBER_OR_NULL, maybe
from heylook_llm.server.schema_words import COUNT, NUMBER, TEXT, closed, list_of

_SPEEDS: Final = {"tokens_per_second": NUMBER_OR_NULL, "prompt_tokens_per_second": NUMBER_OR_NULL}

CHANGE: Final = closed(
    {
        "id": TEXT,
        "provider": TEXT,
        "change": {"enum": list(CHANGES)},
        "at": {**NUMBER, "description": "Seconds since 1970."},
        "seconds": {**NUMBER_OR_NULL, "description": "loaded: of loading; evicted, crashed: since then."},
        "reason": maybe("string"),
        "resident_bytes": maybe("integer"),
        "peak_resident_bytes": maybe("integer"),
    }
)
SAMPLE: Final = closed(
    {
        **_SPEEDS,
        "in_flight": COUNT,
        "queued": COUNT,
        "batch_size": NUMBER_OR_NULL,
        "models": {
            "type": "object",
            "additionalProperties": closed(
                {
                    **_SPEEDS,
                    **dict.fromkeys(("running", "waiting", "batch_size", "kv_used_tokens"), COUNT),
                    **dict.fromkeys(("kv_tokens", "resident_bytes"), maybe("integer")),
                }
            ),
        },
        "cpu_percent": NUMBER_OR_NULL,
        "memory_used_bytes": COUNT,
        "memory_total_bytes": COUNT,
        "gpus": list_of(closed({"index": COUNT, "percent": NUMBER_OR_NULL, "memory_used_bytes": maybe("integer")})),
        "power_watts": NUMBER_OR_NULL,
    }
)
_ALWAYS: Final = {
    "type": {"enum": list(get_args(Kind))},
    "id": {**TEXT, "description": "To go on from: `Last-Event-ID`."},
    "at": NUMBER,
}

SCHEMAS: Final[dict[str, Any]] = {
    "Performance.Change": CHANGE,
    "Performance.Sample": SAMPLE,
    "Performance.Live": {
        "description": "The data of each event, and each message of the WebSocket.",
        "type": "object",
        "required": list(_ALWAYS),
        "properties": {
            **_ALWAYS,
            "request": {"description": "request.started: as /v1/requests tells it; request.finished: as below."},
            "model": {"$ref": "#/components/schemas/Performance.Change"},
            "sample": {"$ref": "#/components/schemas/Performance.Sample"},
            "requests": {"type": "array", "description": "snapshot: those in flight.", "items": {"type": "object"}},
            "models": {"type": "object", "description": "snapshot: their states, as /health tells them."},
        },
        "allOf": [
            {
                "if": {"properties": {"type": {"const": "request.finished"}}},
                "then": {"properties": {"request": {"$ref": "#/components/schemas/Performance.Request"}}},
            },
            {"if": {"properties": {"type": {"const": "sample"}}}, "then": {"required": ["sample"]}},
            {"if": {"properties": {"type": {"const": "snapshot"}}}, "then": {"required": ["requests", "models"]}},
        ],
        "additionalProperties": False,
    },
}
