"""The routes of the OpenAI dialect."""

import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm.server.anthropic_routes import is_client
from heylook_llm.server.cards import Card
from heylook_llm.server.computation import computation
from heylook_llm.server.endpoint import Server, generating, generation, json_response, understood
from heylook_llm.server.group_routes import answered
from heylook_llm.server.pull_routes import pulls_of
from heylook_llm.server.wire import (
    anthropic,
    listing,
    openai,
    openai_embedding,
    openai_groups,
    openai_multipart,
    rerank,
)
from heylook_llm.server.wire.exchange import Arrival


async def create_chat_completion(server: Server, request: Request) -> Response:
    """Answer a conversation; with `processing_mode`, each turn of the user's for itself or in context."""
    question = await understood(server, request, openai_groups.parse_chat)
    if isinstance(question, openai_groups.Turns):
        return await answered(server, request, question)
    return await generating(server, question, "/v1/chat/completions")


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
    """Every model, in the OpenAI and the Anthropic shape at once; a page of them where `limit` or an id asks for it."""
    cards = await server.cards.all()
    start, end, has_more = listing.page([card.spec.id for card in cards], request.query_params)
    models = [_model(request, card, card.spec.id) for card in cards[start:end]]
    ends = {"first_id": models[0]["id"], "last_id": models[-1]["id"]} if models else {"first_id": None, "last_id": None}
    return json_response({"object": "list", "data": models, "has_more": has_more, **ends})


async def retrieve_model(server: Server, request: Request) -> Response:
    """One model; the id comes back as it was asked."""
    asked = request.path_params["model_id"]
    if not asked:
        return await list_models(server, request)
    return json_response(_model(request, await server.cards.one(asked), asked))


async def delete_model(server: Server, request: Request) -> Response:
    """Take a model out of the registry; its files go where a pull brought them, and stay where you put them."""
    model: str = request.path_params["model_id"]
    await pulls_of(server).delete(model)
    return json_response({"id": model, "object": "model", "deleted": True})


def _modalities(card: Card) -> list[str]:
    return ["text", "image"] if card.info is not None and "vision" in card.info.capabilities else ["text"]


def _model(request: Request, card: Card, identity: str) -> dict[str, Any]:
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
        "max_input_tokens": card.context_length,
        "max_tokens": card.context_length,
        "lifecycle": "active",
        "capabilities": _capabilities(request, card),
        "architecture": {"input_modalities": _modalities(card), "output_modalities": ["text"]},
        "meta": {
            "n_ctx_train": info.n_ctx_trained if info else None,
            "n_params": info.n_parameters if info else None,
            "n_vocab": info.n_vocab if info else None,
            "size": card.size_bytes or None,
        },
    }


def _capabilities(request: Request, card: Card) -> list[str] | dict[str, Any]:
    """Names; Anthropic's clients have an object of that key."""
    names = card.info.capabilities if card.info is not None else ()
    return anthropic.model_capabilities(names) if is_client(request.scope) else list(names)
