"""The real openai client against the running server: the Responses API, stateless, kept, in the background."""

import json
from collections.abc import Iterator
from typing import Any

import backports.zstd
import httpx
import openai
import pydantic
import pytest
from openai.types.responses import input_token_count_params, response_create_params

from heylook_llm.server.wire import table
from heylook_llm.server.wire.responses_body import InputTokensBody, ResponseBody
from tests.serving import Running

pytestmark = pytest.mark.integration

SAID = "hello \u2028 world \x85 \N{GRINNING FACE}"
ADD: Any = {
    "type": "function",
    "name": "add",
    "description": "Adds.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    "strict": False,
}
SHELL: Any = {"type": "custom", "name": "shell", "description": "Runs a command."}
CALL = '[[say:I add.]][[call:add {"a": 1}]]'


@pytest.fixture
def client(fake_server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fake_server.url}/v1", api_key="x", max_retries=0, timeout=60) as made:
        yield made


def items(response: Any) -> list[Any]:
    """Its output, without a union's types."""
    return list(response.output)


def test_a_whole_response(client: openai.OpenAI) -> None:
    response = client.responses.create(model="gpt-4o", input=SAID, instructions="Be brief.", metadata={"k": "v"})
    assert (response.object, response.status, response.model, response.output_text) == (
        "response",
        "completed",
        "gpt-4o",
        SAID,
    )
    assert (response.instructions, response.metadata, response.parallel_tool_calls) == ("Be brief.", {"k": "v"}, True)
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0
    assert response.id.startswith("resp_")
    assert response._request_id is not None
    assert response._request_id.removeprefix("req_") == response.id.removeprefix("resp_")


def test_the_stream_helper_with_reasoning_text_and_a_call(client: openai.OpenAI) -> None:
    thinks = f"[[think:let me see]]{CALL}"
    asked: Any = {"model": "fake", "input": thinks, "tools": [ADD], "reasoning": {"effort": "low"}}
    with client.responses.stream(**asked) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    thought, message, call = items(final)
    assert (thought.type, message.type, call.type) == ("reasoning", "message", "function_call")
    assert thought.content[0].text == "let me see"
    assert thought.summary == []
    assert (final.output_text, call.name, json.loads(call.arguments)) == ("I add.", "add", {"a": 1})
    assert final.usage is not None
    assert 0 < final.usage.output_tokens_details.reasoning_tokens < final.usage.output_tokens
    whole = client.responses.create(**asked)
    without_ids = [item.model_dump(exclude={"id", "call_id"}) for item in whole.output]
    parsed = {"id", "call_id", "parsed_arguments"}
    streamed = [item.model_dump(exclude=parsed) for item in client.responses.retrieve(final.id).output]
    assert without_ids == streamed, "a whole reply is what its stream comes to"


def test_a_stream_holds_what_line_readers_split_on(fake_server: Running) -> None:
    asked = {"model": "fake", "input": SAID, "stream": True, "store": False}
    with httpx.stream("POST", f"{fake_server.url}/v1/responses", json=asked, timeout=60) as reply:
        lines = [line for line in reply.iter_lines() if line]
    kinds, data = lines[::2], [json.loads(line.removeprefix("data: ")) for line in lines[1::2]]
    assert kinds == [f"event: {event['type']}" for event in data]
    assert "".join(e["delta"] for e in data if e["type"] == "response.output_text.delta") == SAID
    assert data[-1]["response"]["output"][0]["content"][0]["text"] == SAID


def test_reasoning_as_a_summary_and_packed(client: openai.OpenAI) -> None:
    asked: Any = {"model": "fake", "reasoning": {"effort": "low", "summary": "auto"}, "store": False}
    first = client.responses.create(
        **asked, input="[[think:secret]][[say:yes]]", include=["reasoning.encrypted_content"]
    )
    thought, _ = items(first)
    assert [part.text for part in thought.summary] == ["secret"]
    assert thought.encrypted_content
    assert "secret" not in thought.encrypted_content
    history = [
        *(item.model_dump(exclude_none=True) for item in first.output),
        {"role": "user", "content": "[[say:no]]"},
    ]
    assert client.responses.create(**asked, input=history).output_text == "no"


def test_parse_gives_a_model(client: openai.OpenAI) -> None:
    class Answer(pydantic.BaseModel):
        city: str
        sure: bool

    said = '[[say:{"city":"Paris","sure":true}]]'
    response = client.responses.parse(model="fake", input=said, text_format=Answer)
    assert response.output_parsed == Answer(city="Paris", sure=True)
    with client.responses.stream(model="fake", input=said, text_format=Answer) as stream:
        assert stream.get_final_response().output_parsed == Answer(city="Paris", sure=True)


def test_a_loop_of_tools_goes_on_from_the_response_before(client: openai.OpenAI) -> None:
    first = client.responses.create(model="fake", input=CALL, tools=[ADD])
    call = items(first)[-1]
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "[[say:2]]"}
    second = client.responses.create(model="fake", previous_response_id=first.id, input=[output], tools=[ADD])
    assert (second.output_text, second.previous_response_id) == ("2", first.id)
    third = client.responses.create(model="fake", previous_response_id=second.id, input="[[say:3]]", tools=[ADD])
    assert third.usage is not None
    assert second.usage is not None
    assert third.usage.input_tokens_details.cached_tokens > second.usage.input_tokens // 2
    counted = client.responses.input_tokens.count(
        model="fake", previous_response_id=second.id, input="[[say:3]]", tools=[ADD]
    )
    assert counted.input_tokens == third.usage.input_tokens
    said: Any = [{"role": "user", "content": text} for text in (CALL, "[[say:3]]")]
    history: Any = [said[0], *first.output, output, *second.output, said[1]]
    stateless = client.responses.create(model="fake", input=history, tools=[ADD])
    assert stateless.output_text == "3"
    assert stateless.usage is not None
    assert stateless.usage.input_tokens == third.usage.input_tokens


def test_a_custom_tool_gets_text(client: openai.OpenAI) -> None:
    said = '[[call:shell {"input": "ls -l"}]]'
    with client.responses.stream(model="fake", input=said, tools=[SHELL], tool_choice="required") as stream:
        events = [event for event in stream if event.type.startswith("response.custom_tool_call_input")]
        (call,) = items(stream.get_final_response())
    assert [event.type.rpartition(".")[2] for event in events] == ["delta", "done"]
    assert (call.type, call.name, call.input) == ("custom_tool_call", "shell", "ls -l")
    output: Any = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "[[say:done]]"}
    again = client.responses.create(model="fake", input=[call.model_dump(exclude_none=True), output], tools=[SHELL])
    assert again.output_text == "done"


def test_a_custom_tools_input_is_held_to_its_regex(client: openai.OpenAI) -> None:
    tool: Any = {**SHELL, "format": {"type": "grammar", "syntax": "regex", "definition": "ls -[a-z]{2}"}}
    said = '[[call:shell {"input": "rm -rf"}]]'
    response = client.responses.create(model="fake", input=said, tools=[tool], tool_choice="required")
    (call,) = items(response)
    assert call.input.startswith("ls -")


def test_length_logprobs_and_allowed_tools(client: openai.OpenAI) -> None:
    cut = client.responses.create(model="fake", input="[[say:one two]]", max_output_tokens=3, top_logprobs=2)
    assert (cut.status, cut.output_text) == ("incomplete", "one")
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"
    (message,) = items(cut)
    assert message.status == "incomplete"
    assert [token.token for token in message.content[0].logprobs] == ["o", "n", "e"]
    assert {len(token.top_logprobs) for token in message.content[0].logprobs} == {2}
    choice: Any = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "add"}]}
    forced = client.responses.create(
        model="fake", input='[[call:add {"a": 7}]]', tools=[ADD, SHELL], tool_choice=choice
    )
    assert items(forced)[0].name == "add"


def test_what_is_kept_is_retrieved_listed_and_deleted(client: openai.OpenAI) -> None:
    given: Any = [{"role": "user", "content": f"[[say:{at}]]"} for at in range(5)]
    made = client.responses.create(model="fake", input=given)
    assert client.responses.retrieve(made.id).model_dump() == made.model_dump()
    listed = [item for page in client.responses.input_items.list(made.id, limit=2).iter_pages() for item in page.data]
    texts = [item.content[0].text for item in listed]  # type: ignore[union-attr,index]  # messages all
    assert texts == [f"[[say:{at}]]" for at in reversed(range(5))]
    assert [item.id for item in client.responses.input_items.list(made.id, order="asc").data] == [
        item.id for item in reversed(listed)
    ]
    reference: Any = {"type": "item_reference", "id": items(made)[0].id}
    again = client.responses.create(model="fake", input=[reference, {"role": "user", "content": "[[say:yes]]"}])
    assert again.output_text == "yes"
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(made.id)
    client.responses.delete(made.id)
    for ask in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError, match="not found"):
            ask(made.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="fake", previous_response_id=made.id, input="hi")
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")


def test_nothing_is_kept_where_the_client_says_so(client: openai.OpenAI) -> None:
    made = client.responses.create(model="fake", input="hi", store=False)
    assert made.model_extra is not None
    assert made.model_extra["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_response_in_the_background(client: openai.OpenAI) -> None:
    made = client.responses.create(model="fake", input="[[say:done]]", background=True)
    assert made.status in ("queued", "in_progress", "completed")
    while made.status in ("queued", "in_progress"):
        made = client.responses.retrieve(made.id)
    assert (made.status, made.output_text) == ("completed", "done")
    assert client.responses.cancel(made.id).status == "completed"


def test_a_stream_in_the_background_is_taken_up_again(client: openai.OpenAI) -> None:
    stream = client.responses.create(model="fake", input="[[count:9]]", background=True, stream=True)
    first = next(iter(stream))
    assert first.type == "response.created"
    stream.close()
    again = list(client.responses.retrieve(first.response.id, stream=True, starting_after=0))
    assert [event.sequence_number for event in again] == list(range(1, len(again) + 1))
    assert [again[0].type, again[1].type, again[-1].type] == [
        "response.queued",
        "response.in_progress",
        "response.completed",
    ]
    kept = list(client.responses.retrieve(first.response.id, stream=True, starting_after=0))
    assert kept == again
    with pytest.raises(openai.BadRequestError, match="background"):
        list(client.responses.retrieve(client.responses.create(model="fake", input="x").id, stream=True))


def test_a_response_in_the_background_is_cancelled(client: openai.OpenAI) -> None:
    made = client.responses.create(model="slow", input="[[count:200]]", background=True)
    with pytest.raises(openai.BadRequestError, match="has not ended"):
        client.responses.create(model="fake", previous_response_id=made.id, input="x")
    assert client.responses.cancel(made.id).status == "cancelled"
    assert client.responses.retrieve(made.id).status == "cancelled"
    other = client.responses.create(model="slow", input="[[count:200]]", background=True)
    client.responses.delete(other.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(other.id)


def test_an_engine_that_dies_in_mid_stream(client: openai.OpenAI) -> None:
    with client.responses.stream(model="fake", input="[[say:hello there]][[crash:after=4]]") as stream:
        events = list(stream)
        with pytest.raises(RuntimeError):
            stream.get_final_response()
    error, failed = events[-2:]
    assert error.type == "error"
    assert error.code == "worker_died"
    assert failed.type == "response.failed"
    assert failed.response.error is not None
    assert failed.response.error.code == "server_error"
    assert failed.response.output_text.startswith("hel")
    assert client.responses.retrieve(failed.response.id).status == "failed"


def test_an_engine_that_fails_in_the_background(client: openai.OpenAI) -> None:
    *_, error, failed = client.responses.create(model="broken", input="hi", background=True, stream=True)
    assert error.type == "error"
    assert failed.type == "response.failed"
    kept = client.responses.retrieve(failed.response.id)
    assert kept.status == "failed"
    assert kept.error is not None
    assert "damaged" in kept.error.message


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.create(model="nope", input="hi")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.responses.create(model="fake", input="x" * 5000)
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "input")
    cut = client.responses.create(
        model="fake",
        input=[{"role": "user", "content": "x" * 5000}, {"role": "user", "content": "[[say:yes]]"}],
        truncation="auto",
    )
    assert cut.output_text == "yes"


def test_what_a_coding_agent_sends(fake_server: Running) -> None:
    """Everything at each turn, forty tools among it, packed by zstd, and nothing kept."""
    tools = [{**ADD, "name": f"tool_{at}", "parameters": {"type": "object", "properties": {}}} for at in range(40)]
    body = {
        "model": "gpt-4o",
        "instructions": "You are a coding agent.",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandbox: off"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": None},
            {"type": "function_call", "name": "tool_3", "arguments": "{}", "call_id": "call_1"},
            {"type": "function_call_output", "call_id": "call_1", "output": "[[say:ok]]"},
        ],
        "tools": tools,
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": None,
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "a-thread",
        "num_ctx": 16384,
    }
    packed = backports.zstd.compress(json.dumps(body).encode())
    reply = httpx.post(
        f"{fake_server.url}/v1/responses",
        content=packed,
        headers={"content-encoding": "zstd", "content-type": "application/json", "accept": "text/event-stream"},
        timeout=60,
    )
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    last = json.loads(reply.text.rstrip().rpartition("data: ")[2])
    assert last["type"] == "response.completed"
    assert last["response"]["output"][0]["content"][0]["text"] == "ok"
    assert len(last["response"]["tools"]) == 40


def test_every_field_of_the_sdk_is_in_the_table() -> None:
    for params, body in (
        (response_create_params.ResponseCreateParamsBase, ResponseBody),
        (input_token_count_params.InputTokenCountParams, InputTokensBody),
    ):
        assert set(params.__annotations__) <= {row.name for row in table.rows(body)}
