"""The families of models, by what they write around reasoning and calls; and which of them a chat template means."""

from collections.abc import Sequence
from typing import Final

import msgspec

from heylook_llm import core
from heylook_llm.worker.formats.calls import Calls, ToolFormat
from heylook_llm.worker.formats.json_calls import JsonCalls
from heylook_llm.worker.formats.parser import Chain, Parser, ReasoningMode
from heylook_llm.worker.formats.reasoning import THINK, Marks, Reasoning

HERMES: Final = JsonCalls("hermes", openings=("<tool_call>",), closings=("</tool_call>",))


class Format(msgspec.Struct, frozen=True):
    """What a model writes around reasoning and calls."""

    tools: ToolFormat = HERMES
    reasoning: Marks = THINK

    @property
    def markup(self) -> frozenset[str]:
        """Marks that must come as text, even where a vocabulary has them as control tokens."""
        return frozenset((*self.reasoning, *self.tools.markup))

    def parser(self, mode: ReasoningMode, tools: Sequence[core.Tool], *, parallel: bool = True) -> Parser | None:
        """Reads one answer; None: it is all text. `tools`: those whose calls are recognized."""
        reasoning = Reasoning(self.reasoning, opened=mode == "open") if mode != "none" else None
        calls = Calls(self.tools, tools, parallel=parallel) if tools or self.tools.dropped else None
        if reasoning is not None and calls is not None:
            return Chain(reasoning, calls)
        return reasoning or calls
