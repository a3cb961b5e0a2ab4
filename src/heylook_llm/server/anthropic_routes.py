"""The routes of the Anthropic dialect."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from heylook_llm import core
from heylook_llm.server.endpoint import Server, generation, refuse_blind, respond, understood
from heylook_llm.server.generate import while_connected
from heylook_llm.server.wire import anthropic
from heylook_llm.server.wire.exchange import Reply, ignored_header


def is_client(scope: Scope) -> bool:
    """Whether a request is of a client made for Anthropic: all of them name a version."""
    return any(name == b"anthropic-version" for name, _ in scope["headers"])


async def create_message(server: Server, request: Request) -> Response:
    """Answer a conversation."""
    return await generation(server, request, anthropic.parse_message, "/v1/messages")


async def count_message_tokens(server: Server, request: Request) -> Response:
    """How many tokens a conversation is to its model, its tools and images among them."""
    count = await understood(server, request, anthropic.parse_count)
    await refuse_blind(server, count)
    response = respond(await while_connected(request.receive, _counted(server, count)))
    response.headers.update(dict(ignored_header(count.asked.ignored)))
    return response


async def _counted(server: Server, count: anthropic.Count) -> Reply:
    count.asked = await server.place.images.read(count.asked)
    async with server.backend.acquire(count.asked.request.model) as lease:
        answer = await lease.call(count.operation(lease.info))
    assert isinstance(answer, core.Tokens)
    return count.reply(answer)
