"""What every dialect gives to the one path of generation: a question to ask the model, and how to word its answers."""

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from heylook_llm import core
from heylook_llm.errors import BadRequest, HeylookError

Headers = tuple[tuple[str, str], ...]


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


class Exchange(Question, Protocol):
    """A question that the model answers by generating. Pure: bytes out, time passed in."""

    stream_media_type: str

    def adapt(self, info: core.ModelInfo) -> core.Request:
        """The Request for the model that will answer it. Raises UnsupportedFeature where the model lacks a need."""
        ...

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


SAMPLERS: Final[dict[str, tuple[float, float]]] = {
    "mirostat": (0, 2),
    "mirostat_tau": (0, 1000),
    "mirostat_eta": (0, 1),
    "top_n_sigma": (-1000, 1000),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "dynatemp_range": (0, 5),
    "dynatemp_exponent": (0, 10),
    "dry_multiplier": (0, 100),
    "dry_base": (1, 100),
    "dry_allowed_length": (0, 2**31 - 1),
    "dry_penalty_last_n": (-1, 2**31 - 1),
    "adaptive_target": (-1, 1),
    "adaptive_decay": (0, 0.99),
}
"""Fields of Sampling that every dialect calls by llama.cpp's names, and from where to where they go."""
_OFF_BELOW_ZERO: Final = ("top_n_sigma", "adaptive_target")
MAX_BREAKERS: Final = 16
MAX_BREAKER_CHARACTERS: Final = 40
"""llama.cpp cuts a longer one."""


def samplers(fields: object, outside: Callable[[str, float, float], BadRequest]) -> dict[str, Any]:
    """Those fields of a body; `outside` words the error of one that is beyond its bounds. Raises it."""
    given: dict[str, Any] = {}
    for name, (low, high) in SAMPLERS.items():
        value = getattr(fields, name)
        if value is not None and not low <= value <= high:
            raise outside(name, low, high)
        given[name] = max(0.0, value) if value is not None and name in _OFF_BELOW_ZERO else value
    breakers = getattr(fields, "dry_sequence_breakers", None)
    if breakers is not None:
        if len(breakers) > MAX_BREAKERS or max(map(len, breakers), default=1) > MAX_BREAKER_CHARACTERS:
            raise outside("dry_sequence_breakers", 0, MAX_BREAKERS)
        given["dry_sequence_breakers"] = tuple(filter(None, breakers))
    return given


def truncation_headers(dropped_tokens: int) -> Headers:
    """How many tokens of what was asked were left out, so that the rest fits."""
    return (("x-heylook-truncated", str(dropped_tokens)),) if dropped_tokens else ()


def retry_headers(error: HeylookError) -> Headers:
    """Retry-After in whole seconds where the error passes by itself; `x-should-retry: false` where it will repeat.

    The official SDKs retry every status from 500 on, three attempts each, unless that header says no.
    """
    if error.retry_after_seconds is not None:
        return (("retry-after", str(max(1, round(error.retry_after_seconds)))),)
    if error.status == 503:
        return (("retry-after", "1"),)
    return (("x-should-retry", "false"),) if error.status >= 500 else ()
