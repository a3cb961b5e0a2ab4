"""Tokens of one choice to Events: UTF-8, stop strings, reasoning and tool calls, each a decode()/flush() stage.

    token -> bytes -> Utf8 -> StopStrings -> the parser of the model's format -> Events

Every stage gives the same whole output however its input is cut. A stage holds back only what may still turn out to be
markup: at most the longest stop string less one byte, a partial tag, white space before a tag, the head of a tool call.
Plain text passes through none of them but a table of token texts.
"""

import codecs
from collections.abc import Callable, Iterable
from typing import NamedTuple

from heylook_llm import core
from heylook_llm.worker.formats.parser import Item, Parser
from heylook_llm.worker.formats.reader import partial_start


class Pieces:
    """The bytes of each token of a vocabulary, and its text where that is whole characters; filled on use."""

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self._bytes: dict[int, bytes] = {}
        self._texts: dict[int, str | None] = {}

    def of(self, token: int) -> bytes:
        """The token's bytes."""
        piece = self._bytes.get(token)
        if piece is None:
            piece = self._bytes[token] = self._piece(token)
        return piece

    def text(self, token: int) -> str | None:
        """The token's text; None: it isn't whole characters by itself."""
        try:
            return self._texts[token]
        except KeyError:
            text = self._texts[token] = _whole(self.of(token))
            return text

    def join(self, tokens: Iterable[int]) -> str:
        """The text of many tokens; U+FFFD for invalid bytes."""
        return b"".join(map(self.of, tokens)).decode("utf-8", "replace")


def _whole(piece: bytes) -> str | None:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return None


class Budget(NamedTuple):
    """How many tokens an answer may think, and what ends its thinking then: the first time, the second, ever after."""

    tokens: int
    conclusions: tuple[tuple[int, ...], ...]


class Decoder:
    """The text side of one choice. `stop` is the stop string that ended it; `ended`: no more tokens are wanted."""

    def __init__(
        self,
        choice: int,
        pieces: Pieces,
        *,
        stop: tuple[str, ...] = (),
        include_stop: bool = False,
        parser: Parser | None = None,
        budget: Budget | None = None,
        new_id: Callable[[], str] = str,
    ) -> None:
        """`parser` splits reasoning and calls off; None: all is text. `new_id` gives the id of each call."""
        self.choice = choice
        self.reasoning_tokens = 0
        """Tokens of the reasoning, with what ends it."""
        self.calls = 0
        self._pieces = pieces
        self._text_of = pieces.text
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = StopStrings(stop, include_stop) if any(stop) else None
        self._parser = parser
        self._budget = budget
        self._concluded = 0
        """How often a conclusion was asked for, and how many of its tokens are still to be fed."""
        self._concluding = 0
        self._new_id = new_id
        self._fed = 0
        self._pending: list[tuple[int, int, int, core.TokenLogprob | None]] = []
        self._plain = self._is_plain()
        self._cut = False

    @property
    def stop(self) -> str | None:
        """The stop string that ended the text, or None."""
        return self._stops.matched if self._stops is not None else None

    @property
    def ended(self) -> bool:
        """Whether the text is complete: a stop string came, or the one tool call that was allowed."""
        return self.stop is not None or (self._parser is not None and self._parser.ended)

    def feed(self, token: int, logprob: core.TokenLogprob | None = None) -> list[core.Event]:
        """The events that the next token makes certain."""
        if self._plain:
            text = self._text_of(token)
            if text:
                return [core.Text(self.choice, text, (token,), (logprob,) if logprob is not None else ())]
        return self._feed(token, logprob)

    def _feed(self, token: int, logprob: core.TokenLogprob | None) -> list[core.Event]:
        thinking = self.thinking
        text = self._utf8.decode(self._pieces.of(token))
        start = self._pending[-1][2] if self._pending else self._fed
        self._fed += len(text)
        incomplete = 1 if self._utf8.getstate()[0] else 0
        self._pending.append((token, start, self._fed + incomplete, logprob))
        events = self._events(self._decode(text), at_end=False)
        self.reasoning_tokens += thinking or self.thinking
        self._concluding -= self._concluding > 0
        self._plain = self._is_plain() and not self._pending and not incomplete
        return events

    @property
    def thinking(self) -> bool:
        """Whether the text is within reasoning."""
        return self._parser is not None and self._parser.thinking

    def conclusion(self) -> tuple[int, ...]:
        """The tokens that must be fed next, because the budget is used up; none: whatever is drawn."""
        budget = self._budget
        if budget is None or self._concluding or not self.thinking or self.reasoning_tokens < budget.tokens:
            return ()
        if self._utf8.getstate()[0]:  # a character isn't complete
            return ()
        tokens = budget.conclusions[min(self._concluded, len(budget.conclusions) - 1)]
        self._concluded += 1
        assert self._parser is not None, "it is thinking"
        self._parser.conclude()
        self._concluding = len(tokens)
        return tokens

    def cut(self) -> None:
        """The text ends where the last event did: what is held back doesn't belong to it."""
        self._cut = True

    def flush(self) -> list[core.Event]:
        """The last events. Every token fed is now in some event, but those of a stop string that was cut off."""
        self._plain = False
        if self._cut:
            return []
        items: list[Item] = []
        if not self.ended:
            rest = self._utf8.decode(b"", final=True)
            self._fed += len(rest)
            items = self._decode(rest)
        if self._stops is not None:
            items += self._split(self._stops.flush())
        if self._parser is not None:
            items += self._parser.flush()
        return self._events(items, at_end=True)

    def _is_plain(self) -> bool:
        return self._stops is None and (self._parser is None or self._parser.plain)

    def _decode(self, text: str) -> list[Item]:
        if not text:
            return []
        return self._split(text if self._stops is None else self._stops.decode(text))

    def _split(self, text: str) -> list[Item]:
        if not text:
            return []
        return [Item("text", text)] if self._parser is None else self._parser.decode(text)

    def _events(self, items: list[Item], *, at_end: bool) -> list[core.Event]:
        """Items as events, with the tokens and log probabilities that they took."""
        items = _joined(items)
        if not items:
            if not (at_end and self._pending and self.stop is None):
                return []
            items = [Item("text", "")]
        taken = self._take_tokens(at_end)
        if len(items) == 1 or len(taken) < 2:
            shares = [taken] + [[]] * (len(items) - 1)
        else:
            shares = [taken[:-1], *([[]] * (len(items) - 2)), taken[-1:]]
        return [self._event(item, share) for item, share in zip(items, shares, strict=True)]

    def _take_tokens(self, at_end: bool) -> list[tuple[int, int, int, core.TokenLogprob | None]]:
        """The pending tokens whose text is settled; once a stop string has cut the text, those that began before it."""
        if self._stops is not None and self._stops.matched is not None:
            shown = self._fed - self._stops.cut
            taken = [entry for entry in self._pending if entry[1] < shown]
            self._pending = []
            return taken
        if at_end:
            taken, self._pending = self._pending, []
            return taken
        settled = self._fed - sum(s.held for s in (self._stops, self._parser) if s is not None)
        count = 0
        for entry in self._pending:
            if entry[2] > settled:
                break
            count += 1
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken

    def _event(self, item: Item, share: list[tuple[int, int, int, core.TokenLogprob | None]]) -> core.Event:
        tokens = tuple(entry[0] for entry in share)
        logprobs = tuple(entry[3] for entry in share if entry[3] is not None)
        match item.kind:
            case "text":
                return core.Text(self.choice, item.text, tokens, logprobs)
            case "reasoning":
                return core.Reasoning(self.choice, item.text, tokens, logprobs)
            case "call":
                self.calls += 1
                return core.ToolCallStart(self.choice, self.calls - 1, self._new_id(), item.text, tokens, logprobs)
            case "arguments":
                return core.ToolCallArgs(self.choice, self.calls - 1, item.text, tokens, logprobs)


def _joined(items: list[Item]) -> list[Item]:
    """Neighbours of one kind as one; empty texts left out."""
    joined: list[Item] = []
    for item in items:
        if not item.text:
            continue
        if joined and joined[-1].kind == item.kind != "call":
            joined[-1] = Item(item.kind, joined[-1].text + item.text)
        else:
            joined.append(item)
    return joined


class StopStrings:
    """Cuts the text at the stop string that is complete first; of those complete at one place, the longest."""

    def __init__(self, stops: tuple[str, ...], include: bool) -> None:
        self.matched: str | None = None
        self.cut = 0
        """Characters taken in but not given on, once matched."""
        self._stops = tuple(stop for stop in stops if stop)
        self._include = include
        self._buffer = ""

    @property
    def held(self) -> int:
        """Characters that may begin a stop string."""
        return len(self._buffer)

    def decode(self, text: str) -> str:
        """The text that certainly comes before any stop string."""
        if self.matched is not None:
            self.cut += len(text)
            return ""
        text = self._buffer + text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            end, start, self.matched = min(found)
            shown = end if self._include else start
            self.cut = len(text) - shown
            self._buffer = ""
            return text[:shown]
        keep = min(partial_start(text, stop) for stop in self._stops)
        self._buffer = text[keep:]
        return text[:keep]

    def flush(self) -> str:
        """The beginning of a stop string that never came."""
        rest, self._buffer = self._buffer, ""
        return rest
