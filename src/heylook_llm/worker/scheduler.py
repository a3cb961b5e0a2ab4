"""Continuous batching: which sequences are in the batch, what one engine step computes, who yields when cells run out.

The Scheduler decides and keeps the books; it reads no clock and waits for nothing. One step of its driver:

    feeds = scheduler.plan(now)         admit who fits; all decoding sequences, and at most N prompt tokens
    drawn = provider.step(feeds)        on OutOfCells: scheduler.make_room(), and plan again
    outcomes = scheduler.commit(drawn)  tokens appended, ends found

It asks its Memory (a Provider) to remove, share and shift cells at once, because the answers decide what is computed.

Where a Speculation guesses the next tokens of decoding sequences, one step computes them behind the last token, and a
sequence may take several draws of it. Guesses fill only what the step and the pool have left: nobody yields for them.
"""

import bisect
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from typing import Any, Final, NamedTuple, Protocol

from heylook_llm import core
from heylook_llm.worker.cells import Ledger
from heylook_llm.worker.chunks import Chunks
from heylook_llm.worker.guide import Guide
from heylook_llm.worker.prefix import Prefixes
from heylook_llm.worker.providers.base import Drawn, Feed, Sharing
from heylook_llm.worker.retention import Fixed
from heylook_llm.worker.sequence import End, Sequence, State

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


class Outcome(NamedTuple):
    """A token drawn for a sequence. `end`: the sequence ended with it; a token that only ends it isn't `shown`."""

    sequence: Sequence
    token: int
    shown: bool
    end: End | None
    logprob: core.TokenLogprob | None


class Composition(NamedTuple):
    """What one step's batch holds."""

    decoding: int
    prompt_tokens: int
    draft_tokens: int = 0


class Planned(NamedTuple):
    """What a step computes of a sequence: so many tokens, of which the last are drafts."""

    sequence: Sequence
    tokens: int
    sample: bool
    drafts: int = 0


class Speculation(Protocol):
    """Guesses what decoding sequences will draw next."""

    def drafts(self, sequences: Seq[Sequence], room: int) -> list[tuple[int, ...]]:
        """Guesses for each of the sequences, together at most `room` tokens; beyond its `most_drafts` they are cut."""
        ...

    def learn(self, planned: Seq[Planned], prompt_tokens: int, duration_ns: int) -> None:
        """A step was computed: how long it took; the sequences' own counts say which guesses were right."""
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


class Scheduler:
    """Waiting and running sequences over `slots` sequence ids and a pool of `kv_tokens` cells."""

    def __init__(
        self,
        memory: Memory,
        *,
        slots: int,
        kv_tokens: int,
        parallel: int | None = None,
        n_batch: int = 2048,
        prefill_tokens: int = 512,
        retention: Retaining | None = None,
        speculation: Speculation | None = None,
        keeper: Keeping | None = None,
    ) -> None:
        """`parallel`: sequences that may run at once; the other slots only keep prefixes.

        `retention`: how many cells only ended sequences may hold while others run, by default none; an idle pool keeps
        all.
        """
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.advanced: list[Sequence] = []
        """Sequences whose prompt the last step took further, but not to its end."""
        self.composition = Composition(0, 0)
        self.steps = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.preemptions = 0
        self.ledger = Ledger(slots)
        self.prefixes = Prefixes()
        self._memory = memory
        self._kv_tokens = kv_tokens
        self._room = kv_tokens
        """Cells that can really be had: fewer once the provider ran out earlier than the books say, until idle."""
        self._parallel = min(slots, parallel or slots)
        self._n_batch = max(n_batch, self._parallel)
        self._prefill_tokens = max(1, min(prefill_tokens, self._n_batch))
        self._retention = retention or Fixed(0)
        self._keeper = keeper
        self._in_slot: list[Sequence | None] = [None] * slots
        self._requests: dict[int, list[Sequence]] = {}
        self._arrivals = 0
        self._blocked: Sequence | None = None
        """The first of the waiting that didn't fit; nothing has ended or come since."""
        self._chunks = Chunks(self._prefill_tokens)
        self._speculation = speculation
        self._planned: list[Planned] = []

    # ---- coming and going --------------------------------------------------------------------------------------------

    def submit(self, sequence: Sequence, now_ns: int) -> None:
        """Queue a sequence; its prompt is shorter than its limit, and its limit at most the pool."""
        sequence.arrival = self._arrivals
        self._arrivals += 1
        self._blocked = None
        sequence.stamps.queued_ns = now_ns
        self._requests.setdefault(sequence.request, []).append(sequence)
        bisect.insort(self.waiting, sequence, key=_order)

    def cancel(self, request: int, *, keep: bool = True) -> None:
        """End every sequence of a request; `keep` False: their cells are not to be trusted and are forgotten."""
        for sequence in list(self._requests.get(request, ())):
            self.finish(sequence, keep=keep)

    def finish(self, sequence: Sequence, *, keep: bool = True) -> None:
        """End one sequence; the cells of its computed tokens are retained for prompts to come."""
        if sequence.state is State.FINISHED:
            return
        if sequence.state is State.RUNNING:
            self._leave_slot(sequence, keep=keep)
        else:
            self.waiting.remove(sequence)
        sequence.state = State.FINISHED
        sequence.drawing = None
        siblings = self._requests[sequence.request]
        siblings.remove(sequence)
        if not siblings:
            del self._requests[sequence.request]

    @property
    def idle(self) -> bool:
        """Whether there is nothing to compute."""
        return not self.running and not self.waiting

    @property
    def token_ns(self) -> float:
        """What a prompt token takes, as measured; callable from any thread."""
        return self._chunks.token_ns

    def live(self) -> list[Sequence]:
        """Running sequences, then waiting ones in their order."""
        return [*self.running, *self.waiting]

    def flush(self) -> int:
        """Drop every retained prefix; returns the cells given back."""
        before = self.ledger.used
        for slot in self.prefixes.slots():
            self._drop(slot)
        return before - self.ledger.used

    # ---- one step ----------------------------------------------------------------------------------------------------

    def plan(self, now_ns: int) -> list[Feed]:
        """What the next step computes: every decoding sequence, and prompt tokens up to the limit. Empty: nothing."""
        if self._keeper is not None:
            self._keeper.begin_step()
        feeds = self._plan(now_ns)
        while self._overfull and (len(self.prefixes) or len(self.running) > 1):
            self._yield()
            feeds = self._plan(now_ns)
        return feeds

    @property
    def _overfull(self) -> bool:
        """Whether the planned tokens are more than the pool holds, by our own books."""
        return self.ledger.used + self._planned_tokens > self._room

    @property
    def _planned_tokens(self) -> int:
        return sum(planned.tokens for planned in self._planned)

    def _plan(self, now_ns: int) -> list[Feed]:
        if self.waiting:
            self._admit(now_ns)
        feeds: list[Feed] = []
        planned = self._planned = []
        prefilling: list[Sequence] = []
        for sequence in self.running:
            if sequence.stops:
                self._checkpoint(sequence)
            if sequence.decoding:
                feeds.append(Feed(sequence.slot, sequence.computed, (sequence.tokens[-1],), True))
                planned.append(Planned(sequence, 1, True))
            else:
                prefilling.append(sequence)
        decoding = len(feeds)
        if prefilling:
            self._plan_prompts(prefilling, feeds, self.prompt_limit(decoding))
        prompt_tokens = self._planned_tokens - decoding
        drafts = self._plan_drafts(feeds, decoding) if decoding and self._speculation is not None else 0
        self.composition = Composition(decoding, prompt_tokens, drafts)
        return feeds

    def _plan_drafts(self, feeds: list[Feed], decoding: int) -> int:
        """Put guesses behind the last tokens of the decoding sequences, which stand first; returns how many."""
        assert self._speculation is not None
        room = min(self._n_batch, self._room - self.ledger.used) - self._planned_tokens
        if room <= 0:
            return 0
        total = 0
        guesses = self._speculation.drafts([planned.sequence for planned in self._planned[:decoding]], room)
        for at, guessed in enumerate(guesses):
            feed, sequence = feeds[at], self._planned[at].sequence
            drafts = guessed[: sequence.most_drafts]
            if drafts:
                feeds[at] = Feed(feed.slot, feed.start, (*feed.tokens, *drafts), True, len(drafts))
                self._planned[at] = Planned(sequence, 1 + len(drafts), True, len(drafts))
                total += len(drafts)
        return total

    def prompt_limit(self, decoding: int) -> int:
        """Most prompt tokens of a step beside so many decoding sequences."""
        return min(self._chunks.limit(beside=decoding > 0), self._n_batch - decoding)

    def _plan_prompts(self, prefilling: list[Sequence], feeds: list[Feed], budget: int) -> None:
        for sequence in _in_turn(prefilling, budget):
            if budget <= 0:
                return
            start = sequence.computed
            count = min(sequence.pending_tokens, budget)
            if sequence.stops:
                count = min(count, sequence.stops[0] - start)
            sample = start + count == len(sequence.tokens)
            feeds.append(Feed(sequence.slot, start, tuple(sequence.tokens[start : start + count]), sample))
            self._planned.append(Planned(sequence, count, sample))
            budget -= count

    def commit(
        self, drawn: Seq[Drawn], start_ns: int, now_ns: int, give: Callable[[Outcome], None] | None = None
    ) -> list[Outcome]:
        """Book a computed step: cells, drawn tokens, ends. `start_ns` and `now_ns` enclose the step.

        `give` is told of each outcome as it is booked, and may finish its sequence or force its next tokens: what was
        drawn of it after that is as if it never was.
        """
        self.steps += 1
        self._chunks.measure(self.composition.prompt_tokens, now_ns - start_ns)
        computed, self._planned = self._planned, []
        self._book(computed, start_ns, now_ns)
        if self.composition == Composition(len(computed), 0):
            own = sum(planned.sequence.computed for planned in computed)
            self._retention.learn(len(computed), own, self.ledger.used, now_ns - start_ns)
        outcomes: list[Outcome] = []
        drawing = [self._in_slot[one.slot] for one in drawn]  # who ends leaves its slot
        for sequence, one in zip(drawing, drawn, strict=True):
            assert sequence is not None, "a token was drawn for a free slot"
            if sequence.state is State.RUNNING and not sequence.forced:
                outcome = self._take(sequence, one, now_ns)
                outcomes.append(outcome)
                if give is not None:
                    give(outcome)
        for planned in computed:
            if planned.drafts and planned.sequence.state is State.RUNNING:
                self._take_back(planned.sequence)
        for sequence in [sequence for sequence in self.running if sequence.forced]:
            outcomes.extend(self._follow(sequence, now_ns, give))
        if self._speculation is not None:
            self._speculation.learn(computed, self.composition.prompt_tokens, now_ns - start_ns)
        return outcomes

    def _book(self, computed: list[Planned], start_ns: int, now_ns: int) -> None:
        """The cells of a step. Those of drafts count as computed only once they turn out drawn."""
        batch_size = self.composition.decoding
        self.advanced = []
        for sequence, count, sampled, drafts in computed:
            self.ledger.extend(sequence.slot, count)
            if not sequence.decoding:
                sequence.chunks.append(core.PrefillChunk(start_ns, now_ns, count))
                self.prompt_tokens += count
                if not sampled:
                    self.advanced.append(sequence)
            else:
                sizes = sequence.batch_sizes
                sizes[batch_size] = sizes.get(batch_size, 0) + 1
            sequence.computed += count - drafts
            sequence.draft_tokens += drafts
            sequence.stamps.steps += 1

    def force(self, sequence: Sequence, tokens: Seq[int]) -> None:
        """Let these tokens follow the one just booked instead of what would be drawn; they are booked in its step."""
        sequence.forced = tuple(tokens)

    def _follow(self, sequence: Sequence, now_ns: int, give: Callable[[Outcome], None] | None) -> Iterator[Outcome]:
        """Book the tokens that were set to follow, up to an end; the next step computes them together."""
        tokens, sequence.forced = sequence.forced, ()
        for token in tokens:
            if sequence.state is not State.RUNNING:
                return
            if sequence.guide is not None:
                sequence.guide.accept(token)
            outcome = self._append(sequence, Drawn(sequence.slot, token), now_ns, ended=False)
            if give is not None:
                give(outcome)
            yield outcome

    def _take(self, sequence: Sequence, drawn: Drawn, now_ns: int) -> Outcome:
        """Append a drawn token to its sequence and see whether it ends."""
        if sequence.computed < len(sequence.tokens):  # drawn behind a draft that was right
            sequence.computed += 1
            sequence.accepted_tokens += 1
        return self._append(sequence, drawn, now_ns, ended=None)

    def _append(self, sequence: Sequence, drawn: Drawn, now_ns: int, *, ended: bool | None) -> Outcome:
        """Append a token; `ended`: whether it ends the text, None: by what it is."""
        token = drawn.token
        sequence.tokens.append(token)
        sequence.output_tokens += 1
        self.output_tokens += 1
        stamps = sequence.stamps
        stamps.last_token_ns = now_ns
        if stamps.first_token_ns is None:
            stamps.first_token_ns = now_ns
        ended = self._ends(sequence, token) if ended is None else ended
        end: End | None = "stop" if ended or drawn.complete else None
        if end is None and sequence.output_tokens >= sequence.max_tokens:
            end = "length"
        if end is None and len(sequence.tokens) >= sequence.limit_tokens and not self._shift(sequence):
            end = "length"
        if end is not None:
            self.finish(sequence)
        return Outcome(sequence, token, not ended, end, drawn.logprob)

    def _take_back(self, sequence: Sequence) -> None:
        """Remove the cells of drafts that weren't drawn."""
        slot = sequence.slot
        if self.ledger.held(slot) <= sequence.computed:
            return
        if not self._memory.remove(slot, sequence.computed):
            self._memory.remove(slot)
            sequence.computed = 0
        self.ledger.remove(slot, sequence.computed)

    def _ends(self, sequence: Sequence, token: int) -> bool:
        sampling = sequence.sampling
        if sequence.output_tokens <= sampling.min_tokens:
            return False
        return token in sequence.stop_tokens or (not sampling.ignore_eos and self._memory.is_end(token))

    # ---- room --------------------------------------------------------------------------------------------------------

    def make_room(self) -> Sequence | None:
        """After OutOfCells: drop retained prefixes, else preempt the youngest; then plan again.

        Returns a sequence that was alone and had to end because even the whole pool is too small for it.
        """
        drafts = sum(planned.drafts for planned in self._planned)
        self._room = min(self._room, self.ledger.used + self._planned_tokens - max(1, drafts))
        if drafts:  # without them it may fit
            self._planned = []
            return None
        return self._yield()

    def _yield(self) -> Sequence | None:
        wanted = self._planned_tokens
        self._planned = []
        if len(self.prefixes):
            for slot in self.prefixes.slots():
                self._evict(slot)
                if self.ledger.used + wanted <= self._room:
                    break
            return None
        if len(self.running) > 1:
            self._preempt(max(self.running, key=_order))
            return None
        last = self.running[0]
        self.finish(last, keep=False)
        return last

    def _preempt(self, sequence: Sequence) -> None:
        """Send a running sequence back to its place in the queue; it is computed anew later, unseen by its client."""
        self._leave_slot(sequence, keep=False)
        sequence.state = State.PREEMPTED
        sequence.stamps.preemptions += 1
        self.preemptions += 1
        bisect.insort(self.waiting, sequence, key=_order)

    def _leave_slot(self, sequence: Sequence, *, keep: bool) -> None:
        slot = sequence.slot
        self._blocked = None
        self._take_back(sequence)
        self.running.remove(sequence)
        sequence.drawing = self._memory.release(slot)
        self._in_slot[slot] = None
        if keep and sequence.computed and not sequence.shifted and self._memory.sharing != "none":
            self.prefixes.retain(slot, sequence.tokens[: sequence.computed])
            if self.running:
                self._trim()
        else:
            self._drop(slot)
        sequence.slot = -1
        if sequence.state is not State.FINISHED and not keep:
            sequence.computed = 0

    def _drop(self, slot: int) -> None:
        """Forget all cells of a slot that no sequence uses."""
        self._memory.remove(slot)
        self.ledger.remove(slot)
        self.prefixes.forget(slot)

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

    def _trim(self) -> None:
        """While sequences run, retained cells slow them down: keep the latest within the budget."""
        allowed = self._retention.budget(len(self.running))
        for slot in self.prefixes.slots():
            if self.ledger.freed(self.prefixes.slots()) <= allowed:
                return
            self._evict(slot)

    def _shift(self, sequence: Sequence) -> bool:
        """Drop the older half of a full context, where asked; what can't be shifted in place is computed anew."""
        keep = sequence.keep_tokens
        discard = (len(sequence.tokens) - keep) // 2
        if not sequence.shift or discard < 1:
            return False
        self._take_back(sequence)
        slot, end = sequence.slot, keep + discard
        del sequence.tokens[keep:end]
        sequence.stops.clear()
        for waiting in self.waiting:
            if waiting.leader is sequence:
                waiting.leader = None
        sequence.stamps.dropped_tokens += discard
        self.prefixes.forget(slot)
        alone = self.ledger.freed((slot,)) == self.ledger.held(slot)
        if alone and sequence.computed >= end and self._memory.shift(slot, keep, end):
            self.ledger.remove(slot, keep, end)
            sequence.computed -= discard
            sequence.shifted = True
            return True
        self._memory.remove(slot)
        self.ledger.remove(slot)
        sequence.computed = 0
        sequence.shifted = False
        return True

    # ---- admission ---------------------------------------------------------------------------------------------------

    def _admit(self, now_ns: int) -> None:
        """Give slots to the waiting, in order; the first that doesn't fit holds back those behind it.

        Whoever waits for what another is computing keeps its place: a slot, and the cells that it will need.
        """
        coming = pledged = 0
        for sequence in list(self.waiting):
            if sequence is self._blocked or len(self.running) + coming >= self._parallel:
                return
            sources = Sources() if _awaits(sequence) else self._sources(sequence)
            if _awaits(sequence):
                coming += 1
                pledged += len(sequence.tokens) - sequence.awaited_tokens
            elif self._enter_slot(sequence, sources, pledged):
                self.waiting.remove(sequence)
                self._start(sequence, now_ns)
            else:
                self._blocked = sequence
                return

    def _start(self, sequence: Sequence, now_ns: int) -> None:
        if sequence.stamps.admitted_ns is None:
            sequence.stamps.admitted_ns = now_ns
            sequence.cached_tokens = sequence.computed
            self.cached_tokens += sequence.computed
        sequence.state = State.RUNNING
        self.running.append(sequence)
        self._in_slot[sequence.slot] = sequence
        self.prefixes.enter(sequence.slot, sequence.tokens)
        sampling = sequence.remaining_sampling()
        self._memory.add(sequence.slot, sampling, sequence.tokens, sequence.drawing, sequence.guide)
        sequence.drawing = None
        self._trim()

    def _sources(self, sequence: Sequence) -> Sources:
        """What the sequence could begin with; its last token is computed anew, for the logits.

        Where a running sequence is just computing more of the same, the sequence is set to wait for it: that one comes
        before in every step, so computing the same beside it could not be done earlier.
        """
        sequence.leader = None
        if self._memory.sharing == "none":
            return Sources()
        most = len(sequence.tokens) - 1
        found: list[tuple[int, int]] = []
        ready = promised = 0
        matches = self.prefixes.matches(sequence.tokens)
        for slot, common in matches:
            other = self._in_slot[slot]
            useful = min(common, most)
            length = useful if other is None else min(useful, other.computed)
            found.append((slot, length))
            if self._is_sure(slot, length):
                ready = max(ready, length)
            if other is not None and other.computed < useful and useful > promised and other.order < sequence.order:
                promised = useful
                sequence.leader, sequence.awaited_tokens = other, useful
        kept = self._kept(sequence, most, ready)
        if kept is not None:
            ready = kept.length
        leader = sequence.leader
        if leader is not None and promised - ready < LEAST_SHARED_TOKENS and leader.request != sequence.request:
            sequence.leader = None
        if self._memory.sharing == "whole":
            _set_stop(sequence, max((min(common, most) for _, common in matches), default=0))
        return Sources(sorted((match for match in found if match[1]), key=lambda match: -match[1]), kept)

    def _kept(self, sequence: Sequence, most: int, ready: int) -> Kept | None:
        """A saved state that has more than the pool."""
        if self._keeper is None:
            return None
        kept = self._keeper.find(sequence.tokens, most, ready, self._chunks.token_ns)
        return kept if kept is not None and kept.length - ready >= LEAST_SHARED_TOKENS else None

    def _enter_slot(self, sequence: Sequence, sources: Sources, pledged: int) -> bool:
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

    def _fits(self, missing: int, spared: int) -> bool:
        """Whether so many more tokens fit beside what runs; drops retained prefixes for it, all but `spared`."""
        if not self.running:
            self._room = self._kv_tokens
            self._drop_until(missing + 1, spared)
            return True
        reserved = sum(other.pending_tokens for other in self.running)
        wanted = missing + reserved + 1 + len(self.running)
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

    def _checkpoint(self, sequence: Sequence) -> None:
        """Keep what a sequence has computed up to a boundary, where prompts part: later it can't be cut there."""
        reached = [stop for stop in sequence.stops if stop <= sequence.computed]
        del sequence.stops[: len(reached)]
        tokens = sequence.tokens[: sequence.computed]
        if sequence.computed not in reached or self.prefixes.has(tokens):
            return
        slot = self._empty_slot(spared=-1)
        if slot is not None and self._share(sequence.slot, slot, sequence.computed):
            self.prefixes.retain(slot, tokens)


def _in_turn(prefilling: list[Sequence], budget: int) -> list[Sequence]:
    """In the order of arrival; but before a prompt of several steps go those that half of this one finishes.

    So a short prompt doesn't wait for the end of a long one, and the long one takes twice its time at most.
    """
    ordered = sorted(prefilling, key=_order)
    oldest = ordered[0]
    room = budget // 2 if oldest.pending_tokens > budget else 0
    quick: list[Sequence] = []
    for sequence in ordered[1:]:
        if sequence.pending_tokens <= room and sequence.priority == oldest.priority:
            room -= sequence.pending_tokens
            quick.append(sequence)
    return [*quick, *(sequence for sequence in ordered if sequence not in quick)] if quick else ordered


def _order(sequence: Sequence) -> tuple[int, int]:
    return sequence.order


def _note_source(sequence: Sequence, origin: core.CachedFrom, other: Sequence | None = None) -> None:
    """Whence a sequence has its beginning, when it is admitted first."""
    if sequence.stamps.admitted_ns is None:
        sequence.stamps.cached_from = origin
        sequence.stamps.shared_with = other.stamps.request_id if other is not None else ""


def _awaits(sequence: Sequence) -> bool:
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
