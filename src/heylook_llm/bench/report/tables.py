"""A report as JSON and CSV, and its raw samples as JSON lines: what other programs read."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from heylook_llm.bench.meanwhile import Meanwhile
from heylook_llm.bench.measures import MEASURES, chunk_tokens, values
from heylook_llm.bench.metrics import Report, Row
from heylook_llm.bench.quantity import PLAIN, STATISTICS, Quantity, value_of
from heylook_llm.bench.sample import Cell, Pair, Point, Sample, Target, stamps_of

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What spreadsheets compute if a cell begins with it."""


def as_json(report: Report) -> bytes:
    """The whole report, indented."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def as_csv(report: Report) -> str:
    """A line for each row: its axes, counts and every number with its n and interval; unknown is empty."""
    lines = [flat(row) for row in report.rows]
    heads = list(dict.fromkeys(name for line in lines for name in line)) or ["target"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(heads)
    writer.writerows([cell(line.get(head)) for head in heads] for line in lines)
    return out.getvalue()


def series_as_csv(points: Iterable[Point]) -> str:
    """What was read beside a run: stamps of the samples' clock, where from, what, how much."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["t", "source", "name", "value"])
    writer.writerows([point.t, cell(point.source), cell(point.name), point.value] for point in points)
    return out.getvalue()


def cell(value: Any) -> Any:
    """A value for a spreadsheet: text that it would compute begins with an apostrophe, as OWASP advises."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def flat(row: Row) -> dict[str, Any]:
    """A row's numbers by name."""
    line: dict[str, Any] = {
        name: getattr(row, name)
        for name in ("target", "model", "task", "scenario", "load", "level", "cache", "repeats")
    }
    line |= msgspec.structs.asdict(row.counts)
    for name in PLAIN:
        _put(line, row, Quantity(name, None))
    for name in MEASURES:
        found = row.measures.get(name)
        line[f"{name}_n"] = 0 if found is None else found.n
        for statistic in STATISTICS:
            _put(line, row, Quantity(name, statistic))
    machine = {} if row.meanwhile is None else msgspec.structs.asdict(row.meanwhile)
    line |= {f"machine_{name}": machine.get(name) for name in Meanwhile.__struct_fields__}
    line["joules_per_token"] = row.joules_per_token
    tokens = msgspec.structs.asdict(row.tokens)
    line |= {f"tokens_{name}": count for name, count in tokens.items() if isinstance(count, int | None)}
    return line


def _put(line: dict[str, Any], row: Row, wanted: Quantity) -> None:
    found = value_of(row, wanted)
    name = str(wanted).replace(".", "_") + (f"_{wanted.unit}" if wanted.unit == "ms" else "")
    line[name] = found.value
    if wanted.statistic in (None, "p50", "p90", "p95", "p99"):
        line[f"{name}_low"], line[f"{name}_high"] = found.interval


def as_jsonl(
    cells: Sequence[Cell],
    samples: Iterable[Sample],
    pairs: dict[str, list[Pair]] | None = None,
    targets: Mapping[str, Target] | None = None,
) -> Iterator[bytes]:
    """A line for each sample as it was kept, with its numbers, its chunks as lists and what the server said of it.

    Enough stands in them to make the report anew (`bench/dropped.py`).
    """
    names = {identity: target.name for identity, target in (targets or {}).items()}
    by_id = {cell.id: cell for cell in cells}
    for sample in samples:
        cell = by_id[sample.cell_id]
        line = msgspec.structs.asdict(sample)
        stamps, counts = stamps_of(sample), chunk_tokens(sample)
        line |= {
            "chunk_times": stamps.tolist(),
            "chunk_tokens": None if counts is None else list(counts),
            "extra": told(sample.extra_json),
            "cell": {
                **{name: getattr(cell, name) for name in _AXES},
                "target": names.get(cell.target_id, cell.target_id),
            },
            "values_ms": values(sample, cell.load != "closed"),
            "pairs": {pair.source: told(pair.timeline_json) for pair in (pairs or {}).get(sample.id, ())},
        }
        del line["extra_json"]
        yield msgspec.json.encode(line) + b"\n"


_AXES: Final = (
    *("ordinal", "target_id", "model", "task", "scenario", "load", "level", "repeat", "cache", "seed"),
    *("planned", "window_start", "window_end"),
)


def told(text: str | None) -> Any:
    """JSON of a target's, decoded; what is none stays text."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text.encode("utf-8", "replace"))
    except msgspec.MsgspecError:
        return text
