"""What a request demands of its output, as guides for its sequences: a constraint, calls of tools, or either of them.

Runs in the preparers, beside the step loop. The vocabulary is indexed at the first constrained request, once for the
model; compiled grammars are kept for repeated ones.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from heylook_llm import core
from heylook_llm.errors import InvalidConstraint
from heylook_llm.helper import grammar
from heylook_llm.worker.formats.call_grammar import CallGrammar, call_grammar
from heylook_llm.worker.formats.formats import Format
from heylook_llm.worker.formats.parser import ReasoningMode
from heylook_llm.worker.guidance import Matcher, Trie
from heylook_llm.worker.guide import AfterReasoning, Beginning, Between, GrammarGuide, Guide
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

    def __init__(self, provider: Provider, piece: Callable[[int], bytes]) -> None:
        """`piece` gives the bytes of a token as the answer shows them; empty for control tokens."""
        self._provider = provider
        self._piece = piece
        self._lock = threading.Lock()
        self._building = threading.Lock()
        self._vocabulary: _Vocabulary | None = None
        self._compiled: OrderedDict[str, Matcher] = OrderedDict()

    def guides(
        self,
        constraint: core.Constraint | None,
        prompt: core.Prompt,
        form: Format,
        mode: ReasoningMode,
        *,
        reasons: bool = True,
    ) -> tuple[NewGuide | None, tuple[str, ...]]:
        """What makes the guide of each sequence that answers a prompt, and the tools' keywords that it doesn't follow.

        None: it may say anything. `mode`: whether reasoning comes before the answer, which is all that is guided;
        `reasons`: whether the model may begin it by itself. Raises InvalidConstraint.
        """
        chat = prompt if isinstance(prompt, core.ChatPrompt) else core.ChatPrompt(())
        tools, choice = offered(chat), chat.tool_choice
        forced = choice.mode == "required" and bool(tools)
        if constraint is None and not forced and not any(tool.strict for tool in tools):
            return None, ()
        calls = call_grammar(form.tools, tools, parallel=choice.parallel) if tools else None
        left_out = calls.left_out if calls is not None else ()
        if forced:
            return self._from_start(None, calls, form, mode, reasons=reasons), left_out
        if constraint is not None:
            return self._from_start(constraint, calls, form, mode, reasons=reasons), left_out
        return None if calls is None else self._between(calls, form, mode), left_out

    # ---- kinds of guides ---------------------------------------------------------------------------------------------

    def _from_start(
        self,
        constraint: core.Constraint | None,
        calls: CallGrammar | None,
        form: Format,
        mode: ReasoningMode,
        *,
        reasons: bool,
    ) -> NewGuide:
        """Guides of an answer, of calls, or of either, from the first token or from where the reasoning ends."""
        named: list[dict[str, Any]] = []
        rules = ""
        if constraint is not None:
            answer = grammar.answer(constraint.kind, constraint.source, strict=constraint.strict)
            named = [{"name": "answer", **answer}]
        if calls is not None:
            rules = f"{calls.rules}calls: {calls.forced if constraint is None else calls.beside}\n"
        code = "invalid_value" if constraint is not None and constraint.kind != "json_schema" else None

        def compiled(at: ReasoningMode, gap: str = "") -> Callable[[], GrammarGuide]:
            lead, more = map(_quoted, form.lead(at))
            targets = [f"{more} @answer"] if named else []
            targets += ["calls"] if calls is not None else []
            start = f"start: {lead or gap} target\ntarget: {' | '.join(targets)}\n"
            return self._new({"lark_grammar": start + rules}, *named, code=code)

        if mode == "none" or (mode == "auto" and not reasons):
            return compiled(mode)
        return self._after_reasoning(compiled("open", GAP), form, compiled(mode) if mode == "auto" else None)

    def _between(self, calls: CallGrammar, form: Format, mode: ReasoningMode) -> NewGuide:
        """Guides of free text in which calls keep to their tools' schemas."""
        begin = {
            opening.rule: self._new({"lark_grammar": f"start: {opening.rule}\n{calls.rules}"})
            for opening in calls.openings
        }
        beginning: Beginning | None = None
        if calls.beginning:
            leads = "".join(lead[0] for lead in form.tools.leads) if form.tools is not None else ""
            new = self._new({"lark_grammar": f"start: {calls.beginning}\n{calls.rules}"})
            beginning = Beginning(new, leads.encode())
        words, watch = self._known().words, form.watch(calls.openings)
        return lambda: Between(lambda rule: begin[rule](), words, watch, mode, beginning)

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
