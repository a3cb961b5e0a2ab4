"""The admin API: health, load, unload, pin, cache flush, requests in flight, and what the server can do."""

import time
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm import __version__, core, support
from heylook_llm.errors import BadRequest
from heylook_llm.helper import pictures
from heylook_llm.server.backend import ModelStatus
from heylook_llm.server.batch_store import MAX_TOTAL_BYTES
from heylook_llm.server.endpoint import Server, json_response, object_body
from heylook_llm.server.media import MAX_BYTES
from heylook_llm.server.reload import RegistryWatch
from heylook_llm.server.wire import admin_body, anthropic, llama_server, ollama, openai_batches, openai_tables, table
from heylook_llm.server.wire.exchange import Bounds
from heylook_llm.server.wire.openai_body import ChatBody

_AILING: Final = ("stalled", "crashed")


async def health(server: Server, request: Request) -> Response:
    """Whether the server answers, and the state of each model."""
    statuses = server.backend.models()
    ailing = [status.spec.id for status in statuses if status.state in _AILING]
    watch = server.options.registry
    return json_response(
        {
            "status": "degraded" if ailing else "ok",
            "version": __version__,
            "models": {status.spec.id: health_of(status) for status in statuses},
            **({} if watch is None else {"registry": _registry(watch)}),
        }
    )


def _registry(watch: RegistryWatch) -> dict[str, Any]:
    """Without the folder, which is nobody's business on an open route."""
    told = {"file": watch.path.name, "read_at": watch.read_at, "valid": watch.error is None}
    return told if watch.error is None else {**told, "error": watch.error.replace(f"{watch.path.parent}/", "")}


def health_of(status: ModelStatus) -> dict[str, Any]:
    """A model's state."""
    told: dict[str, Any] = {"state": status.state, "in_flight": status.in_flight, "queued": status.queued}
    if status.load_fraction is not None and status.state == "loading":
        told["load_fraction"] = round(status.load_fraction, 3)
    if status.last_error is not None:
        told["last_error"] = status.last_error
    return told


# ---- models ----------------------------------------------------------------------------------------------------------


async def load_model(server: Server, request: Request) -> Response:
    """Load a model, or join the load in flight; the reply comes when it is ready."""
    fields = await object_body(server, request)
    return json_response(status_of(await server.backend.load(_model(request), n_ctx=_n_ctx(fields))))


async def unload_model(server: Server, request: Request) -> Response:
    """Unload a model once it is idle; with `force` its requests end with an error."""
    fields = await object_body(server, request)
    return json_response(status_of(await server.backend.unload(_model(request), force=_flag(fields, "force", False))))


async def pin_model(server: Server, request: Request) -> Response:
    """Pin a model, so that it is neither evicted nor expires; `pinned: false` unpins it."""
    fields = await object_body(server, request)
    return json_response(status_of(await server.backend.pin(_model(request), _flag(fields, "pinned", True))))


async def flush_model_cache(server: Server, request: Request) -> Response:
    """Drop the prompt prefixes that a model keeps: in its pool, in memory and on disk."""
    model = _model(request)
    flushed = await server.backend.flush(model)
    told = {"flushed_tokens": flushed.tokens, "flushed_saved_bytes": flushed.saved_bytes}
    return json_response({"id": model, "object": "model.cache", **told})


def _model(request: Request) -> str:
    model: str = request.path_params["model_id"]
    return model


def _flag(fields: dict[str, Any], name: str, default: bool) -> bool:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"'{name}' must be true or false.", code="invalid_type", param=name)
    return value


def _n_ctx(fields: dict[str, Any]) -> int | None:
    value = fields.get("n_ctx")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 4 <= value <= core.MOST_CONTEXT_TOKENS:
        raise BadRequest("'n_ctx' must be a number of tokens, from 4.", code="invalid_value", param="n_ctx")
    return value


def status_of(status: ModelStatus) -> dict[str, Any]:
    """A model's state, as the routes that change it reply."""
    stats = status.stats
    return {
        "id": status.spec.id,
        "object": "model.status",
        "state": status.state,
        "pinned": status.pinned,
        "in_flight": status.in_flight,
        "queued": status.queued,
        "loaded_at": status.loaded_at,
        "expires_at": status.expires_at,
        "resident_bytes": status.resident_bytes,
        "n_ctx": status.info.n_ctx if status.info else None,
        "last_error": status.last_error,
        "crashes": status.crashes,
        "pid": status.pid,
        "kv_used_tokens": stats.kv_used_tokens if stats else None,
        "kv_retained_tokens": stats.kv_retained_tokens if stats else None,
    }


# ---- requests in flight ----------------------------------------------------------------------------------------------


async def list_requests(server: Server, request: Request) -> Response:
    """The requests that are being answered, oldest first."""
    return json_response({"object": "list", "data": [entry.told() for entry in server.place.in_flight.all()]})


async def retrieve_request(server: Server, request: Request) -> Response:
    """One request that is being answered, by its id or its completion's."""
    return json_response(server.place.in_flight.find(request.path_params["request_id"]).told())


async def cancel_request(server: Server, request: Request) -> Response:
    """Cancel a request; its client gets the error `request_cancelled`."""
    entry = server.place.in_flight.find(request.path_params["request_id"])
    told = entry.told()
    entry.cancel("cancelled")
    return json_response({"id": told["id"], "object": "request", "cancelled": True})


# ---- what the server can do ------------------------------------------------------------------------------------------


async def capabilities(server: Server, request: Request) -> Response:
    """What is honoured, ignored and refused, route by route, from the tables that validate; limits; models."""
    limits = server.options.limits
    dialects = {
        "openai": {
            **{route: _table(body) for route, body in openai_tables.BODIES.items()},
            "POST /v1/chat/completions/multipart": _table(ChatBody),
        },
        "llama_server": {route: _table(body) for route, body in llama_server.BODIES.items()},
        "anthropic": {route: _table(body) for route, body in anthropic.BODIES.items()},
        "ollama": {
            **{route: _table(body) for route, body in ollama.BODIES.items()},
            "options": _table(ollama.OPTIONS),
        },
        "admin": {route: _table(body) for route, body in admin_body.BODIES.items()},
    }
    ours = ("openai", "anthropic")
    enabled = {"openai": ours, "ollama": ("ollama",), "both": (*ours, "ollama")}[server.options.api]
    return json_response(
        {
            "object": "capabilities",
            "server": {"name": "heylookllm", "version": __version__, "time": int(time.time())},
            "apis": list(enabled),
            "fields": {name: dialects[name] for name in _spoken(enabled)},
            "limits": {
                "max_body_bytes": limits.max_body_bytes,
                "max_queue": limits.max_queue,
                "max_n": limits.max_n,
                "max_stop": limits.max_stop,
                "max_tools": limits.max_tools,
                "max_inputs": limits.max_inputs,
                "max_images": limits.max_images,
                "max_image_bytes": MAX_BYTES,
                "max_image_pixels": limits.max_image_pixels,
                "max_prompts": Bounds().max_prompts,
                "max_stop_bytes": Bounds().max_stop_bytes,
                "max_logit_bias": Bounds().max_logit_bias,
                "max_batch_requests": openai_batches.MAX_LINES,
                "max_files_bytes": MAX_TOTAL_BYTES,
            },
            "images": {
                "formats": list(pictures.FORMATS),
                "urls": server.options.media.urls,
                "max_file_pixels": pictures.MAX_DECODED_PIXELS,
                "max_frames": pictures.MAX_FRAMES,
            },
            "providers": {name: _provider(name) for name in support.PROVIDERS},
            "models": [_capable(status) for status in server.backend.models()],
        }
    )


def _spoken(apis: tuple[str, ...]) -> tuple[str, ...]:
    """The tables in force: llama-server's routes come with OpenAI's."""
    return (*apis, *(("llama_server",) if "openai" in apis else ()), "admin")


def _provider(name: str) -> dict[str, Any]:
    """What a provider supports, and why it doesn't support the rest."""
    return {
        row.name: {
            "supported": name not in row.lacking,
            "what": row.what,
            **({"reason": row.lacking[name]} if name in row.lacking else {}),
            **({"note": row.notes[name]} if name in row.notes else {}),
        }
        for row in support.FEATURES
    }


def _table(body: type[table.Body]) -> dict[str, Any]:
    return {
        row.name: {"treatment": row.treatment, **({"note": row.note} if row.note else {})} for row in table.rows(body)
    }


def _capable(status: ModelStatus) -> dict[str, Any]:
    info = status.info
    return {
        "id": status.spec.id,
        "aliases": list(status.spec.aliases),
        "provider": status.spec.provider,
        "state": status.state,
        "capabilities": list(info.capabilities) if info else None,
        "n_ctx": info.n_ctx if info else None,
        "n_ctx_trained": info.n_ctx_trained if info else None,
        "n_parallel": info.n_parallel if info else None,
        "kv_tokens": info.kv_tokens if info else None,
    }
