"""Hazards that have broken real clients, those of the ten first tests that no other file holds: lines, names, leaving.

Of the ten, test_openai_sdk (streams with tools, a worker that dies), test_embeddings (formats), test_structured_output
(parse), test_anthropic_sdk (streams, counts), test_ollama_sdk (a worker that dies) and tests/wire (each refusal in its
dialect's form) hold the others.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.attacks.raw import connect, post, until_idle
from tests.serving import Running, running

pytestmark = pytest.mark.integration

SAID = "a \u2028 b \x85 c \u2029 \N{GRINNING FACE} d"
MODELS = """
default_model: patient
models:
  - {id: patient, provider: fake, config: {n_ctx: 4096, prefill_tokens_per_second: 100}}
"""
Piece = Callable[[dict[str, Any]], str]


def _chat(chunk: dict[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


def _completion(chunk: dict[str, Any]) -> str:
    return "".join(choice["text"] for choice in chunk["choices"])


def _message(event: dict[str, Any]) -> str:
    return str(event.get("delta", {}).get("text", ""))


ASKED = f"[[say:{SAID}STOP e]]"
USER = [{"role": "user", "content": ASKED}]
ROUTES: list[tuple[str, dict[str, Any], Piece]] = [
    ("/v1/chat/completions", {"messages": USER, "stream": True, "stop": ["STOP"]}, _chat),
    ("/v1/completions", {"prompt": ASKED, "stream": True, "stop": "STOP", "max_tokens": 200}, _completion),
    ("/v1/messages", {"messages": USER, "stream": True, "stop_sequences": ["STOP"], "max_tokens": 200}, _message),
    ("/api/chat", {"messages": USER, "options": {"stop": ["STOP"]}, "think": False}, lambda c: c["message"]["content"]),
    ("/api/generate", {"prompt": ASKED, "options": {"stop": ["STOP"]}, "think": False}, lambda c: c["response"]),
]


@pytest.mark.parametrize(("route", "body", "piece"), ROUTES, ids=[row[0] for row in ROUTES])
def test_a_reader_of_lines_gets_every_event_whole(
    fake_server: Running, route: str, body: dict[str, Any], piece: Piece
) -> None:
    """httpx splits lines at U+2028, U+2029 and U+0085 too; the emoji and the stop string come over several tokens."""
    said: list[str] = []
    with httpx.stream("POST", fake_server.url + route, json={"model": "fake", **body}, timeout=30) as reply:
        for line in reply.iter_lines():
            if line.startswith(("data: {", "{")):
                said.append(piece(json.loads(line.removeprefix("data: "))))
            else:
                assert line in ("", "data: [DONE]") or line.startswith(("event: ", ": ")), line
    assert "".join(said) == SAID
    assert len([text for text in said if text]) > 1


def test_a_streams_ids_and_role_are_said_once(fake_server: Running) -> None:
    tool: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    with (
        openai.OpenAI(base_url=f"{fake_server.url}/v1", api_key="x", max_retries=0) as client,
        client.chat.completions.stream(
            model="fake", messages=[{"role": "user", "content": "[[call:add {}]]"}], tools=[tool], n=2
        ) as stream,
    ):
        choices = stream.get_final_completion().choices
    for choice in choices:
        assert choice.message.role == "assistant"
        assert choice.message.tool_calls
        (call,) = choice.message.tool_calls
        assert (call.id.count("call_"), call.function.name) == (1, "add")


def test_names_with_slashes_and_tags(fake_server: Running) -> None:
    with openai.OpenAI(base_url=f"{fake_server.url}/v1", api_key="x", max_retries=0) as client:
        for name in ("org/fake", "org/fake:latest", "fake", "fake:latest"):
            assert client.models.retrieve(name).id == name
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("org/fake:other")


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose model takes half a minute to read the prompt below."""
    with running(MODELS, tmp_path_factory.mktemp("patient")) as server:
        yield server


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
def test_who_leaves_while_the_prompt_is_read_frees_the_place(patient: Running, route: str) -> None:
    body = {"model": "patient", "max_tokens": 9, "messages": [{"role": "user", "content": "x" * 3000}]}
    httpx.post(patient.url + "/v1/models/patient/load", timeout=30)
    with connect(patient) as sock:
        sock.sendall(post(route, json.dumps(body).encode()))
        while not httpx.get(patient.url + "/v1/requests").json()["data"]:
            continue
    assert until_idle(patient, "patient") < 10
    assert httpx.get(patient.url + "/v1/requests").json()["data"] == []
