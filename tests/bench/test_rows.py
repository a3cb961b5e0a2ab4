"""The samples of a run as flat rows: page by page, sorted by any number, filtered; what is unknown stands last."""

from pathlib import Path

import pytest

from heylook_llm.bench.rows import Page, rows
from heylook_llm.bench.sample import Run
from heylook_llm.bench.store import Store
from heylook_llm.errors import BadRequest
from tests.bench.answers import MS, answer
from tests.bench.records import MACHINE, TARGET, cell, run

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs.sqlite3")
    made: Run = run()
    store.create(made, MACHINE, [TARGET], [cell(), cell("cell-2", ordinal=1, level=8, load="poisson")])
    store.add_samples(answer(n, n * 100, 100 + 7 * n % 5, cached=n) for n in range(6))
    store.add_samples(
        [
            answer(0, 50, 300, cell_id="cell-2", t_due=20 * MS),
            answer(1, 60, outcome="error", error_class="reset", cell_id="cell-2"),
            answer(2, 70, gaps_ms=(), phase="warmup", cell_id="cell-2"),
        ]
    )
    return store


def test_a_page_in_the_order_of_the_run(store: Store) -> None:
    found = rows(store, run(), Page(offset=4, limit=3))
    assert (found["total"], found["offset"]) == (9, 4)
    assert [(row["cell"], row["ordinal"]) for row in found["data"]] == [(0, 4), (0, 5), (1, 0)]
    first = found["data"][0]
    assert (first["target"], first["model"], first["level"]) == ("null", "m", 4)
    assert (first["input"], first["output"], first["cached"]) == (20, 10, 4)
    assert first["tpot"] == pytest.approx(10)
    assert found["data"][2]["ttft"] == pytest.approx(330), "of an open loop from the planned moment"
    assert rows(store, run(), Page(descending=True, limit=1))["data"][0]["ordinal"] == 2
    assert rows(store, run(), Page(offset=99))["data"] == []


def test_sorted_by_a_number_what_is_unknown_stands_last(store: Store) -> None:
    for descending in (False, True):
        found = [row["tpot"] for row in rows(store, run(), Page(sort="tpot", descending=descending))["data"]]
        assert found[-1] is None
        known = [value for value in found if value is not None]
        assert known == sorted(known, reverse=descending)
    slowest = rows(store, run(), Page(sort="ttft", descending=True, limit=1))["data"][0]
    assert slowest["ttft"] == pytest.approx(330)
    with pytest.raises(BadRequest, match="have no 'luck'"):
        rows(store, run(), Page(sort="luck"))


def test_only_some(store: Store) -> None:
    (failed,) = rows(store, run(), Page(outcome="error"))["data"]
    assert failed["error_class"] == "reset"
    assert rows(store, run(), Page(phase="warmup"))["total"] == 1
    assert rows(store, run(), Page(phase="measure", outcome="ok"))["total"] == 7
