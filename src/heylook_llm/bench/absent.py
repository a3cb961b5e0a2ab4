"""Why a row lacks a number: unknown is never without its reason. Pure."""

from typing import TYPE_CHECKING, Final

from heylook_llm.bench.measures import MEASURES
from heylook_llm.bench.scenario import WHOLE

if TYPE_CHECKING:
    from heylook_llm.bench.metrics import Row

_OF_TOKENS: Final = frozenset(
    {"ttft", "ttfo", "tpot", "itl", "icl", "stall", "speed", "prefill", "output", "whole_output"}
)
_RATES: Final = ("output", "input", "requests", "whole_output", "whole_requests")
_OF_LENGTH: Final = frozenset({"tpot", "itl", "icl", "stall", "speed"})


def reasons(row: "Row") -> dict[str, str]:
    """Of every measure and number that the row lacks."""
    missing = [name for name in MEASURES if name not in row.measures]
    missing += [name for name in _RATES if getattr(row.rates, name) is None]
    missing += [] if row.error_share is not None else ["errors"]
    missing += [] if row.goodput is not None and row.goodput.share is not None else ["goodput"]
    return {name: _reason(row, name) for name in missing}


def _reason(row: "Row", name: str) -> str:  # noqa: PLR0911 (a table)
    if row.task in WHOLE and name in _OF_TOKENS:
        return f"an answer of {row.task} comes whole and holds no tokens"
    if name == "goodput" and row.goodput is None:
        return "the run states no limits (slo)"
    if not row.counts.measured:
        return _unsent(row)
    if name == "goodput":
        return "no request can be judged by its limits"
    if name == "errors":
        return "no measured request ended"
    if not row.counts.ok:
        return "no measured request ended well"
    if name == "connect":
        return "no measured request opened a connection"
    if name in _OF_LENGTH and row.tokens.out_asked is not None and row.tokens.out_asked <= row.tokens.requests:
        return "answers of one token have no time between tokens"
    if name in MEASURES and MEASURES[name].leaves_out:
        return f"no request has it, without {MEASURES[name].leaves_out}"
    if "e2e" not in row.measures:
        return "no request is in the latencies: see the remarks"
    if name in ("output", "whole_output", "input"):
        return "nobody counted the tokens, or none came in the window"
    return "nothing that it is made of was measured"


def _unsent(row: "Row") -> str:
    reason = next((reason for flag, reason in SKIPPED.items() if flag in row.flags), None)
    return reason or "nothing was sent"


SKIPPED: Final = {
    "beyond-context": "the cell was skipped: its requests are longer than the model's context",
    "cold-not-offered": "the cell was skipped: the target unloads no models when asked",
}
"""By the flag of a cell that was not sent."""
