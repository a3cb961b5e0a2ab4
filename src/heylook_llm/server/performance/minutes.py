"""What requests and the machine did minute by minute: sums that add up to any window. Pure."""

from typing import Final

import msgspec

from heylook_llm import core
from heylook_llm.server.performance.measures import between
from heylook_llm.server.performance.phases import phases
from heylook_llm.server.performance.record import Finished

MINUTE_SECONDS: Final = 60.0


class Minute(msgspec.Struct, array_like=True):
    """Sums over one minute of one model. A request counts where it ended, its tokens where they were drawn."""

    requests: int = 0
    errors: int = 0
    e2e_ns: int = 0
    phase_ns: dict[str, int] = {}
    """Together `e2e_ns`; `images`, of those that had some, stands apart from `prepare`."""
    phase_counts: dict[str, int] = {}
    """Requests that spent time in it."""
    first_token_ns: int = 0
    """Received to first token, of `first_tokens` requests."""
    first_tokens: int = 0
    output_tokens: float = 0.0
    decode_ns: int = 0
    """First to last token of first choices, which drew `decode_tokens` in it."""
    decode_tokens: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0

    def join(self, other: "Minute") -> None:
        """Add another's sums."""
        for name in self.__struct_fields__:
            others = getattr(other, name)
            if isinstance(others, dict):
                mine = getattr(self, name)
                for key, value in others.items():
                    mine[key] = mine.get(key, 0) + value
            elif others:
                setattr(self, name, getattr(self, name) + others)


class Resources(msgspec.Struct, frozen=True, array_like=True):
    """What the machine did in one minute, as means; None: unknown."""

    memory_used_bytes: int
    cpu_percent: float | None = None
    gpu_percent: float | None = None
    gpu_used_bytes: int | None = None
    watts: float | None = None
    models_resident_bytes: int | None = None


def minutes_of(row: Finished) -> dict[int, Minute]:
    """What one request adds to which minutes."""
    ended = int(row.finished_at // MINUTE_SECONDS)
    found = {minute: Minute(output_tokens=count) for minute, count in _drawn(row).items()}
    found.setdefault(ended, Minute()).join(_whole(row))
    return found


def _whole(row: Finished) -> Minute:
    times, spent = row.timeline, _spent(row.timeline)
    first = between(times.received_ns, times.first_token_ns)
    return Minute(
        requests=1,
        errors=int(row.outcome == "error"),
        e2e_ns=sum(spent.values()),
        phase_ns=spent,
        phase_counts=dict.fromkeys((phase for phase, ns in spent.items() if ns), 1),
        first_token_ns=first or 0,
        first_tokens=int(first is not None),
        decode_ns=between(times.first_token_ns, times.last_token_ns) or 0,
        decode_tokens=max(0, row.first.output_tokens - 1),
        draft_tokens=row.usage.draft_tokens,
        accepted_tokens=row.usage.accepted_tokens,
    )


def _spent(times: core.Timeline) -> dict[str, int]:
    """Where its time went; images apart from the rest of preparing."""
    spent: dict[str, int] = {phase: ns for phase, ns in phases(times).items()}  # noqa: C416 (mypy: keys of str)
    looked = (between(times.parsed_ns, times.images_ns) or 0) + (between(times.tokenized_ns, times.encoded_ns) or 0)
    if spent and looked:
        spent["images"] = min(looked, spent["prepare"])
        spent["prepare"] -= spent["images"]
    return spent


def _drawn(row: Finished) -> dict[int, float]:
    """In which minutes its tokens were drawn, taken to have come evenly."""
    times, count = row.timeline, row.usage.output_tokens
    first, closed = times.first_token_ns, times.closed_ns
    last = times.all_tokens_ns if times.all_tokens_ns is not None else times.last_token_ns
    if not count or first is None or last is None or closed is None:
        return {}
    end = row.finished_at - max(0, closed - last) / 1e9
    return spread(end - (last - first) / 1e9, end, count)


def spread(begin: float, end: float, count: float) -> dict[int, float]:
    """A count that grew evenly between two times (seconds), by minutes."""
    if end <= begin:
        return {int(end // MINUTE_SECONDS): float(count)}
    found: dict[int, float] = {}
    for minute in range(int(begin // MINUTE_SECONDS), int(end // MINUTE_SECONDS) + 1):
        inside = min(end, (minute + 1) * MINUTE_SECONDS) - max(begin, minute * MINUTE_SECONDS)
        if inside > 0:
            found[minute] = count * inside / (end - begin)
    return found
