"""A model's format: how its answers are read, and how an answer that was begun goes on."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from heylook_llm import core
from heylook_llm.worker.formats import harmony
from heylook_llm.worker.formats.call_grammar import Opening
from heylook_llm.worker.formats.calls import Calls, ToolFormat
from heylook_llm.worker.formats.families import HERMES
from heylook_llm.worker.formats.parser import Chain, Parser, ReasoningMode
from heylook_llm.worker.formats.reasoning import THINK, Marks, Reasoning
from heylook_llm.worker.formats.watch import TEXT, Sought, Watch


class Format(Protocol):
    """What a model writes around reasoning and calls."""

    @property
    def names(self) -> tuple[str, str]:
        """Of the calls' syntax, and of what opens reasoning."""
        ...

    @property
    def markup(self) -> frozenset[str]:
        """Marks that must come as text, even where a vocabulary has them as control tokens."""
        ...

    @property
    def reasoning(self) -> Marks:
        """What stands around reasoning."""
        ...

    @property
    def tools(self) -> ToolFormat | None:
        """How calls are written; None: they are messages, as all of an answer."""
        ...

    def parser(self, mode: ReasoningMode, tools: Sequence[core.Tool], *, parallel: bool = True) -> Parser | None:
        """Reads one answer; None: it is all text. `tools`: those whose calls are recognized."""
        ...

    def lead(self, mode: ReasoningMode) -> tuple[str, str]:
        """What stands before any answer, and what more before one that is text.

        `mode`: behind the end of its reasoning ("open"), from the start ("auto"), or where the answer was begun.
        """
        ...

    def watch(self, openings: Sequence[Opening]) -> Watch:
        """What to look for in an answer that may say anything, but whose calls, behind these openings, are guided."""
        ...

    def conclusions(self, *, tools: bool) -> tuple[str, ...]:
        """What ends reasoning that was broken off: the first time, the second, and ever after."""
        ...

    def continued(self, rendered: str, last: core.Message) -> tuple[str, ReasoningMode]:
        """An assistant's turn that is to go on, behind a prompt that ends where it begins; and what comes next."""
        ...


class Marked(msgspec.Struct, frozen=True):
    """Reasoning between marks, then text with calls in it."""

    tools: ToolFormat = HERMES
    reasoning: Marks = THINK

    @property
    def names(self) -> tuple[str, str]:
        """Of the calls' syntax, and of what opens reasoning."""
        return self.tools.name, self.reasoning.start

    @property
    def markup(self) -> frozenset[str]:
        """Marks that must come as text."""
        return frozenset((self.reasoning.start, self.reasoning.end, *self.tools.markup))

    def parser(self, mode: ReasoningMode, tools: Sequence[core.Tool], *, parallel: bool = True) -> Parser | None:
        """Reads one answer."""
        thinking = Reasoning(self.reasoning, opened=mode == "open") if mode != "none" else None
        calls = Calls(self.tools, tools, parallel=parallel) if tools or self.tools.dropped else None
        if thinking is not None and calls is not None:
            return Chain(thinking, calls)
        return thinking or calls

    def lead(self, mode: ReasoningMode) -> tuple[str, str]:
        """Nothing."""
        return "", ""

    def watch(self, openings: Sequence[Opening]) -> Watch:
        """Openings, but for those within the reasoning."""
        calls = {opening.mark: opening.rule for opening in openings}
        start, end = self.reasoning.start, self.reasoning.end
        states = {TEXT: Sought(calls=calls), "thinking": Sought({end: TEXT})}
        return Watch(states, {"none": TEXT, "auto": TEXT, "open": "thinking"}, (start, "thinking"))

    def conclusions(self, *, tools: bool) -> tuple[str, ...]:
        """The closing mark."""
        return (self.reasoning.conclusion or self.reasoning.end,)

    def continued(self, rendered: str, last: core.Message) -> tuple[str, ReasoningMode]:
        """Text, behind the reasoning that there was."""
        start, end = self.reasoning.start, self.reasoning.end
        if opens_reasoning(rendered, self.reasoning):
            return last.reasoning + (f"\n{end}\n\n{last.text}" if last.text else ""), "none" if last.text else "open"
        reasoning = f"{start}\n{last.reasoning}\n{end}\n\n" if last.reasoning else ""
        return reasoning + last.text, "none" if last.text else "auto"


class HarmonyFormat(msgspec.Struct, frozen=True):
    """Messages on channels."""

    names: tuple[str, str] = ("harmony", harmony.ANALYSIS)
    tools: ToolFormat | None = None
    markup: frozenset[str] = frozenset(harmony.MARKUP)
    reasoning: Marks = Marks(harmony.ANALYSIS, harmony.END)

    def parser(self, mode: ReasoningMode, tools: Sequence[core.Tool], *, parallel: bool = True) -> Parser | None:
        """Reads one answer."""
        return harmony.Harmony(mode, tools, parallel=parallel)

    def lead(self, mode: ReasoningMode) -> tuple[str, str]:
        """The header of a message of its own, unless that is begun."""
        match mode:
            case "none":
                return "", ""
            case "auto":
                return "", harmony.FINAL
        return harmony.NEXT.removeprefix(harmony.END), harmony.FINAL

    def watch(self, openings: Sequence[Opening]) -> Watch:
        """Recipients in headers."""
        calls = {opening.mark: opening.rule for opening in openings}
        body = Sought(dict.fromkeys((*harmony.ENDS, harmony.START), "header"))
        states = {"header": Sought({harmony.MESSAGE: TEXT}, calls), TEXT: body}
        return Watch(states, {"none": TEXT, "auto": "header", "open": TEXT})

    def conclusions(self, *, tools: bool) -> tuple[str, ...]:
        """Another message; where there are tools the model chooses once whether it is a call."""
        final = harmony.NEXT + harmony.FINAL
        return (harmony.NEXT, final) if tools else (final,)

    def continued(self, rendered: str, last: core.Message) -> tuple[str, ReasoningMode]:
        """A message of its own for the reasoning."""
        reasoning = harmony.ANALYSIS + last.reasoning if last.reasoning else ""
        if last.text:
            return (reasoning + harmony.NEXT if reasoning else "") + harmony.FINAL + last.text, "none"
        return reasoning, "open" if reasoning else "auto"


def opens_reasoning(rendered: str, marks: Marks) -> bool:
    """Whether a rendered prompt ends inside reasoning that it began."""
    return rendered.rfind(marks.start) > rendered.rfind(marks.end) and rendered.rstrip().endswith(marks.start)
