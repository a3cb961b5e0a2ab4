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
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import NamedTuple, Protocol

from heylook_llm import core
from heylook_llm.worker.chunks import Chunks
from heylook_llm.worker.guide import Guide
from heylook_llm.worker.prefix import Ledger, Prefixes, common_prefix
from heylook_llm.worker.providers.base import Drawn, Feed
from heylook_llm.worker.sequence import End, Sequence, State


class Memory(Protocol):
    """The part of a Provider that a decision needs an answer from."""

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


class Scheduler:
    """Waiting and running sequences over `slots` sequence ids and a pool of `kv_tokens` cells."""

    def __init__(
        self,
        memory: Memory,
        *,
        slots: int,
        kv_tokens: int,
        n_batch: int = 2048,
        prefill_tokens: int = 512,
        retained_tokens: int = 0,
        speculation: Speculation | None = None,
    ) -> None:
        """`retained_tokens`: cells that ended sequences may keep while others run; what idles keeps all it has."""
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
        self._n_batch = max(n_batch, slots)
        self._prefill_tokens = max(1, min(prefill_tokens, self._n_batch))
        self._retained_tokens = retained_tokens
        self._in_slot: list[Sequence | None] = [None] * slots
        self._requests: dict[int, list[Sequence]] = {}
        self._arrivals = 0
        self._blocked = False
        """The first of the waiting didn't fit, and nothing has ended or come since."""
        self._chunks = Chunks(self._prefill_tokens)
        self._speculation = speculation
        self._planned: list[Planned] = []

    # ---- coming and going --------------------------------------------------------------------------------------------

    def submit(self, sequence: Sequence, now_ns: int) -> None:
        """Queue a sequence; its prompt is shorter than its limit, and its limit at most the pool."""
        sequence.arrival = self._arrivals
        self._arrivals += 1
        self._blocked = False
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
        if self.waiting and not self._blocked:
            self._admit(now_ns)
        feeds: list[Feed] = []
        planned = self._planned = []
        prefilling: list[Sequence] = []
        for sequence in self.running:
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
        for sequence in prefilling:
            if budget <= 0:
                return
            start = sequence.computed
            count = min(sequence.pending_tokens, budget)
            sample = start + count == len(sequence.tokens)
            feeds.append(Feed(sequence.slot, start, tuple(sequence.tokens[start : start + count]), sample))
            self._planned.append(Planned(sequence, count, sample))
            budget -= count

    def commit(
        self, drawn: Seq[Drawn], start_ns: int, now_ns: int, give: Callable[[Outcome], None] | None = None
    ) -> list[Outcome]:
        """Book a computed step: cells, drawn tokens, ends. `start_ns` and `now_ns` enclose the step.

        `give` is told of each outcome as it is booked, and may finish its sequence: what was drawn of it after that is
        as if it never was.
        """
        self.steps += 1
        self._chunks.measure(self.composition.prompt_tokens, now_ns - start_ns)
        computed, self._planned = self._planned, []
        self._book(computed, start_ns, now_ns)
        outcomes: list[Outcome] = []
        drawing = [self._in_slot[one.slot] for one in drawn]  # who ends leaves its slot
        for sequence, one in zip(drawing, drawn, strict=True):
            assert sequence is not None, "a token was drawn for a free slot"
            if sequence.state is State.RUNNING:
                outcome = self._take(sequence, one, now_ns)
                outcomes.append(outcome)
                if give is not None:
                    give(outcome)
        for planned in computed:
            if planned.drafts and planned.sequence.state is State.RUNNING:
                self._take_back(planned.sequence)
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

    def _take(self, sequence: Sequence, drawn: Drawn, now_ns: int) -> Outcome:
        """Append a drawn token to its sequence and see whether it ends."""
        token = drawn.token
        if sequence.computed < len(sequence.tokens):  # drawn behind a draft that was right
            sequence.computed += 1
            sequence.accepted_tokens += 1
        sequence.tokens.append(token)
        sequence.output_tokens += 1
        self.output_tokens += 1
        stamps = sequence.stamps
        stamps.last_token_ns = now_ns
        if stamps.first_token_ns is None:
            stamps.first_token_ns = now_ns
        ended = self._ends(sequence, token)
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
                self._drop(slot)
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
        self._blocked = False
        self._take_back(sequence)
        self.running.remove(sequence)
        sequence.drawing = self._memory.release(slot)
        self._in_slot[slot] = None
        if keep and sequence.computed and not sequence.shifted:
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

    def _trim(self) -> None:
        """While sequences run, retained cells slow them down: keep the latest within the budget."""
        total = self.prefixes.total_tokens
        for slot in self.prefixes.slots():
            if total <= self._retained_tokens:
                return
            total -= self.prefixes.length(slot)
            self._drop(slot)

    def _shift(self, sequence: Sequence) -> bool:
        """Drop the older half of a full context, where asked; what can't be shifted in place is computed anew."""
        keep = sequence.keep_tokens
        discard = (len(sequence.tokens) - keep) // 2
        if not sequence.shift or discard < 1:
            return False
        self._take_back(sequence)
        slot, end = sequence.slot, keep + discard
        del sequence.tokens[keep:end]
        sequence.stamps.dropped_tokens += discard
        alone = self.ledger.exclusive(slot) == self.ledger.held(slot)
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
        """Give slots to the waiting, in order; the first that doesn't fit holds back those behind it."""
        for sequence in list(self.waiting):
            if len(self.running) == len(self._in_slot):
                return
            if _waits_for_leader(sequence):
                continue
            if not self._enter_slot(sequence):
                self._blocked = True
                return
            self.waiting.remove(sequence)
            self._start(sequence, now_ns)

    def _start(self, sequence: Sequence, now_ns: int) -> None:
        if sequence.stamps.admitted_ns is None:
            sequence.stamps.admitted_ns = now_ns
            sequence.cached_tokens = sequence.computed
            self.cached_tokens += sequence.computed
        sequence.state = State.RUNNING
        self.running.append(sequence)
        self._in_slot[sequence.slot] = sequence
        sampling = sequence.remaining_sampling()
        self._memory.add(sequence.slot, sampling, sequence.tokens, sequence.drawing, sequence.guide)
        sequence.drawing = None
        self._trim()

    def _enter_slot(self, sequence: Sequence) -> bool:
        """Choose a slot and what of its prompt is taken over; False: there is no room now."""
        source, length = self._longest_match(sequence)
        if not self._fits(len(sequence.tokens) - length, spared=source):
            return False
        slot = self._free_slot(source, length)
        kept = self._take_over(slot, length) if slot == source else self._share(source, slot, length)
        if kept < length and not self._fits(len(sequence.tokens), spared=slot):
            return False
        length = kept
        sequence.slot = slot
        sequence.computed = length
        return True

    def _longest_match(self, sequence: Sequence) -> tuple[int, int]:
        """(slot, tokens) of the longest computed prefix, retained or running; the last token is computed anew."""
        most = len(sequence.tokens) - 1
        slot, length = self.prefixes.best(sequence.tokens)
        for other in self.running:
            if min(other.computed, most) > length and not other.shifted:
                common = min(other.computed, common_prefix(other.tokens, sequence.tokens))
                if common > length:
                    slot, length = other.slot, common
        return (slot, min(length, most)) if min(length, most) > 0 else (-1, 0)

    def _fits(self, missing: int, spared: int) -> bool:
        """Whether so many more tokens fit beside what runs; drops retained prefixes for it, all but `spared`."""
        if not self.running:
            self._room = self._kv_tokens
            self._drop_until(missing + 1, spared)
            return True
        reserved = sum(other.pending_tokens for other in self.running)
        wanted = missing + reserved + 1 + len(self.running)
        spendable = sum(self.ledger.exclusive(slot) for slot in self.prefixes.slots() if slot != spared)
        if self.ledger.used - spendable + wanted > self._room:
            return False
        self._drop_until(wanted, spared)
        return True

    def _drop_until(self, wanted: int, spared: int) -> None:
        for slot in self.prefixes.slots():
            if self.ledger.used + wanted <= self._room:
                return
            if slot != spared:
                self._drop(slot)

    def _free_slot(self, source: int, length: int) -> int:
        """The matched slot if it is free and mostly matched, else an empty one, else the one unused for longest."""
        free = source in self.prefixes
        if free and length * 2 >= self.prefixes.length(source):
            return source
        for slot, sequence in enumerate(self._in_slot):
            if sequence is None and slot not in self.prefixes:
                return slot
        oldest = next((slot for slot in self.prefixes.slots() if slot != source), source)
        if oldest != source:
            self._drop(oldest)
        return oldest

    def _share(self, source: int, slot: int, length: int) -> int:
        """Share a prefix into an empty slot; returns its length, 0 where this model can't."""
        if not length or not self._memory.share(source, slot, length):
            return 0
        self.ledger.share(source, slot, length)
        return length

    def _take_over(self, slot: int, length: int) -> int:
        """Keep the first `length` cells of a retained slot; returns how many were kept, 0 where it can't be cut."""
        self.prefixes.forget(slot)
        if length == self.ledger.held(slot):
            return length
        if length and self._memory.remove(slot, length):
            self.ledger.remove(slot, length)
            return length
        self._memory.remove(slot)
        self.ledger.remove(slot)
        return 0


def _order(sequence: Sequence) -> tuple[int, int]:
    return sequence.order


def _waits_for_leader(sequence: Sequence) -> bool:
    """Whether an earlier choice is just computing the prompt that this one will share."""
    leader = sequence.leader
    return leader is not None and leader.state is State.RUNNING and leader.computed < sequence.prompt_tokens - 1
