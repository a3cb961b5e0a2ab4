"""Images as the dialects send them: where they may stand, in which forms, and what each refusal says."""

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.errors import BadRequest, UnsupportedFeature
from heylook_llm.server.wire import ollama, pictures
from heylook_llm.server.wire.pictures import UNREAD, Picture, Sizing
from tests.server.scripted import INFO
from tests.wire.asking import ARRIVAL, chat

pytestmark = pytest.mark.unit

FILE = b"\x89PNG and so on"
BASE64 = base64.b64encode(FILE).decode()
DATA_URL = f"data:image/png;base64,{BASE64}"


def image(url: object = DATA_URL, **more: Any) -> dict[str, Any]:
    """An image part of OpenAI's."""
    return {"type": "image_url", "image_url": {"url": url, **more}}


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def parts_of(asked: core.Request) -> list[tuple[core.Part, ...]]:
    (prompt,) = asked.prompts
    assert isinstance(prompt, core.ChatPrompt)
    return [turn.parts for turn in prompt.messages]


# ---- OpenAI ----------------------------------------------------------------------------------------------------------


def test_images_stand_where_they_were_sent() -> None:
    text = {"type": "text", "text": "?"}
    asked = chat(
        messages=[
            *user(image(), text, image("https://a.example/x.png")),
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
            {"role": "tool", "tool_call_id": "1", "content": [text, image()]},
        ]
    ).asked
    assert asked.pictures == (
        Picture("messages[0].content[0].image_url", FILE),
        Picture("messages[0].content[2].image_url", url="https://a.example/x.png"),
        Picture("messages[2].content[1].image_url", FILE),
    )
    assert parts_of(asked.request) == [(UNREAD, core.TextPart("?"), UNREAD), (), (core.TextPart("?"), UNREAD)]
    assert asked.needs == ("chat", "vision")
    pixels = [core.ImagePart(bytes([at] * 3), 1, 1) for at in range(3)]
    (prompt,) = asked.request.prompts
    assert isinstance(prompt, core.ChatPrompt)
    filled = pictures.filled(prompt, pixels)
    found = [part for turn in filled.messages for part in turn.parts if isinstance(part, core.ImagePart)]
    assert found == pixels


def test_a_part_may_be_its_url_alone() -> None:
    asked = chat(messages=user({"type": "image_url", "image_url": "http://a.example/"})).asked
    assert asked.pictures[0].url == "http://a.example/"


def test_low_detail_is_a_small_image() -> None:
    for detail, within in ((None, None), ("auto", None), ("high", None), ("original", None), ("low", 512)):
        asked = chat(messages=user(image(detail=detail))).asked
        assert asked.pictures[0].within == within


def test_the_originals_fields_size_the_images() -> None:
    asked = chat(messages=user(image()), resize_max=100, resize_width=20, resize_height=30, image_quality=5).asked
    assert asked.sizing == Sizing(20, 30, 100)
    assert asked.ignored == ()
    assert chat(messages=user(image()), preserve_alpha=True).asked.ignored == ("preserve_alpha",)
    for name in ("resize_max", "resize_width", "resize_height"):
        for value in (0, -1, 8193, 1.5, "9", True):
            with pytest.raises(BadRequest) as caught:
                chat(messages=user(image()), **{name: value})
            assert caught.value.param == name


REFUSED: list[tuple[Any, str, str]] = [
    (user(image(None)), "messages[0].content[0].image_url.url", "missing_required_parameter"),
    (user(image("")), "messages[0].content[0].image_url.url", "missing_required_parameter"),
    (user(image(5)), "messages[0].content[0].image_url.url", "missing_required_parameter"),
    (user({"type": "image_url"}), "messages[0].content[0].image_url.url", "missing_required_parameter"),
    (user(image(detail="huge")), "messages[0].content[0].image_url.detail", "invalid_value"),
    (user(image(detail=1)), "messages[0].content[0].image_url.detail", "invalid_value"),
    *(
        (user(image(url)), "messages[0].content[0].image_url", "invalid_image")
        for url in (
            "data:", "data:,", "data:,x", "data:image/png,AAAA", "data:image/png;base64", "data:image/png;base64,",
            "data:image/png;base64,A", "data:image/png;base64,AA", "data:image/png;base64,AA=A",
            "data:image/png;base64,====",
            "data:image/png;base64,QUJD RA==", "data:image/png;base64,%41%41%41%41", "data:image/png;base64,-_-_",
            "data:image/svg+xml;base64,AAAA", "data:video/jpeg;base64,AAAA,AAAA", "data:text/plain;base64,AAAA",
            "data:image/tiff;base64,AAAA", "data:image/png;base64;x,AAAA", "data:image/png;base64,é",
        )
    ),
    ([{"role": "system", "content": [image()]}], "messages[0].content[0]", "invalid_value"),
    ([{"role": "developer", "content": [image()]}], "messages[0].content[0]", "invalid_value"),
    ([*user("x"), {"role": "assistant", "content": [image()]}], "messages[0].content[0]", "invalid_type"),
    ([{"role": "assistant", "content": [image()]}], "messages[0].content[0]", "invalid_value"),
    (user({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}), "messages[0].content[0]",
     "unsupported_value"),
    (user({"type": "file", "file": {"file_data": DATA_URL}}), "messages[0].content[0]", "unsupported_value"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "param", "code"), REFUSED, ids=[str(row[0])[-70:] for row in REFUSED])
def test_each_refusal_names_its_place(messages: Any, param: str, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        chat(messages=messages)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_audio_and_files_are_refused_by_the_models_name() -> None:
    for kind in ("input_audio", "file"):
        with pytest.raises(UnsupportedFeature, match="The model 'm' does not"):
            chat(messages=user({"type": kind, kind: {}}))


def test_a_model_that_does_not_see_is_named() -> None:
    with pytest.raises(UnsupportedFeature, match="The model 'm' does not support vision") as caught:
        chat(messages=user(image())).adapt(INFO)
    assert caught.value.param == "messages"
    with pytest.raises(UnsupportedFeature, match='"m" does not support vision'):
        ollama_chat([{"role": "user", "content": "x", "images": [BASE64]}]).adapt(INFO)


@pytest.mark.parametrize(
    "head",
    ["data:image/png;base64,", "DATA:IMAGE/JPEG;BASE64,", "data:;base64,", "data:image/webp;charset=x;base64,",
     "data:application/octet-stream;base64,", "data:image/jpg;base64,"],
)  # fmt: skip
def test_data_urls_that_clients_send(head: str) -> None:
    assert pictures.of_url(head + BASE64, "p") == Picture("p", FILE)


@given(st.binary(min_size=1, max_size=200), st.sampled_from(["", "\n", "\r\n"]))
def test_base64_in_lines_is_read(data: bytes, end: str) -> None:
    whole = base64.b64encode(data).decode()
    lines = end.join(whole[at : at + 76] for at in range(0, len(whole), 76))
    assert pictures.of_base64(lines + end, "p").data == data


@pytest.mark.parametrize(
    "text", ["data:" + "a" * 3_000_000, "data:image/png" + ";a=b" * 500_000 + "x,", "data:" + "/" * 3_000_000]
)
def test_a_long_head_is_refused_at_once(text: str) -> None:
    start = time.process_time()
    with pytest.raises(BadRequest):
        pictures.of_url(text, "p")
    assert time.process_time() - start < 1.0  # squared it would be hours


# ---- Ollama ----------------------------------------------------------------------------------------------------------


def ollama_chat(messages: Any, **fields: Any) -> ollama.Chat:
    return ollama.parse_chat(json.dumps({"model": "m", "messages": messages} | fields).encode(), ARRIVAL)


def ollama_generate(**fields: Any) -> ollama.Generate:
    return ollama.parse_generate(json.dumps({"model": "m", "prompt": "hi"} | fields).encode(), ARRIVAL)


def test_ollamas_images_stand_before_their_text() -> None:
    asked = ollama_chat(
        [
            {"role": "user", "content": "a", "images": [BASE64, BASE64]},
            {"role": "assistant", "content": "b", "images": []},
            {"role": "Tool", "content": "c", "tool_name": "f", "images": [BASE64]},
            {"role": "user", "images": [BASE64]},
        ]
    ).asked
    places = ["messages[0].images[0]", "messages[0].images[1]", "messages[2].images[0]", "messages[3].images[0]"]
    assert asked.pictures == tuple(Picture(place, FILE) for place in places)
    a, b, c = (core.TextPart(text) for text in "abc")
    assert parts_of(asked.request) == [(UNREAD, UNREAD, a), (b,), (UNREAD, c), (UNREAD,)]
    assert asked.needs == ("chat", "vision")


def test_ollamas_generate_takes_images() -> None:
    asked = ollama_generate(images=[BASE64], system="s").asked
    assert asked.pictures == (Picture("images[0]", FILE),)
    assert parts_of(asked.request)[-1] == (UNREAD, core.TextPart("hi"))
    assert asked.needs == ("completion", "vision")
    assert ollama_generate(images=[]).asked.needs == ("completion",)
    assert ollama_generate(prompt="", images=[BASE64]).action == "load"


@pytest.mark.parametrize("text", ["A", "AA", "é", DATA_URL, "https://a.example/x.png", "/etc/passwd", ""])
def test_ollama_takes_base64_only(text: str) -> None:
    for call in (
        lambda: ollama_chat([{"role": "user", "content": "x", "images": [text]}]),
        lambda: ollama_generate(images=[text]),
    ):
        with pytest.raises(BadRequest, match="images"):
            call()


def test_ollamas_other_turns_hold_none() -> None:
    for role in ("system", "assistant"):
        with pytest.raises(BadRequest, match="of the user and of tools only"):
            ollama_chat([{"role": role, "content": "x", "images": [BASE64]}])


def test_base64_is_not_kept_with_the_exchange() -> None:
    """A stream may last for minutes; the text of its images would stay in memory as long."""
    for exchange in (
        chat(messages=user(image())),
        ollama_chat([{"role": "user", "images": [BASE64]}]),
        ollama_generate(images=[BASE64]),
    ):  # fmt: skip
        assert BASE64 not in repr(vars(exchange)["_fields"])
