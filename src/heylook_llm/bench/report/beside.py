"""Runs beside each other as the web pages show them: the systems, what can be chosen, and what is shown of it. Pure."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from heylook_llm.bench.compare import USUAL, compare
from heylook_llm.bench.metrics import Report, Row
from heylook_llm.bench.quantity import PLAIN, parse
from heylook_llm.bench.report import figures, words
from heylook_llm.bench.report.shown import EVERY, meanings


def beside(
    reports: Sequence[Report],
    wanted: Sequence[str] = (),
    models: Collection[str] = (),
    scenarios: Collection[str] = (),
) -> dict[str, Any]:
    """The comparison of the rows of these models and scenarios; none named: of all. Raises ConfigError."""
    chosen = [_chosen(report, models, scenarios) for report in reports]
    found = compare(chosen, [str(parse(name)) for name in wanted] or USUAL)
    rows = [(report.name or report.run[-8:], row) for report in chosen for row in report.rows]
    return {
        **msgspec.to_builtins(found),
        "systems": [system for report in reports for system in _systems(report)],
        "choices": _choices(reports),
        "figures": {
            "curves": figures.curves([(name if len(reports) > 1 else None, row) for name, row in rows]),
            "texts": {"curve": " ".join(f"{name}: {_words(row)}" for name, row in rows)},
        },
        "meanings": meanings(),
    }


def _chosen(report: Report, models: Collection[str], scenarios: Collection[str]) -> Report:
    def is_wanted(row: Row) -> bool:
        return (not models or row.model in models) and (not scenarios or row.scenario in scenarios)

    return msgspec.structs.replace(report, rows=[row for row in report.rows if is_wanted(row)])


def _words(row: Row) -> str:
    return f"{words.axis(row, 'model')} {words.axis(row, 'scenario')} {words.level(row)}: {figures.curve_text(row)}."


def _systems(report: Report) -> list[dict[str, Any]]:
    """What each target of a run was, as far as the run knows."""
    told = report.manifest.get("targets")
    known = told if isinstance(told, dict) else {}
    by_target: dict[str, list[Row]] = {}
    for row in report.rows:
        by_target.setdefault(row.target_id, []).append(row)
    return [
        {
            "run": report.run,
            "name": report.name or report.run[-8:],
            "state": report.state,
            "created": report.created,
            "flags": report.flags,
            "spec_hash": report.spec_hash,
            "target": rows[0].target,
            "models": list(dict.fromkeys(row.model for row in rows)),
            "measured": sum(row.counts.measured for row in rows),
            "about": known.get(identity) if isinstance(known.get(identity), dict) else {},
            "bench": report.manifest.get("heylookllm"),
            "machine": report.manifest.get("machine"),
            "calibration": report.manifest.get("calibration"),
            "verdict": words.verdict(report),
        }
        for identity, rows in by_target.items()
    ]


def _choices(reports: Sequence[Report]) -> dict[str, Any]:
    rows = [row for report in reports for row in report.rows]
    has = [
        str(wanted)
        for wanted in EVERY
        if wanted.measure in PLAIN or any(wanted.measure in row.measures for row in rows)
    ]
    return {
        "models": list(dict.fromkeys(row.model for row in rows)),
        "scenarios": list(dict.fromkeys(row.scenario for row in rows)),
        "quantities": has,
        "usual": list(USUAL),
    }
