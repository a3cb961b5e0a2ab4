"""What every reader of a model's answer gives and takes: text in as it comes, and what is certain of it out."""

from typing import Literal, NamedTuple, Protocol

ReasoningMode = Literal["none", "auto", "open"]
"""Whether an answer has no reasoning, may begin with it, or goes on with what the prompt began."""
Kind = Literal["text", "reasoning", "call", "arguments"]


class Item(NamedTuple):
    """A piece of an answer: for "call" the text is the tool's name, for "arguments" a piece of JSON text."""

    kind: Kind
    text: str


class Parser(Protocol):
    """Splits an answer's text; however it is cut, the items together are the same."""

    @property
    def held(self) -> int:
        """Characters taken in that may still turn out to be markup."""
        ...

    @property
    def thinking(self) -> bool:
        """Whether the text has come to reasoning, and not to its end."""
        ...

    @property
    def plain(self) -> bool:
        """Whether all that comes is text, as it stands."""
        ...

    @property
    def ended(self) -> bool:
        """Whether no more text is wanted."""
        ...

    def conclude(self) -> None:
        """Its reasoning is broken off; the model may go on with it, and end it once more by itself."""
        ...

    def decode(self, text: str) -> list[Item]:
        """What the next piece of text makes certain."""
        ...

    def flush(self) -> list[Item]:
        """What was held, now that nothing follows."""
        ...


class Chain:
    """Reasoning first, calls in what comes after it."""

    def __init__(self, reasoning: Parser, calls: Parser) -> None:
        self._reasoning = reasoning
        self._calls = calls

    @property
    def held(self) -> int:
        """Of both."""
        return self._reasoning.held + self._calls.held

    @property
    def thinking(self) -> bool:
        """Within the first."""
        return self._reasoning.thinking

    @property
    def plain(self) -> bool:
        """Calls may come as long as text comes."""
        return self._reasoning.plain and self._calls.plain

    @property
    def ended(self) -> bool:
        """The one call that was allowed is complete."""
        return self._calls.ended

    def conclude(self) -> None:
        """Of the first."""
        self._reasoning.conclude()

    def decode(self, text: str) -> list[Item]:
        """What the next piece of text makes certain."""
        if self._reasoning.plain:
            return self._calls.decode(text)
        return self._after(self._reasoning.decode(text))

    def flush(self) -> list[Item]:
        """What was held."""
        return self._after(self._reasoning.flush()) + self._calls.flush()

    def _after(self, items: list[Item]) -> list[Item]:
        found: list[Item] = []
        for item in items:
            found += self._calls.decode(item.text) if item.kind == "text" else [item]
        return found
