"""The routes of OpenAI's Responses API."""

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from heylook_llm.errors import BadRequest
from heylook_llm.server.endpoint import (
    Endpoint,
    Query,
    Server,
    arrival,
    check,
    json_response,
    read_body,
    refuse_blind,
)
from heylook_llm.server.generate import Generation
from heylook_llm.server.offloop import ON_LOOP, off_loop
from heylook_llm.server.responses_kept import ROUTE
from heylook_llm.server.token_routes import counted
from heylook_llm.server.wire import responses, responses_items
from heylook_llm.server.wire.exchange import EVENT_STREAM, Headers, ignored_header
from heylook_llm.server.wire.responses_body import ResponseBody

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def create_response(server: Server, request: Request) -> Response:
    """Answer a text or items. The response is kept, unless `store` is false, and can be gone on from."""
    known = arrival(server, request)
    body = await read_body(request, server.options.limits.max_body_bytes)
    fields = await off_loop(len(body), responses.read, body)
    before = await server.responses.known(fields.previous_response_id, responses_items.references(fields.input))
    answer = await off_loop(_size(body, before), responses.parse, fields, before, known, server.responses.keep)
    check(server, request, answer)
    await refuse_blind(server, answer)
    if len(body) > server.responses.largest_bytes and answer.store:
        _refuse_large(fields)
        answer.without_store()
    headers = ignored_header(answer.asked.ignored)
    if answer.background:
        return _begun(server, request, answer, headers)
    return Generation(answer, ROUTE, server.place, headers)


def _size(body: bytes, before: responses.Known) -> int:
    """How much is to be understood: a conversation that is kept may hold images, so it isn't little."""
    return ON_LOOP + 1 if before.before or before.found else len(body)


def _refuse_large(fields: ResponseBody) -> None:
    if "store" in fields.model_fields_set or fields.background:
        message = "The request is too large to be kept (responses.keep_bytes in models.yaml): send `store` as false."
        raise BadRequest(message, param="store")


def _begun(server: Server, request: Request, answer: responses.Answer, headers: Headers) -> Response:
    running = server.responses.begin(answer, request.scope)
    if not answer.asked.stream:
        response = json_response(running.told())
        response.headers.update(dict(headers))
        return response
    told = {**_STREAM_HEADERS, **dict(headers)}
    return StreamingResponse(running.follow(0), headers=told, media_type=EVENT_STREAM)


async def retrieve_response(server: Server, request: Request) -> Response:
    """A kept response. With `stream`, the events of one that was made in the background as a stream."""
    identity = request.path_params["response_id"]
    if request.query_params.get("stream", "false").lower() != "true":
        return json_response(await server.responses.retrieve(identity))
    events = await server.responses.follow(identity, _start(request.query_params.get("starting_after")))
    return StreamingResponse(events, headers=_STREAM_HEADERS, media_type=EVENT_STREAM)


def _start(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise BadRequest("Invalid value for 'starting_after': it must be a sequence number.", param="starting_after")
    return int(text) + 1


async def delete_response(server: Server, request: Request) -> Response:
    """Delete a kept response; one that is still being answered is cancelled."""
    identity = request.path_params["response_id"]
    await server.responses.delete(identity)
    return json_response(responses.deleted(identity))


async def cancel_response(server: Server, request: Request) -> Response:
    """Cancel a response that is being answered in the background."""
    return json_response(await server.responses.cancel(request.path_params["response_id"]))


async def list_input_items(server: Server, request: Request) -> Response:
    """The items of a response's own input, page by page; not those of the responses that it goes on from."""
    items = await server.responses.input_items(request.path_params["response_id"])
    return json_response(responses_items.page(items, request.query_params))


async def count_response_tokens(server: Server, request: Request) -> Response:
    """How many tokens the prompt of a response is. A model that isn't loaded stays so, but for images."""
    known = arrival(server, request)
    body = await read_body(request, server.options.limits.max_body_bytes)
    fields = await off_loop(len(body), responses.read_count, body)
    before = await server.responses.known(fields.previous_response_id, responses_items.references(fields.input))
    count = await off_loop(_size(body, before), responses.parse_count, fields, before, known)
    check(server, request, count)
    await refuse_blind(server, count)
    return await counted(server, request, count)


_HI = {"model": "heylook-tiny", "input": "What is the capital of France?"}
ROUTES = (
    Endpoint(
        "POST",
        ROUTE,
        create_response,
        "use",
        "Answer a text or items",
        "OpenAI.ResponseBody",
        {**_HI, "store": False},
        response="Reply.Response",
    ),
    Endpoint(
        "POST",
        f"{ROUTE}/input_tokens",
        count_response_tokens,
        "use",
        "Tokens of a response's prompt",
        "OpenAI.InputTokensBody",
        _HI,
        response="Reply.InputTokens",
    ),
    Endpoint(
        "GET",
        f"{ROUTE}/{{response_id}}",
        retrieve_response,
        "use",
        "A kept response",
        query=(
            Query("stream", "true: its events, of one made in the background as a stream.", ("true", "false")),
            Query("starting_after", "Only the events behind this sequence number.", kind="integer"),
        ),
        response="Reply.Response",
    ),
    Endpoint(
        "DELETE", f"{ROUTE}/{{response_id}}", delete_response, "use", "Delete it", response="Reply.DeletedResponse"
    ),
    Endpoint(
        "POST",
        f"{ROUTE}/{{response_id}}/cancel",
        cancel_response,
        "use",
        "Cancel it",
        response="Reply.Response",
    ),
    Endpoint(
        "GET",
        f"{ROUTE}/{{response_id}}/input_items",
        list_input_items,
        "use",
        "The items of its input",
        query=(
            Query("limit", "Items of a page, 1 to 100; absent: 20.", kind="integer"),
            Query("order", "asc or desc; absent: desc, the newest first.", ("asc", "desc")),
            Query("after", "Those behind the item of this id."),
        ),
        response="Reply.ResponseItems",
    ),
)
