"""A Request to sequences: whose sampling defaults hold, and what shortening a chat costs."""

import random
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.worker.prepare import Model
from heylook_llm.worker.providers.base import Provider
from heylook_llm.worker.providers.fake import Fake
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
    """Counts the texts that it encodes."""

    texts = 0

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        self.texts += 1
        return super().encode(text, add_special=add_special, parse_special=parse_special)


def test_a_very_long_chat_is_shortened_in_a_few_tries() -> None:
    provider = _Counting({"n_ctx": 2048})
    model = Model("m", provider, random.Random(), lambda: 0)
    request = core.Request("r", "m", (chat(*["turn"] * 2001),), truncate="oldest")
    [choice] = model.prepare(1, request)
    assert 2048 - 40 < choice.sequence.prompt_tokens < 2048
    assert provider.texts <= 12
