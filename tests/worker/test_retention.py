"""What retained cells may cost: the budget learned from made-up step times whose law is known."""

import random
from collections.abc import Callable, Iterator

import pytest

from heylook_llm import core
from heylook_llm.worker.retention import LEAST_ESTIMATE_TOKENS, SLOWDOWN, Retention, estimated_budget
from tests.worker.simulated import endless, simulated

pytestmark = pytest.mark.unit

ESTIMATE = 3000


def steps(batch: int, *, retained: tuple[int, ...] = (0, 500, 2000), seed: int = 1) -> Iterator[tuple[int, int]]:
    """(cells of the batch's own, cells in use) of sequences that grow, beside some retained cells or none."""
    choices = random.Random(seed)
    for _ in range(12):
        kept = choices.choice(retained)
        start = choices.randrange(50, 400)
        for token in range(40):
            own = batch * (start + token)
            yield own, own + kept


def learned(law: Callable[[int, int, int], float], batch: int = 1, estimate: int = ESTIMATE) -> Retention:
    """A budget that has seen steps of this law: (batch, own cells, cells in vain) -> nanoseconds."""
    retention = Retention(estimate)
    for own, used in steps(batch):
        retention.learn(batch, own, used, int(law(batch, own, batch * used - own)))
    return retention


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("vain", [50, 400, 3000])
def test_the_budget_is_where_the_step_becomes_a_tenth_longer(batch: int, vain: int) -> None:
    def law(batch: int, own: int, in_vain: int) -> float:
        return 4e6 + 1e6 * batch + 900 * own + vain * in_vain

    budget = learned(law, batch).budget(batch)
    alone = law(batch, batch * 225, (batch - 1) * batch * 225)
    beside = law(batch, batch * 225, (batch - 1) * batch * 225 + batch * budget)
    slowdown = beside / alone - 1
    assert slowdown > 0.05
    assert slowdown < 1.3 * SLOWDOWN


def test_cells_that_cost_nothing_may_all_stay() -> None:
    assert learned(lambda batch, own, vain: 5e6 + 700 * own).budget(1) > 1 << 30


def test_noise_leaves_the_estimate() -> None:
    noise = random.Random(5)
    assert learned(lambda batch, own, vain: 5e6 * noise.uniform(0.3, 2.0) + 100 * vain).budget(1) == ESTIMATE


def test_a_slope_above_the_noise_is_found() -> None:
    noise = random.Random(5)
    budget = learned(lambda batch, own, vain: 5e6 * noise.uniform(0.95, 1.05) + 900 * vain).budget(1)
    assert 300 <= budget < 900


def test_steps_that_were_held_up_are_not_learned_from() -> None:
    chance = random.Random(5)

    def law(batch: int, own: int, vain: int) -> float:
        return (5e6 + 500 * vain) * (40 if chance.random() < 0.05 else 1)

    retention = Retention(ESTIMATE)
    for own, used in steps(1, retained=(0,)):
        retention.learn(1, own, used, 5_000_000)
    for own, used in steps(1):
        retention.learn(1, own, used, int(law(1, own, used - own)))
    assert 700 < retention.budget(1) < 1300


def test_without_variety_nothing_is_known() -> None:
    retention = Retention(ESTIMATE)
    assert retention.budget(3) == ESTIMATE
    for own, used in steps(1, retained=(0,)):
        retention.learn(1, own, used, 5_000_000)
    assert retention.budget(1) == ESTIMATE


def test_another_batch_size_is_judged_by_the_nearest_known() -> None:
    retention = learned(lambda batch, own, vain: 6e6 + 60 * vain, 4)
    assert retention.budget(8) == pytest.approx(retention.budget(4) / 2, rel=0.2)


def test_the_estimate_is_by_the_models_numbers() -> None:
    info = core.ModelInfo("fake", "fake", 4096, n_parameters=460_000_000, n_embedding=896, n_layers=24)
    assert estimated_budget(info) == 1069
    assert estimated_budget(core.ModelInfo("fake", "fake", 4096)) == LEAST_ESTIMATE_TOKENS


def test_a_scheduler_learns_from_its_steps() -> None:
    retention = Retention(ESTIMATE)
    scheduler, provider = simulated(slots=4, kv_tokens=20_000, retention=retention)
    for request, length in enumerate((0, 300, 600) * 2):
        scheduler.submit(endless(request, [request + 9] * 40, 60), 0)
        if length:
            scheduler.submit(endless(100 + request, [request + 1] * length, 60, limit=2000), 0)
        while not scheduler.idle:
            drawn = provider.step(scheduler.plan(0))
            own = sum(sequence.computed + 1 for sequence in scheduler.running)
            spanned = len(scheduler.running) * (scheduler.pool.ledger.used + len(scheduler.running)) - own
            scheduler.commit(drawn, 0, 5_000_000 + 1000 * own + 250 * spanned)
    slope, error = retention.vain()
    assert slope == pytest.approx(250, rel=0.05)
    assert error < 50
