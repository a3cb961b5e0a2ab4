"""The shapes of replies that tell of models and requests, as JSON schemas; the tests hold replies to them."""

from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
SECONDS: Final[Schema] = {"type": "number"}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
STATE: Final[Schema] = {"type": "string", "examples": ["ready", "unloaded", "loading", "draining", "crashed"]}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _is(word: str) -> Schema:
    return {"type": "string", "const": word}


def _see(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/Reply.{name}"}


def _page(items: Schema) -> Schema:
    return _object(
        {
            "object": _is("list"),
            "data": _list(items),
            "has_more": FLAG,
            "first_id": _or_null(TEXT),
            "last_id": _or_null(TEXT),
        }
    )


def _object_or_null(required: Schema) -> Schema:
    return {**_object(required), "type": ["object", "null"]}


_STATUS: Final[Schema] = {
    "id": TEXT,
    "object": _is("model.status"),
    "state": STATE,
    "pinned": FLAG,
    "in_flight": COUNT,
    "queued": COUNT,
    "loaded_at": _or_null(SECONDS),
    "expires_at": _or_null(SECONDS),
    "resident_bytes": _or_null(COUNT),
    "n_ctx": _or_null(COUNT),
    "last_error": _or_null(TEXT),
    "crashes": COUNT,
    "pid": _or_null(COUNT),
    "kv_used_tokens": _or_null(COUNT),
    "kv_retained_tokens": _or_null(COUNT),
}
_DOCUMENTED: Final = _object({"value": {}, "what": TEXT})
_KEPT: Final = _object(
    {
        "file": {**_or_null(TEXT), "description": "null: in memory, as long as the server runs."},
        "used_bytes": COUNT,
        "keep_bytes": COUNT,
        "keep_seconds": {**_or_null(SECONDS), "description": "null: for ever."},
    }
)
_FOLDER: Final = _object({"folder": _or_null(TEXT), "free_bytes": _or_null(COUNT)})
_FILE: Final = _object(
    {
        "id": TEXT,
        "object": _is("file"),
        "bytes": COUNT,
        "created_at": COUNT,
        "expires_at": _or_null(COUNT),
        "filename": TEXT,
        "purpose": TEXT,
        "status": TEXT,
        "status_details": _or_null(TEXT),
    }
)
_OLLAMA_DETAILS: Final = _object(
    {
        "parent_model": TEXT,
        "format": TEXT,
        "family": TEXT,
        "families": _list(TEXT),
        "parameter_size": TEXT,
        "quantization_level": TEXT,
    },
    {"context_length": COUNT, "embedding_length": COUNT},
)
_TREATMENTS: Final = _map(
    _object({"treatment": {"enum": ["honoured", "ignored", "refused"]}}, {"note": TEXT}),
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
        "content": _list({"type": "object"}),
        "summary": _list({"type": "object"}),
        "call_id": TEXT,
        "name": TEXT,
        "arguments": TEXT,
        "input": TEXT,
    },
    "description": "An item of a conversation, as OpenAI describes it.",
}
_RESPONSE_USAGE: Final[Schema] = _object(
    {
        "input_tokens": COUNT,
        "input_tokens_details": _object({"cached_tokens": COUNT, "cache_write_tokens": COUNT}),
        "output_tokens": COUNT,
        "output_tokens_details": _object({"reasoning_tokens": COUNT}),
        "total_tokens": COUNT,
    }
)
_RESPONSE: Final[Schema] = _object(
    {
        "id": TEXT,
        "object": _is("response"),
        "created_at": COUNT,
        "status": {"enum": ["completed", "incomplete", "failed", "cancelled", "queued", "in_progress"]},
        "completed_at": _or_null(COUNT),
        "error": _or_null(_object({"code": TEXT, "message": TEXT})),
        "incomplete_details": _or_null(_object({"reason": TEXT})),
        "model": TEXT,
        "output": _list(_ITEM),
        "background": FLAG,
        "instructions": _or_null(TEXT),
        "max_output_tokens": _or_null(COUNT),
        "max_tool_calls": {},
        "parallel_tool_calls": FLAG,
        "previous_response_id": _or_null(TEXT),
        "prompt_cache_key": {},
        "safety_identifier": {},
        "store": FLAG,
        "temperature": _or_null(SECONDS),
        "top_p": _or_null(SECONDS),
        "truncation": {"enum": ["auto", "disabled"]},
        "user": {},
        "metadata": _map(TEXT),
        "reasoning": _object({"effort": _or_null(TEXT), "summary": _or_null(TEXT)}),
        "service_tier": TEXT,
        "text": _object({"format": {"type": "object"}}, {"verbosity": {}}),
        "tool_choice": {"type": ["string", "object"]},
        "tools": _list({"type": "object"}),
        "top_logprobs": COUNT,
        "usage": _or_null(_RESPONSE_USAGE),
    },
    {"timings": {"type": "object"}, "performance": {"type": "object"}},
)

REPLIES: Final[dict[str, Schema]] = {
    "Response": _RESPONSE,
    "ResponseItems": _object(
        {
            "object": _is("list"),
            "data": _list(_ITEM),
            "first_id": _or_null(TEXT),
            "last_id": _or_null(TEXT),
            "has_more": FLAG,
        }
    ),
    "DeletedResponse": _object({"id": TEXT, "object": _is("response"), "deleted": {"const": True}}),
    "InputTokens": _object({"object": _is("response.input_tokens"), "input_tokens": COUNT}),
    "Health": _object(
        {
            "status": {"enum": ["ok", "degraded"]},
            "version": TEXT,
            "models": _map(
                _object(
                    {"state": STATE, "in_flight": COUNT, "queued": COUNT},
                    {"load_fraction": SECONDS, "last_error": TEXT},
                )
            ),
        },
        {"registry": _object({"file": TEXT, "read_at": SECONDS, "valid": FLAG}, {"error": TEXT})},
    ),
    "Model": _object(
        {
            "id": TEXT,
            "object": _is("model"),
            "created": COUNT,
            "owned_by": TEXT,
            "type": _is("model"),
            "display_name": TEXT,
            "created_at": TIME,
            "aliases": _list(TEXT),
            "status": _object({"value": STATE}),
            "max_model_len": _or_null(COUNT),
            "max_input_tokens": _or_null(COUNT),
            "max_tokens": _or_null(COUNT),
            "lifecycle": TEXT,
            "capabilities": {"oneOf": [_list(TEXT), {"type": "object", "description": "For Anthropic's clients."}]},
            "architecture": _object({"input_modalities": _list(TEXT), "output_modalities": _list(TEXT)}),
            "meta": _object({name: _or_null(COUNT) for name in ("n_ctx_train", "n_params", "n_vocab", "size")}),
        }
    ),
    "Models": _page(_see("Model")),
    "Deleted": _object({"id": TEXT, "object": TEXT, "deleted": FLAG}),
    "File": _FILE,
    "Files": _page(_see("File")),
    "Batch": _object(
        {
            "id": TEXT,
            "object": _is("batch"),
            "endpoint": TEXT,
            "input_file_id": TEXT,
            "completion_window": TEXT,
            "status": TEXT,
            "errors": {
                "type": ["object", "null"],
                "properties": {"object": TEXT, "data": _list({"type": "object"})},
            },
            "request_counts": _object({"total": COUNT, "completed": COUNT, "failed": COUNT}),
            "metadata": {"type": ["object", "null"], "additionalProperties": TEXT},
            "created_at": COUNT,
            "expires_at": COUNT,
            **dict.fromkeys(("output_file_id", "error_file_id"), _or_null(TEXT)),
            **dict.fromkeys(
                (
                    *("in_progress_at", "finalizing_at", "completed_at", "failed_at"),
                    *("expired_at", "cancelling_at", "cancelled_at"),
                ),
                _or_null(COUNT),
            ),
        }
    ),
    "Batches": _page(_see("Batch")),
    "Request": _object(
        {
            "id": TEXT,
            "object": _is("request"),
            "model": TEXT,
            "route": TEXT,
            "state": TEXT,
            "stream": FLAG,
            "created": COUNT,
            "seconds": SECONDS,
            "choices": COUNT,
            "prompt_tokens": _or_null(COUNT),
            "processed_tokens": _or_null(COUNT),
            "output_tokens": _or_null(COUNT),
        }
    ),
    "Requests": _object({"object": _is("list"), "data": _list(_see("Request"))}),
    "Cancelled": _object({"id": TEXT, "object": _is("request"), "cancelled": FLAG}),
    "Status": _object(_STATUS),
    "ModelStates": _object(
        {
            "object": _is("list"),
            "data": _list(
                _object(
                    {
                        **_STATUS,
                        **dict.fromkeys(("provider", "description", "format"), TEXT),
                        **dict.fromkeys(("aliases", "tags"), _list(TEXT)),
                        "load_fraction": _or_null(SECONDS),
                        "size_bytes": COUNT,
                        "modified_at": SECONDS,
                        **dict.fromkeys(("architecture", "quantization"), _or_null(TEXT)),
                        **dict.fromkeys(("parameters", "context_length", "n_ctx_trained"), _or_null(COUNT)),
                        "capabilities": {"type": ["array", "null"], "items": TEXT},
                        "compute": {"enum": ["cpu", "gpu", "hybrid", None]},
                        **dict.fromkeys(
                            (
                                *("layers", "layers_gpu", "weights_bytes", "kv_bytes"),
                                *("gpu_bytes", "kv_tokens", "n_parallel"),
                            ),
                            _or_null(COUNT),
                        ),
                    }
                )
            ),
        }
    ),
    "Flushed": _object(
        {"id": TEXT, "object": _is("model.cache"), "flushed_tokens": COUNT, "flushed_saved_bytes": COUNT}
    ),
    "Import": _object(
        {
            "object": _is("model.import"),
            "written": FLAG,
            "file": TEXT,
            "plan": TEXT,
            "models": _list(
                _object(
                    {
                        "id": TEXT,
                        "path": TEXT,
                        "provider": TEXT,
                        "kind": TEXT,
                        "architecture": TEXT,
                        "parameters": _or_null(COUNT),
                        "quantization": _or_null(TEXT),
                        "context_length": _or_null(COUNT),
                        "size_bytes": COUNT,
                        "abilities": _list(TEXT),
                        "projector": _or_null(TEXT),
                        "drafts_for": _list(TEXT),
                        "config": {"type": "object"},
                    }
                )
            ),
            "served": _list(TEXT),
            "skipped": _list(_object({"path": TEXT, "reason": TEXT})),
            "skipped_count": COUNT,
            "difference": TEXT,
        }
    ),
    "Settings": _object(
        {
            "object": _is("settings"),
            "server": _object(
                {
                    "version": TEXT,
                    "api": {"enum": ["openai", "ollama", "both"]},
                    "pid": COUNT,
                    "started_at": SECONDS,
                    **dict.fromkeys(("key_required", "open_admin", "record_text"), FLAG),
                }
            ),
            "registry": _object_or_null({"file": TEXT, "error": _or_null(TEXT)}),
            "models": _map(_DOCUMENTED),
            "limits": _map(_DOCUMENTED),
            "callers": _object({"hosts": _list(TEXT), "origins": _list(TEXT), "app_origins": FLAG}),
            "media": _object({"urls": {"enum": ["public", "listed", "off"]}, "hosts": _list(TEXT)}),
            "import_roots": {"type": ["array", "null"], "items": TEXT},
            "storage": _object(
                {
                    **dict.fromkeys(("performance", "responses"), _KEPT),
                    **dict.fromkeys(("models", "files"), _FOLDER),
                }
            ),
            "providers": _map(_object({"installed": FLAG, "version": _or_null(TEXT), "missing": _or_null(TEXT)})),
        }
    ),
    "ModelSettings": _object(
        {
            "id": TEXT,
            "object": _is("model.settings"),
            "provider": TEXT,
            "file": TEXT,
            "overlay": TEXT,
            "schema": {"type": "object", "description": "A JSON schema of the values, each with what it does."},
            "values": {"type": "object", "description": "As they are, or would be."},
            "changed": {**_list(TEXT), "description": "Names that stand in the overlay."},
        },
        {
            "written": FLAG,
            "reloads": {**FLAG, "description": "A loaded model is loaded anew for it, once it is idle."},
            "difference": TEXT,
        },
    ),
    "Capabilities": _object(
        {
            "object": _is("capabilities"),
            "server": _object({"name": TEXT, "version": TEXT, "time": COUNT}),
            "apis": _list(TEXT),
            "fields": _map(_map(_TREATMENTS)),
            "limits": _map(COUNT),
            "images": _object({"formats": _list(TEXT), "urls": TEXT, "max_file_pixels": COUNT, "max_frames": COUNT}),
            "providers": _map(_map(_object({"supported": FLAG, "what": TEXT}, {"reason": TEXT, "note": TEXT}))),
            "models": _list(
                _object(
                    {
                        "id": TEXT,
                        "aliases": _list(TEXT),
                        "provider": TEXT,
                        "state": STATE,
                        "capabilities": _or_null(_list(TEXT)),
                        "n_ctx": _or_null(COUNT),
                        "n_ctx_trained": _or_null(COUNT),
                        "n_parallel": _or_null(COUNT),
                        "kv_tokens": _or_null(COUNT),
                    }
                )
            ),
        }
    ),
    "Props": _object(
        {
            "default_generation_settings": _object({"n_ctx": COUNT, "params": {"type": "object"}}),
            "total_slots": COUNT,
            "model_alias": TEXT,
            "model_ftype": _or_null(TEXT),
            "model_path": TEXT,
            "modalities": _object({"vision": FLAG, "audio": FLAG, "video": FLAG}),
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
    "Slots": _list(
        _object(
            {"id": COUNT, "n_ctx": COUNT, "is_processing": FLAG},
            {
                "id_task": COUNT,
                "n_prompt_tokens": COUNT,
                "n_prompt_tokens_processed": {"type": "integer"},
                "n_prompt_tokens_cache": COUNT,
                "next_token": _list(
                    _object({"has_next_token": FLAG, "n_remain": {"type": "integer"}, "n_decoded": COUNT})
                ),
            },
        )
    ),
    "OllamaVersion": _object({"version": TEXT}),
    "OllamaStatus": _object({"cloud": _object({"disabled": FLAG, "source": TEXT})}),
    "OllamaRecommendations": _object({"recommendations": _list(_object({"model": TEXT, "description": TEXT}))}),
    "OllamaTags": _object(
        {
            "models": _list(
                _object(
                    {
                        "name": TEXT,
                        "model": TEXT,
                        "modified_at": TIME,
                        "size": COUNT,
                        "digest": TEXT,
                        "details": _OLLAMA_DETAILS,
                        "capabilities": _list(TEXT),
                    }
                )
            )
        }
    ),
    "OllamaRunning": _object(
        {
            "models": _list(
                _object(
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
    "OllamaModel": _object(
        {
            "template": TEXT,
            "details": _OLLAMA_DETAILS,
            "model_info": {"type": "object"},
            "capabilities": _list(TEXT),
            "modified_at": TIME,
        },
        {
            "license": TEXT,
            "modelfile": TEXT,
            "parameters": TEXT,
            "system": TEXT,
            "messages": _list(_object({"role": TEXT, "content": TEXT})),
            "projector_info": {"type": "object"},
            "tensors": _list(_object({"name": TEXT, "type": TEXT, "shape": _list(COUNT)})),
        },
    ),
}
"""By the names that rows of the route table give."""


def schemas() -> dict[str, Schema]:
    """Every reply's schema, by its name in the document."""
    return {f"Reply.{name}": schema for name, schema in REPLIES.items()}
