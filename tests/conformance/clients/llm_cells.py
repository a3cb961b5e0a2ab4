"""The llm command and library, with its configuration for servers of OpenAI's API."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import llm
import pydantic

from tests.conformance.cells import At, awaited, cell, raises
from tests.conformance.subjects import circle

PACKAGE = "llm"
GREEDY: Any = {"temperature": 0, "max_tokens": 300}
_FOLDER = tempfile.TemporaryDirectory()
os.environ["LLM_USER_PATH"] = _FOLDER.name


class Person(pydantic.BaseModel):
    """Someone and where they live."""

    name: str
    city: str


def configured(at: At) -> None:
    """Write its list of models."""
    common = {"api_base": at.v1, "supports_tools": True, "supports_schema": True, "vision": True}
    entries = [
        {"model_id": f"here-{name}", "model_name": name, **common} for name in (at.model, at.subject.seeing, "nope")
    ]
    (Path(_FOLDER.name) / "extra-openai-models.yaml").write_text(json.dumps(entries))


def model(at: At, name: str = "") -> Any:
    configured(at)
    return llm.get_model("here-" + (name or at.model))


@cell("chat")
def chat(at: At) -> None:
    reply = model(at).prompt(at.subject.ask, stream=False, **GREEDY)
    assert reply.text() == at.subject.answer
    assert reply.usage().output > 0


@cell("chat, streamed")
def stream(at: At) -> None:
    assert "".join(model(at).prompt(at.subject.ask, **GREEDY)) == at.subject.answer


@cell("async client")
def asynchronous(at: At) -> None:
    async def ask() -> str:
        configured(at)
        return str(await llm.get_async_model("here-" + at.model).prompt(at.subject.ask, **GREEDY).text())

    assert awaited(ask()) == at.subject.answer


@cell("tools: auto, and their results")
def tool_loop(at: At) -> None:
    asked: list[str] = []

    def get_weather(city: str) -> str:
        """Get the weather in a city"""
        asked.append(city)
        return at.subject.observed

    said = model(at).chain(at.subject.weather, tools=[get_weather], options=GREEDY).text()
    assert asked == ["Paris"]
    assert at.subject.told in said


@cell("structured output")
def structured(at: At) -> None:
    reply = model(at).prompt(at.subject.person, schema=Person, **GREEDY)
    Person.model_validate_json(reply.text())


@cell("images")
def images(at: At) -> None:
    picture = llm.Attachment(type="image/png", content=circle())
    reply = model(at, at.subject.seeing).prompt(at.subject.see, attachments=[picture], **GREEDY)
    assert at.subject.seen in reply.text()


@cell("a system message and a history")
def history(at: At) -> None:
    talk = model(at).conversation()
    assert talk.prompt("My name is Ada.", system="Be brief.", **GREEDY).text()
    assert talk.prompt(at.subject.ask, **GREEDY).text()


@cell("the command line")
def command(at: At) -> None:
    configured(at)
    ran = subprocess.run(
        [sys.executable, "-m", "llm", "-m", f"here-{at.model}", "-o", "temperature", "0", "--no-log", at.subject.ask],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == at.subject.answer


@cell("errors in the client's classes")
def errors(at: At) -> None:
    raises(lambda: model(at, "nope").prompt("x").text(), Exception, "not found")
