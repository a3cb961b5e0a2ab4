"""The samples of a run as flat rows, each with its numbers: a page of them, sorted by any."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from heylook_llm.bench.measures import MEASURES, input_tokens, output_tokens, values
from heylook_llm.bench.sample import Cell, Run, Sample
from heylook_llm.bench.store import Store
from heylook_llm.errors import BadRequest

_AXES: Final = ("target", "model", "task", "scenario", "load", "level", "repeat", "cache")
_PLAIN: Final = (
    *("ordinal", "attempt", "phase", "outcome", "error_class", "http_status", "finish_reason"),
    *("in_planned", "cached", "out_asked", "reasoning", "bytes_in", "bytes_out"),
    *("client_request_id", "server_request_id"),
)


class Page(NamedTuple):
    """Which samples of a run, in which order."""

    offset: int = 0
    limit: int = 50
    sort: str | None = None
    """A field or a measure; None: the order of the run."""
    descending: bool = False
    outcome: str | None = None
    phase: str | None = None
    """Only those; None: all."""


def rows(store: Store, run: Run, page: Page) -> dict[str, Any]:
    """One page of a run's samples, each with its numbers. Raises BadRequest."""
    cells = {cell.id: cell for cell in store.cells(run.id)}
    targets = {identity: target.name for identity, target in store.targets(run.id).items()}
    kept = [sample for sample in store.samples(run.id) if _is_asked(sample, page)]
    if page.sort is None:
        chosen = kept[::-1] if page.descending else kept
        data = [
            _row(sample, cells[sample.cell_id], targets) for sample in chosen[page.offset : page.offset + page.limit]
        ]
    else:
        every = [_row(sample, cells[sample.cell_id], targets) for sample in kept]
        data = _sorted(every, page.sort, page.descending)[page.offset : page.offset + page.limit]
    return {"object": "list", "data": data, "total": len(kept), "offset": page.offset}


def _is_asked(sample: Sample, page: Page) -> bool:
    return page.outcome in (None, sample.outcome) and page.phase in (None, sample.phase)


def _row(sample: Sample, cell: Cell, targets: Mapping[str, str]) -> dict[str, Any]:
    axes = {name: getattr(cell, name) for name in _AXES if name != "target"}
    numbers = values(sample, cell.load != "closed")
    return {
        "id": sample.id,
        "cell": cell.ordinal,
        "target": targets.get(cell.target_id, cell.target_id),
        **axes,
        **{name: getattr(sample, name) for name in _PLAIN},
        "input": input_tokens(sample),
        "output": output_tokens(sample),
        **{name: numbers.get(name) for name in MEASURES if name not in ("itl", "icl")},
    }


def _sorted(every: Sequence[dict[str, Any]], name: str, descending: bool) -> list[dict[str, Any]]:
    """What is unknown stands behind all else. Raises BadRequest."""
    if every and name not in every[0]:
        raise BadRequest(f"Samples have no '{name[:40]}'; there are: {', '.join(every[0])}.", param="sort")
    known = [row for row in every if row[name] is not None]
    unknown = [row for row in every if row[name] is None]
    return sorted(known, key=lambda row: row[name], reverse=descending) + unknown
