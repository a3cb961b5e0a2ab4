"""A smaller model that guesses for a larger one: what it has read of each sequence, and what it says comes next.

It reads in slots of its own, with the larger one's numbers. What it hasn't read yet of a sequence it reads in parts, so
that the larger one's other sequences don't wait long; until then it guesses nothing for that sequence.
"""

import contextlib
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from typing import Final, Protocol

from heylook_llm.errors import LoadFailed
from heylook_llm.worker.providers.base import Feed, OutOfCells, Wanted
from heylook_llm.worker.tree import common_prefix

READ_TOKENS: Final = 256
"""Most tokens that are read in one step of the larger model, for all sequences together."""
LEAST_CHANCE: Final = 0.3
"""Less likely than this, by the small model itself, a guess costs more than it brings."""

REST_STEPS: Final = 64
"""How long it guesses nothing after what it was asked about didn't fit into its cells all together."""


@contextlib.contextmanager
def draft_failures(model: str) -> Iterator[None]:
    """What is wrong with a small model, said as the model's: which of the two failed."""
    try:
        yield
    except LoadFailed as error:
        reason = error.message.partition(": ")[2] or error.message
        raise LoadFailed(f"Model '{model}' can't be loaded: its `draft_model_path`: {reason}") from error


class Computer(Protocol):
    """The small model's weights and cells."""

    def remove(self, slot: int, start: int) -> None:
        """Forget a slot's cells from that position on."""
        ...

    def compute(self, feeds: Seq[Feed]) -> list[tuple[int, float]]:
        """The likeliest next token, and its chance, of each feed that samples, in order. Raises OutOfCells."""
        ...


class Drafts:
    """The Drafter over a Computer."""

    def __init__(self, computer: Computer, slots: int, n_vocab: int) -> None:
        """`n_vocab`: tokens of the larger model; the small one may have a few more, which are never guessed."""
        self._computer = computer
        self._read: list[list[int]] = [[] for _ in range(slots)]
        """The tokens whose cells each slot holds."""
        self._n_vocab = n_vocab
        self._resting = 0
        """Steps without guesses to come, since there was no room for what is asked."""

    def draft(self, wanted: Seq[Wanted]) -> list[tuple[int, ...] | None]:
        """See base.Drafter."""
        guesses: dict[int, list[int]] = {}
        self._resting = max(0, self._resting - 1)
        try:
            going = self._catch_up(wanted, guesses) if not self._resting else []
            while going:
                going = self._go_on(going, guesses)
        except OutOfCells:
            self._make_room({one.slot for one in wanted})
        return [tuple(guesses[one.slot]) if one.slot in guesses else None for one in wanted]

    def _catch_up(self, wanted: Seq[Wanted], guesses: dict[int, list[int]]) -> list[tuple[Wanted, int]]:
        """Read what is missing; who is through gets a place in the guesses, and is returned if it has a first one."""
        budget = READ_TOKENS
        feeds: list[Feed] = []
        for one in wanted:
            feed = self._missing(one, budget)
            if feed.tokens:
                budget -= len(feed.tokens)
                feeds.append(feed)
        found = self._computed(feeds)
        guesses.update({feed.slot: [] for feed in feeds if feed.sample})
        return self._sure([one for one in wanted if one.slot in guesses], found)

    def _missing(self, one: Wanted, budget: int) -> Feed:
        """The tokens of a sequence to read now: its last one always anew, for what follows it."""
        held = self._read[one.slot]
        start = min(common_prefix(held, one.tokens), len(one.tokens) - 1)
        if start < len(held):
            self._computer.remove(one.slot, start)
            del held[start:]
        tokens = tuple(one.tokens[start : start + budget])
        return Feed(one.slot, start, tokens, start + len(tokens) == len(one.tokens))

    def _go_on(self, going: list[tuple[Wanted, int]], guesses: dict[int, list[int]]) -> list[tuple[Wanted, int]]:
        """Take the found tokens as guesses, and find what follows them."""
        feeds: list[Feed] = []
        asking: list[Wanted] = []
        for one, token in going:
            guesses[one.slot].append(token)
            if len(guesses[one.slot]) < one.most:
                feeds.append(Feed(one.slot, len(self._read[one.slot]), (token,), True))
                asking.append(one)
        return self._sure(asking, self._computed(feeds))

    def _computed(self, feeds: list[Feed]) -> list[tuple[int, float]]:
        if not feeds:
            return []
        found = self._computer.compute(feeds)
        for feed in feeds:
            self._read[feed.slot] += feed.tokens
        return found

    def _sure(self, asking: Seq[Wanted], found: Seq[tuple[int, float]]) -> list[tuple[Wanted, int]]:
        """Those whose likeliest token is likely enough, with it."""
        return [
            (one, token)
            for one, (token, chance) in zip(asking, found, strict=True)
            if chance >= LEAST_CHANCE and token < self._n_vocab
        ]

    def _make_room(self, asked: set[int]) -> None:
        """What was read of sequences that aren't asked about goes first; then everything, and for a while no more."""
        others = [slot for slot, held in enumerate(self._read) if held and slot not in asked]
        if not others:
            self._resting = REST_STEPS
        for slot in others or range(len(self._read)):
            self._computer.remove(slot, 0)
            self._read[slot].clear()
