"""Every bad body that a dialect's tests know, through the front: 400, in the form that the dialect's clients read."""

from typing import Any

import pytest

from heylook_llm.server.app import create_app
from heylook_llm.server.endpoint import Options
from tests.server.asgi import call
from tests.server.scripted import ScriptedBackend
from tests.wire import test_anthropic, test_ollama, test_openai, test_responses

pytestmark = pytest.mark.unit

MESSAGES = [{"role": "user", "content": "hi"}]
OPENAI: list[tuple[str, dict[str, Any], list[tuple[dict[str, Any], str | None, str]]]] = [
    ("/v1/chat/completions", {"model": "scripted", "messages": MESSAGES}, test_openai.REFUSED),
    ("/v1/responses", {"model": "scripted", "input": "hi"}, [*test_responses.REFUSED]),
]


@pytest.mark.parametrize(("route", "body", "rows"), OPENAI, ids=[route for route, *_ in OPENAI])
async def test_openais_is_an_object_of_four(
    route: str, body: dict[str, Any], rows: list[tuple[dict[str, Any], str | None, str]]
) -> None:
    app = create_app(ScriptedBackend(), Options())
    for fields, param, code in rows:
        reply = await call(app, "POST", route, {**body, **fields})
        assert reply.status == 400, (fields, reply.body)
        assert set(reply.json) == {"error"}
        error = reply.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code), fields
        assert error["message"]


async def test_anthropics_has_a_type_and_names_the_field() -> None:
    app = create_app(ScriptedBackend(), Options())
    body = {"model": "scripted", "max_tokens": 9, "messages": MESSAGES}
    for fields, param, _ in test_anthropic.REFUSED:
        reply = await call(app, "POST", "/v1/messages", {**body, **fields})
        assert reply.status == 400, (fields, reply.body)
        assert (reply.json["type"], reply.json["error"]["type"]) == ("error", "invalid_request_error")
        assert param in reply.json["error"]["message"], fields
        assert reply.json["request_id"] == reply.headers["request-id"]


async def test_ollamas_is_a_text() -> None:
    app = create_app(ScriptedBackend(), Options())
    body = {"model": "scripted", "messages": MESSAGES}
    for fields, text in test_ollama.CHAT_ONLY:
        for stream in (True, False):
            reply = await call(app, "POST", "/api/chat", {**body, **fields, "stream": stream})
            assert reply.status == 400, (fields, reply.body)
            assert set(reply.json) == {"error"}
            assert text in reply.json["error"]
