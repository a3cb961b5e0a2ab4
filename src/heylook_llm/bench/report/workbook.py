"""A report as a workbook for spreadsheets. Foreign text is text in it: never a formula, never a link."""

import io
from collections.abc import Iterable, Sequence
from typing import Any, Final

import xlsxwriter  # type: ignore[import-untyped]  # it ships no types

from heylook_llm.bench.breakdown import MEANING, PHASES
from heylook_llm.bench.measures import MEASURES, POOLED, values
from heylook_llm.bench.metrics import Report
from heylook_llm.bench.quantity import PLAIN
from heylook_llm.bench.report import words
from heylook_llm.bench.report.tables import flat
from heylook_llm.bench.sample import Cell, Sample

LONGEST: Final = 32_767
"""Characters that a cell holds."""
MOST_ROWS: Final = 1_048_576 - 1
"""Lines of a sheet, below its heads."""
_SAMPLE: Final = (
    *("ordinal", "attempt", "phase", "outcome", "error_class", "http_status", "finish_reason"),
    *("in_planned", "in_usage", "in_engine", "cached", "out_asked", "out_usage", "out_engine", "out_counted"),
    *("server_request_id", "t_due", "t_start", "t_sent", "t_headers", "t_first_token", "t_last_token", "t_end"),
)


def as_xlsx(report: Report, cells: Sequence[Cell], samples: Iterable[Sample]) -> bytes:
    """Sheets: summary, rows, where time went, samples, and what each number means."""
    out = io.BytesIO()
    options = {"in_memory": True, "constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(out, options) as book:
        _summary(_Sheet(book, "Summary"), report)
        lines = [flat(row) for row in report.rows]
        heads = list(dict.fromkeys(name for line in lines for name in line))
        _Sheet(book, "Rows").fill(heads, ([line.get(head) for head in heads] for line in lines))
        _Sheet(book, "Where time went").fill(
            ["target", "model", "scenario", "load", "level", *(f"{phase} ms" for phase in PHASES)],
            (
                [row.target, row.model, row.scenario, row.load, row.level, *(row.where.get(phase) for phase in PHASES)]
                for row in report.rows
            ),
        )
        _samples(_Sheet(book, "Samples"), cells, samples)
        _Sheet(book, "What it means").fill(["name", "unit", "what", "how", "leaves out"], _meanings())
    return out.getvalue()


class _Sheet:
    """A sheet that is written line by line."""

    def __init__(self, book: "xlsxwriter.Workbook", name: str) -> None:
        self._sheet = book.add_worksheet(name)
        self._bold = book.add_format({"bold": True})
        self._line = 0

    def fill(self, heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
        """Heads that stay in sight, and what stands below them."""
        self._sheet.freeze_panes(1, 0)
        self.line(heads, bold=True)
        for line in lines:
            if self._line > MOST_ROWS:
                return
            self.line(line)

    def line(self, cells: Sequence[Any], bold: bool = False) -> None:
        """One more line; unknown stays empty."""
        for column, value in enumerate(cells):
            if isinstance(value, bool | int | float) and abs(value) < 1 << 53:
                self._sheet.write_number(self._line, column, value)
            elif value is not None:
                text = words.shown(str(value))[:LONGEST]
                self._sheet.write_string(self._line, column, text, self._bold if bold else None)
        self._line += 1


def _summary(sheet: _Sheet, report: Report) -> None:
    sheet.line([words.verdict(report)], bold=True)
    sheet.line(["run", report.run, report.name, report.state])
    sheet.line(["spec", report.spec_hash])
    sheet.line([])
    sheet.line([*words.AXES, "n", *(title for _, title in words.COLUMNS)], bold=True)
    for row in report.rows:
        axes = [getattr(row, name) for name in words.AXES]
        sheet.line([*axes, words.requests(row), *words.cells(row, interval=True)])
    sheet.line([])
    for text in words.remarks(report):
        sheet.line([text])


def _samples(sheet: _Sheet, cells: Sequence[Cell], samples: Iterable[Sample]) -> None:
    by_id = {cell.id: cell for cell in cells}
    names = [name for name in MEASURES if name not in POOLED]
    heads = ["model", "scenario", "load", "level", "cache", "repeat", *_SAMPLE, *names]

    def lines() -> Iterable[list[Any]]:
        for sample in samples:
            cell = by_id[sample.cell_id]
            numbers = values(sample, cell.load != "closed")
            axes = [cell.model, cell.scenario, cell.load, cell.level, cell.cache, cell.repeat]
            told = [getattr(sample, name) for name in _SAMPLE]
            yield [*axes, *told, *(numbers.get(name) for name in names)]

    sheet.fill(heads, lines())


def _meanings() -> Iterable[Sequence[Any]]:
    for measure in MEASURES.values():
        yield measure.name, measure.unit, measure.title, measure.formula, measure.leaves_out
    for name, plain in PLAIN.items():
        yield name, plain.unit, plain.title
    for phase, meaning in MEANING.items():
        yield phase, "ms", meaning
