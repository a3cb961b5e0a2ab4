"""How tokens are chosen: seeds, cuts, penalties, bias, log probabilities."""

import math
from typing import Any

import pytest

from tests.contract.subjects import ANSWERS, COUNT, Subject, at_once

pytestmark = pytest.mark.integration

ANSWER = ANSWERS[COUNT]
WILD: dict[str, Any] = {"temperature": 2, "top_k": 0, "top_p": 1, "min_p": 0, "ignore_eos": True, "max_tokens": 48}
"""Nearly anything may be drawn."""


def wild(subject: Subject, **fields: Any) -> str:
    """A text in which nearly anything may have been drawn."""
    return subject.text(subject.told("Tell me a story.", "[[wild]]"), **{**WILD, **fields})


@pytest.mark.asks("seed")
def test_a_seed_gives_its_text_again_and_another_seed_another(subject: Subject) -> None:
    first = wild(subject, seed=11)
    assert wild(subject, seed=11) == first != wild(subject, seed=12)
    assert wild(subject) != wild(subject)


@pytest.mark.asks("seed", "batching")
def test_a_seed_gives_its_text_in_a_batch_too(subject: Subject) -> None:
    seeds = [3, 4, 5, 6, 3, 4]
    fields: dict[str, Any] = {"temperature": 0.9, "top_p": 0.9}
    alone = [wild(subject, seed=seed, **fields) for seed in seeds]
    assert at_once(*[lambda seed=seed: wild(subject, seed=seed, **fields) for seed in seeds]) == alone


@pytest.mark.asks("seed", "n")
def test_the_answers_of_one_request_differ_by_their_seeds(subject: Subject) -> None:
    prompt = subject.told("Tell me a story.", "[[wild]]")
    replies = [subject.chat(prompt, n=3, seed=7, **WILD)["choices"] for _ in range(2)]
    texts = [[choice["message"]["content"] for choice in choices] for choices in replies]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 3
    assert texts[0][1] == wild(subject, seed=8)


@pytest.mark.asks("cuts")
@pytest.mark.parametrize("cut", [{"top_k": 1}, {"top_p": 0}, {"min_p": 1}])
def test_a_cut_to_one_token_is_greedy(subject: Subject, cut: dict[str, float]) -> None:
    greedy = wild(subject, temperature=0)
    assert wild(subject, **cut) == greedy


@pytest.mark.asks("cuts")
def test_a_typical_cut_to_one_token_leaves_nothing_to_draw(subject: Subject) -> None:
    texts = {wild(subject, typical_p=0.0001, seed=seed, max_tokens=12) for seed in range(4)}
    assert len(texts) == 1
    assert len({wild(subject, seed=seed, max_tokens=12) for seed in range(4)}) > 1


@pytest.mark.asks("mirostat")
@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_holds_the_surprise(subject: Subject, version: int) -> None:
    """A target of nearly no surprise is nearly greedy; a high one isn't."""
    calm = {wild(subject, mirostat=version, mirostat_tau=0.01, mirostat_eta=1, temperature=1, seed=s) for s in (1, 2)}
    lively = {wild(subject, mirostat=version, mirostat_tau=9, temperature=1, seed=s) for s in (1, 2)}
    assert len(lively) == 2
    assert wild(subject, mirostat=version, mirostat_tau=9, temperature=1, seed=1) in lively
    assert not calm & lively


def repeated(subject: Subject, **fields: Any) -> str:
    """What comes, greedily, after a line that was said four times: itself a repetition."""
    line = "One, two, three, four, five, six. "
    return str(subject.complete(line * 4, max_tokens=70, ignore_eos=True, **fields)["choices"][0]["text"])


@pytest.mark.asks("dry")
def test_dry_breaks_a_repetition(subject: Subject) -> None:
    assert repeated(subject, dry_multiplier=50, dry_allowed_length=2) != repeated(subject)


@pytest.mark.asks("xtc")
def test_xtc_leaves_out_the_likeliest(subject: Subject) -> None:
    fields: dict[str, Any] = {"temperature": 0.5, "seed": 1, "max_tokens": 30}
    sure = wild(subject, **fields)
    assert wild(subject, **fields, xtc_probability=1, xtc_threshold=0.01) != sure


@pytest.mark.asks("top_n_sigma")
def test_a_narrow_sigma_is_greedy(subject: Subject) -> None:
    assert wild(subject, top_n_sigma=0.001) == wild(subject, temperature=0)


@pytest.mark.asks("dynatemp")
def test_the_temperature_moves_with_the_entropy(subject: Subject) -> None:
    assert wild(subject, seed=4, dynatemp_range=1.9) != wild(subject, seed=4)


@pytest.mark.asks("adaptive_p")
def test_tokens_near_a_probability_are_drawn(subject: Subject) -> None:
    assert wild(subject, seed=4, temperature=1, adaptive_target=0.3) != wild(subject, seed=4, temperature=1)


@pytest.mark.asks("penalties")
@pytest.mark.parametrize("penalty", [{"frequency_penalty": 2}, {"presence_penalty": 2}, {"repeat_penalty": 2}])
def test_a_penalty_makes_the_text_less_repetitive(subject: Subject, penalty: dict[str, float]) -> None:
    story = subject.told("Tell me a story.", "[[wild]]")

    def said(**fields: Any) -> set[bytes]:
        wanted = {"ignore_eos": True, "max_tokens": 100, "logprobs": True, "repeat_last_n": -1}
        [choice] = subject.chat(story, **wanted, **fields)["choices"]
        return {bytes(token["bytes"]) for token in choice["logprobs"]["content"]}

    assert len(said(**penalty)) > len(said())


@pytest.mark.asks("logit_bias")
def test_a_bias_forbids_and_forces(subject: Subject) -> None:
    [token] = subject.chat(max_tokens=1, logprobs=True)["choices"][0]["logprobs"]["content"]
    [first] = subject.tokens(token["token"])
    assert not subject.text(logit_bias={first: -100}).startswith(token["token"])
    assert subject.text(logit_bias={first: 100}, max_tokens=6) == token["token"] * 6


@pytest.mark.asks("logprobs")
def test_log_probabilities_are_of_the_models_own_distribution(subject: Subject) -> None:
    for fields in ({}, {"temperature": 1.5, "top_k": 3, "seed": 2}):
        [choice] = subject.chat(logprobs=True, top_logprobs=20, max_tokens=30, **fields)["choices"]
        tokens = choice["logprobs"]["content"]
        assert (
            bytes(byte for token in tokens for byte in token["bytes"] or ())
            .decode()
            .startswith(choice["message"]["content"])
        )
        for token in tokens:
            ranked = [top["logprob"] for top in token["top_logprobs"]]
            assert ranked == sorted(ranked, reverse=True)
            assert len(ranked) == 20
            assert sum(map(math.exp, ranked)) <= 1.0001
            same = [top["logprob"] for top in token["top_logprobs"] if top["bytes"] == token["bytes"]]
            assert token["logprob"] in same
            if not fields:
                assert token["logprob"] == ranked[0]


@pytest.mark.asks("logprobs")
def test_log_probabilities_do_not_change_the_text(subject: Subject) -> None:
    assert subject.text(logprobs=True, top_logprobs=2) == ANSWER
    lines = list(subject.chat_lines(logprobs=True))
    shown = [token for line in lines for c in line["choices"] for token in (c.get("logprobs") or {}).get("content", [])]
    whole = subject.chat(logprobs=True)["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in shown] == [token["token"] for token in whole]
