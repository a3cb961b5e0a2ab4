"""The plan as a state machine: whatever happens, in whatever order, nobody is evicted wrongly, forgotten or starved.

The long tier (HEYLOOK_TEST_TIER=long, `make test_long`) runs 10,000 steps of the state machine, others a tenth of it.
"""

import math
import os
import random

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from heylook_llm.errors import InsufficientMemory, Unavailable
from heylook_llm.server import plan as p
from heylook_llm.server.fit import Bytes, Need, Placement

pytestmark = pytest.mark.unit

STEPS = 50_000 if os.environ.get("HEYLOOK_TEST_TIER") == "long" else 10_000
STEPS_PER_RUN = 50
MODELS = ("a", "b", "c", "d")
CONFIGURED = {"a": 2048, "b": 2048, "c": 2048, "d": 0}
AGE = 10.0
MAIN = Placement()
GPU = Placement(1.0, 1.0)
HALF = Placement(0.5, 0.5)
SPILLS = Placement(1.0, 1.0, spills=True, layers=9)
SPILLS_WEIGHTS = Placement(1.0, 0.0, spills=True, layers=9)


class World:
    """A State, a clock, and what the router would hold: leases, and what is under way. Checks each action."""

    def __init__(
        self,
        *,
        max_loaded: int = 2,
        ttl: float = math.inf,
        need: int = 0,
        memory: int | None = None,
        gpu: int | None = None,
        placement: Placement = MAIN,
        parallel: int = 2,
    ) -> None:
        models = {
            m: p.Model(m, n_parallel=parallel, n_ctx_configured=CONFIGURED[m], idle_ttl=ttl, keep_alive=ttl)
            for m in MODELS
        }
        available = None if memory is None else Bytes(memory, gpu)
        self.state = p.State(models, max_loaded=max_loaded, age_seconds=AGE, available=available)
        self.now = 1000.0
        self.needs = dict.fromkeys(MODELS, Need(need, 1 if need else 0, 8192, placement=placement))
        self.leases: list[tuple[str, int]] = []
        self.epoch = dict.fromkeys(MODELS, 0)
        self.ended: dict[int, str] = {}
        self.waited: dict[int, float] = {}
        self.log: list[p.Action] = []

    def model(self, name: str) -> p.Model:
        return self.state.models[name]

    def under_way(self, phase: p.Phase) -> list[str]:
        return [m.id for m in self.state.models.values() if m.phase == phase]

    def measuring(self) -> list[str]:
        return [m.id for m in self.state.models.values() if m.measuring]

    def settle(self) -> None:
        for _ in range(1000):
            actions = p.plan(self.state, self.now)
            if not actions:
                return
            for action in actions:
                self.log.append(action)
                self.act(action)
        raise AssertionError("the plan never comes to rest")

    def act(self, action: p.Action) -> None:
        match action:
            case p.Grant():
                self.grant(action.waiter)
            case p.Refuse():
                self.end(action.waiter, "refused")
                self.state = p.left(self.state, action.waiter.number)
            case p.Measure():
                assert self.model(action.model).phase == "unloaded"
                self.state = p.measuring(self.state, action.model)
            case p.Load():
                assert not self.under_way("loading"), "one load at a time"
                assert self.model(action.model).phase == "unloaded", "single flight"
                self.check_memory(action)
                self.state = p.loading(self.state, action)
                assert sum(m.holds_place for m in self.state.models.values()) <= self.state.max_loaded
            case p.Evict():
                victim = self.model(action.model)
                assert victim.phase == "ready"
                assert victim.leases == 0, "busy"
                assert not victim.pinned or action.reason in ("reload", "asked"), "pinned"
                self.state = p.stopping(self.state, action.model, self.now, reload=action.reason == "reload")
            case p.StopLoad():
                assert self.model(action.model).phase == "loading"
                assert not any(w.model == action.model for w in self.state.waiters)
                self.state = p.stopping(self.state, action.model, self.now)

    def check_memory(self, action: p.Load) -> None:
        need, free = self.model(action.model).need, self.state.available
        assert need is not None, "loaded unmeasured"
        if free is None:
            return
        assert need.fits(action.n_ctx, free)
        assert need.total_bytes(action.n_ctx) <= free.total

    def grant(self, waiter: p.Waiter) -> None:
        model = self.model(waiter.model)
        assert model.phase == "ready"
        self.end(waiter, "granted")
        self.waited[waiter.number] = self.now - waiter.since
        if not waiter.lasting:
            self.leases.append((waiter.model, self.epoch[waiter.model]))
        self.state = p.granted(self.state, waiter, self.now)

    def end(self, waiter: p.Waiter, how: str) -> None:
        assert waiter.number not in self.ended, "ended twice"
        self.ended[waiter.number] = how

    # ---- what happens ------------------------------------------------------------------------------------------------

    def arrive(self, model: str, **asked: object) -> p.Waiter | None:
        if not p.admits(self.state, model):
            return None
        self.state, waiter = p.arrived(self.state, model, self.now, **asked)  # type: ignore[arg-type]  # test's own
        self.settle()
        return waiter

    def cancel(self, waiter: p.Waiter) -> None:
        self.end(waiter, "cancelled")
        self.state = p.left(self.state, waiter.number)
        self.settle()

    def release(self, at: int) -> None:
        model, epoch = self.leases.pop(at)
        if self.epoch[model] == epoch and self.model(model).phase == "ready":
            self.state = p.released(self.state, model, self.now)
        self.settle()

    def measured(self, model: str) -> None:
        self.state = p.measured(self.state, model, self.needs[model])
        self.settle()

    def loaded(self, model: str) -> None:
        asked = self.model(model).n_ctx
        need = self.needs[model]
        self.epoch[model] += 1
        taken = need.divided(asked, self.state.available or Bytes())
        self.free(Bytes(-taken.main, -(taken.gpu or 0)))
        self.state = p.ready(self.state, model, self.now, n_ctx=asked, n_parallel=2, loaded=taken)
        self.settle()

    def free(self, change: Bytes) -> None:
        if self.state.available is not None:
            self.state = msgspec.structs.replace(self.state, available=self.state.available.plus(change))

    def gone(self, model: str, how: str) -> None:
        """A load failed, a worker died, or one has stopped."""
        failed = self.model(model).phase == "loading" or self.model(model).measuring
        if self.model(model).phase in ("ready", "stopping"):
            self.free(self.model(model).loaded)
        transition = p.crashed(self.state, model, self.now) if how == "crash" else p.stopped(self.state, model)
        self.state = transition
        if failed:
            for waiter in [w for w in self.state.waiters if w.model == model]:
                self.end(waiter, "failed")
                self.state = p.left(self.state, waiter.number)
        self.settle()

    def finish_everything(self) -> None:
        """Let all that is under way end well, and time pass: afterwards nobody may still wait."""
        for _ in range(400):
            if self.under_way("loading"):
                self.loaded(self.under_way("loading")[0])
            elif self.under_way("stopping"):
                self.gone(self.under_way("stopping")[0], "stopped")
            elif self.measuring():
                self.measured(self.measuring()[0])
            elif self.leases:
                self.release(0)
            elif not self.state.waiters:
                return
            else:
                at = p.wake_at(self.state, self.now)
                assert at is not None, f"deadlock: {self.state.waiters}"
                self.now = at
                self.settle()
        raise AssertionError(f"no progress: {self.state}")


class PlanMachine(RuleBasedStateMachine):
    """Everything that can happen to the router."""

    @initialize(
        max_loaded=st.integers(1, 3),
        ttl=st.sampled_from([math.inf, 5.0]),
        memory=st.sampled_from([None, 30_000, 12_000, 7_000]),
        gpu=st.sampled_from([None, None, 20_000, 5_000]),
        placement=st.sampled_from([MAIN, GPU, HALF, SPILLS, SPILLS_WEIGHTS]),
    )
    def begin(self, max_loaded: int, ttl: float, memory: int | None, gpu: int | None, placement: Placement) -> None:
        self.world = World(max_loaded=max_loaded, ttl=ttl, need=3_000, memory=memory, gpu=gpu, placement=placement)

    @rule(
        model=st.sampled_from(MODELS),
        n_ctx=st.sampled_from([None, None, 1024, 4096, 100_000]),
        keep_alive=st.sampled_from([None, None, 0.0, 3.0, math.inf]),
        priority=st.sampled_from([0, 0, 5, -1]),
        lasting=st.sampled_from([False, False, False, True]),
    )
    def arrive(self, **asked: object) -> None:
        self.world.arrive(str(asked.pop("model")), **asked)

    @precondition(lambda self: self.world.state.waiters)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        leaving = [w for w in self.world.state.waiters if not w.lasting]
        assume(leaving)
        self.world.cancel(data.draw(st.sampled_from(leaving)))

    @precondition(lambda self: self.world.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.world.release(data.draw(st.integers(0, len(self.world.leases) - 1)))

    @precondition(lambda self: self.world.measuring())
    @rule(well=st.sampled_from([True, True, True, False]))
    def measure(self, well: bool) -> None:
        model = self.world.measuring()[0]
        if well:
            self.world.measured(model)
        else:
            self.world.gone(model, "refused")

    @precondition(lambda self: self.world.under_way("loading"))
    @rule(how=st.sampled_from(["well", "well", "well", "refused", "crash"]))
    def load_ends(self, how: str) -> None:
        model = self.world.under_way("loading")[0]
        if how == "well":
            self.world.loaded(model)
        else:
            self.world.gone(model, how)

    @precondition(lambda self: self.world.under_way("stopping"))
    @rule()
    def stop_ends(self) -> None:
        self.world.gone(self.world.under_way("stopping")[0], "stopped")

    @precondition(lambda self: self.world.under_way("ready"))
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        self.world.gone(data.draw(st.sampled_from(self.world.under_way("ready"))), "crash")

    @rule(model=st.sampled_from(MODELS), value=st.booleans())
    def pin(self, model: str, value: bool) -> None:
        self.world.state = p.pinned(self.world.state, model, value)
        self.world.settle()

    @precondition(lambda self: self.world.under_way("ready"))
    @rule(data=st.data())
    def unload(self, data: st.DataObject) -> None:
        model = data.draw(st.sampled_from(self.world.under_way("ready")))
        self.world.state = p.unload_asked(self.world.state, model)
        self.world.settle()

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 11.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.world.now += seconds
        self.world.settle()

    @rule()
    def finish(self) -> None:
        for model in MODELS:
            self.world.state = p.pinned(self.world.state, model, False)
        self.world.settle()
        self.world.finish_everything()

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        for model in world.state.models.values():
            if model.phase == "ready":
                assert model.leases == sum(lease == (model.id, world.epoch[model.id]) for lease in world.leases)
        assert p.plan(world.state, world.now) == ()
        assert len({w.number for w in world.state.waiters} & set(world.ended)) == 0
        assert len(world.ended) + len(world.state.waiters) == world.state.next_number, "somebody was forgotten"

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.finish()
            assert len(self.world.ended) == self.world.state.next_number


PlanMachine.TestCase.settings = settings(
    max_examples=max(1, STEPS // STEPS_PER_RUN),
    stateful_step_count=STEPS_PER_RUN,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestPlan = PlanMachine.TestCase


@settings(max_examples=max(10, STEPS // 50), deadline=None)
@given(st.integers(0, 1 << 32))
def test_nobody_starves_while_others_stream_without_a_pause(seed: int) -> None:
    """Every model always has requests at hand, leases last up to 3 s, loads half a second: all get their turn."""
    lasting = random.Random(seed)
    world = World(max_loaded=2)
    due: list[float] = []
    for _ in range(300):
        world.now += 0.5
        for model in MODELS:
            if sum(w.model == model for w in world.state.waiters) < 2:
                world.arrive(model)
        for model in world.measuring():
            world.measured(model)
        for model in (*world.under_way("stopping"),):
            world.gone(model, "stopped")
        for model in (*world.under_way("loading"),):
            world.loaded(model)
        while len(due) < len(world.leases):
            due.append(world.now + lasting.uniform(0, 3))
        for at in reversed(range(len(due))):
            if due[at] <= world.now:
                del due[at]
                world.release(at)
        while len(due) < len(world.leases):
            due.append(world.now + 3)
    # the oldest of four models: three others ahead, each with the age, the longest lease, an end and a load
    longest = max([*world.waited.values(), *(world.now - w.since for w in world.state.waiters)])
    assert longest <= 4 * (AGE + 3 + 2)
    assert {action.model for action in world.log if isinstance(action, p.Load)} == set(MODELS)


def run_load(world: World, model: str, **asked: object) -> p.Waiter:
    """A request, and all that its load takes."""
    waiter = world.arrive(model, **asked)
    assert waiter is not None
    while not world.leases or waiter.number not in world.ended:
        if world.measuring():
            world.measured(world.measuring()[0])
        elif world.under_way("stopping"):
            world.gone(world.under_way("stopping")[0], "stopped")
        else:
            world.loaded(world.under_way("loading")[0])
    return waiter


def test_the_least_recently_used_idle_model_goes() -> None:
    world = World()
    for model in ("a", "b"):
        run_load(world, model)
        world.now += 1
        world.release(0)
    world.arrive("a")
    world.now += 1
    world.release(0)
    run_load(world, "c")
    assert [a.model for a in world.log if isinstance(a, p.Evict)] == ["b"]
    assert world.under_way("ready") == ["a", "c"]


def test_requests_for_a_loading_model_join_its_load() -> None:
    world = World()
    for _ in range(3):
        world.arrive("a")
    world.measured("a")
    world.loaded("a")
    assert sum(isinstance(a, p.Load) for a in world.log) == 1
    assert len(world.leases) == 3


def test_a_load_that_nobody_waits_for_is_stopped() -> None:
    world = World()
    waiter = world.arrive("a")
    assert waiter is not None
    world.measured("a")
    assert world.under_way("loading") == ["a"]
    world.cancel(waiter)
    assert world.under_way("stopping") == ["a"]


def test_an_ordered_load_goes_on_without_waiters() -> None:
    world = World()
    world.arrive("a", lasting=True)
    waiter = world.arrive("a")
    assert waiter is not None
    world.measured("a")
    world.cancel(waiter)
    world.loaded("a")
    assert world.under_way("ready") == ["a"]
    assert world.leases == []


def test_a_loaded_model_passes_an_older_waiter_until_it_is_too_old() -> None:
    world = World(max_loaded=1)
    run_load(world, "a")
    world.arrive("b")
    world.measured("b")
    assert world.arrive("a") is not None
    assert len(world.leases) == 2, "passes"
    world.now += AGE
    world.settle()
    assert "a" in p.draining(world.state, world.now)
    world.arrive("a")
    assert len(world.leases) == 2, "waits behind"
    world.release(0)
    world.release(0)
    assert world.under_way("stopping") == ["a"]
    world.gone("a", "stopped")
    world.loaded("b")
    assert [model for model, _ in world.leases] == ["b"]
    world.finish_everything()
    assert list(world.ended.values()) == ["granted"] * 4


def test_all_places_pinned_refuses_at_once() -> None:
    world = World(max_loaded=1)
    run_load(world, "a")
    world.state = p.pinned(world.state, "a", True)
    world.release(0)
    waiter = world.arrive("b")
    assert waiter is not None
    world.measured("b")
    assert world.ended[waiter.number] == "refused"
    refusal = world.log[-1]
    assert isinstance(refusal, p.Refuse)
    assert isinstance(refusal.error, Unavailable)
    assert "pinned" in refusal.error.message


def test_too_little_memory_refuses_with_the_numbers_and_evicts_nobody() -> None:
    world = World(need=100 << 20, memory=150 << 20)
    run_load(world, "a")
    world.release(0)
    world.needs["b"] = Need(400 << 20, 1)
    waiter = world.arrive("b")
    assert waiter is not None
    world.measured("b")
    refusal = world.log[-1]
    assert isinstance(refusal, p.Refuse)
    assert isinstance(refusal.error, InsufficientMemory)
    assert "400 MiB" in refusal.error.message
    assert "150 MiB" in refusal.error.message
    assert world.under_way("ready") == ["a"]


def test_idle_models_go_for_memory_though_a_place_is_free() -> None:
    world = World(max_loaded=3, need=100 << 20, memory=150 << 20)
    run_load(world, "a")
    world.release(0)
    run_load(world, "b")
    assert [(a.model, a.reason) for a in world.log if isinstance(a, p.Evict)] == [("a", "memory")]


def test_a_busy_model_whose_memory_would_do_is_waited_for() -> None:
    world = World(max_loaded=3, need=100 << 20, memory=150 << 20)
    run_load(world, "a")
    waiter = world.arrive("b")
    assert waiter is not None
    world.measured("b")
    assert waiter.number not in world.ended
    world.release(0)
    world.finish_everything()
    assert world.ended[waiter.number] == "granted"


def test_a_smaller_context_never_reloads_and_a_larger_one_waits_until_idle() -> None:
    world = World()
    run_load(world, "a", n_ctx=1024)
    assert world.model("a").n_ctx == 2048
    world.arrive("a", n_ctx=2048)
    assert len(world.leases) == 2
    waiter = world.arrive("a", n_ctx=4096)
    assert waiter is not None
    assert waiter.number not in world.ended
    world.release(0)
    world.release(0)
    assert world.log[-1] == p.Evict("a", "reload")
    world.finish_everything()
    assert world.model("a").n_ctx == 4096


def test_a_context_beyond_the_trained_one_is_cut_to_it() -> None:
    world = World()
    run_load(world, "a", n_ctx=1_000_000)
    assert world.model("a").n_ctx == 8192
    world.release(0)
    world.arrive("a", n_ctx=1_000_000)
    assert len(world.leases) == 1, "no reload can give more"


def test_two_clients_with_different_contexts_reload_once() -> None:
    world = World()
    for _ in range(10):
        for n_ctx in (2048, 4096):
            waiter = world.arrive("a", n_ctx=n_ctx)
            assert waiter is not None
            world.finish_everything()
    assert sum(isinstance(a, p.Evict) for a in world.log) == 1


def test_reloads_of_one_model_are_seconds_apart() -> None:
    world = World()
    run_load(world, "a")
    for n_ctx in (3000, 4000, 5000, 6000):
        world.arrive("a", n_ctx=n_ctx)
        started = world.now
        world.finish_everything()
        assert n_ctx == 3000 or world.now - started >= p.RELOAD_SECONDS - 0.001


def test_a_larger_context_under_constant_traffic_is_served_after_the_age() -> None:
    world = World()
    run_load(world, "a")
    waiter = world.arrive("a", n_ctx=4096)
    assert waiter is not None
    for _ in range(40):
        world.now += 0.5
        world.arrive("a")
        if world.leases:
            world.release(0)
        if world.under_way("stopping"):
            break
    assert world.under_way("stopping") == ["a"]
    world.finish_everything()
    assert world.ended[waiter.number] == "granted"


@pytest.mark.parametrize(
    ("first", "second", "after", "state"),
    [
        (None, None, 1e9, "ready"),  # idle_ttl: never
        (0.0, None, 0.0, "stopping"),
        (30.0, None, 29.0, "ready"),
        (30.0, None, 30.0, "stopping"),  # absent keeps what the last one set
        (30.0, math.inf, 1e9, "ready"),
        (math.inf, 0.0, 0.0, "stopping"),
    ],
)
def test_keep_alive(first: float | None, second: float | None, after: float, state: str) -> None:
    world = World()
    run_load(world, "a", keep_alive=first)
    world.arrive("a", keep_alive=second)
    world.now += 100
    world.settle()
    assert world.under_way("ready") == ["a"], "the timer starts when the last lease ends"
    world.release(0)
    world.release(0)
    world.now += after
    world.settle()
    assert world.model("a").phase == state


def test_a_fresh_load_forgets_keep_alive() -> None:
    world = World(ttl=60.0)
    run_load(world, "a", keep_alive=0.0)
    world.release(0)
    world.gone("a", "stopped")
    run_load(world, "a")
    assert world.model("a").keep_alive == 60.0


def test_a_request_wins_over_an_expiry_of_the_same_instant() -> None:
    world = World(ttl=5.0)
    run_load(world, "a")
    world.release(0)
    world.now += 5.0
    world.arrive("a")
    assert len(world.leases) == 1


def test_a_pinned_model_does_not_expire() -> None:
    world = World(ttl=5.0)
    run_load(world, "a")
    world.state = p.pinned(world.state, "a", True)
    world.release(0)
    world.now += 100
    world.settle()
    assert world.under_way("ready") == ["a"]


def test_three_crashes_open_the_circuit_and_one_more_opens_it_again() -> None:
    world = World()
    for _ in range(3):
        run_load(world, "a")
        world.gone("a", "crash")
        world.leases.clear()
    waiter = world.arrive("a")
    assert waiter is not None
    refusal = world.log[-1]
    assert isinstance(refusal, p.Refuse)
    assert refusal.error.retry_after_seconds == pytest.approx(30.0)
    world.now += p.CIRCUIT_SECONDS
    run_load(world, "a")
    world.gone("a", "crash")
    world.leases.clear()
    again = world.arrive("a")
    assert again is not None
    assert world.ended[again.number] == "refused"
    world.now += p.CIRCUIT_SECONDS
    run_load(world, "a")
    world.release(0)
    assert not world.model("a").probing, "a request that ended well closes it"


def test_crashes_far_apart_leave_the_circuit_closed() -> None:
    world = World()
    for _ in range(5):
        run_load(world, "a")
        world.gone("a", "crash")
        world.leases.clear()
        world.now += 31
    assert world.model("a").open_until < world.now


def test_unloading_serves_who_waits_and_reloads_for_who_comes_later() -> None:
    world = World()
    run_load(world, "a")
    world.state = p.unload_asked(world.state, "a")
    late = world.arrive("a")
    assert late is not None
    assert late.number not in world.ended
    world.release(0)
    assert world.under_way("stopping") == ["a"]
    world.finish_everything()
    assert world.ended[late.number] == "granted"


def test_the_queue_is_bounded_exactly() -> None:
    world = World(parallel=2)
    world.state = msgspec.structs.replace(world.state, max_queue=64)
    admitted = [world.arrive("a") for _ in range(1000)]
    assert sum(waiter is not None for waiter in admitted) == 66
    world.measured("a")
    world.loaded("a")
    assert world.arrive("a") is None
    assert world.arrive("b") is not None, "a free place in another model's batch is no place in the queue"
    world.release(0)
    assert world.arrive("a") is not None


def test_background_waits_behind_interactive_but_not_for_ever() -> None:
    world = World(max_loaded=1)
    run_load(world, "a")
    background, interactive = world.arrive("b", priority=-1), world.arrive("c")
    assert background is not None
    assert interactive is not None
    world.measured("b")
    world.measured("c")
    world.release(0)
    now = world.now
    world.gone("a", "stopped")
    assert world.under_way("loading") == ["c"]
    world.loaded("c")
    world.arrive("d", priority=5)
    world.measured("d")
    world.now = now + AGE
    world.release(0)
    world.gone("c", "stopped")
    assert world.under_way("loading") == ["b"], "by now it has waited long enough"


def test_an_idle_pinned_model_is_no_victim_though_it_was_used_least() -> None:
    world = World()
    for model in ("a", "b"):
        run_load(world, model)
        world.release(0)
        world.now += 1
    world.state = p.pinned(world.state, "a", True)
    run_load(world, "c")
    assert world.under_way("ready") == ["a", "c"]


def test_who_caused_a_load_is_let_in_though_an_older_waiter_has_aged_meanwhile() -> None:
    world = World(max_loaded=1)
    run_load(world, "a")
    world.arrive("c")
    world.measured("c")
    world.now += AGE / 2
    urgent = world.arrive("b", priority=5)
    assert urgent is not None
    world.measured("b")
    world.release(0)
    world.gone("a", "stopped")
    world.now += AGE / 2
    world.loaded("b")
    assert world.ended[urgent.number] == "granted"


def test_a_context_cut_to_the_memory_is_served_and_not_reloaded_for_a_little_more() -> None:
    world = World(need=3000, memory=9000)
    run_load(world, "a", n_ctx=8000)
    assert world.model("a").n_ctx == 6000
    world.release(0)
    world.free(Bytes(100))
    world.arrive("a", n_ctx=8000)
    assert len(world.leases) == 1


def test_an_engine_that_gives_less_than_asked_is_not_reloaded_for_more() -> None:
    world = World()
    world.arrive("a", n_ctx=8000)
    world.measured("a")
    world.state = p.ready(world.state, "a", world.now, n_ctx=5000, n_parallel=2, loaded=Bytes())
    world.settle()
    assert len(world.leases) == 1
    assert world.model("a").n_ctx == 5000


def test_the_plan_is_asked_again_when_time_alone_changes_it() -> None:
    world = World(max_loaded=1)
    run_load(world, "a", keep_alive=30.0)
    assert p.wake_at(world.state, world.now) is None
    started = world.now
    world.arrive("b")
    world.measured("b")
    assert p.wake_at(world.state, world.now) == started + AGE, "a drains"
    world.now += AGE
    world.settle()
    assert p.wake_at(world.state, world.now) is None

    idle = World()
    run_load(idle, "a", keep_alive=30.0)
    idle.release(0)
    assert p.wake_at(idle.state, idle.now) == idle.now + 30.0, "a expires"
    idle.arrive("a", n_ctx=3000)
    idle.finish_everything()
    idle.arrive("a", n_ctx=4000)
    assert p.wake_at(idle.state, idle.now) == idle.model("a").reloaded_at + p.RELOAD_SECONDS


def test_a_configured_pool_counts_whole() -> None:
    world = World(memory=10_000)
    world.needs["a"] = Need(1000, 1, 8192, pool_tokens=9_001)
    refused = world.arrive("a")
    assert refused is not None
    world.measured("a")
    assert world.ended[refused.number] == "refused"
    world.needs["a"] = Need(1000, 1, 8192, pool_tokens=9_000)
    run_load(world, "a")
    assert world.model("a").loaded == Bytes(10_000)


def untold(world: World, model: str, need: Need) -> None:
    """A model whose configuration sets no context."""
    entry = msgspec.structs.replace(world.model(model), n_ctx_configured=0)
    world.state = msgspec.structs.replace(world.state, models={**world.state.models, model: entry})
    world.needs[model] = need


def test_a_context_that_nobody_set_leaves_room_for_the_next_model() -> None:
    world = World(memory=101_000)
    for model in ("a", "b"):
        untold(world, model, Need(1000, 1, 1 << 20))
    run_load(world, "a")
    assert world.model("a").n_ctx == 50_000
    world.release(0)
    run_load(world, "b")
    assert world.under_way("ready") == ["a", "b"]
    assert world.model("b").n_ctx == 24_500


def test_a_context_that_nobody_set_is_at_most_as_trained_and_at_least_a_floor() -> None:
    world = World(memory=101_000)
    untold(world, "a", Need(1000, 1, 8192))
    run_load(world, "a")
    assert world.model("a").n_ctx == 8192
    world.release(0)
    untold(world, "b", Need(88_000, 1, 1 << 20))
    run_load(world, "b")
    assert world.under_way("ready") == ["b"], "its floor is worth an idle model's place"
    assert world.model("b").n_ctx == 6500


def test_a_request_gets_a_larger_context_than_the_automatic_one() -> None:
    world = World(memory=101_000)
    untold(world, "a", Need(1000, 1, 1 << 20))
    run_load(world, "a")
    world.release(0)
    world.now += p.RELOAD_SECONDS
    world.arrive("a", n_ctx=80_000)
    world.finish_everything()
    assert world.model("a").n_ctx == 80_000


# ---- two budgets -----------------------------------------------------------------------------------------------------


def test_a_model_on_the_gpu_is_refused_though_main_memory_would_hold_it() -> None:
    world = World(need=100 << 20, memory=900 << 20, gpu=90 << 20, placement=GPU)
    waiter = world.arrive("a")
    assert waiter is not None
    world.measured("a")
    refusal = world.log[-1]
    assert isinstance(refusal, p.Refuse)
    assert "900 MiB and on the GPU 90 MiB can be had" in refusal.error.message


def test_who_goes_for_memory_gives_back_what_it_held_where_it_held_it() -> None:
    world = World(max_loaded=3, need=100 << 20, memory=900 << 20, gpu=150 << 20, placement=GPU)
    run_load(world, "a")
    world.release(0)
    assert world.model("a").loaded == Bytes(0, (100 << 20) + 2048)
    run_load(world, "b")
    assert [(a.model, a.reason) for a in world.log if isinstance(a, p.Evict)] == [("a", "memory")]


def test_models_in_different_memories_stay_side_by_side() -> None:
    world = World(need=100 << 20, memory=150 << 20, gpu=150 << 20)
    world.needs["b"] = Need(100 << 20, 1, 8192, placement=GPU)
    run_load(world, "a")
    world.release(0)
    run_load(world, "b")
    assert world.under_way("ready") == ["a", "b"]


def test_what_the_gpu_holds_is_main_memory_where_it_has_none_of_its_own() -> None:
    world = World(need=100 << 20, memory=150 << 20, placement=GPU)
    run_load(world, "a")
    assert world.model("a").loaded == Bytes((100 << 20) + 2048)
    assert world.state.available == Bytes((50 << 20) - 2048)


def test_an_automatic_context_is_half_of_what_both_memories_hold() -> None:
    world = World(memory=10_000, gpu=91_000, placement=SPILLS)
    untold(world, "a", Need(1000, 1, 1 << 20, placement=SPILLS))
    run_load(world, "a")
    most = Need(1000, 1, 1 << 20, placement=SPILLS).most_tokens(Bytes(10_000, 91_000))
    assert most is not None
    assert world.model("a").n_ctx == most // 2 > 45_000
