"""What is guessed of decoding sequences, and how much of it, so that guessing pays.

Guesses come from what the client predicted, from what followed the sequence's last tokens where they stood before, or
from a smaller model (a Drafter of the provider). They change when a token is drawn, never which one: the sequence's own
sampler draws behind each guess, and goes on only where the draw is what was guessed.

How many tokens are guessed is decided for each sequence and step, by three figures that are learned while it runs: how
often guesses of that kind were right, what a further token adds to a step's time, and a cap that grows with success as
in slow start. Where that says none, one is still tried now and then, for at most PROBE_SHARE of the time.
"""

from collections.abc import Sequence as Seq
from typing import Final, Literal, NamedTuple

from heylook_llm.worker.lookup import Lookup
from heylook_llm.worker.providers.base import Drafter, Wanted
from heylook_llm.worker.scheduler import Planned
from heylook_llm.worker.sequence import Sequence, State

LEAST_MATCH: Final = 2
"""Tokens that must stand before in the same order: after a single one almost anything follows."""
LEAST_GAIN: Final = 1.02
"""Less is within what the figures can be wrong by."""
PROBE_SHARE: Final = 0.02
FIRST_CAP: Final = 3
UNKNOWN_SHARE: Final = 0.1
"""What a further token adds to a step, of the step, before it was measured."""
STEP_DECAY: Final = 0.98
RATE_DECAY: Final = 0.9
COMMON_DECAY: Final = 0.99
PRIOR_WEIGHT: Final = 3.0

Kind = Literal["predicted", "repeated 2", "repeated 3", "repeated 5", "repeated 8", "drafted"]
_FIRST_RATES: Final[dict[Kind, float]] = {
    "predicted": 0.8,
    "repeated 2": 0.3,
    "repeated 3": 0.45,
    "repeated 5": 0.6,
    "repeated 8": 0.8,
    "drafted": 0.6,
}
"""How often a guessed token is right, before any was tried; "repeated 3" is behind 3 or 4 tokens that stood before."""


class Rate:
    """How often a guessed token is right, as a decaying mean over a prior."""

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._right = 0.0
        self._tried = 0.0

    def learn(self, right: int, wrong: int) -> None:
        """So many were right, and then so many (0 or 1) wrong."""
        self._right = self._right * self._decay + right
        self._tried = self._tried * self._decay + right + wrong

    def over(self, prior: float) -> float:
        """The mean, with the prior as if it had been tried PRIOR_WEIGHT times."""
        return (self._right + prior * PRIOR_WEIGHT) / (self._tried + PRIOR_WEIGHT)


class Costs:
    """A step's time as a line over its tokens, fitted to the latest steps."""

    def __init__(self) -> None:
        self._weight = self._n = self._t = self._nn = self._nt = 0.0

    def learn(self, tokens: int, duration_ns: int) -> None:
        """A step of so many tokens took so long; a stray long one counts as four times the mean."""
        time = float(duration_ns)
        if self._weight > 4:
            time = min(time, 4 * self._t / self._weight)
        self._weight = self._weight * STEP_DECAY + 1
        self._n = self._n * STEP_DECAY + tokens
        self._t = self._t * STEP_DECAY + time
        self._nn = self._nn * STEP_DECAY + tokens * tokens
        self._nt = self._nt * STEP_DECAY + tokens * time

    def share(self, tokens: int) -> float:
        """What a further token adds to a step of so many, as a part of its time."""
        spread = self._weight * self._nn - self._n**2
        if spread < 0.01 * self._weight**2 or self._t <= 0:
            return UNKNOWN_SHARE
        slope = max(0.0, (self._weight * self._nt - self._n * self._t) / spread)
        base = max(0.0, (self._t - slope * self._n) / self._weight)
        return slope / max(base + slope * tokens, 1e-9)


class _Guess(NamedTuple):
    """What may be guessed of a sequence: the first `most` tokens; None: the drafter is to be asked for so many."""

    kind: Kind
    tokens: tuple[int, ...] | None
    most: int


class _Guessing:
    """What is remembered of one sequence."""

    def __init__(self, sequence: Sequence) -> None:
        self._rates: dict[Kind, Rate] = {}
        self.cap = FIRST_CAP
        self.kind: Kind = "drafted"
        """Of the guess in the step that is computed."""
        self.accepted_before = 0
        self.place = -1
        """Where in the predicted text the sequence is."""
        self.predicted = Lookup(sequence.prediction) if sequence.prediction else None
        self.text = Lookup()
        self._dropped_tokens = sequence.stamps.dropped_tokens

    def rate(self, kind: Kind) -> Rate:
        """How often its guesses of a kind were right."""
        return self._rates.setdefault(kind, Rate(RATE_DECAY))

    def follow(self, sequence: Sequence) -> None:
        """Take in what was drawn since."""
        if sequence.stamps.dropped_tokens != self._dropped_tokens:  # its context was shifted
            self.text = Lookup()
            self._dropped_tokens = sequence.stamps.dropped_tokens
        self.text.extend(sequence.tokens[len(self.text) :])


class Speculator:
    """The Speculation of a Scheduler, for one loaded model."""

    def __init__(
        self, *, most: int, max_drafts: int, alone: bool = False, lookup: bool = False, drafter: Drafter | None = None
    ) -> None:
        """`most`: tokens guessed of one sequence in a step; `max_drafts`: of all together.

        `alone`: nothing is guessed where several decode.
        """
        self._most = most
        self._max_drafts = max_drafts
        self._alone = alone
        self._lookup = lookup
        self._drafter = drafter
        self._costs = Costs()
        self._common: dict[Kind, Rate] = {}
        self._credit = 0.0
        """Time that may be spent on trying, in steps."""
        self._telling = True
        """Whether the step's time says what its tokens cost: not where the drafter read, or asking it brought none."""

    # ---- guessing ----------------------------------------------------------------------------------------------------

    def drafts(self, sequences: Seq[Sequence], room: int) -> list[tuple[int, ...]]:
        """See scheduler.Speculation."""
        self._telling = True
        if self._alone and len(sequences) > 1:
            return [()] * len(sequences)
        room = min(room, self._max_drafts)
        self._credit = min(1.0, self._credit + PROBE_SHARE)
        share = self._costs.share(len(sequences))
        guesses: list[tuple[int, ...]] = []
        asked: dict[int, Wanted] = {}
        for sequence in sequences:
            guess = self._guess(sequence, room, len(sequences), share)
            guesses.append(guess.tokens[: guess.most] if guess is not None and guess.tokens else ())
            if guess is not None:
                room -= guess.most
                if guess.tokens is None:
                    asked[len(guesses) - 1] = Wanted(sequence.slot, sequence.tokens, guess.most)
        if asked and self._drafter is not None:
            for at, drafted in zip(asked, self._drafter.draft(list(asked.values())), strict=True):
                guesses[at] = drafted or ()
                self._telling &= bool(drafted)
                if drafted is not None and not drafted:  # asking took its time, too
                    _guessing(sequences[at]).rate("drafted").learn(0, 1)
        return guesses

    def _guess(self, sequence: Sequence, room: int, beside: int, share: float) -> _Guess | None:
        most = min(room, self._most, sequence.most_drafts)
        if sequence.draft_limit is not None:
            most = min(most, sequence.draft_limit)
        if most <= 0 or not (self._lookup or self._drafter or sequence.prediction):
            return None
        guessing = _guessing(sequence)
        found = self._found(sequence, guessing, most)
        if found is None and (self._drafter is None or sequence.seen):  # a smaller model sees nothing
            return None
        kind: Kind = "drafted" if found is None else found[0]
        tokens = None if found is None else found[1]
        count = self._worth(guessing, kind, beside, share)
        count = min(count, most if tokens is None else len(tokens))
        guessing.kind, guessing.accepted_before = kind, sequence.accepted_tokens
        return _Guess(kind, tokens, count) if count else None

    def _found(self, sequence: Sequence, guessing: _Guessing, most: int) -> tuple[Kind, tuple[int, ...]] | None:
        """What the predicted or the own text says comes next."""
        if not (self._lookup or guessing.predicted):
            return None
        guessing.follow(sequence)
        if guessing.predicted is not None:
            found = guessing.text.following_in(guessing.predicted, most, guessing.place)
            if found is not None and (found.matched >= LEAST_MATCH or found.end == guessing.place + 1):
                guessing.place = found.end
                return "predicted", found.tokens
        found = guessing.text.following(most, LEAST_MATCH) if self._lookup else None
        return None if found is None else (_repeated(found.matched), found.tokens)

    # ---- how many ----------------------------------------------------------------------------------------------------

    def _worth(self, guessing: _Guessing, kind: Kind, beside: int, share: float) -> int:
        """How many tokens of this kind make the batch's tokens come fastest; else one to try, where that is due."""
        common = self._common.setdefault(kind, Rate(COMMON_DECAY)).over(_FIRST_RATES[kind])
        rate = guessing.rate(kind).over(common)
        best, least = 0, LEAST_GAIN
        chance, gained = 1.0, 0.0
        for count in range(1, min(guessing.cap, self._most) + 1):
            chance *= rate
            gained += chance
            ratio = (1 + gained / beside) / (1 + share * count)
            if ratio > least:
                best, least = count, ratio
        if not best and self._credit >= share:
            self._credit -= share
            return 1
        return best

    # ---- learning ----------------------------------------------------------------------------------------------------

    def learn(self, planned: Seq[Planned], prompt_tokens: int, duration_ns: int) -> None:
        """See scheduler.Speculation."""
        if not prompt_tokens and self._telling:
            self._costs.learn(sum(one.tokens for one in planned), duration_ns)
        for one in planned:
            if one.drafts:
                self._judge(one)

    def _judge(self, planned: Planned) -> None:
        """Note how many guesses were right; of a sequence that ended among them nothing more is known."""
        sequence = planned.sequence
        guessing = _guessing(sequence)
        right = sequence.accepted_tokens - guessing.accepted_before
        wrong = int(right < planned.drafts and sequence.state is State.RUNNING)
        for rate in (guessing.rate(guessing.kind), self._common[guessing.kind]):
            rate.learn(right, wrong)
        if wrong:
            guessing.cap = max(1, min(guessing.cap, right + 1))
        elif right == planned.drafts:
            guessing.cap = min(2 * guessing.cap, self._most)


def _guessing(sequence: Sequence) -> _Guessing:
    known = sequence.guessing
    if not isinstance(known, _Guessing):
        known = sequence.guessing = _Guessing(sequence)
    return known


def _repeated(matched: int) -> Kind:
    if matched >= 8:
        return "repeated 8"
    if matched >= 5:
        return "repeated 5"
    return "repeated 3" if matched >= 3 else "repeated 2"
