"""What is sent: seeded prompts of exactly so many tokens. Pure: a vocabulary says what each word costs.

A prompt is made of words whose tokens add up, because a tokenizer never joins a word with the next one's space. So
its length is known without asking the tokenizer again. Every prompt begins with words of its own: no prompt is the
beginning of another, of its cell or any other, unless a prefix is shared on purpose.
"""

import functools
import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from heylook_llm.bench.scenario import Scenario, lengths
from heylook_llm.errors import ConfigError

_COMMON: Final = """
    the of and to in is was for on with as by at from that this it he she they we you are were be been have has had
    do did will would can could may might must not no but or if when then than so all any each few more most other some
    such only own same very just now here there where why how what which who one two three four five six seven eight
    time year people way day man thing woman life child world school state family student group country problem hand
    part place case week company system program question work government number night point home water room mother area
    money story fact month lot right study book eye job word business issue side kind head house service friend father
    power hour game line end member law car city name team minute idea body information back parent face level office
    door health person art war history party result change morning reason research girl guy moment air teacher force
    order light sea tree river stone bird fish horse dog cat road bridge table chair window garden field mountain summer
    winter spring rain snow wind fire sun moon star color red blue green white black good new first last long great
    little old big high small large next early young important public bad able go make know take see come think look
    want give use find tell ask seem feel try leave call keep let begin help show hear play run move live believe bring
    happen write sit stand lose pay meet include continue set learn lead understand watch follow stop create speak read
    spend grow open walk win teach offer remember consider appear buy serve die send build stay fall cut reach kill
    raise pass sell decide return explain hope develop carry break receive agree support hit produce eat cover catch
    draw choose a i"""
CANDIDATES: Final = tuple(_COMMON.split())
"""Common words: one token each in most vocabularies."""
_MEASURED: Final = CANDIDATES[1::4]
"""Those that a tokenizer is asked about: each costs two questions."""
FEWEST: Final = 16
"""Words that a vocabulary must have, so that beginnings differ."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words by their cost in tokens: those that may open a text, and those that follow a space."""

    openers: tuple[tuple[str, int], ...]
    words: tuple[tuple[str, int], ...]
    exact: bool
    """Whether a tokenizer said so; else each word is supposed to cost one token."""

    def fills(self, tokens: int) -> bool:
        """Whether some words cost exactly so much together."""
        return tokens == 0 or (tokens > 0 and _fills(frozenset(cost for _, cost in self.words), tokens))


@functools.cache
def _fills(costs: frozenset[int], tokens: int) -> bool:
    """From the product of the smallest and the largest cost on, everything that their common divisor allows."""
    if tokens > min(costs) * max(costs):
        return tokens % math.gcd(*costs) == 0
    return any(cost == tokens or (cost < tokens and _fills(costs, tokens - cost)) for cost in costs)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text, what it was to cost in tokens, and how much it asks for."""

    text: str
    tokens: int
    output_tokens: int


ASSUMED: Final = Vocabulary(
    tuple((word, 1) for word in CANDIDATES), tuple((word, 1) for word in CANDIDATES), exact=False
)


def vocabulary(count: Callable[[str], int | None]) -> Vocabulary:
    """The words of a target's tokenizer; `count` gives a text's tokens without special ones, None: it has none to ask.

    It asks some hundred times. Where words don't add up, or leave lengths out, lengths stay inexact.
    """
    if count(_MEASURED[0]) is None:
        return ASSUMED
    openers = tuple((word, cost) for word in _MEASURED if (cost := count(word)))
    if len(openers) < FEWEST:
        return ASSUMED
    first, base = openers[0]
    words = tuple((word, cost - base) for word in _MEASURED if (cost := count(f"{first} {word}")) and cost > base)
    found = Vocabulary(openers, words, exact=True)
    return found if _adds_up(found, count) else ASSUMED


def _adds_up(found: Vocabulary, count: Callable[[str], int | None]) -> bool:
    """Whether some texts cost what their words say, and any length beyond a few tokens can be reached."""
    if len(found.words) < FEWEST or math.gcd(*(cost for _, cost in found.words)) != 1:
        return False
    tries = [(seed, 20 + 7 * seed * seed) for seed in range(8)]
    return all(count(compose(found, tokens, random.Random(seed))) == tokens for seed, tokens in tries)  # noqa: S311


def compose(words: Vocabulary, tokens: int, random: random.Random) -> str:
    """A text of exactly so many tokens by this vocabulary's costs. Raises ConfigError where none has so few."""
    opener, cost = _drawn(words, words.openers, tokens, random)
    return " ".join([opener, *_following(words, tokens - cost, random)])


def _following(words: Vocabulary, tokens: int, random: random.Random) -> list[str]:
    """Words after others, of exactly so many tokens."""
    parts = []
    while tokens:
        word, cost = _drawn(words, words.words, tokens, random)
        parts.append(word)
        tokens -= cost
    return parts


def _drawn(words: Vocabulary, among: Sequence[tuple[str, int]], tokens: int, random: random.Random) -> tuple[str, int]:
    """One of those after which the rest can be filled exactly."""
    for _ in range(8):  # nearly always the first
        drawn = random.choice(among)
        if words.fills(tokens - drawn[1]):
            return drawn
    possible = [word for word in among if words.fills(tokens - word[1])]
    if not possible:
        raise ConfigError(f"No text of {tokens} tokens can be made of this model's words: ask for longer ones.")
    return random.choice(possible)


@dataclass(frozen=True, slots=True)
class Workload:
    """The prompts of a cell, each known by its ordinal alone: a resumed run sends the same."""

    scenario: Scenario
    words: Vocabulary
    seed: str
    """What makes the prompts of this cell its own: the run's seed, its salt, the cell's axes but its target."""
    prefix_share: float = 0.0
    """Of each prompt, the part that all share."""

    def prompt(self, ordinal: int) -> Prompt:
        """The prompt of that place."""
        drawing = self._random(f"lengths/{ordinal}")
        tokens, output = lengths(self.scenario, drawing)
        shared = round(tokens * self.prefix_share)
        own = self._random(f"text/{ordinal}")
        if not shared:
            return Prompt(compose(self.words, tokens, own), tokens, output)
        while shared and not self.words.fills(tokens - shared):
            shared -= 1  # the rest is of no length that words have
        return Prompt(" ".join([self._prefix(shared), *_following(self.words, tokens - shared, own)]), tokens, output)

    def _prefix(self, tokens: int) -> str:
        """The beginning that prompts of one length share; of different lengths, nearly all of the shorter one."""
        return compose(self.words, tokens, self._random("prefix"))

    def _random(self, purpose: str) -> random.Random:
        digest = hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()
        return random.Random(int.from_bytes(digest[:16]))  # noqa: S311 (reproducible, not secret)
