"""The grammar of traffic: how many tokens a request holds and asks for.

genai-bench's: `N(mean,sd)/(mean,sd)`, `D(in,out)`, `U(min,max)/(min,max)` or `U(max,max)`, `E(tokens)`,
`R(document,query)`, `I(width,height[,count])` and `dataset`, with spaces wherever a reader would put them; and the
form with four numbers, `N(480,240,300,150)`. Ours beside it: `E(tokens,documents)`, `R(document,query,documents)`,
`I(width,height,count)/(in,out)`, and conversations, `T(turns)*D(in,out)`.
"""

import random
import re
from dataclasses import dataclass
from typing import Final, Literal, assert_never

from heylook_llm.errors import ConfigError

Task = Literal["chat", "completion", "embeddings", "rerank", "image-text"]
WHOLE: Final[frozenset[Task]] = frozenset({"embeddings", "rerank"})
"""Tasks whose answers come whole, and hold no tokens."""
LEAST_INPUT: Final = 1
LEAST_OUTPUT: Final = 2
"""One token has no time per token, so what is drawn asks for two at least, as genai-bench does."""
BESIDE_IMAGE: Final = (50, 100)
"""Tokens of the text beside an image, and of its answer, where they aren't written."""
KINDS: Final = {
    "D": "D(in,out)",
    "N": "N(mean,deviation)/(mean,deviation)",
    "U": "U(least,most)/(least,most)",
    "T": "T(turns)*D(in,out)",
    "E": "E(tokens) or E(tokens,documents)",
    "R": "R(document,query) or R(document,query,documents)",
    "I": "I(width,height) or I(width,height,images)/(in,out)",
}
MOST_TURNS: Final = 1000
MOST_PARTS: Final = 10_000
"""Documents or images of a request."""
MOST_PIXELS: Final = 16_384
"""Of an image's side."""
_LARGEST: Final = 10_000_000
_SHAPE: Final = re.compile(r"([A-Z])\(([0-9,]+)\)(?:/\(([0-9,]+)\))?")
_TURNS: Final = re.compile(r"T\(([0-9]+)\)\*(.+)")


@dataclass(frozen=True, slots=True)
class Normal:
    """Lengths drawn around a mean."""

    input_mean: int
    input_deviation: int
    output_mean: int
    output_deviation: int

    def __str__(self) -> str:
        return f"N({self.input_mean},{self.input_deviation})/({self.output_mean},{self.output_deviation})"


@dataclass(frozen=True, slots=True)
class Exact:
    """The same lengths for every request."""

    input_tokens: int
    output_tokens: int

    def __str__(self) -> str:
        return f"D({self.input_tokens},{self.output_tokens})"


@dataclass(frozen=True, slots=True)
class Uniform:
    """Lengths drawn evenly, both ends included."""

    input_least: int
    input_most: int
    output_least: int
    output_most: int

    def __str__(self) -> str:
        return f"U({self.input_least},{self.input_most})/({self.output_least},{self.output_most})"


@dataclass(frozen=True, slots=True)
class Embedding:
    """Documents to embed, of so many tokens each; so many in a request."""

    tokens: int
    count: int = 1

    def __str__(self) -> str:
        return f"E({self.tokens})" if self.count == 1 else f"E({self.tokens},{self.count})"


@dataclass(frozen=True, slots=True)
class Rerank:
    """Documents to rank by a query; so many in a request."""

    document_tokens: int
    query_tokens: int
    count: int = 1

    def __str__(self) -> str:
        more = "" if self.count == 1 else f",{self.count}"
        return f"R({self.document_tokens},{self.query_tokens}{more})"


@dataclass(frozen=True, slots=True)
class Image:
    """Images of a size beside a text."""

    width: int
    height: int
    count: int = 1
    input_tokens: int = BESIDE_IMAGE[0]
    output_tokens: int = BESIDE_IMAGE[1]

    def __str__(self) -> str:
        return f"I({self.width},{self.height},{self.count})/({self.input_tokens},{self.output_tokens})"


@dataclass(frozen=True, slots=True)
class Conversation:
    """Several turns, each with the real answers to those before it."""

    turns: int
    turn: Normal | Exact | Uniform

    def __str__(self) -> str:
        return f"T({self.turns})*{self.turn}"


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of a file as they stand."""

    def __str__(self) -> str:
        return "dataset"


Scenario = Normal | Exact | Uniform | Embedding | Rerank | Image | Conversation | Dataset


def parse(text: str) -> Scenario:
    """A scenario from its text, whose canonical form is its str(). Raises ConfigError."""
    packed = re.sub(r"\s+", "", text)
    if packed == "dataset":
        return Dataset()
    if (talk := _TURNS.fullmatch(packed)) is not None:
        return _conversation(text, talk[1], talk[2])
    found = _SHAPE.fullmatch(packed)
    if found is None:
        raise _wrong(text, "write it as D(100,100), N(480,240)/(300,150) or U(50,100)/(20,40)")
    letter, first, second = found.groups()
    try:
        return _of(letter, _numbers(first), None if second is None else _numbers(second))
    except ValueError as error:
        raise _wrong(text, str(error)) from error


def lengths(scenario: Scenario, random: random.Random) -> tuple[int, int]:
    """Tokens of one request's prompt, and tokens to ask for. Raises ConfigError for what asks for no text."""
    match scenario:
        case Exact(tokens, output):
            return tokens, output
        case Normal(mean, deviation, output_mean, output_deviation):
            drawn, asked = random.gauss(mean, deviation), random.gauss(output_mean, output_deviation)
            return max(LEAST_INPUT, round(drawn)), max(LEAST_OUTPUT, round(asked))
        case Uniform(least, most, output_least, output_most):
            return random.randint(least, most), random.randint(output_least, output_most)
        case Image(input_tokens=tokens, output_tokens=output):
            return tokens, output
        case Conversation(_, turn):
            return lengths(turn, random)
        case Embedding() | Rerank() | Dataset():
            raise ConfigError(f"{scenario} doesn't say how long a text and its answer are.")
        case _:
            assert_never(scenario)


def longest(scenario: Scenario) -> tuple[int, int]:  # noqa: PLR0911 (a table)
    """Tokens that a request's texts and its answer may come to; what is drawn from a bell curve, to three deviations.

    Of a conversation, those of its last turn, with all that stands before it. An image's own tokens nobody knows.
    """
    match scenario:
        case Exact(tokens, output):
            return tokens, output
        case Normal(mean, deviation, output_mean, output_deviation):
            return mean + 3 * deviation, output_mean + 3 * output_deviation
        case Uniform(_, most, _, output_most):
            return most, output_most
        case Embedding(tokens, count):
            return tokens * count, 0
        case Rerank(document, query, count):
            return document * count + query, 0
        case Image(input_tokens=tokens, output_tokens=output):
            return tokens, output
        case Conversation(turns, turn):
            tokens, output = longest(turn)
            return turns * tokens + (turns - 1) * output, output
        case Dataset():
            return 0, 0
        case _:
            assert_never(scenario)


def window(scenario: Scenario) -> int:
    """Tokens that a model must be able to hold at once for it, without its template; 0: unknown."""
    match scenario:
        case Embedding(tokens):
            return tokens
        case Rerank(document, query):
            return document + query
        case _:
            return sum(longest(scenario))


def fits(scenario: Scenario, task: Task) -> bool:
    """Whether a task can be done by this traffic."""
    kinds: dict[Task, tuple[type, ...]] = {
        "chat": (Normal, Exact, Uniform, Conversation, Dataset),
        "completion": (Normal, Exact, Uniform, Dataset),
        "embeddings": (Embedding, Dataset),
        "rerank": (Rerank,),
        "image-text": (Image,),
    }
    return isinstance(scenario, kinds[task])


def task_of(scenario: Scenario) -> Task:
    """The task that a scenario is for, where nobody says it."""
    match scenario:
        case Embedding():
            return "embeddings"
        case Rerank():
            return "rerank"
        case Image():
            return "image-text"
        case _:
            return "chat"


def _conversation(text: str, turns: str, of: str) -> Conversation:
    turn = parse(of)
    if not isinstance(turn, Normal | Exact | Uniform):
        raise _wrong(text, "a turn is D(in,out), N() or U()")
    try:
        (count,) = _numbers(turns)
        if not 2 <= count <= MOST_TURNS:
            raise ValueError(f"a conversation has 2 to {MOST_TURNS} turns")
    except ValueError as error:
        raise _wrong(text, str(error)) from error
    return Conversation(count, turn)


def _of(letter: str, first: tuple[int, ...], second: tuple[int, ...] | None) -> Scenario:  # noqa: PLR0911 (a table)
    match letter, first, second:
        case "D", (tokens, output), None:
            return Exact(_least(tokens, 1), _least(output, 1))
        case ("N", (mean, deviation), (output, spread)) | ("N", (mean, deviation, output, spread), None):
            return Normal(_least(mean, 1), deviation, _least(output, 1), spread)
        case "U", (most, output_most), None:
            return _uniform(LEAST_INPUT, most, LEAST_OUTPUT, output_most)
        case "U", (least, most), (output_least, output_most):
            return _uniform(least or LEAST_INPUT, most, output_least or LEAST_OUTPUT, output_most)
        case "E", (tokens, *count), None if len(count) < 2:
            return Embedding(_least(tokens, 1), *_counted(count))
        case "R", (document, query, *count), None if len(count) < 2:
            return Rerank(_least(document, 1), _least(query, 1), *_counted(count))
        case "I", (width, height, *count), (None | (_, _)) as beside if len(count) < 2:
            text = (_least(number, 1) for number in beside or BESIDE_IMAGE)
            size = (_least(number, 1, MOST_PIXELS) for number in (width, height))
            return Image(*size, *_counted(count or [1]), *text)
        case _ if letter not in KINDS:
            raise ValueError(f"there is no {letter}, but {', '.join(KINDS)} and dataset")
        case _:
            raise ValueError(f"{letter} is not written with these numbers, but as {KINDS[letter]}")


def _uniform(least: int, most: int, output_least: int, output_most: int) -> Uniform:
    if least > most or output_least > output_most:
        raise ValueError("the smaller number stands first")
    return Uniform(least, most, output_least, output_most)


def _counted(count: list[int]) -> list[int]:
    """How many documents or images a request holds, where it is written."""
    return [_least(number, 1, MOST_PARTS) for number in count]


def _least(number: int, least: int, most: int | None = None) -> int:
    if number < least:
        raise ValueError(f"{number} is too small")
    if most is not None and number > most:
        raise ValueError(f"{number} is more than {most}")
    return number


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and len(part) < 10 and int(part) <= _LARGEST for part in parts):
        raise ValueError(f"({text}) holds something else than whole numbers up to {_LARGEST}")
    return tuple(map(int, parts))


def _wrong(text: str, why: str) -> ConfigError:
    return ConfigError(f"'{text[:80]}' is no scenario: {why}.")
