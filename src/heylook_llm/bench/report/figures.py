"""What a report's figures show, as plain JSON: figures.js draws it, in the HTML file as on the pages. Pure."""

import html
import itertools
from collections.abc import Sequence
from typing import Any, Final

from heylook_llm.bench.breakdown import MEANING, PHASES
from heylook_llm.bench.metrics import Distribution, Report, Row
from heylook_llm.bench.quantity import parse, value_of
from heylook_llm.bench.report import words

COLORS: Final = dict(
    zip(
        PHASES,
        (
            *("#8c8c8c", "#d4a017", "#b07aa1", "#76b7b2", "#e15759", "#9c755f", "#edc948", "#4e79a7"),
            *("#59a14f", "#f28e2b", "#d7b5a6", "#17becf", "#7f3c8d", "#11a579", "#ff9da7"),
        ),
        strict=True,
    )
)
"""One for each phase, in every plot: plotly's own ten would come again."""
FIGURES: Final[tuple[tuple[str, str], ...]] = (
    ("curve", "Latency and throughput"),
    ("where", "Where time went"),
    ("spread", "First token and time per token"),
    ("speed", "Speed of single requests"),
    ("slow", "The slowest requests"),
)
"""Each one's name and title, in their order on a page."""
_DRAWN: Final = 20
"""Slow requests, the slowest of all rows."""
_CURVE: Final = ("ttft.p50", "ttft.p95")


def data(report: Report) -> dict[str, Any]:
    """For figures.js. plotly reads tags in labels, so foreign text is escaped; `texts` are for readers and aren't."""
    rows = report.rows
    names = words.varied(rows)
    return {
        "colors": COLORS,
        "labels": [_escaped(label(row, names)) for row in rows],
        "curves": curves([(None, row) for row in rows]),
        "phases": [
            {"name": phase, "meaning": MEANING[phase], "ms": [row.where.get(phase) for row in rows]}
            for phase in PHASES
            if any(phase in row.where for row in rows)
        ],
        "spread": {name: [_steps(row, name) for row in rows] for name in ("ttft", "tpot")},
        "speed": [_spread(row.measures.get("speed")) for row in rows],
        "slow": _waterfalls(rows),
        "texts": texts(rows),
    }


def label(row: Row, names: Sequence[str]) -> str:
    """What tells it from the others, by the axes that do."""
    return words.label(row, names, " · ")


def curves(members: Sequence[tuple[str | None, Row]]) -> list[dict[str, Any]]:
    """Throughput and first token over the levels of each combination of the other axes; a row with its run's name."""
    rows = [row for _, row in members]

    def others(member: tuple[str | None, Row]) -> tuple[str, ...]:
        told = (str(getattr(member[1], name)) for name in words.AXES if name != "level")
        return member[0] or "", *told

    found = []
    names = [name for name in words.varied(rows) if name != "level"] if rows else []
    for _, group in itertools.groupby(sorted(members, key=lambda one: (others(one), one[1].level)), key=others):
        alike = list(group)
        run, first = alike[0]
        parts = [run, *(words.axis(first, name) for name in names)]
        found.append(_curve(" · ".join(part for part in parts if part) or first.model, [row for _, row in alike]))
    return found


def _curve(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    told = {key: [value_of(row, parse(key)) for row in rows] for key in _CURVE}
    return {
        "name": _escaped(name),
        "level": [row.level for row in rows],
        "output": [output(row) for row in rows],
        **{key: [one.value for one in each] for key, each in told.items()},
        "intervals": {key: [one.interval for one in each] for key, each in told.items()},
    }


def output(row: Row) -> float | None:
    """Tokens per second in the window, else of the whole run."""
    return row.rates.output if row.rates.output is not None else row.rates.whole_output


def _escaped(text: str) -> str:
    return html.escape(words.shown(text))


def _steps(row: Row, name: str) -> list[list[float]]:
    """[percent, milliseconds] of what the report tells of a distribution."""
    found = row.measures.get(name)
    if found is None:
        return []
    points = ((0, found.least), (50, found.p50), (90, found.p90), (95, found.p95), (99, found.p99), (100, found.most))
    return [[percent, value] for percent, value in points if value is not None]


def _spread(found: Distribution | None) -> dict[str, float | None] | None:
    if found is None:
        return None
    return {name: getattr(found, name) for name in ("mean", "deviation", "least", "most")}


def _waterfalls(rows: Sequence[Row]) -> list[dict[str, Any]]:
    names = words.varied(rows)
    slow = [(row, one) for row in rows for one in row.slow]
    slow.sort(key=lambda each: -each[1].e2e_ms)
    return [
        {
            "name": _escaped(f"#{one.ordinal} {label(row, names)}"),
            "phases": one.phases_ms,
            "verdict": _escaped(one.verdict),
        }
        for row, one in slow[:_DRAWN]
    ]


# ---- for those who don't see them ------------------------------------------------------------------------------------


def texts(rows: Sequence[Row]) -> dict[str, str]:
    """What each figure shows, in words."""
    return {
        "curve": _listed(rows, curve_text),
        "where": _listed(rows, lambda row: words.phases(row.where)),
        "spread": _listed(rows, _spread_text),
        "speed": _listed(rows, lambda row: words.spread(row.measures.get("speed"))),
        "slow": _listed(rows, _slow_text),
    }


def _listed(rows: Sequence[Row], told: Any) -> str:
    names = words.varied(rows)
    return " ".join(f"{label(row, names)}: {told(row) or words.UNKNOWN}." for row in rows)


def curve_text(row: Row) -> str:
    first = " and ".join(f"{words.number(value_of(row, parse(key)).value)} ms ({key[-3:]})" for key in _CURVE)
    return f"{words.number(output(row))} tokens/s, the first token after {first}"


def _spread_text(row: Row) -> str:
    parts = []
    for name in ("ttft", "tpot"):
        steps = ", ".join(f"{words.number(value)} ms at {percent} %" for percent, value in _steps(row, name))
        parts.append(f"{name} {steps or words.UNKNOWN}")
    return "; ".join(parts)


def _slow_text(row: Row) -> str:
    return ", ".join(f"#{one.ordinal} {words.number(one.e2e_ms)} ms ({one.verdict})" for one in row.slow)
