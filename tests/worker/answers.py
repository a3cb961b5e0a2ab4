"""An answer's events, folded: what of them must not hang on how its bytes were cut into tokens."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

from heylook_llm import core
from heylook_llm.worker.formats.parser import Parser
from heylook_llm.worker.text import Decoder, Pieces


class Output:
    """The events of a decoder, folded."""

    def __init__(self, events: list[core.Event]) -> None:
        self.events = events
        self.text = "".join(event.text for event in events if isinstance(event, core.Text))
        self.reasoning = "".join(event.text for event in events if isinstance(event, core.Reasoning))
        self.calls: list[tuple[str, str]] = []
        self.tokens: list[int] = []
        for event in events:
            assert not isinstance(event, core.Progress | core.Done | core.Failed)
            self.tokens.extend(event.tokens)
            if isinstance(event, core.ToolCallStart):
                assert event.index == len(self.calls)
                self.calls.append((event.name, ""))
            if isinstance(event, core.ToolCallArgs):
                name, arguments = self.calls[event.index]
                self.calls[event.index] = (name, arguments + event.text)

    @property
    def parts(self) -> tuple[str, str, list[tuple[str, str]]]:
        """What must not depend on the cuts."""
        return self.text, self.reasoning, self.calls

    @property
    def values(self) -> list[tuple[str, Any]]:
        """The calls, with their arguments as values."""
        return [(name, json.loads(arguments)) for name, arguments in self.calls]


def pieces_of(data: bytes, cuts: Iterable[int] | None) -> list[bytes]:
    """The bytes cut at these places; None: at every one."""
    edges = range(1, len(data)) if cuts is None else sorted({cut % (len(data) or 1) for cut in cuts} - {0})
    return [data[a:b] for a, b in itertools.pairwise([0, *edges, len(data)])]


def output_of(data: bytes, cuts: Iterable[int] | None, parser: Parser | None, **options: Any) -> Output:
    """Feed the bytes as tokens that end at the cuts. Every token comes out in some event, once and in order."""
    pieces = pieces_of(data, cuts)
    decoder = Decoder(0, Pieces(pieces.__getitem__), parser=parser, new_id=lambda: "call_1", **options)
    events: list[core.Event] = []
    for token in range(len(pieces)):
        events += decoder.feed(token)
        if decoder.ended:
            break
    output = Output([*events, *decoder.flush()])
    whole = decoder.stop is None and not decoder.ended
    assert output.tokens == list(range(len(pieces) if whole else len(output.tokens)))
    return output
