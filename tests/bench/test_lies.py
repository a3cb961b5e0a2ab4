"""What targets say that can't be: nothing of it breaks the reading, stands in a number, or brings a key into a file."""

import copy
import json
import os
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest

from heylook_llm.bench.breakdown import breakdown
from heylook_llm.bench.pairing import heylook_pairs, told_pairs
from heylook_llm.bench.probe import Found
from heylook_llm.bench.requests import UNSEEN_TOKENS, CellRequests
from heylook_llm.bench.sample import Pair, Sample
from heylook_llm.bench.scenario import Conversation, Exact
from heylook_llm.bench.spec import checked
from heylook_llm.bench.targets.anthropic import Anthropic
from heylook_llm.bench.targets.ollama import Ollama
from heylook_llm.bench.targets.openai import OpenAI
from heylook_llm.bench.targets.vectors import Vectors
from heylook_llm.bench.timeline import LONGEST_LINE, MOST_EVENTS, Reader, lines, measure
from heylook_llm.bench.workload import ASSUMED, Workload
from tests.bench.answers import MS, answer, remarks_of, row_of
from tests.bench.records import TARGET, cell
from tests.bench.tapes import HEAD, exchange, tape

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]
KEY: Final = 'sk-canary-"7731"\\abcdef'
STRANGE: Final[tuple[Any, ...]] = (
    *(None, False, True, 0, -1, 1.5, 1e308, float("nan"), float("inf"), 10**30),
    *("", "x", "\ud800", [], ["a"], {}, {"a": 1}),
)

LONG: Final = pytest.mark.skipif(os.environ.get("HEYLOOK_TEST_TIER") != "long", reason="a test of the long tier")
SHORT: Final = Exact(8, 4)

# ---- answers ---------------------------------------------------------------------------------------------------------

CALL: Final = {"function": {"name": "n", "arguments": "{}"}}
ANSWERS: Final[list[tuple[Reader, str, dict[str, Any]]]] = [
    (OpenAI(), "data: %s\n\ndata: [DONE]\n\n", {
        "id": "x", "error": None,
        "choices": [{
            "delta": {"content": "a", "reasoning_content": "r", "tool_calls": [CALL]}, "text": "t",
            "finish_reason": "stop", "token_ids": [1], "logprobs": {"content": [1]},
        }],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
        "timings": {"prompt_n": 1, "cache_n": 1, "prompt_ms": 1.0, "predicted_n": 2, "predicted_ms": 2.0},
    }),
    (Ollama(), "%s\n", {
        "message": {"content": "a", "thinking": "b", "tool_calls": [{"function": {"name": "n", "arguments": {}}}]},
        "response": "x", "done": True, "done_reason": "stop", "error": None, "prompt_eval_count": 1, "eval_count": 1,
        "total_duration": 1, "load_duration": 1, "prompt_eval_duration": 1, "eval_duration": 1,
    }),
    (Anthropic(), "data: %s\n\ndata: {\"type\": \"message_stop\"}\n\n", {
        "type": "message_start", "message": {"id": "x", "usage": {"input_tokens": 1, "cache_read_input_tokens": 1}},
    }),
    (Anthropic(), "data: %s\n\ndata: {\"type\": \"message_stop\"}\n\n", {
        "type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1},
    }),
    (Anthropic(), "data: %s\n\n", {"type": "error", "error": {"message": "x"}}),
    (Vectors(), "%s", {
        "id": "x", "data": [{"embedding": [1]}], "usage": {"prompt_tokens": 1}, "total_duration": 1, "error": None,
    }),
    (Vectors(), "%s", {"results": [{"index": 0, "relevance_score": 1.0}]}),
]  # fmt: skip


def changed(value: Any) -> Iterator[Any]:
    """It with each part of it, at any depth, in turn replaced by each of what is strange."""
    yield from STRANGE
    if isinstance(value, dict | list):
        places = value if isinstance(value, dict) else range(len(value))
        for place in places:
            for part in changed(value[place]):
                other: Any = copy.copy(value)
                other[place] = part
                yield other


@pytest.mark.parametrize(("reader", "form", "said"), ANSWERS)
def test_whatever_stands_in_a_field_is_read_to_its_end(reader: Reader, form: str, said: dict[str, Any]) -> None:
    for strange in changed(said):
        body = (form % json.dumps(strange)).encode()
        measured = measure(exchange(tape((20, body))), reader)
        assert measured.outcome in ("ok", "error")
        kept = msgspec.json.decode((measured.extra_json or "{}").encode())  # which takes no NaN
        one = Sample("1", "r", "c", 0, 0, 0, "clock", "measure", "ok", t_start=1, t_end=99, extra_json=json.dumps(kept))
        for pair in told_pairs([one]):
            cut = breakdown(one, False, [pair])
            assert cut is not None
            assert all(spent >= 0 for spent in cut.phases.values())


def test_an_end_alone_is_no_answer() -> None:
    ends: list[tuple[Reader, bytes]] = [
        (OpenAI(), b"data: [DONE]\n\n"),
        (OpenAI(), b'data: {"choices": [{"delta": {}, "finish_reason": ""}]}\n\n'),
        (Anthropic(), b'data: {"type": "message_stop"}\n\n'),
    ]
    for reader, body in ends:
        measured = measure(exchange(tape((20, body))), reader)
        assert (measured.outcome, measured.error_class) == ("error", "truncated")


def test_an_answer_that_changes_to_another_protocol_is_an_error() -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    measured = measure(exchange([(10, head), (20, b"data: [DONE]\n\n")]), OpenAI())
    assert (measured.outcome, measured.error_class) == ("error", "http_101")


def test_a_line_in_many_pieces_is_read_in_the_time_of_its_bytes() -> None:
    """If each piece were added to those before it, 16 MiB would be copied 16,000 times: the time limit tells."""
    pieces = [(at, b"x" * 1024) for at in range(16 * 1024)]
    ((at, line),) = lines([*pieces, (99, b"\n")])
    assert (at, len(line)) == (99, 16 << 20)


@LONG
def test_an_event_that_is_too_long_and_events_that_are_too_many_are_no_answer() -> None:
    token = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n'
    long = b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % (b"x" * LONGEST_LINE)
    for body in (long + token, token + b"data: {}\n\n" * MOST_EVENTS):
        measured = measure(exchange([(10, HEAD.replace(b"chunked", b"identity")), (20, body)]), OpenAI())
        assert (measured.outcome, measured.error_class) == ("error", "unreadable")


# ---- counts, and the key that a target says again --------------------------------------------------------------------


def sample_of(said: bytes, scenario: Exact | Conversation, head: bytes = HEAD) -> Sample:
    """The sample of an answer to a request that was sent with a key."""
    spec = checked({"targets": [{"url": TARGET.base_url}], "requests": 2, "warmup_requests": 0})
    workload = Workload(scenario, ASSUMED, "seed")
    requests = CellRequests(spec, cell(planned=2), TARGET, workload, found=Found("openai", "other"), key=KEY)
    assert requests.ready(1)
    return requests.sample(exchange(tape((20, said), head=head)))


def counted(prompt: int, made: int, **more: Any) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": made, **more}
    chunk = {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}], "usage": usage}
    return b"data: %s\n\n" % json.dumps(chunk).encode()


def test_more_tokens_than_the_bytes_could_hold_are_no_answer() -> None:
    def outcome(*counts: int, **more: Any) -> tuple[str, str | None]:
        one = sample_of(counted(*counts, **more), SHORT)
        return one.outcome, one.error_class

    assert outcome(20, 4) == ("ok", None)
    assert outcome(20, 100_000) == outcome(10**9, 4) == ("error", "incredible")
    thought = {"completion_tokens_details": {"reasoning_tokens": 90_000}}
    assert outcome(20, 90_004, **thought) == ("ok", None), "thoughts may stay hidden, where they are told"
    boundless = {"completion_tokens_details": {"reasoning_tokens": 2 * UNSEEN_TOKENS}}
    assert outcome(20, 2 * UNSEEN_TOKENS, **boundless) == ("error", "incredible")


def test_answers_of_more_tokens_than_asked_are_told() -> None:
    row = row_of([answer(n, n * 100, out_asked=5) for n in range(10)])
    assert (row.tokens.beyond, row.tokens.short) == (10, 0)
    assert "beyond" in remarks_of(row)
    assert "beyond" not in remarks_of(row_of([answer(n, n * 100, out_asked=10) for n in range(10)]))


@pytest.mark.parametrize("scenario", [SHORT, Conversation(2, SHORT)])
def test_a_key_that_a_target_says_again_is_in_no_sample(scenario: Exact | Conversation) -> None:
    head = HEAD.replace(b"req_1", KEY.encode())
    refusal = b"HTTP/1.1 401 No\r\nx-request-id: %s\r\ntransfer-encoding: chunked\r\n\r\n" % KEY.encode()
    chunk = {"id": KEY, "choices": [{"delta": {"content": KEY}, "finish_reason": KEY}], "timings": {KEY: KEY}}
    said = b"data: %s\n\n" % json.dumps(chunk).encode()
    error = json.dumps({"error": {"message": f"Incorrect API key: {KEY}"}}).encode()
    for one in (sample_of(said, scenario, head), sample_of(error, scenario, refusal), sample_of(said, scenario)):
        told = [value for value in msgspec.structs.astuple(one) if isinstance(value, str)]
        assert any("[key]" in value for value in told)
        assert not [value for value in told if KEY in value or json.dumps(KEY)[1:-1] in value]


# ---- what targets measured themselves --------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["llama-server", "ollama", "vllm"])
def test_of_times_of_which_one_can_not_be_none_counts(source: Any) -> None:
    names = {
        "llama-server": ("prompt_ms", "predicted_ms"),
        "ollama": ("prompt_eval_duration", "eval_duration"),
        "vllm": ("queue_time_ms", "generation_time_ms"),
    }
    good, bad = names[source]
    one = answer()
    for value in (-1, 1e300, "x", [1], {"a": 1}, True, 10**400):
        row = row_of([one], pairs=[Pair(one.id, source, json.dumps({good: 1, bad: value}))])
        assert (row.paired, "decode" in row.where) == (0, False)
        assert "pairs-mismatched" in remarks_of(row)


def test_rows_of_who_only_says_to_be_our_server_break_nothing() -> None:
    one = answer(client_request_id="a", clock_id="here")
    rows = changed({"client_request_id": "a", "clock_id": "here", "timeline": {"received_ns": 1, "first_byte_ns": 2}})
    for row in rows:
        if isinstance(row, dict):
            for pair in heylook_pairs([one], [row]):
                assert pair.residual_ns is None or abs(pair.residual_ns) < 1 << 63
                breakdown(one, False, [pair])


def test_an_answer_that_came_before_its_question_is_in_no_number() -> None:
    row = row_of([answer(0), answer(1, 1000, t_sent=1000 * MS + 101 * MS)])
    assert (row.counts.disordered, row.measures["ttft"].n) == (1, 1)
