"""The Scheduler as a state machine over a simulated provider that counts cells naively and refuses what is wrong."""

from collections.abc import Sequence as Seq

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from heylook_llm import core
from heylook_llm.worker.chunks import ALONE_NS, BESIDE_NS
from heylook_llm.worker.keeper import Keeper
from heylook_llm.worker.providers.base import Feed, OutOfCells, Sharing
from heylook_llm.worker.retention import Fixed
from heylook_llm.worker.scheduler import Outcome, Planned, Scheduler
from heylook_llm.worker.scores import Scores
from heylook_llm.worker.sequence import Sequence, State
from tests.worker.simulated import END, Simulated, content_of, endless, next_token, run, simulated
from tests.worker.tiers import MACHINES

pytestmark = pytest.mark.unit

STOP = 5
"""What ends the text of some sequences, as a stop string does: seen by the caller, not by the scheduler."""
STEP_NS = 10_000_000
OPENINGS = ((), (1,) * 40, (1,) * 40 + (2,) * 35, (1,) * 20 + (3,) * 45)
"""What prompts begin with: none, one, and two that go on from the middle and from the end of it."""
CUE = 6
FORCED = (11, 12, 13)
"""What the caller lets follow the first CUE of some sequences, instead of what would be drawn."""
SCORED = 7
"""Most tokens of a step whose following ones are scored."""


class Guessing:
    """Guesses some tokens for some sequences, some of them wrong, by no rule."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.learned = 0

    def drafts(self, sequences: Seq[Sequence], room: int) -> list[tuple[int, ...]]:
        """Within the room, but not within what the sequences may still become."""
        guesses = []
        for sequence in sequences:
            tokens = list(sequence.tokens)
            luck = next_token([*tokens, sequence.request])
            for place in range(min(room, luck % (self.most + 1))):
                tokens.append(next_token(tokens) if place != luck % 5 else 1)
            guesses.append(tuple(tokens[len(sequence.tokens) :]))
            room -= len(guesses[-1])
        return guesses

    def learn(self, planned: Seq[Planned], prompt_tokens: int, duration_ns: int) -> None:
        """Notes that it was told."""
        self.learned += sum(one.drafts for one in planned)


def alone(prompt: Seq[int], sampling: core.Sampling, limit: int, *, forces: bool = False) -> list[int]:
    """What a sequence yields without any company."""
    tokens = list(prompt)
    output: list[int] = []
    forced: list[int] = []
    while True:
        token = forced.pop(0) if forced else next_token(tokens)
        tokens.append(token)
        output.append(token)
        if forces and token == CUE:
            forces, forced = False, list(FORCED)
        ends = token == END and not sampling.ignore_eos and len(output) > sampling.min_tokens
        full = len(output) == sampling.max_tokens or len(tokens) == limit
        if ends or full:
            return output


def scores_of(prompt: Seq[int]) -> list[float]:
    """What is noted of a prompt's tokens."""
    contents = [0]
    for token in prompt[:-1]:
        contents.append(content_of(contents[-1], token))
    return list(map(float, contents))


class Batching(RuleBasedStateMachine):
    """Requests come, are cancelled, and steps run, in any order."""

    @initialize(
        slots=st.integers(1, 5),
        spare=st.integers(0, 3),
        kv_tokens=st.integers(24, 400),
        prefill=st.integers(1, 100),
        retained=st.integers(0, 200),
        kind=st.sampled_from([("any", None), ("any", None), ("whole", 0), ("whole", 8), ("none", None)]),
        can=st.tuples(st.booleans(), st.booleans(), st.booleans()),
        memory_bytes=st.sampled_from([0, 1500, 100_000]),
        lost=st.sampled_from([0, 0, 3]),
        guessed=st.sampled_from([0, 3, 9]),
    )
    def start(  # noqa: PLR0917  # hypothesis passes them by name
        self,
        slots: int,
        spare: int,
        kv_tokens: int,
        prefill: int,
        retained: int,
        kind: tuple[Sharing, int | None],
        can: tuple[bool, bool, bool],
        memory_bytes: int,
        lost: int,
        guessed: int,
    ) -> None:
        """A pool and a provider of any abilities, which may lose some cells to its own bookkeeping."""
        sharing, reach = kind
        self.provider = Simulated(
            slots + spare, kv_tokens - lost, sharing=sharing, reach=reach, shares=can[0], shifts=can[1]
        )
        self.provider.restores = can[2]
        self.keeper = Keeper(self.provider, lambda: self.now, memory_bytes=memory_bytes)
        self.parallel = slots
        self.scheduler = Scheduler(
            self.provider,
            slots=slots + spare,
            parallel=slots,
            kv_tokens=kv_tokens,
            n_batch=64,
            prefill_tokens=prefill,
            retention=Fixed(retained),
            speculation=Guessing(guessed) if guessed else None,
            keeper=self.keeper,
            scored_tokens=SCORED,
        )
        self.stopping: set[Sequence] = set()
        self.forcing: set[Sequence] = set()
        self.kv_tokens = kv_tokens
        self.now = 0
        self.requests = 0
        self.expected: dict[Sequence, list[int] | None] = {}
        self.output: dict[Sequence, list[int]] = {}
        self.ended: dict[Sequence, str] = {}
        self.prompts: dict[Sequence, list[int]] = {}

    @rule(
        opening=st.sampled_from(OPENINGS),
        rest=st.lists(st.integers(1, 3), min_size=1, max_size=30),
        n=st.integers(1, 3),
        max_tokens=st.integers(1, 30),
        limit=st.integers(4, 400),
        priority=st.integers(-1, 1),
        ignore_eos=st.booleans(),
        shift=st.booleans(),
        stops=st.booleans(),
        forces=st.booleans(),
        scored=st.sampled_from([None, None, 0, 1]),
    )
    def submit(  # noqa: PLR0917  # hypothesis passes them by name
        self,
        opening: tuple[int, ...],
        rest: list[int],
        n: int,
        max_tokens: int,
        limit: int,
        priority: int,
        ignore_eos: bool,
        shift: bool,
        stops: bool,
        forces: bool,
        scored: int | None,
    ) -> None:
        """A request of n choices, of which the first may want its prompt scored; 0: nothing else."""
        limit = min(limit, self.kv_tokens)
        prompt = [*opening, *rest][: limit - 1]
        self.requests += 1
        only = scored == 0 and len(prompt) > 1
        n = 1 if only else n
        sampling = core.Sampling(max_tokens=0 if only else max_tokens, ignore_eos=ignore_eos)
        for choice in range(n):
            sequence = Sequence(
                self.requests,
                choice,
                prompt,
                sampling,
                limit_tokens=limit,
                priority=priority,
                shift=shift,
                scores=None if choice or scored is None else Scores(prompt, 0, b""),
            )
            self.prompts[sequence] = prompt
            self.expected[sequence] = None if shift or only else alone(prompt, sampling, limit, forces=forces)
            if forces:
                self.forcing.add(sequence)
            if stops:
                self.stopping.add(sequence)
            self.output[sequence] = []
            self.scheduler.submit(sequence, self.now)

    @rule(which=st.integers(0, 1000))
    def cancel(self, which: int) -> None:
        """Some live request is cancelled."""
        live = self.scheduler.live()
        if not live:
            return
        request = live[which % len(live)].request
        self.scheduler.cancel(request)
        for sequence in self.output:
            if sequence.request == request and sequence not in self.ended:
                assert sequence.state is State.FINISHED
                self.ended[sequence] = "cancelled"

    @rule()
    def keep(self) -> None:
        """An idle worker saves what it retains."""
        if self.scheduler.idle:
            self.scheduler.pool.keep_one()

    @rule()
    def flush(self) -> None:
        """Whatever is kept is forgotten."""
        before = self.provider.used
        assert self.scheduler.pool.flush() == before - self.provider.used
        self.keeper.flush(lambda _: None)
        assert len(self.scheduler.pool.prefixes) == len(self.keeper.states) == 0

    @rule(count=st.integers(1, 12))
    def steps(self, count: int) -> None:
        """So many steps."""
        for _ in range(count):
            self.step()

    def step(self) -> None:
        """One step as the worker drives it."""
        self.now += STEP_NS
        feeds = self.scheduler.plan(self.now)
        if not feeds:
            assert self.scheduler.idle, "nothing is computed though something waits"
            return
        self.check_batch(feeds)
        try:
            drawn = self.provider.step(feeds)
        except OutOfCells:
            alone_and_full = self.scheduler.make_room()
            if alone_and_full is not None:
                assert len(alone_and_full.tokens) > self.provider.kv_tokens, "it would have fitted by itself"
                self.ended[alone_and_full] = "full"
            return
        self.scheduler.commit(drawn, self.now - STEP_NS, self.now, self.take)
        for sequence in self.scheduler.advanced:
            if sequence.is_only_scored and sequence.unscored is None:
                self.scheduler.finish(sequence)
                self.ended[sequence] = "length"

    def check_batch(self, feeds: list[Feed]) -> None:
        """Every decoding sequence is in it, and at most N prompt tokens."""
        decoding = [s for s in self.scheduler.running if s.decoding]
        fed = {feed.slot: feed for feed in feeds}
        assert len(fed) == len(feeds)
        for sequence in decoding:
            feed = fed[sequence.slot]
            assert feed.tokens[: len(feed.tokens) - feed.drafts] == (sequence.tokens[-1],)
            assert feed.sample
            assert feed.drafts <= sequence.most_drafts
        drafts = sum(feed.drafts for feed in feeds)
        scored = sum(len(feed.tokens) for feed in feeds if feed.scores is not None)
        assert scored <= SCORED
        assert not (scored and drafts)
        prompt_tokens = sum(len(feed.tokens) for feed in feeds) - len(decoding) - drafts
        prompts = sum(not s.decoding for s in self.scheduler.running)
        assert prompt_tokens <= self.scheduler.prompt_limit(len(decoding), max(1, prompts))
        assert (len(decoding), prompt_tokens, drafts) == self.scheduler.composition
        assert prompt_tokens + len(decoding) + drafts <= 64

    def take(self, outcome: Outcome) -> None:
        """Book a token; a sequence ends once."""
        sequence = outcome.sequence
        assert sequence not in self.ended
        output, expected = self.output[sequence], self.expected[sequence]
        output.append(outcome.token)
        assert sequence.output_tokens == len(output)
        if outcome.end:
            self.ended[sequence] = outcome.end
            assert sequence.state is State.FINISHED
            assert expected is None or output == expected
        elif sequence in self.stopping and outcome.token == STOP:
            self.scheduler.finish(sequence)
            self.ended[sequence] = "stop"
            assert expected is None or output == expected[: len(output)]
        elif sequence in self.forcing and outcome.token == CUE:
            self.forcing.remove(sequence)
            self.scheduler.force(sequence, FORCED)

    @invariant()
    def pool_is_kept(self) -> None:
        """Cells never exceed the pool, and the books agree with the provider."""
        if not hasattr(self, "provider"):
            return
        assert self.provider.most_used <= self.kv_tokens
        assert self.scheduler.pool.ledger.used == self.provider.used
        assert self.keeper.states.used_bytes <= self.keeper.states.limit_bytes
        for slot, cells in enumerate(self.provider.cells):
            assert self.scheduler.pool.ledger.held(slot) == len(cells)

    @invariant()
    def slots_hold_what_the_books_say(self) -> None:
        """No cell lies in a slot that nobody knows of, and what may be shared is what computing it would give."""
        if not hasattr(self, "provider"):
            return
        prefixes = self.scheduler.pool.prefixes
        running = {sequence.slot: sequence for sequence in self.scheduler.running}
        for slot, tokens in enumerate(self.provider.tokens):
            if slot in running:
                sequence = running[slot]
                assert slot not in prefixes
                assert len(tokens) == sequence.computed
                assert sequence.shifted or tokens == sequence.tokens[: sequence.computed]
            else:
                assert len(tokens) == (prefixes.length(slot) if slot in prefixes else 0)
        known = [slot for first in (1, 2, 3) for slot, _ in prefixes.matches([first])]
        assert all(self.provider.is_pure(slot) for slot in known)
        assert not [slot for slot in known if slot in running and running[slot].shifted]

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """Who waits for another's prompt waits for one that is ahead of it and computes on."""
        if not hasattr(self, "provider"):
            return
        for sequence in self.scheduler.waiting:
            leader = sequence.leader
            if leader is not None and leader.state is State.RUNNING:
                assert leader.order < sequence.order
                assert leader.tokens[: sequence.awaited_tokens] == sequence.tokens[: sequence.awaited_tokens]

    @invariant()
    def every_one_is_somewhere(self) -> None:
        """Live or ended, never both, never neither."""
        if not hasattr(self, "provider"):
            return
        live = set(self.scheduler.live())
        for sequence in self.output:
            assert (sequence in live) != (sequence in self.ended)
        assert len({s.slot for s in self.scheduler.running}) == len(self.scheduler.running) <= self.parallel

    def teardown(self) -> None:
        """Without new requests everything comes to its end: nothing starves."""
        if not hasattr(self, "provider"):
            return
        work = sum(len(s.tokens) + s.max_tokens for s in self.scheduler.live())
        for _ in range(20 * (work + 10)):
            if self.scheduler.idle:
                break
            self.step()
        assert self.scheduler.idle, "a sequence starves"
        assert set(self.ended) == set(self.output)
        for sequence, end in self.ended.items():
            if sequence.scores is not None and end not in ("cancelled", "full"):
                assert [one.logprob for one in sequence.scores.told()] == scores_of(self.prompts[sequence])
        assert self.provider.sampling == {}
        assert self.scheduler.pool.flush() >= 0
        assert self.provider.used == 0


TestBatching = Batching.TestCase
TestBatching.settings = settings(max_examples=MACHINES, stateful_step_count=30, deadline=None)


def test_higher_priority_goes_first_and_equal_ones_in_order() -> None:
    scheduler, provider = simulated(slots=1)
    for request, priority in ((1, 0), (2, -1), (3, 1), (4, 0)):
        scheduler.submit(endless(request, [1, 2], 1, priority), 0)
    assert [outcome.sequence.request for outcome in run(scheduler, provider)] == [3, 1, 4, 2]


def test_choices_compute_their_prompt_once() -> None:
    scheduler, provider = simulated()
    sampling = core.Sampling(max_tokens=5, ignore_eos=True)
    for choice in range(3):
        scheduler.submit(Sequence(1, choice, [1] * 100, sampling, limit_tokens=500), 0)
    run(scheduler, provider)
    assert scheduler.prompt_tokens == 100 + 1 + 1
    assert scheduler.cached_tokens == 99 * 2


def test_a_following_turn_takes_over_what_the_last_one_computed() -> None:
    scheduler, provider = simulated()
    first = endless(1, list(range(1, 50)))
    scheduler.submit(first, 0)
    run(scheduler, provider)
    second = endless(2, [*first.tokens, 5, 6, 7])
    scheduler.submit(second, 0)
    run(scheduler, provider)
    assert second.cached_tokens == len(first.tokens) - 1
    assert second.usage().cached_tokens == second.cached_tokens


def test_the_youngest_yields_when_cells_run_out() -> None:
    scheduler, provider = simulated(slots=2, kv_tokens=40)
    old, young = endless(1, [1] * 8, 25, limit=40), endless(2, [2] * 8, 25, limit=40)
    scheduler.submit(old, 0)
    scheduler.submit(young, 0)
    run(scheduler, provider)
    assert (old.stamps.preemptions, young.stamps.preemptions) == (0, 1)
    assert old.output_tokens == young.output_tokens == 25


def test_a_full_context_ends_with_length_or_shifts() -> None:
    scheduler, provider = simulated()
    full = Sequence(1, 0, [1] * 10, core.Sampling(ignore_eos=True), limit_tokens=20)
    shifting = Sequence(2, 0, [1] * 10, core.Sampling(max_tokens=50, ignore_eos=True), limit_tokens=20, shift=True)
    scheduler.submit(full, 0)
    scheduler.submit(shifting, 0)
    ends = {outcome.sequence: outcome.end for outcome in run(scheduler, provider) if outcome.end}
    assert ends == {full: "length", shifting: "length"}
    assert (full.output_tokens, shifting.output_tokens) == (10, 50)
    assert shifting.stamps.dropped_tokens > 0
    assert len(shifting.tokens) <= 20


@pytest.mark.parametrize(("keep", "kept"), [(None, 4), (0, 0), (7, 7), (-1, 10), (99, 10)])
def test_a_shift_keeps_the_beginning_that_it_is_told(keep: int | None, kept: int) -> None:
    scheduler, provider = simulated()
    prompt = list(range(101, 111))
    sampling = core.Sampling(max_tokens=50, ignore_eos=True)
    shifting = Sequence(1, 0, prompt, sampling, limit_tokens=20, shift=True, keep_tokens=keep)
    scheduler.submit(shifting, 0)
    outcomes = run(scheduler, provider)
    assert len(outcomes) == 50
    assert shifting.tokens[: kept + 1] != prompt[: kept + 1]
    assert shifting.tokens[:kept] == prompt[:kept]


def test_fewer_prompt_tokens_beside_decoding_sequences() -> None:
    scheduler, provider = simulated(kv_tokens=5000, prefill_tokens=512)
    assert scheduler.prompt_limit(0) == 64, "nothing is measured yet"
    scheduler.submit(endless(1, [1] * 1200, limit=4000), 0)
    run(scheduler, provider)
    assert scheduler.prompt_limit(0) == 512
    assert scheduler.prompt_limit(3) == 128
    assert scheduler.prompt_limit(3, prompts=6) == 256, "those who wait for a first token count as much"


def test_prompt_chunks_follow_the_measured_speed() -> None:
    scheduler, provider = simulated(kv_tokens=5000, prefill_tokens=512)
    scheduler.submit(endless(1, [1] * 3000, limit=4000), 0)
    chunks = []
    for step in range(6):
        drawn = provider.step(scheduler.plan(0))
        count = scheduler.composition.prompt_tokens
        chunks.append(count)
        now = step * 10_000_000_000
        scheduler.commit(drawn, now, now + count * ALONE_NS // 100)
    assert chunks == [64, 100, 100, 100, 100, 100]
    assert scheduler.prompt_limit(3) == 100 * BESIDE_NS // ALONE_NS


def test_prompt_chunks_grow_to_the_limit_on_a_fast_engine() -> None:
    scheduler, provider = simulated(kv_tokens=5000, prefill_tokens=512)
    scheduler.submit(endless(1, [1] * 1200, limit=4000), 0)
    live = scheduler.live()[0]
    run(scheduler, provider)
    assert [chunk.tokens for chunk in live.chunks] == [64, 512, 512, 112]


def test_a_short_prompt_does_not_wait_for_the_end_of_a_long_one() -> None:
    scheduler, provider = simulated(slots=5, kv_tokens=9000, prefill_tokens=100)
    long = endless(1, [1] * 3000, limit=4000)
    scheduler.submit(long, 0)
    for now in range(4):
        scheduler.commit(provider.step(scheduler.plan(now)), now, now + 1)
    before = long.computed
    short, shorter, other = endless(2, [2] * 30), endless(3, [3] * 20), endless(4, [4] * 10)
    for newcomer in (short, shorter, other):
        scheduler.submit(newcomer, 4)
    scheduler.commit(provider.step(scheduler.plan(4)), 4, 5)
    assert (short.output_tokens, shorter.output_tokens) == (1, 1), "half of the step finishes them"
    assert long.computed == before + 50
    assert other.computed == 0, "the long one gets the other half"


def test_a_short_prompt_of_lower_priority_waits() -> None:
    scheduler, provider = simulated(kv_tokens=9000, prefill_tokens=100)
    long = endless(1, [1] * 3000, limit=4000, priority=1)
    scheduler.submit(long, 0)
    scheduler.commit(provider.step(scheduler.plan(0)), 0, 1)
    short = endless(2, [2] * 10)
    scheduler.submit(short, 1)
    while not long.output_tokens:
        assert short.output_tokens == 0
        scheduler.commit(provider.step(scheduler.plan(1)), 1, 2)


def test_retained_cells_are_trimmed_while_others_run() -> None:
    scheduler, provider = simulated(retention=Fixed(30))
    for request in (1, 2):
        scheduler.submit(endless(request, [request] * 20), 0)
        run(scheduler, provider)
    assert scheduler.pool.prefixes.total_tokens == 48, "what idles keeps all it has"
    scheduler.submit(endless(3, [9] * 20), 0)
    provider.step(scheduler.plan(0))
    assert scheduler.pool.prefixes.total_tokens <= 30
