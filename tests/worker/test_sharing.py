"""Who shares whose prompt, and when: scenes for the Scheduler over the simulated provider."""

import pytest

from heylook_llm import core
from heylook_llm.worker.retention import Fixed
from heylook_llm.worker.scheduler import Scheduler
from heylook_llm.worker.sequence import Sequence, State
from tests.worker.simulated import Simulated, endless, run, simulated

pytestmark = pytest.mark.unit

SYSTEM = [1] * 300


def together(scheduler: Scheduler, provider: Simulated, *prompts: list[int], first: int = 1) -> list[Sequence]:
    """Submit prompts at once and step until idle."""
    submitted = [endless(first + at, prompt) for at, prompt in enumerate(prompts)]
    for one in submitted:
        scheduler.submit(one, 0)
    run(scheduler, provider)
    return submitted


def step(scheduler: Scheduler, provider: Simulated) -> None:
    """One step."""
    scheduler.commit(provider.step(scheduler.plan(0)), 0, 1)


@pytest.mark.parametrize("reach", [None, 0, 8])
def test_a_shared_beginning_is_computed_once_by_requests_of_one_step(reach: int | None) -> None:
    scheduler, provider = simulated(slots=8, reach=reach)
    submitted = together(scheduler, provider, *([*SYSTEM, at, at, at] for at in range(5, 13)))
    assert scheduler.prompt_tokens == 300 + 8 * 3
    assert [one.cached_tokens for one in submitted] == [0, *[300] * 7]
    times = [one.timeline() for one in submitted]
    assert [time.cached_tokens for time in times] == [0, *[300] * 7]
    assert [time.cached_from for time in times] == [None, *["running"] * 7]
    assert {time.shared_with for time in times[1:]} <= {f"r{at}" for at in range(1, 8)}


@pytest.mark.parametrize("reach", [None, 0, 8])
def test_beginnings_within_beginnings_are_each_computed_once(reach: int | None) -> None:
    scheduler, provider = simulated(slots=8, reach=reach)
    longer = [*SYSTEM, *[2] * 100]
    together(scheduler, provider, [*longer, 5], [*longer, 6], [*SYSTEM, 7], [*longer, 8])
    assert scheduler.prompt_tokens == 400 + 4


def test_a_running_prefix_is_shared_before_its_prompt_is_computed() -> None:
    scheduler, provider = simulated(prefill_tokens=100)
    first = endless(1, [*SYSTEM, *[3] * 150])
    scheduler.submit(first, 0)
    while first.computed < 150:
        step(scheduler, provider)
    second = endless(2, [*SYSTEM[:120], 4])
    scheduler.submit(second, 0)
    scheduler.plan(0)
    assert (second.state, second.computed) == (State.RUNNING, 120)
    assert first.output_tokens == 0


def test_few_tokens_are_computed_rather_than_waited_for() -> None:
    scheduler, provider = simulated()
    first, second = endless(1, [1] * 20 + [2]), endless(2, [1] * 20 + [3])
    scheduler.submit(first, 0)
    scheduler.submit(second, 0)
    step(scheduler, provider)
    assert (first.output_tokens, second.output_tokens) == (1, 1)


def test_a_short_prompt_that_may_pass_a_long_one_does_not_wait_for_it() -> None:
    scheduler, provider = simulated(slots=8, kv_tokens=9000, prefill_tokens=200)
    together(scheduler, provider, [9] * 400)  # so that the length of a step is learned
    assert scheduler.prompt_limit(0) == 200
    prompts = [[*[1] * 80, *[at] * count] for at, count in ((2, 3000), (3, 5), (4, 5), (5, 100))]
    submitted = [endless(at, prompt, limit=4000) for at, prompt in enumerate(prompts, 2)]
    for one in submitted:
        scheduler.submit(one, 0)
    step(scheduler, provider)
    _, short, other, middling = submitted
    assert short.output_tokens == 1, "half of the step finishes it"
    step(scheduler, provider)
    assert [one.cached_tokens for one in (short, other, middling)] == [0, 80, 80], "the others wait for the short one"
    assert other.output_tokens == 1


def test_whoever_waits_for_a_prompt_is_not_overtaken() -> None:
    scheduler, provider = simulated(slots=3, kv_tokens=4000, prefill_tokens=64)
    first, second = endless(1, [*SYSTEM, 2]), endless(2, [*SYSTEM, *[3] * 60])
    others = [endless(at, [at] * 900, limit=2000) for at in (4, 5)]
    for one in (first, second, *others):
        scheduler.submit(one, 0)
    while not second.output_tokens:
        step(scheduler, provider)
        assert others[1].state is State.WAITING, "the third place is kept for the second"
    assert others[0].computed < 64
    assert second.cached_tokens == 300


def test_cells_are_kept_for_whoever_waits_for_a_prompt() -> None:
    scheduler, provider = simulated(slots=3, kv_tokens=720, prefill_tokens=64)
    first, second, third = endless(1, [*SYSTEM, 2]), endless(2, [*SYSTEM, *[3] * 100]), endless(3, [4] * 320)
    for one in (first, second, third):
        scheduler.submit(one, 0)
    step(scheduler, provider)
    assert third.state is State.WAITING, "with it there would be no room for the second"
    run(scheduler, provider)
    assert scheduler.preemptions == 0


def test_a_higher_priority_waits_for_nobody_behind_it() -> None:
    scheduler, provider = simulated(prefill_tokens=64)
    background = endless(1, [*SYSTEM, 2], priority=-1)
    scheduler.submit(background, 0)
    step(scheduler, provider)
    urgent = endless(2, [*SYSTEM, 3])
    scheduler.submit(urgent, 0)
    step(scheduler, provider)
    assert urgent.cached_tokens == 64
    assert urgent.computed > background.computed == 64


def test_what_a_cancelled_prompt_had_computed_is_used() -> None:
    scheduler, provider = simulated(prefill_tokens=64)
    first, second = endless(1, [*SYSTEM, 2]), endless(2, [*SYSTEM, 3])
    scheduler.submit(first, 0)
    scheduler.submit(second, 0)
    for _ in range(2):
        step(scheduler, provider)
    assert second.state is State.WAITING
    scheduler.cancel(1)
    run(scheduler, provider)
    assert second.cached_tokens == 128


def test_two_conversations_keep_their_own_ends() -> None:
    """A conversation that begins like another doesn't take its cells over while there are slots."""
    scheduler, provider = simulated(retention=Fixed(1000))
    first, second = together(scheduler, provider, [*SYSTEM, *[2] * 40], [*SYSTEM, *[3] * 40])
    [again] = together(scheduler, provider, [*first.tokens, 5], first=3)
    assert again.cached_tokens == len(first.tokens) - 1
    [again] = together(scheduler, provider, [*second.tokens, 5], first=4)
    assert again.cached_tokens == len(second.tokens) - 1


def test_a_state_that_cannot_be_cut_is_kept_where_prompts_part() -> None:
    scheduler, provider = simulated(slots=4, reach=0)
    first, second, third = (together(scheduler, provider, [*SYSTEM, at, at], first=at)[0] for at in (5, 6, 7))
    assert (first.cached_tokens, second.cached_tokens) == (0, 0), "where they part is known only from the second on"
    assert third.cached_tokens == 300
    [same] = together(scheduler, provider, [*SYSTEM, 7, 7], first=8)
    assert same.cached_tokens == 300
    [next_turn] = together(scheduler, provider, [*same.tokens, 9], first=9)
    assert next_turn.cached_tokens == len(same.tokens) - 1


def test_choices_of_a_state_that_cannot_be_cut_share_all_but_the_last_token() -> None:
    scheduler, provider = simulated(reach=0)
    sampling = core.Sampling(max_tokens=5, ignore_eos=True)
    for choice in range(4):
        scheduler.submit(Sequence(1, choice, [1] * 50, sampling, limit_tokens=500), 0)
    run(scheduler, provider)
    assert scheduler.prompt_tokens == 50 + 3


def test_behind_a_window_a_prefix_is_shared_while_its_cells_are_there() -> None:
    scheduler, provider = simulated(slots=4, reach=8)
    first = endless(1, [*SYSTEM, *[2] * 4])
    scheduler.submit(first, 0)
    while not first.output_tokens:
        step(scheduler, provider)
    provider.lost[first.slot] = 290
    second, third = endless(2, [*SYSTEM, 3]), endless(3, [*SYSTEM[:297], 3])
    scheduler.submit(second, 0)
    scheduler.submit(third, 0)
    scheduler.plan(0)
    assert (second.cached_tokens, third.cached_tokens) == (300, 0)


def test_retained_prefixes_that_are_shared_cost_their_cells_once() -> None:
    scheduler, provider = simulated(slots=8, retention=Fixed(330))
    together(scheduler, provider, *([*SYSTEM, at] for at in range(5, 9)))
    scheduler.submit(endless(9, [9] * 20), 0)
    step(scheduler, provider)
    assert len(scheduler.pool.prefixes) == 4
    assert scheduler.pool.ledger.used - 20 == 300 + 4 * 5
