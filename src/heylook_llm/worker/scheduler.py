"""Continuous batching: which sequences are in the batch, what one engine step computes, who yields when cells run out.

The Scheduler decides and keeps the books; it reads no clock and waits for nothing. One step of its driver:

    feeds = scheduler.plan(now)         admit who fits; all decoding sequences, and at most N prompt tokens
    drawn = provider.step(feeds)        on OutOfCells: scheduler.make_room(), and plan again
    outcomes = scheduler.commit(drawn)  tokens appended, ends found

Which cells they share and who must give some up is the Pool's (pool.py).

Where a Speculation guesses the next tokens of decoding sequences, one step computes them behind the last token, and a
sequence may take several draws of it. Guesses fill only what the step and the pool have left: nobody yields for them.
"""

import bisect
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from typing import NamedTuple, Protocol

from heylook_llm import core
from heylook_llm.worker.chunks import Chunks
from heylook_llm.worker.images import begins_run, run_end, run_start
from heylook_llm.worker.pool import Keeping, Memory, Pool, Retaining, Sources, awaits
from heylook_llm.worker.providers.base import Drawn, Feed
from heylook_llm.worker.sequence import End, Sequence, State


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
        parallel: int | None = None,
        n_batch: int = 2048,
        prefill_tokens: int = 512,
        retention: Retaining | None = None,
        speculation: Speculation | None = None,
        keeper: Keeping | None = None,
        whole_images: bool = False,
        tile: int = 1,
        scored_tokens: int = 1,
        note_steps: bool = False,
    ) -> None:
        """`parallel`: sequences that may run at once; the other slots only keep prefixes.

        `tile`, `scored_tokens`: the provider's.

        `note_steps`: Timelines say what each step computed in all, and how long it took.

        `whole_images`: an image is computed in one step, which may make it longer than `prefill_tokens` allow.

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
        self.pool = Pool(memory, self.running, slots=slots, kv_tokens=kv_tokens, retention=retention, keeper=keeper)
        self._memory = memory
        self._parallel = min(slots, parallel or slots)
        self._n_batch = max(n_batch, self._parallel)
        self._prefill_tokens = max(1, min(prefill_tokens, self._n_batch))
        self._requests: dict[int, list[Sequence]] = {}
        self._arrivals = 0
        self._blocked: Sequence | None = None
        """The first of the waiting that didn't fit; nothing has ended or come since."""
        self._chunks = Chunks(self._prefill_tokens, tile)
        self._speculation = speculation
        self._planned: list[Planned] = []
        self._whole_images = whole_images
        self._scored_tokens = scored_tokens
        self._scoring = False
        """Whether the planned step computes tokens with scores."""
        self._note_steps = note_steps

    # ---- coming and going --------------------------------------------------------------------------------------------

    def submit(self, sequence: Sequence, ready_ns: int) -> None:
        """Queue a sequence, ready since then; its prompt is shorter than its limit, and its limit at most the pool."""
        sequence.arrival = self._arrivals
        self._arrivals += 1
        self._blocked = None
        sequence.stamps.queued_ns = ready_ns
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

    # ---- one step ----------------------------------------------------------------------------------------------------

    def plan(self, now_ns: int) -> list[Feed]:
        """What the next step computes: every decoding sequence, and prompt tokens up to the limit. Empty: nothing."""
        self.pool.begin_step()
        feeds = self._plan(now_ns)
        while self._planned_tokens > self.pool.free and (len(self.pool.prefixes) or len(self.running) > 1):
            self._yield()
            feeds = self._plan(now_ns)
        return feeds

    @property
    def _planned_tokens(self) -> int:
        return sum(planned.tokens for planned in self._planned)

    def _plan(self, now_ns: int) -> list[Feed]:
        if self.waiting:
            self._admit()
        feeds: list[Feed] = []
        planned = self._planned = []
        self._scoring = False
        prefilling: list[Sequence] = []
        for sequence in self.running:
            if sequence.stops:
                self.pool.checkpoint(sequence)
            if sequence.decoding:
                feeds.append(Feed(sequence.slot, sequence.computed, (sequence.tokens[-1],), True))
                planned.append(Planned(sequence, 1, True))
            else:
                prefilling.append(sequence)
        decoding = len(feeds)
        if prefilling:
            limit = self.prompt_limit(decoding, len(prefilling))
            self._plan_prompts(prefilling, feeds, limit, now_ns, beside=decoding > 0)
        prompt_tokens = self._planned_tokens - decoding
        drafts = self._plan_drafts(feeds, decoding) if decoding and self._may_guess else 0
        self.composition = Composition(decoding, prompt_tokens, drafts)
        return feeds

    @property
    def _may_guess(self) -> bool:
        return self._speculation is not None and not self._scoring

    def _plan_drafts(self, feeds: list[Feed], decoding: int) -> int:
        """Put guesses behind the last tokens of the decoding sequences, which stand first; returns how many."""
        assert self._speculation is not None
        room = min(self._n_batch, self.pool.free) - self._planned_tokens
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

    def prompt_limit(self, decoding: int, prompts: int = 1) -> int:
        """Most prompt tokens of a step beside so many decoding sequences, of so many prompts."""
        return min(self._chunks.limit(decoding, prompts), self._n_batch - decoding)

    def _plan_prompts(
        self, prefilling: list[Sequence], feeds: list[Feed], budget: int, now_ns: int, *, beside: bool
    ) -> None:
        image_tokens = self._chunks.image_limit() if beside else None
        scored_tokens = self._scored_tokens
        for sequence in _in_turn(prefilling, budget):
            if budget <= 0:
                return
            start = sequence.computed
            scores = sequence.unscored
            count = min(sequence.pending_tokens, budget)
            if scores is not None:
                count = min(count, scored_tokens, max(1, sequence.pending_tokens - sequence.is_only_scored))
                scored_tokens -= count
            if sequence.stops:
                count = min(count, sequence.stops[0] - start)
            if image_tokens is not None and sequence.seen:
                count = _one_call(sequence.tokens, start, count, image_tokens)
                image_tokens = 0 if count and sequence.tokens[start] < 0 else image_tokens
            if self._whole_images and count:
                count = self._with_whole_images(sequence, count)
            if not count:
                continue
            sample = start + count == len(sequence.tokens)
            tokens = tuple(sequence.tokens[start : start + count])
            feeds.append(Feed(sequence.slot, start, tokens, sample, scores=scores))
            self._scoring |= scores is not None
            self._planned.append(Planned(sequence, count, sample))
            budget -= count
            if not sequence.chunks:  # until its first step others' prompts may go first: that is waiting
                sequence.stamps.admitted_ns = now_ns

    def _with_whole_images(self, sequence: Sequence, count: int) -> int:
        """So many tokens that no image is cut; 0: the next is too long for what other feeds leave of the step."""
        tokens, start = sequence.tokens, sequence.computed
        end = run_start(tokens, start + count)
        if end <= start:
            end = run_end(tokens, start + count)
        return end - start if self._planned_tokens + end - start <= self._n_batch else 0

    def commit(
        self, drawn: Seq[Drawn], start_ns: int, now_ns: int, give: Callable[[Outcome], None] | None = None
    ) -> list[Outcome]:
        """Book a computed step: cells, drawn tokens, ends. `start_ns` and `now_ns` enclose the step.

        `give` is told of each outcome as it is booked, and may finish its sequence or force its next tokens: what was
        drawn of it after that is as if it never was.
        """
        self.steps += 1
        if not self._scoring:  # which takes longer
            self._chunks.measure(self.composition.prompt_tokens, now_ns - start_ns, self.composition.decoding)
        computed, self._planned = self._planned, []
        self._book(computed, start_ns, now_ns)
        if self.composition == Composition(len(computed), 0):
            self._chunks.decoded(now_ns - start_ns)
            own = sum(planned.sequence.computed for planned in computed)
            self.pool.retention.learn(len(computed), own, self.pool.ledger.used, now_ns - start_ns)
        outcomes: list[Outcome] = []
        drawing = [self.pool.sequence(one.slot) for one in drawn]  # who ends leaves its slot
        for sequence, one in zip(drawing, drawn, strict=True):
            assert sequence is not None, "a token was drawn for a free slot"
            if sequence.state is State.RUNNING and not sequence.forced:
                outcome = self._take(sequence, one, now_ns)
                outcomes.append(outcome)
                if give is not None:
                    give(outcome)
        for planned in computed:
            if planned.drafts and planned.sequence.state is State.RUNNING:
                self.pool.take_back(planned.sequence)
        for sequence in [sequence for sequence in self.running if sequence.forced]:
            outcomes.extend(self._follow(sequence, now_ns, give))
        if self._speculation is not None:
            self._speculation.learn(computed, self.composition.prompt_tokens, now_ns - start_ns)
        return outcomes

    def _book(self, computed: list[Planned], start_ns: int, now_ns: int) -> None:
        """The cells of a step. Those of drafts count as computed only once they turn out drawn."""
        batch_size = self.composition.decoding
        step_tokens = sum(planned.tokens for planned in computed) if self._note_steps else 0
        whole = (now_ns - start_ns, step_tokens) if self._note_steps else None
        self.advanced = []
        for sequence, count, sampled, drafts in computed:
            self.pool.ledger.extend(sequence.slot, count)
            if not sequence.decoding:
                sequence.chunks.append(core.PrefillChunk(start_ns, now_ns, count, step_tokens))
                self.prompt_tokens += count
                if not sampled:
                    self.advanced.append(sequence)
            else:
                sizes = sequence.batch_sizes
                sizes[batch_size] = sizes.get(batch_size, 0) + 1
                sequence.decoded.step(now_ns, batch_size, drafts, whole)
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
            sequence.decoded.accept()
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
        self.pool.lacks(self._planned_tokens - max(0, drafts - 1))
        if drafts:  # without them it may fit
            self._planned = []
            return None
        return self._yield()

    def _yield(self) -> Sequence | None:
        wanted = self._planned_tokens
        self._planned = []
        if self.pool.make_room(wanted):
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
        self._blocked = None
        self.running.remove(sequence)
        self.pool.leave(sequence, keep=keep)
        if sequence.state is not State.FINISHED and not keep:
            sequence.computed = 0

    def _shift(self, sequence: Sequence) -> bool:
        """Drop the older half of a full context, where asked; what can't be shifted in place is computed anew."""
        keep = run_end(sequence.tokens, sequence.keep_tokens)
        end = run_end(sequence.tokens, keep + (len(sequence.tokens) - keep) // 2)
        if not sequence.shift or end <= keep:
            return False
        self.pool.take_back(sequence)
        del sequence.tokens[keep:end]
        sequence.stamps.dropped_tokens += end - keep
        self.pool.shift(sequence, keep, end)
        for waiting in self.waiting:
            if waiting.leader is sequence:
                waiting.leader = None
        return True

    # ---- admission ---------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Give slots to the waiting, in order; the first that doesn't fit holds back those behind it.

        Whoever waits for what another is computing keeps its place: a slot, and the cells that it will need.
        """
        coming = pledged = 0
        limit = self.prompt_limit(sum(sequence.decoding for sequence in self.running))
        for sequence in list(self.waiting):
            if sequence is self._blocked or len(self.running) + coming >= self._parallel:
                return
            sources = Sources() if awaits(sequence) else self.pool.sources(sequence, limit, self._chunks.token_ns)
            if awaits(sequence):
                coming += 1
                pledged += len(sequence.tokens) - sequence.awaited_tokens
            elif self.pool.place(sequence, sources, pledged):
                self.waiting.remove(sequence)
                self._start(sequence)
            else:
                self._blocked = sequence
                return

    def _start(self, sequence: Sequence) -> None:
        if not sequence.chunks:
            self.cached_tokens += sequence.computed - sequence.cached_tokens
            sequence.cached_tokens = sequence.computed
        sequence.state = State.RUNNING
        self.running.append(sequence)
        self.pool.enter(sequence)


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


def _one_call(tokens: list[int], start: int, count: int, image_tokens: int) -> int:
    """So many of the next tokens that are text, or at most `image_tokens` of one image: a call of its own."""
    first = tokens[start]
    end = start + 1
    while end < start + count and (tokens[end] < 0) == (first < 0) and not begins_run(tokens[end]):
        end += 1
    return end - start if first >= 0 else min(end - start, image_tokens)


def _order(sequence: Sequence) -> tuple[int, int]:
    return sequence.order
