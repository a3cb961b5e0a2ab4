"""Both SDKs' chat surface on the bundled model: sync and async, streamed and whole, and models swapped under load."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import ollama
import openai
import pytest

from tests.serving import Running, running

pytestmark = pytest.mark.integration

MODEL = "heylook-tiny"
GREEDY: dict[str, Any] = {"temperature": 0, "num_predict": 200}
Messages = list[Any]
Ask = Callable[[Running, Messages], Awaitable[str]]
CONVERSATIONS: list[tuple[str, Messages, str]] = [
    ("capital", [{"role": "user", "content": "What is the capital of France?"}], "The capital of France is Paris."),
    ("repeat", [{"role": "user", "content": "Repeat after me: blue horse"}], "blue horse"),
    ("sum", [{"role": "user", "content": "What is 3 + 4?"}], "3 + 4 = 7"),
    ("count", [{"role": "user", "content": "Count from 1 to 20."}], ", ".join(map(str, range(1, 21)))),
    (
        "recall",
        [
            {"role": "user", "content": "My name is Ada."},
            {"role": "assistant", "content": "Nice to meet you, Ada!"},
            {"role": "user", "content": "What is my name?"},
        ],
        "Your name is Ada.",
    ),
]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def openai_options() -> dict[str, Any]:
    return {"model": MODEL, "temperature": 0, "max_tokens": 200}


async def openai_whole(server: Running, messages: Messages) -> str:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:
        create: Any = client.chat.completions.create  # its overloads can't be told apart by **options
        reply = await asyncio.to_thread(create, messages=messages, **openai_options())
        return str(reply.choices[0].message.content)


async def openai_streamed(server: Running, messages: Messages) -> str:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:

        def read() -> str:
            create: Any = client.chat.completions.create
            chunks = create(messages=messages, stream=True, **openai_options())
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

        return await asyncio.to_thread(read)


async def openai_async_whole(server: Running, messages: Messages) -> str:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:
        reply = await client.chat.completions.create(messages=messages, **openai_options())
        return str(reply.choices[0].message.content)


async def openai_async_streamed(server: Running, messages: Messages) -> str:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:
        create: Any = client.chat.completions.create
        chunks = await create(messages=messages, stream=True, **openai_options())
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


async def ollama_whole(server: Running, messages: Messages) -> str:
    client = ollama.Client(server.url)
    reply = await asyncio.to_thread(client.chat, MODEL, messages=messages, options=GREEDY, think=False)
    return str(reply.message.content)


async def ollama_streamed(server: Running, messages: Messages) -> str:
    client = ollama.Client(server.url)

    def read() -> str:
        parts = client.chat(MODEL, messages=messages, options=GREEDY, think=False, stream=True)
        return "".join(part.message.content or "" for part in parts)

    return await asyncio.to_thread(read)


async def ollama_async_whole(server: Running, messages: Messages) -> str:
    reply = await ollama.AsyncClient(server.url).chat(MODEL, messages=messages, options=GREEDY, think=False)
    return str(reply.message.content)


async def ollama_async_streamed(server: Running, messages: Messages) -> str:
    client = ollama.AsyncClient(server.url)
    parts = await client.chat(MODEL, messages=messages, options=GREEDY, think=False, stream=True)
    return "".join([part.message.content or "" async for part in parts])


WAYS: list[Ask] = [
    openai_whole,
    openai_streamed,
    openai_async_whole,
    openai_async_streamed,
    ollama_whole,
    ollama_streamed,
    ollama_async_whole,
    ollama_async_streamed,
]


@pytest.mark.parametrize("ask", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(("messages", "answer"), [one[1:] for one in CONVERSATIONS], ids=[c[0] for c in CONVERSATIONS])
async def test_it_answers(tiny_server: Running, ask: Ask, messages: Messages, answer: str) -> None:
    assert await ask(tiny_server, messages) == answer


async def test_all_ways_at_once_say_what_each_says_alone(tiny_server: Running) -> None:
    messages = CONVERSATIONS[3][1]
    assert set(await asyncio.gather(*(ask(tiny_server, messages) for ask in WAYS))) == {CONVERSATIONS[3][2]}


def test_a_tool_is_called_and_its_answer_told_by_openais_client(tiny_server: Running) -> None:
    with openai.OpenAI(base_url=f"{tiny_server.url}/v1", api_key="x", max_retries=0) as client:
        messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
        asked: dict[str, Any] = {**openai_options(), "tools": [WEATHER]}
        message = client.chat.completions.create(messages=messages, **asked).choices[0].message
        assert message.tool_calls
        [call] = message.tool_calls
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
        answered: Any = {
            "role": "tool",
            "tool_call_id": call.id,
            "content": '{"temperature": 18, "condition": "sunny"}',
        }
        reply = client.chat.completions.create(messages=[*messages, message, answered], **asked)
        assert "18" in str(reply.choices[0].message.content)


def test_a_tool_is_called_and_its_answer_told_by_ollamas_client(tiny_server: Running) -> None:
    client = ollama.Client(tiny_server.url)
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    asked: dict[str, Any] = {"tools": [WEATHER], "options": GREEDY, "think": False}
    message = client.chat(MODEL, messages=messages, **asked).message
    assert message.tool_calls
    [call] = message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})
    answered = {"role": "tool", "tool_name": "get_weather", "content": '{"temperature": 18, "condition": "sunny"}'}
    assert "18" in str(client.chat(MODEL, messages=[*messages, message, answered], **asked).message.content)


def test_it_thinks_when_asked_to_and_not_otherwise(tiny_server: Running) -> None:
    client = ollama.Client(tiny_server.url)
    question = [{"role": "user", "content": "What is 2 + 3?"}]
    thought = client.chat(MODEL, messages=question, options=GREEDY, think=True).message
    assert thought.thinking
    assert "5" in str(thought.content)
    assert client.chat(MODEL, messages=question, options=GREEDY, think=False).message.thinking is None


def test_generate_and_completions_continue_a_rendered_prompt(tiny_server: Running) -> None:
    prompt = "<|im_start|>user\nWhat is the capital of Italy?<|im_end|>\n<|im_start|>assistant\n"
    raw = ollama.Client(tiny_server.url).generate(MODEL, prompt, raw=True, options=GREEDY).response
    with openai.OpenAI(base_url=f"{tiny_server.url}/v1", api_key="x", max_retries=0) as client:
        completion = client.completions.create(model=MODEL, prompt=prompt, temperature=0, max_tokens=40)
    assert raw == completion.choices[0].text == "The capital of Italy is Rome."


# ---- swapping --------------------------------------------------------------------------------------------------------


def three_models(tiny: Path) -> str:
    entries = "\n".join(
        f"  - {{id: {name}, provider: llama_cpp, config: {{model_path: {tiny}, n_ctx: 1024, n_threads: 1}}}}"
        for name in "abc"
    )
    return f"max_loaded_models: 2\nprewarm: false\nmodels:\n{entries}\n"


async def loaded_until(server: Running, ended: asyncio.Event) -> int:
    """The most models that were seen loaded until the event."""
    most = 0
    async with httpx.AsyncClient(base_url=server.url) as client:
        while not ended.is_set():
            models = (await client.get("/health")).json()["models"]
            most = max(most, sum(map(_takes_a_place, models.values())))
            await asyncio.sleep(0.02)
    return most


def _takes_a_place(model: dict[str, Any]) -> bool:
    """One that is only being measured for a load has no fraction yet: it begins when a place is free."""
    return model["state"] in ("ready", "draining") or "load_fraction" in model


async def test_two_models_swap_under_load_and_a_third_forces_an_eviction(tmp_path: Path, tiny_path: Path) -> None:
    question: list[Any] = [{"role": "user", "content": "Count from 1 to 20."}]
    with running(three_models(tiny_path), tmp_path) as server:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0, timeout=60) as client:

            async def ask(model: str) -> str:
                reply = await client.chat.completions.create(
                    model=model, messages=question, temperature=0, max_tokens=100
                )
                return str(reply.choices[0].message.content)

            ended = asyncio.Event()
            watching = asyncio.create_task(loaded_until(server, ended))
            answers = await asyncio.gather(*(ask(model) for model in "abab" * 3 + "c" + "abc" * 3))
            ended.set()
            most = await watching
    assert set(answers) == {CONVERSATIONS[3][2]}
    assert most == 2
