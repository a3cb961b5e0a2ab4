"""The bundled vision model answers rightly about pictures that it never saw, and alike on both engines."""

import importlib.util
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

import heylook_llm.tiny
from heylook_llm import core
from tests.worker.client import Client
from tests.worker.pictures import shown
from tests.worker.tiers import LONG

pytestmark = pytest.mark.integration

FOLDER = Path(heylook_llm.tiny.__file__).parent
NAME = "heylook-tiny-vision"
ASKED = 200 if LONG else 24
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 60}


class Asked(NamedTuple):
    """A picture, a question about it, and the right answer."""

    image: core.ImagePart
    question: str
    answer: str


@pytest.fixture(scope="module", params=["llama_cpp", "mlx"])
def engine(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A worker of either engine."""
    library = {"llama_cpp": "llama_cpp", "mlx": "mlx_vlm"}[request.param]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} isn't installed")
    with opened(request.param) as client:
        yield client


def opened(provider: str) -> Client:
    """A worker with the bundled model."""
    if provider == "mlx":
        return Client("mlx", str(FOLDER / f"{NAME}-mlx"), n_ctx=1024)
    eyes = str(FOLDER / f"{NAME}-mmproj.gguf")
    return Client("llama_cpp", str(FOLDER / f"{NAME}.gguf"), mmproj_path=eyes, n_ctx=1024, n_threads=1)


def questions(generator: Any, count: int) -> list[Asked]:
    """Questions of all kinds in turn, each about a held-out picture of its own."""
    pictures, sights = generator("pictures"), generator("sights")
    writers = [writer for writer, _ in sights.WRITERS.values()]
    rng, found = Random(zlib.crc32(b"sight")), list[Asked]()
    while len(found) < count:
        picture = pictures.draw(rng)
        turn = writers[len(found) % len(writers)](rng, picture) if picture.held_out else None
        if turn is not None:
            image = core.ImagePart(picture.image.tobytes(), *picture.image.size)
            found.append(Asked(image, turn.messages[0]["content"], turn.answer))
    return found


def said(client: Client, *prompt: str | core.ImagePart) -> str:
    """The greedy answer."""
    return client.run(shown(*prompt), **GREEDY).choices[0].text


def test_answers_about_held_out_pictures_are_right(engine: Client, generator: Any) -> None:
    asked = questions(generator, ASKED)
    right = sum(said(engine, one.image, one.question) == one.answer for one in asked)
    assert right >= 0.95 * len(asked)


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llama_cpp", "mlx_vlm")), reason="needs both engines"
)
def test_both_engines_give_the_same_answers(generator: Any) -> None:
    asked = questions(generator, ASKED)
    with opened("llama_cpp") as one, opened("mlx") as other:
        pairs = [[said(client, each.image, each.question) for client in (one, other)] for each in asked]
    assert sum(first == second for first, second in pairs) >= 0.98 * len(pairs)


def test_order_of_colours_sizes_and_sides_as_a_stranger_draws_them(engine: Client) -> None:
    """Red, green and blue can't be told from a wrong order of channels by any but this; nor left by a mirrored one."""
    for name, colour in (("red", (255, 0, 0)), ("green", (0, 128, 0)), ("blue", (0, 0, 255))):
        image = square(colour, (255, 255, 255), width=200, height=140, left=30)
        assert said(engine, image, "What colour is the square?") == f"The square is {name}."
        assert said(engine, image, "What colour is the background?") == "The background is white."
        assert said(engine, image, "How many squares?") == "There is 1 square."
        assert said(engine, image, "How many circles?") == "There are no circles."


def square(colour: tuple[int, ...], ground: tuple[int, ...], width: int, height: int, left: int) -> core.ImagePart:
    """A square of 60 pixels in the middle of the height."""
    row = bytearray(bytes(ground) * width)
    row[3 * left : 3 * (left + 60)] = bytes(colour) * 60
    plain, top = bytes(ground) * width, (height - 60) // 2
    return core.ImagePart(plain * top + bytes(row) * 60 + plain * (height - 60 - top), width, height)


def test_without_an_image_it_talks_as_the_text_model(engine: Client) -> None:
    assert said(engine, "What is the capital of France?") == "The capital of France is Paris."
    assert said(engine, "What is 7 + 5?") == "7 + 5 = 12"
    assert said(engine, "What colour is the square?") == "I see no image."
