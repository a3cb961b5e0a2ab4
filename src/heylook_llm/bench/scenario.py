"""The grammar of traffic: how many tokens a request holds and asks for.

genai-bench's: `N(mean,sd)/(mean,sd)`, `D(in,out)`, `U(min,max)/(min,max)` or `U(max,max)`, `E(tokens)`,
`R(document,query)`, `I(width,height[,count])` and `dataset`, with spaces wherever a reader would put them; and the
form with four numbers, `N(480,240,300,150)`.
"""

import random
import re
from dataclasses import dataclass
from typing import Final, Literal, assert_never

from heylook_llm.errors import ConfigError

Task = Literal["chat", "completion", "embeddings", "rerank", "image-text"]
LEAST_INPUT: Final = 1
LEAST_OUTPUT: Final = 2
"""One token has no time per token, so what is drawn asks for two at least, as genai-bench does."""
_LARGEST: Final = 10_000_000
_SHAPE: Final = re.compile(r"([A-Z])\(([0-9,]+)\)(?:/\(([0-9,]+)\))?")


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
    """Documents to embed, of so many tokens each."""

    tokens: int

    def __str__(self) -> str:
        return f"E({self.tokens})"


@dataclass(frozen=True, slots=True)
class Rerank:
    """Documents to rank by a query."""

    document_tokens: int
    query_tokens: int

    def __str__(self) -> str:
        return f"R({self.document_tokens},{self.query_tokens})"


@dataclass(frozen=True, slots=True)
class Image:
    """Images of a size beside a text."""

    width: int
    height: int
    count: int = 1

    def __str__(self) -> str:
        return f"I({self.width},{self.height},{self.count})"


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of a file as they stand."""

    def __str__(self) -> str:
        return "dataset"


Scenario = Normal | Exact | Uniform | Embedding | Rerank | Image | Dataset


def parse(text: str) -> Scenario:
    """A scenario from its text, whose canonical form is its str(). Raises ConfigError."""
    packed = re.sub(r"\s+", "", text)
    if packed == "dataset":
        return Dataset()
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
        case Embedding() | Rerank() | Image() | Dataset():
            raise ConfigError(f"{scenario} doesn't say how long a text and its answer are.")
        case _:
            assert_never(scenario)


def longest(scenario: Scenario) -> tuple[int, int]:
    """Tokens that a prompt and its answer may come to; what is drawn from a bell curve, to three deviations."""
    match scenario:
        case Exact(tokens, output):
            return tokens, output
        case Normal(mean, deviation, output_mean, output_deviation):
            return mean + 3 * deviation, output_mean + 3 * output_deviation
        case Uniform(_, most, _, output_most):
            return most, output_most
        case Embedding(tokens):
            return tokens, 0
        case Rerank(document, query):
            return document + query, 0
        case Image() | Dataset():
            return 0, 0
        case _:
            assert_never(scenario)


def fits(scenario: Scenario, task: Task) -> bool:
    """Whether a task can be done by this traffic."""
    kinds: dict[Task, tuple[type, ...]] = {
        "chat": (Normal, Exact, Uniform, Dataset),
        "completion": (Normal, Exact, Uniform, Dataset),
        "embeddings": (Embedding,),
        "rerank": (Rerank,),
        "image-text": (Image,),
    }
    return isinstance(scenario, kinds[task])


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
        case "E", (tokens,), None:
            return Embedding(_least(tokens, 1))
        case "R", (document, query), None:
            return Rerank(_least(document, 1), _least(query, 1))
        case "I", (width, height), None:
            return Image(_least(width, 1), _least(height, 1))
        case "I", (width, height, count), None:
            return Image(_least(width, 1), _least(height, 1), _least(count, 1))
        case _:
            raise ValueError(f"{letter} is not written with these numbers")


def _uniform(least: int, most: int, output_least: int, output_most: int) -> Uniform:
    if least > most or output_least > output_most:
        raise ValueError("the smaller number stands first")
    return Uniform(least, most, output_least, output_most)


def _least(number: int, least: int) -> int:
    if number < least:
        raise ValueError(f"{number} is too small")
    return number


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and len(part) < 10 and int(part) <= _LARGEST for part in parts):
        raise ValueError(f"({text}) holds something else than whole numbers up to {_LARGEST}")
    return tuple(map(int, parts))


def _wrong(text: str, why: str) -> ConfigError:
    return ConfigError(f"'{text[:80]}' is no scenario: {why}.")
