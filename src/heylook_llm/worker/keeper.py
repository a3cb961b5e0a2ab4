"""Keeps what the pool has no room for: saves the states of prefixes, finds and restores them, in bounded time.

Tiers: host memory, and behind it a folder where one is configured. The step loop saves into memory and restores from
it, never for longer than it may be held up by what was measured. Files are read by preparers and written by a thread of
their own.
"""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from heylook_llm import core
from heylook_llm.errors import EngineError
from heylook_llm.worker.disk import Disk
from heylook_llm.worker.providers.base import Sharing, State
from heylook_llm.worker.states import Saved, States

LEAST_TOKENS: Final = 32
"""Shorter prefixes are computed again."""
SAVE_NS: Final = 50_000_000
"""How long saving may hold up a step."""
RESTORE_NS: Final = 250_000_000
"""How long restoring may, which spares the computation of prompt tokens; and saving, where nobody waits."""
FIRST_BYTES_PER_NS: Final = 1.0
"""Before anything was measured."""
LEAST_BYTES: Final = 1 << 16
"""Less says nothing of the speed."""
WEIGHT: Final = 0.3
"""Of the latest measurement."""

log = logging.getLogger("heylook_llm.worker.keeper")


class Rate:
    """How fast bytes move, learned from how long they took."""

    def __init__(self, bytes_per_ns: float = FIRST_BYTES_PER_NS) -> None:
        self._bytes_per_ns = bytes_per_ns

    def learn(self, size: int, duration_ns: int) -> None:
        """So many bytes took so long."""
        if size >= LEAST_BYTES and duration_ns > 0:
            self._bytes_per_ns += WEIGHT * (size / duration_ns - self._bytes_per_ns)

    def ns(self, size: float) -> float:
        """How long so many will take."""
        return size / self._bytes_per_ns


class Found(NamedTuple):
    """A state, and how many of the tokens asked for it holds."""

    saved: Saved
    length: int

    @property
    def held(self) -> int:
        """All of its tokens."""
        return len(self.saved.tokens)

    @property
    def origin(self) -> core.CachedFrom:
        """The tier that it came from."""
        return self.saved.origin


class Engine(Protocol):
    """The part of a Provider that states come from."""

    sharing: Sharing

    def state_bytes(self, slot: int) -> int:
        """The size of a slot's state."""
        ...

    def save(self, slot: int) -> State:
        """A slot's state."""
        ...

    def restore(self, slot: int, state: State) -> bool:
        """Put a state into an empty slot; False, and it stays empty: it can't be had."""
        ...


class Keeper:
    """The tiers of one loaded model."""

    def __init__(
        self, engine: Engine, now_ns: Callable[[], int], *, memory_bytes: int, disk: Disk | None = None
    ) -> None:
        self.states = States(memory_bytes)
        self._engine = engine
        self._now_ns = now_ns
        self._disk = disk
        self._whole = engine.sharing != "any"
        self._saving, self._restoring, self._reading = Rate(), Rate(), Rate()
        self._spent_ns = 0
        """By saving and restoring since the last step."""
        self._flushes = 0

    @property
    def eager(self) -> bool:
        """Whether to save what idles, before its room is needed: what a restart shall find must be written by then."""
        return self._disk is not None

    # ---- the step loop's ---------------------------------------------------------------------------------------------

    def begin_step(self) -> None:
        """A step starts anew what it may be held up."""
        self._spent_ns = 0

    def wants(self, slot: int, tokens: list[int], *, idle: bool = False) -> bool:
        """Whether what a slot holds, which are the cells of these tokens, isn't kept yet and can be saved quickly."""
        if len(tokens) < LEAST_TOKENS or self.states.has(tokens):
            return False
        size = self._engine.state_bytes(slot)
        allowed_ns = RESTORE_NS if idle else SAVE_NS - self._spent_ns
        return size <= self.states.limit_bytes and self._saving.ns(size) <= allowed_ns

    def save(self, slot: int, tokens: list[int]) -> bool:
        """Keep what a slot holds. False: the engine can't give it."""
        start_ns = self._now_ns()
        try:
            saved = Saved(tokens, self._engine.save(slot))
        except (EngineError, MemoryError) as error:
            log.warning("A prefix of %d tokens can't be saved: %s", len(tokens), error)
            return False
        duration_ns = self._now_ns() - start_ns
        self._spent_ns += duration_ns
        self._saving.learn(len(saved.data), duration_ns)
        self.states.put(saved, instead=not self._whole)
        if self._disk is not None:
            self._disk.write(saved.tokens, saved.data)
        return True

    def find(self, tokens: list[int], most: int, beyond: int, token_ns: float) -> Found | None:
        """A state of the first tokens, at most `most`: restored sooner than what it has beyond others is computed."""
        best = self.states.best(tokens[:most] if self._whole else tokens, whole=self._whole)
        if best is None:
            return None
        found = Found(best[0], min(best[1], most))
        takes_ns = self._restoring.ns(len(found.saved.data))
        if takes_ns > min(RESTORE_NS - self._spent_ns, (found.length - beyond) * token_ns):
            return None
        return found

    def restore(self, slot: int, found: Found) -> bool:
        """Put a state into an empty slot. False: it can't be had."""
        start_ns = self._now_ns()
        restored = self._engine.restore(slot, found.saved.data)
        duration_ns = self._now_ns() - start_ns
        self._spent_ns += duration_ns
        if restored:
            self._restoring.learn(len(found.saved.data), duration_ns)
        else:
            self.states.drop(found.saved)
        return restored

    def flush(self, then: Callable[[int], None]) -> None:
        """Forget everything; afterwards `then` hears how many bytes, in whatever thread."""
        self._flushes += 1
        size = self.states.used_bytes
        self.states.clear()
        if self._disk is None:
            then(size)
        else:
            self._disk.clear(lambda removed: then(size + removed))

    # ---- the preparers' ----------------------------------------------------------------------------------------------

    def fetch(self, tokens: list[int], token_ns: float) -> None:
        """Bring from disk into memory what a prompt may need, where reading takes less time than computing."""
        if self._disk is None:
            return
        most = len(tokens) - 1
        entry, common = self._disk.best(tokens[:most], whole=self._whole)
        if entry is None or common < LEAST_TOKENS:
            return
        best = self.states.best(tokens[:most], whole=self._whole)
        gain = common - (best[1] if best is not None else 0)
        if gain < LEAST_TOKENS or self._reading.ns(entry.size) > gain * token_ns:
            return
        flushes, start_ns = self._flushes, self._now_ns()
        data = self._disk.read(entry)
        if data is not None and flushes == self._flushes:
            self._reading.learn(entry.size, self._now_ns() - start_ns)
            self.states.put(Saved(entry.tokens, data, "disk"), instead=not self._whole)
