"""Why a request was slow: which phases took longer than they should have. Pure."""

from typing import Final, Literal

import msgspec

from heylook_llm.server.performance.phases import PHASES, Phase, phases
from heylook_llm.server.performance.record import Finished
from heylook_llm.server.performance.usual import Line, Usual, computed, followers
from heylook_llm.slowness import is_cause

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

_NOTHING: Final = Line(0.0)
"""What is expected of waiting: it is a cause however usual it is."""


class Cause(msgspec.Struct, frozen=True):
    """A phase that took longer than it should have."""

    phase: Phase
    spent_ns: int
    expected_ns: int
    spread: float

    @property
    def excess_ns(self) -> int:
        """How much longer."""
        return self.spent_ns - self.expected_ns


class Verdict(msgspec.Struct, frozen=True):
    """The word for the largest cause, and every cause, largest first."""

    word: Word
    causes: tuple[Cause, ...]
    judged: tuple[Phase, ...]
    """Phases that could be compared; the others' usual time isn't known."""
    samples: int


def verdict(request: Finished, typical: Usual) -> Verdict:
    """Why a request took as long as it did."""
    spent = phases(request.timeline)
    expected = _expected(request, typical)
    total = sum(spent.values())
    causes = [
        Cause(phase, spent[phase], round(ns), spread) for phase, (ns, spread) in expected.items() if phase in spent
    ]
    found = sorted(
        (cause for cause in causes if is_cause(cause.spent_ns, cause.expected_ns, total, cause.spread)),
        key=lambda cause: -cause.excess_ns,
    )
    word: Word = f"{found[0].phase}-bound" if found else "normal"  # type: ignore[assignment]  # one word for each phase
    return Verdict(word, tuple(found), tuple(expected), typical.samples)


def _expected(request: Finished, typical: Usual) -> dict[Phase, tuple[float, float]]:
    """Nanoseconds that each phase should take, and their spread; without those of which nothing is known."""
    tokens: dict[Phase, int] = {"prefill": max(1, computed(request)), "decode": max(0, followers(request))}
    lines: dict[Phase, Line] = {"load": _NOTHING, "queue": _NOTHING, **typical.lines}
    found = ((phase, lines[phase], lines[phase].at(tokens.get(phase, 0))) for phase in PHASES if phase in lines)
    return {phase: (ns, line.spread) for phase, line, ns in found if ns is not None}
