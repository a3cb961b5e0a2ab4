"""The decode steps of a choice: packed small, unpacked as they were."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.server.performance.measures import token_gaps_us
from heylook_llm.worker import decoded
from heylook_llm.worker.decoded import Decoded

pytestmark = pytest.mark.unit

STEPS = st.lists(
    st.tuples(st.integers(1, 10**9), st.integers(1, 300), st.integers(0, 8), st.integers(0, 8)), max_size=50
)


@given(st.integers(0, 10**18), STEPS)
def test_steps_come_back_as_they_were(first_ns: int, steps: list[tuple[int, int, int, int]]) -> None:
    noted, at, ends = Decoded(), first_ns, []
    for gap, size, drafted, right in steps:
        at += gap
        ends.append(at)
        noted.step(at, size, drafted)
        for _ in range(min(drafted, right)):
            noted.accept()
    packed = noted.packed(first_ns)
    gaps = array("I", packed.ends_us)
    assert len(gaps) == len(steps)
    for place, end in enumerate(ends):
        assert abs(sum(gaps[: place + 1]) * 1000 - (end - first_ns)) <= 500
    assert list(array("H", packed.batch_sizes)) == [size for _, size, _, _ in steps]
    if any(drafted for _, _, drafted, _ in steps):
        assert list(packed.drafted) == [drafted for _, _, drafted, _ in steps]
        assert list(packed.accepted) == [min(drafted, right) for _, _, drafted, right in steps]
    else:
        assert (packed.drafted, packed.accepted) == (b"", b"")


def test_tokens_of_one_step_share_its_time() -> None:
    noted = Decoded()
    noted.step(10_000_000, 1, 0)
    noted.step(40_000_000, 1, 4)
    noted.accept()
    noted.accept()
    assert list(token_gaps_us(core.Timeline(decode=noted.packed(0)))) == [(10_000.0, 1), (10_000.0, 3)]


def test_an_answer_without_an_end_does_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "MOST_STEPS", 5)
    noted = Decoded()
    for step in range(10):
        noted.step(step, 1, 1)
        noted.accept()
    packed = noted.packed(0)
    assert (len(packed.ends_us), len(packed.batch_sizes), packed.accepted) == (20, 10, bytes((1, 1, 1, 1, 0)))


def test_what_never_began_has_no_steps() -> None:
    assert Decoded().packed(None) == core.DecodeSteps() == Decoded().packed(5)
