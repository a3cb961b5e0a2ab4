"""What a request's constraint compiles to for this model: guides over a trie of its vocabulary, kept for repeated ones.

Runs in the preparers, beside the step loop. The trie is built at the first constrained request, once for the model.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from heylook_llm import core
from heylook_llm.errors import InvalidConstraint
from heylook_llm.worker.guidance import GrammarKind, Matcher, Trie
from heylook_llm.worker.guide import GrammarGuide, Guide
from heylook_llm.worker.providers.base import Provider

KEPT: Final = 64
"""Compiled grammars that are kept for repeated requests."""
ANY_OBJECT: Final = '{"type":"object"}'


class Constraints:
    """Compiles constraints for one model. Any thread may ask."""

    def __init__(self, provider: Provider, piece: Callable[[int], bytes]) -> None:
        """`piece` gives the bytes of a token as the answer shows them; empty for control tokens."""
        self._provider = provider
        self._piece = piece
        self._lock = threading.Lock()
        self._trie: Trie | None = None
        self._ends: frozenset[int] = frozenset()
        self._compiled: OrderedDict[tuple[GrammarKind, str], Matcher] = OrderedDict()

    def guide(self, constraint: core.Constraint) -> Guide:
        """A guide for one more sequence. Raises InvalidConstraint."""
        with self._lock:
            return GrammarGuide(self._matcher(*_grammar(constraint)).copy(), self._ends)

    def _matcher(self, kind: GrammarKind, source: str) -> Matcher:
        key = (kind, source)
        matcher = self._compiled.pop(key, None) or self._compile(kind, source)
        self._compiled[key] = matcher
        if len(self._compiled) > KEPT:
            self._compiled.popitem(last=False)
        return matcher

    def _compile(self, kind: GrammarKind, source: str) -> Matcher:
        matcher = self._built().matcher(kind, source)
        if (error := matcher.error) is not None:
            raise InvalidConstraint(error)
        return matcher

    def _built(self) -> Trie:
        if self._trie is None:
            size = self._provider.info.n_vocab or 0
            self._ends = frozenset(filter(self._provider.is_end, range(size)))
            self._trie = Trie([self._piece(token) for token in range(size)], sorted(self._ends))
        return self._trie


def _grammar(constraint: core.Constraint) -> tuple[GrammarKind, str]:
    """The constraint in one of llguidance's languages."""
    match constraint.kind:
        case "json_object":
            return "json_schema", ANY_OBJECT
        case "json_schema" | "regex" | "lark":
            return constraint.kind, constraint.source
        case "choice":
            return "lark", "start: " + " | ".join(map(json.dumps, json.loads(constraint.source)))
        case "gbnf":
            raise InvalidConstraint("GBNF grammars are not supported by this version.", code="unsupported_value")
