"""An answer as the items and events of the Responses API: items in a row, one open at a time, every event numbered."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from heylook_llm import core
from heylook_llm.server.wire import jsontext
from heylook_llm.server.wire.openai_words import token_logprob
from heylook_llm.server.wire.responses_items import Item, item_id, sealed
from heylook_llm.server.wire.responses_prompt import Origin, custom_input

Piece = core.Text | core.Reasoning | core.ToolCallStart | core.ToolCallArgs
Status = Literal["completed", "incomplete"]
Kind = Literal["text", "reasoning", "summary"]


class _Part(NamedTuple):
    """How a text that comes piece by piece is told."""

    item: str
    """The item's type."""
    holder: str
    """The item's list that holds it."""
    position: str
    type: str
    added: str
    delta: str
    done: str
    closed: str
    """The event that ends the part."""


_PARTS: Final[dict[Kind, _Part]] = {
    "text": _Part(
        "message",
        "content",
        "content_index",
        "output_text",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
    ),
    "reasoning": _Part(
        "reasoning",
        "content",
        "content_index",
        "reasoning_text",
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
    ),
    "summary": _Part(
        "reasoning",
        "summary",
        "summary_index",
        "summary_text",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
    ),
}


class Manner(NamedTuple):
    """How a client wants its answer told."""

    random: str
    """What its items' ids are made of."""
    origins: Mapping[str, Origin] = MappingProxyType({})
    """What the tools are to the client, by the names that the model knows."""
    summary: bool = False
    """The reasoning comes as its summary."""
    sealed: bool = False
    """... and packed, to be sent back."""


class Events:
    """Numbers events and encodes them."""

    def __init__(self) -> None:
        self.count = 0

    def tell(self, kind: str, **fields: Any) -> bytes:
        """An event."""
        body = jsontext.encode({"type": kind, "sequence_number": self.count, **fields})
        self.count += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)

    def numbered(self, frame: tuple[bytes, bytes, bytes], text: str) -> bytes:
        """An event of a text within a frame."""
        begin, head, tail = frame
        number, self.count = self.count, self.count + 1
        return b"%b%d%b%b%b" % (begin, number, head, jsontext.quoted(text), tail)


def frame_of(kind: str, **fields: Any) -> tuple[bytes, bytes, bytes]:
    """An event cut at its number and at its text "\\0", so that a stream only has to put these between the parts."""
    begin = b'event: %b\ndata: {"type":"%b","sequence_number":' % (kind.encode(), kind.encode())
    head, _, tail = jsontext.encode(fields).partition(b'"\\u0000"')
    return begin, b"," + head[1:], tail + b"\n\n"


class Output:
    """The items of one answer. Pure: takes pieces, gives bytes, and holds what they come to."""

    def __init__(self, events: Events, manner: Manner) -> None:
        self._events = events
        self._manner = manner
        self._done: list[Item] = []
        self._open: _OpenText | _OpenCall | None = None

    def feed(self, piece: Piece) -> bytes:
        """The events of a piece of the answer."""
        match piece:
            case core.Text():
                return self._text("text", piece)
            case core.Reasoning():
                return self._text("summary" if self._manner.summary else "reasoning", piece)
            case core.ToolCallStart():
                ended = self.close("completed")
                origin = self._manner.origins.get(piece.name, Origin(piece.name))
                self._open = _OpenCall(self._events, self._place, self._manner.random, piece.id, origin)
                return ended + self._open.begin()
            case core.ToolCallArgs():
                return self._open.add(piece.text) if isinstance(self._open, _OpenCall) and piece.text else b""

    def _text(self, kind: Kind, piece: core.Text | core.Reasoning) -> bytes:
        logprobs = piece.logprobs if kind == "text" else ()
        if not piece.text and not logprobs:
            return b""
        begun = b""
        if not (isinstance(self._open, _OpenText) and self._open.kind == kind):
            begun = self.close("completed")
            self._open = _OpenText(self._events, self._place, self._manner, kind)
            begun += self._open.begin()
        return begun + self._open.add(piece.text, logprobs)

    @property
    def _place(self) -> int:
        return len(self._done)

    def close(self, status: Status) -> bytes:
        """End the open item, if there is one."""
        if self._open is None:
            return b""
        item, ended = self._open.end(status)
        self._done.append(item)
        self._open = None
        return ended

    def items(self) -> list[Item]:
        """What there is so far; an open item is incomplete."""
        return [*self._done, *([] if self._open is None else [self._open.item("incomplete")])]


class _OpenText:
    """A message or a reasoning while its text comes."""

    def __init__(self, events: Events, place: int, manner: Manner, kind: Kind) -> None:
        self.kind = kind
        self._part = _PARTS[kind]
        self._events = events
        self._manner = manner
        self._texts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._id = item_id(self._part.item, manner.random, f"{place:x}")
        self._of_item = {"output_index": place}
        self._of_part = {"item_id": self._id, "output_index": place, self._part.position: 0}
        more: dict[str, Any] = {"logprobs": []} if kind == "text" else {}
        self._frame = frame_of(self._part.delta, **self._of_part, delta="\0", **more)

    def begin(self) -> bytes:
        """The events that begin it."""
        tell = self._events.tell
        return tell("response.output_item.added", **self._of_item, item=self._item("in_progress", [])) + tell(
            self._part.added, **self._of_part, part=self._told_part("", [])
        )

    def add(self, text: str, logprobs: Iterable[core.TokenLogprob]) -> bytes:
        """The event of more text."""
        self._texts.append(text)
        told = [token_logprob(token) for token in logprobs]
        if not told:
            return self._events.numbered(self._frame, text)
        self._logprobs += told
        return self._events.tell(self._part.delta, **self._of_part, delta=text, logprobs=told)

    def end(self, status: Status) -> tuple[Item, bytes]:
        """The whole item, and the events that end it."""
        tell, text = self._events.tell, "".join(self._texts)
        more: dict[str, Any] = {"logprobs": self._logprobs} if self.kind == "text" else {}
        item = self.item(status)
        events = (
            tell(self._part.done, **self._of_part, text=text, **more),
            tell(self._part.closed, **self._of_part, part=self._told_part(text, self._logprobs)),
            tell("response.output_item.done", **self._of_item, item=item),
        )
        return item, b"".join(events)

    def item(self, status: Status) -> Item:
        """It, as far as it has come."""
        return self._item(status, [self._told_part("".join(self._texts), self._logprobs)])

    def _told_part(self, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        told: dict[str, Any] = {"type": self._part.type, "text": text}
        if self.kind == "text":
            told |= {"annotations": [], "logprobs": logprobs}
        return told

    def _item(self, status: str, parts: list[dict[str, Any]]) -> Item:
        if self.kind == "text":
            return {"id": self._id, "type": "message", "status": status, "role": "assistant", "content": parts}
        told: Item = {"id": self._id, "type": "reasoning", "summary": []} | {self._part.holder: parts}
        if self._manner.sealed:
            told["encrypted_content"] = sealed("".join(self._texts)) if parts else None
        return told


class _OpenCall:
    """A call while its arguments come; those of a custom tool are told at once, for they are wrapped in JSON."""

    def __init__(self, events: Events, place: int, random: str, call_id: str, origin: Origin) -> None:
        self._events = events
        self._origin = origin
        self._type = "custom_tool_call" if origin.custom else "function_call"
        self._field = "input" if origin.custom else "arguments"
        self._texts: list[str] = []
        self._call_id = call_id
        self._id = item_id(self._type, random, f"{place:x}")
        self._of_item = {"output_index": place}
        self._of_part = {"item_id": self._id, "output_index": place}
        self._delta = "response.custom_tool_call_input" if origin.custom else "response.function_call_arguments"
        self._frame = frame_of(f"{self._delta}.delta", **self._of_part, delta="\0")

    def begin(self) -> bytes:
        """The event that begins it."""
        return self._events.tell("response.output_item.added", **self._of_item, item=self._item("in_progress", ""))

    def add(self, text: str) -> bytes:
        """The event of more of its arguments."""
        self._texts.append(text)
        return b"" if self._origin.custom else self._events.numbered(self._frame, text)

    def end(self, status: Status) -> tuple[Item, bytes]:
        """The whole item, and the events that end it."""
        tell, text, item = self._events.tell, self._told(), self.item(status)
        begun = self._events.numbered(self._frame, text) if self._origin.custom else b""
        name = {} if self._origin.custom else {"name": self._origin.name}
        done = tell(f"{self._delta}.done", **self._of_part, **name, **{self._field: text})
        return item, begun + done + tell("response.output_item.done", **self._of_item, item=item)

    def _told(self) -> str:
        whole = "".join(self._texts)
        return custom_input(whole) if self._origin.custom else whole

    def item(self, status: Status) -> Item:
        """It, as far as it has come."""
        return self._item(status, self._told())

    def _item(self, status: str, text: str) -> Item:
        space = {} if self._origin.namespace is None else {"namespace": self._origin.namespace}
        return {
            "id": self._id,
            "type": self._type,
            "status": status,
            "call_id": self._call_id,
            "name": self._origin.name,
            **space,
            self._field: text,
        }
