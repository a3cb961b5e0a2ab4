"""What a dialect is to the bench."""

from typing import Any, Protocol

import msgspec

from heylook_llm.bench.scenario import Task
from heylook_llm.bench.timeline import Reader


class Wanted(msgspec.Struct, frozen=True):
    """A request, free of dialect."""

    task: Task
    model: str
    prompt: str
    output_tokens: int | None
    """None: as many as the target likes."""
    force_length: bool
    """Whether the target is known to take ignore_eos."""
    options: dict[str, Any]
    system: str | None = None
    history: tuple[tuple[str, str], ...] = ()
    """What was asked before in this conversation, and the real answers."""
    documents: tuple[str, ...] = ()
    images: tuple[bytes, ...] = ()
    """PNG."""


def former(wanted: Wanted) -> list[dict[str, Any]]:
    """The messages before the last one, but a system's."""
    return [
        {"role": role, "content": said}
        for asked, answered in wanted.history
        for role, said in (("user", asked), ("assistant", answered))
    ]


class Dialect(Protocol):
    """A request's bytes, and how its answer is read."""

    def path(self, task: Task) -> str:
        """Where to POST, below the target's root. Raises ConfigError for a task that it lacks."""

    def headers(self, key: str | None) -> dict[str, str]:
        """What goes with each request, the key among it."""

    def body(self, wanted: Wanted) -> dict[str, Any]:
        """The request's JSON. Raises ConfigError for what can't be asked there."""

    def reader(self, task: Task) -> Reader:
        """What reads an answer to it."""
