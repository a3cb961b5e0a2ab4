"""The replies of /hardware as JSON schemas, which the OpenAPI document shows and the tests hold them to."""

from typing import Any, Final

from heylook_llm.server.performance.schemas import COUNT, NUMBER, NUMBER_OR_NULL, TEXT, maybe, object_of

_REASONS: Final = {
    "type": "object",
    "additionalProperties": TEXT,
    "description": "Field -> why it isn't known.",
}
_COUNT_OR_NULL: Final = maybe("integer")


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return object_of(properties, additionalProperties=False)


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": [schema, {"type": "null"}]}


_PROCESSOR: Final = _closed(
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
        "instruction_sets": _array(TEXT),
        "microcode": maybe("string"),
    }
)
_MODULE: Final = _closed(
    {
        "slot": maybe("string"),
        "size_bytes": COUNT,
        "kind": maybe("string"),
        "speed_mts": {**_COUNT_OR_NULL, "description": "Million transfers per second."},
        "manufacturer": maybe("string"),
        "part_number": maybe("string"),
    }
)
_GPU: Final = _closed(
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
_ENGINE: Final = _or_null(_closed({"version": TEXT, "uses_gpu": {"type": "boolean"}}))
_COMPUTE: Final = {"enum": ["cpu", "gpu", "hybrid", None]}

SCHEMAS: Final[dict[str, Any]] = {
    "Hardware.Inventory": _closed(
        {
            "object": {"const": "hardware"},
            "label": maybe("string"),
            "machine": maybe("string"),
            "firmware": maybe("string"),
            "processor": _PROCESSOR,
            "memory": _closed(
                {
                    "description": maybe("string"),
                    "total_bytes": COUNT,
                    "swap_bytes": COUNT,
                    "modules": _or_null(_array(_MODULE)),
                }
            ),
            "gpus": _array(_GPU),
            "system": _closed(
                {
                    "name": TEXT,
                    "distribution": maybe("string"),
                    "kernel": TEXT,
                    "architecture": TEXT,
                    "python": TEXT,
                }
            ),
            "engines": _closed({"heylookllm": TEXT, "llama_cpp": _ENGINE, "mlx": _ENGINE}),
            "overridden": {**_array(TEXT), "description": "What the owner says, in models.yaml."},
            "unknown": _REASONS,
        }
    ),
    "Hardware.Now": _closed(
        {
            "object": {"const": "hardware.live"},
            "at": {**NUMBER, "description": "Seconds since 1970."},
            "seconds": {**NUMBER_OR_NULL, "description": "What percentages and watts are the mean over."},
            "cpu": _closed(
                {
                    "percent": NUMBER_OR_NULL,
                    "core_percents": _or_null(_array(NUMBER)),
                    "mhz": NUMBER_OR_NULL,
                    "temperature_celsius": maybe("number"),
                    "load_average": _array(NUMBER),
                }
            ),
            "memory": _closed({"total_bytes": COUNT, "available_bytes": COUNT, "swap_used_bytes": COUNT}),
            "gpus": _array(
                _closed(
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
            "power": _closed(
                {
                    "watts": NUMBER_OR_NULL,
                    "idle_watts": {**NUMBER_OR_NULL, "description": "While nothing is computed."},
                    "counters": {"type": "object", "additionalProperties": NUMBER},
                }
            ),
            "models": {
                "type": "object",
                "additionalProperties": _closed(
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
