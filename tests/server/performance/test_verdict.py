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
from heylook_llm.server.performance.usual import REACH, Usual, line, usual
from heylook_llm.server.performance.verdict import verdict
from heylook_llm.slowness import LEAST_OTHERS
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


def test_a_wait_that_hardly_lengthened_a_request_is_none() -> None:
    """6 % of its time in the queue isn't what it is bound by."""
    short = request({"queue": 5.2})
    assert verdict(short, typical()).word == "normal"
    assert verdict(request({"queue": 12}), typical()).word == "queue-bound"


STEP_MS, TOKEN_MS = 20.0, 2.0
"""Of a model that decodes a token in 20 ms, and computes one of a prompt in 2, but no step in less than 20."""


def prompted(computed: int, noise: random.Random, extra: dict[Phase, float] | None = None) -> Finished:
    """A request whose prompt of 2,000 tokens was cached but for these."""
    prefill = max(STEP_MS, TOKEN_MS * computed) * noise.uniform(0.95, 1.05)
    decode = 30 * STEP_MS * noise.uniform(0.95, 1.05)
    tokens = core.Usage(prompt_tokens=2000, cached_tokens=2000 - computed, output_tokens=31)
    added = {"prefill": prefill - USUAL_MS["prefill"], "decode": decode - USUAL_MS["decode"]}
    more = {phase: added.get(phase, 0) + (extra or {}).get(phase, 0) for phase in PHASES}
    return request(more, first=tokens)


@pytest.mark.parametrize("whole", [1, 10, 100, 190, 199])
def test_a_prompt_is_compared_with_those_of_its_length(whole: int) -> None:
    """Among cached prompts there were so many that had to be computed, and now comes one of each kind."""
    noise = random.Random(5)
    others = [prompted(noise.randint(900, 1100), noise) for _ in range(whole)]
    others += [prompted(noise.randint(1, 6), noise) for _ in range(200 - whole)]
    known = usual(others)
    for computed in (1, 5, 950, 1050):
        assert verdict(prompted(computed, noise), known).word == "normal", computed
        slow = verdict(prompted(computed, noise, {"prefill": 1500}), known)
        assert slow.word == "prefill-bound", computed


def test_a_long_prompt_after_cached_ones_is_not_judged() -> None:
    noise = random.Random(6)
    known = usual([prompted(noise.randint(1, 6), noise) for _ in range(200)])
    for computed in (13, 100, 2000):
        found = verdict(prompted(computed, noise), known)
        assert (found.word, "prefill" in found.judged) == ("normal", False), computed
    cached = verdict(prompted(3, noise, {"prefill": 200}), known)
    assert (cached.word, "prefill" in cached.judged) == ("prefill-bound", True)


def test_a_cached_prompt_after_long_ones_is_expected_to_take_a_step() -> None:
    noise = random.Random(7)
    known = usual([prompted(noise.randint(1900, 2000), noise) for _ in range(200)])
    assert verdict(prompted(2, noise), known).word == "normal"
    assert verdict(prompted(2, noise, {"prefill": 200}), known).word == "prefill-bound"


def test_a_third_of_slow_requests_does_not_make_slowness_usual() -> None:
    noise = random.Random(8)
    known = usual([request({"prefill": 20, "flush": 20} if at % 3 == 0 else {}, noise) for at in range(200)])
    found = verdict(request({"prefill": 20, "flush": 20}, noise), known)
    assert {cause.phase for cause in found.causes} == {"prefill", "flush"}
    assert verdict(request(noise=noise), known).word == "normal"


def test_what_varies_much_is_not_a_cause_within_its_spread() -> None:
    noise = random.Random(9)
    known = usual([request({"decode": noise.uniform(0, 100)}) for _ in range(200)])
    assert verdict(request({"decode": 95}), known).word == "normal"
    assert verdict(request({"decode": 300}), known).word == "decode-bound"


_POINTS = st.lists(st.tuples(st.integers(1, 100_000), st.floats(0, 1e12)), min_size=1, max_size=50)


@given(_POINTS, st.floats(0, 1e9), st.integers(0, 1_000_000))
def test_a_line_never_falls_nor_goes_below_its_floor(
    points: list[tuple[int, float]], step_ns: float, tokens: int
) -> None:
    found = line(points, step_ns)
    assert found.token_ns >= 0
    assert found.spread >= 0
    at, further = found.at(tokens), found.at(tokens + 100)
    assert at is None or at >= found.floor_ns
    assert at is None or further is None or further >= at
    assert (at is None) == (tokens > REACH * max(count for count, _ in points))


@given(st.floats(0, 1e8), st.floats(0, 1e6), st.lists(st.integers(1, 5000), min_size=20, max_size=60, unique=True))
def test_points_of_a_line_give_that_line(fixed: float, token: float, counts: list[int]) -> None:
    found = line([(count, fixed + token * count) for count in counts])
    if max(counts) >= 2 * min(counts):
        for count in counts:
            assert found.at(count) == pytest.approx(fixed + token * count, rel=1e-6, abs=1)


def test_before_enough_is_known_only_waiting_is_judged() -> None:
    few = usual([request() for _ in range(LEAST_OTHERS - 1)])
    slow = verdict(request({"decode": 1000, "load": 1000}), few)
    assert (slow.word, slow.judged, slow.samples) == ("load-bound", ("load", "queue"), LEAST_OTHERS - 1)
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
