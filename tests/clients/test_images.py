"""Images through a whole server, as clients send them: what reaches the model, and what is refused before it."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import httpx
import ollama
import openai
import pytest

from tests.picture_files import FAITHFUL, FORMATS, file_of, pixel_bomb, plain, quarters, text_bomb
from tests.serving import Running, running

pytestmark = pytest.mark.integration

MODELS = """
default_model: seeing
models:
  - {id: seeing, provider: fake, config: {n_ctx: 2048, n_parallel: 8, image_tokens: 12}}
  - {id: blind, provider: fake, config: {n_ctx: 2048}}
  - {id: unknown, provider: fake, config: {n_ctx: 2048, load_seconds: 0.1}}
limits: {max_images: 4, max_image_pixels: 100000}
"""
PNG = file_of(quarters())
SEEN: dict[str, Any] = {
    "width": 16,
    "height": 8,
    "mean": [128, 128, 128],
    "sha256": hashlib.sha256(quarters().tobytes()).hexdigest(),
}


class Pages(ThreadingHTTPServer):
    """A web server with one image; counts who asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Page)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """Where a page is."""
        return f"http://{host}:{self.server_address[1]}{path}"


class _Page(BaseHTTPRequestHandler):
    server: Pages

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        found = self.path == "/image.png"
        body = PNG if found else b"a secret page"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # the library's
        """Quiet."""


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    server = Pages()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(MODELS, tmp_path_factory.mktemp("images"), media={"allow_hosts": ["127.0.0.1"]}) as it:
        yield it


@pytest.fixture
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key="unused", max_retries=0)


@pytest.fixture
def ollamas(server: Running) -> ollama.Client:
    return ollama.Client(host=server.url)


def data_url(data: bytes = PNG, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def part(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def seen(client: openai.OpenAI, *urls: str, model: str = "seeing", **more: Any) -> list[dict[str, Any]]:
    """What a model says of these images, asked in one message."""
    content: Any = [{"type": "text", "text": "[[see]]"}, *map(part, urls)]
    reply = client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}], **more)
    assert reply.choices[0].message.content is not None
    looks: list[dict[str, Any]] = json.loads(reply.choices[0].message.content)
    return looks


# ---- what reaches the model ------------------------------------------------------------------------------------------


def test_openais_images(client: openai.OpenAI, pages: Pages) -> None:
    assert seen(client, data_url()) == [SEEN]
    assert seen(client, pages.url("/image.png"), data_url(), pages.url("/image.png")) == [SEEN] * 3
    assert pages.asked.count("/image.png") == 1  # once for a request


def test_every_format_with_any_declared_type(client: openai.OpenAI) -> None:
    for kind in FORMATS:
        (look,) = seen(client, data_url(file_of(quarters(), kind, **FAITHFUL.get(kind, {})), "jpeg"))
        assert (look["width"], look["height"]) == (16, 8)
        assert all(120 < mean < 136 for mean in look["mean"])


def test_images_of_a_conversation_in_their_order(client: openai.OpenAI) -> None:
    """Each turn that may hold images, last in a conversation in which others held some before."""
    look = {"type": "text", "text": "[[see]]"}
    first, second, third, fourth = (part(data_url(plain(8, 8, (shade, 0, 0)))) for shade in (10, 20, 30, 40))
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    turns: list[Any] = [
        {"role": "user", "content": [first, look, second]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [look, third]},
        {"role": "user", "content": [fourth, look]},
    ]
    for count, shades in ((1, [10, 20]), (3, [30]), (4, [40])):
        body: Any = {"model": "seeing", "messages": turns[:count], "tools": [tool]}
        looks = json.loads(client.chat.completions.create(**body).choices[0].message.content or "")
        assert [look["mean"][0] for look in looks] == shades


def test_streamed_and_whole_answers_are_one(client: openai.OpenAI) -> None:
    content: Any = [part(data_url()), {"type": "text", "text": "[[see]]"}]
    stream = client.chat.completions.create(
        model="seeing", messages=[{"role": "user", "content": content}], stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert json.loads(text) == [SEEN]


def test_images_count_as_tokens(client: openai.OpenAI, server: Running) -> None:
    body = {"model": "seeing", "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}
    usage = client.chat.completions.create(**body, max_tokens=1).usage  # type: ignore[call-overload]
    with_one = {**body, "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part(data_url())]}]}
    more = client.chat.completions.create(**with_one, max_tokens=1).usage  # type: ignore[call-overload]
    assert more.prompt_tokens == usage.prompt_tokens + 12
    counted = httpx.post(server.url + "/v1/chat/completions/input_tokens", json=with_one).json()
    assert counted["input_tokens"] == more.prompt_tokens
    tokenized = httpx.post(server.url + "/tokenize", json=with_one).json()
    assert tokenized["count"] == more.prompt_tokens
    rendered = httpx.post(server.url + "/apply-template", json=with_one).json()["prompt"]
    assert rendered.count("<image>") == 1


def test_the_originals_sizes(client: openai.OpenAI) -> None:
    def size(data: bytes, **fields: Any) -> tuple[int, int]:
        (look,) = seen(client, data_url(data), extra_body=fields)
        return look["width"], look["height"]

    assert size(PNG, resize_width=40, resize_height=40) == (40, 40)
    assert size(PNG, resize_width=40) == (40, 20)
    assert size(PNG, resize_height=40) == (80, 40)
    assert size(PNG, resize_max=8) == (8, 4)
    assert size(PNG, resize_max=800) == (16, 8)
    assert size(plain(1000, 400)) == (500, 200)  # limits.max_image_pixels
    content: Any = [part(data_url(plain(640, 64)), detail="low"), {"type": "text", "text": "[[see]]"}]
    reply = client.chat.completions.create(model="seeing", messages=[{"role": "user", "content": content}])
    assert json.loads(reply.choices[0].message.content or "")[0]["width"] == 512


def block(url: str = "", data: bytes = PNG) -> Any:
    """An image as Anthropic's clients send it."""
    whole = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(data).decode()}
    return {"type": "image", "source": {"type": "url", "url": url} if url else whole}


def test_anthropics_images(server: Running, pages: Pages) -> None:
    look: Any = {"type": "text", "text": "[[see]]"}
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [look, block(data=plain(8, 8, (9, 0, 0)))]}
    turns: list[Any] = [
        {"role": "user", "content": [block(), look, block(pages.url("/image.png"))]},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    with anthropic.Anthropic(base_url=server.url, api_key="unused", max_retries=0) as client:
        for count, shades in ((1, [SEEN["mean"][0]] * 2), (3, [9])):
            asked: Any = {"model": "seeing", "messages": turns[:count]}
            message: Any = client.messages.create(**asked, max_tokens=500)
            assert [seen["mean"][0] for seen in json.loads(message.content[0].text)] == shades
            usage = message.usage
            counted = client.messages.count_tokens(**asked).input_tokens
            assert counted == usage.input_tokens + usage.cache_read_input_tokens
        for bad, reason in ((block(data=b"x"), "can't be read"), (block(pages.url("/nope.png")), "can't be fetched")):
            with pytest.raises(anthropic.BadRequestError, match=reason) as caught:
                client.messages.create(model="seeing", max_tokens=9, messages=[{"role": "user", "content": [bad]}])
            assert "messages[0].content[0].source" in str(caught.value.api_message)


def test_ollamas_images(ollamas: ollama.Client, tmp_path: Any) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(PNG)
    for image in (PNG, base64.b64encode(PNG).decode(), str(path)):
        reply = ollamas.chat("seeing", messages=[{"role": "user", "content": "[[see]]", "images": [image]}])
        assert json.loads(reply.message.content or "") == [SEEN]
    answer = ollamas.generate("seeing", prompt="[[see]]", images=[PNG, plain(4, 4)])
    assert [look["width"] for look in json.loads(answer.response or "")] == [16, 4]


def sent_as_files(server: Running, *files: bytes, places: int, **fields: str) -> httpx.Response:
    """A chat by the form, with so many places for files."""
    content = [{"type": "text", "text": "[[see]]"}, *[part("__RAW_IMAGE__")] * places]
    data = {"model": "seeing", "messages": json.dumps([{"role": "user", "content": content}]), **fields}
    given = [("images", (f"{at}.png", one, "image/png")) for at, one in enumerate(files)]
    return httpx.post(server.url + "/v1/chat/completions/multipart", data=data, files=given or None)


def test_files_beside_the_messages(server: Running) -> None:
    reply = sent_as_files(server, PNG, plain(4, 4), places=2)
    assert reply.status_code == 200, reply.text
    looks = json.loads(reply.json()["choices"][0]["message"]["content"])
    assert [look["width"] for look in looks] == [16, 4]
    assert looks[0] == SEEN
    streamed = sent_as_files(server, PNG, places=1, stream="true", resize_width="8")
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert streamed.text.endswith("data: [DONE]\n\n")


def test_wrong_forms_are_400(server: Running) -> None:
    for files, places in (((PNG,), 0), ((PNG,), 2), ((PNG, PNG), 1), ((b"no image",), 1)):
        reply = sent_as_files(server, *files, places=places)
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] in ("invalid_form", "invalid_image", "invalid_content_type")
    as_json = httpx.post(server.url + "/v1/chat/completions/multipart", json={"model": "seeing", "messages": []})
    assert (as_json.status_code, as_json.json()["error"]["code"]) == (400, "invalid_content_type")
    large = sent_as_files(server, bytes(70 << 20), places=1)
    assert large.status_code == 413


def test_who_sees_is_listed(client: openai.OpenAI, ollamas: ollama.Client, server: Running) -> None:
    seen(client, data_url())
    assert "vision" in (ollamas.show("seeing").capabilities or [])
    models = {model["id"]: model for model in httpx.get(server.url + "/v1/models").json()["data"]}
    assert models["seeing"]["architecture"]["input_modalities"] == ["text", "image"]
    told = httpx.get(server.url + "/v1/capabilities").json()
    assert told["limits"]["max_images"] == 4
    assert told["images"]["formats"] == list(FORMATS)
    assert told["images"]["urls"] == "public"


# ---- what is refused before it -------------------------------------------------------------------------------------


def refusal(client: openai.OpenAI, *urls: str, model: str = "seeing", **more: Any) -> dict[str, Any]:
    with pytest.raises(openai.BadRequestError) as caught:
        seen(client, *urls, model=model, **more)
    body = caught.value.body
    assert isinstance(body, dict)
    return body


def test_a_model_that_does_not_see(client: openai.OpenAI, ollamas: ollama.Client, pages: Pages) -> None:
    client.chat.completions.create(model="blind", messages=[{"role": "user", "content": "x"}], max_tokens=1)
    asked = len(pages.asked)
    error = refusal(client, pages.url("/image.png"), model="blind")
    assert "'blind' does not support vision" in error["message"]
    assert (error["param"], error["code"]) == ("messages", "unsupported_value")
    for call in (
        lambda: ollamas.chat("blind", messages=[{"role": "user", "content": "x", "images": [PNG]}]),
        lambda: ollamas.generate("blind", prompt="x", images=[PNG]),
    ):
        with pytest.raises(ollama.ResponseError, match='"blind" does not support vision') as caught:
            call()
        assert caught.value.status_code == 400
    # Never loaded, so nobody knows yet: it is refused all the same.
    assert "'unknown' does not support vision" in refusal(client, data_url(), model="unknown")["message"]
    assert len(pages.asked) == asked


WRONG = [
    (data_url(b"GIF89a and then nothing"), "invalid_image", "it is not a PNG, JPEG, WebP, GIF or BMP file"),
    (data_url(file_of(quarters(), "TIFF")), "invalid_image", "it is not a PNG, JPEG, WebP, GIF or BMP file"),
    (data_url(pixel_bomb()), "invalid_image", "it has more than 50 million pixels"),
    (data_url(text_bomb(30 << 20)), "invalid_image", "it is not a PNG, JPEG, WebP, GIF or BMP file"),
    (data_url(plain(1, 1)), "invalid_image", "it must be at least 2 pixels wide and high"),
    (data_url(bytes((20 << 20) + 1)), "invalid_image", "larger than 20 MiB"),
    ("data:image/png;base64,A", "invalid_image", "illegal base64 data"),
    ("file:///etc/hostname", "invalid_image_url", "must be http:// or https://"),
    ("/etc/passwd", "invalid_image_url", "must be http:// or https://"),
    ("http://localhost:1/x.png", "media_fetch_failed", "can't be fetched"),
    ("http://169.254.169.254/latest/meta-data/", "media_fetch_failed", "can't be fetched"),
    ("http://127.0.0.1:1/x.png", "media_fetch_failed", "can't be fetched"),
]


def test_wrong_images_are_400_and_tell_nothing(client: openai.OpenAI, server: Running) -> None:
    pids = _pids(server)
    for url, code, text in WRONG:
        error = refusal(client, data_url(), url)
        assert error["code"] == code
        assert error["param"] == "messages[0].content[2].image_url"
        assert text in error["message"]
        assert "/etc" not in error["message"].replace("https://", "")
    assert _pids(server) == pids


def test_a_page_that_is_no_image_is_not_told(client: openai.OpenAI, pages: Pages) -> None:
    error = refusal(client, pages.url("/secret"))
    assert error["code"] == "media_fetch_failed"
    assert "secret" not in error["message"]
    assert str(pages.server_address[1]) not in error["message"]


def _pids(server: Running) -> dict[str, Any]:
    return {
        model["id"]: model["pid"]
        for model in httpx.get(server.url + "/health").json()["models"].values()
        if "pid" in model
    }


def test_too_many_images(client: openai.OpenAI, ollamas: ollama.Client) -> None:
    assert len(seen(client, *[data_url()] * 4)) == 4
    error = refusal(client, *[data_url()] * 5)
    assert "5 images are more than this server's limit of 4" in error["message"]
    with pytest.raises(ollama.ResponseError, match="5 images"):
        ollamas.chat("seeing", messages=[{"role": "user", "content": "x", "images": [PNG] * 5}])


def test_audio_and_files_name_the_model(client: openai.OpenAI) -> None:
    for kind, more in (("input_audio", {"data": "AA==", "format": "wav"}), ("file", {"file_id": "1"})):
        content: Any = [{"type": kind, kind: more}]
        with pytest.raises(openai.BadRequestError, match="The model 'seeing' does not"):
            client.chat.completions.create(model="seeing", messages=[{"role": "user", "content": content}])


def test_an_operator_may_switch_urls_off(tmp_path: Any, pages: Pages) -> None:
    asked = len(pages.asked)
    with running(MODELS, tmp_path, media={"urls": "off", "allow_hosts": ["127.0.0.1"]}) as it:
        client = openai.OpenAI(base_url=it.url + "/v1", api_key="unused", max_retries=0)
        error = refusal(client, pages.url("/image.png"))
        assert error["code"] == "unsupported_value"
        assert "base64 data URL" in error["message"]
        assert seen(client, data_url()) == [SEEN]
    assert len(pages.asked) == asked


# ---- the examples of the OpenAPI document ----------------------------------------------------------------------------


def test_the_documents_examples_with_images_run(server: Running) -> None:
    told = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    answers: dict[str, Callable[[Any], str]] = {
        "/v1/chat/completions": lambda reply: reply["choices"][0]["message"]["content"],
        "/v1/messages": lambda reply: reply["content"][0]["text"],
        "/api/generate": lambda reply: reply["response"],
    }
    for path, answer in answers.items():
        example = told[path]["post"]["requestBody"]["content"]["application/json"]["examples"]["image"]["value"]
        body = json.dumps(example).replace("heylook-tiny-vision", "seeing").replace("What do you see?", "[[see]]")
        reply = httpx.post(server.url + path, content=body, timeout=30)
        assert reply.status_code == 200, reply.text
        (seen,) = json.loads(answer(reply.json()))
        assert (seen["width"], seen["height"], seen["mean"]) == (32, 32, [208, 32, 32])
    form = told["/v1/chat/completions/multipart"]["post"]["requestBody"]["content"]["multipart/form-data"]["example"]
    data = {"model": "seeing", "messages": form["messages"].replace("What do you see?", "[[see]]")}
    reply = httpx.post(
        f"{server.url}/v1/chat/completions/multipart", data=data, files={"images": ("a.png", PNG)}, timeout=30
    )
    assert reply.status_code == 200, reply.text
    assert json.loads(reply.json()["choices"][0]["message"]["content"]) == [SEEN]
