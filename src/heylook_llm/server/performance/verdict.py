"""Why a request was slow: which phases took longer than they should have. Pure."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from heylook_llm.server.performance.phases import PHASES, Phase, phases
from heylook_llm.server.performance.record import Finished

Word = Literal[
    "parse-bound",
    "load-bound",
    "queue-bound",
    "prepare-bound",
    "prefill-bound",
    "decode-bound",
    "flush-bound",
    "normal",
]

LEAST_NS: Final = 5_000_000
LEAST_SHARE: Final = 0.05
LEAST_EXCESS: Final = 0.2
"""A phase is a cause if it took longer than expected by at least so much, such a share of the request's E2E, and such a
share of what was expected."""
LEAST_SAMPLES: Final = 20
"""Other requests of a model until what is usual for it is known."""
_NEVER_USUAL: Final[tuple[Phase, ...]] = ("load", "queue")
"""Waiting is a cause however usual it is."""


class Usual(msgspec.Struct, frozen=True):
    """What other requests of the same model took, as medians: of fixed phases whole, of the others per token."""

    samples: int = 0
    fixed_ns: dict[Phase, float] = {}
    """parse, prepare, flush."""
    prefill_token_ns: float | None = None
    """Per computed prompt token."""
    decode_token_ns: float | None = None
    """Per token after the first."""


class Cause(msgspec.Struct, frozen=True):
    """A phase that took longer than it should have."""

    phase: Phase
    spent_ns: int
    expected_ns: int

    @property
    def excess_ns(self) -> int:
        """How much longer."""
        return self.spent_ns - self.expected_ns


class Verdict(msgspec.Struct, frozen=True):
    """The word for the largest cause, and every cause, largest first."""

    word: Word
    causes: tuple[Cause, ...]
    judged: tuple[Phase, ...]
    """Phases that could be compared; the others' usual time isn't known yet."""
    samples: int


def usual(others: Sequence[Finished]) -> Usual:
    """What is usual among requests that ended well."""
    ended = [(other, phases(other.timeline)) for other in others if other.outcome == "done"]
    if len(ended) < LEAST_SAMPLES:
        return Usual(len(ended))
    fixed: tuple[Phase, ...] = ("parse", "prepare", "flush")
    return Usual(
        len(ended),
        {phase: _median([spent.get(phase, 0) for _, spent in ended]) or 0.0 for phase in fixed},
        _median([spent["prefill"] / count for other, spent in ended if spent and (count := _computed(other)) > 0]),
        _median([spent["decode"] / count for other, spent in ended if spent and (count := _followers(other)) > 0]),
    )


def verdict(request: Finished, typical: Usual) -> Verdict:
    """Why a request took as long as it did."""
    spent = phases(request.timeline)
    expected = _expected(request, typical)
    total = sum(spent.values())
    causes = [
        Cause(phase, spent[phase], round(expected[phase])) for phase in PHASES if phase in spent and phase in expected
    ]
    found = sorted((cause for cause in causes if _matters(cause, total)), key=lambda cause: -cause.excess_ns)
    word: Word = f"{found[0].phase}-bound" if found else "normal"  # type: ignore[assignment]  # one word for each phase
    return Verdict(word, tuple(found), tuple(phase for phase in PHASES if phase in expected), typical.samples)


def _matters(cause: Cause, total_ns: int) -> bool:
    return cause.excess_ns >= max(LEAST_NS, LEAST_SHARE * total_ns, LEAST_EXCESS * cause.expected_ns)


def _expected(request: Finished, typical: Usual) -> dict[Phase, float]:
    """Nanoseconds that each phase should take; without those that nothing is known of."""
    expected: dict[Phase, float] = dict.fromkeys(_NEVER_USUAL, 0.0)
    expected |= typical.fixed_ns
    if typical.prefill_token_ns is not None:
        expected["prefill"] = typical.prefill_token_ns * max(1, _computed(request))
    if typical.decode_token_ns is not None:
        expected["decode"] = typical.decode_token_ns * max(0, _followers(request))
    return expected


def _computed(request: Finished) -> int:
    return request.first.prompt_tokens - request.first.cached_tokens


def _followers(request: Finished) -> int:
    return request.first.output_tokens - 1


def _median(values: Sequence[float]) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
