"""Why a request was slow: the phase that took longer than it should have, and no other."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.server.performance.phases import PHASES, Phase
from heylook_llm.server.performance.record import Finished
from heylook_llm.server.performance.verdict import LEAST_SAMPLES, Usual, usual, verdict
from tests.server.recording import MS, finished

pytestmark = pytest.mark.unit

USUAL_MS: dict[Phase, float] = {
    "parse": 0.4, "load": 0, "queue": 0.2, "prepare": 3, "prefill": 20, "decode": 60, "flush": 0.5,
}  # fmt: skip
TOKENS = core.Usage(prompt_tokens=40, output_tokens=31)


def request(extra_ms: dict[Phase, float] | None = None, noise: random.Random | None = None, **fields: Any) -> Finished:
    """A request that took what is usual, give or take a tenth, and this much longer."""
    spent = {
        phase: round((ms * (noise.uniform(0.9, 1.1) if noise else 1) + (extra_ms or {}).get(phase, 0)) * MS)
        for phase, ms in USUAL_MS.items()
    }
    parsed = spent["parse"]
    submitted = parsed + spent["load"]
    queued = submitted + spent["prepare"]
    admitted = queued + spent["queue"]
    first = admitted + spent["prefill"]
    last = first + spent["decode"]
    times = core.Timeline(
        received_ns=0, parsed_ns=parsed, ready_ns=parsed, submitted_ns=submitted, queued_ns=queued,
        admitted_ns=admitted,
        load_start_ns=parsed if spent["load"] else None, load_end_ns=submitted if spent["load"] else None,
        first_token_ns=first, last_token_ns=last, closed_ns=last + spent["flush"],
    )  # fmt: skip
    return finished(**{"timeline": times, "first": TOKENS} | fields)


def typical() -> Usual:
    noise = random.Random(1)
    return usual([request(noise=noise) for _ in range(50)])


@pytest.mark.parametrize("phase", PHASES)
def test_20_ms_in_one_phase_are_named_and_no_other(phase: Phase) -> None:
    noise, known = random.Random(2), typical()
    for _ in range(100):
        found = verdict(request({phase: 20}, noise), known)
        assert (found.word, [cause.phase for cause in found.causes]) == (f"{phase}-bound", [phase])


@pytest.mark.parametrize("first", PHASES)
@pytest.mark.parametrize("second", PHASES)
def test_both_of_two_causes_are_named_the_larger_first(first: Phase, second: Phase) -> None:
    if first == second:
        return
    noise, known = random.Random(3), typical()
    found = verdict(request({first: 60, second: 25}, noise), known)
    assert [cause.phase for cause in found.causes] == [first, second]


def test_without_a_cause_it_is_normal() -> None:
    noise, known = random.Random(4), typical()
    for _ in range(100):
        assert verdict(request(noise=noise), known).word == "normal"


def test_a_long_answer_is_not_a_slow_one() -> None:
    long = request({"prefill": 180, "decode": 540}, first=core.Usage(prompt_tokens=400, output_tokens=301))
    assert verdict(long, typical()).word == "normal"


def test_waiting_is_a_cause_however_usual_it_is() -> None:
    crowd = [request({"queue": 500}) for _ in range(50)]
    assert verdict(crowd[0], usual(crowd)).word == "queue-bound"


def test_before_enough_is_known_only_waiting_is_judged() -> None:
    few = usual([request() for _ in range(LEAST_SAMPLES - 1)])
    slow = verdict(request({"decode": 1000, "load": 1000}), few)
    assert (slow.word, slow.judged, slow.samples) == ("load-bound", ("load", "queue"), LEAST_SAMPLES - 1)
    assert verdict(request({"decode": 1000}), few).word == "normal"


def test_what_failed_is_not_usual() -> None:
    failed = [request({"decode": 1000}, outcome="error") for _ in range(50)]
    assert usual([*failed, *(request() for _ in range(20))]) == usual([request() for _ in range(20)])


@given(
    st.dictionaries(st.sampled_from(PHASES), st.floats(0, 10_000)),
    st.sampled_from(PHASES),
    st.floats(0, 10_000),
)
def test_more_time_in_a_phase_makes_it_no_smaller_cause(extra: dict[Phase, float], phase: Phase, more: float) -> None:
    known = typical_once()
    before = {cause.phase: cause for cause in verdict(request(extra), known).causes}
    after = verdict(request(extra | {phase: extra.get(phase, 0) + more}), known)
    assert all(cause.excess_ns > 0 for cause in after.causes)
    if phase in before:
        (now,) = [cause for cause in after.causes if cause.phase == phase]
        assert now.excess_ns >= before[phase].excess_ns
    assert (after.word == "normal") == (not after.causes)
    assert [cause.excess_ns for cause in after.causes] == sorted((c.excess_ns for c in after.causes), reverse=True)


_KNOWN = typical()


def typical_once() -> Usual:
    return _KNOWN


def test_a_request_without_stamps_is_normal() -> None:
    assert verdict(msgspec.structs.replace(request(), timeline=core.Timeline()), typical()).word == "normal"
