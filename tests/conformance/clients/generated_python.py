"""A Python client that openapi-python-client makes of /openapi.json: it compiles, chats, lists and tells errors."""

import compileall
import importlib
import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tests.conformance.cells import At, awaited, cell

PACKAGE = "openapi-python-client"
NAME = "heylookllm_client"
LINES = ("application/x-ndjson", "application/jsonl")
CONFIG = {"content_type_overrides": dict.fromkeys(LINES, "text/plain"), "post_hooks": []}
"""It knows no lines of JSON; and its own formatter needn't be there."""


@cache
def generated(url: str) -> Any:
    """Its package, made and imported."""
    folder = Path(tempfile.mkdtemp())
    (folder / "config.json").write_text(json.dumps(CONFIG))
    command = [str(Path(sys.executable).parent / "openapi-python-client"), "generate", "--meta", "none"]
    subprocess.run(
        [
            *(*command, "--url", f"{url}/openapi.json", "--output-path", str(folder / NAME)),
            *("--config", str(folder / "config.json"), "--fail-on-warning"),
        ],
        check=True,
        stdout=sys.stderr,
    )
    sys.path.insert(0, str(folder))
    return importlib.import_module(NAME)


def client(at: At) -> Any:
    return generated(at.url).Client(base_url=at.url, timeout=60)


def operation(tag: str, name: str) -> Any:
    return importlib.import_module(f"{NAME}.api.{tag}.{name}")


def model(name: str) -> Any:
    return getattr(importlib.import_module(f"{NAME}.models"), name)


@cell("it is made without a warning, and compiles", "fake")
def compiles(at: At) -> None:
    folder = Path(generated(at.url).__file__).parent
    assert compileall.compile_dir(folder, quiet=1, force=True)


@cell("chat")
def chat(at: At) -> None:
    made = client(at)
    body = model("OpenAIChatBody").from_dict(
        {"model": at.model, "messages": [{"role": "user", "content": at.subject.ask}], "temperature": 0}
    )
    reply = operation("open_ai", "create_chat_completion").sync_detailed(client=made, body=body)
    assert (reply.status_code, at.subject.answer.encode() in reply.content) == (200, True)


@cell("chat by Ollama's and Anthropic's API")
def others(at: At) -> None:
    made = client(at)
    asked = {"model": at.model, "messages": [{"role": "user", "content": at.subject.ask}]}
    ollamas = model("OllamaChatBody").from_dict(
        {**asked, "stream": False, "think": False, "options": {"temperature": 0}}
    )
    reply = operation("ollama", "ollama_chat").sync_detailed(client=made, body=ollamas)
    assert at.subject.answer.encode() in reply.content
    anthropics = model("AnthropicMessageBody").from_dict({**asked, "max_tokens": 300, "temperature": 0})
    reply = operation("anthropic", "create_message").sync_detailed(client=made, body=anthropics)
    assert at.subject.answer.encode() in reply.content


@cell("async client")
def asynchronous(at: At) -> None:
    made = client(at)
    found = awaited(operation("open_ai", "list_models").asyncio(client=made))
    assert at.model in [one.id for one in found.data]


@cell("list models")
def listing(at: At) -> None:
    made = client(at)
    assert at.model in [one.id for one in operation("open_ai", "list_models").sync(client=made).data]
    assert operation("admin", "health").sync(client=made).status


@cell("errors in the client's classes")
def errors(at: At) -> None:
    made = client(at)
    body = model("OpenAIChatBody").from_dict({"model": "nope", "messages": [{"role": "user", "content": "x"}]})
    reply = operation("open_ai", "create_chat_completion").sync_detailed(client=made, body=body)
    assert reply.status_code == 404
