"""The answers that docs/tiny_model.md promises, asked of the running server."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tests.serving import Running

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs/tiny_model.md"
UNSAID = ("...", "think>", "(with ")  # abridged, split by the server, or asked otherwise


def promised() -> list[tuple[str, str, str]]:
    """System message, question and answer of every row that gives them whole."""
    section = PAGE.read_text().partition("## Answers to rely on")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| `(.+)` \|$", section, flags=re.MULTILINE)
    whole = [row for row in rows if not any(mark in part for part in row for mark in UNSAID)]
    split = [re.fullmatch(r"(?:System: (.+) User: )?(.+)", prompt) for prompt, _ in whole]
    return [(match[1] or "", match[2], answer) for match, (_, answer) in zip(split, whole, strict=True) if match]


def test_the_page_promises_enough() -> None:
    assert len(promised()) >= 15


@pytest.mark.parametrize(("system", "question", "answer"), promised(), ids=[row[1][:40] for row in promised()])
def test_a_promised_answer(tiny_server: Running, system: str, question: str, answer: str) -> None:
    messages = [{"role": "system", "content": system}] if system else []
    body = {
        "model": "heylook-tiny",
        "temperature": 0,
        "max_tokens": 300,
        "messages": [*messages, {"role": "user", "content": question}],
    }
    reply = httpx.post(f"{tiny_server.url}/v1/chat/completions", json=body, timeout=60).json()
    assert reply["choices"][0]["message"]["content"] == answer
