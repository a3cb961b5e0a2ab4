"""A few numbers of each sample, for whoever draws a run while it goes on."""

from typing import Any

from heylook_llm.bench.measures import output_tokens, values
from heylook_llm.bench.store import Store


def points(store: Store, run_id: str, after: int, limit: int) -> list[dict[str, Any]]:
    """Of the samples behind one, in the order in which they were committed. Times in ms, `at` in s; unknown is None."""
    loads = {cell.id: (cell.ordinal, cell.load != "closed") for cell in store.cells(run_id)}
    begun = store.first_start(run_id)
    found = []
    for row, sample in store.samples_after(run_id, after, limit):
        ordinal, open_loop = loads[sample.cell_id]
        numbers = values(sample, open_loop)
        end = sample.t_end if sample.t_end is not None else sample.t_start
        found.append(
            {
                "row": row,
                "cell": ordinal,
                "ordinal": sample.ordinal,
                "phase": sample.phase,
                "outcome": sample.outcome,
                "error": sample.error_class,
                "at": None if begun is None or end is None else round((end - begun) / 1e9, 4),
                "tokens": output_tokens(sample),
                **{name: _rounded(numbers.get(name)) for name in ("ttft", "tpot", "e2e")},
            }
        )
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
