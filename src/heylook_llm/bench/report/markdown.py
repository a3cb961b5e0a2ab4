"""A report as Markdown, for a pull request or a page; foreign text can't become markup in it."""

import re
from collections.abc import Sequence
from typing import Final

from heylook_llm.bench.metrics import Report, Row
from heylook_llm.bench.report import words

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()#+!|<>~&@$:-])")


def plain(text: str) -> str:
    """Foreign text as it stands: nothing in it is markup, a link or a line's end."""
    return _MARKUP.sub(r"\\\1", words.shown(text))


def text(report: Report) -> str:
    """All of it."""
    name = f"Run {report.run[-8:]}" + (f" ({plain(report.name)})" if report.name else "")
    parts = [f"# {name}", plain(words.verdict(report))]
    if report.rows:
        parts += [
            plain(", ".join(words.constant(report.rows))),
            _rows(report.rows),
            _goodput(report.rows),
            _where(report.rows),
            _machine(report.rows),
        ]
    if found := words.remarks(report):
        parts.append("\n".join(f"- {plain(one)}" for one in found))
    parts.append(
        "Times are in milliseconds, with 95 % intervals in brackets (… where the samples bound nothing); percentiles "
        "by nearest rank, p90 and p95 from 20 requests, p99 from 100. "
        f"State: {report.state}. Spec: `{report.spec_hash[:12]}`."
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Of cells that are escaped already."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows(rows: Sequence[Row]) -> str:
    names = words.varied(rows)
    lines = [
        [*(plain(words.axis(row, name)) for name in names), words.requests(row), *words.cells(row, interval=True)]
        for row in rows
    ]
    return table([*names, "n", *(title for _, title in words.COLUMNS)], lines)


def _goodput(rows: Sequence[Row]) -> str:
    told = [(row, text) for row in rows if (text := words.goodput(row)) is not None]
    names = words.varied(rows)
    lines = [f"- {plain(words.label(row, names))}: {plain(text)}" for row, text in told]
    return "## Within the limits\n\n" + "\n".join(lines) if lines else ""


def _where(rows: Sequence[Row]) -> str:
    phases = list(dict.fromkeys(phase for row in rows for phase in row.where))
    if not phases:
        return ""
    names = words.varied(rows)
    lines = [
        [*(plain(words.axis(row, name)) for name in names), *(words.number(row.where.get(phase)) for phase in phases)]
        for row in rows
    ]
    return f"## Where time went\n\n{table([*names, *phases], lines)}"


def _machine(rows: Sequence[Row]) -> str:
    told = [(row, text) for row in rows if (text := words.machine(row)) is not None]
    names = words.varied(rows)
    lines = [f"- {plain(words.label(row, names))}: {plain(text)}" for row, text in told]
    return "## The bench's machine meanwhile\n\n" + "\n".join(lines) if lines else ""
