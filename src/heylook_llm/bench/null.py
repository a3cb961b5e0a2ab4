"""The null target: a server that answers with tokens on a plan, and logs when it wrote each of them.

python -m heylook_llm.bench.null [--ttft-ms 200] [--itl-ms 20] [--tokens 50] [--phase own|spread|together]
    prints its port; ends with its stdin

Truth is its log (GET /log, a line of JSON for each request), never its settings, which no server meets exactly. Every
chunk is made beforehand, so that its own work is a write.
"""

import argparse
import asyncio
import json
import math
import sys
import time
from typing import Any, Final, Literal, get_args

import httptools

_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
MODELS: Final = json.dumps({"object": "list", "data": [{"id": "null", "object": "model"}]}).encode()
MOST_BODY_BYTES: Final = 64 << 20
Phase = Literal["own", "spread", "together"]
GOLDEN: Final = (math.sqrt(5) - 1) / 2
"""Multiples of it, less their whole parts, lie as far apart as numbers can that come one by one."""


class Plan:
    """What an answer is: its chunks and their gaps, in seconds.

    `phase` says how the answers' tokens lie to each other: as their requests came, spread evenly over a gap, or all at
    the same moments, as a server's do that decodes its requests in one batch.
    """

    def __init__(self, ttft: float, itl: float, tokens: int, phase: Phase = "own") -> None:
        self.ttft = ttft
        self.itl = itl
        self.tokens = tokens
        self.phase = phase
        self.first = _chunk({"role": "assistant", "content": ""}, None)
        self.token = _chunk({"content": " null"}, None)
        self.finish = _chunk({}, "length")

    def first_due(self, begun: float, number: int) -> float:
        """When the first token of that answer is due, by the clock of `begun`."""
        due = begun + self.ttft
        if self.phase == "spread":
            return due + self.itl * (number * GOLDEN % 1)
        if self.phase == "together" and self.itl > 0:
            return math.ceil(due / self.itl) * self.itl
        return due

    def last(self, prompt_tokens: int, tokens: int) -> bytes:
        """The end of a stream of so many tokens, with its usage."""
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": prompt_tokens + tokens}
        return self.finish + _event({"choices": [], "usage": usage}) + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Log:
    """What was answered: lines of JSON, in the order in which answers ended."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.begun = 0


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, plan: Plan, log: Log) -> None:
        self._plan = plan
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._identity = ""
        self._body = b""
        self._alarm: asyncio.TimerHandle | None = None
        self._open: tuple[int, int, list[int]] | None = None
        """Of an answer that goes on: when its request came, the tokens asked for, and when each was written."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The protocol's calls, and those of its parser."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._note(cut=True)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._path, self._identity, self._body = b"", "", b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-client-request-id":
            self._identity = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MOST_BODY_BYTES:
            self._transport.close()

    def on_message_complete(self) -> None:
        received = time.monotonic_ns()
        match self._path:
            case b"/v1/chat/completions" | b"/v1/completions":
                self._answer(received)
            case b"/v1/models":
                self._whole(MODELS)
            case b"/log":
                self._whole(b"".join(self._log.lines))
            case b"/health":
                self._whole(b'{"status": "ok"}')
            case _:
                self._whole(b'{"error": {"message": "the null target has no such route"}}', b"404 Not Found")

    def _whole(self, body: bytes, status: bytes = b"200 OK") -> None:
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        self._transport.write(head + body)

    def _answer(self, received: int) -> None:
        asked, prompt_tokens = self._asked()
        stamps: list[int] = []
        self._open = received, asked, stamps
        first_due = self._plan.first_due(self._loop.time(), self._log.begun)
        self._log.begun += 1

        def write() -> None:
            place = len(stamps)
            stamps.append(time.monotonic_ns())
            if place == asked:
                self._transport.write(self._plan.last(prompt_tokens, asked))
                self._note()
                return
            self._transport.write(_HEAD + self._plan.first + self._plan.token if place == 0 else self._plan.token)
            due = first_due + self._plan.itl * (place + 1 if place + 1 < asked else place)
            self._alarm = self._loop.call_at(due, write)

        self._alarm = self._loop.call_at(first_due, write)

    def _asked(self) -> tuple[int, int]:
        """How many tokens are wanted, and how many words the prompt has."""
        try:
            body: dict[str, Any] = json.loads(self._body)
            text = body.get("prompt") or body["messages"][-1]["content"]
            tokens = body.get("max_tokens") or body.get("max_completion_tokens") or self._plan.tokens
            return max(1, int(tokens)), len(str(text).split())
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return self._plan.tokens, 0

    def _note(self, cut: bool = False) -> None:
        """`written`: one stamp for each token, then one for the end, which an answer that was `cut` doesn't have."""
        if self._open is None:
            return
        received, asked, stamps = self._open
        self._open = None
        told = {"id": self._identity, "received": received, "asked": asked, "written": stamps, "cut": cut}
        self._log.lines.append(json.dumps(told).encode() + b"\n")


def _chunk(delta: dict[str, str], finish: str | None) -> bytes:
    return _event({"id": "null", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _event(value: dict[str, Any]) -> bytes:
    return _framed(b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n")


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def serve(plan: Plan, port: int) -> None:
    """Serve on loopback until stdin ends; port 0: on a free one."""
    log = Log()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(plan, log), "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    server.close()


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description="A target that answers on a plan and logs what it wrote when.")
    options.add_argument("--ttft-ms", type=float, default=200.0)
    options.add_argument("--itl-ms", type=float, default=20.0)
    options.add_argument("--tokens", type=int, default=50)
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--phase", choices=get_args(Phase), default="own", help="how answers lie to each other")
    given = options.parse_args()
    asyncio.run(serve(Plan(given.ttft_ms / 1e3, given.itl_ms / 1e3, given.tokens, given.phase), given.port))


if __name__ == "__main__":
    main()
