"""The bodies and frames that OpenAI's, Anthropic's and Ollama's own documentation shows, beside ours.

Each body has to be understood whole, and what the documentation shows of an answer has to be in ours, in its order;
ids, times and counts are masked. What ours has beside it, and what it lacks, is named here.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import _streaming as anthropic_streaming
from httpx._decoders import LineDecoder
from openai import _streaming as openai_streaming

from heylook_llm import core
from heylook_llm.server.wire import anthropic, ollama, openai
from tests.server.scripted import INFO
from tests.wire.asking import ARRIVAL, WALL
from tests.worker.tiers import LONG

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parent.parent / "golden" / "official"
MS = 1_000_000
PARSERS: dict[str, Callable[..., Any]] = {
    "openai_chat": openai.parse_chat,
    "openai_completions": openai.parse_completion,
    "anthropic_messages": anthropic.parse_message,
    "/api/chat": ollama.parse_chat,
    "/api/generate": ollama.parse_generate,
}
MASKED = {
    *("id", "created", "created_at", "model", "system_fingerprint", "signature", "context", "usage"),
    *("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"),
}
"""What can't be the same: of these the kind is compared, and the keys."""
BESIDE = {
    *("timings", "reasoning_content", "system_fingerprint"),  # of local servers; sent always
    *("cached_tokens", "prompt_tokens_details", "completion_tokens_details", "reasoning_tokens"),
    *(
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "output_tokens_details",
        "service_tier",
        "input_tokens",
    ),
    *("type", "usage", "stop_sequence"),  # Anthropic's example of a call leaves these out
    *("done_reason", "index", "id", "refusal"),  # and older examples these
}
"""What ours says beside the documentation's examples."""
LACKING = {
    "annotations": "nothing here cites",
    "audio_tokens": "there is no sound",
    "service_tier": "there is one",
}
"""What ours doesn't say, and why."""
CASES: list[tuple[str, dict[str, Any]]] = [
    (path.stem, case)
    for path in sorted(FOLDER.glob("*.json"))
    for case in json.loads(path.read_text(encoding="utf-8"))["cases"]
]
STREAMS = [(stem, case) for stem, case in CASES if "frames" in case]


def asked(stem: str, case: dict[str, Any]) -> Any:
    """The documentation's body as an exchange."""
    made = PARSERS[case.get("route", stem)](json.dumps(case["body"]).encode(), ARRIVAL)
    made.adapt(INFO)
    assert made.asked.ignored == ()
    return made


def events(case: dict[str, Any]) -> list[core.Event]:
    """What a model said, to be answered like that."""
    made: list[core.Event] = [core.Progress(0, 9, 9)]
    calls = 0
    for kind, *said in case["said"]:
        match kind:
            case "call":
                name, *arguments = said
                made.append(core.ToolCallStart(0, calls, f"call_{calls}", name))
                made += (core.ToolCallArgs(0, calls, piece) for piece in arguments)
                calls += 1
            case "thinking":
                made.append(core.Reasoning(0, said[0], (1,)))
            case _:
                made.append(core.Text(0, said[0], (1,), logprobs(*said)))
    usage = core.Usage(prompt_tokens=9, output_tokens=7)
    stamps = core.Timeline(
        received_ns=MS,
        submitted_ns=2 * MS,
        admitted_ns=2 * MS,
        first_token_ns=3 * MS,
        last_token_ns=9 * MS,
        closed_ns=10 * MS,
    )
    return [*made, core.Done(0, case["ends"], usage, stamps, prompt_tokens=(1, 2))]


def logprobs(text: str, own: float | None = None, *others: list[Any]) -> tuple[core.TokenLogprob, ...]:
    if own is None:
        return ()
    top = [core.TopLogprob(at, word.encode(), value) for at, (word, value) in enumerate([[text, own], *others])]
    return (core.TokenLogprob(0, text.encode(), own, tuple(top)),)


def alike(ours: Any, theirs: Any, place: str = "") -> None:
    """Assert that ours says what theirs does."""
    match theirs:
        case dict():
            assert isinstance(ours, dict), place
            for name in theirs.keys() - LACKING.keys():
                assert name in ours, f"{place}.{name} is lacking"
                if name in MASKED:
                    kinds(ours[name], theirs[name], f"{place}.{name}")
                else:
                    alike(ours[name], theirs[name], f"{place}.{name}")
            beside = ours.keys() - theirs.keys() - BESIDE
            assert not beside, f"{place} has {beside} beside"
        case list():
            assert isinstance(ours, list), place
            assert len(ours) == len(theirs), f"{place}: {ours}"
            for at, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                alike(one, other, f"{place}[{at}]")
        case _:
            assert ours == theirs, place


def kinds(ours: Any, theirs: Any, place: str) -> None:
    """Assert that both are of a kind: what is masked is compared by that."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in theirs.keys() - LACKING.keys():
            kinds(ours[name], theirs[name], f"{place}.{name}")
    elif theirs is not None:
        assert type(ours) is type(theirs), f"{place}: {ours!r} and {theirs!r}"


def named(value: Any) -> str:
    return value if isinstance(value, str) else str(value["name"])


@pytest.mark.parametrize(("stem", "case"), CASES, ids=named)
def test_what_the_documentation_shows_is_what_we_say(stem: str, case: dict[str, Any]) -> None:
    made = asked(stem, case)
    if "idle" in case:
        alike(json.loads(made.idle_reply(WALL)), case["idle"])
    elif "reply" in case:
        fold = core.Fold()
        for event in events(case):
            fold.feed(event)
        alike(json.loads(made.reply(fold.result(), WALL)), case["reply"])
    else:
        alike(frames(stem, streamed(made, case)), [frame for frame in case["frames"] if not is_filler(frame)])


def streamed(made: Any, case: dict[str, Any]) -> bytes:
    return b"".join(made.feed(event, WALL) for event in events(case)) + bytes(made.end())


def is_filler(frame: dict[str, Any]) -> bool:
    """Whether a frame says nothing: a ping, or the empty piece that Anthropic begins a call's arguments with."""
    return frame.get("type") == "ping" or frame.get("delta", {}).get("partial_json") == ""


def frames(stem: str, data: bytes) -> list[Any]:
    """What a stream's frames hold; that of SSE has each event's name, or [DONE] at its end."""
    text = data.decode()
    if stem == "ollama":
        return [json.loads(line) for line in text.splitlines()]
    events = re.findall(r"(?:event: (\w+)\n)?data: (.*)\n\n", text)
    assert "".join(f"event: {name}\ndata: {held}\n\n" if name else f"data: {held}\n\n" for name, held in events) == text
    if stem == "anthropic_messages":
        assert all(json.loads(held)["type"] == name for name, held in events)
    else:
        assert events.pop() == ("", "[DONE]")
    return [json.loads(held) for _, held in events]


# ---- however a stream is cut on its way ------------------------------------------------------------------------------


def heard(stem: str, pieces: Iterator[bytes]) -> list[tuple[str | None, str]]:
    """What the official client makes of bytes as they come."""
    if stem == "ollama":  # as httpx, whose lines ollama-python reads
        lines = LineDecoder()
        found = [line for piece in pieces for line in lines.decode(piece.decode("latin-1"))] + lines.flush()
        return [(None, json.dumps(json.loads(line.encode("latin-1")))) for line in found]
    decoder: Any = (anthropic_streaming if stem == "anthropic_messages" else openai_streaming).SSEDecoder()
    return [(event.event, event.data) for event in decoder.iter_bytes(pieces)]


@pytest.mark.parametrize(("stem", "case"), STREAMS, ids=named)
def test_a_stream_cut_at_every_byte_is_the_same_to_its_client(stem: str, case: dict[str, Any]) -> None:
    data = streamed(asked(stem, case), case)
    whole = heard(stem, iter([data]))
    assert len(whole) == len(frames(stem, data)) + (stem.startswith("openai"))
    for at in range(1, len(data), 1 if LONG else 17):
        assert heard(stem, iter([data[:at], data[at:]])) == whole, at
    assert heard(stem, iter([data[at : at + 1] for at in range(len(data))])) == whole


@pytest.mark.parametrize("name", ["raw", "summary"])
def test_a_stream_of_responses_cut_at_every_byte_is_the_same_to_its_client(name: str) -> None:
    data = (FOLDER.parent / "responses" / f"{name}.sse").read_bytes()
    whole = heard("openai_responses", iter([data]))
    assert [json.loads(held)["sequence_number"] for _, held in whole] == list(range(data.count(b"event: ")))
    for at in range(1, len(data), 1 if LONG else 499):
        assert heard("openai_responses", iter([data[:at], data[at:]])) == whole, at
