"""How much is guessed: over a simulated engine whose steps take known times, what guessing gains and what it costs."""

from collections.abc import Sequence as Seq

import pytest

from heylook_llm import core
from heylook_llm.worker.providers.base import Drafter, Drawn, Feed, Wanted
from heylook_llm.worker.scheduler import Scheduler
from heylook_llm.worker.sequence import Sequence
from heylook_llm.worker.speculate import Costs, Speculator
from tests.worker.simulated import Simulated

pytestmark = pytest.mark.unit

PASSAGE = [(at * at * 7 + at // 3) % 90 + 10 for at in range(60)]


class Engine(Simulated):
    """Answers by a script for each prompt; a step takes `base` and `each` for every token, in milliseconds."""

    def __init__(self, base: float, each: float, slots: int = 4) -> None:
        super().__init__(slots, 100_000)
        self.base, self.each = base, each
        self.answers: dict[int, list[int]] = {}
        """By the prompt's first token, behind a prompt of any length."""
        self.lengths: dict[int, int] = {}

    @property
    def used(self) -> int:
        """Cells: none is shared here."""
        return sum(map(len, self.cells))

    def draws(self, feed: Feed) -> list[Drawn]:
        """The script's tokens, as far as the guesses follow it."""
        tokens = self.tokens[feed.slot]
        answer = self.answers[tokens[0]]
        place = feed.start + len(feed.tokens) - feed.drafts - self.lengths[tokens[0]]
        drawn = []
        for guess in (*feed.tokens[len(feed.tokens) - feed.drafts :], None):
            drawn.append(Drawn(feed.slot, answer[place]))
            if answer[place] != guess:
                break
            place += 1
        return drawn

    def milliseconds(self, speculation: Speculator | None, *sequences: Sequence) -> float:
        """How long all of these take together, but for their prompts."""
        scheduler = Scheduler(self, slots=len(self.cells), kv_tokens=self.kv_tokens, speculation=speculation)
        for sequence in sequences:
            self.lengths[sequence.tokens[0]] = len(sequence.tokens)
            scheduler.submit(sequence, 0)
        now = spent = 0.0
        while not scheduler.idle:
            feeds = scheduler.plan(int(now))
            drawn = self.step(feeds)
            took = self.base + self.each * sum(len(feed.tokens) for feed in feeds)
            spent += took if not scheduler.composition.prompt_tokens else 0
            scheduler.commit(drawn, int(now * 1e6), int((now + took) * 1e6))
            now += took
        scheduler.pool.flush()
        assert self.used == 0
        return spent


def sequence(first: int, prompt: Seq[int], tokens: int) -> Sequence:
    """A sequence of which the script gives so many tokens."""
    sampling = core.Sampling(max_tokens=tokens, ignore_eos=True)
    return Sequence(first, 0, [first, *prompt], sampling, limit_tokens=90_000)


def speculator(**more: object) -> Speculator:
    """With the defaults of the worker."""
    return Speculator(**{"most": 16, "max_drafts": 64, "lookup": True, **more})  # type: ignore[arg-type]


def noise(count: int, seed: int = 1) -> list[int]:
    """A text of 7 words by no rule: the last two stood before nearly always, and what follows is another."""
    value, found = seed, []
    for _ in range(count):
        value = (value * 1103515245 + 12345) % (1 << 31)
        found.append((value >> 16) % 7 + 10)
    return found


@pytest.mark.parametrize(("base", "each"), [(20.0, 0.2), (4.0, 3.0), (1.0, 9.0)])
def test_guesses_that_fail_cost_little(base: float, each: float) -> None:
    engine = Engine(base, each)
    engine.answers[1] = noise(1500)
    plain = engine.milliseconds(None, sequence(1, noise(200, 5), 1500))
    guessed = sequence(1, noise(200, 5), 1500)
    assert engine.milliseconds(speculator(), guessed) <= 1.05 * plain
    assert guessed.draft_tokens > 0, "it is still tried now and then"
    assert guessed.output_tokens == 1500


@pytest.mark.parametrize(("base", "each", "gain"), [(20.0, 0.2, 5.0), (4.0, 1.0, 2.0)])
def test_a_repeated_passage_comes_faster(base: float, each: float, gain: float) -> None:
    engine = Engine(base, each)
    engine.answers[1] = PASSAGE * 8
    plain = engine.milliseconds(None, sequence(1, PASSAGE, 400))
    guessed = sequence(1, PASSAGE, 400)
    assert plain / engine.milliseconds(speculator(), guessed) >= gain
    assert guessed.accepted_tokens > 300
    assert guessed.timeline().accepted_tokens == guessed.usage().accepted_tokens == guessed.accepted_tokens


def test_where_a_token_costs_a_step_nothing_is_guessed_but_to_try() -> None:
    engine = Engine(0.0, 5.0)
    engine.answers[1] = PASSAGE * 8
    plain = engine.milliseconds(None, sequence(1, PASSAGE, 400))
    assert engine.milliseconds(speculator(), sequence(1, PASSAGE, 400)) <= 1.05 * plain


def test_neighbours_that_gain_nothing_are_counted() -> None:
    """One of four repeats itself: at this price its tokens don't pay for the time of the others."""
    engine = Engine(2.0, 4.0)
    engine.answers = {1: PASSAGE * 8, **{first: noise(400, first) for first in (2, 3, 4)}}

    def all_four() -> list[Sequence]:
        return [sequence(first, PASSAGE if first == 1 else noise(50, 9), 400) for first in (1, 2, 3, 4)]

    plain = engine.milliseconds(None, *all_four())
    assert engine.milliseconds(speculator(), *all_four()) <= 1.05 * plain


def test_a_prediction_is_followed_from_its_start_and_behind_a_change() -> None:
    engine = Engine(20.0, 0.2)
    predicted = list(range(100, 400))
    engine.answers[1] = [*predicted[:120], 7, 8, 9, *predicted[130:], 3]
    count = len(engine.answers[1])
    plain = engine.milliseconds(None, sequence(1, [5, 6], count))
    guessed = sequence(1, [5, 6], count)
    guessed.prediction = tuple(predicted)
    assert plain / engine.milliseconds(speculator(lookup=False), guessed) >= 5
    assert guessed.accepted_tokens >= count * 0.8


@pytest.mark.parametrize(("limit", "most"), [(0, 0), (2, 2), (None, 4), (50, 4)])
def test_a_request_may_have_less_guessed_but_not_more(limit: int | None, most: int) -> None:
    engine = Engine(20.0, 0.2)
    engine.answers[1] = PASSAGE * 8
    guessed = sequence(1, PASSAGE, 300)
    guessed.draft_limit = limit
    seen = 0
    scheduler = Scheduler(engine, slots=4, kv_tokens=1000, speculation=speculator(most=4))
    engine.lengths[1] = len(guessed.tokens)
    scheduler.submit(guessed, 0)
    while not scheduler.idle:
        feeds = scheduler.plan(0)
        seen = max(seen, *(feed.drafts for feed in feeds))
        scheduler.commit(engine.step(feeds), 0, 1000)
    assert seen == most


class Knowing:
    """A drafter that knows the script, asked for what nothing else guesses."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.asked: list[Wanted] = []

    def draft(self, wanted: Seq[Wanted]) -> list[tuple[int, ...] | None]:
        """The script's next tokens."""
        self.asked += wanted
        return [self.next(one) for one in wanted]

    def next(self, one: Wanted) -> tuple[int, ...]:
        first = one.tokens[0]
        done = len(one.tokens) - self.engine.lengths[first]
        return tuple(self.engine.answers[first][done : done + one.most])


def test_a_drafter_is_asked_where_nothing_stood_before() -> None:
    engine = Engine(20.0, 0.2)
    engine.answers[1] = list(range(1000, 1400))
    drafter = Knowing(engine)
    given: Drafter = drafter
    guessed = sequence(1, [5], 400)
    plain = engine.milliseconds(None, sequence(1, [5], 400))
    assert plain / engine.milliseconds(speculator(drafter=given), guessed) >= 5
    assert guessed.accepted_tokens > 300
    assert all(one.slot == 0 for one in drafter.asked)


def test_the_price_of_a_token_is_learned() -> None:
    costs = Costs()
    assert costs.share(1) == pytest.approx(0.1)
    for at in range(50):
        count = at % 6 + 1
        costs.learn(count, 4_000_000 + count * 1_000_000)
    assert costs.share(1) == pytest.approx(1 / 5, rel=0.01)
    assert costs.share(4) == pytest.approx(1 / 8, rel=0.01)
