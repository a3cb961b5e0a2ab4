"""A place in a text as tokens: the order that code models were trained on, and what is left out where it doesn't fit.

    [repository]myproject [file]name text ... [file]name [prefix] ... [suffix] ... [middle]

Without marks for files their texts come first, each behind a line that says so.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from heylook_llm import core
from heylook_llm.worker.providers.base import InfillMarks

Encode = Callable[[str], list[int]]
_PROJECT: Final = "myproject\n"
_FILE: Final = "filename\n"
"""What llama-server calls them, as no client says it."""
_SNIPPET: Final = "\n\n--- snippet ---\n\n"
_CHARACTERS_PER_TOKEN: Final = 16
"""Code has fewer: more characters than these for each token of the room aren't tokenized."""
_PREFIX_SHARE: Final = 0.75
"""Of the room, where both sides are too long."""
LEAST_SHARE: Final = 0.25
"""Of the context, what an answer without a limit finds left at least."""


class Infill(NamedTuple):
    """The tokens of a prompt, and how many didn't fit; those of text that wasn't tokenized are estimated."""

    tokens: list[int]
    dropped_tokens: int


def room(limit_tokens: int, max_tokens: int | None) -> int:
    """How many tokens a prompt may have, so that its answer fits."""
    answer = int(limit_tokens * LEAST_SHARE) if max_tokens is None else max(1, max_tokens)
    return max(1, limit_tokens - 1 - answer)


def compose(marks: InfillMarks, encode: Encode, prompt: core.InfillPrompt, room_tokens: int | None = None) -> Infill:
    """The tokens that ask for what stands at the place; at most so many, None: however many there are."""
    begun = encode(prompt.start) if prompt.start else []
    fixed = len(marks.begin) + len(begun) + 3
    most = None if room_tokens is None else max(0, room_tokens - fixed)
    prefix, cut_before = _bounded(encode, prompt.prefix, most, from_end=True)
    suffix, cut_behind = _bounded(encode, prompt.suffix, most, from_end=False)
    files = _files(marks, encode, prompt.files)
    dropped = cut_before + cut_behind
    if most is not None:
        whole = len(prefix) + len(suffix) + len(files)
        before, behind = _shares(len(prefix), len(suffix), most)
        prefix, suffix = prefix[len(prefix) - before :], suffix[:behind]
        left = most - before - behind
        files = files[max(0, len(files) - left) :] if left else []
        dropped += whole - len(prefix) - len(suffix) - len(files)
    tokens = [*marks.begin, *files, marks.prefix, *prefix, *begun, marks.suffix, *suffix, marks.middle]
    return Infill(tokens, dropped)


def _shares(before: int, behind: int, most: int) -> tuple[int, int]:
    """How much of both sides fits: what one doesn't need is the other's."""
    if before + behind <= most:
        return before, behind
    larger = int(most * _PREFIX_SHARE)
    if before <= larger:
        return before, min(behind, most - before)
    if behind <= most - larger:
        return most - behind, behind
    return larger, most - larger


def _bounded(encode: Encode, text: str, most: int | None, *, from_end: bool) -> tuple[list[int], int]:
    """The tokens of as much of a text as can matter, and about how many the rest would be."""
    longest = len(text) if most is None else _CHARACTERS_PER_TOKEN * most
    near = text[max(0, len(text) - longest) :] if from_end else text[:longest]
    tokens = encode(near) if near else []
    return tokens, len(tokens) * (len(text) - len(near)) // max(1, len(near))


def _files(marks: InfillMarks, encode: Encode, files: tuple[tuple[str, str], ...]) -> list[int]:
    """Other files, and the name of the one that follows."""
    if not files:
        return []
    tokens = [] if marks.repository is None else [marks.repository, *encode(_PROJECT)]
    for name, text in files:
        head = encode(_SNIPPET) if marks.file is None else [marks.file, *encode(name + "\n")]
        tokens += [*head, *(encode(text) if text else [])]
    return tokens if marks.file is None else [*tokens, marks.file, *encode(_FILE)]
