"""What streams of /v1 and of llama-server tell beside their text where they are asked to."""

import json
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.server.wire import llama_server
from tests.server.scripted import done
from tests.wire.asking import ARRIVAL, WALL, chat, chunks, completion, streamed, whole

pytestmark = pytest.mark.unit
MS = 1_000_000


def step(processed: int, output: int, at_ms: int, **more: Any) -> core.Progress:
    """Of a prompt of 10 tokens, 2 of them cached, that was begun at 5 ms and answered from 25 ms on."""
    first = 25 * MS if output else None
    return core.Progress(0, processed, 10, 2, times=core.Times(at_ms * MS, 5 * MS, first, output), **more)


STEPS = (step(6, 0, 15), step(10, 1, 25), core.Text(0, "a", (7,)), step(10, 2, 45), core.Text(0, "b", (8,)))
PROGRESS = [
    {"total": 10, "cache": 2, "processed": 6, "time_ms": 10.0},
    {"total": 10, "cache": 2, "processed": 10, "time_ms": 20.0},
]


def native(**fields: Any) -> llama_server.Native:
    return llama_server.parse_completion(json.dumps({"model": "m", "prompt": "hi", **fields}).encode(), ARRIVAL)


@pytest.mark.parametrize("asking", [chat, completion])
def test_times_with_each_chunk(asking: Any) -> None:
    exchange = asking(stream=True, timings_per_token=True)
    assert exchange.asked.request.note_progress
    told = chunks(streamed(exchange, *STEPS, done()))
    said = [one for one in told if one["choices"][0].get("text") or one["choices"][0].get("delta", {}).get("content")]
    times = [chunk["timings"] for chunk in said]
    assert [(one["predicted_n"], one["predicted_ms"], one["predicted_per_second"]) for one in times] == [
        (1, 0.0, None),
        (2, 20.0, 50.0),
    ]
    assert {(one["prompt_n"], one["cache_n"], one["prompt_ms"]) for one in times} == {(8, 2, 20.0)}
    assert told[-1]["timings"]["predicted_n"] == done().usage.output_tokens, "the last word is the engine's whole count"


@pytest.mark.parametrize("asking", [chat, completion])
def test_how_much_of_the_prompt_is_computed(asking: Any) -> None:
    exchange = asking(stream=True, return_progress=True)
    assert exchange.asked.request.note_progress
    told = chunks(streamed(exchange, *STEPS, done()))
    assert [chunk["prompt_progress"] for chunk in told if "prompt_progress" in chunk] == PROGRESS
    assert all(chunk["choices"][0]["index"] == 0 for chunk in told)
    if asking is chat:
        assert [chunk["choices"][0]["delta"].get("role") for chunk in told].count("assistant") == 1
        assert told[0]["choices"][0]["delta"]["role"] == "assistant", "SDKs want it first"


def test_the_same_of_llama_servers_own_route() -> None:
    exchange = native(stream=True, return_progress=True, timings_per_token=True)
    assert exchange.asked.request.note_progress
    sent = b"".join(exchange.feed(event, WALL) for event in (*STEPS, done())).decode()
    told = [json.loads(one.removeprefix("data: ")) for one in sent.split("\n\n")[:-1]]
    assert [chunk["prompt_progress"] for chunk in told if "prompt_progress" in chunk] == PROGRESS
    said = [(chunk["content"], chunk["timings"]["predicted_n"]) for chunk in told if chunk["content"]]
    assert said == [("a", 1), ("b", 2)]
    assert {chunk["tokens_evaluated"] for chunk in told[:-1]} == {10}


def test_token_ids_of_chats() -> None:
    begun = core.Progress(0, 0, 7, prompt=(1, 2), prompt_text="x")
    exchange = chat(stream=True, return_token_ids=True)
    assert (exchange.asked.request.echo, exchange.asked.request.note_progress) == (True, True)
    told = chunks(streamed(exchange, begun, core.Text(0, "", (6,)), core.Text(0, "ab", (7, 8)), done()))
    assert [chunk.get("prompt_token_ids") for chunk in told] == [[1, 2], None, None, None]
    assert [chunk["choices"][0].get("token_ids") for chunk in told] == [None, [6], [7, 8], None]
    reply = whole(chat(return_token_ids=True), core.Text(0, "ab", (7, 8)), done())
    assert (reply["prompt_token_ids"], reply["choices"][0]["token_ids"]) == (list(range(7)), [7, 8])


def test_token_ids_of_completions() -> None:
    begun = core.Progress(0, 0, 7, prompt=(1, 2), prompt_text="x")
    told = chunks(streamed(completion(stream=True, return_token_ids=True), begun, core.Text(0, "ab", (7, 8)), done()))
    first, second, _ = (chunk["choices"][0] for chunk in told)
    assert (first["prompt_token_ids"], first["text"]) == ([1, 2], "")
    assert (second["token_ids"], second["text"]) == ([7, 8], "ab")
    (choice,) = whole(completion(return_token_ids=True), core.Text(0, "ab", (7, 8)), done())["choices"]
    assert (choice["prompt_token_ids"], choice["token_ids"], choice["text"]) == (list(range(7)), [7, 8], "ab")


def test_nobody_pays_for_what_nobody_asked() -> None:
    for exchange in (chat(stream=True), chat(timings_per_token=True), completion(stream=True), native(stream=True)):
        assert not exchange.asked.request.note_progress
    assert chunks(streamed(chat(stream=True), *STEPS, done()))[0]["choices"][0]["delta"]["role"] == "assistant"
