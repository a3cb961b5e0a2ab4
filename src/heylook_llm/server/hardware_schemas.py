"""The replies of /hardware as JSON schemas, which the OpenAPI document shows and the tests hold them to."""

from typing import Any, Final

from heylook_llm.server.performance.schemas import NUMBER_OR_NULL, maybe
from heylook_llm.server.schema_words import COUNT, NUMBER, TEXT, closed, list_of

_REASONS: Final = {
    "type": "object",
    "additionalProperties": TEXT,
    "description": "Field -> why it isn't known.",
}
_COUNT_OR_NULL: Final = maybe("integer")


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": [schema, {"type": "null"}]}


_PROCESSOR: Final = closed(
    {
        "name": TEXT,
        "vendor": maybe("string"),
        "architecture": TEXT,
        "physical_cores": _COUNT_OR_NULL,
        "logical_cores": COUNT,
        "available_cores": {**NUMBER, "description": "What this process may use: affinity and cgroup."},
        "performance_cores": _COUNT_OR_NULL,
        "efficiency_cores": _COUNT_OR_NULL,
        "min_mhz": NUMBER_OR_NULL,
        "max_mhz": NUMBER_OR_NULL,
        "instruction_sets": list_of(TEXT),
        "microcode": maybe("string"),
    }
)
_MODULE: Final = closed(
    {
        "slot": maybe("string"),
        "size_bytes": COUNT,
        "kind": maybe("string"),
        "speed_mts": {**_COUNT_OR_NULL, "description": "Million transfers per second."},
        "manufacturer": maybe("string"),
        "part_number": maybe("string"),
    }
)
_GPU: Final = closed(
    {
        "index": COUNT,
        "name": TEXT,
        "vendor": TEXT,
        "memory_bytes": {**_COUNT_OR_NULL, "description": "null: it shares the machine's."},
        "driver": maybe("string"),
        "cores": _COUNT_OR_NULL,
        "compute_capability": maybe("string"),
        "bus": maybe("string"),
        "power_limit_watts": NUMBER_OR_NULL,
    }
)
_ENGINE: Final = _or_null(closed({"version": TEXT, "uses_gpu": {"type": "boolean"}}))
_COMPUTE: Final = {"enum": ["cpu", "gpu", "hybrid", None]}

SCHEMAS: Final[dict[str, Any]] = {
    "Hardware.Inventory": closed(
        {
            "object": {"const": "hardware"},
            "label": maybe("string"),
            "machine": maybe("string"),
            "firmware": maybe("string"),
            "processor": _PROCESSOR,
            "memory": closed(
                {
                    "description": maybe("string"),
                    "total_bytes": COUNT,
                    "swap_bytes": COUNT,
                    "modules": _or_null(list_of(_MODULE)),
                }
            ),
            "gpus": list_of(_GPU),
            "system": closed(
                {
                    "name": TEXT,
                    "distribution": maybe("string"),
                    "kernel": TEXT,
                    "architecture": TEXT,
                    "python": TEXT,
                }
            ),
            "engines": closed({"heylookllm": TEXT, "llama_cpp": _ENGINE, "mlx": _ENGINE}),
            "overridden": {**list_of(TEXT), "description": "What the owner says, in models.yaml."},
            "unknown": _REASONS,
        }
    ),
    "Hardware.Now": closed(
        {
            "object": {"const": "hardware.live"},
            "at": {**NUMBER, "description": "Seconds since 1970."},
            "seconds": {**NUMBER_OR_NULL, "description": "What percentages and watts are the mean over."},
            "cpu": closed(
                {
                    "percent": NUMBER_OR_NULL,
                    "core_percents": _or_null(list_of(NUMBER)),
                    "mhz": NUMBER_OR_NULL,
                    "temperature_celsius": maybe("number"),
                    "load_average": list_of(NUMBER),
                }
            ),
            "memory": closed({"total_bytes": COUNT, "available_bytes": COUNT, "swap_used_bytes": COUNT}),
            "gpus": list_of(
                closed(
                    {
                        "index": COUNT,
                        "percent": NUMBER_OR_NULL,
                        "memory_used_bytes": _COUNT_OR_NULL,
                        "memory_total_bytes": _COUNT_OR_NULL,
                        "temperature_celsius": maybe("number"),
                        "power_watts": NUMBER_OR_NULL,
                        "mhz": NUMBER_OR_NULL,
                    }
                )
            ),
            "power": closed(
                {
                    "watts": NUMBER_OR_NULL,
                    "idle_watts": {**NUMBER_OR_NULL, "description": "While nothing is computed."},
                    "counters": {"type": "object", "additionalProperties": NUMBER},
                }
            ),
            "models": {
                "type": "object",
                "additionalProperties": closed(
                    {
                        "compute": _COMPUTE,
                        "layers": _COUNT_OR_NULL,
                        "layers_gpu": _COUNT_OR_NULL,
                        "gpu_bytes": _COUNT_OR_NULL,
                        "resident_bytes": _COUNT_OR_NULL,
                        "peak_resident_bytes": _COUNT_OR_NULL,
                    }
                ),
            },
            "unknown": _REASONS,
        }
    ),
}
