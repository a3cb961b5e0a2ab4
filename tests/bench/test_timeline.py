"""Stamped bytes to samples, exactly, on a synthetic clock: each dialect, every split, every way to end."""

import hashlib
import json
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from heylook_llm.bench.targets.anthropic import Anthropic
from heylook_llm.bench.targets.ollama import Ollama
from heylook_llm.bench.targets.openai import OpenAI
from heylook_llm.bench.targets.vectors import Vectors
from heylook_llm.bench.timeline import Event, Measured, counted_input, lines, measure, ndjson, sse
from tests.bench.tapes import HEAD, cut, exchange, fields, framed, tape

pytestmark = pytest.mark.unit

STAMPS = ("t_headers", "t_first_event", "t_first_token", "t_first_visible", "t_last_token")


def data(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, str) else json.dumps(value)).encode() + b"\n\n"


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    return data({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})


def times(measured: Measured) -> list[int]:
    return list(array("q", measured.chunk_times))


def tokens(measured: Measured) -> list[int]:
    return list(array("I", measured.chunk_tokens))


USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
CHAT = tape(
    (20, chunk({"role": "assistant", "content": ""})),
    (30, chunk({"reasoning_content": "hm"})),
    (40, chunk({"content": "a"})),
    (50, chunk({"content": "b"}, timings={"prompt_n": 16, "cache_n": 4, "predicted_n": 3, "prompt_ms": 1.5})),
    (60, chunk({}, "stop")),
    (70, data({"id": "chatcmpl-1", "choices": [], "usage": USAGE})),
    (80, data("[DONE]")),
)


def test_a_chat_of_openai_field_by_field() -> None:
    measured = measure(exchange(CHAT), OpenAI())
    assert fields(measured, "outcome", "error_class", "http_status", "finish_reason") == ("ok", None, 200, "stop")
    assert fields(measured, *STAMPS) == (10, 20, 30, 40, 50)
    assert times(measured) == [30, 40, 50]
    assert tokens(measured) == [1, 1, 1]
    assert fields(measured, "in_usage", "cached", "out_usage", "reasoning") == (20, 4, 3, 1)
    assert fields(measured, "in_engine", "out_engine", "server_request_id") == (20, 3, "req_1")
    assert measured.bytes_in == sum(len(piece) for _, piece in CHAT)
    assert measured.output_sha256 == hashlib.sha256(b"hmab").hexdigest()
    assert json.loads(measured.extra_json or "")["timings"]["prompt_ms"] == 1.5


@given(some.lists(some.integers(0, 5000), max_size=40))
def test_it_does_not_matter_how_the_bytes_were_split(places: list[int]) -> None:
    assert measure(exchange(cut(CHAT, places)), OpenAI()) == measure(exchange(CHAT), OpenAI())


def test_an_event_happened_when_its_last_byte_came() -> None:
    whole = chunk({"content": "a"})
    late = tape((20, whole[:-1]), (35, whole[-1:]), (40, chunk({}, "stop")))
    assert fields(measure(exchange(late), OpenAI()), *STAMPS) == (10, 35, 35, 35, 35)
    together = tape((20, chunk({"content": "a"}) + chunk({"content": "b"}) + chunk({}, "length")))
    assert times(measure(exchange(together), OpenAI())) == [20, 20]


def test_tokens_of_chunks_are_known_only_where_somebody_says_so() -> None:
    many = tape((20, chunk({"content": "ab"})), (30, chunk({"content": "c"}, "stop", usage={"completion_tokens": 3})))
    assert measure(exchange(many), OpenAI()).chunk_tokens == b""
    logprobs = {"content": [{"token": "a"}, {"token": "b"}]}
    told = tape(
        (20, data({"choices": [{"delta": {"content": "ab"}, "logprobs": logprobs, "finish_reason": None}]})),
        (30, data({"choices": [{"delta": {"content": "c"}, "token_ids": [7], "finish_reason": "stop"}]})),
    )
    assert tokens(measure(exchange(told), OpenAI())) == [2, 1]


def test_a_call_is_visible() -> None:
    call = {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": ""}}]}
    more = {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":1}'}}]}
    made = tape((20, chunk(call)), (30, chunk(more)), (40, chunk({}, "tool_calls")))
    measured = measure(exchange(made), OpenAI())
    assert fields(measured, *STAMPS) == (10, 20, 20, 20, 30)
    assert measured.output == 'f{"x":1}'


def test_a_completion_of_openai() -> None:
    first = data({"choices": [{"text": "a", "finish_reason": None}]})
    last = data({"choices": [{"text": "", "finish_reason": "length"}]})
    measured = measure(exchange(tape((20, first), (30, last))), OpenAI())
    assert fields(measured, "outcome", "finish_reason", *STAMPS) == ("ok", "length", 10, 20, 20, 20, 20)


def ollama(*parts: tuple[int, Any]) -> tuple[tuple[int, bytes], ...]:
    return tape(*((at, json.dumps(part).encode() + b"\n") for at, part in parts))


def test_a_chat_of_ollama() -> None:
    last = {
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 9,
        "eval_count": 2,
        "eval_duration": 5,
        "message": {},
    }
    made = ollama(
        (20, {"message": {"thinking": "hm", "content": ""}, "done": False}),
        (30, {"message": {"content": "a"}, "done": False}),
        (40, last),
    )
    measured = measure(exchange(made), Ollama())
    assert fields(measured, "outcome", *STAMPS, "finish_reason") == ("ok", 10, 20, 20, 30, 30, "stop")
    assert fields(measured, "in_usage", "out_usage", "in_engine", "out_engine") == (9, 2, 9, 2)
    assert tokens(measured) == [1, 1]
    assert json.loads(measured.extra_json or "") == {"timings": {"eval_duration": 5}}
    call = {"message": {"tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}, "done": False}
    assert measure(exchange(ollama((20, call), (30, last))), Ollama()).t_first_visible == 20
    raw = ollama((20, {"response": "a", "done": False}), (30, last))
    assert measure(exchange(raw), Ollama()).t_first_token == 20


def named(kind: str, **more: Any) -> bytes:
    return b"event: %s\n" % kind.encode() + data({"type": kind, **more})


def test_a_message_of_anthropic() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2, "output_tokens": 1}
    made = tape(
        (20, named("message_start", message={"id": "msg_1", "usage": usage})),
        (25, named("ping")),
        (26, named("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""})),
        (30, named("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"})),
        (35, named("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "x"})),
        (40, named("content_block_delta", index=1, delta={"type": "text_delta", "text": "a"})),
        (50, named("content_block_start", index=2, content_block={"type": "tool_use", "id": "t", "name": "f"})),
        (60, named("content_block_delta", index=2, delta={"type": "input_json_delta", "partial_json": "{}"})),
        (70, named("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 7})),
        (80, named("message_stop")),
    )
    measured = measure(exchange(made), Anthropic())
    assert fields(measured, "outcome", *STAMPS, "finish_reason") == ("ok", 10, 20, 30, 40, 60, "tool_use")
    assert fields(measured, "in_usage", "cached", "out_usage") == (10, 3, 7)
    assert times(measured) == [30, 40, 50, 60]
    without_end = made[:-2]
    assert measure(exchange(without_end), Anthropic()).error_class == "truncated"


# ---- ends ------------------------------------------------------------------------------------------------------------

ANSWER = (20, chunk({"content": "a"}))


@pytest.mark.parametrize(
    ("pieces", "transport", "expected"),
    [
        (tape(ANSWER), {}, ("error", "truncated")),
        (tape(ANSWER, (30, data({"error": {"message": "no", "code": "x"}}))), {}, ("error", "in_stream")),
        (tape(ANSWER, (30, data("{nonsense")), (40, chunk({}, "stop"))), {}, ("error", "unreadable")),
        (tape(ANSWER, (30, data(["not", "an", "object"])), (40, chunk({}, "stop"))), {}, ("error", "unreadable")),
        (tape(ANSWER)[:-1], {"outcome": "error", "error_class": "reset"}, ("error", "reset")),
        (tape(ANSWER)[:-1], {"outcome": "timeout", "error_class": "total"}, ("timeout", "total")),
        (tape(ANSWER)[:-1], {"outcome": "cut", "error_class": "drain"}, ("cut", "drain")),
        (((10, b"SSH-2.0-OpenSSH\r\n"),), {}, ("error", "protocol")),
        ((), {"outcome": "error", "error_class": "refused"}, ("error", "refused")),
        ((), {}, ("error", "protocol")),
    ],
)
def test_every_end_has_its_name(pieces: Any, transport: Any, expected: tuple[str, str]) -> None:
    measured = measure(exchange(pieces, **transport), OpenAI())
    assert fields(measured, "outcome", "error_class") == expected
    assert (measured.t_first_token == 20) == (len(pieces) > 1)


def test_a_refusal_keeps_its_status_and_its_message() -> None:
    body = json.dumps({"error": {"message": "no such model", "code": "model_not_found"}}).encode()
    head = b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n" % len(body)
    measured = measure(exchange(((10, head), (12, body))), OpenAI())
    assert fields(measured, "outcome", "error_class", "http_status") == ("error", "http_404", 404)
    assert fields(measured, *STAMPS) == (10, None, None, None, None)
    assert json.loads(measured.extra_json or "") == {"error": "no such model"}
    plain = ((10, b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\nnope"),)
    assert json.loads(measure(exchange(plain), OpenAI()).extra_json or "") == {"error": "nope"}


@given(some.binary(max_size=300), some.sampled_from([OpenAI(), Ollama(), Anthropic()]))
def test_bytes_of_any_kind_end_in_a_sample(noise: bytes, reader: Any) -> None:
    for pieces in (((10, noise),), ((10, HEAD), (20, framed(noise)))):
        measured = measure(exchange(pieces), reader)
        assert measured.outcome == "error"


@pytest.mark.parametrize("nonsense", [-1, 1e308, float("nan"), 2**63, "20", True, [1], {}])
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
def test_counts_that_cannot_be_are_no_answer(nonsense: Any, field: str) -> None:
    last = data({"choices": [], "usage": {**USAGE, field: nonsense}})
    measured = measure(exchange(tape((20, chunk({"content": "a"})), (30, chunk({}, "stop")), (40, last))), OpenAI())
    assert fields(measured, "outcome", "error_class") == ("error", "unreadable")
    assert getattr(measured, {"prompt_tokens": "in_usage", "completion_tokens": "out_usage"}[field]) is None


@pytest.mark.parametrize("event", [
    {"choices": [{"delta": {"content": ["a"]}}]}, {"choices": [{"delta": {"content": 5}}]},
    {"id": {"a": 1}, "choices": []}, {"choices": [{"delta": {}, "finish_reason": 7}]}, {"choices": 3}, [], 7, None,
])  # fmt: skip
def test_what_is_of_another_kind_than_it_must_be_is_no_answer(event: Any) -> None:
    measured = measure(
        exchange(tape((20, chunk({"content": "a"})), (30, data(event)), (40, chunk({}, "stop")))), OpenAI()
    )
    assert measured.outcome == "error"
    assert all(value is None or isinstance(value, str) for value in fields(measured, "finish_reason", "extra_json"))


def test_halves_of_characters_become_what_a_file_takes() -> None:
    lone = chunk({"content": "\ud800"}, "stop", id="\udfff")
    error = data({"error": {"message": "\ud800"}})
    for event in (lone, error):
        measured = measure(exchange(tape((20, event))), OpenAI())
        for text in (measured.visible, measured.server_request_id, measured.extra_json):
            assert (text or "").encode().decode() == (text or ""), "a lone surrogate has no UTF-8"


# ---- answers that come whole -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "results", "tokens"),
    [
        ({"data": [{"embedding": [0.5]}, {"embedding": "AAAAPw=="}], "usage": {"prompt_tokens": 9}}, 2, 9),
        ({"embeddings": [[0.5], [1.5]], "prompt_eval_count": 9, "total_duration": 5, "load_duration": 1}, 2, None),
        ({"results": [{"index": 1, "relevance_score": 0.0}], "usage": {"total_tokens": 9}}, 1, 9),
        ({"data": [{"embedding": []}], "usage": {}}, 0, None),
    ],
)
def test_vectors_and_scores(body: dict[str, Any], results: int, tokens: int | None) -> None:
    text = json.dumps(body).encode()
    measured = measure(exchange(tape((20, text[:5]), (30, text[5:]))), Vectors())
    assert fields(measured, "outcome", "results", "in_usage", "output") == ("ok", results, tokens, "")
    assert fields(measured, *STAMPS) == (10, 20, None, None, None)
    assert measured.in_engine == body.get("prompt_eval_count")
    assert counted_input(Vectors(), text) == (tokens or body.get("prompt_eval_count"))


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"<html>", b'{"data": 5}', b'{"data": [5]}', b"\x1f\x8b\x08"])
def test_what_holds_no_vectors_is_no_answer(body: bytes) -> None:
    assert measure(exchange(tape((20, body)) if body else tape()), Vectors()).outcome == "error"


def test_an_error_that_comes_whole_is_told() -> None:
    measured = measure(exchange(tape((20, b'{"error": {"message": "no such model"}}'))), Vectors())
    assert fields(measured, "outcome", "error_class") == ("error", "in_stream")


# ---- framing ---------------------------------------------------------------------------------------------------------


@given(some.lists(some.sampled_from([b"data: a", b"\n", b"\r", b"\r\n", b":c", b"event: e", b" ", b"x"]), max_size=12))
def test_lines_end_as_the_standard_says(parts: list[bytes]) -> None:
    text = b"".join(parts)
    expected = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert [line for _, line in lines([(0, text)])] == expected
    assert [line for _, line in lines((0, bytes([byte])) for byte in text)] == expected


def test_events_of_several_lines_comments_and_an_end_without_one() -> None:
    text = b": keep-alive\n\nevent: e\ndata: a\ndata:b\nid: 5\n\ndata\n\ndata: lost"
    assert list(sse([(3, text)])) == [Event(3, "e", "a\nb"), Event(3, "", "")]
    assert list(ndjson([(1, b'{"a": 1}\n\n{"b"'), (2, b": 2}")])) == [
        Event(1, "", '{"a": 1}'),
        Event(2, "", '{"b": 2}'),
    ]
