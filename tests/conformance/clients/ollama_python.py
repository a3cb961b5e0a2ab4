"""Ollama's Python client."""

import asyncio
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import ollama
import pydantic

from tests.conformance.cells import At, Refusal, awaited, cell, raises, refused
from tests.conformance.subjects import REPOSITORY, WEATHER_TOOL, circle

PACKAGE = "ollama"
GREEDY: Any = {"options": {"temperature": 0, "num_predict": 300}, "think": False}


class Person(pydantic.BaseModel):
    """What is asked for as JSON."""

    name: str
    city: str


def client(at: At) -> Any:
    """Its overloads can't be told apart by options that are handed on."""
    return ollama.Client(at.url, timeout=60)


def user(text: str, **more: Any) -> list[Any]:
    return [{"role": "user", "content": text, **more}]


@cell("chat")
def chat(at: At) -> None:
    reply = client(at).chat(at.model, messages=user(at.subject.ask), **GREEDY)
    assert (reply.message.content, reply.done_reason) == (at.subject.answer, "stop")


@cell("chat, streamed")
def stream(at: At) -> None:
    parts = list(client(at).chat(at.model, messages=user(at.subject.ask), stream=True, **GREEDY))
    assert "".join(part.message.content or "" for part in parts) == at.subject.answer
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]


@cell("async client")
def asynchronous(at: At) -> None:
    async def ask(made: ollama.AsyncClient) -> str:
        parts = await made.chat(at.model, messages=user(at.subject.ask), stream=True, **GREEDY)
        return "".join([part.message.content or "" async for part in parts])

    async def several() -> list[str]:
        made = ollama.AsyncClient(at.url)
        return await asyncio.gather(*(ask(made) for _ in range(4)))

    assert set(awaited(several())) == {at.subject.answer}


@cell("usage in a stream")
def usage(at: At) -> None:
    *_, last = client(at).chat(at.model, messages=user(at.subject.ask), stream=True, **GREEDY)
    for name in ("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count"):
        assert getattr(last, name) > 0, name
    assert last.eval_duration > 0


@cell("generate")
def generate(at: At) -> None:
    reply = client(at).generate(at.model, prompt=at.subject.ask, **GREEDY)
    assert reply.response == at.subject.answer
    after = client(at).generate(at.model, prompt=at.subject.ask, context=reply.context, **GREEDY)
    assert after.prompt_eval_count > reply.prompt_eval_count
    pieces = client(at).generate(at.model, prompt=at.subject.ask, stream=True, **GREEDY)
    assert "".join(piece.response for piece in pieces) == at.subject.answer
    assert client(at).generate(at.model, prompt="1, 2, 3,", raw=True, options={"num_predict": 3}).context is None


@cell("tools: auto, and their results")
def tool_loop(at: At) -> None:
    asked = {"tools": [WEATHER_TOOL], **GREEDY}
    for streamed in (False, True):
        reply = client(at).chat(at.model, messages=user(at.subject.weather), stream=streamed, **asked)
        parts = list(reply) if streamed else [reply]
        (call,) = [call for part in parts for call in part.message.tool_calls or ()]
        assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})
    said = {"role": "assistant", "content": "", "tool_calls": [call.model_dump()]}
    result = {"role": "tool", "tool_name": "get_weather", "content": at.subject.observed}
    history = [*user(at.subject.weather), said, result]
    assert at.subject.told in client(at).chat(at.model, messages=history, **asked).message.content


@cell("a Python function as a tool")
def function_tool(at: At) -> None:
    def get_weather(city: str) -> str:
        """Get the weather in a city

        Args:
            city: its name
        """
        return city

    reply = client(at).chat(at.model, messages=user(at.subject.weather), tools=[get_weather], **GREEDY)
    (call,) = reply.message.tool_calls
    assert get_weather(**call.function.arguments) == "Paris"


@cell("structured output")
def structured(at: At) -> None:
    reply = client(at).chat(at.model, messages=user(at.subject.person), format=Person.model_json_schema(), **GREEDY)
    Person.model_validate_json(reply.message.content)


@cell("JSON mode")
def json_mode(at: At) -> None:
    reply = client(at).generate(at.model, prompt=at.subject.person, format="json", **GREEDY)
    assert isinstance(json.loads(reply.response), dict)


@cell("images")
def images(at: At) -> None:
    reply = client(at).chat(at.subject.seeing, messages=user(at.subject.see, images=[circle()]), **GREEDY)
    assert at.subject.seen in reply.message.content
    said = client(at).generate(at.subject.seeing, prompt=at.subject.see, images=[circle()], **GREEDY).response
    assert at.subject.seen in said


@cell("images to a model that doesn't see are a 400")
def blind(at: At) -> None:
    problem = raises(
        lambda: client(at).chat(at.model, messages=user("x", images=[circle()])),
        ollama.ResponseError,
        "does not support vision",
    )
    assert problem.status_code == 400


@cell("embeddings")
def embeddings(at: At) -> None:
    reply = client(at).embed(at.model, ["Paris is in France.", "7 is a number."])
    assert len(reply.embeddings) == 2
    assert abs(sum(x * x for x in reply.embeddings[0]) - 1) < 1e-4
    assert len(client(at).embeddings(at.model, "Paris is in France.").embedding) == len(reply.embeddings[0])


@cell("log probabilities")
def logprobs(at: At) -> None:
    reply = client(at).chat(at.model, messages=user(at.subject.ask), logprobs=True, top_logprobs=3, **GREEDY)
    assert all(one.logprob <= 0 and len(one.top_logprobs) == 3 for one in reply.logprobs)
    assert len(reply.logprobs) <= reply.eval_count


@cell("stop and max_tokens")
def ends(at: At) -> None:
    stop, before = at.subject.stopped
    asked = {"messages": user(at.subject.ask), "think": False}
    reply = client(at).chat(at.model, options={"temperature": 0, "stop": [stop]}, **asked)
    assert (reply.message.content, reply.done_reason) == (before, "stop")
    cut = client(at).chat(at.model, options={"num_predict": 2}, **asked)
    assert (cut.done_reason, cut.eval_count) == ("length", 2)


@cell("seed")
def seed(at: At) -> None:
    def said() -> str:
        options = {"temperature": 1.5, "seed": 7, "num_predict": 40}
        return str(client(at).chat(at.model, messages=user("A story."), think=False, options=options).message.content)

    assert said() == said()


@cell("thinking")
def thinking(at: At) -> None:
    message = client(at).chat(at.model, messages=user(at.subject.think), **{**GREEDY, "think": True}).message
    assert message.content.strip() == at.subject.thought
    assert message.thinking.strip()


@cell("list models")
def listing(at: At) -> None:
    listed = {model.model: model for model in client(at).list().models}
    assert len(listed[f"{at.model}:latest"].digest) == 64
    shown = client(at).show(at.model)
    assert {"completion", "tools"} <= set(shown.capabilities)
    assert any(key.endswith(".context_length") for key in shown.modelinfo)
    client(at).generate(at.model, keep_alive="5m")
    assert f"{at.model}:latest" in [model.model for model in client(at).ps().models]


@cell("load and unload")
def loading(at: At) -> None:
    assert client(at).generate(at.model, keep_alive="5m").done_reason == "load"
    assert client(at).chat(at.model, messages=[], keep_alive=0).done_reason == "unload"
    assert f"{at.model}:latest" not in [model.model for model in client(at).ps().models]


@cell("errors in the client's classes")
def errors(at: At) -> None:
    made = client(at)
    for call, status, words in (
        (lambda: made.chat("nope", messages=user("x")), 404, "model 'nope' not found"),
        (lambda: made.show("nope"), 404, "model 'nope:latest' not found"),
        (lambda: made.chat(at.model, messages=user("x"), format={"type": "nothing"}), 400, "format"),
        (lambda: made.generate(at.model, prompt="x", options={"temperature": "hot"}), 400, "must be of type float32"),
    ):
        assert raises(call, ollama.ResponseError, words).status_code == status


@cell("a key where one is wanted")
def key(at: At) -> None:
    assert raises(lambda: ollama.Client(at.locked).list(), ollama.ResponseError).status_code == 401


@cell("leaving in mid-stream")
def leaving(at: At) -> None:
    parts = client(at).chat(at.subject.long, messages=user(at.subject.count), stream=True, think=False)
    next(iter(parts))
    parts.close()
    at.until_idle()


# ---- models that are made --------------------------------------------------------------------------------------------


@cell("create, show, copy, delete")
def made(at: At) -> None:
    made, name, other = client(at), f"made-of-{at.model}", f"copy-of-{at.model}"
    steps = made.create(name, from_=at.model, system="Be brief.", parameters={"temperature": 0}, stream=True)
    assert [step.status for step in steps][-1] == "success"
    shown = made.show(name)
    assert shown.details.parent_model == at.model
    assert ["temperature", "0.0"] in [line.split() for line in shown.parameters.splitlines()]
    assert 'SYSTEM """Be brief."""' in shown.modelfile
    assert made.copy(name, other).status == "success"
    reply = made.chat(other, messages=user(at.subject.ask), think=False, options={"num_predict": 300})
    assert reply.message.content == at.subject.answer
    for one in (name, other):
        assert made.delete(one).status == "success"
        assert raises(partial(made.show, one), ollama.ResponseError, "not found").status_code == 404


@cell("blobs, and a model made of them", "llama_cpp", "mlx")
def uploaded(at: At) -> None:
    weights = Path(os.environ["CONFORMANCE_TINY"]) / at.subject.file
    files = [weights] if weights.is_file() else sorted(weights.iterdir())
    digests = {file.name: client(at).create_blob(file) for file in files}
    for digest in digests.values():
        assert httpx.head(f"{at.url}/api/blobs/{digest}").status_code == 200
    name = f"uploaded-{at.subject.provider.replace('_', '-')}"
    assert client(at).create(name, files=digests).status == "success"
    reply = client(at).chat(name, messages=user(at.subject.ask), **GREEDY)
    assert reply.message.content == at.subject.answer
    if at.subject.provider == "llama_cpp":
        list(client(at).create("smaller", from_=name, quantize="q8_0", stream=True))
        assert client(at).show("smaller").details.quantization_level == "Q8_0"
        client(at).delete("smaller")
    client(at).delete(name)
    wrong = httpx.post(f"{at.url}/api/blobs/sha256:{'0' * 64}", content=b"x")
    assert (wrong.status_code, "digest mismatch" in wrong.json()["error"]) == (400, True)


@cell("pull, with its progress", "llama_cpp")
def pulled(at: At) -> None:
    steps = list(client(at).pull(REPOSITORY, stream=True))
    told = [step.status for step in steps]
    assert (told[0], told[-1]) == ("pulling manifest", "success")
    assert any(step.total and step.completed == step.total for step in steps)
    reply = client(at).chat(REPOSITORY, messages=user(at.subject.ask), **GREEDY)
    assert reply.message.content == at.subject.answer
    client(at).delete(REPOSITORY)


@cell("push is refused")
def pushed(at: At) -> None:
    # Ollama's errors are texts: they have no type, and the message names what was asked for
    refused(
        {lambda: client(at).push(at.model): Refusal(400, "pushes to no registry")},
        ollama.ResponseError,
        "there is no registry of models on one's own machine: a file is copied",
    )


@cell("the version, and no cloud")
def cloud(at: At) -> None:
    version = httpx.get(f"{at.url}/api/version").json()["version"]
    assert tuple(map(int, version.split("."))) >= (0, 13, 3)
    assert httpx.get(f"{at.url}/api/status").json()["cloud"]["disabled"] is True
    assert httpx.head(at.url).status_code == 200
