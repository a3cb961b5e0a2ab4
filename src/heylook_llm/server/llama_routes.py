"""llama-server's own routes, as its clients use them: /completion, /infill, /embedding, /props, /slots."""

from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm import __version__, core
from heylook_llm.errors import BadRequest, Unavailable
from heylook_llm.server.cards import Card
from heylook_llm.server.computation import computation
from heylook_llm.server.endpoint import Endpoint, Query, Server, generation, json_response
from heylook_llm.server.wire import llama_server, llama_server_embedding

PATHS: Final = ("/completion", "/completions", "/infill", "/embedding", "/embeddings", "/props", "/slots")
"""Where its dialect is spoken."""


async def complete(server: Server, request: Request) -> Response:
    """Continue a prompt, in llama-server's own form: a text, token ids, both mixed, or a list of these."""
    return await generation(server, request, llama_server.parse_completion, "/completion")


async def infill(server: Server, request: Request) -> Response:
    """The text between a prefix and a suffix, for models that can insert."""
    return await generation(server, request, llama_server.parse_infill, "/infill")


async def embed(server: Server, request: Request) -> Response:
    """Texts to vectors, in llama-server's own form; any model makes them."""
    return await computation(server, request, llama_server_embedding.parse, "/embedding")


async def get_props(server: Server, request: Request) -> Response:
    """What a model is and is sampled with by default. `params` is empty until it was loaded once."""
    card = await _card(server, request)
    info = card.info or core.ModelInfo(card.spec.provider, "", card.context_length or 0)
    known = info.kv_tokens is not None  # the engine's word, not the file's
    return json_response(
        {
            "default_generation_settings": {
                "n_ctx": info.n_ctx,
                "params": llama_server.settings(core.Sampling(), info.defaults) if known else {},
            },
            "total_slots": card.spec.config.n_parallel,
            "model_alias": card.spec.id,
            "model_ftype": info.quantization,
            "model_path": Path(card.spec.config.model_path).name,
            "modalities": {"vision": "vision" in info.capabilities, "audio": False, "video": False},
            "endpoint_slots": True,
            "endpoint_props": False,
            "endpoint_metrics": True,
            "chat_template": info.chat_template,
            "bos_token": info.bos_token,
            "eos_token": info.eos_token,
            "build_info": f"heylookllm {__version__}",
            "is_sleeping": card.status.state != "ready",
        }
    )


async def get_slots(server: Server, request: Request) -> Response:
    """The places in a loaded model's batch, and what is computed in each; none while it isn't loaded."""
    card = await _card(server, request)
    stats = await server.backend.stats(card.spec.id)
    slots = [] if stats is None or card.status.info is None else _slots(card.status.info, stats)
    busy = bool(slots) and all(slot["is_processing"] for slot in slots)  # a model that isn't loaded has all its places
    if busy and request.query_params.get("fail_on_no_slot"):
        raise Unavailable("no slot available", code="no_slot_available")
    return json_response(slots)


def _slots(info: core.ModelInfo, stats: core.WorkerStats) -> list[dict[str, Any]]:
    live = [sequence for sequence in stats.sequences if sequence.state == "running"]
    count = max(info.n_parallel, len(live))
    return [_slot(at, info, live[at] if at < len(live) else None) for at in range(count)]


def _slot(at: int, info: core.ModelInfo, sequence: core.SequenceStats | None) -> dict[str, Any]:
    told: dict[str, Any] = {"id": at, "n_ctx": info.n_ctx, "is_processing": sequence is not None}
    if sequence is None:
        return told
    remaining = sequence.remaining_tokens
    return {
        **told,
        "id_task": sequence.request,
        "n_prompt_tokens": sequence.prompt_tokens,
        "n_prompt_tokens_processed": min(sequence.prompt_tokens, sequence.processed_tokens) - sequence.cached_tokens,
        "n_prompt_tokens_cache": sequence.cached_tokens,
        "next_token": [
            {
                "has_next_token": True,
                "n_remain": -1 if remaining is None else remaining,
                "n_decoded": sequence.output_tokens,
            }
        ],
    }


async def _card(server: Server, request: Request) -> Card:
    """The model that is asked about: by `?model=`, the default, or else the one loaded last."""
    name = request.query_params.get("model") or server.backend.default_model
    if not name:
        loaded = [status for status in server.backend.models() if status.state == "ready"]
        if not loaded:
            raise BadRequest(
                "No model is loaded and none is the default: name one, as in ?model=NAME.",
                code="missing_required_parameter",
                param="model",
            )
        name = max(loaded, key=lambda status: status.loaded_at or 0.0).spec.id
    return await server.cards.one(name)


_MODEL: Final = Query("model", "Which model; absent: the default, or the one loaded last.")
ROUTES: Final = (
    Endpoint(
        "POST",
        "/completion",
        complete,
        "use",
        "Continue a prompt (llama-server)",
        "Llama.NativeBody",
        {"model": "heylook-tiny", "prompt": "1, 2, 3,", "n_predict": 16},
        aliases=("/completions",),
        response="Reply.NativeCompletion",
    ),
    Endpoint(
        "POST",
        "/infill",
        infill,
        "use",
        "Fill in between (llama-server)",
        "Llama.InfillBody",
        response="Reply.NativeCompletion",
    ),
    Endpoint(
        "POST",
        "/embedding",
        embed,
        "use",
        "Texts to vectors (llama-server)",
        "Llama.NativeEmbeddingBody",
        {"model": "heylook-tiny", "content": ["Hello, world", "Paris is in France."]},
        aliases=("/embeddings",),
        response="Reply.NativeVectors",
    ),
    Endpoint("GET", "/props", get_props, "use", "What a model is", query=(_MODEL,), response="Reply.Props"),
    Endpoint(
        "GET",
        "/slots",
        get_slots,
        "use",
        "What a model computes",
        query=(_MODEL, Query("fail_on_no_slot", "1: 503 where all of a loaded model's places are taken.")),
        response="Reply.Slots",
    ),
)
