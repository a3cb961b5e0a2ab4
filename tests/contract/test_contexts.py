"""Prompts and answers longer than the context: refused, shortened or shifted, as each API defines it."""

from typing import Any

import pytest

from tests.contract.subjects import CONTEXT, COUNT, Refused, Subject

pytestmark = pytest.mark.integration

LONG = "word " * 2 * CONTEXT


@pytest.mark.asks("context")
def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(subject: Subject) -> None:
    with pytest.raises(Refused) as refused:
        subject.chat(LONG)
    assert (refused.value.status, refused.value.error["code"]) == (400, "context_length_exceeded")
    assert f"{CONTEXT} tokens" in refused.value.message
    with pytest.raises(Refused) as refused:
        subject.ollama("/api/generate", prompt=LONG, raw=True, truncate=False)
    assert refused.value.status == 400


@pytest.mark.asks("context")
def test_a_prompt_is_shortened_where_the_api_says_so_and_the_reply_tells(subject: Subject) -> None:
    body = {"model": subject.model, "prompt": LONG, "raw": True, "stream": False, "options": {"num_predict": 4}}
    reply = subject.http.post("/api/generate", json=body)
    assert reply.status_code == 200
    assert reply.json()["prompt_eval_count"] < CONTEXT
    assert any("truncat" in f"{name}: {value}" for name, value in reply.headers.items())


@pytest.mark.asks("context")
def test_an_answer_ends_where_the_context_does(subject: Subject) -> None:
    reply = subject.chat(COUNT, ignore_eos=True, max_tokens=100_000)
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["total_tokens"] == CONTEXT


@pytest.mark.asks("context")
@pytest.mark.parametrize("num_ctx", [200, 256])
def test_a_request_may_ask_for_less(subject: Subject, num_ctx: int) -> None:
    reply = subject.chat(COUNT, ignore_eos=True, max_tokens=100_000, num_ctx=num_ctx)
    assert reply["usage"]["total_tokens"] == num_ctx


@pytest.mark.asks("shift")
def test_an_answer_goes_on_beyond_the_context_where_asked(subject: Subject) -> None:
    prompt = subject.said(COUNT)
    whole = subject.ollama("/api/generate", prompt=prompt, think=False)
    num_ctx = whole["prompt_eval_count"] + whole["eval_count"] // 2
    options: dict[str, Any] = {"num_ctx": num_ctx, "num_predict": whole["eval_count"]}
    fields: dict[str, Any] = {"prompt": prompt, "think": False, "options": options}
    cut = subject.ollama("/api/generate", **fields, shift=False)
    assert cut["done_reason"] == "length"
    assert cut["prompt_eval_count"] + cut["eval_count"] == num_ctx
    shifted = subject.ollama("/api/generate", **fields, shift=True)
    assert shifted["prompt_eval_count"] + shifted["eval_count"] > num_ctx
