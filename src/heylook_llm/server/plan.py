"""Which models are loaded: the pure half of the ModelRouter.

A State is a frozen value. Transitions (`arrived`, `released`, `ready`, ...) say what happened and return the next
State; `plan(state, now)` says what to do about it. Nothing here reads a clock, waits or touches a process, so every
rule is tested as a state machine. Times are seconds of the monotonic clock.

The rules:
- at most `max_loaded` models hold a place, at most one loads at a time, and what must go is gone before a load begins;
- a model with leases, or a pinned one, is never evicted; among the idle the least recently used one goes;
- requests for a loaded model pass older ones that need a load, until the oldest of those is older than `age_seconds`:
  then the model that it waits for to end ("draining") lets only older requests in, so nobody waits for ever;
- a larger n_ctx than the loaded one ends and loads the model again, when it is idle, at most every RELOAD_SECONDS;
- three crashes within a minute open the circuit: no load for half a minute, then one attempt.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from typing import Final, Literal

import msgspec

from heylook_llm.errors import HeylookError, InsufficientMemory, Unavailable
from heylook_llm.server.fit import Bytes, Need

RELOAD_SECONDS: Final = 5.0
CRASHES: Final = 3
CRASH_WINDOW_SECONDS: Final = 60.0
CIRCUIT_SECONDS: Final = 30.0
AUTOMATIC_CTX_TOKENS: Final = 4096
"""The least context of a model whose configuration sets none, where it was trained for as much."""
AUTOMATIC_SHARE: Final = 0.5
"""Of the memory that is free beside its weights: what that context may take, so that the next model has room too."""
FOREVER: Final = math.inf

Phase = Literal["unloaded", "loading", "ready", "stopping"]


class Model(msgspec.Struct, frozen=True):
    """One entry of the registry as the plan sees it."""

    id: str
    n_parallel: int = 1
    n_ctx_configured: int = 0
    """0: as trained, or as much of it as AUTOMATIC_SHARE holds."""
    idle_ttl: float = FOREVER
    pinned: bool = False
    pinned_configured: bool = False
    """What the registry says of it; `pinned` may be an operator's word."""
    phase: Phase = "unloaded"
    need: Need | None = None
    """None: not measured for the coming load."""
    measuring: bool = False
    n_ctx: int = 0
    """Of what is loaded or loading."""
    n_ctx_most: int | None = None
    """No reload can give more than this: what the last one asked for was cut to it."""
    loaded: Bytes = Bytes()
    """What its end would give back."""
    leases: int = 0
    granted_at: float = 0.0
    idle_since: float = 0.0
    keep_alive: float = FOREVER
    ready_mark: int = 0
    """Waiters with a lower number were there when it became ready; they are let in, come what may."""
    unload_mark: int | None = None
    """Waiters from this number on wait until it has been unloaded."""
    reloaded_at: float = -FOREVER
    crashed_at: tuple[float, ...] = ()
    open_until: float = -FOREVER
    probing: bool = False
    """The circuit was open; one more crash opens it again."""

    @property
    def holds_place(self) -> bool:
        """Whether it counts against max_loaded."""
        return self.phase != "unloaded"


class Waiter(msgspec.Struct, frozen=True):
    """Somebody who waits for a model. `lasting`: an order to load that no client's leaving revokes; no lease."""

    number: int
    model: str
    since: float
    n_ctx: int | None = None
    keep_alive: float | None = None
    priority: int = 0
    lasting: bool = False


class State(msgspec.Struct, frozen=True):
    """All that the plan knows. `models` is never changed in place."""

    models: dict[str, Model]
    max_loaded: int = 2
    age_seconds: float = 10.0
    max_queue: int = 512
    reserve: Bytes = Bytes()
    """What loading a model must leave free."""
    available: Bytes | None = None
    """Memory free now; None: unknown, everything is let through."""
    waiters: tuple[Waiter, ...] = ()
    next_number: int = 0


# ---- actions ---------------------------------------------------------------------------------------------------------


class Grant(msgspec.Struct, frozen=True):
    """Let this waiter in."""

    waiter: Waiter


class Refuse(msgspec.Struct, frozen=True):
    """Send this waiter away."""

    waiter: Waiter
    error: HeylookError


class Measure(msgspec.Struct, frozen=True):
    """Read the model's file: what will it need?"""

    model: str


class Load(msgspec.Struct, frozen=True):
    """Start the model; `n_ctx` 0 leaves it to the engine. `cut`: more was asked for than memory allows."""

    model: str
    n_ctx: int
    cut: bool = False


class Evict(msgspec.Struct, frozen=True):
    """End an idle model's worker."""

    model: str
    reason: Literal["place", "memory", "reload", "idle", "asked"]


class StopLoad(msgspec.Struct, frozen=True):
    """Nobody waits for this load any more."""

    model: str


Action = Grant | Refuse | Measure | Load | Evict | StopLoad


# ---- transitions: what happened --------------------------------------------------------------------------------------


def _with(state: State, model: Model) -> State:
    return msgspec.structs.replace(state, models={**state.models, model.id: model})


def _change(state: State, model: str, **changes: object) -> State:
    return _with(state, msgspec.structs.replace(state.models[model], **changes))


def arrived(
    state: State,
    model: str,
    now: float,
    *,
    n_ctx: int | None = None,
    keep_alive: float | None = None,
    priority: int = 0,
    lasting: bool = False,
) -> tuple[State, Waiter]:
    """Somebody wants a model."""
    waiter = Waiter(state.next_number, model, now, n_ctx, keep_alive, priority, lasting)
    waiters = (*state.waiters, waiter)
    return msgspec.structs.replace(state, waiters=waiters, next_number=state.next_number + 1), waiter


def left(state: State, number: int) -> State:
    """A waiter is gone: refused, served or tired of waiting."""
    gone = next((waiter for waiter in state.waiters if waiter.number == number), None)
    if gone is None:
        return state
    waiters = tuple(waiter for waiter in state.waiters if waiter is not gone)
    state = msgspec.structs.replace(state, waiters=waiters)
    model = state.models[gone.model]
    if model.phase == "unloaded" and model.need is not None and all(w.model != model.id for w in waiters):
        return _change(state, model.id, need=None)  # its file may be another one by the next attempt
    return state


def granted(state: State, waiter: Waiter, now: float) -> State:
    """A waiter was let in; it holds a lease, unless it only ordered the load."""
    model = state.models[waiter.model]
    keep_alive = model.keep_alive if waiter.keep_alive is None else waiter.keep_alive
    leases = model.leases if waiter.lasting else model.leases + 1
    changed = msgspec.structs.replace(model, leases=leases, keep_alive=keep_alive, granted_at=now, idle_since=now)
    return left(_with(state, changed), waiter.number)


def released(state: State, model: str, now: float, *, served: bool = True) -> State:
    """A lease on the model as it is loaded now has ended. `served`: its worker did its work, so the circuit closes."""
    was = state.models[model]
    closed = {"crashed_at": (), "probing": False} if served and was.probing else {}
    return _change(state, model, leases=was.leases - 1, idle_since=now, **closed)


def measuring(state: State, model: str) -> State:
    """Its file is being read."""
    return _change(state, model, measuring=True)


def measured(state: State, model: str, need: Need | None) -> State:
    """Its file has been read; None: it is another file by now."""
    return _change(state, model, measuring=False, need=need)


def loading(state: State, action: Load) -> State:
    """Its worker starts."""
    most = action.n_ctx if action.cut else None
    return _change(state, action.model, phase="loading", n_ctx=action.n_ctx, n_ctx_most=most, unload_mark=None)


def ready(state: State, model: str, now: float, *, n_ctx: int, n_parallel: int, loaded: Bytes) -> State:
    """Its load ended well; the engine says what it gave."""
    was = state.models[model]
    most = min(n_ctx, was.n_ctx_most or n_ctx) if n_ctx < was.n_ctx else was.n_ctx_most
    return _change(
        state,
        model,
        phase="ready",
        n_ctx=n_ctx,
        n_ctx_most=most,
        n_parallel=n_parallel,
        loaded=loaded,
        leases=0,
        granted_at=now,
        idle_since=now,
        keep_alive=was.idle_ttl,
        ready_mark=state.next_number,
    )


def stopping(state: State, model: str, now: float, *, reload: bool = False) -> State:
    """Its worker is being ended; the place is free only when it has stopped."""
    changes = {"reloaded_at": now} if reload else {}
    return _change(state, model, phase="stopping", **changes)


def stopped(state: State, model: str) -> State:
    """Its worker is gone, or its load failed."""
    return _change(
        state, model, phase="unloaded", leases=0, need=None, measuring=False, loaded=Bytes(), n_ctx=0, unload_mark=None
    )


def crashed(state: State, model: str, now: float) -> State:
    """Its worker died, loading or loaded. The third time within a minute, or once while probing, opens the circuit."""
    state = stopped(state, model)
    was = state.models[model]
    times = (*(at for at in was.crashed_at if now - at < CRASH_WINDOW_SECONDS), now)
    if len(times) < CRASHES and not was.probing:
        return _change(state, model, crashed_at=times)
    return _change(state, model, crashed_at=times, open_until=now + CIRCUIT_SECONDS, probing=True)


def pinned(state: State, model: str, value: bool) -> State:
    """An operator pinned or unpinned it."""
    return _change(state, model, pinned=value)


def unload_asked(state: State, model: str) -> State:
    """An operator wants it unloaded: who waits already is served first, who comes later waits for the next load."""
    return _change(state, model, unload_mark=state.next_number)


def registered(state: State, models: Iterable[Model], reload: Set[str]) -> State:
    """The registry is another one now: `models` as they would begin.

    A model of `reload`, or one that isn't in the registry any more, ends once idle if it is loaded; who waits for it
    already is served first. One that is neither loaded nor waited for is gone at once.
    """
    wanted = {model.id: model for model in models}
    kept: dict[str, Model] = {}
    for model in state.models.values():
        new = wanted.pop(model.id, None)
        if new is None:
            if not is_free(state, model.id):
                kept[model.id] = _to_end(state, model)
        else:
            changed = _configured(model, new)
            kept[model.id] = _to_end(state, changed) if model.id in reload else changed
    return msgspec.structs.replace(state, models=kept | wanted)


def _configured(model: Model, new: Model) -> Model:
    """A model with the settings of its new entry; an operator's or a request's word stands until the entry changes."""
    keep_alive = new.idle_ttl if model.keep_alive == model.idle_ttl else model.keep_alive
    return msgspec.structs.replace(
        model,
        n_ctx_configured=new.n_ctx_configured,
        n_parallel=model.n_parallel if model.holds_place else new.n_parallel,
        idle_ttl=new.idle_ttl,
        keep_alive=keep_alive,
        pinned=new.pinned if new.pinned != model.pinned_configured else model.pinned,
        pinned_configured=new.pinned,
    )


def _to_end(state: State, model: Model) -> Model:
    if not model.holds_place:
        return msgspec.structs.replace(model, need=None, n_ctx_most=None)
    return msgspec.structs.replace(model, unload_mark=state.next_number, n_ctx_most=None)


def forgotten(state: State, model: str) -> State:
    """A model that left the registry has ended."""
    return msgspec.structs.replace(state, models={name: m for name, m in state.models.items() if name != model})


# ---- questions -------------------------------------------------------------------------------------------------------


def is_free(state: State, model: str) -> bool:
    """Whether nothing of it is loaded, measured or waited for."""
    entry = state.models[model]
    return not (entry.holds_place or entry.measuring or any(waiter.model == model for waiter in state.waiters))


def queued(state: State) -> int:
    """Requests beyond those that the models compute together."""
    waiting = Counter(waiter.model for waiter in state.waiters if not waiter.lasting)
    return sum(max(0, model.leases + waiting[model.id] - model.n_parallel) for model in state.models.values())


def admits(state: State, model: str) -> bool:
    """Whether one more request for the model finds room: a free place in its batch, or one in the queue.

    The first n_parallel requests of a model don't count as queued, even while it loads.
    """
    entry = state.models[model]
    waiting = sum(waiter.model == model and not waiter.lasting for waiter in state.waiters)
    return entry.leases + waiting < entry.n_parallel or queued(state) < state.max_queue


def draining(state: State, now: float) -> dict[str, int]:
    """Models that let only older waiters in -> the position in the queue from which on they don't."""
    order = _in_order(state, now)
    closed: dict[str, int] = {}
    for position, waiter in enumerate(order):
        if now - waiter.since < state.age_seconds or not _needs_load(state, waiter):
            continue
        model = state.models[waiter.model]
        if model.phase == "ready":
            closed.setdefault(model.id, position)  # to be loaded again with a larger context
        elif model.phase == "unloaded" and (victim := _victim(state, waiter.model)) is not None:
            closed.setdefault(victim, position)
            break  # the first that needs a place is served first; one victim at a time
    return closed


def wake_at(state: State, now: float) -> float | None:
    """When the plan may change though nothing happens; None: never."""
    times: list[float] = []
    for model in state.models.values():
        if model.phase == "ready" and not model.leases and not model.pinned:
            times.append(model.idle_since + model.keep_alive)
        times.append(model.reloaded_at + RELOAD_SECONDS)
    times += (waiter.since + state.age_seconds for waiter in state.waiters)
    return min((at for at in times if now < at < FOREVER), default=None)


# ---- plan ------------------------------------------------------------------------------------------------------------


def plan(state: State, now: float) -> tuple[Action, ...]:
    """What to do now; () when there is nothing. Apply all of it, then ask again."""
    lettable = tuple(_refused_or_granted(state, now))
    if lettable:
        return lettable
    for step in (_load_of_nobody, _asked_or_expired, _next_load):
        if (action := step(state, now)) is not None:
            return action if isinstance(action, tuple) else (action,)
    return ()


def _in_order(state: State, now: float) -> list[Waiter]:
    """First who has waited too long, then by priority, then who came first."""

    def rank(waiter: Waiter) -> tuple[bool, int, int]:
        aged = now - waiter.since >= state.age_seconds
        return not aged, 0 if aged else -waiter.priority, waiter.number

    return sorted(state.waiters, key=rank)


def _refused_or_granted(state: State, now: float) -> Iterator[Action]:
    if not state.waiters:
        return
    closed = draining(state, now)
    for position, waiter in enumerate(_in_order(state, now)):
        model = state.models[waiter.model]
        if model.phase == "unloaded" and now < model.open_until:
            yield Refuse(waiter, _circuit_open(model, now))
        elif model.phase == "ready" and not _needs_load(state, waiter) and _is_let_in(model, waiter, position, closed):
            yield Grant(waiter)


def _is_let_in(model: Model, waiter: Waiter, position: int, closed: dict[str, int]) -> bool:
    if model.unload_mark is not None:
        return waiter.number < model.unload_mark
    return waiter.number < model.ready_mark or position < closed.get(model.id, FOREVER)


def _needs_load(state: State, waiter: Waiter) -> bool:
    """Whether the waiter can't be served by its model as it is loaded."""
    model = state.models[waiter.model]
    return model.phase != "ready" or _wanted_ctx(state, model, waiter) > model.n_ctx


def _wanted_ctx(state: State, model: Model, waiter: Waiter) -> int:
    """The context that the waiter should get: what it asked for, up to what the model was trained for and what fits."""
    if waiter.n_ctx is None or waiter.n_ctx <= model.n_ctx:
        return 0
    wanted = waiter.n_ctx
    if model.n_ctx_most is not None:
        wanted = min(wanted, model.n_ctx_most)
    if model.need is not None and model.need.n_ctx_trained is not None:
        wanted = min(wanted, model.need.n_ctx_trained)
    if model.phase == "ready" and (fits := _fitting_ctx(state, model, _returnable(state, model.id, True))) is not None:
        wanted = min(wanted, fits)
    return wanted


def _circuit_open(model: Model, now: float) -> HeylookError:
    seconds = max(1.0, model.open_until - now)
    return Unavailable(
        f"The engine of '{model.id}' crashed {len(model.crashed_at)} times; it is tried again in {seconds:.0f} s.",
        code="model_crashed",
        retry_after_seconds=seconds,
    )


def _load_of_nobody(state: State, now: float) -> Action | None:
    for model in state.models.values():
        if model.phase == "loading" and not any(waiter.model == model.id for waiter in state.waiters):
            return StopLoad(model.id)
    return None


def _asked_or_expired(state: State, now: float) -> Action | None:
    for model in state.models.values():
        if model.phase != "ready" or model.leases:
            continue
        if model.unload_mark is not None:
            return Evict(model.id, "asked")
        if not model.pinned and now >= model.idle_since + model.keep_alive:
            return Evict(model.id, "idle")
    return None


def _next_load(state: State, now: float) -> Action | tuple[Action, ...] | None:
    """The first model, in the order of its waiters, that can get what it needs."""
    if any(model.phase in ("loading", "stopping") or model.measuring for model in state.models.values()):
        return None
    place_taken, seen = False, set[str]()
    order = _in_order(state, now)
    order.sort(key=lambda waiter: not state.models[waiter.model].pinned)  # one that is loaded again keeps its place
    for waiter in order:
        if waiter.model in seen or not _needs_load(state, waiter):
            continue
        seen.add(waiter.model)
        model = state.models[waiter.model]
        if model.phase == "ready":
            if not model.leases and now >= model.reloaded_at + RELOAD_SECONDS:
                return Evict(model.id, "reload")
        elif not place_taken:
            if (action := _make_room(state, model)) is not None:
                return action
            place_taken = True  # strictly first come first served for places; a reload further down may still go
    return None


def _make_room(state: State, model: Model) -> Action | tuple[Action, ...] | None:
    """The next step towards loading an unloaded model; None: wait."""
    if model.need is None:
        return Measure(model.id)
    held = [other for other in state.models.values() if other.holds_place]
    if len(held) >= state.max_loaded and all(other.pinned for other in held):
        return _refuse_all(state, model, lambda: _all_pinned(model, len(held)))
    floor, target = _floor_and_target(state, model)
    most = _fitting_ctx(state, model, _returnable(state, model.id, False))
    if most is not None and most < floor:
        return _refuse_all(state, model, lambda: _too_large(state, model, floor))
    n_ctx = target if most is None else min(target, most)
    now_fits = _fitting_ctx(state, model, Bytes())
    fits = now_fits is None or now_fits >= n_ctx
    if len(held) < state.max_loaded and fits:
        return Load(model.id, n_ctx, cut=n_ctx < target)
    idle = [other for other in held if other.phase == "ready" and not other.leases and not other.pinned]
    if not idle:
        return None
    return Evict(_longest_idle(idle).id, "place" if len(held) >= state.max_loaded else "memory")


def _floor_and_target(state: State, model: Model) -> tuple[int, int]:
    """The least context worth loading with, and the one that its waiters, its configuration or its training want."""
    trained = model.need.n_ctx_trained if model.need is not None else None
    configured = model.n_ctx_configured or trained or 0
    floor = model.n_ctx_configured or min(AUTOMATIC_CTX_TOKENS, configured)
    own = model.n_ctx_configured or max(floor, _automatic_ctx(state, model, configured))
    wanted = max((_wanted_ctx(state, model, w) for w in state.waiters if w.model == model.id), default=0)
    return floor, max(own, wanted) if configured else 0


def _automatic_ctx(state: State, model: Model, trained: int) -> int:
    """As trained, as far as AUTOMATIC_SHARE of what is free now holds it; a pool of a set size holds what it does."""
    if model.need is not None and model.need.pool_tokens:
        return min(trained, model.need.pool_tokens)
    most = _fitting_ctx(state, model, Bytes())
    return trained if most is None else min(trained, max(0, int(most * AUTOMATIC_SHARE)))


def _fitting_ctx(state: State, model: Model, returned: Bytes) -> int | None:
    """The largest n_ctx with which the model fits into what is free and `returned`; NOWHERE: not at all; None: any."""
    if state.available is None or model.need is None:
        return None
    return model.need.most_tokens(_spendable(state, returned))


def _spendable(state: State, returned: Bytes) -> Bytes:
    """What models may take once `returned` has come back."""
    assert state.available is not None
    reserve = _reserve(state)
    gpu = None if state.available.gpu is None else state.available.gpu - (reserve.gpu or 0)
    return Bytes(state.available.main - reserve.main, gpu).plus(returned)


def _reserve(state: State) -> Bytes:
    """What stays free; the GPU's part where there is one with memory of its own."""
    apart = state.available is not None and state.available.gpu is not None
    return Bytes(state.reserve.main, state.reserve.gpu if apart else None)


def _returnable(state: State, model: str, itself: bool) -> Bytes:
    """What comes back once every other unpinned model has ended, and the model itself if it is to be loaded again."""
    ending = (
        other.loaded
        for other in state.models.values()
        if other.phase == "ready" and (itself if other.id == model else not other.pinned)
    )
    apart = state.available is not None and state.available.gpu is not None
    return functools.reduce(Bytes.plus, ending, Bytes(0, 0 if apart else None))


def _victim(state: State, model: str) -> str | None:
    """The model that must end for this one's sake; None: there is room, or nothing may end.

    Also while it is idle: between its last lease's end and its eviction no younger request may slip in.
    """
    entry = state.models[model]
    held = [other for other in state.models.values() if other.holds_place]
    floor, _ = _floor_and_target(state, entry)
    fits = _fitting_ctx(state, entry, Bytes())
    if len(held) < state.max_loaded and (fits is None or fits >= floor):
        return None
    evictable = [other for other in held if other.phase == "ready" and not other.pinned]
    idle = [other for other in evictable if not other.leases]
    if idle:
        return _longest_idle(idle).id
    return min(evictable, key=lambda other: other.granted_at).id if evictable else None


def _longest_idle(models: list[Model]) -> Model:
    return min(models, key=lambda model: model.idle_since)


def _refuse_all(state: State, model: Model, error: Callable[[], HeylookError]) -> tuple[Action, ...]:
    return tuple(Refuse(waiter, error()) for waiter in state.waiters if waiter.model == model.id)


def _all_pinned(model: Model, places: int) -> HeylookError:
    return Unavailable(
        f"'{model.id}' can't be loaded: all {places} places are held by pinned models. "
        "Unpin one, or raise max_loaded_models.",
        code="all_models_pinned",
        retry_after_seconds=30.0,
    )


def _too_large(state: State, model: Model, n_ctx: int) -> HeylookError:
    need, available = model.need or Need(0), state.available or Bytes()
    returned = _returnable(state, model.id, False)
    spendable = _spendable(state, returned)
    cache = need.total_bytes(n_ctx) - need.weights_bytes
    return InsufficientMemory(
        f"'{model.id}' needs {_mib(need.total_bytes(n_ctx))} ({_mib(need.weights_bytes)} weights, {_mib(cache)} "
        f"context memory for {n_ctx} tokens), but only {_amount(spendable)} can be had: {_amount(available)} are free, "
        f"unloading others returns {_amount(returned)}, {_amount(_reserve(state))} stay reserved.",
        retry_after_seconds=30.0,
    )


def _amount(amount: Bytes) -> str:
    """In words; that of a GPU with memory of its own apart."""
    main = _mib(max(0, amount.main))
    return main if amount.gpu is None else f"{main} and on the GPU {_mib(max(0, amount.gpu))}"


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"
