"""OpenAI's Python client."""

import asyncio
import json
from functools import partial
from typing import Any

import httpx
import openai
import pydantic

from tests.conformance.cells import At, Refusal, awaited, cell, raises, refused
from tests.conformance.subjects import KEY, WEATHER_TOOL, circle_url

PACKAGE = "openai"
GREEDY: Any = {"temperature": 0, "max_tokens": 300}


class Person(pydantic.BaseModel):
    """What is asked for as JSON."""

    name: str
    city: str


def client(at: At) -> Any:
    """Its overloads can't be told apart by options that are handed on."""
    return openai.OpenAI(base_url=at.v1, api_key="x", max_retries=0, timeout=60)


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@cell("chat")
def chat(at: At) -> None:
    reply = client(at).chat.completions.create(model=at.model, messages=user(at.subject.ask), **GREEDY)
    assert reply.choices[0].message.content == at.subject.answer
    assert reply.choices[0].finish_reason == "stop"


@cell("chat, streamed")
def stream(at: At) -> None:
    chunks = list(
        client(at).chat.completions.create(model=at.model, messages=user(at.subject.ask), stream=True, **GREEDY)
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == at.subject.answer
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].choices[0].finish_reason == "stop"


@cell("async client")
def asynchronous(at: At) -> None:
    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=at.v1, api_key="x", max_retries=0) as made:
            create: Any = made.chat.completions.create
            chunks = await create(model=at.model, messages=user(at.subject.ask), stream=True, **GREEDY)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    async def several() -> list[str]:
        return await asyncio.gather(*(ask() for _ in range(4)))

    assert set(awaited(several())) == {at.subject.answer}


@cell("usage in a stream")
def usage(at: At) -> None:
    *_, last = client(at).chat.completions.create(
        model=at.model,
        messages=user(at.subject.ask),
        stream=True,
        stream_options={"include_usage": True},
        **GREEDY,
    )
    assert last.choices == []
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens > 0


@cell("the stream helper")
def stream_helper(at: At) -> None:
    with client(at).chat.completions.stream(
        model=at.model, messages=user(at.subject.weather), tools=[WEATHER_TOOL], logprobs=True, n=2, **GREEDY
    ) as events:
        kinds = {event.type for event in events}
        final = events.get_final_completion()
    assert {"chunk", "tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    for choice in final.choices:
        (call,) = choice.message.tool_calls
        assert (choice.message.role, call.function.name) == ("assistant", "get_weather")
        assert json.loads(call.function.arguments) == {"city": "Paris"}


@cell("tools: auto, and their results")
def tool_loop(at: At) -> None:
    asked = {"model": at.model, "tools": [WEATHER_TOOL], **GREEDY}
    first = client(at).chat.completions.create(messages=user(at.subject.weather), **asked).choices[0]
    assert first.finish_reason == "tool_calls"
    (call,) = first.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    result = {"role": "tool", "tool_call_id": call.id, "content": at.subject.observed}
    history = [*user(at.subject.weather), first.message, result]
    assert at.subject.told in client(at).chat.completions.create(messages=history, **asked).choices[0].message.content


@cell("tools: required and named")
def forced(at: At) -> None:
    other = {"type": "function", "function": {"name": "other", "parameters": {"type": "object", "properties": {}}}}
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        reply = client(at).chat.completions.create(
            model=at.model,
            messages=user("Hello"),
            tools=[WEATHER_TOOL] if choice == "required" else [other, WEATHER_TOOL],
            tool_choice=choice,
            parallel_tool_calls=False,
            **GREEDY,
        )
        (call,) = reply.choices[0].message.tool_calls
        assert call.function.name == "get_weather"
        assert isinstance(json.loads(call.function.arguments)["city"], str)


@cell("tools: none")
def no_tools(at: At) -> None:
    reply = client(at).chat.completions.create(
        model=at.model, messages=user(at.subject.ask), tools=[WEATHER_TOOL], tool_choice="none", **GREEDY
    )
    assert reply.choices[0].message.tool_calls is None


@cell("structured output")
def structured(at: At) -> None:
    reply = client(at).chat.completions.parse(
        model=at.model, messages=user(at.subject.person), response_format=Person, **GREEDY
    )
    assert isinstance(reply.choices[0].message.parsed, Person)
    raises(
        lambda: client(at).chat.completions.parse(
            model=at.model, messages=user(at.subject.person), response_format=Person, max_tokens=2
        ),
        openai.LengthFinishReasonError,
    )


@cell("JSON mode")
def json_mode(at: At) -> None:
    reply = client(at).chat.completions.create(
        model=at.model, messages=user(at.subject.person), response_format={"type": "json_object"}, **GREEDY
    )
    assert isinstance(json.loads(reply.choices[0].message.content), dict)


@cell("images")
def images(at: At) -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": circle_url()}},
        {"type": "text", "text": at.subject.see},
    ]
    reply = client(at).chat.completions.create(
        model=at.subject.seeing, messages=[{"role": "user", "content": parts}], **GREEDY
    )
    assert at.subject.seen in reply.choices[0].message.content


@cell("images to a model that doesn't see are a 400")
def blind(at: At) -> None:
    parts = [{"type": "image_url", "image_url": {"url": circle_url()}}]
    problem = raises(
        lambda: client(at).chat.completions.create(model=at.model, messages=[{"role": "user", "content": parts}]),
        openai.BadRequestError,
        "vision|image",
    )
    assert problem.param


@cell("embeddings")
def embeddings(at: At) -> None:
    texts = ["Paris is in France.", "7 is a number."]
    packed = client(at).embeddings.create(model=at.model, input=texts)
    plain = client(at).embeddings.create(model=at.model, input=texts, encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert max(abs(a - b) for a, b in zip(one.embedding, other.embedding, strict=True)) < 1e-6
    assert packed.data[0].embedding != packed.data[1].embedding
    assert packed.usage.prompt_tokens > 0


@cell("log probabilities")
def logprobs(at: At) -> None:
    reply = client(at).chat.completions.create(
        model=at.model, messages=user(at.subject.ask), logprobs=True, top_logprobs=3, **GREEDY
    )
    content = reply.choices[0].logprobs.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in content)
    said = bytes(byte for token in content for byte in token.bytes or []).decode()
    assert said.startswith(at.subject.answer)


@cell("stop and max_tokens")
def ends(at: At) -> None:
    stop, before = at.subject.stopped
    reply = client(at).chat.completions.create(model=at.model, messages=user(at.subject.ask), stop=stop, **GREEDY)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (before, "stop")
    cut = client(at).chat.completions.create(
        model=at.model, messages=user(at.subject.ask), max_completion_tokens=2, temperature=0
    )
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 2)


@cell("seed")
def seed(at: At) -> None:
    def said(number: int) -> str:
        reply = client(at).chat.completions.create(
            model=at.model, messages=user("Tell me a story."), temperature=1.5, seed=number, max_tokens=40
        )
        return str(reply.choices[0].message.content)

    assert said(7) == said(7)


@cell("several choices")
def choices(at: At) -> None:
    reply = client(at).chat.completions.create(model=at.model, messages=user(at.subject.ask), n=3, **GREEDY)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert {choice.message.content for choice in reply.choices} == {at.subject.answer}


@cell("thinking")
def thinking(at: At) -> None:
    reply = client(at).chat.completions.create(
        model=at.model, messages=user(at.subject.think), reasoning_effort="low", **GREEDY
    )
    message = reply.choices[0].message
    assert message.content.strip() == at.subject.thought
    assert message.model_extra["reasoning_content"].strip()
    assert reply.usage.completion_tokens_details.reasoning_tokens > 0


@cell("legacy completions")
def completions(at: At) -> None:
    reply = client(at).completions.create(model=at.model, prompt=["1, 2, 3,", "a"], max_tokens=4, echo=True)
    assert [choice.index for choice in reply.choices] == [0, 1]
    assert reply.choices[0].text.startswith("1, 2, 3,")


@cell("list models")
def listing(at: At) -> None:
    assert at.model in [model.id for model in client(at).models.list()]
    assert client(at).models.retrieve(at.model).id == at.model
    assert client(at).models.retrieve("org/name:tag").id == "org/name:tag"


@cell("errors in the client's classes")
def errors(at: At) -> None:
    create = client(at).chat.completions.create
    unknown = raises(lambda: create(model="nope", messages=user("x")), openai.NotFoundError, "not found")
    assert (unknown.code, unknown.param) == ("model_not_found", "model")
    wrong = raises(lambda: create(model=at.model, messages=user("x"), temperature="hot"), openai.BadRequestError)
    assert wrong.param == "temperature"
    long = raises(
        lambda: create(model=at.model, messages=user("word " * 9000)), openai.BadRequestError, "maximum context length"
    )
    assert long.code == "context_length_exceeded"


@cell("a key where one is wanted")
def key(at: At) -> None:
    def listed(given: str) -> Any:
        return openai.OpenAI(base_url=at.locked + "/v1", api_key=given, max_retries=0).models.list().data

    raises(lambda: listed("wrong"), openai.AuthenticationError)
    assert listed(KEY)


@cell("leaving in mid-stream")
def leaving(at: At) -> None:
    made = client(at)
    chunks = made.chat.completions.create(
        model=at.subject.long, messages=user(at.subject.count), max_tokens=2000, stream=True
    )
    next(iter(chunks))
    chunks.close()
    at.until_idle()


@cell("performance fields")
def performance(at: At) -> None:
    reply = client(at).chat.completions.create(
        model=at.model, messages=user(at.subject.ask), extra_body={"top_k": 1, "timings_per_token": True}
    )
    timings = reply.model_extra["timings"]
    assert timings["predicted_n"] == reply.usage.completion_tokens
    assert timings["predicted_per_second"] > 0


@cell("token counts")
def counts(at: At) -> None:
    asked = {"model": at.model, "messages": user(at.subject.ask)}
    counted = client(at).post("/chat/completions/input_tokens", body=asked, cast_to=object)
    reply = client(at).chat.completions.create(**asked, **GREEDY)
    assert counted["input_tokens"] == reply.usage.prompt_tokens


# ---- the Responses API -----------------------------------------------------------------------------------------------

FUNCTION: Any = {"type": "function", "strict": False, **WEATHER_TOOL["function"]}
SHORT: Any = {"temperature": 0, "max_output_tokens": 300}


@cell("responses")
def responses(at: At) -> None:
    asked = {"model": at.model, "input": at.subject.ask}
    reply = client(at).responses.create(**asked, metadata={"k": "v"}, **SHORT)
    assert (reply.output_text, reply.status, reply.metadata) == (at.subject.answer, "completed", {"k": "v"})
    assert client(at).responses.input_tokens.count(**asked).input_tokens == reply.usage.input_tokens
    cut = client(at).responses.create(**asked, temperature=0, max_output_tokens=2)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")


@cell("responses, streamed")
def streamed_responses(at: At) -> None:
    with client(at).responses.stream(model=at.model, input=at.subject.ask, **SHORT) as events:
        seen = list(events)
        final = events.get_final_response()
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert (seen[0].type, seen[-1].type) == ("response.created", "response.completed")
    assert final.output_text == at.subject.answer


@cell("responses: tools and their results")
def response_tools(at: At) -> None:
    asked = {"model": at.model, "tools": [FUNCTION], **SHORT}
    with client(at).responses.stream(input=at.subject.weather, **asked) as events:
        kinds = {event.type for event in events}
        first = events.get_final_response()
    assert {"response.function_call_arguments.delta", "response.function_call_arguments.done"} <= kinds
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    result = {"type": "function_call_output", "call_id": call.call_id, "output": at.subject.observed}
    after = client(at).responses.create(input=[result], previous_response_id=first.id, **asked)
    assert at.subject.told in after.output_text


@cell("responses: kept, gone on from, deleted")
def kept_responses(at: At) -> None:
    made = client(at).responses
    first = made.create(model=at.model, input=at.subject.ask, **SHORT)
    assert made.retrieve(first.id).output_text == first.output_text
    after = made.create(model=at.model, input=at.subject.ask, previous_response_id=first.id, **SHORT)
    assert after.usage.input_tokens > first.usage.input_tokens
    items = list(made.input_items.list(after.id, order="asc"))
    assert [item.content[0].text for item in items][-1] == at.subject.ask
    made.delete(first.id)
    raises(lambda: made.retrieve(first.id), openai.NotFoundError, first.id)
    alone = made.create(model=at.model, input=at.subject.ask, store=False, **SHORT)
    raises(lambda: made.retrieve(alone.id), openai.NotFoundError)
    unknown = raises(
        lambda: made.create(model=at.model, input="x", previous_response_id=first.id), openai.BadRequestError
    )
    assert (unknown.code, unknown.param) == ("previous_response_not_found", "previous_response_id")


@cell("responses in the background")
def background(at: At) -> None:
    made = client(at).responses
    begun = made.create(model=at.model, input=at.subject.ask, background=True, **SHORT)
    while (now := made.retrieve(begun.id)).status in ("queued", "in_progress"):
        pass
    assert (now.status, now.output_text) == ("completed", at.subject.answer)
    long = made.create(model=at.subject.long, input=at.subject.count, background=True, max_output_tokens=2000)
    assert made.cancel(long.id).status in ("cancelled", "completed")
    at.until_idle()


@cell("responses: structured output")
def structured_responses(at: At) -> None:
    parsed = client(at).responses.parse(model=at.model, input=at.subject.person, text_format=Person, **SHORT)
    assert isinstance(parsed.output_parsed, Person)


@cell("responses: thinking")
def thought_responses(at: At) -> None:
    reply = client(at).responses.create(
        model=at.model, input=at.subject.think, reasoning={"effort": "low", "summary": "auto"}, **SHORT
    )
    thought, said = reply.output
    assert (thought.type, said.content[0].text.strip()) == ("reasoning", at.subject.thought)
    assert thought.summary[0].text.strip()
    assert reply.usage.output_tokens_details.reasoning_tokens > 0


@cell("responses: images")
def seen_responses(at: At) -> None:
    parts = [{"type": "input_image", "image_url": circle_url()}, {"type": "input_text", "text": at.subject.see}]
    reply = client(at).responses.create(model=at.subject.seeing, input=[{"role": "user", "content": parts}], **SHORT)
    assert at.subject.seen in reply.output_text


@cell("responses: tools that run at OpenAI are left out, and named")
def hosted(at: At) -> None:
    tools = [{"type": "web_search"}, FUNCTION]
    reply = client(at).responses.with_raw_response.create(model=at.model, input=at.subject.ask, tools=tools, **SHORT)
    assert reply.headers["x-heylook-ignored"] == "tools[0]:web_search"
    assert reply.parse().output_text == at.subject.answer


# ---- files, batches, models ------------------------------------------------------------------------------------------


@cell("files and batches")
def batches(at: At) -> None:
    made = client(at)
    rows = [
        {
            "custom_id": f"request {number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": at.model, "messages": user(at.subject.ask), **GREEDY},
        }
        for number in range(3)
    ]
    data = "\n".join(map(json.dumps, rows)).encode()
    file = made.files.create(file=("in.jsonl", data), purpose="batch")
    assert made.files.content(file.id).read() == data
    batch = made.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"k": "v"}
    )
    assert batch.id in [one.id for one in made.batches.list()]
    while (now := made.batches.retrieve(batch.id)).status in ("validating", "in_progress", "finalizing"):
        pass
    assert (now.status, now.request_counts.completed) == ("completed", 3)
    told = [json.loads(line) for line in made.files.content(now.output_file_id).text.splitlines()]
    assert {one["custom_id"] for one in told} == {row["custom_id"] for row in rows}
    said = {one["response"]["body"]["choices"][0]["message"]["content"] for one in told}
    assert said == {at.subject.answer}
    assert made.files.delete(file.id).deleted


@cell("delete a model")
def deletion(at: At) -> None:
    made, name = client(at), f"copy-of-{at.model}"
    httpx.post(f"{at.url}/api/copy", json={"source": at.model, "destination": name}).raise_for_status()
    assert made.models.retrieve(name).id == name
    assert made.models.delete(name).deleted
    raises(lambda: made.models.retrieve(name), openai.NotFoundError)


@cell("several chats in one call")
def groups(at: At) -> None:
    turns = [*user(at.subject.ask), *user(at.subject.ask)]
    asked = {"model": at.model, "messages": turns, "processing_mode": "parallel", **GREEDY}
    told = client(at).post("/chat/completions", body=asked, cast_to=object)
    assert [one["choices"][0]["message"]["content"] for one in told["completions"]] == [at.subject.answer] * 2


# ---- what is refused -------------------------------------------------------------------------------------------------


@cell("audio, images to make and fine-tuning")
def not_offered(at: At) -> None:
    made = client(at)

    def route(words: str) -> Refusal:
        return Refusal(400, words, "invalid_request_error", "unsupported_value")

    refused(
        {
            lambda: made.images.generate(model=at.model, prompt="x"): route("Images are not made here"),
            lambda: made.audio.speech.create(model=at.model, input="x", voice="alloy"): route(
                "no model here .* speaks"
            ),
            lambda: made.audio.transcriptions.create(model=at.model, file=b"x"): route("no model here hears"),
            lambda: made.moderations.create(input="x"): route("Nothing is moderated here"),
            lambda: made.fine_tuning.jobs.create(model=at.model, training_file="x"): route("not trained here"),
        },
        openai.BadRequestError,
        "this server runs language models: it neither makes nor hears sound, paints no images and trains nothing",
    )


@cell("fields that are refused are named")
def refused_fields(at: At) -> None:
    create = client(at).chat.completions.create
    for fields, param, code, words in (
        ({"modalities": ["text", "audio"]}, "modalities", "unsupported_value", "Only text"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio", "unsupported_parameter", "Audio output"),
        ({"extra_body": {"use_beam_search": True}}, "use_beam_search", "unsupported_parameter", "Beam search"),
        ({"extra_body": {"chat_template": "x"}}, "chat_template", "unsupported_parameter", "template"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]", "unsupported_value", "custom"),
    ):
        problem = raises(partial(create, model=at.model, messages=user("x"), **fields), openai.APIError)
        Refusal(400, words, "invalid_request_error", code, param).check(problem)
