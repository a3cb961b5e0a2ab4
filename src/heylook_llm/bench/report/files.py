"""The files that are made of a kept run: each form of its report, and its raw samples."""

from typing import Final, Literal, NamedTuple

from heylook_llm.bench.metrics import Report, report
from heylook_llm.bench.report import markdown, tables
from heylook_llm.bench.sample import Run
from heylook_llm.bench.store import Store

Form = Literal["json", "csv", "jsonl", "xlsx", "html", "markdown"]


class File(NamedTuple):
    """What a form's file is called, and what it is."""

    suffix: str
    media_type: str


FILES: Final[dict[Form, File]] = {
    "json": File(".json", "application/json"),
    "csv": File(".csv", "text/csv; charset=utf-8"),
    "jsonl": File(".jsonl", "application/x-ndjson"),
    "xlsx": File(".xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    "html": File(".html", "text/html; charset=utf-8"),
    "markdown": File(".md", "text/markdown; charset=utf-8"),
}


def made(store: Store, run: Run, limits: dict[str, float] | None = None) -> Report:
    """The report of a run, from what the store keeps."""
    cells, samples = store.cells(run.id), store.samples(run.id)
    pairs, warnings = store.pairs(run.id), store.warnings(run.id)
    series = store.series(run.id)
    return report(run, cells, samples, store.targets(run.id), pairs, limits or None, warnings, series)


def name_of(run: Run, form: Form) -> str:
    """What a run's file is called."""
    return f"bench-{run.id[-8:].lower()}{FILES[form].suffix}"


def content(store: Store, run: Run, form: Form) -> bytes:
    """One form. What only it needs is imported here. Raises ConfigError where that isn't installed."""
    if form == "jsonl":
        kept = store.cells(run.id), store.samples(run.id), store.pairs(run.id), store.targets(run.id)
        return b"".join(tables.as_jsonl(*kept))
    found = made(store, run)
    if form == "json":
        return tables.as_json(found)
    if form == "csv":
        return (
            b"\xef\xbb\xbf" + tables.as_csv(found).encode()
        )  # without the mark Excel takes it for the local code page
    if form == "markdown":
        return markdown.text(found).encode()
    if form == "xlsx":
        from heylook_llm.bench.report import workbook  # noqa: PLC0415

        return workbook.as_xlsx(found, store.cells(run.id), store.samples(run.id))
    from heylook_llm.bench.report import page  # noqa: PLC0415

    return page.as_html(found).encode()
