"""Where the time of one request went: its E2E, cut into phases without gap or overlap."""

from typing import Final, Literal, get_args

from heylook_llm import core
from heylook_llm.server.performance.measures import between, load_ns

Phase = Literal["parse", "load", "queue", "prepare", "prefill", "decode", "flush"]

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
_ENDS: Final[tuple[tuple[str, Phase], ...]] = (
    ("parsed_ns", "parse"),
    ("ready_ns", "prepare"),
    ("submitted_ns", "queue"),
    ("queued_ns", "prepare"),
    ("admitted_ns", "queue"),
    ("first_token_ns", "prefill"),
    ("last_token_ns", "decode"),
    ("closed_ns", "flush"),
)
"""The stamp that ends each interval, and what the request did in it."""


def phases(times: core.Timeline) -> dict[Phase, int]:
    """Nanoseconds in each phase, together the E2E; empty while that is unknown.

    What a request that ended early was doing last takes the rest: whoever leaves the queue has spent it queueing.
    """
    if times.received_ns is None or times.closed_ns is None:
        return {}
    spent = dict.fromkeys(PHASES, 0)
    at, pending = times.received_ns, None
    for name, phase in _ENDS:
        stamp = _last_token(times) if name == "last_token_ns" else getattr(times, name)
        pending = pending or phase
        if stamp is not None:
            stamp = min(max(stamp, at), max(times.closed_ns, at))
            spent[pending] += stamp - at
            at, pending = stamp, None
    loading = min(spent["queue"], _before_submission(times))
    spent["queue"] -= loading
    spent["load"] = loading
    return spent


def _before_submission(times: core.Timeline) -> int:
    """The load that it waited for; of one that never came to an end for it, nothing is known."""
    loaded = load_ns(times) or 0
    lease = between(times.ready_ns, times.submitted_ns if times.submitted_ns is not None else times.closed_ns)
    return min(loaded, lease or 0)


def server_timing(times: core.Timeline) -> str:
    """The header Server-Timing, in milliseconds: what is known when it is sent, nothing else.

    A stream's goes out with its first byte, when only the server's own stamps are known.
    """
    load = load_ns(times)
    lease = between(times.ready_ns, times.submitted_ns)
    spent = {
        "parse": between(times.received_ns, times.parsed_ns),
        "checks": between(times.parsed_ns, times.ready_ns),
        "load": load,
        "lease": None if lease is None else max(0, lease - (load or 0)),
        "prepare": between(times.submitted_ns, times.queued_ns),
        "batch": between(times.queued_ns, times.admitted_ns),
        "prefill": between(times.admitted_ns, times.first_token_ns),
        "decode": between(times.first_token_ns, _last_token(times)),
        "first-byte": between(times.received_ns, times.first_byte_ns),
        "total": between(times.received_ns, times.closed_ns),
    }
    return ", ".join(f"{name};dur={ns / 1e6:.3f}" for name, ns in spent.items() if ns is not None)


def _last_token(times: core.Timeline) -> int | None:
    return times.last_token_ns if times.all_tokens_ns is None else times.all_tokens_ns
