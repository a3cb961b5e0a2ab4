"""The real ollama client against the running server."""

import asyncio
from typing import Any

import httpx
import ollama
import pytest

from tests.serving import Running

pytestmark = pytest.mark.integration

TEXT = "Say: hello \u2028 \x85 world \N{GRINNING FACE}"
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}}
]


@pytest.fixture
def client(fake_server: Running) -> ollama.Client:
    return ollama.Client(fake_server.url)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


METRICS = (
    "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration",
)  # fmt: skip


def test_a_whole_reply_has_six_metrics(client: ollama.Client) -> None:
    for reply in (
        client.chat("fake", messages=user(TEXT), think=False),
        client.generate("fake", prompt=TEXT, think=False),
    ):
        assert all((getattr(reply, name) or 0) > 0 for name in METRICS)
        assert (reply.model, reply.done, reply.done_reason) == ("fake", True, "stop")
    assert client.chat("fake:latest", messages=user(TEXT), think=False).message.content == TEXT


def test_streams_say_the_same(client: ollama.Client) -> None:
    chat = list(client.chat("fake", messages=user(TEXT), think=False, stream=True))
    assert "".join(part.message.content or "" for part in chat) == TEXT
    generate = list(client.generate("fake", prompt=TEXT, think=False, stream=True))
    assert "".join(part.response or "" for part in generate) == TEXT
    for parts in (chat, generate):
        assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
        assert all((getattr(parts[-1], name) or 0) > 0 for name in METRICS)


def test_thinking(client: ollama.Client) -> None:
    message = client.chat("fake", messages=user("[[think:hm]][[say:yes]]"), think=True).message
    assert message.content == "yes"
    assert "hm" in (message.thinking or "")


def test_tools(client: ollama.Client) -> None:
    for stream in (False, True):
        reply: Any = client.chat(
            "fake", messages=user('[[call:add {"a": 1}]]'), tools=TOOLS, stream=stream, think=False
        )
        parts = list(reply) if stream else [reply]
        (call,) = [call for part in parts for call in part.message.tool_calls or ()]
        assert (call.function.name, call.function.arguments) == ("add", {"a": 1})
        assert parts[-1].done_reason == "stop"
    history: list[Any] = [
        *user('[[call:add {"a": 1}]]'),
        {"role": "assistant", "content": "", "tool_calls": [call.model_dump()]},
        {"role": "tool", "content": "[[say:2]]", "tool_name": "add"},
    ]
    assert client.chat("fake", messages=history, tools=TOOLS, think=False).message.content == "2"


def test_options_and_context(client: ollama.Client) -> None:
    reply = client.generate("fake", prompt="[[say:one two]]", think=False, options={"num_predict": 3, "temperature": 0})
    assert (reply.response, reply.done_reason) == ("one", "length")
    reply = client.generate("fake", prompt="[[say:one two]]", think=False, options={"stop": ["tw"]})
    assert (reply.response, reply.done_reason) == ("one ", "stop")
    assert reply.context
    after = client.generate("fake", prompt="[[say:more]]", think=False, context=reply.context)
    assert (after.prompt_eval_count or 0) > (reply.prompt_eval_count or 0)
    raw = client.generate("fake", prompt="[[say:raw]]", raw=True)
    assert raw.response == "raw"
    assert raw.context is None


def test_loading_and_unloading(client: ollama.Client) -> None:
    assert client.generate("gpt-4o", keep_alive="5m").done_reason == "load"
    assert "fake:latest" in [model.model for model in client.ps().models]
    assert client.chat("gpt-4o", messages=[], keep_alive=0).done_reason == "unload"
    assert "fake:latest" not in [model.model for model in client.ps().models]
    assert client.chat("gpt-4o", messages=user("[[say:back]]"), think=False).message.content == "back"


def test_listing_and_showing(client: ollama.Client) -> None:
    assert {"fake:latest", "slow:latest"} <= {model.model for model in client.list().models}
    shown = client.show("fake")
    assert shown.modelinfo
    assert shown.capabilities
    assert "tools" in shown.capabilities


def test_errors(client: ollama.Client) -> None:
    for call, status, text in (
        (lambda: client.chat("nope", messages=user("x")), 404, "model 'nope' not found"),
        (lambda: client.generate("nope", prompt="x"), 404, "model 'nope' not found"),
        (lambda: client.show("nope"), 404, "model 'nope:latest' not found"),
        (lambda: client.chat("fake", messages=user("x"), format={"type": "nothing"}), 400, "format"),
        (lambda: client.chat("broken", messages=user("x")), 500, "damaged"),
        (lambda: list(client.chat("broken", messages=user("x"), stream=True)), 500, "damaged"),
        (
            lambda: client.chat("fake", messages=[{"role": "user", "content": "x", "images": [b"\x89PNG"]}]),
            400,
            '"fake" does not support vision',
        ),
        (lambda: client.generate("fake", prompt="x", options={"temperature": "hot"}), 400, "must be of type float32"),
        (lambda: client.embed("nope", "x"), 404, 'model "nope" not found, try pulling it first'),
        (lambda: client.pull("fake"), 400, "models.yaml"),
        (lambda: list(client.pull("fake", stream=True)), 400, "models.yaml"),
        (lambda: client.delete("fake"), 400, "models.yaml"),
        (lambda: client.create_blob(__file__), 400, "models.yaml"),
    ):
        with pytest.raises(ollama.ResponseError) as caught:
            call()
        assert caught.value.status_code == status
        assert text in caught.value.error


def test_a_worker_that_dies_in_a_stream(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        list(client.chat("slow", messages=user("[[crash:after=5]][[say:0123456789]]"), stream=True, think=False))
    assert caught.value.status_code == -1
    assert "model runner has unexpectedly stopped" in caught.value.error
    assert client.chat("slow", messages=user("[[say:ok]]"), think=False).message.content == "ok"


async def test_eight_streams_at_once(fake_server: Running) -> None:
    client = ollama.AsyncClient(fake_server.url)

    async def one(at: int) -> str:
        stream = await client.chat("fake", messages=user(f"[[say:{at}]][[count:50]]"), stream=True, think=False)
        return "".join([part.message.content or "" async for part in stream])

    texts = await asyncio.gather(*(one(at) for at in range(8)))
    assert all(text.startswith(str(at)) and text.endswith("50") for at, text in enumerate(texts)), texts


def test_the_heartbeat_of_the_command_line(fake_server: Running) -> None:
    assert httpx.head(fake_server.url + "/").status_code == 200
    assert httpx.get(fake_server.url + "/").text == "Ollama is running"


def test_the_tiny_model_answers(tiny_server: Running) -> None:
    client = ollama.Client(tiny_server.url)
    options = {"temperature": 0, "num_predict": 32}
    reply = client.chat("heylook-tiny", messages=user("What is the capital of France?"), options=options, think=False)
    assert "Paris" in (reply.message.content or "")
    assert all((getattr(reply, name) or 0) > 0 for name in METRICS)
    shown = client.show("heylook-tiny")
    assert shown.details is not None
    assert (shown.details.format, shown.details.family) == ("gguf", "qwen2")
    (listed,) = client.list().models
    assert (listed.size or 0) > 1_000_000
    assert len(listed.digest or "") == 64
