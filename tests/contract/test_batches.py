"""Many at once: together as alone, a small memory, known beginnings, and clients that leave."""

import threading
import time
from typing import Any

import pytest

from tests.contract.subjects import (
    ANSWERS,
    CAPITAL,
    COUNT,
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
ENDLESS: dict[str, Any] = {"ignore_eos": True, "max_tokens": 100_000, "n": PARALLEL}
"""Takes every place of a subject until its context is full."""


def asked(subject: Subject, question: str, *, system: str = "") -> list[dict[str, str]]:
    """A conversation's beginning."""
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": subject.said(question)}]


def cached(reply: dict[str, Any]) -> int:
    """Prompt tokens that weren't computed again."""
    found: int = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
    return found


def until_idle(subject: Subject) -> None:
    """Wait until nothing is being answered."""
    deadline = time.monotonic() + WAIT_SECONDS
    while subject.in_flight():
        assert time.monotonic() < deadline, "somebody who left still has a place"
        time.sleep(0.02)


@pytest.mark.asks("batching")
def test_together_as_alone(subject: Subject) -> None:
    questions = list(ANSWERS) * 2
    texts = at_once(*[lambda question=question: subject.text(question) for question in questions])
    assert texts == [ANSWERS[question] for question in questions]


@pytest.mark.asks("batching")
def test_a_request_joins_and_leaves_one_that_goes_on(subject: Subject) -> None:
    with open_stream(subject, ignore_eos=True, max_tokens=400) as stream:
        reply = subject.chat(CAPITAL, include_performance=True)
        assert reply["choices"][0]["message"]["content"] == ANSWERS[CAPITAL]
        assert "2" in reply["choices"][0].get("performance", reply.get("performance"))["batch_sizes_seen"]
        next(stream)
    until_idle(subject)


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
    with open_stream(subject, **ENDLESS):
        assert subject.in_flight()
    until_idle(subject)
    assert subject.text(CAPITAL) == ANSWERS[CAPITAL]


@pytest.mark.asks("cancel")
def test_a_client_that_leaves_the_queue_is_never_answered(subject: Subject) -> None:
    with open_stream(subject, **ENDLESS):
        waiting = threading.Thread(target=_leave_soon, args=(subject,))
        waiting.start()
        waiting.join(WAIT_SECONDS)
        deadline = time.monotonic() + WAIT_SECONDS
        while len(subject.in_flight()) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    until_idle(subject)


def _leave_soon(subject: Subject) -> None:
    """Ask, wait for no answer and go."""
    with pytest.raises(Exception, match="timed out"):
        Subject(subject.provider, subject.server).http.post(
            "/v1/chat/completions",
            json={"model": subject.model, "messages": asked(subject, CAPITAL), "max_tokens": 5},
            timeout=0.5,
        )


@pytest.mark.asks("cancel")
def test_an_operator_cancels_a_request(subject: Subject) -> None:
    with open_stream(subject, **ENDLESS) as stream:
        [running] = subject.in_flight()
        subject.http.delete(f"/v1/requests/{running['id']}").raise_for_status()
        with pytest.raises(Refused, match="cancelled"):
            list(stream)
    until_idle(subject)


@pytest.mark.asks("cancel")
def test_those_who_stay_do_not_notice_those_who_leave(subject: Subject) -> None:
    def stay() -> str:
        return subject.text(COUNT)

    def leave() -> str:
        with open_stream(subject, CAPITAL, ignore_eos=True, max_tokens=400):
            return ANSWER

    assert at_once(stay, leave, stay, leave, leave, stay, leave) == [ANSWER] * 7
    until_idle(subject)
