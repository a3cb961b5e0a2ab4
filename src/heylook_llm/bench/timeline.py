"""Stamped bytes to a sample: pure, and only after the stream's end, so that reading disturbs no stamp.

An event happened when the bytes arrived that completed it, however they were split. What an event says is the
dialect's matter (`targets/`).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, Literal, NamedTuple, Protocol

import httptools
import msgspec

from heylook_llm.bench.sample import Outcome, Phase, packed_stamps, packed_tokens

Framing = Literal["sse", "ndjson", "json"]
"""json: the body is one event, which happened when its last byte came."""
LONGEST_MESSAGE: Final = 500
"""Characters of a target's error that are kept."""
MOST_TIMINGS: Final = 16_384
"""Characters of what a target says of its own times."""
LONGEST_LINE: Final = 1 << 20
"""Bytes of a stream's event; a longer one is none."""
MOST_LINES: Final = 1 << 20
MOST_EVENTS: Final = 1 << 18
"""Of an answer; none has so many tokens, and whoever reads them does nothing else meanwhile."""
MOST_TOKENS: Final = 1 << 40
"""A target that counts more than this, or less than none, counts nothing."""


class Exchange(msgspec.Struct, frozen=True, array_like=True):
    """What crossed the wire for one request, as the sender saw it."""

    ordinal: int
    attempt: int
    phase: Phase
    outcome: Outcome
    """Of the transport alone: ok, if the answer came to its end."""
    error_class: str | None
    t_due: int
    t_start: int
    t_end: int
    t_dns: int | None = None
    t_tcp: int | None = None
    t_tls: int | None = None
    t_sent: int | None = None
    tape: tuple[tuple[int, bytes], ...] = ()
    """What was received, with its stamps: the head, too, and the framing of HTTP."""


class Event(NamedTuple):
    """One event of a stream."""

    at: int
    name: str
    data: str


class Piece(msgspec.Struct, frozen=True):
    """What one event says."""

    text: str = ""
    reasoning: str = ""
    call: str = ""
    """Of a tool's call: its name or a part of its arguments."""
    tokens: int | None = None
    """How many tokens it holds, where it says so."""
    finish: str | None = None
    error: str | None = None
    ended: bool = False
    """Whether the stream is complete with it."""
    in_usage: int | None = None
    out_usage: int | None = None
    cached: int | None = None
    reasoning_tokens: int | None = None
    in_engine: int | None = None
    out_engine: int | None = None
    identity: str | None = None
    results: int | None = None
    """Vectors or scores."""
    timings: dict[str, Any] | None = None
    """What the target says of its own times, in its own words."""


class Reader(Protocol):
    """A dialect's half of reading."""

    framing: Framing

    def read(self, event: Event) -> Piece | None:
        """What an event says; None: nothing. Raises ValueError, KeyError or TypeError for what isn't the dialect's."""


class Measured(msgspec.Struct, frozen=True):
    """The fields of a sample that the bytes decide; named as there."""

    outcome: Outcome
    error_class: str | None = None
    http_status: int | None = None
    finish_reason: str | None = None
    t_headers: int | None = None
    t_first_event: int | None = None
    t_first_token: int | None = None
    t_first_visible: int | None = None
    t_last_token: int | None = None
    chunk_times: bytes = b""
    chunk_tokens: bytes = b""
    bytes_in: int = 0
    in_usage: int | None = None
    in_engine: int | None = None
    cached: int | None = None
    out_usage: int | None = None
    out_engine: int | None = None
    reasoning: int | None = None
    server_request_id: str | None = None
    output_sha256: str | None = None
    extra_json: str | None = None
    output: str = ""
    """The answer's whole text, reasoning first; not kept."""
    visible: str = ""
    """Its text alone, as the next turn of a conversation holds it."""
    results: int | None = None
    """Vectors or scores that it holds."""


class Response:
    """An HTTP answer taken apart: its body in pieces, each with its stamp."""

    def __init__(self, tape: Iterable[tuple[int, bytes]]) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.pieces: list[tuple[int, bytes]] = []
        self.whole = False
        self.broken = False
        self._at = 0
        self._parser = httptools.HttpResponseParser(self)
        try:
            for self._at, data in tape:
                self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnicodeDecodeError):
            self.broken = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of the parser's calls, as the next three."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.pieces.append((self._at, body))

    def on_message_complete(self) -> None:
        self.whole = True


def lines(pieces: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Lines, each with the stamp of the bytes that ended it; the last needn't be ended. Ends: LF, CR LF or CR."""
    begun, at, after_cr = list[bytes](), 0, False
    for at, given in pieces:
        data = given[1:] if after_cr and given.startswith(b"\n") else given
        after_cr = given.endswith(b"\r")
        *ended, rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if ended:
            ended[0] = b"".join((*begun, ended[0]))  # once a line, in however many pieces it came
            begun = []
        for line in ended:
            yield at, line
        begun.append(rest)
    if any(begun):
        yield at, b"".join(begun)


def sse(pieces: Iterable[tuple[int, bytes]]) -> Iterator[Event]:
    """The events of an event stream; comments are none, and one that isn't ended by an empty line didn't happen."""
    name, data = "", list[str]()
    for at, line in islice(lines(pieces), MOST_LINES):
        if not line:
            if data:
                yield Event(at, name, "\n".join(data))
            name, data = "", []
            continue
        field, _, value = line[:LONGEST_LINE].decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value


def ndjson(pieces: Iterable[tuple[int, bytes]]) -> Iterator[Event]:
    """Lines of JSON."""
    for at, line in islice(lines(pieces), MOST_LINES):
        if line.strip():
            yield Event(at, "", line[:LONGEST_LINE].decode("utf-8", "replace"))


def whole(pieces: Iterable[tuple[int, bytes]]) -> Iterator[Event]:
    """The body at once."""
    found = list(pieces)
    if found:
        yield Event(found[-1][0], "", b"".join(data for _, data in found).decode("utf-8", "replace"))


_FRAMINGS: Final = {"sse": sse, "ndjson": ndjson, "json": whole}


def measure(exchange: Exchange, reader: Reader) -> Measured:
    """What the bytes of an exchange say."""
    response = Response(exchange.tape)
    story = _Story(reader)
    if response.status == 200:
        story.tell(_FRAMINGS[reader.framing](response.pieces))
    outcome, error_class = _verdict(exchange, response, story)
    return story.measured(exchange, response, outcome, error_class)


def counted_input(reader: Reader, body: bytes) -> int | None:
    """How many tokens an answer says that its prompt had; None: it doesn't."""
    story = _Story(reader)
    story.tell(_FRAMINGS[reader.framing]([(0, body)]))
    return story.input_tokens


def _verdict(  # noqa: PLR0911 (a table)
    exchange: Exchange, response: Response, story: "_Story"
) -> tuple[Outcome, str | None]:
    """How it ended: what we did to it comes first, then what the target says, then what it left out."""
    if exchange.outcome in ("timeout", "cancelled", "cut"):
        return exchange.outcome, exchange.error_class
    if exchange.error_class == "flood":
        return "error", "flood"
    if response.status is not None and response.status != 200:
        return "error", f"http_{response.status}"
    if story.error is not None:
        return "error", "in_stream"
    if exchange.outcome == "error":
        return "error", exchange.error_class
    if response.broken or response.status is None:
        return "error", "protocol"
    if story.unreadable:
        return "error", "unreadable"
    if not story.whole:
        return "error", "truncated"
    return "ok", None


class _Story:
    """What the events of one stream add up to."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.error: str | None = None
        self.unreadable = False
        self._ended = False
        self._first_event: int | None = None
        self._first_visible: int | None = None
        self._times: list[int] = []
        self._counts: list[int | None] = []
        self._texts: list[str] = []
        self._visible: list[str] = []
        self._said: dict[str, Any] = {}
        """The last that was said of each field."""

    def tell(self, events: Iterable[Event]) -> None:
        """Go through all."""
        for number, event in enumerate(events):
            if number >= MOST_EVENTS:
                self.unreadable = True
                return
            try:
                piece = self._reader.read(event)
                if piece is not None:
                    self._take(event.at, piece)
            except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, StopIteration):
                self.unreadable = True

    def _take(self, at: int, piece: Piece) -> None:
        self.error = self.error or piece.error
        self._ended |= piece.ended
        if not _is_possible(piece):
            self.unreadable = True
            return
        if self._first_event is None:
            self._first_event = at
        if piece.text or piece.call:
            self._first_visible = self._first_visible or at
        if piece.text or piece.reasoning or piece.call:
            self._times.append(at)
            self._counts.append(piece.tokens)
            self._texts.append(piece.reasoning + piece.text + piece.call)
            self._visible.append(piece.text)
        for name in _SAID:
            if (value := getattr(piece, name)) is not None:
                self._said[name] = value

    @property
    def whole(self) -> bool:
        """Whether it came to its end, and said something before: an end alone is no answer."""
        return self._ended and (bool(self._times) or "finish" in self._said or "results" in self._said)

    @property
    def input_tokens(self) -> int | None:
        """By the engine, else by `usage`."""
        told: int | None = self._said.get("in_engine", self._said.get("in_usage"))
        return told

    def measured(self, exchange: Exchange, response: Response, outcome: Outcome, error_class: str | None) -> Measured:
        """All together."""
        said, output = self._said, "".join(self._texts)
        return Measured(
            outcome=outcome,
            error_class=error_class,
            http_status=response.status,
            finish_reason=_kept(said.get("finish")),
            t_headers=exchange.tape[0][0] if exchange.tape else None,
            t_first_event=self._first_event if self._reader.framing != "json" else _first_byte(response),
            t_first_token=self._times[0] if self._times else None,
            t_first_visible=self._first_visible,
            t_last_token=self._times[-1] if self._times else None,
            chunk_times=packed_stamps(self._times),
            chunk_tokens=self._tokens(),
            bytes_in=sum(len(data) for _, data in exchange.tape),
            in_usage=said.get("in_usage"),
            in_engine=said.get("in_engine"),
            cached=said.get("cached"),
            out_usage=said.get("out_usage"),
            out_engine=said.get("out_engine"),
            reasoning=said.get("reasoning_tokens"),
            server_request_id=_kept(response.headers.get("x-request-id") or said.get("identity")),
            output_sha256=hashlib.sha256(output.encode("utf-8", "replace")).hexdigest() if self._times else None,
            extra_json=_extra(said.get("timings"), self.error or _refusal(response)),
            output=output,
            visible="".join(self._visible).encode("utf-8", "replace").decode(),
            results=said.get("results"),
        )

    def _tokens(self) -> bytes:
        """Tokens of each chunk: as they say, else one each where there are as many as the target counted."""
        counts = [count for count in self._counts if count is not None]
        if counts and len(counts) == len(self._times):
            return packed_tokens(counts)
        if self._said.get("out_usage") == len(self._times):
            return packed_tokens([1] * len(self._times))
        return b""


_COUNTS: Final = ("in_usage", "out_usage", "cached", "reasoning_tokens", "in_engine", "out_engine", "tokens")
_SAID: Final = (*_COUNTS[:-1], "finish", "identity", "timings", "results")


def _is_possible(piece: Piece) -> bool:
    """Whether what strangers tell can be: they count -1 or 1e308 tokens, and worse."""
    counts = (getattr(piece, name) for name in _COUNTS)
    said = (text for text in (piece.finish, piece.identity) if text is not None)
    return all(count is None or (type(count) is int and 0 <= count < MOST_TOKENS) for count in counts) and all(
        isinstance(text, str) for text in (piece.text, piece.reasoning, piece.call, *said)
    )


def _kept(text: str | None) -> str | None:
    """A stranger's word as a file takes it: no halves of characters, not endless."""
    return None if text is None else text[:LONGEST_MESSAGE].encode("utf-8", "replace").decode()


def _first_byte(response: Response) -> int | None:
    """Of the body."""
    return response.pieces[0][0] if response.pieces else None


def _extra(timings: dict[str, Any] | None, error: str | None) -> str | None:
    told: dict[str, Any] = {}
    if timings is not None and _is_json(timings):
        told["timings"] = timings
    if error:
        told["error"] = _kept(error)
    return json.dumps(told) if told else None


def _is_json(timings: dict[str, Any]) -> bool:
    """Whether it can be kept: of bounded size, with numbers that there are and whole characters."""
    try:
        text = json.dumps(timings, allow_nan=False)
        msgspec.json.decode(text)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return False
    return len(text) <= MOST_TIMINGS


def _refusal(response: Response) -> str | None:
    """The message of an answer that is an error."""
    if response.status in (None, 200):
        return None
    body = b"".join(data for _, data in response.pieces).decode("utf-8", "replace")
    return error_text(body) or body.strip() or None


def error_text(body: str) -> str | None:
    """What an error's JSON says, in any dialect; None: it is none."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return str(error.get("message", error) if isinstance(error, dict) else error)
