"""What is kept outside the pool: within its time, found where it pays, and given back."""

import queue
from collections.abc import Callable
from pathlib import Path

import pytest

from heylook_llm import core
from heylook_llm.worker.disk import Disk
from heylook_llm.worker.keeper import RESTORE_NS, SAVE_NS, Keeper, Rate
from heylook_llm.worker.providers.base import Feed
from heylook_llm.worker.retention import Fixed
from heylook_llm.worker.scheduler import Scheduler
from tests.worker.simulated import Simulated, endless, run
from tests.worker.test_disk import settled

pytestmark = pytest.mark.unit

STEP_NS = 10_000_000


class Clock:
    """Moves on by `step_ns` whenever it is asked."""

    def __init__(self, step_ns: int = 0) -> None:
        self.now = 0
        self.step_ns = step_ns

    def __call__(self) -> int:
        self.now += self.step_ns
        return self.now


def kept(
    slots: int = 4, kv_tokens: int = 1000, *, reach: int | None = None, disk: Disk | None = None
) -> tuple[Scheduler, Simulated, Keeper]:
    """A scheduler with a keeper, over a provider that shares."""
    provider = Simulated(slots, kv_tokens, reach=reach)
    keeper = Keeper(provider, Clock(), memory_bytes=1 << 20, disk=disk)
    retention = Fixed(kv_tokens)
    scheduler = Scheduler(provider, slots=slots, kv_tokens=kv_tokens, retention=retention, keeper=keeper)
    return scheduler, provider, keeper


def cached(scheduler: Scheduler, provider: Simulated, request: int, prompt: list[int]) -> int:
    """How much of a prompt wasn't computed."""
    sequence = endless(request, prompt)
    scheduler.submit(sequence, 0)
    run(scheduler, provider, STEP_NS)
    return sequence.cached_tokens


def filled(provider: Simulated, slot: int, tokens: list[int]) -> list[int]:
    """A slot with these tokens, computed."""
    provider.add(slot, core.Sampling(), tokens)
    provider.step([Feed(slot, 0, tuple(tokens), False)])
    return tokens


@pytest.mark.parametrize("reach", [None, 0, 8])
def test_what_leaves_the_pool_comes_back(reach: int | None) -> None:
    scheduler, provider, keeper = kept(kv_tokens=700, reach=reach)
    prompts = [[at] * 300 for at in (1, 2, 3)]
    tokens = []
    for at, prompt in enumerate(prompts):
        sequence = endless(at, prompt)
        scheduler.submit(sequence, 0)
        run(scheduler, provider, STEP_NS)
        tokens.append(sequence.tokens)
    assert len(keeper.states) == 1, "two fit in the pool"
    again = endless(4, [*tokens[0], 5])
    scheduler.submit(again, 0)
    run(scheduler, provider, STEP_NS)
    assert (again.cached_tokens, again.timeline().cached_from) == (len(tokens[0]) - 1, "memory")
    assert provider.used <= 700


def test_of_a_state_the_part_in_common_is_used() -> None:
    scheduler, provider, _ = kept(kv_tokens=700)
    for at in (1, 2, 3):
        cached(scheduler, provider, at, [at] * 300)
    assert cached(scheduler, provider, 4, [1] * 200 + [5] * 9) == 200
    assert scheduler.pool.flush() <= 700
    assert provider.used == 0


def test_what_the_pool_still_has_is_not_saved() -> None:
    scheduler, provider, keeper = kept(slots=2, kv_tokens=5000)
    first = endless(1, [7] * 200, max_tokens=1)
    scheduler.submit(first, 0)
    run(scheduler, provider, STEP_NS)
    cached(scheduler, provider, 2, [*first.tokens, *[8] * 200])
    cached(scheduler, provider, 3, [9] * 200)
    assert len(keeper.states) == 0, "another slot begins with all of it"
    cached(scheduler, provider, 4, [10] * 200)
    assert len(keeper.states) == 1


def test_what_takes_too_long_is_not_saved() -> None:
    scheduler, provider, keeper = kept(kv_tokens=700)
    keeper._saving = Rate(300 * 8 / SAVE_NS)
    for at in (1, 2, 3):
        cached(scheduler, provider, at, [at] * 300)
    assert len(keeper.states) == 0, "they have 304 tokens"
    keeper._saving = Rate(310 * 8 / SAVE_NS)
    for at in (4, 5, 6):
        cached(scheduler, provider, at, [at] * 300)
    assert len(keeper.states) == 3


def test_one_step_is_held_up_only_so_long() -> None:
    clock = Clock()
    provider = Simulated(8, 5000)
    keeper = Keeper(provider, clock, memory_bytes=1 << 20)
    tokens = [filled(provider, slot, [slot] * 100) for slot in range(2)]
    clock.step_ns = SAVE_NS
    assert keeper.wants(0, tokens[0])
    keeper.save(0, tokens[0])
    assert not keeper.wants(1, tokens[1])
    assert keeper.wants(1, tokens[1], idle=True)
    keeper.begin_step()
    assert keeper.wants(1, tokens[1])
    assert keeper.find([0] * 101, 100, 0, 1e9) is not None
    clock.step_ns = RESTORE_NS
    keeper.save(1, tokens[1])
    assert keeper.find([0] * 101, 100, 0, 1e9) is None
    keeper.begin_step()
    assert keeper.find([0] * 101, 100, 0, 1e9) is not None


def test_what_is_computed_sooner_is_not_restored() -> None:
    provider = Simulated(2, 1000)
    keeper = Keeper(provider, Clock(), memory_bytes=1 << 20)
    keeper.save(0, filled(provider, 0, [1] * 100))
    size = len(keeper.states._saved[1].data)
    assert keeper.find([1] * 101, 100, 0, token_ns=size / 100 + 1) is not None
    assert keeper.find([1] * 101, 100, 0, token_ns=size / 100 - 1) is None
    assert keeper.find([1] * 101, 100, 50, token_ns=size / 50 - 1) is None


def test_a_state_that_cannot_be_restored_is_forgotten_and_computed() -> None:
    scheduler, provider, keeper = kept(kv_tokens=700)
    for at in (1, 2, 3):
        cached(scheduler, provider, at, [at] * 300)
    provider.restores = False
    assert cached(scheduler, provider, 4, [*[1] * 300, 5]) == 0
    assert not keeper.states.has([1] * 300)
    assert provider.used > 300


def test_a_rate_follows_what_was_measured() -> None:
    rate = Rate(1.0)
    for _ in range(30):
        rate.learn(1 << 20, 1 << 18)
    assert rate.ns(4000) == pytest.approx(1000, rel=0.01)
    rate.learn(10, 10**9)
    assert rate.ns(4000) == pytest.approx(1000, rel=0.01), "so few bytes say nothing"


# ---- with a disk behind it -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], Disk]:
    """Opens the same folder as a new process."""
    return lambda: settled(Disk(tmp_path, 1 << 20, b"i" * 32))


def test_a_restart_finds_what_was_kept(folder: Callable[[], Disk]) -> None:
    disk = folder()
    scheduler, provider, keeper = kept(disk=disk)
    cached(scheduler, provider, 1, [1] * 300)
    assert keeper.eager
    assert scheduler.pool.keep_one()
    assert not scheduler.pool.keep_one()
    settled(disk)
    scheduler, provider, keeper = kept(disk=folder())
    keeper.fetch([*[1] * 300, 5], token_ns=1e6)
    assert cached(scheduler, provider, 1, [*[1] * 300, 5]) == 300


def test_reading_that_takes_longer_than_computing_is_left(folder: Callable[[], Disk]) -> None:
    disk = folder()
    scheduler, provider, keeper = kept(disk=disk)
    cached(scheduler, provider, 1, [1] * 300)
    scheduler.pool.keep_one()
    settled(disk)
    scheduler, provider, keeper = kept(disk=folder())
    keeper.fetch([*[1] * 300, 5], token_ns=1e-3)
    assert len(keeper.states) == 0


def test_a_flush_reaches_every_tier(folder: Callable[[], Disk]) -> None:
    disk = folder()
    scheduler, provider, keeper = kept(disk=disk)
    cached(scheduler, provider, 1, [1] * 300)
    scheduler.pool.keep_one()
    settled(disk)
    freed: queue.SimpleQueue[int] = queue.SimpleQueue()
    assert scheduler.pool.flush() > 300
    keeper.flush(freed.put)
    assert freed.get(timeout=30) > 2 * 300 * 8, "in memory and on disk"
    keeper.fetch([*[1] * 300, 5], token_ns=1e6)
    assert cached(scheduler, provider, 2, [*[1] * 300, 5]) == 0
    assert folder().best([1] * 300, whole=False)[0] is None
