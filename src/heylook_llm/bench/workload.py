"""What is sent: seeded prompts of exactly so many tokens. Pure: a vocabulary says what each word costs.

A prompt is made of words whose tokens add up, because a tokenizer never joins a word with the next one's space. So
its length is known without asking the tokenizer again. Every prompt begins with words of its own: no prompt is the
beginning of another, of its cell or any other, unless a prefix is shared on purpose.
"""

import functools
import hashlib
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from heylook_llm.bench.dataset import Row
from heylook_llm.bench.pictures import png
from heylook_llm.bench.scenario import Conversation, Embedding, Image, Normal, Rerank, Scenario, Uniform, lengths
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


@dataclass(frozen=True)
class Vocabulary:
    """Words by their cost in tokens: those that may open a text, and those that follow a space."""

    openers: tuple[tuple[str, int], ...]
    words: tuple[tuple[str, int], ...]
    exact: bool
    """Whether a tokenizer said so; else each word is supposed to cost one token."""

    @functools.cached_property
    def _costs(self) -> frozenset[int]:
        """Of its words; asked for with each word of each prompt."""
        return frozenset(cost for _, cost in self.words)

    def fills(self, tokens: int) -> bool:
        """Whether some words cost exactly so much together."""
        return tokens == 0 or (tokens > 0 and _fills(self._costs, tokens))


@functools.cache
def _fills(costs: frozenset[int], tokens: int) -> bool:
    """From the product of the smallest and the largest cost on, everything that their common divisor allows."""
    if tokens > min(costs) * max(costs):
        return tokens % math.gcd(*costs) == 0
    return any(cost == tokens or (cost < tokens and _fills(costs, tokens - cost)) for cost in costs)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one request holds, what its texts were to cost in tokens, and how much it asks for; None: nobody planned."""

    text: str
    tokens: int | None
    output_tokens: int | None
    documents: tuple[str, ...] = ()
    """To embed, or to rank by `text`."""
    images: tuple[bytes, ...] = ()
    system: str | None = None


class Source(Protocol):
    """Where a cell's requests come from."""

    @property
    def seed(self) -> str:
        """What makes its requests and their arrivals its own."""

    @property
    def exact(self) -> bool:
        """Whether lengths are surely what was planned."""

    @property
    def times_ms(self) -> Sequence[float]:
        """When each conversation that is measured is due, by the user's file; nothing: it doesn't say."""

    def conversation(self, number: int) -> tuple[Prompt, ...]:
        """The turns of the conversation of that number; most have one."""


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
    """The prompts of a cell, each known by its number alone: a resumed run sends the same."""

    scenario: Scenario
    words: Vocabulary
    seed: str
    """What makes the prompts of this cell its own: the run's seed, its salt, the cell's axes but its target."""
    prefix_share: float = 0.0
    """Of each prompt, the part that all share."""
    beside: int = 0
    """Tokens that the target's template adds, where the planned lengths are with them."""
    times_ms: tuple[float, ...] = ()
    """See Source."""

    @property
    def exact(self) -> bool:
        """See Source."""
        return self.words.exact

    def conversation(self, number: int) -> tuple[Prompt, ...]:
        """See Source."""
        match self.scenario:
            case Conversation(turns, _):
                return (self.prompt(number), *(self._turn(f"{number}/{turn}") for turn in range(1, turns)))
            case Embedding(tokens, count):
                documents = self._documents(number, tokens, count)
                return (Prompt("", tokens * count, None, documents),)
            case Rerank(tokens, query, count):
                documents = self._documents(number, tokens, count)
                asked = compose(self.words, query, self._random(f"query/{number}"))
                return (Prompt(asked, tokens * count + query, None, documents),)
            case Image(width, height, count):
                return (self._with_images(number, width, height, count),)
            case _:
                return (self.prompt(number),)

    def prompt(self, number: int) -> Prompt:
        """A text by itself, or the first of a conversation."""
        drawing = self._random(f"lengths/{number}")
        planned, output = lengths(self.scenario, drawing)
        if isinstance(self.scenario, Normal | Uniform):
            planned = max(planned, self.beside + 1)  # what is drawn has a text, however short
        tokens = self._own(planned)
        shared = round(tokens * self.prefix_share)
        own = self._random(f"text/{number}")
        if not shared:
            return Prompt(compose(self.words, tokens, own), planned, output)
        while shared and not self.words.fills(tokens - shared):
            shared -= 1  # the rest is of no length that words have
        text = " ".join([self._prefix(shared), *_following(self.words, tokens - shared, own)])
        return Prompt(text, planned, output)

    def _turn(self, place: str) -> Prompt:
        """A later turn: nothing of it is shared, all that stands before it is."""
        tokens, output = lengths(self.scenario, self._random(f"lengths/{place}"))
        return Prompt(compose(self.words, tokens, self._random(f"text/{place}")), tokens, output)

    def _documents(self, number: int, tokens: int, count: int) -> tuple[str, ...]:
        own = self._own(tokens)
        return tuple(compose(self.words, own, self._random(f"document/{number}/{one}")) for one in range(count))

    def _with_images(self, number: int, width: int, height: int, count: int) -> Prompt:
        images = tuple(png(width, height, self._random(f"image/{number}/{one}")) for one in range(count))
        said = self.prompt(number)
        return Prompt(said.text, said.tokens, said.output_tokens, images=images)

    def _own(self, planned: int) -> int:
        """Tokens of the text, of so many that the target is to see."""
        if planned <= self.beside:
            raise ConfigError(
                f"A prompt of {planned} tokens has no room for a text: the model's template alone takes {self.beside}."
            )
        return planned - self.beside

    def _prefix(self, tokens: int) -> str:
        """The beginning that prompts of one length share; of different lengths, nearly all of the shorter one."""
        return compose(self.words, tokens, self._random("prefix"))

    def _random(self, purpose: str) -> random.Random:
        return _random_of(f"{self.seed}/{purpose}")


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a user's file, in an order of the seed's; after the last one they come again."""

    rows: tuple[Row, ...]
    seed: str
    documents: bool = False
    """Whether they are to be embedded."""
    output_tokens: int | None = None
    """Of rows that don't say how long an answer may be; None: as long as the target likes."""
    exact: bool = True
    times_ms: tuple[float, ...] = ()
    """See Source."""

    def conversation(self, number: int) -> tuple[Prompt, ...]:
        """See Source."""
        lap, place = divmod(number, len(self.rows))
        row = self.rows[_shuffled(len(self.rows), f"{self.seed}/rows/{lap}")[place]]
        if self.documents:
            return (Prompt("", None, None, row.turns),)
        output = row.output_tokens if row.output_tokens is not None else self.output_tokens
        return tuple(Prompt(turn, None, output, system=row.system) for turn in row.turns)


@dataclass(frozen=True, slots=True)
class Trace:
    """The rows of a user's file in its order, where a trace says how long prompts are and which begin alike.

    What warms up is in no row, so that no cache knows a row before its time.
    """

    rows: tuple[Row, ...]
    words: Vocabulary
    seed: str
    block_tokens: int
    warmup: int = 0
    """Conversations before the measured ones."""
    documents: bool = False
    output_tokens: int | None = None
    """See Rows."""
    beside: int = 0
    """See Workload; a prompt's first block is shorter by so much."""

    @property
    def exact(self) -> bool:
        """See Source."""
        return self.words.exact or not any(row.input_tokens for row in self.rows)

    @property
    def times_ms(self) -> tuple[float, ...]:
        """See Source."""
        return tuple(row.at_ms for row in self.rows if row.at_ms is not None)

    def conversation(self, number: int) -> tuple[Prompt, ...]:
        """See Source."""
        if number < self.warmup:
            text = compose(self.words, WARMUP_TOKENS, _random_of(f"{self.seed}/warmup/{number}"))
            return (self._prompt(text, WARMUP_TOKENS, self.rows[number % len(self.rows)]),)
        lap, place = divmod(number - self.warmup, len(self.rows))
        row = self.rows[place]
        if row.input_tokens is not None:
            text, tokens = self._made(row, f"{self.seed}/{lap}", place)
            return (self._prompt(text, tokens, row),)
        if self.documents:
            return (Prompt("", None, None, row.turns),)
        return tuple(Prompt(turn, None, self._output(row), system=row.system) for turn in row.turns)

    def _prompt(self, text: str, tokens: int, row: Row) -> Prompt:
        if self.documents:
            return Prompt("", tokens, None, (text,))
        return Prompt(text, tokens + self.beside, self._output(row))

    def _output(self, row: Row) -> int | None:
        return row.output_tokens if row.output_tokens is not None else self.output_tokens

    def _made(self, row: Row, seed: str, place: int) -> tuple[str, int]:
        """A row's text and its tokens: the next number of tokens that words have, where they lack the row's own."""
        left = max(1, (row.input_tokens or 0) - self.beside)
        size = max(1, self.block_tokens - self.beside)
        parts: list[str] = []
        total = 0
        for block in (*row.blocks, None):
            if left <= 0:
                break
            planned = left if block is None else min(size, left)
            make = _part if block is None or planned > KEPT_TOKENS else _block
            part = f"row/{place}" if block is None else f"block/{block}"
            text, tokens = make(self.words, planned, not parts, f"{seed}/{part}")
            parts.append(text)
            total, left, size = total + tokens, left - tokens, self.block_tokens
        return " ".join(parts), total


WARMUP_TOKENS: Final = 16
KEPT_TOKENS: Final = 4096
"""Of a block: longer ones are made anew each time, for memory's sake."""


def _part(words: Vocabulary, planned: int, opens: bool, seed: str) -> tuple[str, int]:
    """A part of a text, and its tokens: as many as planned or, where no words make so many, a few more."""
    drawing = _random_of(seed)
    costs = {cost for _, cost in words.openers} if opens else {0}
    tokens = next(some for some in itertools.count(planned) if any(words.fills(some - cost) for cost in costs))
    return compose(words, tokens, drawing) if opens else " ".join(_following(words, tokens, drawing)), tokens


_block: Final = functools.lru_cache(maxsize=1024)(_part)
"""Blocks come again and again."""


@functools.lru_cache(maxsize=8)
def _shuffled(count: int, seed: str) -> list[int]:
    places = list(range(count))
    _random_of(seed).shuffle(places)
    return places


def _random_of(seed: str) -> random.Random:
    digest = hashlib.sha256(seed.encode()).digest()
    return random.Random(int.from_bytes(digest[:16]))  # noqa: S311 (reproducible, not secret)
