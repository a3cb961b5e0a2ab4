"""Guesses ahead: the same text with and without, and counts of what was right."""

from typing import Any

import pytest

from tests.contract.subjects import ANSWERS, COUNT, Subject, at_once

pytestmark = pytest.mark.integration

EXPECTED = {"prediction": {"type": "content", "content": ANSWERS[COUNT]}}
WRONG = {"prediction": {"type": "content", "content": "Something else entirely, as nobody would say."}}


def counts(reply: Any) -> tuple[int, int]:
    """(tokens accepted, rejected)."""
    details = reply["usage"]["completion_tokens_details"]
    return details["accepted_prediction_tokens"], details["rejected_prediction_tokens"]


def text_of(reply: Any) -> str:
    """What was answered."""
    return str(reply["choices"][0]["message"]["content"])


@pytest.mark.asks("speculation")
def test_a_prediction_changes_the_speed_and_not_the_text(subject: Subject) -> None:
    plain, expected, wrong = subject.chat(), subject.chat(**EXPECTED), subject.chat(**WRONG)
    assert text_of(plain) == text_of(expected) == text_of(wrong)
    assert counts(plain) == (0, 0)
    assert counts(expected)[0] > 0
    assert expected["timings"]["draft_n_accepted"] == counts(expected)[0]
    assert expected["timings"]["draft_n"] == sum(counts(expected))
    assert expected["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"]


@pytest.mark.asks("speculation")
def test_a_seed_draws_the_same_with_guesses(subject: Subject) -> None:
    fields: dict[str, Any] = {"temperature": 1.0, "seed": 5}
    assert text_of(subject.chat(**fields, **EXPECTED)) == text_of(subject.chat(**fields))


@pytest.mark.asks("speculation")
@pytest.mark.parametrize("fields", [{"stop": ["7,"]}, {"max_tokens": 9}, {"logprobs": True, "top_logprobs": 1}])
def test_guesses_end_where_the_answer_does(subject: Subject, fields: dict[str, Any]) -> None:
    plain, guessed = subject.chat(**fields), subject.chat(**fields, **EXPECTED)
    assert text_of(guessed) == text_of(plain)
    assert guessed["choices"][0]["finish_reason"] == plain["choices"][0]["finish_reason"]
    assert guessed["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"]
    if "logprobs" in fields:
        tokens = [[one["token"] for one in reply["choices"][0]["logprobs"]["content"]] for reply in (plain, guessed)]
        assert tokens[0] == tokens[1]


@pytest.mark.asks("speculation")
def test_a_request_may_go_without(subject: Subject) -> None:
    assert counts(subject.chat(**EXPECTED, **{"speculative.n_max": 0})) == (0, 0)
    assert counts(subject.chat(**EXPECTED, num_draft_tokens=0)) == (0, 0)


@pytest.mark.asks("speculation")
def test_neighbours_with_and_without_guesses(subject: Subject) -> None:
    texts = at_once(*[lambda fields=fields: text_of(subject.chat(**fields)) for fields in (EXPECTED, {}, WRONG)])
    assert texts == [ANSWERS[COUNT]] * 3
