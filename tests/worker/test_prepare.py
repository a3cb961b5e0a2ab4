"""A Request to sequences: whose sampling defaults hold, and what shortening costs."""

import random
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.errors import ContextLengthExceeded
from heylook_llm.worker.prepare import Model
from heylook_llm.worker.providers.base import Provider
from heylook_llm.worker.providers.fake import Fake
from heylook_llm.worker.providers.fake_script import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, REPLY
from tests.worker.client import chat

pytestmark = pytest.mark.unit


def sampling_of(provider: Provider, **fields: Any) -> core.Sampling:
    """What a request's only choice is sampled with."""
    model = Model("m", provider, random.Random(), lambda: 0)
    [choice] = model.prepare(1, core.Request("r", "m", (core.TextPrompt("hi"),), **fields))
    return choice.sequence.sampling


def test_defaults_are_the_requests_the_models_the_dialects_and_the_engines() -> None:
    provider = Fake({"n_ctx": 64, "top_k": 7, "repetition_penalty": 1.2})
    provider.engine_defaults = core.Sampling(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, typical_p=0.9)
    fallback = core.Sampling(temperature=0.7, top_k=41, top_p=0.9, min_p=0.0, repeat_penalty=1.0)
    said = core.Sampling(temperature=0.0)
    assert sampling_of(provider, sampling=said, fallback=fallback) == core.Sampling(
        temperature=0.0, top_k=7, top_p=0.9, min_p=0.0, repeat_penalty=1.2, typical_p=0.9
    )
    assert sampling_of(provider, sampling=said) == core.Sampling(
        temperature=0.0, top_k=7, top_p=0.95, min_p=0.05, repeat_penalty=1.2, typical_p=0.9
    )


class _Counting(Fake):
    """Counts the texts that it encodes, and their characters."""

    texts = 0
    characters = 0

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        self.texts += 1
        self.characters += len(text)
        return super().encode(text, add_special=add_special, parse_special=parse_special)


def test_a_very_long_chat_is_shortened_in_a_few_tries() -> None:
    provider = _Counting({"n_ctx": 2048})
    model = Model("m", provider, random.Random(), lambda: 0)
    request = core.Request("r", "m", (chat(*["turn"] * 2001),), truncate="oldest")
    [choice] = model.prepare(1, request)
    assert 2048 - 40 < choice.sequence.prompt_tokens < 2048
    assert provider.texts <= 12


LONG = "a" + "bcdefghij" * 100_000


@pytest.mark.parametrize(
    ("prompt", "before", "kept"),
    [
        (core.TextPrompt(LONG), (), [ord("a"), *LONG[-253:].encode(), REPLY]),
        (core.TextPrompt(LONG), (65, 66), [65, *LONG[-253:].encode(), REPLY]),
        (core.TextPrompt(LONG, "s" * 9), (), [FIM_PREFIX, *LONG[-243:].encode(), FIM_SUFFIX, *b"s" * 9, FIM_MIDDLE]),
        (core.TextPrompt(LONG, LONG), (), [FIM_PREFIX, *LONG[-253:].encode(), FIM_MIDDLE]),
    ],
    ids=["text", "after an exchange", "before a suffix", "before a long suffix"],
)
def test_of_a_very_long_text_only_the_end_is_tokenized(
    prompt: core.TextPrompt, before: tuple[int, ...], kept: list[int]
) -> None:
    provider = _Counting({"n_ctx": 256})
    model = Model("m", provider, random.Random(), lambda: 0)
    provider.characters = 0
    [choice] = model.prepare(1, core.Request("r", "m", (prompt,), truncate="oldest", before=before))
    assert choice.sequence.tokens == kept
    assert provider.characters < 4096
    left_out = len(prompt.text) + len(prompt.suffix) - 255
    assert abs(choice.sequence.stamps.dropped_tokens - left_out) < left_out / 100
    with pytest.raises(ContextLengthExceeded):
        model.prepare(1, core.Request("r", "m", (prompt,)))


def test_a_long_text_of_few_tokens_is_not_cut() -> None:
    class Sparse(_Counting):
        def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
            return super().encode(text, add_special=add_special, parse_special=parse_special)[::5000]

    model = Model("m", Sparse({"n_ctx": 256}), random.Random(), lambda: 0)
    [choice] = model.prepare(1, core.Request("r", "m", (core.TextPrompt(LONG),), truncate="oldest"))
    assert choice.sequence.prompt_tokens == 181
    assert choice.sequence.stamps.dropped_tokens == 0


def test_a_very_long_last_message_is_refused_without_tokenizing_it() -> None:
    provider = _Counting({"n_ctx": 256})
    model = Model("m", provider, random.Random(), lambda: 0)
    provider.characters = 0
    with pytest.raises(ContextLengthExceeded) as caught:
        model.prepare(1, core.Request("r", "m", (chat(LONG),), truncate="oldest"))
    assert provider.characters < 8192
    assert 880_000 < caught.value.prompt_tokens < 920_000
