"""A report for a terminal: the verdict first, then the table, where time went, what to know, and what to do next."""

from collections.abc import Sequence
from typing import Final

from heylook_llm.bench.breakdown import MEANING, PHASES
from heylook_llm.bench.compare import Comparison
from heylook_llm.bench.gate import Gate
from heylook_llm.bench.metrics import Report, Row
from heylook_llm.bench.remarks import counted
from heylook_llm.bench.report import words

BAR: Final = 50
"""Characters of the bar."""
_SIGNS: Final = dict(zip(PHASES, "wcuaqlrPDfxnTS-", strict=True))
_RIGHT: Final = frozenset(title for _, title in words.COLUMNS) | {"n"}


def text(report: Report) -> str:
    """All of it."""
    parts = [words.verdict(report)]
    if report.rows:
        parts += [", ".join(words.constant(report.rows)), _rows(report.rows)]
        parts += [_goodput(report.rows), _where(report.rows), _slow(report.rows), _turns(report.rows)]
        parts += [_machine(report.rows)]
    if found := words.remarks(report):
        parts.append("\n".join(f"! {one}" for one in found))
    parts.append(f"Next: {words.next_command(report)}")
    return "\n\n".join(part for part in parts if part)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two blanks apart, numbers to the right."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    lines = []
    for row in (heads, *rows):
        fitted = (
            cell.rjust(width) if head in _RIGHT else cell.ljust(width)
            for cell, width, head in zip(row, widths, heads, strict=True)
        )
        lines.append("  ".join(fitted).rstrip())
    return "\n".join(lines)


def _rows(rows: Sequence[Row]) -> str:
    names = words.varied(rows)
    heads = [*names, "n", *(title for _, title in words.COLUMNS)]
    lines = [[*(words.axis(row, name) for name in names), words.requests(row), *words.cells(row)] for row in rows]
    kept = [column for column, _ in enumerate(heads) if any(line[column] != words.UNKNOWN for line in lines)]
    shown = table([heads[column] for column in kept], [[line[column] for column in kept] for line in lines])
    return f"{shown}\n(times in ms)"


def bar(where: dict[str, float], width: int = BAR) -> str:
    """Each phase as wide as its part; what rounding leaves over goes to those that lost most by it."""
    total = sum(spent for spent in where.values() if spent > 0)
    if not total:
        return ""
    exact = {phase: max(0.0, spent) * width / total for phase, spent in where.items()}
    wide = {phase: int(part) for phase, part in exact.items()}
    for phase in sorted(exact, key=lambda phase: wide[phase] - exact[phase])[: width - sum(wide.values())]:
        wide[phase] += 1
    return "".join(_SIGNS[phase] * wide[phase] for phase in PHASES if phase in wide)


def _goodput(rows: Sequence[Row]) -> str:
    names = words.varied(rows)
    lines = [f"  {words.label(row, names)}: {told}" for row in rows if (told := words.goodput(row)) is not None]
    return "\n".join(["Within the limits (goodput)", *lines]) if lines else ""


def _where(rows: Sequence[Row]) -> str:
    names = words.varied(rows)
    lines = [f"{words.label(row, names)}\n  [{bar(row.where)}] {words.phases(row.where)}" for row in rows if row.where]
    if not lines:
        return ""
    seen = [phase for phase in PHASES if any(_SIGNS[phase] in bar(row.where) for row in rows)]
    legend = [f"  {_SIGNS[phase]} {phase}: {MEANING[phase]}" for phase in seen]
    return "\n".join(["Where time went (mean of E2E)", *lines, *legend])


def _slow(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        for slow in row.slow[:3]:
            if not slow.causes:
                continue
            causes = ", ".join(map(words.cause, slow.causes[:2]))
            beside = f", beside {counted(slow.shared_with, 'other')}" if slow.shared_with else ""
            lines.append(
                f"  {words.axis(row, 'level')} #{slow.ordinal}: {words.number(slow.e2e_ms)} ms, {slow.verdict}: "
                f"{causes}{beside}"
            )
    return "\n".join(["The slowest requests", *lines]) if lines else ""


def _turns(rows: Sequence[Row]) -> str:
    names = words.varied(rows)
    lines = [f"  {words.label(row, names)}: {told}" for row in rows if (told := words.turns(row)) is not None]
    return "\n".join(["First token by turn (medians)", *lines]) if lines else ""


def _machine(rows: Sequence[Row]) -> str:
    told = ((row, text) for row in rows for text in (words.machine(row), words.told(row)) if text is not None)
    names = words.varied(rows)
    lines = [f"  {words.label(row, names)}: {text}" for row, text in told]
    return "\n".join(["Meanwhile, on the bench's machine and by the target's counters", *lines]) if lines else ""


def comparison(found: Comparison) -> str:
    """Several runs side by side."""
    parts = [f"! {words.shown(run)} is not to be trusted: {', '.join(flags)}" for run, flags in found.flagged.items()]
    groups: dict[str, list[list[str]]] = {}
    for line in found.lines:
        title = words.shown(f"{line.task} {line.scenario} {line.load} {line.level:g} {line.cache}")
        sides = [
            f"{words.shown(side.label)} {words.quantity(line.quantity, side.found, interval=True)}"
            for side in line.sides
        ]
        groups.setdefault(title, []).append([line.quantity, line.unit, *sides, words.shown(line.words)])
    for title, lines in groups.items():
        heads = ["", "", *[""] * (len(lines[0]) - 3), ""]
        parts.append(f"{title}\n{table(heads, lines).lstrip()}")
    parts += [f"! nothing to compare {words.shown(alone)} with" for alone in found.alone]
    if not found.lines:
        parts.append("No two rows were measured alike (task, scenario, load, level and cache).")
    return "\n\n".join(parts)


def gate(found: Gate) -> str:
    """What was judged, worst first."""
    order = ("regressed", "unknown", "not shown", "kept")
    lines = [
        f"{one.verdict.upper() if one.verdict == 'regressed' else one.verdict}: {one.condition} for "
        f"{words.shown(one.row)}: {words.number(one.base)} -> {words.number(one.new)} ({one.why})"
        for one in sorted(found.judgements, key=lambda one: order.index(one.verdict))
    ]
    flags = [f"! not to be trusted: {words.shown(flag)}" for flag in found.flagged]
    return "\n".join([*lines, *flags]) or "Nothing to judge: the base has no rows."
