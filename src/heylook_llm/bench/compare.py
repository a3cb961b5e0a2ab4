"""Runs, models and machines side by side: a rank only where it is shown. Pure."""

from collections.abc import Sequence
from typing import Final

import msgspec

from heylook_llm.bench.metrics import Report, Row
from heylook_llm.bench.quantity import Quantity, Value, parse, rounds_of, value_of
from heylook_llm.bench.statistics import Difference, difference, paired, paired_difference

USUAL: Final = ("ttft.p50", "ttft.p95", "tpot.p50", "e2e.p50", "e2e.p95", "output", "requests", "errors")
NOT_SHOWN: Final = "no difference shown"


class Side(msgspec.Struct, frozen=True):
    """One of the things compared."""

    label: str
    run: str
    target: str
    model: str
    found: Value


class Line(msgspec.Struct, frozen=True):
    """One number of rows that were measured alike."""

    scenario: str
    load: str
    level: float
    cache: str
    task: str
    quantity: str
    unit: str
    better: str
    sides: list[Side]
    best: list[int]
    """Places of the sides that nothing else is shown to be better than; empty: nothing is known of two."""
    words: str


class Comparison(msgspec.Struct, frozen=True):
    """All lines, and what was left out."""

    lines: list[Line]
    alone: list[str]
    """Rows that have nothing to be compared with."""
    flagged: dict[str, list[str]]
    """Runs whose numbers may not be trusted, and why."""
    specs: list[str]
    """Different hashes of specs: one, if all runs are repeats of one experiment."""


def compare(reports: Sequence[Report], wanted: Sequence[str] = USUAL) -> Comparison:
    """Every quantity of every combination that two rows or more have. Raises ConfigError for names that are none."""
    quantities = [parse(name) for name in wanted]
    groups: dict[tuple[str, str, str, float, str], list[tuple[Report, Row]]] = {}
    for report in reports:
        for row in report.rows:
            groups.setdefault(row.axes, []).append((report, row))
    return Comparison(
        lines=[_line(group, quantity) for group in groups.values() if len(group) > 1 for quantity in quantities],
        alone=[_axes(group[0][1]) for group in groups.values() if len(group) == 1],
        flagged={report.name or report.run: report.flags for report in reports if report.flags},
        specs=sorted({report.spec_hash for report in reports}),
    )


def shown(first: tuple[str, Row], second: tuple[str, Row], wanted: Quantity) -> Difference:
    """How the second differs from the first: by rounds, if one run measured both in turn, else by intervals.

    Each is given with its run's id.
    """
    if first[0] == second[0]:
        pairs = list(zip(rounds_of(first[1], wanted), rounds_of(second[1], wanted), strict=False))
        if len(pairs) == first[1].repeats == second[1].repeats and (found := paired(pairs)) is not None:
            return paired_difference(found)
    return difference(value_of(first[1], wanted).interval, value_of(second[1], wanted).interval)


def labels(group: Sequence[tuple[Report, Row]]) -> list[str]:
    """What tells rows apart: run, target and model, without what they have in common."""
    parts = [(report.name or report.run[-8:], row.target, row.model) for report, row in group]
    varied = [place for place in range(3) if len({part[place] for part in parts}) > 1] or [2]
    return [" ".join(part[place] for place in varied) for part in parts]


def _axes(row: Row) -> str:
    return f"{row.model} {row.scenario} {row.load} {row.level:g} {row.cache}"


def _line(group: Sequence[tuple[Report, Row]], wanted: Quantity) -> Line:
    names = labels(group)
    sides = [
        Side(name, report.run, row.target, row.model, value_of(row, wanted))
        for name, (report, row) in zip(names, group, strict=True)
    ]
    best = _best(group, sides, wanted)
    row = group[0][1]
    return Line(
        row.scenario,
        row.load,
        row.level,
        row.cache,
        row.task,
        str(wanted),
        wanted.unit,
        wanted.better,
        sides,
        best,
        _words(sides, best, wanted),
    )


def _best(group: Sequence[tuple[Report, Row]], sides: Sequence[Side], wanted: Quantity) -> list[int]:
    known = [place for place, side in enumerate(sides) if side.found.value is not None]
    if len(known) < 2:
        return []
    worse: Difference = "higher" if wanted.better == "lower" else "lower"
    keyed = [(group[place][0].run, group[place][1]) for place in range(len(group))]
    leader = (min if wanted.better == "lower" else max)(known, key=lambda place: sides[place].found.value or 0.0)
    return [place for place in known if place == leader or shown(keyed[leader], keyed[place], wanted) != worse]


def _words(sides: Sequence[Side], best: Sequence[int], wanted: Quantity) -> str:
    known = [side for side in sides if side.found.value is not None]
    if len(known) < 2:
        return "–"
    if len(best) == len(known):
        return NOT_SHOWN
    if len(best) > 1:
        return f"{NOT_SHOWN} between {', '.join(sides[place].label for place in best)}; the others are behind"
    leader = sides[best[0]]
    second = sorted(
        (side.found.value or 0.0 for side in known if side is not leader), reverse=wanted.better != "lower"
    )[0]
    value = leader.found.value or 0.0
    if not second:
        return f"{leader.label} has the {'lowest' if wanted.better == 'lower' else 'highest'}"
    apart = abs(value / second - 1) * 100
    return f"{leader.label} is {apart:.0f} % {'lower' if value < second else 'higher'} than the next"
