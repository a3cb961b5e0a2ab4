"""The pool of cells as sequences share it: what a new one begins with, what ended ones leave, who makes room.

It asks its Memory (a Provider) to remove, share and shift cells at once, and whoever keeps prefixes outside the pool to
save and restore them, because the answers decide what is computed.
"""

import bisect
from collections.abc import Sequence as Seq
from typing import Any, Final, NamedTuple, Protocol

from heylook_llm import core
from heylook_llm.worker.cells import Ledger
from heylook_llm.worker.guide import Guide
from heylook_llm.worker.prefix import Prefixes
from heylook_llm.worker.providers.base import Sharing
from heylook_llm.worker.retention import Fixed
from heylook_llm.worker.sequence import Sequence, State

LEAST_SHARED_TOKENS: Final = 32
"""Fewer tokens are computed again rather than waited for: a step costs more than its share of them."""


class Memory(Protocol):
    """The part of a Provider that a decision needs an answer from."""

    sharing: Sharing
    """Which parts of a slot's cells can be shared or kept."""

    def add(
        self,
        slot: int,
        sampling: core.Sampling,
        prompt: Seq[int],
        drawing: object = None,
        guide: Guide | None = None,
    ) -> None:
        """A sampler for the slot."""
        ...

    def remove(self, slot: int, start: int = 0, end: int = -1) -> bool:
        """Forget cells; False: not partially."""
        ...

    def release(self, slot: int) -> object:
        """Give the sampler up; returns what `add` may take back."""
        ...

    def share(self, source: int, target: int, end: int) -> bool:
        """Share cells; False: can't."""
        ...

    def shift(self, slot: int, start: int, end: int) -> bool:
        """Drop positions and move the rest down; False: can't."""
        ...

    def is_end(self, token: int) -> bool:
        """Whether the token ends generation."""
        ...


class Retaining(Protocol):
    """Knows what retained cells cost."""

    def learn(self, batch: int, own: int, used: int, duration_ns: int) -> None:
        """A step that only decoded: sequences in it, cells of these, cells in use."""
        ...

    def budget(self, batch: int) -> int:
        """Cells that only ended sequences may hold while so many run."""
        ...


class Kept(Protocol):
    """A saved state, and how many of the tokens that were asked for it holds."""

    @property
    def length(self) -> int:
        """These."""
        ...

    @property
    def held(self) -> int:
        """All of its tokens."""
        ...

    @property
    def origin(self) -> core.CachedFrom:
        """Where it was."""
        ...


class Keeping(Protocol):
    """Keeps prefixes outside the pool."""

    def begin_step(self) -> None:
        """What the step may be held up starts anew."""
        ...

    def wants(self, slot: int, tokens: list[int], *, idle: bool = False) -> bool:
        """Whether the slot's cells, which are those of these tokens, are worth saving and can be."""
        ...

    def save(self, slot: int, tokens: list[int]) -> bool:
        """Keep them; False: they can't be had."""
        ...

    def find(self, tokens: list[int], most: int, beyond: int, token_ns: float) -> Kept | None:
        """A state of the first tokens, at most `most`: restored sooner than what it has beyond others is computed."""
        ...

    def restore(self, slot: int, kept: Any) -> bool:
        """Put what was found into an empty slot; False, and the slot stays empty: it can't be had."""
        ...


class Sources(NamedTuple):
    """What a sequence could begin with: (slot, computed tokens in common), the most first; or a state with more."""

    slots: Seq[tuple[int, int]] = ()
    kept: Kept | None = None


class Pool:
    """`slots` sequence ids over `kv_tokens` cells, some of them in use by `running` sequences."""

    def __init__(
        self,
        memory: Memory,
        running: list[Sequence],
        *,
        slots: int,
        kv_tokens: int,
        retention: Retaining | None = None,
        keeper: Keeping | None = None,
    ) -> None:
        """`running` is the scheduler's own list, which it changes."""
        self.ledger = Ledger(slots)
        self.prefixes = Prefixes()
        self.retention = retention or Fixed(0)
        self._memory = memory
        self._running = running
        self._kv_tokens = kv_tokens
        self._room = kv_tokens
        """Cells that can really be had: fewer once the provider ran out earlier than the books say, until idle."""
        self._keeper = keeper
        self._in_slot: list[Sequence | None] = [None] * slots

    def sequence(self, slot: int) -> Sequence | None:
        """Who runs in a slot."""
        return self._in_slot[slot]

    @property
    def free(self) -> int:
        """Cells that nobody holds."""
        return self._room - self.ledger.used

    def lacks(self, wanted: int) -> None:
        """The provider had less than so many free cells, whatever the books say."""
        self._room = min(self._room, self.ledger.used + wanted - 1)

    def begin_step(self) -> None:
        """What saving and restoring may hold up a step starts anew."""
        if self._keeper is not None:
            self._keeper.begin_step()

    # ---- coming and going --------------------------------------------------------------------------------------------

    def enter(self, sequence: Sequence) -> None:
        """A sequence runs in the slot that it was given a place in."""
        self._in_slot[sequence.slot] = sequence
        self.prefixes.enter(sequence.slot, sequence.tokens)
        sampling = sequence.remaining_sampling()
        self._memory.add(sequence.slot, sampling, sequence.tokens, sequence.drawing, sequence.guide)
        sequence.drawing = None
        self._trim()

    def leave(self, sequence: Sequence, *, keep: bool) -> None:
        """It runs no more; `keep`: what it computed may serve prompts to come."""
        slot = sequence.slot
        self.take_back(sequence)
        sequence.drawing = self._memory.release(slot)
        self._in_slot[slot] = None
        if keep and sequence.computed and not sequence.shifted and self._memory.sharing != "none":
            self.prefixes.retain(slot, sequence.tokens[: sequence.computed])
            if self._running:
                self._trim()
        else:
            self._drop(slot)
        sequence.slot = -1

    def take_back(self, sequence: Sequence) -> None:
        """Remove the cells of drafts that weren't drawn."""
        slot = sequence.slot
        if self.ledger.held(slot) <= sequence.computed:
            return
        if not self._memory.remove(slot, sequence.computed):
            self._memory.remove(slot)
            sequence.computed = 0
        self.ledger.remove(slot, sequence.computed)

    def shift(self, sequence: Sequence, start: int, end: int) -> None:
        """Drop the cells of tokens that the sequence no longer has; what can't be moved down is computed anew."""
        slot = sequence.slot
        sequence.stops.clear()
        self.prefixes.forget(slot)
        alone = self.ledger.freed((slot,)) == self.ledger.held(slot)
        if alone and sequence.computed >= end and self._memory.shift(slot, start, end):
            self.ledger.remove(slot, start, end)
            sequence.computed -= end - start
            sequence.shifted = True
            return
        self._memory.remove(slot)
        self.ledger.remove(slot)
        sequence.computed = 0
        sequence.shifted = False

    # ---- what a sequence begins with ---------------------------------------------------------------------------------

    def sources(self, sequence: Sequence, limit: int, token_ns: float) -> Sources:
        """What the sequence could begin with; its last token is computed anew, for the logits.

        Where a running sequence is just computing more of the same, the sequence is set to wait for it, if it couldn't
        compute it earlier itself. `limit`: prompt tokens of a step; `token_ns`: what one of them takes.
        """
        sequence.leader = None
        if self._memory.sharing == "none" or sequence.unscored is not None:
            return Sources()
        most = len(sequence.tokens) - 1
        found: list[tuple[int, int]] = []
        coming: list[tuple[int, Sequence]] = []
        ready = 0
        matches = self.prefixes.matches(sequence.tokens)
        for slot, common in matches:
            other = self._in_slot[slot]
            useful = min(common, most)
            length = useful if other is None else min(useful, other.computed)
            found.append((slot, length))
            if self._is_sure(slot, length):
                ready = max(ready, length)
            if other is not None and other.computed < useful:
                coming.append((useful, other))
        kept = self._kept(sequence, most, ready, token_ns)
        if kept is not None:
            ready = kept.length
        for useful, other in coming:
            if _is_worth_waiting_for(other, sequence, useful, ready, limit):
                sequence.leader, sequence.awaited_tokens = other, useful
                break
        if self._memory.sharing == "whole":
            _set_stop(sequence, max((min(common, most) for _, common in matches), default=0))
        return Sources(sorted((match for match in found if match[1]), key=lambda match: -match[1]), kept)

    def _kept(self, sequence: Sequence, most: int, ready: int, token_ns: float) -> Kept | None:
        """A saved state that has more than the pool."""
        if self._keeper is None:
            return None
        kept = self._keeper.find(sequence.tokens, most, ready, token_ns)
        return kept if kept is not None and kept.length - ready >= LEAST_SHARED_TOKENS else None

    def place(self, sequence: Sequence, sources: Sources, pledged: int) -> bool:
        """Choose a slot and what of its tokens is taken over; False: there is no room now, beside `pledged` cells."""
        wanted = len(sequence.tokens) + pledged
        if sources.kept is not None:
            slot = self._restored(sources.kept, wanted)
            if slot is not None:
                sequence.slot, sequence.computed = slot, sources.kept.length
                _note_source(sequence, sources.kept.origin)
                return True
        for source, length in sources.slots:
            if not self._fits(wanted - length, spared=source):
                return False
            slot = self._slot_with(source, length)
            if slot is not None:
                other = self._in_slot[source]
                sequence.slot, sequence.computed = slot, length
                _note_source(sequence, "ended" if other is None else "running", other)
                return True
        if not self._fits(wanted, spared=-1):
            return False
        empty = self._empty_slot(spared=-1)
        assert empty is not None, "fewer slots than sequences that may run"
        sequence.slot, sequence.computed = empty, 0
        return True

    def _restored(self, kept: Kept, wanted: int) -> int | None:
        """A slot with a saved state, cut to what is of use; None: there is no room, or it can't be had."""
        assert self._keeper is not None, "who else kept it?"
        surplus = kept.held - kept.length
        slot = self._empty_slot(spared=-1) if self._fits(wanted - kept.length + kept.held, spared=-1) else None
        if slot is None or not self._keeper.restore(slot, kept):
            return None
        self.ledger.extend(slot, kept.held)
        if surplus and not self._memory.remove(slot, kept.length):
            self._drop(slot)
            return None
        self.ledger.remove(slot, kept.length)
        return slot

    def _slot_with(self, source: int, length: int) -> int | None:
        """A slot that holds the first cells of `source`: one that shares them, or itself where that loses little."""
        held = self.ledger.held(source)
        if held < length:  # dropped since, for its cells
            return None
        kept = source in self.prefixes and self._is_sure(source, length)
        if kept and held - length < LEAST_SHARED_TOKENS and self._memory.sharing == "any" and self._cut(source, length):
            return source
        target = self._empty_slot(spared=source)
        if target is not None and self._share(source, target, length):
            return target
        return source if kept and self._cut(source, length) else None

    def _is_sure(self, slot: int, length: int) -> bool:
        """Whether so many of a slot's cells can surely be shared or kept."""
        return self._memory.sharing == "any" or length == self.ledger.held(slot)

    def _empty_slot(self, spared: int) -> int | None:
        """A slot without cells, if need be the retained one unused for longest; None: there is only `spared`."""
        for slot, sequence in enumerate(self._in_slot):
            if sequence is None and slot not in self.prefixes:
                return slot
        oldest = next((slot for slot in self.prefixes.slots() if slot != spared), None)
        if oldest is not None:
            self._evict(oldest)
        return oldest

    def _share(self, source: int, target: int, length: int) -> bool:
        """Share a prefix into an empty slot; False: this model can't."""
        if not self._memory.share(source, target, length):
            return False
        self.ledger.share(source, target, length)
        self.prefixes.touch(source)
        return True

    def _cut(self, slot: int, length: int) -> bool:
        """Take a retained slot into use, with only the first of its cells; False: it can't be cut."""
        if length < self.ledger.held(slot):
            if not self._memory.remove(slot, length):
                return False
            self.ledger.remove(slot, length)
        self.prefixes.forget(slot)
        return True

    # ---- boundaries --------------------------------------------------------------------------------------------------

    def checkpoint(self, sequence: Sequence) -> None:
        """Keep what a sequence has computed up to a boundary, where prompts part: later it can't be cut there."""
        reached = [stop for stop in sequence.stops if stop <= sequence.computed]
        del sequence.stops[: len(reached)]
        tokens = sequence.tokens[: sequence.computed]
        if sequence.computed not in reached or self.prefixes.has(tokens):
            return
        slot = self._empty_slot(spared=-1)
        if slot is not None and self._share(sequence.slot, slot, sequence.computed):
            self.prefixes.retain(slot, tokens)

    # ---- room --------------------------------------------------------------------------------------------------------

    def make_room(self, wanted: int) -> bool:
        """Evict retained prefixes until so many cells are free; False: there are none."""
        slots = self.prefixes.slots()
        for slot in slots:
            self._evict(slot)
            if wanted <= self.free:
                break
        return bool(slots)

    def _fits(self, missing: int, spared: int) -> bool:
        """Whether so many more tokens fit beside what runs; drops retained prefixes for it, all but `spared`."""
        if not self._running:
            self._room = self._kv_tokens
            self._drop_until(missing + 1, spared)
            return True
        reserved = sum(other.pending_tokens for other in self._running)
        wanted = missing + reserved + 1 + len(self._running)
        spendable = self.ledger.freed(slot for slot in self.prefixes.slots() if slot != spared)
        if self.ledger.used - spendable + wanted > self._room:
            return False
        self._drop_until(wanted, spared)
        return True

    def _drop_until(self, wanted: int, spared: int) -> None:
        for slot in self.prefixes.slots():
            if self.ledger.used + wanted <= self._room:
                return
            if slot != spared:
                self._evict(slot)

    def _trim(self) -> None:
        """While sequences run, retained cells slow them down: keep the latest within the budget."""
        allowed = self.retention.budget(len(self._running))
        for slot in self.prefixes.slots():
            if self.ledger.freed(self.prefixes.slots()) <= allowed:
                return
            self._evict(slot)

    def _evict(self, slot: int) -> None:
        """Give up a retained prefix; its state is saved where that is quick and no other slot holds it all."""
        keeper = self._keeper
        if keeper is not None:
            tokens = self.prefixes.tokens(slot)
            if not self._is_elsewhere(slot, tokens) and keeper.wants(slot, tokens):
                keeper.save(slot, tokens)
        self._drop(slot)

    def _is_elsewhere(self, slot: int, tokens: list[int]) -> bool:
        """Whether another slot can give all of these cells too."""
        for other, common in self.prefixes.matches(tokens):
            if common < len(tokens):
                return False
            running = self._in_slot[other]
            if other != slot and (running is None or running.computed >= common) and self._is_sure(other, common):
                return True
        return False

    def keep_one(self) -> bool:
        """Save a retained prefix that isn't yet, the latest first; False: there is none, or it takes too long."""
        keeper = self._keeper
        for slot in reversed(self.prefixes.slots()) if keeper is not None else ():
            tokens = self.prefixes.tokens(slot)
            if keeper is not None and keeper.wants(slot, tokens, idle=True):
                return keeper.save(slot, tokens)
        return False

    def flush(self) -> int:
        """Drop every retained prefix; returns the cells given back."""
        before = self.ledger.used
        for slot in self.prefixes.slots():
            self._drop(slot)
        return before - self.ledger.used

    def _drop(self, slot: int) -> None:
        """Forget all cells of a slot that no sequence uses."""
        self._memory.remove(slot)
        self.ledger.remove(slot)
        self.prefixes.forget(slot)


def _note_source(sequence: Sequence, origin: core.CachedFrom, other: Sequence | None = None) -> None:
    """Whence a sequence has its beginning, when it is admitted first."""
    if sequence.stamps.admitted_ns is None:
        sequence.stamps.cached_from = origin
        sequence.stamps.shared_with = other.stamps.request_id if other is not None else ""


def _is_worth_waiting_for(other: Sequence, sequence: Sequence, useful: int, ready: int, limit: int) -> bool:
    """Whether a sequence has its tokens from `ready` to `useful` sooner from another than by computing them itself.

    The other must come before it in every step. One that is ahead by several steps is passed by whoever half a step
    finishes (the scheduler lets it), so that one gains nothing by waiting for it.
    """
    if other.order > sequence.order or (useful - ready < LEAST_SHARED_TOKENS and other.request != sequence.request):
        return False
    passes = other.pending_tokens > limit and len(sequence.tokens) - ready <= limit // 2
    return not passes or other.priority != sequence.priority


def awaits(sequence: Sequence) -> bool:
    """Whether another is just computing a prefix that this one will share."""
    leader = sequence.leader
    return leader is not None and leader.state is State.RUNNING and leader.computed < sequence.awaited_tokens


def _set_stop(sequence: Sequence, boundary: int) -> None:
    """Let a prompt's computation pause where others part from it, to be shared or kept there whole."""
    if boundary < LEAST_SHARED_TOKENS:
        boundary = 0
    if sequence.leader is not None:
        boundary, sequence = sequence.awaited_tokens, sequence.leader
    if boundary > sequence.computed and boundary not in sequence.stops:
        bisect.insort(sequence.stops, boundary)
