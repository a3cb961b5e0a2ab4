"""Guessing ahead through a real worker: the same text, to the token, and counts that add up."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import random_model
from heylook_llm import core, tiny
from heylook_llm.errors import LoadFailed
from heylook_llm.worker.providers.base import Feed
from heylook_llm.worker.providers.llama_cpp import LlamaCpp, open_model
from tests.worker.client import Client, chat
from tests.worker.speculating import answered

pytestmark = pytest.mark.integration

WHOLE: dict[str, Any] = {"type_k": "f32", "type_v": "f32", "flash_attn": False, "n_ctx": 1024}
LOOP = core.TextPrompt("the cat sat on the mat and " * 6)
"""Random weights repeat themselves sooner or later, and here from the beginning."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2-shaped GGUF of 140,000 random parameters."""
    path = tmp_path_factory.mktemp("models") / "random.gguf"
    random_model.write(path, random_model.SHAPES["tiny"], whole=True)
    return path


@pytest.fixture(scope="module")
def plain(file: Path) -> Iterator[Client]:
    """A worker that guesses nothing."""
    with Client("llama_cpp", str(file), **WHOLE) as one:
        yield one


@pytest.fixture(scope="module")
def guessing(file: Path) -> Iterator[Client]:
    """A worker that looks up what stood before."""
    with Client("llama_cpp", str(file), **WHOLE, prompt_lookup=True) as one:
        yield one


def answer(client: Client, prompt: core.Prompt = LOOP, **fields: Any) -> core.ChoiceResult:
    """One choice of 120 tokens."""
    [choice] = client.run(prompt, **{"temperature": 0.0, "ignore_eos": True, "max_tokens": 120, **fields}).choices
    return choice


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"logprobs": 2},
        {"min_tokens": 60, "ignore_eos": False},
        {"repeat_penalty": 1.05, "repeat_last_tokens": -1},
        {"logit_bias": {70: 3.0, 71: -5.0}},
        {"temperature": 0.3, "seed": 11},
        {"temperature": 0.4, "seed": 3, "top_k": 5, "presence_penalty": -0.5},
        {"temperature": 0.5, "seed": 5, "mirostat": 2, "mirostat_tau": 1.0},
    ],
)
def test_the_same_text_with_and_without_guesses(plain: Client, guessing: Client, fields: dict[str, Any]) -> None:
    expected, found = answer(plain, **fields), answer(guessing, **fields)
    assert found.tokens == expected.tokens
    assert found.text == expected.text
    usage = found.done.usage
    assert usage.accepted_tokens > 0, "it accepted no guess, so this shows nothing"
    assert usage.accepted_tokens <= usage.draft_tokens
    assert sum(found.done.timeline.batch_sizes_seen.values()) == usage.output_tokens - 1 - usage.accepted_tokens
    assert (found.done.timeline.draft_tokens, found.done.timeline.accepted_tokens) == (
        usage.draft_tokens,
        usage.accepted_tokens,
    )
    assert [(one.token, len(one.top)) for one in found.logprobs] == [
        (one.token, len(one.top)) for one in expected.logprobs
    ]
    assert [one.logprob for one in found.logprobs] == pytest.approx(
        [one.logprob for one in expected.logprobs], abs=1e-4
    )
    assert expected.done.usage.draft_tokens == 0


def test_a_stop_string_ends_within_a_guess(plain: Client, guessing: Client) -> None:
    """The tokens behind it were drawn in the same step, and are as if they never were."""
    whole = answer(plain)
    stop = whole.text[60:64]
    expected, found = answer(plain, stop=(stop,)), answer(guessing, stop=(stop,))
    assert found.done.stop == stop
    assert found.text == expected.text
    assert found.done.usage.output_tokens == expected.done.usage.output_tokens
    again = answer(guessing)
    assert again.tokens == whole.tokens, "what is kept of the first answer's cells is only what it said"
    assert again.done.usage.cached_tokens > 0


@pytest.mark.parametrize("tokens", [1, 2, 3, 17])
def test_max_tokens_is_exact(guessing: Client, tokens: int) -> None:
    found = answer(guessing, max_tokens=tokens)
    assert (found.done.reason, found.done.usage.output_tokens, len(found.tokens)) == ("length", tokens, tokens)


def test_a_request_may_go_without(guessing: Client) -> None:
    assert answer(guessing, draft_limit=0).done.usage.draft_tokens == 0
    assert answer(guessing, draft_limit=2).done.usage.accepted_tokens > 0


def test_neighbours_in_a_small_pool_all_say_what_they_say_alone(file: Path) -> None:
    """Guessing and plain requests, preempted and computed again, in batches of few tokens."""
    prompts = [core.TextPrompt(f"{n} " + "again and " * 8) for n in range(6)]
    options = {**WHOLE, "n_ctx": 512, "kv_tokens": 512, "n_batch": 64, "prefill_tokens": 32, "prompt_lookup": True}
    drawing = {"ignore_eos": True, "max_tokens": 90, "temperature": 0.3, "seed": 8}
    with Client("llama_cpp", str(file), **options) as small:
        alone = [answer(small, prompt, **drawing, draft_limit=0).tokens for prompt in prompts]
        numbers = [
            small.submit(prompt, **drawing, draft_limit=None if at % 3 else 0) for at, prompt in enumerate(prompts)
        ]
        found = small.events(numbers)
        stats = small.ping()
    assert stats.preemptions > 0
    accepted = 0
    for number, expected in zip(numbers, alone, strict=True):
        events = found[number]
        assert tuple(t for event in events if isinstance(event, core.Text) for t in event.tokens) == expected
        [done] = [event for event in events if isinstance(event, core.Done)]
        accepted += done.usage.accepted_tokens
    assert accepted > 0


def test_a_prediction_is_followed_without_any_configuration() -> None:
    """Of the bundled model: what random weights say is no text that could be predicted."""
    with Client("llama_cpp", str(Path(tiny.__file__).parent / "heylook-tiny.gguf"), n_ctx=1024) as client:
        asked, fields = chat("Count from 1 to 12."), {"temperature": 0.0, "max_tokens": 60}
        first = client.run(asked, **fields)
        again = client.run(asked, **fields, prediction=first.choices[0].text)
        wrong = client.run(asked, **fields, prediction="something else entirely")
    assert again.choices[0].tokens == first.choices[0].tokens == wrong.choices[0].tokens
    assert again.usage.accepted_tokens > first.usage.output_tokens // 3
    assert first.usage.draft_tokens == 0


def test_a_step_takes_guesses_of_some_beside_others(file: Path) -> None:
    """The provider itself: draws of each feed in order, up to the first wrong guess."""
    load = core.Load("random", "llama_cpp", str(file), {**WHOLE, "n_parallel": 3})
    provider = open_model(load, lambda fraction: None)
    prompt = tuple(range(10, 30))
    for slot in range(3):
        provider.add(slot, core.Sampling(temperature=0.0), prompt)
    true = truth(provider, prompt, 4)
    right, wrong = (true[0], true[1], true[2]), (true[0], true[1] + 1, true[2])
    start = len(prompt)
    for slot in (1, 2):
        provider.step([Feed(slot, 0, prompt, True)])
    drawn = provider.step([Feed(1, start, right, True, 2), Feed(2, start, wrong, True, 2)])
    assert [(one.slot, one.token) for one in drawn] == [(1, true[1]), (1, true[2]), (1, true[3]), (2, true[1])]
    assert provider.remove(2, start + 1)
    [one] = provider.step([Feed(2, start + 1, (true[1],), True)])
    assert one.token == true[2]
    provider.close()


def truth(provider: LlamaCpp, prompt: tuple[int, ...], count: int) -> list[int]:
    """What slot 0 draws greedily."""
    tokens = list(prompt)
    for at in range(count):
        fed = prompt if not at else (tokens[-1],)
        [drawn] = provider.step([Feed(0, len(tokens) - len(fed), fed, True)])
        tokens.append(drawn.token)
    return tokens[len(prompt) :]


PLAIN_TEXT = tuple(b"A text in which nothing stands twice, as far as it goes.")


def opened(file: Path, **options: Any) -> LlamaCpp:
    """The provider in this process."""
    return open_model(core.Load("random", "llama_cpp", str(file), {**WHOLE, **options}), lambda fraction: None)


@pytest.mark.parametrize("drawn", [core.Sampling(temperature=0.0), core.Sampling(temperature=0.7, seed=4)])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_small_model_guesses_and_changes_nothing(file: Path, tmp_path: Path, seed: int, drawn: core.Sampling) -> None:
    """One that says what the large one says, and one that has other words."""
    small = tmp_path / "small.gguf"
    random_model.write(small, random_model.SHAPES["tiny"], seed, whole=True)
    provider = opened(file, draft_model_path=str(small))
    wanted = msgspec.structs.replace(drawn, ignore_eos=True, max_tokens=100)
    [expected] = answered(provider, [PLAIN_TEXT], wanted, guess=False)
    [found] = answered(provider, [PLAIN_TEXT], wanted, guess=True, lookup=False)
    assert found.tokens == expected.tokens
    if seed == 1 and not drawn.temperature:
        assert found.usage.accepted_tokens > 20, "and where it is sure: random weights seldom are"
    elif seed == 2:
        assert found.usage.draft_tokens < 60, "it goes on guessing what is never right"
    provider.close()


def test_a_small_model_guesses_for_many_at_once(file: Path) -> None:
    prompts = [tuple(f"{n} texts {'of words ' * n}".encode()) for n in range(5)]
    provider = opened(file, draft_model_path=str(file), n_parallel=5)
    wanted = core.Sampling(temperature=0.0, ignore_eos=True, max_tokens=60)
    alone = [answered(provider, [prompt], wanted, guess=False)[0].tokens for prompt in prompts]
    together = answered(provider, prompts, wanted, guess=True, lookup=False)
    assert [one.tokens for one in together] == alone
    assert sum(one.usage.accepted_tokens for one in together) > 40
    provider.close()


@pytest.mark.parametrize(
    ("vocabulary", "reason"),
    [(700, "another vocabulary: 700 tokens instead of 512"), (600, None), (0, "its file is missing")],
)
def test_a_small_model_must_have_the_same_vocabulary(
    file: Path, tmp_path: Path, vocabulary: int, reason: str | None
) -> None:
    small = tmp_path / "small.gguf"
    if vocabulary:
        random_model.write(small, random_model.SHAPES["tiny"]._replace(vocabulary=vocabulary), whole=True)
    if reason is None:
        opened(file, draft_model_path=str(small)).close()
        return
    with pytest.raises(LoadFailed, match=reason):
        opened(file, draft_model_path=str(small))


def test_the_bundled_model_has_another_vocabulary(file: Path) -> None:
    with pytest.raises(LoadFailed, match="its `draft_model_path`: it has another vocabulary"):
        opened(file, draft_model_path=str(Path(tiny.__file__).parent / "heylook-tiny.gguf"))


def test_the_fake_provider_guesses_too() -> None:
    with Client(prompt_lookup=True) as client:
        result = client.run(chat("one two three one two three one two three"))
    assert result.choices[0].text == "one two three one two three one two three"
    assert result.usage.accepted_tokens > 0
    assert result.timeline.steps == result.usage.output_tokens - result.usage.accepted_tokens
