"""The ledger of runs against lists of single cells."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm.worker.cells import Ledger
from tests.worker.tiers import EXAMPLES

pytestmark = pytest.mark.unit

SLOTS = 4
CHANGES = st.lists(
    st.tuples(st.sampled_from(["extend", "share", "remove"]), st.integers(0, 3), st.integers(0, 3), st.integers(0, 9)),
    max_size=40,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(changes=CHANGES)
def test_the_ledger_counts_as_single_cells_do(changes: list[tuple[str, int, int, int]]) -> None:
    ledger = Ledger(SLOTS)
    cells: list[list[int]] = [[] for _ in range(SLOTS)]
    numbers = itertools.count()
    for kind, slot, other, count in changes:
        match kind:
            case "extend":
                ledger.extend(slot, count)
                cells[slot] += [next(numbers) for _ in range(count)]
            case "share" if slot != other:
                ledger.remove(other)
                ledger.share(slot, other, count)
                cells[other] = cells[slot][:count]
            case "remove":
                end = None if other == 0 else count + other
                ledger.remove(slot, count, end)
                del cells[slot][count:end]
        assert ledger.used == len(set().union(*cells))
        for group in ((slot,), (slot, other), range(SLOTS)):
            kept = set().union(*(held for at, held in enumerate(cells) if at not in group))
            assert ledger.freed(group) == ledger.used - len(kept)
        assert [ledger.held(at) for at in range(SLOTS)] == list(map(len, cells))
