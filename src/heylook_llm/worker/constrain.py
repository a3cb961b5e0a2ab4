"""What a request demands of its output, as guides for its sequences: a constraint, calls of tools, or either of them.

Runs in the preparers, beside the step loop. The vocabulary is indexed at the first constrained request, once for the
model; compiled grammars are kept for repeated ones.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn

from heylook_llm import core
from heylook_llm.errors import InvalidConstraint, UnsupportedFeature
from heylook_llm.helper import grammar
from heylook_llm.worker.formats.call_grammar import CallGrammar, call_grammar
from heylook_llm.worker.formats.formats import Format
from heylook_llm.worker.formats.parser import ReasoningMode
from heylook_llm.worker.guidance import Matcher, Trie
from heylook_llm.worker.guide import AfterReasoning, Between, GrammarGuide, Guide
from heylook_llm.worker.prompt import offered
from heylook_llm.worker.providers.base import Provider
from heylook_llm.worker.vocabulary import Words

KEPT: Final = 64
"""Compiled grammars that are kept for repeated requests."""
GAP: Final = r"/[ \t\r\n]{0,4}/"
"""White space that a model may put between its reasoning and its answer; it isn't shown."""

NewGuide = Callable[[], Guide]


class _Vocabulary(NamedTuple):
    trie: Trie
    words: Words


class Constraints:
    """Makes guides for one model. Any thread may ask."""

    def __init__(self, provider: Provider, piece: Callable[[int], bytes], model: str) -> None:
        """`piece` gives the bytes of a token as the answer shows them; empty for control tokens."""
        self._provider = provider
        self._piece = piece
        self._model = model
        self._lock = threading.Lock()
        self._building = threading.Lock()
        self._vocabulary: _Vocabulary | None = None
        self._compiled: OrderedDict[str, Matcher] = OrderedDict()

    def guides(
        self, constraint: core.Constraint | None, prompt: core.Prompt, form: Format, mode: ReasoningMode
    ) -> NewGuide | None:
        """What makes the guide of each sequence that answers a prompt; None: it may say anything.

        `mode`: whether reasoning comes before the answer, which is all that is guided. Raises InvalidConstraint,
        UnsupportedFeature for calls that can't be forced.
        """
        chat = prompt if isinstance(prompt, core.ChatPrompt) else core.ChatPrompt(())
        tools, choice = offered(chat), chat.tool_choice
        calls = call_grammar(form.tools, tools) if tools else None
        if choice.mode == "required" and tools:
            if calls is None:
                self._refuse_force()
            return self._from_start(None, calls, form, mode, parallel=choice.parallel)
        if constraint is not None:
            return self._from_start(constraint, calls, form, mode, parallel=choice.parallel)
        if calls is not None and any(tool.strict for tool in tools):
            return self._between(calls, form, mode)
        return None

    def _refuse_force(self) -> NoReturn:
        raise UnsupportedFeature(
            f'"{self._model}" writes calls in a way that can\'t be forced yet; use "auto" or "none".',
            param="tool_choice",
        )

    # ---- kinds of guides ---------------------------------------------------------------------------------------------

    def _from_start(
        self,
        constraint: core.Constraint | None,
        calls: CallGrammar | None,
        form: Format,
        mode: ReasoningMode,
        *,
        parallel: bool,
    ) -> NewGuide:
        """Guides of an answer, of calls, or of either, from the first token or from where the reasoning ends."""
        rules, named, targets = "", [], []
        if constraint is not None:
            answer = grammar.answer(constraint.kind, constraint.source, strict=constraint.strict)
            named, targets = [{"name": "answer", **answer}], ["@answer"]
        if calls is not None:
            rules, targets = calls.lark(parallel=parallel), [*targets, "calls"]
        rules += f"target: {' | '.join(targets)}\n"
        code = "invalid_value" if constraint is not None and constraint.kind != "json_schema" else None

        def compiled(start: str) -> Callable[[], GrammarGuide]:
            return self._new({"lark_grammar": f"start: {start} target\n{rules}"}, *named, code=code)

        if mode == "none":
            return compiled(_quoted(form.lead(mode)))
        at_once = compiled(_quoted(form.lead(mode))) if mode == "auto" else None
        return self._after_reasoning(compiled(_quoted(form.lead("open")) or GAP), form, at_once)

    def _between(self, calls: CallGrammar, form: Format, mode: ReasoningMode) -> NewGuide:
        """Guides of free text in which calls keep to their tools' schemas."""
        begin = self._new({"lark_grammar": f"start: call\n{calls.rules}"})
        words = self._known().words

        def free() -> Guide:
            return Between(begin, words, calls.opening)

        return self._after_reasoning(free, form, None) if mode == "open" else free

    def _after_reasoning(self, then: NewGuide, form: Format, direct: Callable[[], GrammarGuide] | None) -> NewGuide:
        words, marks = self._known().words, form.reasoning
        return lambda: AfterReasoning(
            then(), words, marks.start, marks.end, direct=None if direct is None else direct()
        )

    # ---- compiling ---------------------------------------------------------------------------------------------------

    def _new(self, *grammars: dict[str, Any], code: str | None = None) -> Callable[[], GrammarGuide]:
        """What makes guides of a grammar. Raises InvalidConstraint with that code."""
        ends = self._known().words.ends
        source = grammar.text(*grammars)
        with self._lock:
            matcher = self._compiled.get(source)
        if matcher is None:
            matcher = self._compile(source, code)
        with self._lock:
            self._compiled[source] = matcher
            self._compiled.move_to_end(source)
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)

        def new() -> GrammarGuide:
            with self._lock:  # the step loop begins guides too, and a matcher is copied by one at a time
                return GrammarGuide(matcher.copy(), ends)

        return new

    def _compile(self, source: str, code: str | None) -> Matcher:
        """The matcher at a grammar's start. Takes a while, and holds nothing up."""
        matcher = self._known().trie.matcher("llguidance", source)
        if (error := matcher.error) is not None:
            raise InvalidConstraint(error, code=code)
        return matcher

    def _known(self) -> _Vocabulary:
        with self._building:
            if self._vocabulary is None:
                size = self._provider.info.n_vocab or 0
                ends = frozenset(filter(self._provider.is_end, range(size)))
                pieces = [b"" if token in ends else self._piece(token) for token in range(size)]
                self._vocabulary = _Vocabulary(Trie(pieces, sorted(ends)), Words(pieces, ends))
            return self._vocabulary


def _quoted(text: str) -> str:
    """A text as Lark, unless it is empty."""
    return json.dumps(text, ensure_ascii=False) if text else ""
