"""Short ways to parse a body and to feed events, for the dialects' tests."""

import json
from typing import Any

from heylook_llm import core
from heylook_llm.server.wire import openai
from heylook_llm.server.wire.exchange import Arrival, Exchange
from tests.server.scripted import INFO

ARRIVAL = Arrival(id="req_" + "0123456789abcdef" * 2, received_ns=1, created=1_700_000_000, default_model=None)
USER = [{"role": "user", "content": "hi"}]
WALL = 1_700_000_000_123_456_789


def chat(**fields: Any) -> openai.Chat:
    """A chat body, parsed; a model and a message are given where they aren't."""
    return openai.parse_chat(json.dumps({"model": "m", "messages": USER} | fields).encode(), ARRIVAL)


def completion(**fields: Any) -> openai.Completion:
    """A legacy body, parsed."""
    return openai.parse_completion(json.dumps({"model": "m", "prompt": "hi"} | fields).encode(), ARRIVAL)


def streamed(exchange: Exchange, *events: core.Event) -> str:
    """Everything a stream of these events sends."""
    exchange.adapt(INFO)
    return (b"".join(exchange.feed(event, WALL) for event in events) + exchange.end()).decode()


def whole(exchange: Exchange, *events: core.Event) -> dict[str, Any]:
    """The reply that these events fold to."""
    request = exchange.adapt(INFO)
    fold = core.Fold(request.n, len(request.prompts))
    for event in events:
        fold.feed(event)
    reply: dict[str, Any] = json.loads(exchange.reply(fold.result(), WALL))
    return reply


def chunks(text: str) -> list[dict[str, Any]]:
    """The data of each event of an SSE text; [DONE] is checked and left out."""
    events = text.split("\n\n")
    assert events[-1] == ""
    assert events[-2] == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
