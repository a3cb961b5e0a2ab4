"""What every form of a report says in the same words: numbers, the headline, what to do next. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from heylook_llm.bench.breakdown import Cause
from heylook_llm.bench.compare import NOT_SHOWN, compare
from heylook_llm.bench.metrics import Distribution, Report, Row
from heylook_llm.bench.quantity import Value, parse, value_of
from heylook_llm.bench.remarks import counted
from heylook_llm.bench.turns import Turn
from heylook_llm.errors import ConfigError

UNKNOWN: Final = "–"
COLUMNS: Final[tuple[tuple[str, str], ...]] = (
    ("ttft.p50", "TTFT p50"),
    ("ttft.p95", "TTFT p95"),
    ("ttft.p99", "TTFT p99"),
    ("tpot.p50", "TPOT p50"),
    ("e2e.p50", "E2E p50"),
    ("e2e.p95", "E2E p95"),
    ("output", "tokens/s"),
    ("requests", "requests/s"),
    ("errors", "failed"),
)
"""Of the table of rows."""
AXES: Final = ("target", "model", "task", "scenario", "load", "level", "cache")


def shown(text: str) -> str:
    """Foreign text for a terminal or a line: nothing that steers either, as escapes and marks that reverse writing."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def number(value: float | None) -> str:
    """Three digits or all before the point."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    size = abs(value)
    return f"{value:.2f}" if size < 10 else f"{value:.1f}" if size < 100 else f"{value:.0f}"


def quantity(name: str, found: Value, interval: bool = False) -> str:
    """A value in its unit's way, with its interval where asked for."""
    if found.value is None:
        return UNKNOWN
    unit = parse(name).unit
    scale, sign = (100.0, " %") if unit == "share" else (1.0, "")
    text = f"{number(found.value * scale)}{sign}"
    low, high = found.interval
    if not interval or (low is None and high is None):
        return text
    return f"{text} [{bound(low, scale)}, {bound(high, scale)}]"


def bound(value: float | None, scale: float = 1.0) -> str:
    """An end of an interval; the samples bound it not on that side: …"""
    return "…" if value is None else number(value * scale)


def level(row: Row) -> str:
    """How it was loaded."""
    if row.load == "closed":
        return counted(int(row.level), "client")
    if row.load == "replay":
        return f"replay {row.level:g}x"
    return row.load if row.load == "max" else f"{row.load} {row.level:g}/s"


def axis(row: Row, name: str) -> str:
    """One of a row's axes as text."""
    return shown(level(row) if name == "level" else str(getattr(row, name)))


def varied(rows: Sequence[Row]) -> list[str]:
    """The axes that tell rows apart; `load` is said with `level`."""
    names = [name for name in AXES if name != "load"]
    return [name for name in names if len({axis(row, name) for row in rows}) > 1] or ["level"]


def label(row: Row, names: Sequence[str], between: str = " ") -> str:
    """What tells it from the others, by the axes that do."""
    return between.join(axis(row, name) for name in names)


def constant(rows: Sequence[Row]) -> list[str]:
    """What all rows have in common."""
    apart = varied(rows)
    names = [name for name in AXES if name != "load" and name not in apart]
    return [f"{name} {axis(rows[0], name)}" if name in ("task", "cache") else axis(rows[0], name) for name in names]


def cells(row: Row, interval: bool = False) -> list[str]:
    """A row's values of COLUMNS."""
    return [quantity(name, value_of(row, parse(name)), interval) for name, _ in COLUMNS]


def requests(row: Row) -> str:
    """How many are in the latencies, of how many that were measured."""
    n = row.measures["e2e"].n if "e2e" in row.measures else 0
    return str(n) if n == row.counts.measured else f"{n} of {row.counts.measured}"


def machine(row: Row) -> str | None:
    """What the bench's machine did meanwhile, as far as it is known; None: nothing is."""
    found = row.meanwhile
    if found is None:
        return None
    told = [
        None if found.cpu_share is None else f"CPU {found.cpu_share * 100:.0f} %",
        _gigabytes("memory available at least", found.least_available_bytes),
        _gigabytes("the target's processes", found.target_bytes),
        None if found.gpu_percent is None else f"GPU {found.gpu_percent:.0f} %",
        _gigabytes("GPU memory", found.gpu_bytes),
        None if found.watts is None else f"{number(found.watts)} W",
        None if row.joules_per_token is None else f"{number(row.joules_per_token)} J a token",
    ]
    return ", ".join(part for part in told if part) or None


def turns(row: Row) -> str | None:
    """A conversation's first tokens turn by turn; None: there were none."""
    said = [f"{one.turn}. {number(one.ttft_p50)} ms{_cached(one)}" for one in row.turns]
    return ", ".join(said) or None


def _cached(turn: Turn) -> str:
    return "" if turn.cached is None else f" ({turn.cached * 100:.0f} % cached)"


def goodput(row: Row) -> str | None:
    """How many requests kept the limits that the run states; None: it states none."""
    found = row.goodput
    if found is None:
        return None
    limits = " and ".join(f"{name} within {number(limit)} ms" for name, limit in found.limits.items())
    left_out = ", ".join(f"{count} {why}" for why, count in found.excluded.items() if count)
    alone = [f"{name} by {percent(kept)}" for name, kept in found.kept.items()] if len(found.kept) > 1 else []
    if not found.offered:
        return f"no request can be judged by {limits}; left out: {left_out or 'none was measured'}"
    told = [
        f"{percent(found.share)} of {counted(found.offered, 'request')} kept {limits}",
        None if found.per_second is None else f"{number(found.per_second)} good requests/s",
        None if found.tokens_per_second is None else f"{number(found.tokens_per_second)} tokens/s in them",
        f"each alone: {', '.join(alone)}" if alone else None,
        f"left out: {left_out}" if left_out else None,
    ]
    return "; ".join(part for part in told if part)


def percent(share: float | None) -> str:
    """Of a share."""
    return UNKNOWN if share is None else f"{number(100 * share)} %"


def told(row: Row) -> str | None:
    """What the target's own counters say of it; None: it tells none."""
    said = [f"{name} {number(ms)} ms" for name, ms in row.told.items() if name != "cached"]
    if "cached" in row.told:
        said.append(f"{row.told['cached'] * 100:.0f} % of the prompts' tokens cached")
    return f"{', '.join(said)} (means by vLLM's /metrics)" if said else None


def _gigabytes(what: str, count: float | None) -> str | None:
    return None if count is None else f"{what} {count / (1 << 30):.1f} GiB"


def cause(found: Cause) -> str:
    """What took a request longer, and how long it usually takes, but for waits: of them none is expected."""
    usual = f" (usually {number(found.usual_ms)})" if found.usual_ms else ""
    return f"{found.phase} {number(found.spent_ms)} ms{usual}"


def phases(where: Mapping[str, float]) -> str:
    """Where time went, the longest first, in milliseconds and shares; what is below one per cent is left out."""
    total = sum(where.values()) or 1.0
    return ", ".join(
        f"{phase} {number(spent)} ms ({spent / total * 100:.0f} %)"
        for phase, spent in sorted(where.items(), key=lambda each: -each[1])
        if spent / total >= 0.01
    )


def spread(found: Distribution | None) -> str:
    """A mean with its standard deviation, the least and the most, and of how many."""
    if found is None or not found.n:
        return UNKNOWN
    deviation = "" if found.deviation is None else f" ± {number(found.deviation)}"
    return f"{number(found.mean)}{deviation}, from {number(found.least)} to {number(found.most)} ({found.n})"


def verdict(report: Report) -> str:
    """One sentence: what came of it."""
    measured = [row for row in report.rows if "e2e" in row.measures]
    if not measured:
        return _of_nothing(report)
    sentence = _of_several(report) if len({(row.target, row.model) for row in measured}) > 1 else _of_one(measured)
    if report.flags:
        return f"Not to be trusted ({', '.join(map(shown, report.flags))}): {sentence}"
    return sentence


def _of_nothing(report: Report) -> str:
    errors: dict[str, int] = {}
    for row in report.rows:
        for name, count in row.errors.items():
            errors[name] = errors.get(name, 0) + count
    if not errors:
        told = "; ".join(shown(text).removesuffix(".") for text in dict.fromkeys(report.warnings))
        why = f" ({told})" if told else ""
        return f"Nothing was measured: no request ended{why}."
    worst = max(errors, key=lambda name: errors[name])
    return f"Nothing was measured: all {sum(errors.values())} requests failed, most by {shown(worst)}."


def _of_one(rows: Sequence[Row]) -> str:
    best = max(rows, key=lambda row: row.rates.output or row.rates.whole_output or 0)
    ttft = best.measures.get("ttft")
    rate = best.rates.output if best.rates.output is not None else best.rates.whole_output
    parts = [f"{shown(best.model)} on {shown(best.target)}, asked {_asked(best)}:"]
    told = [
        None if rate is None else f"{number(rate)} tokens/s",
        None if ttft is None else f"the first token after {number(ttft.p50)} ms (median of {ttft.n})",
        _whole(best) if ttft is None else None,
        f"{number(100 * (best.error_share or 0))} % failed" if best.error_share else "no request failed",
    ]
    return f"{' '.join(parts)} {', '.join(part for part in told if part)}."


def _asked(row: Row) -> str:
    if row.load == "closed":
        return f"by {level(row)}"
    if row.load == "replay":
        return f"{row.level:g} times as fast as recorded" if row.level != 1 else "as recorded"
    return "all at once" if row.load == "max" else f"{row.level:g} times a second ({row.load})"


def _whole(row: Row) -> str | None:
    """Of answers that hold no tokens."""
    e2e = row.measures.get("e2e")
    read = None if row.rates.input is None else f"{number(row.rates.input)} prompt tokens/s, "
    return None if e2e is None else f"{read or ''}an answer after {number(e2e.p50)} ms (median of {e2e.n})"


def _of_several(report: Report) -> str:
    """The first combination that all have, by first token and by throughput."""
    parts = []
    for name, title in (("ttft.p50", "first token"), ("output", "tokens/s")):
        try:
            lines = compare([report], [name]).lines
        except ConfigError:  # a report of any size has its sentence
            return f"{counted(len(report.rows), 'row')} were measured, too many to rank at once: compare some of them."
        if lines:
            at = f" at {lines[0].level:g}" if len(lines) > 1 else ""
            parts.append(f"{title}{at}: {shown(lines[0].words)}")
    return f"{'; '.join(parts)}." if parts else f"{NOT_SHOWN}: no two of the rows were measured alike."


def remarks(report: Report) -> list[str]:
    """Each once, with the rows it is of."""
    found: dict[str, list[str]] = {}
    names = varied(report.rows)
    for row in report.rows:
        for remark in row.remarks:
            found.setdefault(shown(remark.text), []).append(label(row, names))
    if len(report.rows) == 1:
        return list(found)
    whole = len(report.rows)
    of = {text: "every row" if len(rows) == whole else ", ".join(dict.fromkeys(rows)) for text, rows in found.items()}
    return [f"{text} ({of[text]})" for text in found]


def next_command(report: Report) -> str:
    """What a reader would want to do now."""
    run = report.run[-8:]
    if report.state in ("cancelled", "interrupted"):
        return f"heylookllm bench resume {run}"
    if any(row.counts.error + row.counts.timeout for row in report.rows):
        return f"heylookllm bench export {run} --format jsonl --output errors.jsonl   # every request, with its error"
    if not any("e2e" in row.measures for row in report.rows):
        return f"heylookllm bench show {run}   # what was in the way"
    if any(0 < row.measures["e2e"].n < 100 for row in report.rows if "e2e" in row.measures):
        return "heylookllm bench run … --requests 100   # enough for p99"
    return f"heylookllm bench export {run} --format html --output report.html"
