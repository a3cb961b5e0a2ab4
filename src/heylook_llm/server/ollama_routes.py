"""The routes of the Ollama dialect."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm.errors import ModelNotFound
from heylook_llm.server import own_words
from heylook_llm.server.cards import Card, metadata, parameter_size
from heylook_llm.server.computation import computation
from heylook_llm.server.endpoint import Server, json_response, read_body, refuse_blind, understood
from heylook_llm.server.generate import Generation, keep_alive_seconds, while_connected
from heylook_llm.server.offloop import off_loop
from heylook_llm.server.placement import sizes
from heylook_llm.server.wire import modelfile, ollama, ollama_create, ollama_embedding, rerank
from heylook_llm.server.wire.exchange import Arrival, Inquiry, ignored_header

_CAPABILITIES = ("completion", "tools", "insert", "vision", "embedding", "thinking", "rerank")


async def ollama_version(server: Server, request: Request) -> Response:
    """The version of the Ollama API that this is."""
    return json_response({"version": ollama.VERSION}, media_type=ollama.JSON)


async def ollama_chat(server: Server, request: Request) -> Response:
    """Answer a conversation; no messages: load the model, or with keep_alive 0 unload it."""
    return await _answer(server, request, ollama.parse_chat, "/api/chat")


async def ollama_generate(server: Server, request: Request) -> Response:
    """Answer a prompt; an empty one: load the model, or with keep_alive 0 unload it."""
    return await _answer(server, request, ollama.parse_generate, "/api/generate")


async def _answer(
    server: Server, request: Request, parse: "Callable[[bytes, Arrival], ollama.Chat | ollama.Generate]", route: str
) -> Response:
    exchange = await understood(server, request, parse)
    if exchange.action == "generate":
        await refuse_blind(server, exchange)
        return Generation(exchange, route, server.place, ignored_header(exchange.asked.ignored))
    await while_connected(request.receive, _load_or_unload(server, exchange))
    return Response(exchange.idle_reply(time.time_ns()), media_type=ollama.JSON)


async def _load_or_unload(server: Server, exchange: "ollama.Chat | ollama.Generate") -> None:
    model, asked = exchange.asked.request.model, exchange.asked
    if exchange.action == "unload":
        if server.backend.status(model).state != "unloaded":
            await server.backend.unload(model)
        return
    seconds = keep_alive_seconds(asked.keep_alive)
    async with server.backend.acquire(model, keep_alive_seconds=seconds, n_ctx=asked.request.n_ctx):
        pass


async def ollama_embed(server: Server, request: Request) -> Response:
    """Texts to vectors of length 1; no texts: load the model."""
    return await _computed(server, request, ollama_embedding.parse_embed, "/api/embed")


async def ollama_embeddings(server: Server, request: Request) -> Response:
    """One text to a vector: the older form."""
    return await _computed(server, request, ollama_embedding.parse_embeddings, "/api/embeddings")


async def _computed(
    server: Server, request: Request, parse: Callable[[bytes, Arrival], Inquiry], route: str
) -> Response:
    try:
        return await computation(server, request, parse, route)
    except ModelNotFound as error:
        if not error.model:
            raise
        raise ollama_embedding.not_found(error.model) from error


async def ollama_rerank(server: Server, request: Request) -> Response:
    """Documents by how well they answer a query. Ollama has no such route; its errors are worded as Ollama's."""

    def parse(body: bytes, arrival: Arrival) -> Inquiry:
        return rerank.parse(body, arrival, ollama.error)

    return await computation(server, request, parse, "/api/rerank")


async def ollama_tags(server: Server, request: Request) -> Response:
    """Every model, newest first."""
    cards = sorted(await server.cards.all(), key=lambda card: card.modified_at, reverse=True)
    return json_response({"models": [_tag(card) for card in cards]}, media_type=ollama.JSON)


def _tag(card: Card) -> dict[str, Any]:
    details = _details(card)
    if card.context_length:
        details["context_length"] = card.context_length
    if card.info is not None and card.info.n_embedding:
        details["embedding_length"] = card.info.n_embedding
    entry = {
        **_identity(card),
        "modified_at": ollama.local_time(card.modified_at),
        "size": card.size_bytes,
        "digest": card.digest,
        "details": details,
    }
    return entry | {"capabilities": _capabilities(card)}


def _identity(card: Card) -> dict[str, str]:
    name = ollama.display(card.spec.id)
    return {"name": name, "model": name}


def _details(card: Card) -> dict[str, Any]:
    info = card.info
    family = info.architecture if info else card.spec.provider
    return {
        "parent_model": card.spec.parent,
        "format": card.format,
        "family": family,
        "families": [family, *(["clip"] if card.projector else [])],
        "parameter_size": parameter_size(info.n_parameters if info else None),
        "quantization_level": (info.quantization if info else None) or "unknown",
    }


def _capabilities(card: Card) -> list[str]:
    if card.info is None:
        return ["completion"]
    return [name for name in _CAPABILITIES if name in card.info.capabilities]


async def ollama_ps(server: Server, request: Request) -> Response:
    """The loaded models, longest remaining lifetime first."""
    now = time.time()
    cards = [card for card in await server.cards.all() if card.status.state not in ("unloaded", "crashed")]
    cards.sort(key=lambda card: card.status.expires_at or float("inf"), reverse=True)
    return json_response({"models": [_loaded(card, now) for card in cards]}, media_type=ollama.JSON)


def _loaded(card: Card, now: float) -> dict[str, Any]:
    status = card.status
    expires = status.expires_at
    size, on_gpu = sizes(status, card.info, card.size_bytes)
    return {
        **_identity(card),
        "size": size,
        "digest": card.digest,
        "details": _details(card),
        "expires_at": ollama.forever(now) if expires is None else ollama.local_time(expires),
        "size_vram": on_gpu,
        "context_length": card.context_length or 0,
    }


async def ollama_show(server: Server, request: Request) -> Response:
    """What a model is."""
    body = await read_body(request, server.options.limits.max_body_bytes)
    fields = await off_loop(len(body), ollama.parse_show, body)
    name = fields.model or fields.name
    try:
        card = await server.cards.one(name)
    except ModelNotFound as error:
        raise ModelNotFound(model=ollama.display(name)) from error
    words = await asyncio.to_thread(own_words.read, card.spec, verbose=fields.verbose)
    facts = metadata(card, words.metadata, verbose=fields.verbose)
    if request.headers.get("user-agent", "").startswith("GitHubCopilotChat/"):
        facts["general.basename"] = name  # Copilot uses it as the label
    template = card.info.chat_template if card.info else card.spec.config.chat_template or ""
    parameters = ollama_create.parameter_lines(card.spec.config)
    file = modelfile.Modelfile(
        ollama.display(card.spec.id),
        fields.template or template,
        fields.system or card.spec.system,
        modelfile.overlaid(parameters, fields.options),
        [(turn.role, turn.content) for turn in card.spec.messages],
        card.spec.license,
    )
    shown: dict[str, Any] = {
        "license": "\n".join(card.spec.license or _licenses(facts)),
        "modelfile": file.text(),
        "parameters": "\n".join(f"{name:<30} {value}" for name, value in parameters),
        "system": card.spec.system,
        "messages": [{"role": turn.role, "content": turn.content} for turn in card.spec.messages],
        "projector_info": card.projector,
        "tensors": words.tensors,
    }
    told = {
        **{key: value for key, value in shown.items() if value},
        "template": template,
        "details": _details(card),
        "model_info": facts,
        "capabilities": _capabilities(card),
        "modified_at": ollama.local_time(card.modified_at),
    }
    return json_response(told, media_type=ollama.JSON)


def _licenses(facts: dict[str, Any]) -> tuple[str, ...]:
    """What the file says of its licence."""
    found = (facts.get(f"general.license{part}") for part in (".name", "", ".link"))
    return tuple(text for text in found if isinstance(text, str))
