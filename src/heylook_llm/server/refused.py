"""The routes that clients of the dialects ask for and this version doesn't offer; each says what to do instead."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm.errors import Forbidden, HeylookError, UnsupportedFeature
from heylook_llm.server.endpoint import Endpoint, Handler, Server
from heylook_llm.server.guard import Access


def _row(route: str, operation: str, access: Access, message: str, error: type[HeylookError] | None = None) -> Endpoint:
    method, path = route.split()
    handler = _refusing(operation, message, error or UnsupportedFeature)
    return Endpoint(method, path, handler, access, f"Refused: {message}", refused=True)


def _refusing(operation: str, message: str, error: type[HeylookError]) -> Handler:
    async def refuse(server: Server, request: Request) -> Response:
        raise error(message)

    refuse.__name__, refuse.__doc__ = operation, message
    return refuse


def _family(path: str, operation: str, message: str, methods: str = "POST GET DELETE") -> Endpoint:
    """A whole API that isn't offered: its root, and everything below it."""
    handler = _refusing(operation, message, UnsupportedFeature)
    below = (f"{path}/{{rest:path}}",)
    return Endpoint(methods, path, handler, "use", f"Refused: {message}", aliases=below, refused=True)


OPENAI: Final = (
    _row(
        "POST /v1/responses/compact",
        "compact_response",
        "use",
        "Conversations are not compacted here: send `truncation` as auto, or fewer items.",
    ),
    _family(
        "/v1/conversations",
        "conversations",
        "Conversations are not stored here: send previous_response_id to POST /v1/responses.",
    ),
    _family("/v1/audio", "audio", "Audio is not offered: no model here hears or speaks.", "POST GET"),
    _family("/v1/images", "images", "Images are not made here: models see them (POST /v1/chat/completions).", "POST"),
    _family("/v1/videos", "videos", "Videos are not made here."),
    _family("/v1/fine_tuning", "fine_tuning", "Models are not trained here: serve an adapter (`lora` in models.yaml)."),
    _family("/v1/moderations", "moderations", "Nothing is moderated here: ask a model that classifies.", "POST"),
    _family("/v1/assistants", "assistants", "Assistants are not offered: use POST /v1/chat/completions."),
    _family("/v1/threads", "threads", "Threads are not stored: send the messages to POST /v1/chat/completions."),
    _family(
        "/v1/vector_stores", "vector_stores", "Vectors are not stored: POST /v1/embeddings and /v1/rerank make them."
    ),
    _family("/v1/uploads", "uploads", "Files come whole: use POST /v1/files."),
    _family("/v1/containers", "containers", "Code is not run here."),
    _family("/v1/evals", "evals", "Evaluations are not offered."),
    _family("/v1/realtime", "realtime", "The Realtime API is not offered: stream POST /v1/chat/completions."),
    _family("/v1/organization", "organization", "There are no organizations here: see GET /v1/performance for usage."),
)
ANTHROPIC: Final = (
    _row(
        "POST /v1/messages/batches",
        "create_message_batch",
        "use",
        "Batches of messages are not offered: send them to POST /v1/messages, several at a time.",
    ),
)
_CLOUD: Final[tuple[tuple[str, str, Access, str], ...]] = (
    ("POST /api/experimental/web_search", "ollama_web_search", "use", "web search"),
    ("POST /api/experimental/web_fetch", "ollama_web_fetch", "use", "web fetch"),
    ("POST /api/me", "ollama_account", "use", "an account"),
    ("POST /api/signout", "ollama_sign_out", "admin", "an account"),
)
OLLAMA: Final = tuple(
    _row(route, operation, access, f"ollama cloud is disabled: {what} is unavailable", Forbidden)
    for route, operation, access, what in _CLOUD
)
