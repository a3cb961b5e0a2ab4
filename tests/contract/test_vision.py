"""Images in messages: they count, answers hang on them, a known one isn't computed again, the blind refuse them."""

import base64
import importlib.util
import json
from typing import Any

import pytest

from tests.contract.subjects import COUNT, Refused, Subject, at_once
from tests.picture_files import file_of, noise, plain

pytestmark = [pytest.mark.integration, pytest.mark.asks("vision")]


@pytest.fixture(scope="module")
def seeing(subject: Subject) -> Subject:
    """A provider's model that sees."""
    if subject.provider == "mlx" and importlib.util.find_spec("mlx_vlm") is None:
        pytest.skip("mlx-vlm isn't installed")
    return subject.sibling("seeing")


def parts(text: str, *files: bytes) -> list[dict[str, Any]]:
    """A user's turn of images and a text."""
    urls = [f"data:image/png;base64,{base64.b64encode(file).decode()}" for file in files]
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def drawing(seed: int) -> bytes:
    """A file with pixels of its own."""
    return file_of(noise(32, 32, seed))


def text_of(reply: Any) -> str:
    """What was answered."""
    return str(reply["choices"][0]["message"]["content"])


def test_an_image_counts_and_the_answer_hangs_on_it(seeing: Subject) -> None:
    text = seeing.told("What is it?", "[[see]]")
    blank, first, second = (
        seeing.chat(messages=parts(text, *files), max_tokens=300) for files in ((), (drawing(1),), (drawing(2),))
    )
    counts = [reply["usage"]["prompt_tokens"] for reply in (blank, first, second)]
    assert counts[0] < counts[1] == counts[2]
    assert len({text_of(blank), text_of(first), text_of(second)}) == 3
    assert text_of(seeing.chat(messages=parts(text, drawing(1)), max_tokens=300)) == text_of(first)


def test_another_question_about_an_image_computes_it_no_more(seeing: Subject) -> None:
    def asked(question: str, *files: bytes) -> tuple[int, int]:
        """(tokens of the prompt, those of them that were cached)."""
        usage = seeing.chat(messages=parts(question, *files), max_tokens=2)["usage"]
        return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]

    first, _ = asked("What is it?", drawing(3))
    _, again = asked("What is it, then?", drawing(3))  # at once: how much of others is kept hangs on measured speed
    _, other = asked("What is it, then?", drawing(4))
    blank, _ = asked("What is it?")
    assert again >= other + first - blank


def test_neighbours_with_and_without_images(seeing: Subject) -> None:
    text = seeing.told("What?", "[[see]]")
    asked = [parts(text, drawing(5)), parts(text), parts(text, drawing(6)), parts(text, drawing(5), drawing(6))]
    alone = [text_of(seeing.chat(messages=messages, max_tokens=40)) for messages in asked]
    seeing.flush()
    together = at_once(*[lambda one=one: text_of(seeing.chat(messages=one, max_tokens=40)) for one in asked])
    assert together == alone


def test_ollamas_images(seeing: Subject) -> None:
    text = seeing.told("What is it?", "[[see]]")
    message = {"role": "user", "content": text, "images": [base64.b64encode(drawing(7)).decode()]}
    reply = seeing.ollama("/api/chat", messages=[message])
    assert reply["done"]
    if seeing.provider == "fake":
        assert [image["width"] for image in json.loads(reply["message"]["content"])] == [32]


def test_who_is_blind_says_so(subject: Subject) -> None:
    with pytest.raises(Refused) as refused:
        subject.chat(messages=parts(COUNT, plain()))
    assert refused.value.status == 400
    assert "does not support vision" in refused.value.message
