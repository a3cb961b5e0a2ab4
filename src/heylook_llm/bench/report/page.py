"""A report as one HTML file that needs nothing else: no network, no other file. Foreign text in it can't run.

Every foreign text is escaped, what scripts read is JSON without a `<`, and the page's policy lets only the scripts run
whose hashes it names: whatever slipped through would be dead.
"""

import base64
import functools
import hashlib
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from heylook_llm import drawing
from heylook_llm.bench.breakdown import MEANING
from heylook_llm.bench.measures import MEASURES
from heylook_llm.bench.metrics import Report, Row
from heylook_llm.bench.quantity import PLAIN, parse
from heylook_llm.bench.report import figures, words

_HERE: Final = Path(__file__).parent
_TABLE: Final = ("ttfe", "ttft", "ttfo", "tpot", "itl", "stall", "e2e", "service", "lag", "connect", "speed")
_UNITS: Final = "Times in ms; in brackets: 95 % intervals, … where the samples set no bound."


def as_html(report: Report) -> str:
    """The page. Raises ConfigError where plotly's script isn't installed."""
    plotly, ours = _plotly(), drawing.FIGURES.read_text(encoding="utf-8") + _read("page.js")
    style = _read("page.css")
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
            f'<script type="application/json" id="data">{_json(figures.data(report))}</script>\n',
            f'<script>{plotly}</script>\n<script type="module">{ours}</script>\n</body></html>\n',
        )
    )


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


@functools.cache
def _plotly() -> str:
    """Its script, which can stand in a page: nothing in it ends or hides what follows."""
    script = drawing.plotly().read_text(encoding="utf-8")
    return script.replace("</script", r"<\/script").replace("<!--", r"<\!--")


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
    told, names = figures.texts(report.rows), words.varied(report.rows)
    if kept := [(row, text) for row in report.rows if (text := words.goodput(row)) is not None]:
        lines = "".join(f"<li>{_text(figures.label(row, names))}: {_text(text)}</li>" for row, text in kept)
        parts.append(_section("Within the limits", f"<ul>{lines}</ul>"))
    drawn = {name: _figure(name, told[name]) for name, _ in figures.FIGURES}
    parts += [_section(title, drawn[name]) for name, title in figures.FIGURES if name != "slow"]
    parts.append(_section("Percentiles", "".join(_percentiles(row, names) for row in report.rows)))
    if any(row.slow for row in report.rows):
        parts.append(_section(dict(figures.FIGURES)["slow"], drawn["slow"] + _slow(report.rows)))
    if beside := [(row, text) for row in report.rows if (text := words.machine(row)) is not None]:
        lines = "".join(f"<li>{_text(figures.label(row, names))}: {_text(text)}</li>" for row, text in beside)
        parts.append(_section("The bench's machine meanwhile", f"<ul>{lines}</ul>"))
    parts.append(_section("What the numbers mean", _meanings()))
    return "".join(parts)


def _figure(name: str, told: str) -> str:
    return f'<div class=plot id="{name}" role="group" aria-label="{_text(told)}"></div>'


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


def _percentiles(row: Row, names: Sequence[str]) -> str:
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
    return f"<h3>{_text(figures.label(row, names))}</h3>{_table(heads, lines)}"


def _slow(rows: Sequence[Row]) -> str:
    names = words.varied(rows)
    lines = [
        [
            _text(figures.label(row, names)),
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
