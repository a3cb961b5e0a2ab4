"""The routes of the Anthropic dialect."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from heylook_llm.errors import UnsupportedFeature
from heylook_llm.server.endpoint import Server, generation, refuse_blind, understood
from heylook_llm.server.token_routes import counted
from heylook_llm.server.wire import anthropic

_COUNTING: Final = ("loading", "ready")


def is_client(scope: Scope) -> bool:
    """Whether a request is of a client made for Anthropic: all of them name a version."""
    return any(name == b"anthropic-version" for name, _ in scope["headers"])


async def create_message(server: Server, request: Request) -> Response:
    """Answer a conversation."""
    return await generation(server, request, anthropic.parse_message, "/v1/messages")


async def count_message_tokens(server: Server, request: Request) -> Response:
    """How many tokens a conversation is to its model, its tools and images among them.

    A model that isn't loaded stays so: its vocabulary counts. Images are counted by a loaded one only.
    """
    count = await understood(server, request, anthropic.parse_count)
    await refuse_blind(server, count)
    if count.asked.pictures:
        _refuse_unloaded(server, count.asked.request.model)
    return await counted(server, request, count)


def _refuse_unloaded(server: Server, model: str) -> None:
    """Counting must not put out a model that answers. Raises UnsupportedFeature."""
    if server.backend.status(model).state not in _COUNTING:
        raise UnsupportedFeature(
            f"The model '{model}' isn't loaded, and only a loaded one counts images: send a message, or "
            f"POST /v1/models/{model}/load.",
            code="model_not_loaded",
            param="model",
        )
