"""When a phase is why a request was slow: one rule, by which server and bench judge alike. Pure."""

from typing import Final

LEAST_NS: Final = 5_000_000
LEAST_SHARE: Final = 0.1
LEAST_EXCESS: Final = 0.2
LEAST_SPREADS: Final = 4.0
"""A phase is a cause if it took longer than expected by at least so much, such a share of the request's E2E, such a
share of what was expected, and so many times the share by which other requests are off it."""
LEAST_OTHERS: Final = 20
"""Other requests until what is usual is known."""


def is_cause(spent_ns: float, expected_ns: float, whole_ns: float, spread: float = 0.0) -> bool:
    """Whether a phase that took so long made a request of `whole_ns` slow; `spread` is a share of what was expected."""
    excess = max(LEAST_EXCESS, LEAST_SPREADS * spread)
    return spent_ns - expected_ns >= max(LEAST_NS, LEAST_SHARE * whole_ns, excess * expected_ns)
