"""Whether a run is worse than another by more than is allowed: conditions such as `ttft.p95>+5%`. Pure."""

import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from heylook_llm.bench.compare import shown
from heylook_llm.bench.metrics import Report, Row
from heylook_llm.bench.quantity import Quantity, parse, value_of
from heylook_llm.errors import ConfigError

Verdict = Literal["kept", "regressed", "not shown", "unknown"]
GOOD: Final = 0
REGRESSION: Final = 1
UNTRUSTWORTHY: Final = 3
"""Exit statuses."""
_UNITS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_FORM: Final = re.compile(r"\s*([^<>=\s]+)\s*(<=|>=|<|>)\s*([+-]?)\s*([0-9]+(?:\.[0-9]*)?)\s*(%|[a-z/]*)\s*")


class Condition(msgspec.Struct, frozen=True):
    """What is a failure."""

    text: str
    quantity: Quantity
    above: bool
    """Whether a value above the limit fails; else one below it."""
    amount: float
    """In the quantity's unit, or a share of the base's value."""
    relative: Literal["share", "difference"] | None
    """To what the base has; None: the amount itself is the limit."""

    def limit(self, base: float | None) -> float | None:
        """Which value fails beyond; None: the base's is unknown."""
        if self.relative is None:
            return self.amount
        if base is None:
            return None
        return base * (1 + self.amount) if self.relative == "share" else base + self.amount


class Judgement(msgspec.Struct, frozen=True):
    """One condition for one row."""

    condition: str
    row: str
    base: float | None
    new: float | None
    limit: float | None
    verdict: Verdict
    why: str


class Gate(msgspec.Struct, frozen=True):
    """All judgements, and the exit status."""

    judgements: list[Judgement]
    flagged: list[str]
    status: int


def condition(text: str) -> Condition:
    """`ttft.p95>+5%`: more than 5 % above the base; `e2e.p99>2s`: above 2 s. Raises ConfigError: what is wrong."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"'{text[:80]}' is no condition: a measure, > or <, and a number, as ttft.p95>+5%, output<-3%, e2e.p99>2s "
            "or errors>1%."
        )
    name, compared, sign, number, unit = match.groups()
    quantity = parse(name)
    signed = float(number) * (-1 if sign == "-" else 1)
    relative: Literal["share", "difference"] | None = None
    if sign:
        relative = "share" if unit == "%" else "difference"
    scale = _of_percent(text, quantity, bool(sign)) if unit == "%" else _scale(text, quantity, unit)
    return Condition(text.strip(), quantity, compared.startswith(">"), signed * scale, relative)


def _of_percent(text: str, quantity: Quantity, signed: bool) -> float:
    if not signed and quantity.unit != "share":
        raise ConfigError(f"'{text}': per cent of what? Write +5% for so much above the base, -5% for so much below.")
    return 0.01


def _scale(text: str, quantity: Quantity, unit: str) -> float:
    if quantity.unit == "ms":
        if unit not in _UNITS:
            raise ConfigError(f"'{text}': {quantity} is a time; give it a unit: us, ms or s.")
        return _UNITS[unit]
    if unit and unit != quantity.unit:
        raise ConfigError(f"'{text}': {quantity} is in {quantity.unit}, not in {unit}.")
    return 1.0


def judge(base: Report, new: Report, conditions: Sequence[Condition], strict: bool = False) -> Gate:
    """Whether the new run keeps every condition, for every row that both have.

    A value beyond its limit is a regression only where the difference is shown: of overlapping intervals nothing is
    judged, unless `strict`. What can't be judged at all, as a percentile of too few samples or a row that one of them
    lacks, makes the gate untrustworthy rather than good.
    """
    judgements = [
        _judged((base.run, before), (new.run, after), one, strict)
        for before, after in _matched(base, new)
        for one in conditions
    ]
    flagged = [f"{report.name or report.run}: {flag}" for report in (base, new) for flag in report.flags]
    verdicts = {one.verdict for one in judgements}
    if "regressed" in verdicts:
        status = REGRESSION
    elif "unknown" in verdicts or not judgements or flagged:
        status = UNTRUSTWORTHY
    else:
        status = GOOD
    return Gate(judgements, flagged, status)


def _matched(base: Report, new: Report) -> list[tuple[Row, Row | None]]:
    """The base's rows, each with the new run's: of the same target and model, else the only one measured alike."""
    found: list[tuple[Row, Row | None]] = []
    for row in base.rows:
        alike = [other for other in new.rows if other.axes == row.axes]
        same = [other for other in alike if (other.target, other.model) == (row.target, row.model)]
        alone = [other for other in base.rows if other.axes == row.axes] == [row] and len(alike) == 1
        found.append((row, same[0] if same else alike[0] if alone else None))
    return found


def _judged(base: tuple[str, Row], new: tuple[str, Row | None], one: Condition, strict: bool) -> Judgement:
    label = f"{base[1].target} {base[1].model} {base[1].scenario} {base[1].load} {base[1].level:g} {base[1].cache}"
    before = value_of(base[1], one.quantity)
    if new[1] is None:
        return Judgement(one.text, label, before.value, None, None, "unknown", "the new run has no such row")
    after = value_of(new[1], one.quantity)
    limit = one.limit(before.value)
    if after.value is None or limit is None:
        who = "the new run" if after.value is None else "the base"
        n = after.n if after.value is None else before.n
        why = f"{who} has no {one.quantity}{'' if n is None else f' (n = {n})'}"
        return Judgement(one.text, label, before.value, after.value, limit, "unknown", why)
    verdict, why = _verdict(base, (new[0], new[1]), one, limit, strict)
    return Judgement(one.text, label, before.value, after.value, limit, verdict, why)


def _verdict(
    base: tuple[str, Row], new: tuple[str, Row], one: Condition, limit: float, strict: bool
) -> tuple[Verdict, str]:
    after = value_of(new[1], one.quantity)
    value = after.value or 0.0
    if not (value > limit if one.above else value < limit):
        return "kept", "within the limit"
    if strict:
        return "regressed", "beyond the limit"
    if one.relative is None:
        bound = after.interval.low if one.above else after.interval.high
        surely = bound is not None and (bound > limit if one.above else bound < limit)
    else:
        surely = shown(base, new, one.quantity) == ("higher" if one.above else "lower")
    if surely:
        return "regressed", "beyond the limit, and the difference is shown"
    return (
        "not shown",
        "beyond the limit, but within what chance does: no difference shown; more requests would show one",
    )
