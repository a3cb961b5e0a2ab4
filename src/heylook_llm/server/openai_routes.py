"""The routes of the OpenAI dialect."""

import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm import core
from heylook_llm.errors import BadRequest
from heylook_llm.server.cards import Card
from heylook_llm.server.endpoint import Server, generation, json_response, off_loop, read_body
from heylook_llm.server.generate import while_connected
from heylook_llm.server.wire import jsontext, openai, openai_prompt, table
from heylook_llm.server.wire.exchange import Bounds
from heylook_llm.server.wire.openai_body import DetokenizeBody, TemplateBody, TokenizeBody


async def create_chat_completion(server: Server, request: Request) -> Response:
    """Answer a conversation."""
    return await generation(server, request, openai.parse_chat, "/v1/chat/completions")


async def create_completion(server: Server, request: Request) -> Response:
    """Continue a text."""
    return await generation(server, request, openai.parse_completion, "/v1/completions")


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
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "meta": {
            "n_ctx_train": info.n_ctx_trained if info else None,
            "n_params": info.n_parameters if info else None,
            "n_vocab": info.n_vocab if info else None,
            "size": card.size_bytes or None,
        },
    }


# ---- tokens and templates --------------------------------------------------------------------------------------------


async def tokenize(server: Server, request: Request) -> Response:
    """Text or messages to token ids, in llama.cpp's and vLLM's shapes at once."""
    body = await _body(server, request, TokenizeBody)
    model = _named(server, body.model)
    prompt = _prompt(body, model)
    pieces = body.with_pieces or body.return_token_strs
    answer, info = await _ask(server, request, model, core.Tokenize(prompt, with_pieces=pieces))
    assert isinstance(answer, core.Tokens)
    return await off_loop(len(answer.tokens), _tokenized, body, answer, info)


def _tokenized(body: TokenizeBody, answer: core.Tokens, info: core.ModelInfo) -> Response:
    texts = [piece.decode("utf-8", "replace") for piece in answer.pieces]
    tokens: list[Any] = list(answer.tokens)
    if body.with_pieces:
        tokens = [{"id": token, "piece": _piece(p)} for token, p in zip(answer.tokens, answer.pieces, strict=True)]
    return json_response(
        {
            "tokens": tokens,
            "count": len(tokens),
            "max_model_len": info.n_ctx,
            "token_strs": texts if body.return_token_strs else None,
        }
    )


def _piece(piece: bytes) -> str | list[int]:
    """Text, or the bytes of a token that is no whole character."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return list(piece)


def _prompt(body: TokenizeBody, model: str) -> core.Prompt:
    if body.content is not None:
        return core.TextPrompt(body.content, add_special=bool(body.add_special), parse_special=body.parse_special)
    if body.prompt is not None:
        special = True if body.add_special_tokens is None else body.add_special_tokens
        return core.TextPrompt(body.prompt, add_special=special, parse_special=body.parse_special)
    if body.messages is None:
        raise BadRequest("Missing required parameter: 'content', 'prompt' or 'messages'.", param="content")
    return core.ChatPrompt(
        openai_prompt.messages(body.messages, model),
        openai_prompt.tools(body.tools, None, Bounds()),
        template_arguments=openai_prompt.template_arguments(body.chat_template_kwargs),
    )


async def detokenize(server: Server, request: Request) -> Response:
    """Token ids to text."""
    body = await _body(server, request, DetokenizeBody)
    model = _named(server, body.model)
    answer, _ = await _ask(server, request, model, core.Detokenize(tuple(body.tokens)))
    assert isinstance(answer, core.Rendered)
    return json_response({"content": answer.text, "prompt": answer.text})


async def apply_template(server: Server, request: Request) -> Response:
    """Messages to the prompt that the model would get."""
    body = await _body(server, request, TemplateBody)
    model = _named(server, body.model)
    prompt = core.ChatPrompt(
        openai_prompt.messages(body.messages, model),
        openai_prompt.tools(body.tools, None, Bounds()),
        template_arguments=openai_prompt.template_arguments(body.chat_template_kwargs),
    )
    answer, _ = await _ask(server, request, model, core.Render(prompt))
    assert isinstance(answer, core.Rendered)
    return json_response({"prompt": answer.text})


async def _body(server: Server, request: Request, model: type[table.AnyBody]) -> table.AnyBody:
    data = await read_body(request, server.options.limits.max_body_bytes)
    return await off_loop(len(data), lambda: table.validate(model, jsontext.decode(data)))


def _named(server: Server, given: str) -> str:
    model = given.strip() or server.backend.default_model
    if not model:
        raise BadRequest("Missing required parameter: 'model'.", code="missing_required_parameter", param="model")
    return model


async def _ask(
    server: Server, request: Request, model: str, operation: core.Operation
) -> tuple[core.Answer, core.ModelInfo]:
    """A unary operation's answer; leaving cancels the wait."""

    async def work() -> tuple[core.Answer, core.ModelInfo]:
        async with server.backend.acquire(model) as lease:
            return await lease.call(operation), lease.info

    return await while_connected(request.receive, work())
