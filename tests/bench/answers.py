"""Answers of known times, as samples: every stamp is chosen, so every number can be computed by hand."""

from collections.abc import Sequence
from typing import Any

from heylook_llm.bench.metrics import Report, Row, report
from heylook_llm.bench.sample import Cell, Pair, Sample, Target, packed_stamps, packed_tokens
from tests.bench.records import TARGET, cell, run, sample

MS = 1_000_000
SECOND = 1000 * MS


def answer(
    ordinal: int = 0,
    start_ms: float = 0,
    ttft_ms: float = 100,
    gaps_ms: Sequence[float] = (10,) * 9,
    counts: Sequence[int] | None = None,
    **more: Any,
) -> Sample:
    """One that began at `start_ms`, with one token a chunk unless `counts` says more; it ends 1 ms after its last."""
    start = round(start_ms * MS)
    stamps = [start + round(ttft_ms * MS)]
    for gap in gaps_ms:
        stamps.append(stamps[-1] + round(gap * MS))
    counts = [1] * len(stamps) if counts is None else counts
    given: dict[str, Any] = {
        "t_due": start,
        "t_start": start,
        "t_sent": start,
        "t_headers": stamps[0],
        "t_first_event": stamps[0],
        "t_first_token": stamps[0],
        "t_first_visible": stamps[0],
        "t_last_token": stamps[-1],
        "t_end": stamps[-1] + MS,
        "chunk_times": packed_stamps(stamps),
        "chunk_tokens": packed_tokens(counts),
        "in_usage": 20,
        "out_usage": sum(counts),
        "http_status": 200,
    }
    return sample(ordinal, **(given | more))


def report_of(
    samples: Sequence[Sample],
    cells: Sequence[Cell] | None = None,
    pairs: Sequence[Pair] = (),
    targets: Sequence[Target] = (TARGET,),
    **more: Any,
) -> Report:
    """The report of a run with these samples."""
    spec = more.pop("spec_json", "{}")
    return report(
        run(spec_json=spec),
        [cell()] if cells is None else cells,
        samples,
        {target.id: target for target in targets},
        {pair.sample_id: [pair] for pair in pairs},
        **more,
    )


def row_of(samples: Sequence[Sample], **more: Any) -> Row:
    """The only row of it."""
    (row,) = report_of(samples, **more).rows
    return row


def remarks_of(row: Row) -> set[str]:
    """The words of its remarks."""
    return {remark.code for remark in row.remarks}
