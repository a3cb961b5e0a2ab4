"""The routes for tokens and templates: tokenize, detokenize, apply-template, counts; every known shape at once."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm import core
from heylook_llm.errors import BadRequest
from heylook_llm.server.endpoint import Server, json_response, read_body, refuse_blind, respond, understood
from heylook_llm.server.generate import while_connected
from heylook_llm.server.offloop import off_loop
from heylook_llm.server.wire import jsontext, openai, openai_prompt, openai_words, table
from heylook_llm.server.wire.exchange import Bounds, Counting, Reply, ignored_header
from heylook_llm.server.wire.openai_body import DetokenizeBody, TemplateBody, TokenizeBody
from heylook_llm.server.wire.pictures import Picture


async def tokenize(server: Server, request: Request) -> Response:
    """Text or messages to token ids, in llama.cpp's and vLLM's shapes at once."""
    body = await _body(server, request, TokenizeBody)
    model = _named(server, body.model)
    prompt = await _prompt(server, body, model)
    pieces = body.with_pieces or body.return_token_strs
    answer, info = await _ask(server, request, model, core.Tokenize(prompt, with_pieces=pieces))
    assert isinstance(answer, core.Tokens)
    return _noting(body, await off_loop(len(answer.tokens), _tokenized, body, answer, info))


def _tokenized(body: TokenizeBody, answer: core.Tokens, info: core.ModelInfo) -> Response:
    texts = [piece.decode("utf-8", "replace") for piece in answer.pieces]
    tokens: list[Any] = list(answer.tokens)
    if body.with_pieces:
        tokens = [{"id": token, "piece": _piece(p)} for token, p in zip(answer.tokens, answer.pieces, strict=True)]
    return json_response(
        {
            "tokens": tokens,
            "count": len(tokens) + answer.image_tokens,
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


async def _prompt(server: Server, body: TokenizeBody, model: str) -> core.Prompt:
    if isinstance(body.content, str):
        return core.TextPrompt(body.content, add_special=bool(body.add_special), parse_special=body.parse_special)
    if body.content is not None:
        return core.MixedPrompt(tuple(body.content), bool(body.add_special), body.parse_special)
    if body.prompt is not None:
        special = True if body.add_special_tokens is None else body.add_special_tokens
        return core.TextPrompt(body.prompt, add_special=special, parse_special=body.parse_special)
    return await _chat(server, body, model)


async def _chat(server: Server, body: TokenizeBody | TemplateBody, model: str) -> core.ChatPrompt:
    if not body.messages:
        missing = "'messages'" if isinstance(body, TemplateBody) else "'content', 'prompt' or 'messages'"
        raise BadRequest(f"Missing required parameter: {missing}.", code="missing_required_parameter", param="content")
    album: list[Picture] = []
    turns = openai_prompt.messages(body.messages, model, album)
    if body.continue_final_message and turns[-1].role != "assistant":
        raise BadRequest("The last message must be the assistant's.", param="continue_final_message")
    prompt = core.ChatPrompt(
        turns,
        openai_prompt.tools(body.tools, None, Bounds()),
        template_arguments=openai_prompt.template_arguments(body.chat_template_kwargs),
        continue_last=body.continue_final_message,
    )
    if album:
        await _refuse_blind(server, model)
        prompt = await server.place.images.fill(prompt, album)
    return prompt


async def _refuse_blind(server: Server, model: str) -> None:
    """Raises UnsupportedFeature where a model is known not to see."""
    info = (await server.cards.one(model)).info
    if info is not None and info.capabilities:
        openai_words.lacking(model, ("vision",), info)


async def detokenize(server: Server, request: Request) -> Response:
    """Token ids to text."""
    body = await _body(server, request, DetokenizeBody)
    model = _named(server, body.model)
    answer, _ = await _ask(server, request, model, core.Detokenize(tuple(body.tokens)))
    assert isinstance(answer, core.Rendered)
    return _noting(body, json_response({"content": answer.text, "prompt": answer.text}))


async def apply_template(server: Server, request: Request) -> Response:
    """Messages to the prompt that the model would get."""
    body = await _body(server, request, TemplateBody)
    model = _named(server, body.model)
    answer, _ = await _ask(server, request, model, core.Render(await _chat(server, body, model)))
    assert isinstance(answer, core.Rendered)
    return _noting(body, json_response({"prompt": answer.text}))


async def count_input_tokens(server: Server, request: Request) -> Response:
    """How many tokens the prompt of a chat completion is; the body is that of the completion.

    A model that isn't loaded stays so, but for images, which a loaded one counts.
    """
    exchange = await understood(server, request, openai.parse_chat)
    await refuse_blind(server, exchange)
    asked = await server.place.images.read(exchange.asked)
    (prompt,) = asked.request.prompts
    answer, _ = await _ask(server, request, asked.request.model, core.Tokenize(prompt))
    assert isinstance(answer, core.Tokens)
    return json_response({"object": "response.input_tokens", "input_tokens": len(answer.tokens) + answer.image_tokens})


async def counted(server: Server, request: Request, count: Counting) -> Response:
    """The answer to a dialect's own count; one with images needs the whole model. Leaving cancels the wait."""
    response = respond(await while_connected(request.receive, _counted(server, count)))
    response.headers.update(dict(ignored_header(count.asked.ignored)))
    return response


async def _counted(server: Server, count: Counting) -> Reply:
    hold = server.backend.acquire if count.asked.pictures else server.backend.words
    count.asked = await server.place.images.read(count.asked)
    async with hold(count.asked.request.model) as held:
        answer = await held.call(count.operation(held.info))
    assert isinstance(answer, core.Tokens)
    return count.reply(answer)


async def _body(server: Server, request: Request, model: type[table.AnyBody]) -> table.AnyBody:
    data = await read_body(request, server.options.limits.max_body_bytes)
    return await off_loop(len(data), lambda: table.validate(model, jsontext.decode(data)))


def _noting(body: table.Body, response: Response) -> Response:
    """The response with the header that names the keys which had no effect."""
    response.headers.update(dict(ignored_header(table.told(body))))
    return response


def _named(server: Server, given: str) -> str:
    model = given.strip() or server.backend.default_model
    if not model:
        raise table.missing("model")
    return model


async def _ask(
    server: Server, request: Request, model: str, operation: core.Tokenize | core.Detokenize | core.Render
) -> tuple[core.Answer, core.ModelInfo]:
    """The answer of a model's words, or of the whole model where it must look at images. Leaving cancels the wait."""
    holding = server.backend.acquire(model) if _looks(operation) else server.backend.words(model)

    async def work() -> tuple[core.Answer, core.ModelInfo]:
        async with holding as held:
            return await held.call(operation), held.info

    return await while_connected(request.receive, work())


def _looks(operation: core.Tokenize | core.Detokenize | core.Render) -> bool:
    if isinstance(operation, core.Detokenize) or not isinstance(operation.prompt, core.ChatPrompt):
        return False
    return any(isinstance(part, core.ImagePart) for message in operation.prompt.messages for part in message.parts)
