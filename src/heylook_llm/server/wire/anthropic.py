"""The Anthropic dialect, of which this version has the errors."""

from typing import Final

from heylook_llm.errors import HeylookError
from heylook_llm.server.wire import jsontext
from heylook_llm.server.wire.exchange import Reply, retry_headers

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    500: "api_error",
    503: "overloaded_error",
}


def error(problem: HeylookError) -> Reply:
    """`{"type": "error", "error": {type, message}}` with the error's status."""
    kind = _TYPES.get(problem.status, "invalid_request_error")
    body = {"type": "error", "error": {"type": kind, "message": problem.message}}
    return Reply(jsontext.encode(body), problem.status, headers=retry_headers(problem))
