"""What is kept of one finished request: who asked, how it ended, when each thing happened. Seldom its texts."""

import time
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

import msgspec

from heylook_llm import core, hardware
from heylook_llm.server.performance.energy import EnergyShare

Outcome = Literal["done", "error", "cancelled", "disconnected"]
Dialect = Literal["openai", "ollama", "anthropic"]

MAX_LABEL_CHARACTERS: Final = 128
LABELS: Final = {b"x-client-tag": "client", b"x-client-request-id": "client_request_id", b"x-run-id": "run_id"}


class Moment(NamedTuple):
    """A point in time by two clocks: the wall's, which is set now and then, and the machine's, which only goes on."""

    wall: float
    """Seconds since 1970."""
    boot: float
    """Seconds since the machine booted."""
    clock: str
    """Of which boot that is (hardware.clock_id)."""


def moment() -> Moment:
    """Now."""
    return Moment(time.time(), hardware.boot_seconds(), hardware.clock_id())


class Labels(msgspec.Struct, frozen=True):
    """What a client calls itself, its request and the run that the request belongs to; None: it didn't say."""

    client: str | None = None
    client_request_id: str | None = None
    run_id: str | None = None


class Texts(msgspec.Struct, frozen=True, array_like=True):
    """What was asked and answered, kept only where the operator wants it (--record-text)."""

    prompt: str
    answer: str


class Finished(msgspec.Struct, frozen=True):
    """One request that ended. Its Timeline is of choice 0, with the server's stamps."""

    id: str
    model: str
    """The model's id, whichever of its names was asked for."""
    route: str
    outcome: Outcome
    status: int
    """What the client saw; 200 with an error in the stream when `outcome` isn't done."""
    error: str | None
    """The code of the error that ended it."""
    finished_at: float
    """Wall clock, seconds since 1970."""
    timeline: core.Timeline
    usage: core.Usage
    """Of all choices."""
    first: core.Usage = core.Usage()
    """Of choice 0, as the Timeline."""
    choices: int = 1
    provider: str | None = None
    stream: bool = False
    labels: Labels = Labels()
    clock: str = ""
    """Which monotonic clock its stamps are of (hardware.clock_id)."""
    finished_boot: float = 0.0
    """Seconds from that boot to its end: how old it is, whatever the wall clock was set to meanwhile."""
    energy: EnergyShare | None = None
    """None: nothing was counted."""
    texts: Texts | None = None
    """None: they weren't kept."""

    @property
    def dialect(self) -> Dialect:
        """Whose words it was asked in."""
        if self.route.startswith("/v1/messages"):
            return "anthropic"
        return "ollama" if self.route.startswith("/api/") else "openai"


def labels_of(headers: Iterable[tuple[bytes, bytes]]) -> Labels:
    """The labels among a request's headers; what can't be shown becomes a question mark, what is too long is cut."""
    found = {
        LABELS[name]: "".join(c if " " <= c <= "~" else "?" for c in value.decode("latin-1")[:MAX_LABEL_CHARACTERS])
        for name, value in headers
        if name in LABELS and value
    }
    return Labels(**found) if found else _NONE


_NONE: Final = Labels()
