"""Forms: read as clients write them, refused as attackers do; and what a chat's form means."""

import contextlib
import json
import time
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.errors import BadRequest
from heylook_llm.server.wire import multipart, openai, openai_multipart
from heylook_llm.server.wire.multipart import Part, parts
from heylook_llm.server.wire.pictures import Picture
from tests.wire.asking import ARRIVAL

pytestmark = pytest.mark.unit

KIND = "multipart/form-data; boundary=b"


def form(*given: tuple[str, bytes], end: bytes = b"--b--\r\n") -> bytes:
    """A form of fields, each with a head of its own."""
    return b"".join(b"--b\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in given) + end


def field(name: str, data: bytes | str = b"x", more: str = "") -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"{more}', data if isinstance(data, bytes) else data.encode()


@given(
    st.lists(
        st.tuples(st.from_regex(r"[a-z_\[\]]{1,20}", fullmatch=True), st.binary(max_size=200)), min_size=1, max_size=8
    ),
    st.lists(st.tuples(st.from_regex(r"[a-z]{1,9}", fullmatch=True), st.text(max_size=50)), max_size=4),
)
def test_what_httpx_writes_is_read(files: list[tuple[str, bytes]], fields: list[tuple[str, str]]) -> None:
    request = httpx.Request(
        "POST",
        "http://x/",
        files=[(name, ("a file.png", data, "image/png")) for name, data in files],
        data=dict(fields),
    )
    found = parts(request.read(), request.headers["content-type"])
    assert [(part.name, part.data) for part in found] == [
        *((name, text.encode()) for name, text in dict(fields).items()),
        *files,
    ]


@given(
    st.binary(max_size=120), st.sampled_from([b"", b"--b", b"--b\r\n", b"\r\n\r\n", b"--b--"]), st.binary(max_size=60)
)
def test_any_bytes_are_a_form_or_a_refusal(before: bytes, middle: bytes, after: bytes) -> None:
    found: list[Part] = []
    with contextlib.suppress(BadRequest):
        found = parts(before + middle + after, KIND)
    assert all(part.name for part in found)


def test_files_keep_their_bytes() -> None:
    data = b"\r\n--a\r\n\x00\xff--b\n--b\r\n\r\n"
    head = 'content-type: image/png\r\nCONTENT-DISPOSITION: Form-Data; filename="a;name=x.png"; name=images'
    assert parts(form((head, data), field("a", b"")), KIND) == [Part("images", data, "a;name=x.png"), Part("a", b"")]
    assert parts(form(field("a")), 'Multipart/Form-Data; charset=utf-8; BOUNDARY="b"') == [Part("a", b"x")]


REFUSED = {
    "empty": b"",
    "no boundary": b"hello",
    "a preamble": b"hello\r\n" + form(field("a")),
    "no end": form(field("a"), end=b""),
    "cut": form(field("a"))[:-8],
    "cut in a head": form(field("a"))[:20],
    "lines of LF": form(field("a")).replace(b"\r\n", b"\n"),
    "another boundary": form(field("a")).replace(b"--b\r\n", b"--bc\r\n"),
    "no name": form(("Content-Disposition: form-data", b"x")),
    "an empty name": form(field("")),
    "no disposition": form(("Content-Type: text/plain", b"x")),
    "no head": b"--b\r\n\r\nx\r\n--b--\r\n",
    "an attachment": form(('Content-Disposition: attachment; name="a"', b"x")),
    "base64": form((field("a")[0] + "\r\nContent-Transfer-Encoding: base64", b"eA==")),
    "a large head": form((field("a")[0] + "\r\nX: " + "y" * 5000, b"x")),
    "a large file's name": form(field("a", more=f'; filename="{"y" * 1_000_000}"')),
    "a head in Latin-1": form(("\xe9", b"x")).replace("\xe9".encode(), b"\xe9"),
    "ten thousand parts": form(*[field("a")] * 10_000),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_refusal(name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parts(REFUSED[name], KIND)
    assert caught.value.code == "invalid_form"


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=é",
     "multipart/form-data; boundary=" + "b" * 71, 'multipart/form-data; boundary="b\r\n"'],
)  # fmt: skip
def test_a_boundary_is_needed(kind: str) -> None:
    with pytest.raises(BadRequest, match="names no boundary"):
        parts(form(field("a")), kind)
    for other in ("application/json", "", "multipart/mixed; boundary=b", "multipart/form-datax; boundary=b"):
        with pytest.raises(BadRequest, match="takes multipart/form-data"):
            parts(form(field("a")), other)


@pytest.mark.parametrize("filling", [b"\r\n--", b"\r\n--b", b"--b\r\n", b"\r\n" * 3, b"-"], ids=repr)
def test_reading_takes_time_in_proportion(filling: bytes) -> None:
    body = form(field("a", filling * (20_000_000 // len(filling))))
    start = time.process_time()
    with contextlib.suppress(BadRequest):
        parts(body, KIND)
    assert time.process_time() - start < 5.0  # squared it would be hours


# ---- the form of a chat ----------------------------------------------------------------------------------------------

PNG = b"\x89PNG\r\n--a"
PLACE = {"type": "image_url", "image_url": {"url": "__RAW_IMAGE__"}}


def messages(*content: Any) -> tuple[str, bytes]:
    return field("messages", json.dumps([{"role": "user", "content": list(content) or "hi"}]))


def chat(*given: tuple[str, bytes]) -> openai.Chat:
    return openai_multipart.parse(form(field("model", "m"), *given), KIND, ARRIVAL)


def test_files_fill_their_places_in_order() -> None:
    linked = {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}
    asked = chat(
        messages(PLACE, {"type": "text", "text": "?"}, linked, PLACE),
        field("images", PNG, '; filename="a.png"'),
        field("images[]", b"two", '; filename="b.png"'),
    ).asked
    place = "messages[0].content[{}].image_url"
    assert asked.pictures == (
        Picture(place.format(0), PNG),
        Picture(place.format(2), url="https://a.example/x.png"),
        Picture(place.format(3), b"two"),
    )
    assert "vision" in asked.needs


def test_fields_are_what_their_types_say() -> None:
    given = {
        "temperature": "0.5", "top_k": "20", "max_tokens": "9", "stream": "true", "seed": "3", "stop": "1",
        "resize_max": "100", "image_quality": "85", "preserve_alpha": "false", "keep_alive": "5m", "think": "false",
        "repetition_penalty": "1.1", "speculative.n_max": "4", "response_format": '{"type": "json_object"}',
    }  # fmt: skip
    asked = chat(messages(), *(field(name, text) for name, text in given.items())).asked
    sampling = asked.request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.max_tokens, sampling.seed) == (0.5, 20, 9, 3)
    assert (sampling.stop, sampling.repeat_penalty, asked.stream, asked.keep_alive) == (("1",), 1.1, True, "5m")
    assert asked.sizing.longest == 100
    assert asked.request.draft_limit == 4
    assert asked.request.constraint is not None
    assert chat(messages(), field("stop", '["a", "b"]')).asked.request.sampling.stop == ("a", "b")
    assert chat(messages(), field("unknown", "1"), field("preserve_alpha", "true")).asked.ignored == (
        "preserve_alpha",
        "unknown",
    )


WRONG: list[tuple[tuple[tuple[str, bytes], ...], str, str]] = [
    ((messages(PLACE),), "images", "invalid_form"),
    ((messages(), field("images", PNG)), "images", "invalid_form"),
    ((messages(PLACE), field("images", PNG), field("images", PNG)), "images", "invalid_form"),
    ((messages(PLACE, PLACE), field("images", PNG)), "images", "invalid_form"),
    ((messages(PLACE), field("images", b"")), "messages[0].content[0].image_url", "invalid_image"),
    ((), "messages", "missing_required_parameter"),
    ((field("messages", "[{"),), "messages", "invalid_json"),
    ((field("messages", "hi"),), "messages", "invalid_json"),
    ((field("messages", "5"),), "messages", "invalid_type"),
    ((messages(), messages()), "messages", "invalid_value"),
    ((messages(), field("temperature", "hot")), "temperature", "invalid_type"),
    ((messages(), field("temperature", "9")), "temperature", "invalid_value"),
    ((messages(), field("stream", "yes")), "stream", "invalid_type"),
    ((messages(), field("max_tokens", b"\xff")), "max_tokens", "invalid_form"),
]


@pytest.mark.parametrize(("given", "param", "code"), WRONG, ids=[f"{row[1]} {at}" for at, row in enumerate(WRONG)])
def test_each_wrong_form(given: tuple[tuple[str, bytes], ...], param: str, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        chat(*given)
    assert caught.value.code == code
    assert caught.value.param in (param, None)
    assert caught.value.param == param or code == "invalid_form"


def test_limits_are_what_the_page_says() -> None:
    assert (multipart.MAX_PARTS, multipart.MAX_HEAD) == (256, 4096)
