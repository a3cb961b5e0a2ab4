"""A user's own prompts from a file: JSON lines or JSON (prompts, messages, ShareGPT's conversations), CSV, plain lines.

Of a conversation only the user's turns are taken: what a target answers now stands between them, not what another said.
A trace, as Mooncake's and our server's, holds no texts but their lengths, and which prompts begin alike.
"""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from heylook_llm.bench.spec import DatasetSpec
from heylook_llm.errors import ConfigError

MOST_BYTES: Final = 256 << 20
MOST_CHARACTERS: Final = 10_000_000
"""Of one text."""
TEXTS: Final = ("prompt", "text", "question", "instruction", "input", "content", "document")
"""Names that a column with prompts goes by."""
_TALKS: Final = ("messages", "conversations", "conversation")
_LENGTHS: Final = ("output_tokens", "max_tokens", "output_length")
_INPUT, _BLOCKS, _WHEN = "input_length", "hash_ids", "timestamp"
"""Of a trace: tokens of a prompt, its blocks, when it came in milliseconds."""
MOST_TOKENS: Final = 10_000_000
"""Of a prompt."""
_USERS: Final = frozenset({"user", "human"})
_SYSTEM: Final = frozenset({"system"})


class Row(msgspec.Struct, frozen=True):
    """One prompt, the user's turns of a conversation, or of a trace what a prompt is to be like."""

    turns: tuple[str, ...] = ()
    system: str | None = None
    output_tokens: int | None = None
    input_tokens: int | None = None
    """Of a trace, whose prompt is still to be made; it has no turns."""
    blocks: tuple[int, ...] = ()
    """Of a trace: rows with the same number at the same place have the same text up to the end of that block."""
    at_ms: float | None = None
    """When it came."""

    @property
    def requests(self) -> int:
        """How many it makes."""
        return max(1, len(self.turns))


class Dataset(msgspec.Struct, frozen=True):
    """The rows of a file, in its order, and the hash of its bytes."""

    rows: tuple[Row, ...]
    sha256: str


def read(path: Path, column: str | None = None) -> Dataset:
    """A file's rows; `column` names the one with prompts, else it is found. Raises ConfigError."""
    try:
        if path.stat().st_size > MOST_BYTES or not path.is_file():
            raise ConfigError(f"The dataset {path} is no file of at most {MOST_BYTES >> 20} MiB.")
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The dataset {path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        rows = tuple(_rows(path.suffix.lower(), text, column))
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"The dataset {path} holds something else than its name says: {error}") from error
    if not rows:
        raise ConfigError(f"The dataset {path} holds no prompts.")
    return Dataset(rows, hashlib.sha256(data).hexdigest())


def of_spec(given: DatasetSpec) -> Dataset:
    """The rows that a spec names or holds. Raises ConfigError."""
    if given.path is not None:
        return read(Path(given.path), given.column)
    digest = hashlib.sha256(json.dumps(given.prompts).encode()).hexdigest()
    return Dataset(tuple(Row((prompt,)) for prompt in given.prompts), digest)


def of_run(given: DatasetSpec, manifest: str) -> tuple[Row, ...]:
    """The rows of a run's file. Raises ConfigError where it isn't the one that the run began with."""
    found = of_spec(given)
    if json.loads(manifest).get("dataset_sha256") not in (None, found.sha256):
        raise ConfigError(f"The dataset {given.path} was changed since the run began: it can't go on with it.")
    return found.rows


def lengths(rows: Sequence[Row], count: int, otherwise: int | None = None) -> tuple[int, int]:
    """Tokens of the prompts and answers of so many requests, as far as they are known.

    `otherwise`: of answers whose row doesn't say.
    """
    laps, rest = divmod(count, sum(row.requests for row in rows))
    inputs = laps * sum(row.input_tokens or 0 for row in rows)
    outputs = laps * sum((row.output_tokens or otherwise or 0) * row.requests for row in rows)
    for row in rows:
        if rest <= 0:
            break
        inputs += row.input_tokens or 0
        outputs += (row.output_tokens or otherwise or 0) * min(rest, row.requests)
        rest -= row.requests
    return inputs, outputs


def alike(rows: Iterable[Row], block_tokens: int) -> float | None:
    """The share of a trace's prompt tokens that stood in a prompt before, in the order in which they came.

    What a target could know from its cache at most; None: no row says.
    """
    seen: set[tuple[int, int]] = set()
    known = total = 0
    for row in rows:
        left = row.input_tokens or 0
        total += left
        begins_alike = True
        for block in enumerate(row.blocks):
            size = min(left, block_tokens)
            begins_alike = begins_alike and block in seen
            known += size if begins_alike else 0
            left -= size
            seen.add(block)
    return known / total if total and seen else None


def in_time(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows in the order in which they came. Raises ConfigError where one doesn't say when."""
    for place, row in enumerate(rows, 1):
        if row.at_ms is None:
            raise ConfigError(f"Row {place} of the dataset has no timestamp in milliseconds, so it can't be replayed.")
    return tuple(sorted(rows, key=lambda row: row.at_ms or 0.0))


def _rows(suffix: str, text: str, column: str | None) -> Iterator[Row]:
    match suffix:
        case ".jsonl" | ".ndjson":
            return _objects(_lines(text), column)
        case ".json":
            found = json.loads(text)
            if not isinstance(found, list):
                raise ValueError("a JSON file must hold a list")
            return _objects(enumerate(found, 1), column)
        case ".csv":
            return _objects(enumerate(csv.DictReader(io.StringIO(text, newline="")), 1), column)
        case _:
            return (Row((_text(line),)) for line in text.splitlines() if line.strip())


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    for place, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield place, json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {place}: {error}") from error


def _objects(found: Iterable[tuple[int, Any]], column: str | None) -> Iterator[Row]:
    for place, each in found:
        try:
            yield _row(each, column)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"row {place}: {error}") from error


def _row(each: Any, column: str | None) -> Row:
    if isinstance(each, str):
        return Row((_text(each),))
    if not isinstance(each, dict):
        raise ValueError("it is neither a text nor an object")
    output = next((int(each[name]) for name in _LENGTHS if each.get(name) not in (None, "")), None)
    if output is not None and output < 1:
        raise ValueError("a length must be 1 or more")
    when = _when(each.get(_WHEN))
    for name in (column,) if column is not None else (*_TALKS, *TEXTS):
        value = each.get(name)
        if isinstance(value, list):
            return _talk(value, output, when)
        if value not in (None, ""):
            return Row((_text(value),), output_tokens=output, at_ms=when)
    if column is None and each.get(_INPUT) not in (None, ""):
        return Row((), None, output, _tokens(each[_INPUT]), _blocks(each.get(_BLOCKS)), when)
    names = column or ", ".join((*_TALKS, *TEXTS, _INPUT))
    raise ValueError(f"it has none of: {names}")


def _when(value: Any) -> float | None:
    """Milliseconds; other forms of time are nobody's plan, so they don't count."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) and not isinstance(value, bool) else None


def _tokens(value: Any) -> int:
    found = int(value)
    if not 1 <= found <= MOST_TOKENS:
        raise ValueError(f"{_INPUT} must lie between 1 and {MOST_TOKENS}")
    return found


def _blocks(value: Any) -> tuple[int, ...]:
    if value in (None, ""):
        return ()
    if not isinstance(value, list) or not all(type(one) is int for one in value):
        raise ValueError(f"{_BLOCKS} must be a list of whole numbers")
    return tuple(value)


def _talk(messages: list[Any], output: int | None, when: float | None) -> Row:
    """OpenAI's messages (role, content) or ShareGPT's (from, value)."""
    turns, system = [], None
    for message in messages:
        role = str(message.get("role") or message.get("from")).lower()
        said = message.get("content") if "content" in message else message.get("value")
        if role in _SYSTEM:
            system = _text(said)
        elif role in _USERS:
            turns.append(_text(said))
    if not turns:
        raise ValueError("nobody asks anything in it")
    return Row(tuple(turns), system, output, at_ms=when)


def _text(value: Any) -> str:
    """A text, or the text parts of a message's content."""
    if isinstance(value, list):
        value = "\n".join(part["text"] for part in value if part.get("type") == "text")
    if not isinstance(value, str) or not value.strip() or len(value) > MOST_CHARACTERS:
        raise ValueError(f"a prompt must be a text of 1 to {MOST_CHARACTERS} characters")
    return value
