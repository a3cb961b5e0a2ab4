"""Log probabilities of prompts, as whoever evaluates models asks for them: against tokens that are asked one by one."""

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.subjects import ANSWERS, Subject, at_once

pytestmark = [pytest.mark.integration, pytest.mark.asks("prompt_logprobs")]

TEXT = "The capital of France is Paris. " * 8 + "What is 3 + 4? The answer is nine, so the capital of Italy is Rome."
"""Of more tokens than one step scores."""
TOLERANCE = 2e-3
"""An engine computes many tokens otherwise than one: it adds in another order."""


def scored(subject: Subject, prompt: Any = TEXT, **fields: Any) -> dict[str, list[Any]]:
    """What is told of a prompt's tokens."""
    fields = {"echo": True, "logprobs": 5, "max_tokens": 0, **fields}
    found: dict[str, list[Any]] = subject.complete(prompt, **fields)["choices"][0]["logprobs"]
    return found


def test_every_token_but_the_first_has_one_with_alternatives(subject: Subject) -> None:
    [choice] = subject.complete(TEXT, echo=True, logprobs=5, max_tokens=0)["choices"]
    told = choice["logprobs"]
    assert choice["text"] == TEXT
    assert len({len(found) for found in told.values()}) == 1
    assert told["token_logprobs"][0] is told["top_logprobs"][0] is None
    rows = zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True)
    for token, value, top in list(rows)[1:]:
        assert sum(map(math.exp, top.values())) <= 1.0001
        assert value <= max(top.values()) + 1e-6
        assert top.get(token, value) == value or "\ufffd" in token
    for token, offset in list(zip(told["tokens"], told["text_offset"], strict=True))[1:]:
        assert TEXT.startswith(token, offset) or "\ufffd" in token or subject.provider == "fake"


def test_they_are_what_the_tokens_have_when_they_are_drawn(subject: Subject) -> None:
    if subject.provider == "fake":  # its answers aren't drawn from what it makes of prompts
        return
    ids = subject.post("/tokenize", content=TEXT, add_special=True)["tokens"]
    told = scored(subject, ids, logprobs=1)
    for at in (1, 2, 24, 25, 63, 64, 65, len(ids) - 1):
        [drawn] = subject.complete(ids[:at], max_tokens=1, logprobs=1, logit_bias={ids[at]: 100}, ignore_eos=True)[
            "choices"
        ]
        assert drawn["logprobs"]["token_logprobs"][0] == pytest.approx(told["token_logprobs"][at], abs=TOLERANCE)
        assert drawn["logprobs"]["tokens"][0] == told["tokens"][at]


def test_they_are_the_same_whatever_is_known_and_done_beside(subject: Subject) -> None:
    subject.complete(TEXT, max_tokens=4)  # from here its beginning is kept
    alone = scored(subject)
    assert scored(subject)["tokens"] == alone["tokens"]
    work: list[Callable[[], Any]] = [lambda: scored(subject), lambda: scored(subject, TEXT + " Yes.")]
    work += [functools.partial(subject.text, text) for text in ANSWERS]
    first, second, *texts = at_once(*work)
    assert texts == list(ANSWERS.values())
    for told in (first, second):
        found = told["token_logprobs"][1 : len(alone["tokens"]) - 1]
        assert found == pytest.approx(alone["token_logprobs"][1:-1], abs=TOLERANCE)


def test_a_prompt_and_its_answers_in_one_list(subject: Subject) -> None:
    """Several prompts at once, each answer behind its own."""
    prompts = [TEXT, "One, two, three,"]
    fields: dict[str, Any] = {"max_tokens": 3, "logprobs": 1, "n": 2, "ignore_eos": True}
    plain = subject.complete(prompts, **fields)["choices"]
    told = subject.complete(prompts, **fields, echo=True)["choices"]
    for one, other in zip(told, plain, strict=True):
        prompt, count = prompts[one["index"] // 2], len(other["logprobs"]["tokens"])
        assert one["text"] == prompt + other["text"]
        assert one["logprobs"]["tokens"][-count:] == other["logprobs"]["tokens"]
        assert one["logprobs"]["text_offset"][-count] == len(prompt)
        assert len(one["logprobs"]["tokens"]) == len(scored(subject, prompt)["tokens"]) + count


def test_a_stream_tells_the_same(subject: Subject) -> None:
    [whole] = subject.complete(TEXT, echo=True, logprobs=2, max_tokens=5)["choices"]
    fields: dict[str, Any] = {"prompt": TEXT, "echo": True, "logprobs": 2, "temperature": 0}
    lines = [line["choices"][0] for line in subject.lines("/v1/completions", **fields, max_tokens=5) if line["choices"]]
    assert "".join(line["text"] for line in lines) == whole["text"]
    assert [token for line in lines if line["logprobs"] for token in line["logprobs"]["tokens"]] == whole["logprobs"][
        "tokens"
    ]
    nothing = [
        line["choices"][0] for line in subject.lines("/v1/completions", **fields, max_tokens=0) if line["choices"]
    ]
    assert [line["text"] for line in nothing if line["text"]] == [TEXT]
    assert nothing[-1]["finish_reason"] == "length"
    told = scored(subject, logprobs=2)["tokens"]
    assert [line["logprobs"]["tokens"] for line in nothing if line["logprobs"]] == [told]
    fields["prompt"] = subject.post("/tokenize", content="a", add_special=False)["tokens"]
    alone = [line["choices"][0] for line in subject.lines("/v1/completions", **fields, max_tokens=0) if line["choices"]]
    assert [line["logprobs"]["token_logprobs"] for line in alone if line["logprobs"]] == [[None]]


def test_vllms_form_of_chats_and_prompts(subject: Subject) -> None:
    ids = subject.post("/tokenize", content=TEXT, add_special=True)["tokens"]
    [choice] = subject.complete(TEXT, prompt_logprobs=2, max_tokens=1)["choices"]
    told = choice["prompt_logprobs"]
    assert told[0] is None
    assert [next(iter(one)) for one in told[1:]] == list(map(str, ids[1:]))
    assert all(2 <= len(one) <= 3 and min(found["rank"] for found in one.values()) == 1 for one in told[1:])
    reply = subject.chat(prompt_logprobs=0, max_tokens=1)
    assert len(reply["prompt_logprobs"]) == reply["usage"]["prompt_tokens"]


def test_a_token_more_is_always_told(subject: Subject) -> None:
    """lm-evaluation-harness asks for one and leaves the list's last out, even where the model ends at once."""
    [stop] = [token for token in subject.post("/tokenize", content="<|im_end|>")["tokens"] if token >= 0][-1:]
    ending = "Say nothing." if subject.provider == "fake" else "What is 3 + 4?"
    count = len(scored(subject, ending)["tokens"])
    told = scored(subject, ending, max_tokens=1, logit_bias={stop: 100})
    assert len(told["tokens"]) == count + 1
    lines = subject.lines("/v1/completions", prompt=ending, echo=True, logprobs=1, max_tokens=1, logit_bias={stop: 100})
    streamed = [line["choices"][0]["logprobs"] for line in lines if line["choices"]]
    assert [token for one in streamed if one for token in one["tokens"]] == told["tokens"]


def test_the_likelier_answer_is_found_as_an_evaluation_finds_it(subject: Subject) -> None:
    """By token ids, of which the first are the question's; the token that is drawn behind them is left out."""
    if subject.provider == "fake":  # its prompts' numbers say nothing
        return
    question = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    sums: dict[str, float] = {}
    greedy: dict[str, bool] = {}
    for city in ("Paris", "Rome"):
        parts = (question, f"The capital of France is {city}.<|im_end|>")
        first, then = (subject.post("/tokenize", content=part, add_special=False)["tokens"] for part in parts)
        told = scored(subject, [[*first, *then]], logprobs=1, max_tokens=1, seed=1234)
        values, likeliest = (told[name][len(first) : -1] for name in ("token_logprobs", "top_logprobs"))
        assert len(values) == len(then)
        sums[city] = sum(values)
        greedy[city] = all(value == max(top.values()) for value, top in zip(values, likeliest, strict=True))
    assert greedy == {"Paris": True, "Rome": False}
    assert sums["Paris"] > -0.5 > -5 > sums["Rome"]
