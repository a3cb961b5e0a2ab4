"""A report as one HTML file that needs nothing else: no network, no other file. Foreign text in it can't run.

Every foreign text is escaped, what scripts read is JSON without a `<`, and the page's policy lets only the scripts run
whose hashes it names: whatever slipped through would be dead.
"""

import base64
import functools
import hashlib
import html
import importlib.util
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from heylook_llm.bench.breakdown import MEANING, PHASES
from heylook_llm.bench.measures import MEASURES
from heylook_llm.bench.metrics import Report, Row
from heylook_llm.bench.quantity import PLAIN, parse, value_of
from heylook_llm.bench.report import words
from heylook_llm.errors import ConfigError

_HERE: Final = Path(__file__).parent
_TABLE: Final = ("ttfe", "ttft", "ttfo", "tpot", "itl", "stall", "e2e", "service", "lag", "connect", "speed")
_COLORS: Final = dict(
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
_UNITS: Final = "Times in ms; in brackets: 95 % intervals, … where the samples set no bound."


def as_html(report: Report) -> str:
    """The page. Raises ConfigError where plotly's script isn't installed."""
    plotly, ours = _plotly(), (_HERE / "page.js").read_text(encoding="utf-8")
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in (plotly, ours))
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
    title = f"Run {report.run[-8:]}" + (f" · {report.name}" if report.name else "")
    return "".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="referrer" content="no-referrer">\n',
            f"<title>{_text(title)}</title>\n<style>{style}</style></head><body>\n",
            f"<header><h1>{_text(title)}</h1><p class=verdict>{_text(words.verdict(report))}</p></header>\n<main>",
            _body(report),
            "</main>\n",
            f'<script type="application/json" id="data">{_json(_data(report))}</script>\n',
            f"<script>{plotly}</script>\n<script>{ours}</script>\n</body></html>\n",
        )
    )


@functools.cache
def _plotly() -> str:
    """Its script, which its wheel carries; without importing it."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise ConfigError("The page draws by plotly, which isn't installed: pip install plotly")
    script = Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return script.read_text(encoding="utf-8").replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _text(text: str) -> str:
    return html.escape(words.shown(text))


def _json(value: Any) -> str:
    """JSON in which no markup can begin or end."""
    text = msgspec.json.encode(value).decode()
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


# ---- what stands in it -----------------------------------------------------------------------------------------------


def _body(report: Report) -> str:
    parts = [_section("Rows", _rows(report.rows))] if report.rows else []
    if found := words.remarks(report):
        parts.append(_section("To know", f"<ul>{''.join(f'<li>{_text(one)}</li>' for one in found)}</ul>"))
    for identity, title in (
        ("curve", "Latency and throughput"),
        ("where", "Where time went"),
        ("spread", "First token and time per token"),
    ):
        parts.append(_section(title, f'<div class=plot id="{identity}"></div>'))
    parts.append(_section("Percentiles", "".join(_percentiles(row, report.rows) for row in report.rows)))
    if any(row.slow for row in report.rows):
        parts.append(_section("The slowest requests", '<div class=plot id="slow"></div>' + _slow(report.rows)))
    parts.append(_section("What the numbers mean", _meanings()))
    return "".join(parts)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>\n"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]], titles: Sequence[str] = ()) -> str:
    """Of cells that are escaped already; titles are shown where the pointer rests on a head."""
    told = [*titles, *[""] * (len(heads) - len(titles))]
    first = "".join(f'<th title="{title}">{head}</th>' for head, title in zip(heads, told, strict=True))
    rest = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
    return f"<div class=wide><table><thead><tr>{first}</tr></thead><tbody>{rest}</tbody></table></div>"


def _rows(rows: Sequence[Row]) -> str:
    names = words.varied(rows)
    heads = [*names, "n", *(title for _, title in words.COLUMNS)]
    titles = [*[""] * (len(names) + 1), *(_formula(name) for name, _ in words.COLUMNS)]
    lines = [
        [*(_text(words.axis(row, name)) for name in names), words.requests(row), *words.cells(row, interval=True)]
        for row in rows
    ]
    return f"<p>{_text(', '.join(words.constant(rows)))}</p>{_table(heads, lines, titles)}<p>{_UNITS}</p>"


def _formula(name: str) -> str:
    wanted = parse(name)
    if wanted.statistic is None:
        return html.escape(PLAIN[wanted.measure].title)
    measure = MEASURES[wanted.measure]
    leaves_out = f"; leaves out {measure.leaves_out}" if measure.leaves_out else ""
    return html.escape(f"{measure.formula}{leaves_out}")


def _percentiles(row: Row, rows: Sequence[Row]) -> str:
    heads = ["", "unit", "n", "mean", "least", "p50", "p90", "p95", "p99", "most"]
    lines = []
    for name in _TABLE:
        if name not in row.measures:
            continue
        told = row.measures[name]
        numbers = []
        for statistic in heads[3:]:
            interval = told.intervals.get(statistic)
            title = "" if interval is None else f"[{words.bound(interval[0])}, {words.bound(interval[1])}]"
            numbers.append(f'<span title="{title}">{words.number(getattr(told, statistic))}</span>')
        title = f'<span title="{_formula(name)}">{MEASURES[name].title}</span>'
        lines.append([title, MEASURES[name].unit, str(told.n), *numbers])
    return f"<h3>{_text(_label(row, rows))}</h3>{_table(heads, lines)}"


def _slow(rows: Sequence[Row]) -> str:
    lines = [
        [
            _text(_label(row, rows)),
            str(slow.ordinal),
            words.number(slow.e2e_ms),
            _text(slow.verdict),
            ", ".join(map(words.cause, slow.causes)),
            words.UNKNOWN if slow.shared_with is None else str(slow.shared_with),
            _text(slow.server_request_id or words.UNKNOWN),
        ]
        for row in rows
        for slow in row.slow
    ]
    return _table(["", "request", "E2E ms", "verdict", "causes", "computed beside", "the server's id"], lines)


def _meanings() -> str:
    lines = [
        [name, _text(one.title), one.unit, _text(one.formula), _text(one.leaves_out)] for name, one in MEASURES.items()
    ]
    lines += [[name, _text(one.title), one.unit, "", ""] for name, one in PLAIN.items()]
    lines += [[phase, _text(meaning), "ms", "a part of E2E", ""] for phase, meaning in MEANING.items()]
    return (
        f"<details><summary>Formulas</summary>{_table(['', 'what', 'unit', 'formula', 'leaves out'], lines)}</details>"
    )


def _label(row: Row, rows: Sequence[Row]) -> str:
    return " · ".join(words.axis(row, name) for name in words.varied(rows))


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def _data(report: Report) -> dict[str, Any]:
    """For page.js. plotly reads tags in labels, so that foreign text is escaped here, too."""
    rows = report.rows
    return {
        "colors": _COLORS,
        "labels": [_text(_label(row, rows)) for row in rows],
        "curves": _curves(rows),
        "phases": [
            {"name": phase, "meaning": MEANING[phase], "ms": [row.where.get(phase) for row in rows]}
            for phase in PHASES
            if any(phase in row.where for row in rows)
        ],
        "spread": {name: [_steps(row, name) for row in rows] for name in ("ttft", "tpot")},
        "slow": _waterfalls(rows),
    }


def _curves(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Throughput and first token over the levels of each combination of the other axes."""

    def others(row: Row) -> tuple[str, ...]:
        return tuple(str(getattr(row, name)) for name in ("target", "model", "task", "scenario", "load", "cache"))

    curves = []
    for _, group in itertools.groupby(sorted(rows, key=lambda row: (others(row), row.level)), key=others):
        members = list(group)
        names = [name for name in words.varied(rows) if name != "level"]
        name = " · ".join(words.axis(members[0], name) for name in names) or members[0].model
        curves.append(
            {
                "name": _text(name),
                "level": [row.level for row in members],
                "output": [_first(row, "output", "whole_output") for row in members],
                **{key: [value_of(row, parse(key)).value for row in members] for key in ("ttft.p50", "ttft.p95")},
            }
        )
    return curves


def _first(row: Row, *names: str) -> float | None:
    return next((value for name in names if (value := value_of(row, parse(name)).value) is not None), None)


def _steps(row: Row, name: str) -> list[list[float]]:
    """[percent, milliseconds] of what the report tells of a distribution."""
    found = row.measures.get(name)
    if found is None:
        return []
    points = ((0, found.least), (50, found.p50), (90, found.p90), (95, found.p95), (99, found.p99), (100, found.most))
    return [[percent, value] for percent, value in points if value is not None]


def _waterfalls(rows: Sequence[Row]) -> list[dict[str, Any]]:
    slow = [(row, one) for row in rows for one in row.slow]
    slow.sort(key=lambda each: -each[1].e2e_ms)
    return [
        {"name": _text(f"#{one.ordinal} {_label(row, rows)}"), "phases": one.phases_ms, "verdict": one.verdict}
        for row, one in slow[:20]
    ]
