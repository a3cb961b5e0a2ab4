"""The vocabulary: a reply is a fold of its events, errors survive the pipe, and types only ever grow at their end."""

import inspect

import msgspec
import pytest

from heylook_llm import core, errors

pytestmark = pytest.mark.unit


def done(choice: int = 0, **usage: int) -> core.Done:
    return core.Done(choice, "stop", core.Usage(**usage), core.Timeline(received_ns=choice + 1))


def folded(*events: core.Event, n: int = 1, prompts: int = 1) -> core.Result:
    fold = core.Fold(n, prompts)
    for event in events:
        fold.feed(event)
    assert fold.ended
    return fold.result()


def test_pieces_become_a_choice() -> None:
    logprob = core.TokenLogprob(5, b"lo", -0.5)
    result = folded(
        core.Progress(0, 1, 2),
        core.Reasoning(0, "let ", (1,)),
        core.Reasoning(0, "me see", (2,)),
        core.Text(0, "Hel", (3,)),
        core.Text(0, "", (4,)),
        core.Text(0, "lo", (5,), (logprob,)),
        core.ToolCallStart(0, 0, "call_1", "add"),
        core.ToolCallArgs(0, 0, '{"a":'),
        core.ToolCallStart(0, 1, "call_2", "sub"),
        core.ToolCallArgs(0, 1, "{}", (6,)),
        core.ToolCallArgs(0, 0, "1}"),
        done(prompt_tokens=7, output_tokens=6),
    )
    choice = result.choices[0]
    assert (choice.text, choice.reasoning) == ("Hello", "let me see")
    assert choice.tool_calls == (core.ToolCall("call_1", "add", '{"a":1}'), core.ToolCall("call_2", "sub", "{}"))
    assert choice.tokens == (1, 2, 3, 4, 5, 6)
    assert choice.logprobs == (logprob,)
    assert result.usage == core.Usage(prompt_tokens=7, output_tokens=6)


def test_choices_interleave_and_a_prompt_counts_once() -> None:
    events: list[core.Event] = [core.Text(choice, f"{choice}{part}") for part in "ab" for choice in (3, 1, 0, 2)]
    ends = [done(choice, prompt_tokens=10 + choice // 2, cached_tokens=1, output_tokens=2) for choice in (2, 0, 3, 1)]
    result = folded(*events, *ends, n=2, prompts=2)
    assert [choice.text for choice in result.choices] == ["0a0b", "1a1b", "2a2b", "3a3b"]
    assert [choice.index for choice in result.choices] == [0, 1, 2, 3]
    assert result.usage == core.Usage(prompt_tokens=21, cached_tokens=2, output_tokens=8)
    assert result.timeline.received_ns == 1


def test_an_open_choice_has_no_result() -> None:
    fold = core.Fold(2)
    fold.feed(done(0))
    assert not fold.ended
    with pytest.raises(errors.ProtocolError, match="Choice 1"):
        fold.result()


def test_a_failure_is_raised_as_what_it_was() -> None:
    failed = core.Failed(core.ErrorInfo.of(errors.ContextLengthExceeded(limit_tokens=8, prompt_tokens=9)))
    with pytest.raises(errors.ContextLengthExceeded) as caught:
        core.Fold().feed(failed)
    assert (caught.value.limit_tokens, caught.value.prompt_tokens) == (8, 9)


@pytest.mark.parametrize("kind", errors.every_kind().values(), ids=lambda kind: kind.__name__)
def test_every_error_survives_the_pipe(kind: type[errors.HeylookError]) -> None:
    error = kind("what happened", param="seed", retry_after_seconds=2.5)
    value = msgspec.msgpack.decode(msgspec.msgpack.encode(core.ErrorInfo.of(error)), type=core.ErrorInfo)
    again = value.exception()
    assert type(again) is kind
    assert (again.message, again.code, again.param, again.retry_after_seconds, again.status) == (
        *("what happened", error.code, "seed", 2.5, kind.status),
    )


def test_an_unknown_error_is_the_engines() -> None:
    assert type(core.ErrorInfo("FromTheFuture", "?").exception()) is errors.EngineError


def test_the_tree_of_errors_is_the_one_drawn() -> None:
    drawn = (errors.__doc__ or "").split()
    for name, kind in errors.every_kind().items():
        assert kind.__module__ != errors.__name__ or name in drawn


def test_a_messages_text_leaves_images_out() -> None:
    parts = (core.TextPart("a"), core.ImagePart(b"", 0, 0), core.TextPart("b"))
    assert core.Message("user", parts).text == "ab"


def test_values_are_frozen_arrays_and_unions_have_distinct_tags() -> None:
    structs = [
        kind
        for _, kind in inspect.getmembers(core, inspect.isclass)
        if issubclass(kind, msgspec.Struct) and kind not in (core.ChoiceResult, core.Result)
    ]
    assert len(structs) > 40
    for kind in structs:
        config = kind.__struct_config__
        assert config.frozen, kind
        assert config.array_like, kind
    for union in (core.Event, core.Prompt, core.Part, core.Operation, core.Answer, core.Downward, core.Upward):
        tags = [kind.__struct_config__.tag for kind in union.__args__]
        assert len(tags) == len(set(tags))


def test_an_older_peers_shorter_value_is_read() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(["content", 0, "hi"]), type=core.Event) == core.Text(0, "hi")
