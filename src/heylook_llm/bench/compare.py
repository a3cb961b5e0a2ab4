"""Runs, models and machines side by side: a rank only where it is shown. Pure."""

from collections.abc import Collection, Sequence
from typing import Final, Literal

import msgspec

from heylook_llm.bench.metrics import Report, Row
from heylook_llm.bench.quantity import Quantity, Value, parse, rounds_of, value_of, why_unknown
from heylook_llm.bench.statistics import Difference, Interval, Paired, apart, difference, paired, paired_difference
from heylook_llm.errors import ConfigError

USUAL: Final = ("ttft.p50", "ttft.p95", "tpot.p50", "e2e.p50", "e2e.p95", "output", "requests", "errors")
MOST_ROWS: Final = 5000
MOST_SIDES: Final = 100
"""Of one line: each is compared with every other, for each quantity."""
NOT_SHOWN: Final = "no difference shown"


class Apart(msgspec.Struct, frozen=True):
    """How far a side is from the leader, the one with the best value."""

    value: float
    """A share of the leader's value, 0.05 being 5 % above it; where that is 0, in the number's own unit."""
    interval: Interval
    """Where the true one lies: with 95 % by rounds, with 90 % or more by intervals, both of which must hold."""
    relative: bool
    shown: Difference
    by: Literal["rounds", "intervals"]


class Side(msgspec.Struct, frozen=True):
    """One of the things compared."""

    label: str
    run: str
    target: str
    model: str
    found: Value
    rank: int | None = None
    """1 and how many are shown to be better; None where no side of its line is shown to be better than another."""
    apart: Apart | None = None
    """None of the leader itself, and of what is unknown."""
    why: str | None = None
    """Why its number is unknown."""


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
    _bound(groups.values())
    return Comparison(
        lines=[_line(group, quantity) for group in groups.values() if len(group) > 1 for quantity in quantities],
        alone=[_axes(group[0][1]) for group in groups.values() if len(group) == 1],
        flagged={report.name or report.run: report.flags for report in reports if report.flags},
        specs=sorted({report.spec_hash for report in reports}),
    )


def _bound(groups: Collection[Sequence[tuple[Report, Row]]]) -> None:
    """Raises ConfigError for more than can be compared in a while."""
    rows, sides = sum(map(len, groups)), max(map(len, groups), default=0)
    if rows > MOST_ROWS or sides > MOST_SIDES:
        raise ConfigError(
            f"{rows} rows, {sides} of them measured alike, are too many to compare: {MOST_ROWS} and {MOST_SIDES} are "
            "the most. Choose models or scenarios."
        )


def shown(first: tuple[str, Row], second: tuple[str, Row], wanted: Quantity) -> Difference:
    """How the second differs from the first: by rounds, if one run measured both in turn, else by intervals.

    Each is given with its run's id.
    """
    found = _in_turn(first, second, wanted)
    if found is not None:
        return paired_difference(found)
    return difference(value_of(first[1], wanted).interval, value_of(second[1], wanted).interval)


def _in_turn(first: tuple[str, Row], second: tuple[str, Row], wanted: Quantity) -> Paired | None:
    """What the second is to the first, if one run measured both in turn, often enough."""
    if first[0] != second[0]:
        return None
    pairs = list(zip(rounds_of(first[1], wanted), rounds_of(second[1], wanted), strict=False))
    return paired(pairs) if len(pairs) == first[1].repeats == second[1].repeats else None


def labels(group: Sequence[tuple[Report, Row]]) -> list[str]:
    """What tells rows apart: run, target and model, without what they have in common."""
    parts = [(report.name or report.run[-8:], row.target, row.model) for report, row in group]
    varied = [place for place in range(3) if len({part[place] for part in parts}) > 1] or [2]
    return [" · ".join(part[place] for place in varied) for part in parts]


def _axes(row: Row) -> str:
    return f"{row.model} {row.scenario} {row.load} {row.level:g} {row.cache}"


def _line(group: Sequence[tuple[Report, Row]], wanted: Quantity) -> Line:
    names = labels(group)
    sides = [_side(name, report, row, wanted) for name, (report, row) in zip(names, group, strict=True)]
    keyed = [(report.run, row) for report, row in group]
    best = _best(keyed, sides, wanted)
    ranks = _ranks(keyed, sides, wanted)
    sides = [
        msgspec.structs.replace(side, rank=rank, apart=_apart(keyed, sides, place, wanted))
        for place, (side, rank) in enumerate(zip(sides, ranks, strict=True))
    ]
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


def _side(name: str, report: Report, row: Row, wanted: Quantity) -> Side:
    found = value_of(row, wanted)
    why = why_unknown(row, wanted) if found.value is None else None
    return Side(name, report.run, row.target, row.model, found, why=why)


Keyed = tuple[str, Row]
"""A row with its run's id."""


def _best(keyed: Sequence[Keyed], sides: Sequence[Side], wanted: Quantity) -> list[int]:
    known = _known(sides)
    if len(known) < 2:
        return []
    leader = _leader(sides, wanted)
    return [place for place in known if place == leader or not _is_worse(keyed[leader], keyed[place], wanted)]


def _known(sides: Sequence[Side]) -> list[int]:
    return [place for place, side in enumerate(sides) if side.found.value is not None]


def _leader(sides: Sequence[Side], wanted: Quantity) -> int:
    pick = min if wanted.better == "lower" else max
    return pick(_known(sides), key=lambda place: sides[place].found.value or 0.0)


def _is_worse(first: Keyed, second: Keyed, wanted: Quantity) -> bool:
    """Whether the second is shown to be worse than the first."""
    return shown(first, second, wanted) == ("higher" if wanted.better == "lower" else "lower")


def _ranks(keyed: Sequence[Keyed], sides: Sequence[Side], wanted: Quantity) -> list[int | None]:
    known = _known(sides)
    better = [sum(_is_worse(keyed[other], one, wanted) for other in known if keyed[other] is not one) for one in keyed]
    is_ranked = any(better[place] for place in known)
    return [1 + better[place] if is_ranked and place in known else None for place in range(len(sides))]


def _apart(keyed: Sequence[Keyed], sides: Sequence[Side], place: int, wanted: Quantity) -> Apart | None:
    found = sides[place].found
    if found.value is None or place == (leader := _leader(sides, wanted)):
        return None
    first = sides[leader].found
    difference_shown = shown(keyed[leader], keyed[place], wanted)
    if (turns := _in_turn(keyed[leader], keyed[place], wanted)) is not None:
        ratio = Interval(*(None if bound is None else bound - 1 for bound in turns.interval))
        return Apart(turns.ratio - 1, ratio, True, difference_shown, "rounds")
    base = first.value or 0.0
    far = found.value - base
    bounds = apart(first.interval, found.interval, relative=base > 0)
    return Apart(far / base if base > 0 else far, bounds, base > 0, difference_shown, "intervals")


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
