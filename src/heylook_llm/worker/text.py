"""Tokens of one choice to Events: UTF-8, stop strings, reasoning and tool calls, each a decode()/flush() stage.

    token -> bytes -> Utf8 -> StopStrings -> Reasoning -> ToolCalls -> Events

Every stage gives the same whole output however its input is cut. A stage holds back only what may still turn out to be
markup: at most the longest stop string less one byte, a partial tag, white space before a tag, the head of a tool call.
Plain text passes through none of them but a table of token texts.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterable
from typing import Final, Literal, NamedTuple

from heylook_llm import core

THINK: Final = "<think>"
THINK_END: Final = "</think>"
CALL: Final = "<tool_call>"
CALL_END: Final = "</tool_call>"
MARKUP: Final = (THINK, THINK_END, CALL, CALL_END)
"""Tags that must come as text even where a vocabulary marks them as control tokens."""

ReasoningMode = Literal["none", "auto", "open"]
Kind = Literal["text", "reasoning", "call", "arguments"]


class Item(NamedTuple):
    """A piece of output between stages: for "call" the text is the tool's name."""

    kind: Kind
    text: str


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


class Decoder:
    """The text side of one choice. `stop` is the stop string that ended it; `ended`: no more tokens are wanted."""

    def __init__(
        self,
        choice: int,
        pieces: Pieces,
        *,
        stop: tuple[str, ...] = (),
        include_stop: bool = False,
        reasoning: ReasoningMode = "none",
        tools: frozenset[str] = frozenset(),
        parallel_calls: bool = True,
        new_id: Callable[[], str] = str,
    ) -> None:
        """`tools`: names whose calls are recognized, none: no parsing. `new_id` gives the id of each call."""
        self.choice = choice
        self.reasoning_tokens = 0
        self.calls = 0
        self._pieces = pieces
        self._text_of = pieces.text
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = StopStrings(stop, include_stop) if any(stop) else None
        self._reasoning = Reasoning(opened=reasoning == "open") if reasoning != "none" else None
        self._calls = ToolCalls(tools, parallel=parallel_calls) if tools else None
        self._new_id = new_id
        self._fed = 0
        self._pending: list[tuple[int, int, int, core.TokenLogprob | None]] = []
        self._plain = self._is_plain()

    @property
    def stop(self) -> str | None:
        """The stop string that ended the text, or None."""
        return self._stops.matched if self._stops is not None else None

    @property
    def ended(self) -> bool:
        """Whether the text is complete: a stop string came, or the one tool call that was allowed."""
        return self.stop is not None or (self._calls is not None and self._calls.ended)

    def feed(self, token: int, logprob: core.TokenLogprob | None = None) -> list[core.Event]:
        """The events that the next token makes certain."""
        if self._plain:
            text = self._text_of(token)
            if text:
                return [core.Text(self.choice, text, (token,), (logprob,) if logprob is not None else ())]
        return self._feed(token, logprob)

    def _feed(self, token: int, logprob: core.TokenLogprob | None) -> list[core.Event]:
        text = self._utf8.decode(self._pieces.of(token))
        start = self._pending[-1][2] if self._pending else self._fed
        self._fed += len(text)
        incomplete = 1 if self._utf8.getstate()[0] else 0
        self._pending.append((token, start, self._fed + incomplete, logprob))
        events = self._events(self._decode(text), at_end=False)
        self._plain = self._is_plain() and not self._pending and not incomplete
        return events

    def flush(self) -> list[core.Event]:
        """The last events. Every token fed is now in some event, but those of a stop string that was cut off."""
        self._plain = False
        items: list[Item] = []
        if not self.ended:
            rest = self._utf8.decode(b"", final=True)
            self._fed += len(rest)
            items = self._decode(rest)
        if self._stops is not None:
            items += self._split(self._stops.flush())
        if self._reasoning is not None:
            items += self._called(self._reasoning.flush())
        if self._calls is not None:
            items += self._calls.flush()
        return self._events(items, at_end=True)

    def _is_plain(self) -> bool:
        return self._stops is None and self._calls is None and (self._reasoning is None or self._reasoning.over)

    def _decode(self, text: str) -> list[Item]:
        if not text:
            return []
        return self._split(text if self._stops is None else self._stops.decode(text))

    def _split(self, text: str) -> list[Item]:
        if not text:
            return []
        if self._reasoning is None or self._reasoning.over:
            return self._called([Item("text", text)])
        return self._called(self._reasoning.decode(text))

    def _called(self, items: list[Item]) -> list[Item]:
        if self._calls is None:
            return items
        called: list[Item] = []
        for item in items:
            called += self._calls.decode(item.text) if item.kind == "text" else [item]
        return called

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
        settled = self._fed - sum(s.held for s in (self._stops, self._reasoning, self._calls) if s is not None)
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
                self.reasoning_tokens += len(tokens)
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
        keep = min(_partial_start(text, stop) for stop in self._stops)
        self._buffer = text[keep:]
        return text[:keep]

    def flush(self) -> str:
        """The beginning of a stop string that never came."""
        rest, self._buffer = self._buffer, ""
        return rest


def _partial_start(text: str, tag: str) -> int:
    """Where the longest end of the text begins that is a proper beginning of `tag`; the text's length: nowhere."""
    start = max(0, len(text) - len(tag) + 1)
    first = tag[0]
    while (at := text.find(first, start)) >= 0:
        if tag.startswith(text[at:]):
            return at
        start = at + 1
    return len(text)


class Reasoning:
    """Splits `<think>...</think>` off the start of the text, without the tags and the white space around them."""

    def __init__(self, *, opened: bool) -> None:
        """`opened`: the prompt already ended with an open `<think>`."""
        self.over = False
        self._inside = opened
        self._begun = False
        self._after = False
        self._buffer = ""

    @property
    def held(self) -> int:
        """Characters that may be a tag, or white space beside one."""
        return len(self._buffer)

    def decode(self, text: str) -> list[Item]:
        """What is certain of reasoning and text."""
        if self.over:
            return [Item("text", text)]
        self._buffer += text
        items: list[Item] = []
        if not self._inside and not self._after:
            self._find_start(items)
        if self._inside:
            self._find_end(items)
        if self._after:
            self._find_text(items)
        return items

    def flush(self) -> list[Item]:
        """What was held: inside it is reasoning, before it is text."""
        rest, self._buffer = self._buffer, ""
        if self._after or not rest:
            return []
        return [Item("reasoning" if self._inside else "text", rest)]

    def _find_start(self, items: list[Item]) -> None:
        stripped = self._buffer.lstrip()
        if stripped.startswith(THINK):
            self._inside = True
            self._buffer = stripped[len(THINK) :]
        elif not THINK.startswith(stripped):
            items.append(Item("text", self._buffer))
            self._buffer = ""
            self.over = True

    def _find_end(self, items: list[Item]) -> None:
        if not self._begun:
            self._buffer = self._buffer.lstrip()
            self._begun = bool(self._buffer)
        at = self._buffer.find(THINK_END)
        if at >= 0:
            items.append(Item("reasoning", self._buffer[:at].rstrip()))
            self._buffer = self._buffer[at + len(THINK_END) :]
            self._inside, self._after = False, True
            return
        settled = len(self._buffer[: _partial_start(self._buffer, THINK_END)].rstrip())
        items.append(Item("reasoning", self._buffer[:settled]))
        self._buffer = self._buffer[settled:]

    def _find_text(self, items: list[Item]) -> None:
        self._buffer = self._buffer.lstrip()
        if self._buffer:
            items.append(Item("text", self._buffer))
            self._buffer = ""
            self._after = False
            self.over = True


_HEAD: Final = re.compile(
    r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)', re.DOTALL
)
_STRING_REST: Final = re.compile(r'[^"\\]*')
_OUTSIDE_STRINGS: Final = re.compile(r'[^"{}\[\]]*')
_TAIL: Final = re.compile(r"\s*\}*\s*")


class ToolCalls:
    """Recognizes Hermes calls of known tools: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.

    The arguments' own JSON text is given on as it comes. What isn't a call of a known tool is given back as text.
    White space around calls is dropped.
    """

    def __init__(self, names: frozenset[str], *, parallel: bool = True) -> None:
        self.ended = False
        self._names = names
        self._parallel = parallel
        self._called = False
        self._state: Literal["outside", "head", "arguments", "tail"] = "outside"
        self._opening = ""
        self._buffer = ""
        self._depth = 0
        self._in_string = False
        self._escaped = False

    @property
    def held(self) -> int:
        """Characters that may belong to a call."""
        return len(self._buffer) + len(self._opening)

    def decode(self, text: str) -> list[Item]:
        """What is certain of text, calls and arguments."""
        items: list[Item] = []
        if self.ended:
            return items
        self._buffer += text
        while self._advance(items):
            pass
        return items

    def flush(self) -> list[Item]:
        """What was held: text, but for the rest of a call that was begun."""
        rest, self._buffer = self._opening + self._buffer, ""
        self._opening = ""
        if self._state == "arguments" or self.ended:
            return []
        if self._state == "tail":
            rest = rest[_tail_length(rest) :]
            rest = "" if CALL_END.startswith(rest) else rest
        elif self._called and not rest.strip():
            rest = ""
        return [Item("text", rest)] if rest else []

    def _advance(self, items: list[Item]) -> bool:
        """Take one step; False: more input is needed."""
        match self._state:
            case "outside":
                return self._find_call(items)
            case "head":
                return self._read_head(items)
            case "arguments":
                return self._read_arguments(items)
            case "tail":
                return self._read_tail(items)

    def _find_call(self, items: list[Item]) -> bool:
        at = self._buffer.find(CALL)
        edge = at if at >= 0 else _partial_start(self._buffer, CALL)
        settled = len(self._buffer[:edge].rstrip())
        if settled:
            items.append(Item("text", self._buffer[:settled]))
        if at < 0:
            self._buffer = self._buffer[settled:]
            return False
        self._opening = self._buffer[settled : at + len(CALL)]
        self._buffer = self._buffer[at + len(CALL) :]
        self._state = "head"
        return True

    def _read_head(self, items: list[Item]) -> bool:
        stripped = self._buffer.lstrip()
        if stripped and stripped[0] != "{":
            return self._give_back(items)
        head = _HEAD.match(self._buffer)
        if head is not None:
            name = _loads(head.group(1))
            if name not in self._names:
                return self._give_back(items)
            self._begin(items, str(name))
            self._buffer = self._buffer[head.end() :]
            self._state = "arguments"
            self._depth, self._in_string, self._escaped = 0, False, False
            return True
        end = self._buffer.find(CALL_END)
        return end >= 0 and self._read_whole(items, end)

    def _read_whole(self, items: list[Item], end: int) -> bool:
        """A call whose keys stand in another order, or whose arguments are a string or missing."""
        body = _loads(self._buffer[:end])
        name = body.get("name") if isinstance(body, dict) else None
        arguments = body.get("arguments", body.get("parameters", {})) if isinstance(body, dict) else None
        if isinstance(arguments, str):
            arguments = _loads(arguments)
        if name not in self._names or not isinstance(arguments, dict):
            return self._give_back(items)
        self._begin(items, str(name))
        items.append(Item("arguments", json.dumps(arguments, ensure_ascii=False)))
        self._buffer = self._buffer[end:]
        self._state = "tail"
        return True

    def _begin(self, items: list[Item], name: str) -> None:
        items.append(Item("call", name))
        self._called = True
        self._opening = ""

    def _give_back(self, items: list[Item]) -> bool:
        """Not a call: its tag is text, and what follows is read as text again."""
        items.append(Item("text", self._opening))
        self._opening = ""
        self._state = "outside"
        return True

    def _read_arguments(self, items: list[Item]) -> bool:
        end = self._scan()
        if end:
            items.append(Item("arguments", self._buffer[:end]))
            self._buffer = self._buffer[end:]
        if self._depth == 0 and end:
            self._state = "tail"
            return True
        return False

    def _scan(self) -> int:
        """How much of the buffer belongs to the arguments: up to the bracket that closes them, or all of it."""
        text, at = self._buffer, 0
        while at < len(text):
            if self._escaped:
                self._escaped = False
                at += 1
            elif self._in_string:
                at = _end_of(_STRING_REST, text, at)
                if at < len(text):
                    self._escaped = text[at] == "\\"
                    self._in_string = self._escaped
                    at += 1
            else:
                at = _end_of(_OUTSIDE_STRINGS, text, at)
                if at < len(text):
                    character = text[at]
                    at += 1
                    self._in_string = character == '"'
                    self._depth += (character in "{[") - (character in "}]")
                    if self._depth == 0:
                        return at
        return at

    def _read_tail(self, items: list[Item]) -> bool:
        rest = self._buffer[_tail_length(self._buffer) :]
        if rest.startswith(CALL_END):
            self._buffer = rest[len(CALL_END) :]
            self._state = "outside"
            self.ended = not self._parallel
            return not self.ended
        if CALL_END.startswith(rest):
            return False
        self._state = "outside"
        return True


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _tail_length(text: str) -> int:
    """Length of the closing brackets and white space that may stand between arguments and closing tag."""
    return _end_of(_TAIL, text, 0)


def _loads(text: str) -> object:
    """The value of JSON text; None where it isn't any."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value
