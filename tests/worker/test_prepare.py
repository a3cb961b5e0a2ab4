"""A Request to sequences: what shortening a chat costs."""

import random

import pytest

from heylook_llm import core
from heylook_llm.worker.prepare import Model
from heylook_llm.worker.providers.fake import Fake
from tests.worker.client import chat

pytestmark = pytest.mark.unit


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
