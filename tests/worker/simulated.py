"""A Provider for tests of the Scheduler: it counts cells naively, refuses what is wrong, and computes a few words."""

from array import array
from collections.abc import Sequence as Seq
from typing import Any

from heylook_llm import core
from heylook_llm.worker.guide import Guide
from heylook_llm.worker.providers.base import Drawn, Feed, OutOfCells, Sharing, State
from heylook_llm.worker.scheduler import Outcome, Scheduler
from heylook_llm.worker.sequence import Sequence, Stamps

END = 0


def content_of(before: int, token: int) -> int:
    """What computing a token makes of what was computed before it."""
    return (before * 31 + token + 1) % 1009


def drawn_from(content: int) -> int:
    """A model of few words: what follows depends on every token before, and now and then it is the end."""
    return content % 23


def next_token(tokens: Seq[int]) -> int:
    """The token that follows these."""
    content = 0
    for token in tokens:
        content = content_of(content, token)
    return drawn_from(content)


def note_contents(feed: Feed, contents: Seq[int]) -> None:
    """Note, in the place of a log probability, what was computed of all before each token."""
    assert feed.scores is not None
    following = feed.scores.following(feed.start, len(feed.tokens))
    found = [core.TokenLogprob(token, b"", float(before)) for token, before in zip(following, contents, strict=False)]
    feed.scores.note(feed.start, found)


class Cell:
    """What one token's computation left; shared cells are the same object."""

    def __init__(self, content: int) -> None:
        self.content = content


class Simulated:
    """Draws from what its cells hold, so that a wrong one changes the output.

    `reach`: how far back the newest token looks. None: any first part of a slot can be shared; 0: a recurrent state, of
    which only the whole can; else a sliding window, behind which cells are lost. `shares` False: copies never fit.
    """

    def __init__(
        self,
        slots: int,
        kv_tokens: int,
        *,
        sharing: Sharing = "any",
        reach: int | None = None,
        shares: bool = True,
        shifts: bool = True,
    ) -> None:
        self.cells: list[list[Cell]] = [[] for _ in range(slots)]
        self.tokens: list[list[int]] = [[] for _ in range(slots)]
        self.lost = [0] * slots
        """So many of each slot's first cells are no longer all there."""
        self.sampling: dict[int, core.Sampling] = {}
        self.kv_tokens = kv_tokens
        self.sharing: Sharing = "whole" if reach is not None else sharing
        self.reach, self.shares, self.shifts = reach, shares, shifts
        self.restores = True
        self.most_used = 0

    @property
    def used(self) -> int:
        """Distinct cells."""
        return len({id(cell) for cells in self.cells for cell in cells})

    def add(
        self,
        slot: int,
        sampling: core.Sampling,
        prompt: Seq[int],
        drawing: object = None,
        guide: Guide | None = None,
    ) -> None:
        """Take a slot into use."""
        assert slot not in self.sampling, "the slot is in use"
        self.sampling[slot] = sampling

    def release(self, slot: int) -> None:
        """Its cells stay."""
        del self.sampling[slot]

    def remove(self, slot: int, start: int = 0, end: int = -1) -> bool:
        """Forget cells."""
        stop = None if end < 0 else end
        if start > 0 and end < 0 and not self.is_whole(slot, start):
            return False
        del self.cells[slot][start:stop]
        del self.tokens[slot][start:stop]
        self.lost[slot] = min(self.lost[slot], len(self.cells[slot]))
        return True

    def share(self, source: int, target: int, end: int) -> bool:
        """Share cells."""
        assert self.sharing != "none"
        assert not self.cells[target], "the slot isn't empty"
        assert 0 < end <= len(self.cells[source])
        assert self.is_pure(source), "cells that were moved aren't what others would compute"
        if not self.shares or not self.is_whole(source, end):
            return False
        self.cells[target] = self.cells[source][:end]
        self.tokens[target] = self.tokens[source][:end]
        self.lost[target] = self.lost[source]
        return True

    def is_whole(self, slot: int, end: int) -> bool:
        """Whether the slot holds all that the token at position `end` looks back at."""
        if end == len(self.cells[slot]) or self.reach is None:
            return True
        return self.reach > 0 and self.lost[slot] <= max(0, end - self.reach)

    def is_pure(self, slot: int) -> bool:
        """Whether the cells hold what computing the slot's tokens gives."""
        content = 0
        for cell, token in zip(self.cells[slot], self.tokens[slot], strict=True):
            content = content_of(content, token)
            if cell.content != content:
                return False
        return True

    def shift(self, slot: int, start: int, end: int) -> bool:
        """Drop positions."""
        return self.shifts and self.reach != 0 and self.remove(slot, start, end)

    def state_bytes(self, slot: int) -> int:
        """Two numbers for each token, and how many cells are lost."""
        return 4 * (2 * len(self.tokens[slot]) + 1)

    def save(self, slot: int) -> State:
        """Tokens, and what their cells hold."""
        assert self.is_pure(slot), "cells that were moved aren't what others would compute"
        return array("i", [self.lost[slot], *self.tokens[slot], *(cell.content for cell in self.cells[slot])]).tobytes()

    def restore(self, slot: int, state: State) -> bool:
        """Put a state into an empty slot."""
        assert not self.cells[slot], "the slot isn't empty"
        lost, *numbers = array("i", bytes(state))
        count = len(numbers) // 2
        if not self.restores or self.used + count > self.kv_tokens:
            return False
        self.tokens[slot] = numbers[:count]
        self.cells[slot] = [Cell(content) for content in numbers[count:]]
        self.lost[slot] = lost
        self.most_used = max(self.most_used, self.used)
        return True

    def is_end(self, token: int) -> bool:
        """Whether the token ends generation."""
        return token == END

    def step(self, feeds: Seq[Feed]) -> list[Drawn]:
        """Compute a batch."""
        if self.used + sum(len(feed.tokens) for feed in feeds) > self.kv_tokens:
            raise OutOfCells
        drawn = []
        for feed in feeds:
            assert feed.slot in self.sampling, "fed without a sampler"
            assert feed.start == len(self.tokens[feed.slot]), "positions aren't consecutive"
            assert feed.tokens
            cells = self.cells[feed.slot]
            for token in feed.tokens:
                cells.append(Cell(content_of(cells[-1].content if cells else 0, token)))
            self.tokens[feed.slot].extend(feed.tokens)
            if feed.scores is not None:
                note_contents(feed, [cell.content for cell in cells[feed.start :]])
            if self.reach is not None:
                self.lost[feed.slot] = max(self.lost[feed.slot], len(cells) - self.reach)
            if feed.sample:
                drawn += self.draws(feed)
        self.most_used = max(self.most_used, self.used)
        return drawn

    def draws(self, feed: Feed) -> list[Drawn]:
        """What follows the last sure token, and each guess that was right."""
        drawn = []
        for left in range(feed.drafts, -1, -1):
            token = drawn_from(self.cells[feed.slot][-1 - left].content)
            drawn.append(Drawn(feed.slot, token))
            if left and token != feed.tokens[-left]:
                break
        return drawn


def run(scheduler: Scheduler, provider: Simulated, step_ns: int = 1) -> list[Outcome]:
    """Step until idle; each step takes so long."""
    outcomes: list[Outcome] = []
    while not scheduler.idle:
        try:
            drawn = provider.step(scheduler.plan(0))
        except OutOfCells:
            scheduler.make_room()
            continue
        outcomes += scheduler.commit(drawn, 0, step_ns)
    return outcomes


def simulated(
    slots: int = 4, kv_tokens: int = 1000, *, reach: int | None = None, **more: Any
) -> tuple[Scheduler, Simulated]:
    """A scheduler over a provider that shares and shifts."""
    provider = Simulated(slots, kv_tokens, reach=reach)
    return Scheduler(provider, slots=slots, kv_tokens=kv_tokens, **more), provider


def endless(request: int, prompt: Seq[int], max_tokens: int = 5, priority: int = 0, **more: int) -> Sequence:
    """A sequence that never ends by itself."""
    sampling = core.Sampling(max_tokens=max_tokens, ignore_eos=True)
    stamps = Stamps(request_id=f"r{request}")
    limit = more.get("limit", 500)
    return Sequence(request, 0, prompt, sampling, limit_tokens=limit, priority=priority, stamps=stamps)
