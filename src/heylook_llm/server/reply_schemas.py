"""The shapes of replies that tell of models and requests, as JSON schemas; the tests hold replies to them."""

from typing import Final

from heylook_llm.server import answer_schemas
from heylook_llm.server.schema_words import (
    COUNT,
    FLAG,
    SECONDS,
    STATE,
    TEXT,
    TIME,
    Schema,
    closed,
    closed_or_null,
    just,
    list_of,
    map_of,
    or_null,
    see,
)


def _page(items: Schema) -> Schema:
    return closed(
        {
            "object": just("list"),
            "data": list_of(items),
            "has_more": FLAG,
            "first_id": or_null(TEXT),
            "last_id": or_null(TEXT),
        }
    )


_STATUS: Final[Schema] = {
    "id": TEXT,
    "object": just("model.status"),
    "state": STATE,
    "pinned": FLAG,
    "in_flight": COUNT,
    "queued": COUNT,
    "loaded_at": or_null(SECONDS),
    "expires_at": or_null(SECONDS),
    "resident_bytes": or_null(COUNT),
    "n_ctx": or_null(COUNT),
    "last_error": or_null(TEXT),
    "crashes": COUNT,
    "pid": or_null(COUNT),
    "kv_used_tokens": or_null(COUNT),
    "kv_retained_tokens": or_null(COUNT),
}
_DOCUMENTED: Final = closed({"value": {}, "what": TEXT})
_KEPT: Final = closed(
    {
        "file": {**or_null(TEXT), "description": "null: in memory, as long as the server runs."},
        "used_bytes": COUNT,
        "keep_bytes": COUNT,
        "keep_seconds": {**or_null(SECONDS), "description": "null: for ever."},
    }
)
_FOLDER: Final = closed({"folder": or_null(TEXT), "free_bytes": or_null(COUNT)})
_FILE: Final = closed(
    {
        "id": TEXT,
        "object": just("file"),
        "bytes": COUNT,
        "created_at": COUNT,
        "expires_at": or_null(COUNT),
        "filename": TEXT,
        "purpose": TEXT,
        "status": TEXT,
        "status_details": or_null(TEXT),
    }
)
_OLLAMA_DETAILS: Final = closed(
    {
        "parent_model": TEXT,
        "format": TEXT,
        "family": TEXT,
        "families": list_of(TEXT),
        "parameter_size": TEXT,
        "quantization_level": TEXT,
    },
    {"context_length": COUNT, "embedding_length": COUNT},
)
_TREATMENTS: Final = map_of(
    closed({"treatment": {"enum": ["honoured", "ignored", "refused"]}}, {"note": TEXT}),
)

_ITEM: Final[Schema] = {
    "type": "object",
    "required": ["id", "type"],
    "properties": {
        "id": TEXT,
        "type": {
            "enum": [
                *("message", "reasoning", "function_call", "function_call_output"),
                *("custom_tool_call", "custom_tool_call_output"),
            ]
        },
        "status": {"enum": ["in_progress", "completed", "incomplete"]},
        "role": TEXT,
        "content": list_of({"type": "object"}),
        "summary": list_of({"type": "object"}),
        "call_id": TEXT,
        "name": TEXT,
        "arguments": TEXT,
        "input": TEXT,
    },
    "description": "An item of a conversation, as OpenAI describes it.",
}
_RESPONSE_USAGE: Final[Schema] = closed(
    {
        "input_tokens": COUNT,
        "input_tokens_details": closed({"cached_tokens": COUNT, "cache_write_tokens": COUNT}),
        "output_tokens": COUNT,
        "output_tokens_details": closed({"reasoning_tokens": COUNT}),
        "total_tokens": COUNT,
    }
)
_RESPONSE: Final[Schema] = closed(
    {
        "id": TEXT,
        "object": just("response"),
        "created_at": COUNT,
        "status": {"enum": ["completed", "incomplete", "failed", "cancelled", "queued", "in_progress"]},
        "completed_at": or_null(COUNT),
        "error": or_null(closed({"code": TEXT, "message": TEXT})),
        "incomplete_details": or_null(closed({"reason": TEXT})),
        "model": TEXT,
        "output": list_of(_ITEM),
        "background": FLAG,
        "instructions": or_null(TEXT),
        "max_output_tokens": or_null(COUNT),
        "max_tool_calls": {},
        "parallel_tool_calls": FLAG,
        "previous_response_id": or_null(TEXT),
        "prompt_cache_key": {},
        "safety_identifier": {},
        "store": FLAG,
        "temperature": or_null(SECONDS),
        "top_p": or_null(SECONDS),
        "truncation": {"enum": ["auto", "disabled"]},
        "user": {},
        "metadata": map_of(TEXT),
        "reasoning": closed({"effort": or_null(TEXT), "summary": or_null(TEXT)}),
        "service_tier": TEXT,
        "text": closed({"format": {"type": "object"}}, {"verbosity": {}}),
        "tool_choice": {"type": ["string", "object"]},
        "tools": list_of({"type": "object"}),
        "top_logprobs": COUNT,
        "usage": or_null(_RESPONSE_USAGE),
    },
    {"timings": {"type": "object"}, "performance": {"type": "object"}},
)

REPLIES: Final[dict[str, Schema]] = {
    "Response": _RESPONSE,
    "ResponseItems": closed(
        {
            "object": just("list"),
            "data": list_of(_ITEM),
            "first_id": or_null(TEXT),
            "last_id": or_null(TEXT),
            "has_more": FLAG,
        }
    ),
    "DeletedResponse": closed({"id": TEXT, "object": just("response"), "deleted": {"const": True}}),
    "InputTokens": closed({"object": just("response.input_tokens"), "input_tokens": COUNT}),
    "Health": closed(
        {
            "status": {"enum": ["ok", "degraded"]},
            "version": TEXT,
            "models": map_of(
                closed(
                    {"state": STATE, "in_flight": COUNT, "queued": COUNT},
                    {"load_fraction": SECONDS, "last_error": TEXT},
                )
            ),
        },
        {"registry": closed({"file": TEXT, "read_at": SECONDS, "valid": FLAG}, {"error": TEXT})},
    ),
    "Model": closed(
        {
            "id": TEXT,
            "object": just("model"),
            "created": COUNT,
            "owned_by": TEXT,
            "type": just("model"),
            "display_name": TEXT,
            "created_at": TIME,
            "aliases": list_of(TEXT),
            "status": closed({"value": STATE}),
            "max_model_len": or_null(COUNT),
            "max_input_tokens": or_null(COUNT),
            "max_tokens": or_null(COUNT),
            "lifecycle": TEXT,
            "capabilities": {"oneOf": [list_of(TEXT), {"type": "object", "description": "For Anthropic's clients."}]},
            "architecture": closed({"input_modalities": list_of(TEXT), "output_modalities": list_of(TEXT)}),
            "meta": closed({name: or_null(COUNT) for name in ("n_ctx_train", "n_params", "n_vocab", "size")}),
        }
    ),
    "Models": _page(see("Model")),
    "Deleted": closed({"id": TEXT, "object": TEXT, "deleted": FLAG}),
    "File": _FILE,
    "Files": _page(see("File")),
    "Batch": closed(
        {
            "id": TEXT,
            "object": just("batch"),
            "endpoint": TEXT,
            "input_file_id": TEXT,
            "completion_window": TEXT,
            "status": TEXT,
            "errors": {
                "type": ["object", "null"],
                "properties": {"object": TEXT, "data": list_of({"type": "object"})},
            },
            "request_counts": closed({"total": COUNT, "completed": COUNT, "failed": COUNT}),
            "metadata": {"type": ["object", "null"], "additionalProperties": TEXT},
            "created_at": COUNT,
            "expires_at": COUNT,
            **dict.fromkeys(("output_file_id", "error_file_id"), or_null(TEXT)),
            **dict.fromkeys(
                (
                    *("in_progress_at", "finalizing_at", "completed_at", "failed_at"),
                    *("expired_at", "cancelling_at", "cancelled_at"),
                ),
                or_null(COUNT),
            ),
        }
    ),
    "Batches": _page(see("Batch")),
    "Request": closed(
        {
            "id": TEXT,
            "object": just("request"),
            "model": TEXT,
            "route": TEXT,
            "state": TEXT,
            "stream": FLAG,
            "created": COUNT,
            "seconds": SECONDS,
            "choices": COUNT,
            "prompt_tokens": or_null(COUNT),
            "processed_tokens": or_null(COUNT),
            "output_tokens": or_null(COUNT),
        }
    ),
    "Requests": closed({"object": just("list"), "data": list_of(see("Request"))}),
    "Cancelled": closed({"id": TEXT, "object": just("request"), "cancelled": FLAG}),
    "Status": closed(_STATUS),
    "ModelStates": closed(
        {
            "object": just("list"),
            "data": list_of(
                closed(
                    {
                        **_STATUS,
                        **dict.fromkeys(("provider", "description", "format"), TEXT),
                        **dict.fromkeys(("aliases", "tags"), list_of(TEXT)),
                        "load_fraction": or_null(SECONDS),
                        "size_bytes": COUNT,
                        "modified_at": SECONDS,
                        **dict.fromkeys(("architecture", "quantization"), or_null(TEXT)),
                        **dict.fromkeys(("parameters", "context_length", "n_ctx_trained"), or_null(COUNT)),
                        "capabilities": {"type": ["array", "null"], "items": TEXT},
                        "compute": {"enum": ["cpu", "gpu", "hybrid", None]},
                        **dict.fromkeys(
                            (
                                *("layers", "layers_gpu", "weights_bytes", "kv_bytes"),
                                *("gpu_bytes", "kv_tokens", "n_parallel"),
                            ),
                            or_null(COUNT),
                        ),
                    }
                )
            ),
        }
    ),
    "Flushed": closed(
        {"id": TEXT, "object": just("model.cache"), "flushed_tokens": COUNT, "flushed_saved_bytes": COUNT}
    ),
    "Import": closed(
        {
            "object": just("model.import"),
            "written": FLAG,
            "file": TEXT,
            "plan": TEXT,
            "models": list_of(
                closed(
                    {
                        "id": TEXT,
                        "path": TEXT,
                        "provider": TEXT,
                        "kind": TEXT,
                        "architecture": TEXT,
                        "parameters": or_null(COUNT),
                        "quantization": or_null(TEXT),
                        "context_length": or_null(COUNT),
                        "size_bytes": COUNT,
                        "abilities": list_of(TEXT),
                        "projector": or_null(TEXT),
                        "drafts_for": list_of(TEXT),
                        "config": {"type": "object"},
                    }
                )
            ),
            "served": list_of(TEXT),
            "skipped": list_of(closed({"path": TEXT, "reason": TEXT})),
            "skipped_count": COUNT,
            "difference": TEXT,
        }
    ),
    "Settings": closed(
        {
            "object": just("settings"),
            "server": closed(
                {
                    "version": TEXT,
                    "api": {"enum": ["openai", "ollama", "both"]},
                    "pid": COUNT,
                    "started_at": SECONDS,
                    **dict.fromkeys(("key_required", "open_admin", "record_text"), FLAG),
                }
            ),
            "registry": closed_or_null({"file": TEXT, "error": or_null(TEXT)}),
            "models": map_of(_DOCUMENTED),
            "limits": map_of(_DOCUMENTED),
            "callers": closed({"hosts": list_of(TEXT), "origins": list_of(TEXT), "app_origins": FLAG}),
            "media": closed({"urls": {"enum": ["public", "listed", "off"]}, "hosts": list_of(TEXT)}),
            "import_roots": {"type": ["array", "null"], "items": TEXT},
            "storage": closed(
                {
                    **dict.fromkeys(("performance", "responses"), _KEPT),
                    **dict.fromkeys(("models", "files"), _FOLDER),
                }
            ),
            "providers": map_of(closed({"installed": FLAG, "version": or_null(TEXT), "missing": or_null(TEXT)})),
        }
    ),
    "ModelSettings": closed(
        {
            "id": TEXT,
            "object": just("model.settings"),
            "provider": TEXT,
            "file": TEXT,
            "overlay": TEXT,
            "schema": {"type": "object", "description": "A JSON schema of the values, each with what it does."},
            "values": {"type": "object", "description": "As they are, or would be."},
            "changed": {**list_of(TEXT), "description": "Names that stand in the overlay."},
        },
        {
            "written": FLAG,
            "reloads": {**FLAG, "description": "A loaded model is loaded anew for it, once it is idle."},
            "difference": TEXT,
        },
    ),
    "Capabilities": closed(
        {
            "object": just("capabilities"),
            "server": closed({"name": TEXT, "version": TEXT, "time": COUNT}),
            "apis": list_of(TEXT),
            "fields": map_of(map_of(_TREATMENTS)),
            "limits": map_of(COUNT),
            "images": closed({"formats": list_of(TEXT), "urls": TEXT, "max_file_pixels": COUNT, "max_frames": COUNT}),
            "providers": map_of(map_of(closed({"supported": FLAG, "what": TEXT}, {"reason": TEXT, "note": TEXT}))),
            "models": list_of(
                closed(
                    {
                        "id": TEXT,
                        "aliases": list_of(TEXT),
                        "provider": TEXT,
                        "state": STATE,
                        "capabilities": or_null(list_of(TEXT)),
                        "n_ctx": or_null(COUNT),
                        "n_ctx_trained": or_null(COUNT),
                        "n_parallel": or_null(COUNT),
                        "kv_tokens": or_null(COUNT),
                    }
                )
            ),
        }
    ),
    "Props": closed(
        {
            "default_generation_settings": closed({"n_ctx": COUNT, "params": {"type": "object"}}),
            "total_slots": COUNT,
            "model_alias": TEXT,
            "model_ftype": or_null(TEXT),
            "model_path": TEXT,
            "modalities": closed({"vision": FLAG, "audio": FLAG, "video": FLAG}),
            "endpoint_slots": FLAG,
            "endpoint_props": FLAG,
            "endpoint_metrics": FLAG,
            "chat_template": TEXT,
            "bos_token": TEXT,
            "eos_token": TEXT,
            "build_info": TEXT,
            "is_sleeping": FLAG,
        }
    ),
    "Slots": list_of(
        closed(
            {"id": COUNT, "n_ctx": COUNT, "is_processing": FLAG},
            {
                "id_task": COUNT,
                "n_prompt_tokens": COUNT,
                "n_prompt_tokens_processed": {"type": "integer"},
                "n_prompt_tokens_cache": COUNT,
                "next_token": list_of(
                    closed({"has_next_token": FLAG, "n_remain": {"type": "integer"}, "n_decoded": COUNT})
                ),
            },
        )
    ),
    "OllamaVersion": closed({"version": TEXT}),
    "OllamaStatus": closed({"cloud": closed({"disabled": FLAG, "source": TEXT})}),
    "OllamaRecommendations": closed({"recommendations": list_of(closed({"model": TEXT, "description": TEXT}))}),
    "OllamaTags": closed(
        {
            "models": list_of(
                closed(
                    {
                        "name": TEXT,
                        "model": TEXT,
                        "modified_at": TIME,
                        "size": COUNT,
                        "digest": TEXT,
                        "details": _OLLAMA_DETAILS,
                        "capabilities": list_of(TEXT),
                    }
                )
            )
        }
    ),
    "OllamaRunning": closed(
        {
            "models": list_of(
                closed(
                    {
                        "name": TEXT,
                        "model": TEXT,
                        "size": COUNT,
                        "digest": TEXT,
                        "details": _OLLAMA_DETAILS,
                        "expires_at": TIME,
                        "size_vram": COUNT,
                        "context_length": COUNT,
                    }
                )
            )
        }
    ),
    "OllamaModel": closed(
        {
            "template": TEXT,
            "details": _OLLAMA_DETAILS,
            "model_info": {"type": "object"},
            "capabilities": list_of(TEXT),
            "modified_at": TIME,
        },
        {
            "license": TEXT,
            "modelfile": TEXT,
            "parameters": TEXT,
            "system": TEXT,
            "messages": list_of(closed({"role": TEXT, "content": TEXT})),
            "projector_info": {"type": "object"},
            "tensors": list_of(closed({"name": TEXT, "type": TEXT, "shape": list_of(COUNT)})),
        },
    ),
}
"""By the names that rows of the route table give."""


def schemas() -> dict[str, Schema]:
    """Every reply's schema, by its name in the document."""
    return {f"Reply.{name}": schema for name, schema in (REPLIES | answer_schemas.ANSWERS).items()}
