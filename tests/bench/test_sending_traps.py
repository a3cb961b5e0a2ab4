"""The traps that lie in sending: a real sender beside targets that count what came. The others are in test_traps.py."""

import asyncio
import json
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import pytest

from heylook_llm.bench.frames import Begin, Ended, Item, Items, More, Report
from heylook_llm.bench.sample import Phase
from heylook_llm.bench.scenario import Exact
from heylook_llm.bench.sending import SenderProcess
from heylook_llm.bench.timeline import Exchange
from heylook_llm.bench.workload import ASSUMED, Workload
from tests.bench.places import Null, misbehaving, null_target

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
BODY: Final = json.dumps({"messages": [{"role": "user", "content": "a"}], "stream": True}).encode()


@pytest.fixture(scope="module")
def null() -> Iterator[Null]:
    with null_target(ttft_ms=40, itl_ms=10, tokens=5) as it:
        yield it


def sent(
    url: str, requests: int, clients: int, *, warmup: int = 0, duration: float | None = None, drain: float = 30.0
) -> list[Exchange]:
    """What a sender reports of so many requests in a closed loop, each named by its ordinal and the target's port."""

    async def run() -> list[Exchange]:
        begin = Begin(f"{url}/v1/chat/completions", {}, 30.0, drain, clients, duration, warmup)
        phases: list[Phase] = ["warmup" if place < warmup else "measure" for place in range(warmup + requests)]
        items = tuple(Item(place, 0, phase, f"{clients}-{place}", BODY) for place, phase in enumerate(phases))
        exchanges = []
        async with SenderProcess() as sender:
            sender.send(begin)
            while not isinstance(news := await sender.news(), Ended):
                assert news is not None
                if isinstance(news, More):
                    sender.send(Items(items, last=True))
                    items = ()
                elif isinstance(news, Report):
                    exchanges.append(news.exchange)
        return exchanges

    return asyncio.run(run())


def test_05_warm_up_keeps_to_the_clients_and_its_prompts_are_nobody_elses(null: Null) -> None:
    clients, warmup = 3, 6
    reported = sent(null.url, 9, clients, warmup=warmup)
    assert [exchange.phase for exchange in reported].count("warmup") == warmup
    spans = [span for name, span in null.log().items() if name.startswith(f"{clients}-")]
    assert len(spans) == 15
    for start, *_ in spans:
        assert sum(other[0] <= start < other[-1] for other in spans) <= clients
    prompts = [Workload(Exact(50, 5), ASSUMED, "1/run/D(50,5)").prompt(ordinal).text for ordinal in range(15)]
    assert len({text[:20] for text in prompts}) == 15


def test_07_of_requests_that_begin_together_none_waits_for_the_others_to_begin(null: Null) -> None:
    """A client that first begins all and then sends all finds the server slow by the time that this takes it."""
    reported = sent(null.url, 16, 16, warmup=16)
    spans = sorted((one.t_start, one.t_sent or 0) for one in reported if one.phase == "measure")
    assert all(sent_at <= next_start for (_, sent_at), (next_start, _) in pairwise(spans))


def test_08_a_request_whose_connection_died_is_told_and_never_sent_again() -> None:
    """aiohttp sends some again by itself where a connection that was kept open turns out to be closed."""
    came: list[bytes] = []
    stream = b'data: {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'

    def once(connection: socket.socket, head: bytes) -> None:
        came.append(head)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(stream) + stream)
        came.append(connection.recv(1 << 16))  # the second on this connection; it is closed without an answer

    with misbehaving(once) as url:
        reported = sent(url, 4, 1)
    assert [exchange.outcome for exchange in reported] == ["ok", "error", "ok", "error"]
    assert [exchange.error_class for exchange in reported if exchange.outcome == "error"] == ["disconnected"] * 2
    assert len(came) == 4


@pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="an answer can't be sent with its connection's end here")
def test_08_no_request_goes_to_a_connection_that_a_server_closes_behind_its_answers() -> None:
    """llama-server promises to keep a connection and closes it behind the stream: now before the client, now after."""
    came: list[bytes] = []
    answer = b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=5, max=100\r\ncontent-length: 2\r\n\r\nok"

    def closing(connection: socket.socket, head: bytes) -> None:
        came.append(head)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        connection.sendall(answer)
        if len(came) == 1:
            connection.shutdown(socket.SHUT_WR)  # so the answer and the end arrive as one
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
            connection.recv(1 << 16)  # one more on this connection would come too late to be answered

    with misbehaving(closing) as url:
        reported = sent(url, 6, 1)
    assert [exchange.outcome for exchange in reported] == ["ok"] * 6
    assert all(exchange.t_tcp is not None for exchange in reported)
    assert len(came) == 6


def test_09_whatever_the_target_was_asked_is_told_also_what_the_end_cut_off(null: Null) -> None:
    """Four clients for 150 ms, an answer takes 80: what is in flight at the end is cut off at once."""
    reported = sent(null.url, 1000, 4, duration=0.15, drain=0.0)
    outcomes = [exchange.outcome for exchange in reported]
    assert "cut" in outcomes
    assert set(outcomes) <= {"ok", "cut"}
    assert len([name for name in null.log() if name.startswith("4-")]) == len(reported)


def test_14_prompts_are_words_that_hardly_repeat_themselves() -> None:
    """Random tokens defeat speculation, a small corpus said again and again makes it look too good."""
    words = Workload(Exact(2000, 5), ASSUMED, "1/run/D(2000,5)").prompt(0).text.split(" ")
    known = {word for word, _ in ASSUMED.words}
    assert set(words) <= known
    assert len(set(words)) > 0.8 * len(known)
    runs = [tuple(words[place : place + 4]) for place in range(len(words) - 3)]
    assert len(set(runs)) > 0.99 * len(runs)
