"""What a dialect is to the bench."""

from typing import Any, Protocol

import msgspec

from heylook_llm.bench.scenario import Task
from heylook_llm.bench.timeline import Event, Framing, Piece


class Wanted(msgspec.Struct, frozen=True):
    """A request, free of dialect."""

    task: Task
    model: str
    prompt: str
    output_tokens: int
    force_length: bool
    """Whether the target is known to take ignore_eos."""
    options: dict[str, Any]


class Dialect(Protocol):
    """A request's bytes, and what its answer's events say."""

    framing: Framing

    def path(self, task: Task) -> str:
        """Where to POST, below the target's root. Raises ConfigError for a task that it lacks."""

    def headers(self, key: str | None) -> dict[str, str]:
        """What goes with each request, the key among it."""

    def body(self, wanted: Wanted) -> dict[str, Any]:
        """The request's JSON."""

    def read(self, event: Event) -> Piece | None:
        """As timeline.Reader."""
