"""The worker process over its real pipe, with the fake provider: requests, ends, cancels, faults."""

import contextlib
import itertools
import queue
import signal
from pathlib import Path

import pytest

from heylook_llm import core, pipe
from heylook_llm.errors import (
    BadRequest,
    ContextLengthExceeded,
    EngineError,
    LoadFailed,
    ProtocolError,
    UnsupportedFeature,
)
from heylook_llm.worker.prepare import MAX_SCORES
from tests.worker.client import Client, WorkerGone, chat

pytestmark = pytest.mark.integration

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def client() -> object:
    """One worker for the tests that leave it as it is."""
    with Client(n_ctx=2048) as one:
        yield one


def test_a_chat_is_answered_with_usage_and_timeline(client: Client) -> None:
    result = client.run(chat("system: Be kind.", "Grüße 🎉"), received_ns=5)
    [choice] = result.choices
    assert choice.text == "Grüße 🎉"
    assert choice.done.reason == "stop"
    assert result.usage.output_tokens == len("Grüße 🎉".encode()) + 1
    timeline = result.timeline
    assert timeline.received_ns == 5
    stamps = [
        timeline.rendered_ns,
        timeline.tokenized_ns,
        timeline.queued_ns,
        timeline.admitted_ns,
        timeline.prefill[0].start_ns,
        timeline.first_token_ns,
        timeline.last_token_ns,
    ]
    assert None not in stamps
    assert stamps == sorted(stamps)  # type: ignore[type-var]  # no None, as the line above says
    assert timeline.steps == result.usage.output_tokens
    assert timeline.batch_sizes_seen == {1: result.usage.output_tokens - 1}


def test_all_events_of_a_step_share_a_frame(client: Client) -> None:
    numbers = [client.submit(chat(f"[[count:{n}]]")) for n in (300, 301, 302)]
    fullest = 0
    done = 0
    while done < 3:
        message = client.receive()
        assert isinstance(message, core.Step)
        assert {number for number, _ in message.events} <= set(numbers)
        fullest = max(fullest, len({number for number, _ in message.events}))
        done += sum(isinstance(event, core.Done) for _, event in message.events)
    assert fullest == 3


def test_choices_of_several_prompts_are_numbered_in_order(client: Client) -> None:
    result = client.run(core.TextPrompt("one"), core.TextPrompt("two"), n=2)
    assert [choice.text for choice in result.choices] == ["one", "one", "two", "two"]
    assert result.usage.prompt_tokens == 2 * len("one|")


def test_a_following_turn_is_read_from_the_cache(client: Client) -> None:
    first = client.run(chat("A long opening, not seen by anyone before."))
    answer = first.choices[0].text
    second = client.run(chat("A long opening, not seen by anyone before.", answer, "Go on."))
    assert second.usage.cached_tokens > first.usage.prompt_tokens


def test_reasoning_and_tool_calls(client: Client) -> None:
    prompt = chat('[[think:hm]][[call:add {"a": 1}]]', tools=(core.Tool("add"),))
    [choice] = client.run(prompt).choices
    assert choice.reasoning == "hm"
    assert [(call.name, call.arguments) for call in choice.tool_calls] == [("add", '{"a": 1}')]
    assert choice.tool_calls[0].id.startswith("call_")
    assert len(choice.tool_calls[0].id) == len("call_") + 24
    assert choice.done.reason == "tool_calls"


def test_calls_in_the_syntax_of_the_models_family() -> None:
    template = (GOLDEN / "templates" / "qwen-coder.jinja").read_text(encoding="utf-8")
    tool = core.Tool("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})
    said = "[[say:One moment.\n<tool_call>\n<function=add>\n<parameter=a>\n3\n</parameter>\n</function>\n</tool_call>]]"
    with Client(chat_template=template) as one:
        [choice] = one.run(chat(said, tools=(tool,))).choices
        assert one.info is not None
        assert "tools" in one.info.capabilities
    assert (choice.text, choice.done.reason) == ("One moment.", "tool_calls")
    assert [(call.name, call.arguments) for call in choice.tool_calls] == [("add", '{"a": 3}')]


def test_thinking_is_asked_for_by_the_template(client: Client) -> None:
    [choice] = client.run(chat("Why?", thinking=True)).choices
    assert (choice.reasoning, choice.text) == ("Someone wrote: Why?", "Why?")
    assert choice.done.usage.reasoning_tokens > 0


def test_the_last_message_is_continued(client: Client) -> None:
    [choice] = client.run(chat("Say it.", "I say: ", continue_last=True)).choices
    assert choice.text == "Say it."


@pytest.mark.parametrize(
    ("fields", "text", "reason"),
    [
        ({"max_tokens": 3}, "abc", "length"),
        ({"max_tokens": 0}, "", "length"),
        ({"stop": ("de",)}, "abc", "stop"),
        ({"stop": ("de",), "include_stop": True}, "abcde", "stop"),
        ({"stop_tokens": (ord("c"),)}, "ab", "stop"),
        ({"ignore_eos": True, "max_tokens": 8}, "abcdefab", "length"),
        ({"min_tokens": 8}, "abcdefab", "stop"),
    ],
)
def test_ends(client: Client, fields: dict[str, object], text: str, reason: str) -> None:
    [choice] = client.run(chat("abcdef"), **fields).choices
    assert (choice.text, choice.done.reason) == (text, reason)


def test_a_stop_string_is_named(client: Client) -> None:
    assert client.run(chat("abcdef"), stop=("x", "d")).choices[0].done.stop == "d"


def test_invalid_bytes_and_cut_characters(client: Client) -> None:
    assert client.run(chat("[[emit:68c3]]")).choices[0].text == "h\ufffd"
    assert client.run(chat("é"), max_tokens=1).choices[0].text == "\ufffd"


def test_logprobs_come_with_each_token(client: Client) -> None:
    [choice] = client.run(chat("aé"), logprobs=2).choices
    assert b"".join(logprob.piece for logprob in choice.logprobs) == "aé".encode()
    assert all(len(logprob.top) == 2 for logprob in choice.logprobs)


def test_so_many_log_probabilities_of_a_prompt_are_refused() -> None:
    prompt = core.TextPrompt("x" * (MAX_SCORES // 21))
    with Client(n_ctx=MAX_SCORES // 20) as client:
        assert client.run(prompt, prompt_logprobs=0, max_tokens=0).usage.output_tokens == 0
        with pytest.raises(BadRequest, match="At most 200000"):
            client.run(prompt, prompt_logprobs=20, max_tokens=0)


def test_echo_gives_the_prompt_back(client: Client) -> None:
    done = client.run(core.TextPrompt("abc"), echo=True).choices[0].done
    assert done.prompt_text == "abc"
    assert done.prompt_tokens[:3] == tuple(b"abc")


def test_a_chat_after_an_earlier_exchange_keeps_its_reasoning_apart(client: Client) -> None:
    first = client.run(chat("[[say:one]]"), echo=True).choices[0]
    before = (*first.done.prompt_tokens, *first.tokens)
    prompt = chat("[[say:two]]", thinking=True)
    [choice] = client.run(prompt, before=before, echo=True).choices
    assert (choice.text, bool(choice.reasoning)) == ("two", True)
    assert choice.done.prompt_tokens[: len(before)] == before
    with pytest.raises(ContextLengthExceeded):
        client.run(prompt, before=(65,) * 3000)
    [cut] = client.run(prompt, before=(65,) * 3000, truncate="oldest").choices
    assert cut.done.usage.prompt_tokens == 2047
    with pytest.raises(BadRequest, match="Token 999"):
        client.run(prompt, before=(999,))


def test_a_long_prompt_says_how_far_it_is(client: Client) -> None:
    number = client.submit(core.TextPrompt("x" * 1500 + "[[say:y]]"))
    progress = [event for event in client.events([number])[number] if isinstance(event, core.Progress)]
    processed = [event.processed_tokens for event in progress]
    assert len(processed) > 1
    assert processed == sorted(set(processed))
    assert {event.total_tokens for event in progress} == {1510}


def test_a_prompt_of_one_step_says_how_long_it_was_before_its_answer(client: Client) -> None:
    for cached in (False, True):
        number = client.submit(core.TextPrompt("how long was I [[say:z]]"))
        first, *others = client.events([number])[number]
        assert isinstance(first, core.Progress)
        assert (first.processed_tokens, first.total_tokens, first.cached_tokens > 0) == (25, 25, cached)
        assert not any(isinstance(event, core.Progress) for event in others)


def test_each_step_is_told_where_it_is_wanted(client: Client) -> None:
    prompt = core.TextPrompt("noted [[say:abc]]")
    number = client.submit(prompt, note_progress=True, echo=True)
    events = client.events([number])[number]
    begun = events[0]
    assert isinstance(begun, core.Progress)
    assert (begun.prompt_text, len(begun.prompt), begun.times) == (prompt.text, begun.total_tokens, None)
    told = [(one, after) for one, after in itertools.pairwise(events) if isinstance(after, core.Text)]
    times = [one.times for one, _ in told if isinstance(one, core.Progress)]
    assert [one.output_tokens for one in times if one is not None] == [1, 2, 3]
    stamps = [(one.admitted_ns or 0, one.first_token_ns or 0, one.at_ns) for one in times if one is not None]
    assert all(admitted <= first <= at for admitted, first, at in stamps)
    assert stamps == sorted(stamps), "monotonic"


@pytest.mark.parametrize(
    ("prompt", "fields", "kind", "text"),
    [
        (
            core.ChatPrompt((core.Message("user", (core.ImagePart(b"", 0, 0),)),)),
            {},
            UnsupportedFeature,
            "vision",
        ),
        (core.TokenPrompt((1, 999)), {}, BadRequest, "999"),
        (core.TokenPrompt(()), {}, BadRequest, "empty"),
        (core.ChatPrompt((core.Message("user"), core.Message("system"))), {}, BadRequest, "must be at the beginning"),
        (
            core.TextPrompt("x" * 3000),
            {},
            ContextLengthExceeded,
            "2048 tokens. However, your messages resulted in 3001",
        ),
    ],
)
def test_refusals(client: Client, prompt: core.Prompt, fields: dict[str, object], kind: type, text: str) -> None:
    with pytest.raises(kind, match=text):
        client.run(prompt, **fields)


def test_the_oldest_messages_are_dropped_where_asked(client: Client) -> None:
    turns = [f"turn-{n}. {'x' * 200}" for n in range(11)]
    result = client.run(chat("system: Stay.", *turns), truncate="oldest", echo=True, max_tokens=1)
    done = result.choices[0].done
    assert done.timeline.dropped_tokens > 0
    assert "Stay." in done.prompt_text
    assert turns[10] in done.prompt_text
    assert turns[0] not in done.prompt_text
    assert result.usage.prompt_tokens < 2048


def test_a_shortened_chat_begins_with_a_user_and_keeps_a_call_with_its_results(client: Client) -> None:
    def said(role: str, text: str, **fields: object) -> core.Message:
        return core.Message(role, (core.TextPart(text),), **fields)  # type: ignore[arg-type]  # test's own

    call = core.ToolCall("1", "f", "{}")
    turns = [
        said("user", "first"),
        said("assistant", "", tool_calls=(call,)),
        said("tool", "r" * 1000),
        said("assistant", "a" * 1000),
        said("user", "second"),
        said("assistant", "", tool_calls=(call,)),
        said("tool", "s" * 600),
    ]
    kept = client.run(core.ChatPrompt(tuple(turns)), truncate="oldest", echo=True, max_tokens=1).choices[0].done
    assert kept.prompt_text.startswith("user\nsecond")
    less = client.run(core.ChatPrompt(tuple(turns)), truncate="oldest", n_ctx=730, echo=True, max_tokens=1)
    assert less.choices[0].done.prompt_text.startswith("assistant\n\n<tool_call>")
    assert "s" * 600 in less.choices[0].done.prompt_text
    with pytest.raises(ContextLengthExceeded, match="400 tokens"):
        client.run(core.ChatPrompt(tuple(turns)), truncate="oldest", n_ctx=400)


def test_the_context_that_a_request_asks_for_is_its_limit(client: Client) -> None:
    with pytest.raises(ContextLengthExceeded, match="100 tokens"):
        client.run(core.TextPrompt("x" * 200), n_ctx=100)
    [choice] = client.run(core.TextPrompt("abc"), n_ctx=20, ignore_eos=True).choices
    assert choice.done.reason == "length"
    assert choice.done.usage.output_tokens == 16


def test_a_full_context_is_shifted_where_asked(client: Client) -> None:
    shifted = {"n_ctx": 20, "ignore_eos": True, "shift": True, "max_tokens": 100}
    [choice] = client.run(core.TextPrompt("abc"), **shifted, echo=True).choices
    assert choice.done.prompt_tokens[:3] == tuple(b"abc")
    assert len(choice.done.prompt_tokens) == choice.done.usage.prompt_tokens == 4
    assert choice.text == ("abc" * 40)[:100]
    assert choice.done.timeline.dropped_tokens > 0


def test_unary_operations(client: Client) -> None:
    assert client.call(core.Tokenize(core.TextPrompt("hé"), with_pieces=True)) == core.Tokens(
        (104, 195, 169, 259), (b"h", b"\xc3", b"\xa9", b"")
    )
    assert client.call(core.Detokenize((104, 195, 169))) == core.Rendered("hé")
    rendered = client.call(core.Render(chat("Hi")))
    assert rendered == core.Rendered("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    with pytest.raises(BadRequest, match="Token 300"):
        client.call(core.Detokenize((300,)))


def test_flush_gives_back_what_was_retained(client: Client) -> None:
    client.run(chat("something to keep"))
    retained = client.ping().kv_used_tokens
    assert retained > 0
    assert client.call(core.FlushCache()) == core.Flushed(retained)
    assert client.ping().kv_used_tokens == 0


def test_an_engine_error_ends_its_request_and_no_more(client: Client) -> None:
    with pytest.raises(EngineError, match="failed"):
        client.run(chat("[[error]]"))
    assert client.run(chat("on")).choices[0].text == "on"


# ---- workers of their own --------------------------------------------------------------------------------------------


def test_nothing_comes_after_a_cancel() -> None:
    with Client(decode_tokens_per_second=500) as client:
        number = client.submit(chat("[[count:2000]]"))
        assert isinstance(client.receive(), core.Step)
        client.send(core.Cancel(number))
        client.send(core.Cancel(999))
        other = client.submit(chat("next"))
        seen_other = False
        while not seen_other:
            message = client.receive()
            assert isinstance(message, core.Step)
            seen_other = any(number_ == other for number_, _ in message.events)
        client.finish(other)
        assert client.ping().running == 0


def test_a_waiting_request_is_cancelled_too() -> None:
    with Client(n_parallel=1, decode_tokens_per_second=300) as client:
        running = client.submit(chat("[[count:2000]]"))
        client.receive()  # two preparers work at once, so only now is it sure who came first
        waiting = client.submit(chat("never"))
        client.send(core.Cancel(waiting))
        client.send(core.Cancel(running))
        other = client.submit(chat("next"))
        heard: set[int] = set()
        while other not in heard:
            message = client.receive()
            assert isinstance(message, core.Step)
            heard |= {number for number, _ in message.events}
        assert waiting not in heard
        assert client.ping().waiting == 0


def test_the_pool_filled_by_eight_streams_yields_the_same_text() -> None:
    with Client(n_ctx=512, kv_tokens=700, n_parallel=8, prefill_tokens=64) as client:
        alone = [client.run(chat(f"[[count:{n}]]")).choices[0].text for n in range(60, 68)]
        client.call(core.FlushCache())
        numbers = [client.submit(chat(f"[[count:{n}]]")) for n in range(60, 68)]
        found = client.events(numbers)
        together = ["".join(e.text for e in found[n] if isinstance(e, core.Text)) for n in numbers]
        assert together == alone
        dones = [event for number in numbers for event in found[number] if isinstance(event, core.Done)]
        assert [done.reason for done in dones] == ["stop"] * 8
        assert client.ping().preemptions > 0


def test_a_stalled_step_is_seen_in_the_counters() -> None:
    with Client() as client:
        client.submit(chat("[[hang]]"))
        client.submit(chat("waits"))
        stats = client.ping()
        while not stats.running:
            stats = client.ping()
        assert client.ping().steps == stats.steps
        client.process.kill()


@pytest.mark.parametrize(
    ("command", "status"), [("[[crash:SIGSEGV]]", -signal.SIGSEGV), ("[[crash:after=3]]abcdef", -signal.SIGKILL)]
)
def test_crashes_on_command(command: str, status: int) -> None:
    with Client() as client:
        number = client.submit(chat(command))
        with contextlib.suppress(WorkerGone):
            while True:
                message = client.receive()
                assert isinstance(message, core.Step)
                assert {n for n, _ in message.events} == {number}
        assert client.process.wait(5) == status


def test_loading_reports_progress() -> None:
    with Client(load_seconds=0.5) as client:
        assert client.loading == sorted(client.loading)
        assert len(client.loading) > 1


def test_a_load_that_fails_is_refused_with_its_reason() -> None:
    with Client(load=False) as client:
        client.load("fake", "", load_error="The file is damaged.")
        refused = client.ready()
        assert isinstance(refused, core.Refused)
        error = refused.error.exception()
        assert isinstance(error, LoadFailed)
        assert error.message == "The file is damaged."
        with pytest.raises(WorkerGone):
            client.receive()


def test_an_unknown_provider_is_refused() -> None:
    with Client(load=False) as client:
        client.load("nonsense", "")
        refused = client.ready()
        assert isinstance(refused, core.Refused)
        assert "nonsense" in refused.error.message


def test_the_first_frame_must_be_load() -> None:
    with Client(load=False) as client:
        client.send(core.Cancel(1))
        client.submit(chat("x"))
        client.send(core.Call(1, core.FlushCache()))
        refused = client.receive()
        assert isinstance(refused, core.Refused)
        assert isinstance(refused.error.exception(), ProtocolError)


def test_a_load_that_hangs_still_answers_pings_and_ends_with_its_parent() -> None:
    with Client(load=False) as client:
        client.load("fake", "", load_hang=True)
        assert client.ping().steps == 0
    assert client.process.returncode == 0


def test_bytes_that_are_no_frame_end_the_worker() -> None:
    with Client() as client:
        client.send_bytes(b"\xff" * 64)
        with pytest.raises(WorkerGone):
            client.receive()
        assert client.process.wait(5) == 2


def test_a_prompt_longer_than_a_frame_arrives_in_pieces() -> None:
    with Client(n_ctx=1 << 22, n_batch=1 << 22, prefill_tokens=1 << 22, n_parallel=1) as client:
        text = "x" * (pipe.PIECE_BYTES + 5)
        number = client.submit(core.TextPrompt(text + "[[say:ok]]"))
        assert client.finish(number).choices[0].text == "ok"


def test_eof_ends_the_worker_at_once_even_in_a_hanging_step() -> None:
    with Client() as client:
        client.submit(chat("[[hang]]"))
        while not client.ping().running:
            pass
    assert client.process.returncode == 0


def test_closing_mid_stream_leaves_no_process() -> None:
    client = Client(decode_tokens_per_second=100)
    client.submit(chat("[[count:1000]]"))
    client.receive()
    client.close()
    assert client.process.returncode == 0
    with contextlib.suppress(WorkerGone, queue.Empty):
        while True:
            client.receive(1)


def test_an_error_crosses_the_pipe_as_its_own_kind() -> None:
    with Client(n_ctx=64) as client, pytest.raises(ContextLengthExceeded) as caught:
        client.run(core.TextPrompt("x" * 100))
    assert (caught.value.limit_tokens, caught.value.prompt_tokens) == (64, 101)
