"""The fake provider's own log, read as what happened to each request: what the server measured is held against it.

A request is known by the length of its prompt, which no other request of the test has.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Computed:
    """One step's part in a request."""

    start_ns: int
    end_ns: int
    tokens: int
    drawn: int
    batch_size: int
    """Sequences that decoded in that step."""


@dataclass
class Witnessed:
    """What the provider did for a request."""

    encoded: tuple[int, int] | None = None
    prompt: list[Computed] = field(default_factory=list)
    decoding: list[Computed] = field(default_factory=list)

    @property
    def first_token_ns(self) -> int:
        """The end of the step that drew it."""
        return self.prompt[-1].end_ns

    @property
    def last_token_ns(self) -> int:
        """The end of the last step."""
        return [*self.prompt, *self.decoding][-1].end_ns

    @property
    def drawn(self) -> int:
        """Tokens."""
        return sum(step.drawn for step in (*self.prompt, *self.decoding))


def size(path: Path) -> int:
    """Of a log, which need not be there yet."""
    return path.stat().st_size if path.exists() else 0


def entries(path: Path, after: int = 0) -> list[dict[str, Any]]:
    """The lines of a log, from a byte on."""
    if size(path) <= after:
        return []
    with path.open("rb") as file:
        file.seek(after)
        return [json.loads(line) for line in file.read().splitlines()]


def spans(path: Path, did: str) -> list[tuple[int, int]]:
    """When something was done."""
    return [(entry["start_ns"], entry["end_ns"]) for entry in entries(path) if entry["did"] == did]


def witnessed(path: Path) -> dict[int, Witnessed]:
    """By the length of the prompt."""
    found: dict[int, Witnessed] = {}
    in_slot: dict[int, Witnessed] = {}
    for entry in entries(path):
        match entry["did"]:
            case "encode":
                seen = found.setdefault(entry["tokens"], Witnessed())
                seen.encoded = entry["start_ns"], entry["end_ns"]
            case "add":
                in_slot[entry["slot"]] = found.setdefault(entry["tokens"], Witnessed())
            case "release":
                in_slot.pop(entry["slot"], None)
            case "step":
                for slot, step in _parts(entry, in_slot):
                    seen = in_slot[slot]
                    began = bool(seen.prompt and seen.prompt[-1].drawn)
                    (seen.decoding if began else seen.prompt).append(step)
    return found


def _parts(entry: dict[str, Any], in_slot: dict[int, Witnessed]) -> Iterator[tuple[int, Computed]]:
    began = [slot for slot, *_ in entry["feeds"] if (seen := in_slot[slot]).prompt and seen.prompt[-1].drawn]
    for slot, _, tokens, drafts, drawn in entry["feeds"]:
        yield slot, Computed(entry["start_ns"], entry["end_ns"], tokens - drafts, drawn, len(began))
