"""Each dialect's catalogue of errors, row by row: status, type and code by the class of the error; when to retry."""

import json
from typing import Any

import pytest

from heylook_llm import errors
from heylook_llm.server.wire import anthropic, llama_server, ollama, openai_words
from heylook_llm.server.wire.exchange import Reply

pytestmark = pytest.mark.unit

CATALOGUE: dict[str, tuple[int, str, str, str, str]] = {
    # class: status, OpenAI's type and code, Anthropic's type, llama-server's type
    "BadRequest": (400, "invalid_request_error", "invalid_value", "invalid_request_error", "invalid_request_error"),
    "UnsupportedFeature": (
        400, "invalid_request_error", "unsupported_value", "invalid_request_error", "not_supported_error",
    ),
    "InvalidConstraint": (
        400, "invalid_request_error", "invalid_json_schema", "invalid_request_error", "invalid_request_error",
    ),
    "UnsupportedEncoding": (
        415, "invalid_request_error", "unsupported_content_encoding", "invalid_request_error", "invalid_request_error",
    ),
    "ContextLengthExceeded": (
        400, "invalid_request_error", "context_length_exceeded", "invalid_request_error", "exceed_context_size_error",
    ),
    "Unauthorized": (401, "invalid_request_error", "invalid_api_key", "authentication_error", "authentication_error"),
    "Forbidden": (403, "invalid_request_error", "forbidden", "permission_error", "permission_error"),
    "NotFound": (404, "invalid_request_error", "unknown_url", "not_found_error", "not_found_error"),
    "ModelNotFound": (404, "invalid_request_error", "model_not_found", "not_found_error", "not_found_error"),
    "MethodNotAllowed": (
        405, "invalid_request_error", "method_not_supported", "invalid_request_error", "invalid_request_error",
    ),
    "Conflict": (409, "invalid_request_error", "conflict", "invalid_request_error", "invalid_request_error"),
    "TooLarge": (413, "invalid_request_error", "request_too_large", "request_too_large", "invalid_request_error"),
    "InsufficientStorage": (507, "server_error", "insufficient_storage", "api_error", "server_error"),
    "PullFailed": (502, "server_error", "pull_failed", "api_error", "server_error"),
    "Cancelled": (499, "invalid_request_error", "request_cancelled", "api_error", "invalid_request_error"),
    "EngineError": (500, "server_error", "engine_error", "api_error", "server_error"),
    "LoadFailed": (500, "server_error", "model_load_failed", "api_error", "server_error"),
    "ProtocolError": (500, "server_error", "protocol_error", "api_error", "server_error"),
    "Unavailable": (503, "server_error", "unavailable", "overloaded_error", "unavailable_error"),
    "Overloaded": (503, "server_error", "model_overloaded", "overloaded_error", "unavailable_error"),
    "InsufficientMemory": (503, "server_error", "insufficient_memory", "overloaded_error", "unavailable_error"),
    "WorkerDied": (503, "server_error", "worker_died", "overloaded_error", "unavailable_error"),
    "ShuttingDown": (503, "server_error", "shutting_down", "overloaded_error", "unavailable_error"),
}  # fmt: skip
OTHERWISE = {("anthropic", "Overloaded"): 529, ("ollama", "WorkerDied"): 500}
"""Statuses that a dialect has of its own."""
INWARD = {"HeylookError", "ConfigError", "TargetFailed"}


def test_the_catalogue_is_whole() -> None:
    ours = {name for name, kind in errors.every_kind().items() if kind.__module__ == "heylook_llm.errors"}
    assert ours == CATALOGUE.keys() | INWARD


def told(reply: Reply) -> Any:
    return json.loads(reply.body)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_row(name: str) -> None:
    status, kind, code, anthropics, llamas = CATALOGUE[name]
    problem = errors.every_kind()[name]("what, which limit, what to do", param="field")
    replies = {
        "openai": openai_words.error(problem),
        "anthropic": anthropic.error(problem, "req_1"),
        "llama_server": llama_server.error(problem),
        "ollama": ollama.error(problem),
    }
    assert told(replies["openai"])["error"] == {
        "message": problem.message, "type": kind, "param": "field", "code": code,
    }  # fmt: skip
    said = told(replies["anthropic"])
    assert (said["type"], said["error"]["type"], said["request_id"]) == ("error", anthropics, "req_1")
    assert said["error"]["message"]
    assert told(replies["llama_server"])["error"]["type"] == llamas
    assert told(replies["llama_server"])["error"]["code"] == status
    assert isinstance(told(replies["ollama"])["error"], str)
    for dialect, reply in replies.items():
        assert reply.status == OTHERWISE.get((dialect, name), status), dialect
        headers = dict(reply.headers)
        assert ("retry-after" in headers) == (status == 503), dialect
        assert (headers.get("x-should-retry") == "false") == (status in (409, 500, 502, 507)), dialect


def test_when_to_come_back_is_said_in_whole_seconds() -> None:
    for seconds, said in ((0.2, "1"), (2.6, "3"), (None, "1")):
        problem = errors.Overloaded("busy", retry_after_seconds=seconds)
        assert dict(openai_words.error(problem).headers) == {"retry-after": said}
