"""The one path of every generation: acquire, generate, stream or fold, cancel when the client leaves."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from heylook_llm import config, core
from heylook_llm.errors import (
    BadRequest,
    Cancelled,
    ContextLengthExceeded,
    EngineError,
    HeylookError,
    ModelNotFound,
    NotFound,
    ProtocolError,
)
from heylook_llm.server.backend import Backend, Lease
from heylook_llm.server.images import Images
from heylook_llm.server.performance import telling, texts
from heylook_llm.server.performance.energy_meter import EnergyMeter
from heylook_llm.server.performance.live import Feed
from heylook_llm.server.performance.minute_log import MinuteLog
from heylook_llm.server.performance.phases import server_timing
from heylook_llm.server.performance.prometheus import Metrics
from heylook_llm.server.performance.record import Finished, Labels, Outcome, Texts, labels_of
from heylook_llm.server.performance.recorder import Recorder
from heylook_llm.server.precompile import Precompile
from heylook_llm.server.wire.exchange import Exchange, Question, Reply, ignored_header, truncation_headers

log = logging.getLogger(__name__)

ABORT: Final = "heylook.abort"
"""Scope extension of our HTTP protocol: `call` drops the connection without flushing it."""
FRAMES: Final = "heylook.frames"
"""The same of our WebSockets: `write` puts frames on the connection and says whether it took them, `abort` drops it."""
LONGEST_TOKEN_BYTES: Final = 512
"""No vocabulary has a longer piece; a prompt of more bytes than this times the context can't fit."""
LONGEST_KEEP_ALIVE_SECONDS: Final = 100 * 365 * 86400
"""Beyond this it is for ever: clocks and dates have an end."""

SERVER_TIMING: Final = "server-timing"

T = TypeVar("T")
State = Literal["reading", "waiting", "prefill", "generating", "replying"]
"""reading: its images are fetched and decoded. waiting: for a model, or a place in it."""


class Pace(msgspec.Struct, frozen=True):
    """How long a stream may be silent, and a reader may stall."""

    silence_seconds: float = 5.0
    """After so long without a byte, once generation has begun, a comment is sent."""
    stall_seconds: float = 60.0
    """A client that reads nothing for so long is dropped."""
    tick_seconds: float = 1.0


class Entry:
    """One request in flight, as the admin API sees it."""

    def __init__(self, question: Question, route: str, task: "asyncio.Task[Any]") -> None:
        self.question = question
        self.route = route
        self.state: State = "waiting"
        self.started = time.time()
        self.output_tokens = 0
        self.processed_tokens = 0
        self.total_tokens: int | None = None
        self._task = task
        self._ended = False
        self.verdict: Outcome | None = None

    def cancel(self, verdict: Outcome) -> None:
        """End it: by its client's leaving, or by an operator, whose cancelling its client is told."""
        if self.verdict is None and not self._ended:
            self.verdict = verdict
            self._task.cancel()

    @property
    def open(self) -> bool:
        """Whether it still runs."""
        return not self._ended and self.verdict is None

    def ended(self) -> None:
        """From now on it can't be cancelled."""
        self._ended = True

    def told(self) -> dict[str, Any]:
        """What GET /v1/requests says of it."""
        request = self.question.asked.request
        return {
            "id": request.id,
            "object": "request",
            "model": request.model,
            "route": self.route,
            "state": self.state,
            "stream": self.question.asked.stream,
            "created": int(self.started),
            "seconds": round(time.time() - self.started, 3),
            "choices": len(request.prompts) * request.n,
            "prompt_tokens": self.total_tokens,
            "processed_tokens": self.processed_tokens,
            "output_tokens": self.output_tokens,
        }


class InFlight:
    """The requests that are being answered."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def add(self, entry: Entry) -> None:
        """It begins."""
        self._entries[entry.question.asked.request.id] = entry

    def discard(self, entry: Entry) -> None:
        """It ended."""
        entry.ended()
        self._entries.pop(entry.question.asked.request.id, None)

    def all(self) -> list[Entry]:
        """Oldest first."""
        return list(self._entries.values())

    def waiting(self, at_least: int) -> int:
        """How many wait for a model or a place in it; 0 while fewer than `at_least` are in flight at all."""
        if len(self._entries) < at_least:
            return 0
        return sum(entry.state == "waiting" for entry in self._entries.values())

    def find(self, identity: str) -> Entry:
        """By its id, or by the id of the completion it makes. Raises NotFound."""
        entry = self._entries.get("req_" + identity.rpartition("-")[2].removeprefix("req_"))
        if entry is None:
            raise NotFound(f"There is no request '{identity[:64]}' in flight.", code="request_not_found")
        return entry


class Place(NamedTuple):
    """Where requests are answered and noted."""

    backend: Backend
    in_flight: InFlight
    performance: Recorder
    metrics: Metrics
    pace: Pace
    precompile: Precompile
    images: Images
    live: Feed
    energy: EnergyMeter
    minutes: MinuteLog
    record_text: bool = False
    """Whether what was asked and answered is kept, too."""


class Answering(Response):
    """An ASGI response that asks a model while it answers.

    Until the first byte an error keeps its status. The task that runs it is cancelled when the client leaves, and that
    ends what was asked of the model and gives the lease back.
    """

    def __init__(
        self,
        question: Question,
        route: str,
        place: "Place",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.background = None  # what FastAPI reads of a Response
        self._asked = question.asked
        self._question = question
        self._route = route
        self._backend = place.backend
        self._in_flight = place.in_flight
        self._performance = place.performance
        self._metrics = place.metrics
        self._precompile = place.precompile
        self._images = place.images
        self._live = place.live
        self._energy = place.energy
        self._answers: dict[int, list[str]] | None = {} if place.record_text else None
        self._ended: list[core.Timeline] = []
        """Of each choice that ended, where their steps are wanted for their energy."""
        self._pace = place.pace
        self._extra = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]
        self._stamps: dict[str, Any] = {
            "received_ns": self._asked.request.received_ns,
            "parsed_ns": time.monotonic_ns(),
        }
        self._timeline = core.Timeline()
        self._usages: dict[int, core.Usage] = {}
        self._labels = Labels()
        self._flush_ns = 0
        self._all_tokens_ns: int | None = None
        self._status = 200
        self._last_sent = time.monotonic()
        self._sending = False
        self._abort: Callable[[], None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. Never raises for what a client or a model does."""
        task = asyncio.current_task()
        assert task is not None
        self._send = send
        self._labels = labels_of(scope["headers"])
        self._abort = scope.get("extensions", {}).get(ABORT, {}).get("call")
        self._entry = Entry(self._question, self._route, task)
        self._in_flight.add(self._entry)
        self._live.publish("request.started", self._started)
        spec = self._spec()
        model = self._asked.request.model if spec is None else spec.id
        self._energy.enter(model)
        watch = asyncio.create_task(_watch(receive, self._entry))
        timer = asyncio.get_running_loop().call_later(self._pace.tick_seconds, self._tick)
        self._timer = timer
        try:
            problem = await self._outcome(task)
            if problem is not None and self._entry.verdict != "disconnected":
                await self._say(problem)
            self._record(problem)
        finally:
            self._energy.leave(model)
            self._timer.cancel()
            watch.cancel()

    def _started(self) -> dict[str, Any]:
        """What the live feed tells of its beginning."""
        return {"request": {**self._entry.told(), **msgspec.structs.asdict(self._labels)}}

    async def _outcome(self, task: "asyncio.Task[Any]") -> HeylookError | None:
        """Answer; the error that ended it, or None."""
        try:
            await self._answer()
        except asyncio.CancelledError:
            if self._entry.verdict is None or task.uncancel() > 0:
                raise
            return Cancelled("The request was cancelled by an operator.")
        except HeylookError as error:
            return error
        except Exception:
            log.exception("request %s failed", self._asked.request.id)
            return EngineError("The server failed in a way it did not expect; its log says more.")
        finally:
            self._in_flight.discard(self._entry)
            await self._filled()
        return None

    async def _answer(self) -> None:
        """Ask the model and send its answer."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def _leased(self) -> AsyncIterator[Lease]:
        """The lease on the model that was asked for, with the stamps of its load."""
        asked = self._asked
        self._stamps["ready_ns"] = time.monotonic_ns()
        holding = self._backend.acquire(
            asked.request.model,
            keep_alive_seconds=keep_alive_seconds(asked.keep_alive),
            n_ctx=asked.request.n_ctx,
            priority=asked.request.priority,
        )
        async with holding as lease:
            if lease.load_ns is not None:
                self._stamps["load_start_ns"], self._stamps["load_end_ns"] = lease.load_ns
            yield lease

    def _stamped(self, timeline: core.Timeline) -> core.Timeline:
        stamps = {"closed_ns": time.monotonic_ns(), **self._stamps}
        if timeline.submitted_ns is not None:
            stamps["submitted_ns"] = timeline.submitted_ns
        return msgspec.structs.replace(timeline, **stamps)

    # ---- bytes out ----

    async def _reply(self, reply: Reply) -> None:
        self._status = reply.status
        self._sending, self._last_sent = True, time.monotonic()
        extra = [(name.encode(), value.encode()) for name, value in reply.headers]
        headers = [
            (b"content-type", reply.media_type.encode()),
            (b"content-length", str(len(reply.body)).encode()),
            *extra,
            *self._extra,
        ]
        # before it goes: a client may have read it all before this task runs again
        begin = self._stamps["closed_ns"] = time.monotonic_ns()
        await self._send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": reply.body, "more_body": False})
        self._flush_ns += time.monotonic_ns() - begin
        self._sending = False

    async def _say(self, problem: HeylookError) -> None:
        """The error, with its status."""
        await self._reply(self._question.error(problem))

    def _tick(self) -> None:
        """Called every tick: drop a reader that has stalled."""
        self._timer = asyncio.get_running_loop().call_later(self._pace.tick_seconds, self._tick)
        quiet = time.monotonic() - self._last_sent
        if not self._sending:
            self._silent(quiet)
        elif quiet > self._pace.stall_seconds:
            self._drop(quiet)

    def _silent(self, seconds: float) -> None:
        """Nothing was sent for so long."""

    async def _filled(self) -> None:
        """Wait until nobody else writes."""

    def _drop(self, quiet_seconds: float) -> None:
        log.info("request %s: its client read nothing for %.0f s", self._asked.request.id, quiet_seconds)
        self._entry.cancel("disconnected")
        if self._abort is not None:
            self._abort()

    # ---- the end ----

    def _record(self, problem: HeylookError | None) -> None:
        outcome: Outcome = self._entry.verdict or ("done" if problem is None else "error")
        request = self._asked.request
        spec = self._spec()
        now = self._performance.now()
        finished = Finished(
            id=request.id,
            model=request.model if spec is None else spec.id,
            route=self._route,
            outcome=outcome,
            status=499 if outcome == "disconnected" else self._status,
            error=None if problem is None else problem.code,
            finished_at=now.wall,
            timeline=self._whole_timeline(),
            usage=core.total_usage([used for _, used in sorted(self._usages.items())], request.n),
            first=self._usages.get(0, core.Usage()),
            choices=len(request.prompts) * request.n,
            provider=None if spec is None else spec.provider,
            stream=self._asked.stream,
            labels=self._labels,
            clock=now.clock,
            finished_boot=now.boot,
            energy=self._energy.share(self._ended),
            texts=self._texts(),
        )
        self._performance.record(finished)
        self._metrics.observe(finished)
        self._live.publish("request.finished", lambda: {"request": telling.brief(finished)})

    def _whole_timeline(self) -> core.Timeline:
        """Choice 0's, with the last token of all choices and what the socket made it wait."""
        return msgspec.structs.replace(
            self._stamped(self._timeline),
            all_tokens_ns=self._all_tokens_ns,
            flush_ns=self._flush_ns if "first_byte_ns" in self._stamps else None,
        )

    def _texts(self) -> Texts | None:
        if self._answers is None:
            return None
        answers = ("".join(pieces) for _, pieces in sorted(self._answers.items()))
        return Texts("\n\n".join(map(texts.of_prompt, self._asked.request.prompts)), "\n\n".join(answers))

    def _spec(self) -> config.ModelSpec | None:
        """The entry of the model that was asked; None: it has left the registry meanwhile."""
        try:
            return self._backend.resolve(self._asked.request.model)
        except ModelNotFound:
            return None


class Generation(Answering):
    """Generates while it answers: a stream, or a whole reply. Closing the generator is how it is cancelled."""

    def __init__(
        self,
        exchange: Exchange,
        route: str,
        place: "Place",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(exchange, route, place, headers)
        self._exchange = exchange
        self._begun = False
        self._first_event = False
        self._dropped_tokens = 0
        """Of the prompt, as is known before the answer begins."""
        self._filler: asyncio.Task[None] | None = None
        self._ignored: set[str] = set()
        self._latest: core.Progress | None = None
        """Of the first choice."""
        self._last_given_ns: int | None = None

    # ---- acquire and generate ----

    async def _answer(self) -> None:
        self._ignore(await self._precompile.check(self._asked.request))
        await self._read_images()
        async with self._leased() as lease:
            request = prepare(self._exchange, lease.info)
            self._ignore(self._exchange.unheeded)
            self._stamps["submitted_ns"] = time.monotonic_ns()
            async with contextlib.aclosing(lease.generate(request)) as steps:
                await (self._stream(steps, request) if self._asked.stream else self._whole(steps, request))

    async def _read_images(self) -> None:
        """Put the images into the prompt, before anybody's place is taken for it."""
        if not self._asked.pictures:
            return
        self._entry.state = "reading"
        self._asked = self._exchange.asked = await self._images.read(self._asked)
        self._stamps["images_ns"] = time.monotonic_ns()
        self._entry.state = "waiting"

    def _ignore(self, names: tuple[str, ...]) -> None:
        """Say in the reply's header that these had no effect."""
        new = [name for name in names if name not in self._ignored]
        self._ignored.update(new)
        self._extra += [(name.encode(), value.encode()) for name, value in ignored_header(new)]

    async def _stream(self, steps: AsyncGenerator[tuple[core.Event, ...], None], request: core.Request) -> None:
        open_choices = request.n * len(request.prompts)
        feed = self._exchange.feed
        async for events in steps:
            wall_ns = time.time_ns()
            pieces = []
            for event in events:
                if isinstance(event, core.Done):
                    open_choices -= 1
                pieces.append(feed(self._seen(event), wall_ns))
            if not open_choices:
                break
            chunk = b"".join(pieces)
            if chunk:
                await self._write(chunk)
        if open_choices:
            raise ProtocolError("The engine's stream ended before the answer did.")
        self._entry.ended()
        await self._write(b"".join(pieces) + self._exchange.end(), last=True)

    async def _whole(self, steps: AsyncGenerator[tuple[core.Event, ...], None], request: core.Request) -> None:
        fold = core.Fold(request.n, len(request.prompts))
        async for events in steps:
            for event in events:
                fold.feed(self._seen(event))
            if fold.ended:
                break
        body = self._exchange.reply(fold.result(), time.time_ns())
        self._entry.ended()
        self._entry.state = "replying"
        self._stamps.setdefault("first_byte_ns", time.monotonic_ns())
        cut = truncation_headers(self._timeline.dropped_tokens)
        await self._reply(Reply(body, headers=(*cut, (SERVER_TIMING, server_timing(self._whole_timeline())))))

    def _seen(self, event: core.Event) -> core.Event:
        """Take note of an event; a Done gets the server's stamps."""
        entry = self._entry
        self._first_event = True
        match event:
            case core.Done():
                entry.state = "replying"
                self._usages[event.choice] = event.usage
                event = msgspec.structs.replace(event, timeline=self._stamped(event.timeline))
                if event.choice == 0:
                    self._timeline = event.timeline
                if self._energy.counts:
                    self._ended.append(event.timeline)
                ends = (self._all_tokens_ns, event.timeline.last_token_ns)
                self._all_tokens_ns = max((end for end in ends if end is not None), default=None)
            case core.Progress():
                self._see_progress(event)
            case core.Failed():
                raise event.error.exception()
            case _:
                entry.state = "generating"
                entry.output_tokens += len(event.tokens)
                self._last_given_ns = time.monotonic_ns()
                if self._answers is not None:
                    self._answers.setdefault(event.choice, []).append(texts.of_event(event))
        return event

    def _see_progress(self, event: core.Progress) -> None:
        entry = self._entry
        if not event.choice:
            self._latest = event
        if event.times is None or event.times.output_tokens <= 1:
            entry.state = "prefill"
            entry.processed_tokens, entry.total_tokens = event.processed_tokens, event.total_tokens
            self._dropped_tokens = event.dropped_tokens
        if event.left_out and not event.choice:  # known before the first byte
            self._ignore(tuple(f"schema:{keyword}".replace(" ", "_") for keyword in event.left_out))

    def _record(self, problem: HeylookError | None) -> None:
        if 0 not in self._usages and self._latest is not None and self._latest.times is not None:
            self._note_early_end(self._latest, self._latest.times)
        super()._record(problem)

    def _note_early_end(self, latest: core.Progress, times: core.Times) -> None:
        """Of an answer that was stopped: the worker's stamps so far, and what had come of it here."""
        self._timeline = msgspec.structs.replace(
            self._timeline,
            rendered_ns=times.rendered_ns,
            tokenized_ns=times.tokenized_ns,
            queued_ns=times.queued_ns,
            admitted_ns=times.admitted_ns,
            first_token_ns=times.first_token_ns,
            last_token_ns=self._last_given_ns,
            cached_tokens=latest.cached_tokens,
            dropped_tokens=latest.dropped_tokens,
        )
        others = sum(usage.output_tokens for usage in self._usages.values())
        given = self._entry.output_tokens - others
        self._usages[0] = core.Usage(latest.total_tokens, latest.cached_tokens, given)

    # ---- bytes out ----

    async def _write(self, body: bytes, *, last: bool = False) -> None:
        if self._filler is not None:
            await self._filled()
        await self._send_chunk(body, last=last)

    async def _send_chunk(self, body: bytes, *, last: bool = False) -> None:
        self._sending = True
        self._last_sent = time.monotonic()
        begin = time.monotonic_ns()
        if not self._begun:
            await self._begin()
        if last:
            self._stamps["closed_ns"] = time.monotonic_ns()
        await self._send({"type": "http.response.body", "body": body, "more_body": not last})
        self._flush_ns += time.monotonic_ns() - begin
        self._sending = False
        self._last_sent = time.monotonic()

    async def _begin(self) -> None:
        self._begun = True
        self._stamps["first_byte_ns"] = time.monotonic_ns()
        timing = server_timing(core.Timeline(**self._stamps))
        headers = [
            (b"content-type", self._exchange.stream_media_type.encode()),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *((name.encode(), value.encode()) for name, value in truncation_headers(self._dropped_tokens)),
            (SERVER_TIMING.encode(), timing.encode()),
            *self._extra,
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _reply(self, reply: Reply) -> None:
        self._begun = True
        await super()._reply(reply)

    async def _say(self, problem: HeylookError) -> None:
        """The error, with its status if no byte was sent yet, else as the stream's last word."""
        if self._begun:
            await self._write(self._exchange.failure(problem), last=True)
        else:
            await self._reply(self._exchange.error(problem))

    def _silent(self, seconds: float) -> None:
        """Fill a silence within a stream."""
        if self._may_fill and seconds > self._pace.silence_seconds:
            self._filler = asyncio.create_task(self._send_chunk(self._exchange.silence(time.time_ns())))

    @property
    def _may_fill(self) -> bool:
        streaming = self._first_event and self._asked.stream
        return streaming and self._filler is None and self._entry.open

    async def _filled(self) -> None:
        """Wait for the comment that the timer began to send, so that only one writes at a time."""
        if self._filler is not None:
            filler, self._filler = self._filler, None
            await filler


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of work that ends when its client leaves. Raises Cancelled then."""
    task = asyncio.ensure_future(work)
    watch = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Cancelled("The client left.")
        return task.result()
    finally:
        watch.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _watch(receive: Receive, entry: Entry) -> None:
    """Cancel the request when its client leaves. The body is read by now, so nothing else can arrive."""
    await _left(receive)
    entry.cancel("disconnected")


def prepare(exchange: Exchange, info: core.ModelInfo) -> core.Request:
    """The Request for the model that is leased, its prompt checked for a length that can't fit."""
    request = exchange.adapt(info)
    size = max(_prompt_bytes(prompt) for prompt in request.prompts)
    least = size // LONGEST_TOKEN_BYTES
    if request.truncate == "refuse" and least > info.n_ctx:
        raise ContextLengthExceeded(
            f"This model's maximum context length is {info.n_ctx} tokens. However, your messages resulted in at "
            f"least {least} tokens.",
            limit_tokens=info.n_ctx,
            prompt_tokens=least,
        )
    return request


def _prompt_bytes(prompt: core.Prompt) -> int:
    match prompt:
        case core.ChatPrompt():
            return sum(len(message.text) for message in prompt.messages)
        case core.TextPrompt():
            return len(prompt.text)
        case core.TokenPrompt():
            return len(prompt.tokens)
        case core.MixedPrompt():
            return sum(len(piece) for piece in prompt.pieces if isinstance(piece, str))
        case core.InfillPrompt():
            return 0  # what doesn't fit is left out


def keep_alive_seconds(given: object) -> float | None:
    """Seconds of a `keep_alive`; None leaves the model's idle time as it is. Raises BadRequest."""
    if given is None:
        return None
    try:
        seconds = config.parse_duration(given)
    except ValueError as error:
        raise BadRequest(str(error), param="keep_alive") from error
    return seconds if seconds < LONGEST_KEEP_ALIVE_SECONDS else config.FOREVER
