"""The benchmark beside other servers: what it reads of their streams, what it computes, and rounds of ours."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from benchmarks.peers import report
from benchmarks.peers.client import Failed, Played, Sample, play, read
from benchmarks.peers.measures import GOALS, Goal, figures, ratios, spread
from benchmarks.peers.servers import OURS, Running, Server
from benchmarks.peers.workloads import WORKLOADS, Author, Chat, Plan, Sizes

from tests.serving import Running as Serving
from tests.serving import running

SIZES = Sizes(one=5, many=4, streams=40, late=2, short=3)

# Streams of these servers on the bundled model, three tokens each, ids and dates shortened.
LLAMA_SERVER = """\
data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"id":"1"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":"The"}}],"id":"1"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" user"}}],"id":"1"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" is"}}],"id":"1"}

data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"id":"1"}

data: {"choices":[],"id":"1","usage":{"completion_tokens":3,"prompt_tokens":26,"total_tokens":29,\
"prompt_tokens_details":{"cached_tokens":7}},"timings":{"cache_n":0,"prompt_n":26,"predicted_n":3}}

data: [DONE]

"""
LLAMA_CPP_SERVER = """\
data: {"id": "1", "choices": [{"index": 0, "delta": {"role": "assistant"}, "logprobs": null, "finish_reason": null}]}

data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "H"}, "logprobs": null, "finish_reason": null}]}

data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "ell"}, "logprobs": null, "finish_reason": null}]}

data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "o"}, "logprobs": null, "finish_reason": null}]}

data: {"id": "1", "choices": [{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "length"}]}

data: [DONE]

"""
MLX_LM_SERVER = """\
: keepalive 24/26

: keepalive 26/26

data: {"id": "1", "choices": [{"index": 0, "finish_reason": null, "delta": {"role": "assistant", "reasoning": "The"}}]}

data: {"id": "1", "choices": [{"index": 0, "finish_reason": null, "delta": {"role": "assistant", "content": " user"}}]}

data: {"id": "1", "choices": [{"index": 0, "finish_reason": null, "delta": {"role": "assistant", "content": " is"}}]}

data: {"id": "1", "choices": [{"index": 0, "finish_reason": "length", "delta": {"role": "assistant"}}]}

data: {"id": "1", "choices": [], "usage": {"prompt_tokens": 26, "completion_tokens": 3, "total_tokens": 29, \
"prompt_tokens_details": {"cached_tokens": 0}}}

data: [DONE]

"""


def pieces_of(stream: str, every: int = 1) -> list[tuple[float, bytes]]:
    """The stream in pieces of so many lines, one a second from second 1 on."""
    lines = stream.encode().splitlines(keepends=True)
    joined = [b"".join(lines[at : at + every]) for at in range(0, len(lines), every)]
    return [(float(second), piece) for second, piece in enumerate(joined, 1)]


def sample_of(pieces: list[tuple[float, bytes]], max_tokens: int = 3) -> Sample:
    return read(pieces, sent=0.5, status=200, max_tokens=max_tokens)


@pytest.mark.unit
def test_a_stream_is_read_as_its_server_writes_it() -> None:
    of_llama_server = sample_of(pieces_of(LLAMA_SERVER))
    assert of_llama_server == Sample(0.5, (3.0, 5.0, 7.0), 26, 7, 3, counted=True)
    assert of_llama_server.ttft == 2.5  # the role alone is no text
    assert of_llama_server.gaps == [2.0, 2.0]
    assert sample_of(pieces_of(LLAMA_CPP_SERVER)) == Sample(0.5, (3.0, 5.0, 7.0), None, None, 3, counted=False)
    assert sample_of(pieces_of(MLX_LM_SERVER)) == Sample(0.5, (5.0, 7.0, 9.0), 26, 0, 3, counted=True)


@pytest.mark.unit
def test_an_event_counts_when_its_line_is_complete() -> None:
    whole = LLAMA_SERVER.encode()
    for cut in range(1, len(whole)):
        pieces = [(1.0, whole[:cut]), (2.0, whole[cut:])]
        complete = [b'"delta":{"role' not in line and b"content" in line for line in whole[:cut].split(b"\n")[:-1]]
        assert sample_of(pieces).stamps.count(1.0) == sum(complete)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"length"', '"stop"'), "ended with 'stop'"),
        (lambda text: text.replace('"completion_tokens":3', '"completion_tokens":2'), "counts 2 tokens"),
        (lambda text: 'data: {"error": {"message": "out of memory"}}\n\n' + text, "out of memory"),
        (lambda text: text.replace("content", "nothing"), "without text"),
    ],
)
def test_an_answer_of_another_length_is_no_sample(change: Callable[[str], str], said: str) -> None:
    with pytest.raises(Failed, match=said):
        sample_of(pieces_of(change(LLAMA_SERVER)))
    with pytest.raises(Failed, match="status 503: busy"):
        read([(1.0, b"busy")], sent=0.5, status=503, max_tokens=3)


@pytest.mark.unit
def test_figures_of_a_round() -> None:
    streams = [
        Sample(0.0, (1.0, 2.0, 3.0, 8.0), 10, 0, 4, counted=True),
        Sample(0.0, (2.0, 3.0, 9.0, 9.5), 10, 5, 4, counted=True),
    ]
    late = Sample(3.5, (7.5, 9.0), 100, None, 2, counted=True)
    found = figures(Played(streams, late))
    assert found.tokens_per_second == pytest.approx(10 / 9.5)
    assert found.ttft == 1.5
    assert found.gap == 1.0
    assert (found.late_ttft, found.late_gap) == (4.0, 6.0)
    assert (found.prompt_tokens, found.cached_tokens, found.output_tokens) == (120, 5, 10)
    assert found.pieces_per_token == 1.0
    early = figures(Played(streams, late._replace(sent=0.5, stamps=(1.5, 9.0))))
    assert early.late_gap == 1.0  # the gaps of 5 and 6 seconds come after it


@pytest.mark.unit
def test_ratios_are_taken_round_by_round() -> None:
    def one(speed: float) -> Sample:
        return Sample(0.0, (10 / speed,), 1, 0, 10, counted=True)

    ours = [figures(Played([one(speed)], None)) for speed in (10.0, 20.0, 30.0)]
    theirs = [figures(Played([one(speed)], None)) for speed in (10.0, 10.0, 60.0)]
    assert ratios(ours, theirs, "tokens_per_second") == pytest.approx((1.0, 0.5, 2.0))
    assert ratios(ours, theirs, "late_gap") is None
    assert spread([None, None]) is None
    assert Goal("x", "one", "ttft", 0.3, at_least=False).met(0.3)
    assert not Goal("x", "one", "tokens_per_second", 1.05, at_least=True).met(1.04)


@pytest.mark.unit
def test_no_prompt_begins_like_another() -> None:
    starts = set[str]()
    for number in range(3):
        for workload in WORKLOADS:
            plan = workload.plan(Author(f"seed {workload.name} {number}"), SIZES)
            for chat in [*plan.chats, *([plan.late] if plan.late else [])]:
                starts.add((chat.system or chat.user)[:15])
    assert len(starts) == 3 * (1 + 8 + 1 + 8 + 32)
    assert Author("a").text(2500) == Author("a").text(2500)
    assert len(Author("a").text(2500).split()) == 2500


@pytest.mark.integration
async def test_a_reply_without_length_ends_with_its_connection() -> None:
    body = MLX_LM_SERVER.encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        target = Running(Server("mlx_lm.server", "1", (), "m", {}), port)
        played = await play(Plan([Chat("hello", 3)]), target)
        assert played.samples[0].prompt_tokens == 26
        body = body[: body.index(b'"length"')]
        with pytest.raises(Failed, match=r"mlx_lm.server: the answer ended with None"):
            await play(Plan([Chat("hello", 3)]), target)


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Ours over a fake model that talks on and on."""
    models = """
default_model: measured
models:
  - {id: measured, provider: fake, config: {n_ctx: 20000, n_parallel: 8, decode_tokens_per_second: 200}}
"""
    with running(models, tmp_path_factory.mktemp("fake")) as server:
        yield server


@pytest.mark.integration
def test_a_round_of_ours_becomes_a_page(fake: Serving, tmp_path: Path) -> None:
    target = Running(Server(OURS, "1", ("serve", "{port}"), "measured", {"ignore_eos": True}), fake.port)
    peer = Server("llama-server", "b1", ("llama-server",), "measured", {})
    contest = report.Contest("fake", "no weights", [target.server, peer])
    for workload in WORKLOADS:
        played = asyncio.run(play(workload.plan(Author(workload.name), SIZES), target))
        contest.add(workload.name, OURS, played)
        contest.add(workload.name, "llama-server", played)
        tokens = sum(sample.output_tokens for sample in played.samples)
        expected = {"one": 5, "eight": 8 * 4, "shared": 8 * 4, "late": 7 * 40, "short": 32 * 3}[workload.name]
        assert tokens == expected
        assert all(sample.counted and sample.prompt_tokens for sample in played.samples)
        assert (played.late is not None) == (workload.name == "late")
    results = report.Results([contest], threads=2, rounds=1, seconds=60.0)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured -->\nold\n<!-- end of measured -->\nafter\n")
    report.put_into(page, report.markdown(results))
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    for goal in GOALS:
        verdict = "met" if goal.met(1.0) else "**missed**"
        line = next((line for line in text.splitlines() if goal.peer in line and f" {goal.bound:g} |" in line), "")
        assert line.endswith(f"| 1.00 (1.00-1.00) | {verdict} |") == (goal.peer == "llama-server")
    assert len(json.loads(report.as_json(results))["contests"][0]["rounds"]) == 2 * len(WORKLOADS)


@pytest.mark.integration
def test_a_server_that_refuses_ends_the_round_with_its_words(fake: Serving) -> None:
    target = Running(Server(OURS, "1", (), "unknown", {}), fake.port)
    with pytest.raises(Failed, match=r"heylookllm: status 404: .*unknown"):
        asyncio.run(play(Plan([Chat("hello", 3)]), target))
