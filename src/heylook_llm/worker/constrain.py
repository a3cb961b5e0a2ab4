"""What a request demands of its output, as guides for its sequences: a constraint, calls of tools, or either of them.

Runs in the preparers, beside the step loop. The vocabulary is indexed at the first constrained request, once for the
model; compiled grammars are kept for repeated ones. Both are done by a thread that yields to the streams.

The server tried a request's schemas before it came here, as JSON. A model that writes its calls in another way is held
to a grammar that only its worker knows: one that isn't surely cheap is tried by a helper process first, here too.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

from heylook_llm import core
from heylook_llm.errors import InvalidConstraint
from heylook_llm.helper import grammar, trying
from heylook_llm.worker.formats.call_grammar import CallGrammar, call_grammar
from heylook_llm.worker.formats.formats import Format
from heylook_llm.worker.formats.parser import ReasoningMode
from heylook_llm.worker.guidance import Matcher, Trie
from heylook_llm.worker.guide import AfterReasoning, Beginning, Between, GrammarGuide, Guide
from heylook_llm.worker.prompt import offered
from heylook_llm.worker.providers.base import Provider
from heylook_llm.worker.vocabulary import Words
from heylook_llm.worker.yielding import SOME_NICENESS, yield_to_others

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

    def __init__(
        self,
        provider: Provider,
        piece: Callable[[int], bytes],
        failure: Callable[[str], str | None] = trying.failure,
    ) -> None:
        """`piece` gives the bytes of a token as the answer shows them; empty for control tokens.

        `failure` tries a grammar, and says why it can't be used.
        """
        self._failure = failure
        self._provider = provider
        self._piece = piece
        self._lock = threading.Lock()
        self._building = threading.Lock()
        self._vocabulary: _Vocabulary | None = None
        self._compiled: OrderedDict[str, Matcher | str] = OrderedDict()
        """Or why it can't be used."""
        self._compiler = ThreadPoolExecutor(
            1, thread_name_prefix="compiler", initializer=yield_to_others, initargs=(SOME_NICENESS,)
        )

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
        unsure = not all(map(_is_cheap, tools))
        if forced or constraint is not None:
            answer = None if forced else constraint
            return self._from_start(answer, calls, form, mode, reasons=reasons, unsure=unsure), left_out
        return None if calls is None else self._between(calls, form, mode, unsure=unsure), left_out

    # ---- kinds of guides ---------------------------------------------------------------------------------------------

    def _from_start(
        self,
        constraint: core.Constraint | None,
        calls: CallGrammar | None,
        form: Format,
        mode: ReasoningMode,
        *,
        reasons: bool,
        unsure: bool,
    ) -> NewGuide:
        """Guides of an answer, of calls, or of either, from the first token or from where the reasoning ends.

        `unsure`: what the calls' grammar costs isn't known.
        """
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
            return self._new({"lark_grammar": start + rules}, *named, code=code, unsure=unsure)

        if mode == "none" or (mode == "auto" and not reasons):
            return compiled(mode)
        return self._after_reasoning(compiled("open", GAP), form, compiled(mode) if mode == "auto" else None)

    def _between(self, calls: CallGrammar, form: Format, mode: ReasoningMode, *, unsure: bool) -> NewGuide:
        """Guides of free text in which calls keep to their tools' schemas."""
        begin = {
            opening.rule: self._new({"lark_grammar": f"start: {opening.rule}\n{calls.rules}"}, unsure=unsure)
            for opening in calls.openings
        }
        beginning: Beginning | None = None
        if calls.beginning:
            leads = "".join(lead[0] for lead in form.tools.leads) if form.tools is not None else ""
            new = self._new({"lark_grammar": f"start: {calls.beginning}\n{calls.rules}"}, unsure=unsure)
            beginning = Beginning(new, leads.encode())
        words, watch = self._known().words, form.watch(calls.openings)
        return lambda: Between(lambda rule: begin[rule](), words, watch, mode, beginning)

    def _after_reasoning(self, then: NewGuide, form: Format, direct: Callable[[], GrammarGuide] | None) -> NewGuide:
        words, marks = self._known().words, form.reasoning
        return lambda: AfterReasoning(
            then(), words, marks.start, marks.end, direct=None if direct is None else direct()
        )

    # ---- compiling ---------------------------------------------------------------------------------------------------

    def _new(
        self, *grammars: dict[str, Any], code: str | None = None, unsure: bool = False
    ) -> Callable[[], GrammarGuide]:
        """What makes guides of a grammar. Raises InvalidConstraint with that code."""
        source = grammar.text(*grammars)
        with self._lock:
            known = self._compiled.get(source)
        compiled = self._compile(source, unsure=unsure) if known is None else known
        with self._lock:
            self._compiled[source] = compiled
            self._compiled.move_to_end(source)
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        if isinstance(compiled, str):
            raise InvalidConstraint(compiled, code=code)
        ends = self._known().words.ends

        def new() -> GrammarGuide:
            with self._lock:  # the step loop begins guides too, and a matcher is copied by one at a time
                return GrammarGuide(compiled.copy(), ends)

        return new

    def _compile(self, source: str, *, unsure: bool) -> Matcher | str:
        """The matcher at a grammar's start, or why there is none. Takes a while, and holds nothing up."""
        if unsure and (reason := self._failure(source)) is not None:
            return reason
        trie = self._known().trie
        matcher = self._compiler.submit(trie.matcher, "llguidance", source).result()
        return matcher.error or matcher

    def _known(self) -> _Vocabulary:
        with self._building:
            if self._vocabulary is None:
                self._vocabulary = self._compiler.submit(self._indexed).result()
            return self._vocabulary

    def _indexed(self) -> _Vocabulary:
        size = self._provider.info.n_vocab or 0
        ends = frozenset(filter(self._provider.is_end, range(size)))
        pieces = [b"" if token in ends else self._piece(token) for token in range(size)]
        return _Vocabulary(Trie(pieces, sorted(ends)), Words(pieces, ends))


def _is_cheap(tool: core.Tool) -> bool:
    """Whether following its schema is sure to cost little, in whatever syntax."""
    return grammar.is_cheap("json_schema", json.dumps(tool.parameters or {}))


def _quoted(text: str) -> str:
    """A text as Lark, unless it is empty."""
    return json.dumps(text, ensure_ascii=False) if text else ""
