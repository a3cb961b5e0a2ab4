"""Many at once: together as alone, a small memory, known beginnings, and clients that leave."""

import http.client
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.subjects import (
    ANSWERS,
    CAPITAL,
    COUNT,
    LONG_PARALLEL,
    PARALLEL,
    WAIT_SECONDS,
    Refused,
    Subject,
    at_once,
    open_stream,
)

pytestmark = pytest.mark.integration

ANSWER = ANSWERS[COUNT]
SYSTEM = "You are a helpful assistant. " * 9
ENDLESS: dict[str, Any] = {"ignore_eos": True, "max_tokens": 100_000}
"""Until the context is full."""
FILLING: dict[str, Any] = {**ENDLESS, "n": LONG_PARALLEL}
"""... and takes every place of a long sibling."""


def asked(subject: Subject, question: str, *, system: str = "") -> list[dict[str, str]]:
    """A conversation's beginning."""
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": subject.said(question)}]


def cached(reply: dict[str, Any]) -> int:
    """Prompt tokens that weren't computed again."""
    found: int = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
    return found


def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.02)


def until_idle(subject: Subject) -> None:
    """Wait until nothing is being answered: nobody who left has a place."""
    until(lambda: not subject.in_flight())


@pytest.mark.asks("batching")
def test_together_as_alone(subject: Subject) -> None:
    questions = list(ANSWERS) * 2
    texts = at_once(*[lambda question=question: subject.text(question) for question in questions])
    assert texts == [ANSWERS[question] for question in questions]


@pytest.mark.asks("batching")
def test_a_request_joins_and_leaves_one_that_goes_on(subject: Subject) -> None:
    long = subject.long
    with open_stream(long, **ENDLESS) as stream:
        reply = long.chat(CAPITAL, include_performance=True)
        assert reply["choices"][0]["message"]["content"] == ANSWERS[CAPITAL]
        assert "2" in reply["choices"][0].get("performance", reply.get("performance"))["batch_sizes_seen"]
        next(stream)
    until_idle(long)


@pytest.mark.asks("preemption")
def test_a_full_memory_is_not_seen(subject: Subject) -> None:
    small = subject.small
    replies = at_once(*[lambda: small.chat(include_performance=True)] * PARALLEL)
    assert [reply["choices"][0]["message"]["content"] for reply in replies] == [ANSWER] * PARALLEL
    assert [reply["choices"][0]["finish_reason"] for reply in replies] == ["stop"] * PARALLEL


@pytest.mark.asks("preemption", "seed")
def test_a_seed_gives_its_text_though_its_request_had_to_yield(subject: Subject) -> None:
    small = subject.small
    fields: dict[str, Any] = {"temperature": 0.9, "seed": 5, "ignore_eos": True, "max_tokens": 90}
    question = subject.told("Tell me a story.", "[[wild]]")
    alone = small.text(question, **fields)
    replies = at_once(*[lambda: small.chat(question, **fields, include_performance=True)] * PARALLEL)
    assert [reply["choices"][0]["message"]["content"] for reply in replies] == [alone] * PARALLEL
    assert any(reply["performance"]["preemptions"] for reply in replies)


# ---- known beginnings ------------------------------------------------------------------------------------------------


@pytest.mark.asks("prefix")
def test_a_prompt_that_was_seen_is_not_computed_again(subject: Subject) -> None:
    subject.flush()
    messages = asked(subject, COUNT, system=SYSTEM)
    first, second = (subject.chat(messages=messages) for _ in range(2))
    assert cached(first) == 0
    assert cached(second) == second["usage"]["prompt_tokens"] - 1 == second["timings"]["cache_n"]
    assert first["choices"][0]["message"]["content"] == second["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.asks("prefix")
def test_requests_with_one_system_prompt_share_it(subject: Subject) -> None:
    subject.flush()
    alone = [subject.text(messages=asked(subject, question, system=SYSTEM)) for question in ANSWERS]
    subject.flush()
    subject.chat(messages=asked(subject, COUNT, system=SYSTEM))
    system_tokens = len(subject.tokens(SYSTEM))
    calls = [lambda q=question: subject.chat(messages=asked(subject, q, system=SYSTEM)) for question in ANSWERS]
    replies = at_once(*calls)
    assert [reply["choices"][0]["message"]["content"] for reply in replies] == alone
    assert all(cached(reply) >= system_tokens - 2 for reply in replies)


@pytest.mark.asks("prefix")
def test_a_conversation_goes_on_from_what_was_computed(subject: Subject) -> None:
    subject.flush()
    messages = asked(subject, COUNT)
    first = subject.chat(messages=messages)
    answer = {"role": "assistant", "content": first["choices"][0]["message"]["content"]}
    longer = [*messages, answer, *asked(subject, CAPITAL)]
    second = subject.chat(messages=longer)
    assert cached(second) >= first["usage"]["prompt_tokens"]
    subject.flush()
    fresh = subject.chat(messages=longer)
    assert cached(fresh) == 0
    assert fresh["choices"][0]["message"] == second["choices"][0]["message"]


# ---- leaving ---------------------------------------------------------------------------------------------------------


@pytest.mark.asks("cancel")
def test_a_client_that_leaves_a_stream_frees_its_places(subject: Subject) -> None:
    long = subject.long
    with open_stream(long, **FILLING):
        assert long.in_flight()
    until_idle(long)
    assert long.text(CAPITAL) == ANSWERS[CAPITAL]


@pytest.mark.asks("cancel")
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_the_queue_is_forgotten(subject: Subject, stream: bool) -> None:
    long = subject.long
    with open_stream(long, **FILLING) as running:
        connection = http.client.HTTPConnection("127.0.0.1", subject.server.port, timeout=WAIT_SECONDS)
        body = {"model": long.model, "messages": asked(subject, CAPITAL), "stream": stream}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        until(lambda: len(long.in_flight()) == 2)
        connection.close()
        until(lambda: len(long.in_flight()) == 1)
        next(running)
    until_idle(long)


@pytest.mark.asks("cancel")
def test_an_operator_cancels_a_request(subject: Subject) -> None:
    long = subject.long
    with open_stream(long, **FILLING) as stream:
        [running] = long.in_flight()
        long.http.delete(f"/v1/requests/{running['id']}").raise_for_status()
        with pytest.raises(Refused, match="cancelled"):
            list(stream)
    until_idle(long)


@pytest.mark.asks("cancel")
def test_those_who_stay_do_not_notice_those_who_leave(subject: Subject) -> None:
    def stay() -> str:
        return subject.text(COUNT)

    def leave() -> str:
        with open_stream(subject, CAPITAL, **ENDLESS):
            return ANSWER

    assert at_once(stay, leave, stay, leave, leave, stay, leave) == [ANSWER] * 7
    until_idle(subject)
