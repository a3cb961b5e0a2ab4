"""A report as the web pages show it: each number with n and interval, or why it is unknown; what they mean. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from heylook_llm.bench.breakdown import MEANING, PHASES, SERVERS, breakdown
from heylook_llm.bench.measures import MEASURES, origin
from heylook_llm.bench.metrics import Report, Row
from heylook_llm.bench.quantity import PLAIN, STATISTICS, Quantity, value_of, why_unknown
from heylook_llm.bench.report import figures, words
from heylook_llm.bench.report.tables import told
from heylook_llm.bench.sample import Pair, Sample

EVERY: Final = (
    *(Quantity(name, None) for name in PLAIN),
    *(Quantity(name, statistic) for name in MEASURES for statistic in STATISTICS),
)
"""All numbers that a row can have."""


def shown(
    report: Report, samples: Sequence[Sample] = (), pairs: Mapping[str, Sequence[Pair]] | None = None
) -> dict[str, Any]:
    """All that the page of a run's result shows; of the slowest requests what client and server stamped, too."""
    rows = report.rows
    names = words.varied(rows)
    slow = {one.sample_id for row in rows for one in row.slow}
    kept = {sample.id: sample for sample in samples if sample.id in slow}
    return {
        "report": report,
        "verdict": words.verdict(report),
        "next": words.next_command(report),
        "axes": {
            "varied": names if rows else [],
            "constant": [words.shown(text) for text in words.constant(rows)] if rows else [],
        },
        "columns": [{"quantity": name, "title": title} for name, title in words.COLUMNS],
        "rows": [_row(row, names, kept, pairs or {}) for row in rows],
        "within": [f"{figures.label(row, names)}: {told}" for row in rows if (told := words.goodput(row)) is not None],
        "remarks": words.remarks(report) if rows else [],
        "meanings": meanings(),
        "figures": figures.data(report),
    }


def _row(
    row: Row, names: Sequence[str], samples: Mapping[str, Sample], pairs: Mapping[str, Sequence[Pair]]
) -> dict[str, Any]:
    return {
        "label": figures.label(row, names),
        "axes": {name: words.axis(row, name) for name in words.AXES if name != "load"},
        "requests": words.requests(row),
        "numbers": {str(wanted): number(row, wanted) for wanted in EVERY},
        "speed": words.spread(row.measures.get("speed")),
        "where": words.phases(row.where),
        "slow": [
            {
                **msgspec.structs.asdict(slow),
                "causes": ", ".join(map(words.cause, slow.causes)),
                **_clocks(samples.get(slow.sample_id), pairs.get(slow.sample_id, ()), row.load != "closed"),
            }
            for slow in row.slow
        ],
    }


def _clocks(sample: Sample | None, pairs: Sequence[Pair], open_loop: bool) -> dict[str, Any]:
    """A request by the client's clock, and by the server's where that told of it."""
    alone = None if sample is None else breakdown(sample, open_loop)
    cut = None if sample is None else breakdown(sample, open_loop, pairs)
    if sample is None or alone is None or cut is None:
        return {"client": None, "server": None, "source": None}
    row = next((told(pair.timeline_json) for pair in pairs if pair.source == cut.source == "heylook"), None)
    server = row if isinstance(row, dict) else None
    if server is None and cut.source is not None:
        server = {"phases_ms": {phase: spent / 1e6 for phase, spent in cut.phases.items() if phase in SERVERS}}
    return {
        "client": {
            "phases": {phase: spent / 1e6 for phase, spent in alone.phases.items()},
            "offset_ms": None if server is None else _offset_ms(sample, server, open_loop),
        },
        "server": server,
        "source": cut.source,
    }


def _offset_ms(sample: Sample, server: Mapping[str, Any], open_loop: bool) -> float | None:
    """When the client's row begins, after the server received the request; None: their clocks can't be compared."""
    times, begin = server.get("timeline"), origin(sample, open_loop)
    received = times.get("received_ns") if isinstance(times, dict) else None
    if server.get("clock_id") != sample.clock_id or not isinstance(received, int) or begin is None:
        return None
    return (begin - received) / 1e6


def number(row: Row, wanted: Quantity) -> dict[str, Any]:
    """A number of a row; where it is unknown, why."""
    found = value_of(row, wanted)
    why = why_unknown(row, wanted) if found.value is None else None
    return {"value": found.value, "n": found.n, "interval": found.interval, "why": why}


def meanings() -> dict[str, Any]:
    """What each measure and phase is, by its name."""
    measures = {
        name: {name: getattr(one, name) for name in ("title", "unit", "formula", "better", "leaves_out")}
        for name, one in MEASURES.items()
    }
    plain = {
        name: {**msgspec.structs.asdict(one), "formula": FORMULAS[name], "leaves_out": ""}
        for name, one in PLAIN.items()
    }
    phases = {name: {"meaning": MEANING[name], "color": figures.COLORS[name]} for name in PHASES}
    return {"measures": measures | plain, "phases": phases}


FORMULAS: Final = {
    "output": "tokens that came in the window / its seconds: from the first measured request until no more are sent; "
    "of a closed loop of so many requests until its last answer",
    "input": "prompt tokens of answers whose first token came in the window / its seconds",
    "requests": "requests that ended well in the window / its seconds",
    "whole_output": "tokens of measured requests that ended well / seconds from the first to the last answer's end",
    "whole_requests": "measured requests that ended well / seconds from the first to the last answer's end",
    "errors": "(errors + timeouts) / (ok + errors + timeouts)",
    "goodput": "requests that kept every limit / those measured, without cut, cancelled and unjudged ones",
}
"""Of what a row has one of."""
