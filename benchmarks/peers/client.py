"""The one client of all servers: streamed chats over raw connections, stamped as bytes arrive and read only afterwards.

Servers and client share the machine's cores, so while a round runs the client does as little as it can: it notes when
each piece of a body came, and what the pieces say is looked at when the round is over.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, cast

import httptools

from benchmarks.peers.servers import Running
from benchmarks.peers.workloads import LATE_AFTER_EVENTS, Chat, Plan

CHAT: Final = "/v1/chat/completions"
ANSWER_SECONDS: Final = 900


class Failed(Exception):
    """A server didn't answer a request as it should; the text is what it said."""


class Sample(NamedTuple):
    """One answered request; seconds of the monotonic clock."""

    sent: float
    stamps: tuple[float, ...]
    """When each piece of text came."""
    prompt_tokens: int | None
    """As the server counts them; None: it doesn't say."""
    cached_tokens: int | None
    output_tokens: int
    counted: bool
    """Whether the server counted `output_tokens`; else it only said that the limit ended the answer."""

    @property
    def ttft(self) -> float:
        """Seconds to the first piece of text."""
        return self.stamps[0] - self.sent

    @property
    def gaps(self) -> list[float]:
        """Seconds between pieces of text."""
        return [later - earlier for earlier, later in zip(self.stamps, self.stamps[1:], strict=False)]


class Played(NamedTuple):
    """One round of one server: the answers to the chats sent at once, and to the one that came later."""

    samples: list[Sample]
    late: Sample | None


async def play(plan: Plan, target: Running) -> Played:
    """Send a plan's chats to one server, and read the answers. Raises Failed."""
    replies = [await _connect(target, chat) for chat in plan.chats]
    late: Reply | None = None
    for reply in replies:
        reply.send()
    async with asyncio.timeout(ANSWER_SECONDS):
        if plan.late is not None:
            await asyncio.gather(*(reply.begun(LATE_AFTER_EVENTS) for reply in replies))
            late = await _connect(target, plan.late)
            late.send()
        await asyncio.gather(*(reply.ended for reply in [*replies, *([late] if late else [])]))
    try:
        return Played([reply.read() for reply in replies], late.read() if late else None)
    except Failed as failed:
        raise Failed(f"{target.server.name}: {failed}") from failed


class Reply(asyncio.Protocol):
    """One request on a connection of its own, and the pieces of its reply's body with their stamps."""

    def __init__(self, payload: bytes, max_tokens: int) -> None:
        self.sent = 0.0
        self.status = 0
        self.max_tokens = max_tokens
        self.pieces: list[tuple[float, bytes]] = []
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._payload = payload
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._now = 0.0
        self._events = 0
        self._wanted = 0
        self._begun: asyncio.Future[None] = loop.create_future()

    def send(self) -> None:
        """Write the request; its clock starts."""
        assert self._transport is not None
        self.sent = time.monotonic()
        self._transport.write(self._payload)

    async def begun(self, events: int) -> None:
        """Wait until so many events came, or the end."""
        self._wanted = events
        self._note_begun()
        await asyncio.wait([self._begun, self.ended], return_when=asyncio.FIRST_COMPLETED)

    def read(self) -> Sample:
        """What the whole reply says. Raises Failed."""
        return read(self.pieces, sent=self.sent, status=self.status, max_tokens=self.max_tokens)

    def _note_begun(self) -> None:
        if 0 < self._wanted <= self._events and not self._begun.done():
            self._begun.set_result(None)

    # ---- asyncio.Protocol --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        """Stamp what came."""
        self._now = time.monotonic()
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of a reply that has no length, or one cut short: what came says which."""
        self._end()

    # ---- httptools ---------------------------------------------------------------------------------------------------

    def on_body(self, body: bytes) -> None:
        """A piece."""
        self.pieces.append((self._now, body))
        self._events += body.count(b"data: {")
        self._note_begun()

    def on_message_complete(self) -> None:
        """The whole reply is here."""
        self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.status = self._parser.get_status_code()
            self.ended.set_result(None)
        if self._transport is not None:
            self._transport.close()


async def _connect(target: Running, chat: Chat) -> Reply:
    """A connection of its own that is ready to `send()`."""
    payload = json.dumps(chat.body(target.server.model, target.server.extra)).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer none\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    whole, limit = head.encode() + payload, chat.max_tokens
    _, reply = await loop.create_connection(lambda: Reply(whole, limit), "127.0.0.1", target.port)
    return reply


def read(pieces: list[tuple[float, bytes]], *, sent: float, status: int, max_tokens: int) -> Sample:
    """What a reply's body says that came in these pieces. Raises Failed."""
    if status != 200:
        whole = b"".join(piece for _, piece in pieces)
        raise Failed(f"status {status}: {whole[:300].decode(errors='replace')}")
    stamps: list[float] = []
    usage: dict[str, Any] = {}
    finish = None
    for stamp, event in _events(pieces):
        if "error" in event:
            raise Failed(str(event["error"])[:300])
        usage = event.get("usage") or usage
        for choice in event.get("choices") or ():
            finish = choice.get("finish_reason") or finish
            if _has_text(choice.get("delta") or {}):
                stamps.append(stamp)
    _check(stamps, usage.get("completion_tokens"), finish, max_tokens)
    details = usage.get("prompt_tokens_details") or {}
    prompt, cached = usage.get("prompt_tokens"), details.get("cached_tokens")
    return Sample(sent, tuple(stamps), prompt, cached, max_tokens, counted="completion_tokens" in usage)


def _check(stamps: list[float], counted: int | None, finish: str | None, max_tokens: int) -> None:
    """Raise Failed unless the answer has text and its limit ended it."""
    if finish != "length":
        raise Failed(f"the answer ended with {finish!r} before its {max_tokens} tokens")
    if counted not in (None, max_tokens):
        raise Failed(f"the server counts {counted} tokens in an answer that its limit of {max_tokens} ended")
    if not stamps:
        raise Failed("an answer without text")


def _has_text(delta: dict[str, Any]) -> bool:
    """Whether a chunk carries text: neither a role alone nor an end does."""
    return any(delta.get(name) for name in ("content", "reasoning_content", "reasoning", "tool_calls"))


def _events(pieces: list[tuple[float, bytes]]) -> Iterator[tuple[float, dict[str, Any]]]:
    """The JSON of each server-sent event, with the stamp of the piece that completed its line."""
    rest = b""
    for stamp, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            data = line.strip().removeprefix(b"data:").strip()
            if line.startswith(b"data:") and data != b"[DONE]":
                yield stamp, json.loads(data)
