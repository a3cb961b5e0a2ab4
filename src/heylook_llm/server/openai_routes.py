"""The routes of the OpenAI dialect."""

import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm.server.cards import Card
from heylook_llm.server.computation import computation
from heylook_llm.server.endpoint import Server, generation, json_response
from heylook_llm.server.wire import openai, openai_embedding, openai_multipart, rerank
from heylook_llm.server.wire.exchange import Arrival


async def create_chat_completion(server: Server, request: Request) -> Response:
    """Answer a conversation."""
    return await generation(server, request, openai.parse_chat, "/v1/chat/completions")


async def create_chat_completion_from_form(server: Server, request: Request) -> Response:
    """Answer a conversation whose images come as files. An image part with the URL __RAW_IMAGE__ takes the next one."""
    content_type = request.headers.get("content-type", "")

    def parse(body: bytes, arrival: Arrival) -> openai.Chat:
        return openai_multipart.parse(body, content_type, arrival)

    return await generation(server, request, parse, "/v1/chat/completions/multipart")


async def create_completion(server: Server, request: Request) -> Response:
    """Continue a text."""
    return await generation(server, request, openai.parse_completion, "/v1/completions")


async def create_embedding(server: Server, request: Request) -> Response:
    """Texts to vectors. Any model makes them: those that only embed as they were trained to, others by their mean."""
    return await computation(server, request, openai_embedding.parse, "/v1/embeddings")


async def rerank_documents(server: Server, request: Request) -> Response:
    """Documents by how well they answer a query. Needs a model that ranks."""
    return await computation(server, request, rerank.parse, "/v1/rerank")


async def list_models(server: Server, request: Request) -> Response:
    """Every model, in the OpenAI and the Anthropic shape at once: their keys don't conflict."""
    models = [_model(card, card.spec.id) for card in await server.cards.all()]
    ends = {"first_id": models[0]["id"], "last_id": models[-1]["id"]} if models else {"first_id": None, "last_id": None}
    return json_response({"object": "list", "data": models, "has_more": False, **ends})


async def retrieve_model(server: Server, request: Request) -> Response:
    """One model; the id comes back as it was asked."""
    asked = request.path_params["model_id"]
    if not asked:
        return await list_models(server, request)
    return json_response(_model(await server.cards.one(asked), asked))


def _modalities(card: Card) -> list[str]:
    return ["text", "image"] if card.info is not None and "vision" in card.info.capabilities else ["text"]


def _model(card: Card, identity: str) -> dict[str, Any]:
    created = datetime.datetime.fromtimestamp(int(card.modified_at), datetime.UTC)
    info = card.info
    return {
        "id": identity,
        "object": "model",
        "created": int(card.modified_at),
        "owned_by": "heylookllm",
        "type": "model",
        "display_name": card.spec.description or card.spec.id,
        "created_at": created.isoformat().replace("+00:00", "Z"),
        "aliases": list(card.spec.aliases),
        "status": {"value": card.status.state},
        "max_model_len": card.context_length,
        "capabilities": list(info.capabilities) if info else [],
        "architecture": {"input_modalities": _modalities(card), "output_modalities": ["text"]},
        "meta": {
            "n_ctx_train": info.n_ctx_trained if info else None,
            "n_params": info.n_parameters if info else None,
            "n_vocab": info.n_vocab if info else None,
            "size": card.size_bytes or None,
        },
    }
