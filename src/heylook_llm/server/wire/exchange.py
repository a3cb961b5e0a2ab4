"""What every dialect gives to the one path of generation: a question to ask the model, and how to word its answers."""

import itertools
from collections.abc import Iterable
from typing import Final, Protocol

import msgspec

from heylook_llm import core
from heylook_llm.errors import BadRequest, HeylookError
from heylook_llm.server.wire.pictures import Picture, Sizing

Headers = tuple[tuple[str, str], ...]
MAX_IGNORED_NAMES: Final = 64
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"


class Reply(msgspec.Struct, frozen=True):
    """A whole HTTP reply."""

    body: bytes
    status: int = 200
    media_type: str = "application/json"
    headers: Headers = ()


class Bounds(msgspec.Struct, frozen=True):
    """What a body may ask for at most (config.Limits of this server)."""

    max_n: int = 16
    max_stop: int = 16
    max_tools: int = 128
    max_stop_bytes: int = 256
    max_logit_bias: int = 1024
    max_prompts: int = 256
    max_inputs: int = 8192

    def stops(self, given: Iterable[str], param: str) -> tuple[str, ...]:
        """The strings that end an answer, empty ones left out. Raises BadRequest for too many or too long ones."""
        stops = tuple(text for text in given if text)
        if len(stops) > self.max_stop:
            raise BadRequest(f"{param} has {len(stops)} strings; the limit is {self.max_stop}.", param=param)
        if any(len(text.encode()) > self.max_stop_bytes for text in stops):
            raise BadRequest(f"A string of {param} is longer than {self.max_stop_bytes} bytes.", param=param)
        return stops

    def check_tools(self, declared: tuple[core.Tool, ...]) -> None:
        """Raises BadRequest for too many tools, or two of a name."""
        if len(declared) > self.max_tools:
            raise BadRequest(f"{len(declared)} tools are more than the limit of {self.max_tools}.", param="tools")
        names = [tool.name for tool in declared]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadRequest(f"The tool '{twice}' is declared twice.", param="tools")


class Arrival(msgspec.Struct, frozen=True):
    """What the server knows of a request before it reads the body."""

    id: str
    """`req_` and 32 random hexadecimal digits."""
    received_ns: int
    """Monotonic."""
    created: int
    """Wall clock, seconds since 1970."""
    bounds: Bounds = Bounds()
    default_model: str | None = None

    @property
    def random(self) -> str:
        """The random part of the id."""
        return self.id.rpartition("_")[2]


class Asked(msgspec.Struct, frozen=True):
    """A body, understood."""

    request: core.Request
    stream: bool
    ignored: tuple[str, ...] = ()
    """Keys that the x-heylook-ignored header names."""
    needs: tuple[str, ...] = ()
    """Capabilities that the model must have, of core.ModelInfo.capabilities."""
    keep_alive: object = None
    """As given: seconds, a Go duration, or None for "leave it"."""
    pictures: tuple[Picture, ...] = ()
    """The images that stand unread in the request's prompts, in their order."""
    sizing: Sizing = Sizing()


class Question(Protocol):
    """One request in its dialect: what was asked, and how an error is told instead of an answer."""

    asked: Asked

    def error(self, error: HeylookError) -> Reply:
        """An error instead of a reply."""
        ...


class Inquiry(Question, Protocol):
    """A question that one operation of the model answers. Pure."""

    def operation(self, info: core.ModelInfo) -> core.Operation:
        """What to ask the model that will answer it. Raises UnsupportedFeature where the model lacks a need."""
        ...

    def reply(self, answer: core.Answer, timeline: core.Timeline) -> Reply:
        """The whole reply. The Timeline is the answer's, with the server's stamps."""
        ...


class Adapting(Question, Protocol):
    """A question about a prompt, which may hold images."""

    def adapt(self, info: core.ModelInfo) -> core.Request:
        """The Request for the model that will answer it. Raises UnsupportedFeature where the model lacks a need."""
        ...


class Counting(Adapting, Protocol):
    """A question of how many tokens a prompt is. Pure."""

    def operation(self, info: core.ModelInfo) -> core.Tokenize:
        """What to ask the model. Raises UnsupportedFeature where the model lacks a need."""
        ...

    def reply(self, answer: core.Tokens) -> Reply:
        """The count."""
        ...


class Exchange(Adapting, Protocol):
    """A question that the model answers by generating. Pure: bytes out, time passed in."""

    stream_media_type: str
    unheeded: tuple[str, ...]
    """Fields that the model, once it is known, can't honour and the dialect lets pass."""

    def feed(self, event: core.Event, wall_ns: int) -> bytes:
        """The bytes of an event in a stream; empty where it has none. `wall_ns`: nanoseconds since 1970."""
        ...

    def end(self) -> bytes:
        """What follows the last choice's Done."""
        ...

    def silence(self, wall_ns: int) -> bytes:
        """Bytes that keep a stream alive and mean nothing."""
        ...

    def failure(self, error: HeylookError) -> bytes:
        """An error within a stream that has begun; it is the stream's last word."""
        ...

    def reply(self, result: core.Result, wall_ns: int) -> bytes:
        """The whole reply."""
        ...


def truncation_headers(dropped_tokens: int) -> Headers:
    """How many tokens of what was asked were left out, so that the rest fits."""
    return (("x-heylook-truncated", str(dropped_tokens)),) if dropped_tokens else ()


def ignored_header(names: Iterable[str]) -> Headers:
    """The header that names the keys of a body that had no effect."""
    some = itertools.islice(names, MAX_IGNORED_NAMES)
    shown = ", ".join("".join(c if 32 < ord(c) < 127 and c != "," else "?" for c in name[:64]) for name in some)
    return (("x-heylook-ignored", shown[:1024]),) if shown else ()


def retry_headers(error: HeylookError) -> Headers:
    """Retry-After in whole seconds where the error passes by itself; `x-should-retry: false` where it will repeat.

    The official SDKs retry 408, 409 and every status from 500 on, three attempts each, unless that header says no.
    """
    if error.retry_after_seconds is not None:
        return (("retry-after", str(max(1, round(error.retry_after_seconds)))),)
    if error.status == 503:
        return (("retry-after", "1"),)
    return (("x-should-retry", "false"),) if error.status >= 500 or error.status in (408, 409) else ()
