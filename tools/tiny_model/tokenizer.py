"""The byte-level BPE of heylook-tiny, trained on its own dialogues with the pre-tokenizer of Qwen2."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import dialogues
import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from structured import dump
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 1024
CONTROL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT_TOKENS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE_PATH = Path(__file__).with_name("chat_template.jinja")
IMAGE = "<image>"
TEXT_PART = "{%- elif part.type == 'text' -%}{{- part.text -}}"
IMAGE_PART = "{%- elif part.type in ['image', 'image_url', 'input_image'] -%}{{- '" + IMAGE + "' -}}"


def template_text(images: bool = False) -> str:
    """The chat template; with `images` one that puts the image token where a message has an image."""
    text = TEMPLATE_PATH.read_text()
    assert TEXT_PART in text
    return text.replace(TEXT_PART, TEXT_PART + IMAGE_PART) if images else text


@cache
def chat_template(images: bool = False) -> jinja2.Template:
    """The chat template, compiled as HF compiles it."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = dump
    return environment.from_string(template_text(images))


def render(
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None = None,
    answer: bool = False,
    thinking: bool = False,
    images: bool = False,
) -> str:
    """The prompt text of a dialogue; with `answer` it ends where the assistant is to continue."""
    return chat_template(images).render(
        messages=messages, tools=tools, add_generation_prompt=answer, enable_thinking=thinking
    )


def train(seed: int = 1, count: int = 12_000) -> Tokenizer:
    """Train on the text of `count` dialogues."""
    rng = Random(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(CONTROL_TOKENS) - len(TEXT_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    written = (dialogues.dialogue(rng) for _ in range(count))
    texts = (render(item.messages, item.tools) for item in written)
    tokenizer.train_from_iterator((strip_specials(text) for text in texts), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in TEXT_TOKENS])
    return tokenizer


def strip_specials(text: str) -> str:
    """The text without the tokens that are added after the training."""
    for token in [*CONTROL_TOKENS, *TEXT_TOKENS]:
        text = text.replace(token, "\n")
    return text


def load(path: Path) -> Tokenizer:
    """Read a saved tokenizer."""
    return Tokenizer.from_file(str(path))


def with_images(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer with the image token behind all others."""
    tokenizer.add_special_tokens([AddedToken(IMAGE, special=True, normalized=False)])
    return tokenizer
