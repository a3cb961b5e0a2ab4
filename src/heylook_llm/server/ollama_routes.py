"""The routes of the Ollama dialect."""

import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm.errors import ModelNotFound
from heylook_llm.server.cards import Card, metadata, parameter_size
from heylook_llm.server.computation import computation
from heylook_llm.server.endpoint import Server, json_response, read_body, refuse_blind, understood
from heylook_llm.server.generate import Generation, keep_alive_seconds, while_connected
from heylook_llm.server.offloop import off_loop
from heylook_llm.server.wire import ollama, ollama_embedding, rerank
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
        "parent_model": "",
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
    status, info = card.status, card.info
    expires = status.expires_at
    return {
        **_identity(card),
        "size": status.resident_bytes or _engine_bytes(card) or card.size_bytes,
        "digest": card.digest,
        "details": _details(card),
        "expires_at": ollama.forever(now) if expires is None else ollama.local_time(expires),
        "size_vram": (info.gpu_bytes if info else None) or 0,
        "context_length": card.context_length or 0,
    }


def _engine_bytes(card: Card) -> int | None:
    if card.info is None or card.info.weights_bytes is None:
        return None
    return card.info.weights_bytes + (card.info.kv_bytes or 0)


async def ollama_show(server: Server, request: Request) -> Response:
    """What a model is."""
    body = await read_body(request, server.options.limits.max_body_bytes)
    fields = await off_loop(len(body), ollama.parse_show, body)
    name = fields.model or fields.name
    try:
        card = await server.cards.one(name)
    except ModelNotFound as error:
        raise ModelNotFound(model=ollama.display(name)) from error
    facts = metadata(card, verbose=fields.verbose)
    if request.headers.get("user-agent", "").startswith("GitHubCopilotChat/"):
        facts["general.basename"] = name  # Copilot uses it as the label
    template = fields.template or (card.info.chat_template if card.info else "")
    parameters = _parameters(card)
    shown = {
        "modelfile": _modelfile(card, template, fields.system, parameters),
        "parameters": parameters,
        "template": template,
        "system": fields.system,
    }
    return json_response(
        {
            **{key: value for key, value in shown.items() if value or key == "template"},
            "details": _details(card),
            "model_info": facts,
            **({"projector_info": card.projector} if card.projector else {}),
            "capabilities": _capabilities(card),
            "modified_at": ollama.local_time(card.modified_at),
        },
        media_type=ollama.JSON,
    )


def _parameters(card: Card) -> str:
    """One `name value` a line, the name padded to 30 columns, as `ollama show` prints it."""
    config = card.spec.config
    rows: list[tuple[str, object]] = [
        (name, value)
        for name, value in (
            ("num_ctx", card.context_length),
            ("temperature", config.temperature),
            ("top_k", config.top_k),
            ("top_p", config.top_p),
            ("min_p", config.min_p),
            ("repeat_penalty", config.repetition_penalty),
            ("num_predict", config.max_tokens),
            ("seed", config.seed),
        )
        if value is not None
    ]
    rows += [("stop", f'"{stop}"') for stop in config.stop]
    return "\n".join(f"{name:<30} {value}" for name, value in rows)


def _modelfile(card: Card, template: str, system: str, parameters: str) -> str:
    lines = ['# Modelfile generated by "ollama show"', f"FROM {ollama.display(card.spec.id)}"]
    if template:
        lines.append(f'TEMPLATE """{template}"""')
    if system:
        lines.append(f'SYSTEM """{system}"""')
    lines += [f"PARAMETER {' '.join(row.split(None, 1))}" for row in parameters.splitlines()]
    return "\n".join(lines) + "\n"
