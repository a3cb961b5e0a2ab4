"""What coding agents send to local servers, as raw requests: packed bodies, long prompts, many tools, other names."""

import asyncio
import gzip
import json
import sys
from typing import Any

import httpx

from tests.conformance.cells import At, cell
from tests.conformance.subjects import WEATHER_TOOL

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKAGE = "httpx"


def body(at: At, text: str, **fields: Any) -> dict[str, Any]:
    return {
        "model": at.model,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 300,
        **fields,
    }


def post(at: At, path: str, value: Any, **headers: str) -> httpx.Response:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return httpx.post(at.url + path, content=raw, headers={"content-type": "application/json", **headers}, timeout=60)


def said(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]["content"]


def tools(count: int, description: str = "") -> list[Any]:
    """get_weather among many others."""
    other = WEATHER_TOOL["function"]
    names = [f"tool_{at}" for at in range(count - 1)]
    made = [{"type": "function", "function": {**other, "name": name, "description": description}} for name in names]
    return [*made, WEATHER_TOOL]


@cell("bodies packed by zstd and gzip")
def packed(at: At) -> None:
    raw = json.dumps(body(at, at.subject.ask)).encode()
    assert (
        said(post(at, "/v1/chat/completions", zstd.compress(raw), **{"content-encoding": "zstd"})) == at.subject.answer
    )
    assert (
        said(post(at, "/v1/chat/completions", gzip.compress(raw), **{"content-encoding": "gzip"})) == at.subject.answer
    )


@cell("40 tools, one of which is to be called")
def many_tools(at: At) -> None:
    asked = body(at, at.subject.weather, tools=tools(40, "Does nothing."), tool_choice="required")
    if at.subject.provider == "fake":
        asked["model"] = "fake-long"
    reply = post(at, "/v1/chat/completions", asked)
    if reply.status_code == 400:  # 40 tools are more than the bundled model's context
        assert reply.json()["error"]["code"] == "context_length_exceeded"
        return
    (call, *_) = reply.json()["choices"][0]["message"]["tool_calls"]
    assert isinstance(json.loads(call["function"]["arguments"])["city"], str)


@cell("a prompt of 100 kB of tools", "fake")
def long_prompt(at: At) -> None:
    asked = body(at, at.subject.weather, tools=tools(40, "It does something. " * 140), model="fake-long")
    assert len(json.dumps(asked)) > 100_000
    for _ in range(2):
        reply = post(at, "/v1/chat/completions", asked).json()
    (call,) = reply["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] > 50_000


@cell("a prompt of 100 kB to a small context is a 400 that says both numbers")
def too_long(at: At) -> None:
    asked = body(at, at.subject.weather, tools=tools(40, "It does something. " * 140))
    told = post(at, "/v1/chat/completions", asked)
    assert (told.status_code, told.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "4096" in told.json()["error"]["message"]


@cell("the names of other models", "fake")
def aliases(at: At) -> None:
    for name in ("gpt-4o", "claude-sonnet-4-5", "org/name:tag"):
        reply = post(at, "/v1/chat/completions", body(at, at.subject.ask, model=name))
        assert (said(reply), reply.json()["model"]) == (at.subject.answer, name)
    told = post(at, "/v1/messages?beta=true", body(at, at.subject.ask, model="claude-sonnet-4-5"))
    assert told.json()["content"][0]["text"] == at.subject.answer


@cell("headers and fields of Claude Code")
def claude_code(at: At) -> None:
    asked = {
        **body(at, at.subject.ask),
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "metadata": {"user_id": "me"},
        "thinking": {"type": "disabled"},
    }
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219", "x-api-key": "x"}
    reply = post(at, "/v1/messages?beta=true", asked, **headers)
    assert reply.status_code == 200, reply.text
    assert reply.headers["request-id"]
    counted = post(at, "/v1/messages/count_tokens?beta=true", asked, **headers)
    assert counted.json()["input_tokens"] > 0


@cell("unknown fields are accepted, and named")
def unknown_fields(at: At) -> None:
    reply = post(at, "/v1/chat/completions", body(at, at.subject.ask, some_new_field=1, store=True, user="me"))
    assert said(reply) == at.subject.answer
    assert "some_new_field" in reply.headers["x-heylook-ignored"]


@cell("any content type, and none")
def content_type(at: At) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain"):
        raw = json.dumps(body(at, at.subject.ask)).encode()
        reply = httpx.post(at.url + "/v1/chat/completions", content=raw, headers={"content-type": kind}, timeout=60)
        assert said(reply) == at.subject.answer


@cell("a stream that is read by lines")
def lines(at: At) -> None:
    asked = body(at, at.subject.ask, stream=True)
    with httpx.stream("POST", at.url + "/v1/chat/completions", json=asked, timeout=60) as reply:
        found = [line for line in reply.iter_lines() if line]
    assert found[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in found[:-1]]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == at.subject.answer


@cell("16 requests at once")
def at_once(at: At) -> None:
    async def several() -> set[str]:
        async with httpx.AsyncClient(base_url=at.url, timeout=60) as client:
            asked = body(at, at.subject.ask)
            replies = await asyncio.gather(*(client.post("/v1/chat/completions", json=asked) for _ in range(16)))
        return {said(reply) for reply in replies}

    assert asyncio.run(several()) == {at.subject.answer}


@cell("fill in the middle, as editors ask")
def fill(at: At) -> None:
    asked = {"model": at.subject.infilling, "prompt": "def f(", "suffix": "return 1", "max_tokens": 8}
    reply = post(at, "/v1/completions", asked)
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["finish_reason"] in ("stop", "length")


@cell("fill in the middle of a model without tokens for it is a 400 that names the field")
def no_fill(at: At) -> None:
    if at.model == at.subject.infilling:
        return
    reply = post(at, "/v1/completions", {"model": at.model, "prompt": "def f(", "suffix": "return 1"})
    told = reply.json()["error"]
    assert (reply.status_code, told["type"], told["param"]) == (400, "invalid_request_error", "suffix")
    assert "does not support insert" in told["message"]


@cell("what Codex sends: its own tools beside OpenAI's")
def codex(at: At) -> None:
    function = {"type": "function", "strict": False, **WEATHER_TOOL["function"]}
    patch = {"type": "custom", "name": "apply_patch", "description": "Edits files.", "format": {"type": "text"}}
    asked = {
        "model": at.model,
        "instructions": "You are a coding agent.",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": at.subject.weather}]}],
        "tools": [function, patch, {"type": "web_search", "external_web_access": True}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "none", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "x",
        "temperature": 0,
    }
    reply = post(at, "/v1/responses", zstd.compress(json.dumps(asked).encode()), **{"content-encoding": "zstd"})
    assert reply.status_code == 200, reply.text
    assert "tools[2]:web_search" in reply.headers["x-heylook-ignored"]
    events = [json.loads(line.removeprefix("data: ")) for line in reply.text.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "response.completed"
    (call,) = [item for item in events[-1]["response"]["output"] if item["type"] == "function_call"]
    assert (call["name"], json.loads(call["arguments"])) == ("get_weather", {"city": "Paris"})
