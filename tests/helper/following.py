"""Whether a compiled grammar follows a text, over a vocabulary of bytes."""

from collections.abc import Mapping
from typing import Any

from heylook_llm.helper import grammar
from heylook_llm.worker.guidance import Matcher, Trie

TRIE = Trie([*(bytes((byte,)) for byte in range(256)), b""], [256])


def compiled(*grammars: Mapping[str, Any]) -> Matcher:
    """A matcher at the start of a grammar that compiles."""
    matcher = TRIE.matcher("llguidance", grammar.text(*grammars))
    assert matcher.error is None, matcher.error
    return matcher


def follows(matcher: Matcher, text: str) -> bool:
    """Whether the whole text is one of the grammar's; the matcher stays where it is."""
    place = matcher.copy()
    return all(place.consume(byte) for byte in text.encode()) and place.accepting
