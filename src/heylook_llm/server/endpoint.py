"""What an endpoint is: a row of the route table, and what its handler is given."""

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from heylook_llm import config
from heylook_llm.errors import BadRequest, Overloaded
from heylook_llm.server import packed
from heylook_llm.server.backend import Backend
from heylook_llm.server.batches import Batches
from heylook_llm.server.cards import Cards
from heylook_llm.server.creations import Creations
from heylook_llm.server.generate import Generation, Pace, Place
from heylook_llm.server.guard import REQUEST_ID, Access, GuardOptions
from heylook_llm.server.imports import Imports
from heylook_llm.server.inward import BACKGROUND, LOWEST_PRIORITY, Inward
from heylook_llm.server.machine import Machine
from heylook_llm.server.media import MediaOptions
from heylook_llm.server.offloop import off_loop
from heylook_llm.server.performance.recorder import Recorder
from heylook_llm.server.pulls import Pulls
from heylook_llm.server.reload import RegistryWatch
from heylook_llm.server.responses_kept import Responses
from heylook_llm.server.responses_store import ResponseStore
from heylook_llm.server.wire import jsontext, table
from heylook_llm.server.wire.exchange import Adapting, Arrival, Bounds, Exchange, Question, Reply, ignored_header

Asking = TypeVar("Asking", bound=Question)
Api = Literal["openai", "ollama", "both"]
Handler = Callable[["Server", Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Options:
    """How the server is set up."""

    api: Api = "both"
    guard: GuardOptions = field(default_factory=GuardOptions)
    limits: config.Limits = field(default_factory=config.Limits)
    pace: Pace = field(default_factory=Pace)
    registry: RegistryWatch | None = None
    """What follows models.yaml; None: it is read once."""
    media: MediaOptions = field(default_factory=MediaOptions)
    pulls: Pulls | None = None
    """What fetches and deletes models; None: they neither come nor go."""
    creations: Creations | None = None
    """What makes and copies models, and takes their files; None: as above."""
    imports: Imports | None = None
    """What finds the models of this machine; None: as above."""
    data_folder: Path | None = None
    """Where files and batches are kept; None: in a temporary folder, as long as the server runs."""
    recorder: Recorder | None = None
    """What keeps finished requests; None: memory does, as long as the server runs."""
    responses: ResponseStore | None = None
    """What keeps responses; None: as above."""
    record_text: bool = False
    """Whether it keeps what was asked and answered, too."""
    machine: Machine | None = None
    """The machine, as its owner says and its counters tell; None: as it is found."""
    schemas: Callable[[], dict[str, Any]] = dict
    """The schemas, by their full names, that the routes of others than us name in the OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Server:
    """What every handler may use."""

    backend: Backend
    options: Options
    place: Place
    cards: Cards
    inward: Inward
    batches: Batches
    responses: Responses
    machine: Machine
    refused: frozenset[str] = frozenset()
    """Paths that are only there to be refused."""
    started_at: float = field(default_factory=time.time)
    """Wall clock, seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter behind the question mark, which may be left out."""

    name: str
    what: str
    values: tuple[str, ...] = ()
    """All that it may be; empty: any text."""
    kind: Literal["string", "integer"] = "string"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the route table."""

    methods: str
    """Verbs, joined by spaces."""
    path: str
    handler: Handler
    access: Access
    summary: str
    body: str = ""
    """Name of the body's schema in the OpenAPI document."""
    example: dict[str, Any] = field(default_factory=dict)
    """A body that runs against the bundled model."""
    pictured: dict[str, Any] = field(default_factory=dict)
    """One with an image, which runs against the bundled model that sees."""
    media_type: str = "application/json"
    body_type: str = "application/json"
    aliases: tuple[str, ...] = ()
    """More paths of it, which other servers have; the OpenAPI document leaves them out."""
    query: tuple[Query, ...] = ()
    response: str = ""
    """Name of the reply's schema in the OpenAPI document."""
    refused: bool = False
    """Clients ask for it, and get an error that says what to do instead."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Its path and its aliases."""
        return (self.path, *self.aliases)

    @property
    def operation(self) -> str:
        """A stable, readable operation id: the handler's name."""
        return getattr(self.handler, "__name__", "")


@dataclass(frozen=True, slots=True)
class Socket:
    """A route that is a WebSocket. OpenAPI has no word for these."""

    path: str
    handler: Callable[["Server", WebSocket], Awaitable[None]]
    access: Access


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The body, unpacked, its limit enforced while it arrives. Raises TooLarge; UnsupportedEncoding, BadRequest."""
    unpacker = packed.unpacker(request.headers.getlist("content-encoding"), limit_bytes)
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limit_bytes:
        raise packed.too_large(limit_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk if unpacker is None else await off_loop(packed.MOST_RATIO * len(chunk), unpacker.feed, chunk)
            if len(body) > limit_bytes:
                raise packed.too_large(limit_bytes)
    except ClientDisconnect as error:
        raise BadRequest("The client left before its body was complete.", code="incomplete_body") from error
    if unpacker is not None:
        unpacker.end()
    return bytes(body)


async def object_body(server: Server, request: Request) -> dict[str, Any]:
    """The body, which may be empty."""
    body = await read_body(request, server.options.limits.max_body_bytes)
    value = await off_loop(len(body), jsontext.decode, body) if body.strip() else {}
    if not isinstance(value, dict):
        raise BadRequest(f"The request body must be a JSON object, not {table.kind_of(value)}.", code="invalid_type")
    return value


def arrival(server: Server, request: Request) -> Arrival:
    """What is known of a request before its body is read. Raises Overloaded when the queue is full."""
    limits = server.options.limits
    if server.place.in_flight.waiting(limits.max_queue) >= max(1, limits.max_queue):
        wait = 1 + secrets.randbelow(4)
        raise Overloaded(f"{limits.max_queue} requests are waiting; try again in {wait} s.", retry_after_seconds=wait)
    return Arrival(
        id=request.scope.get(REQUEST_ID) or "req_" + secrets.token_hex(16),
        received_ns=time.monotonic_ns(),
        created=int(time.time()),
        bounds=Bounds(
            max_n=limits.max_n, max_stop=limits.max_stop, max_tools=limits.max_tools, max_inputs=limits.max_inputs
        ),
        default_model=server.backend.default_model,
    )


async def understood(server: Server, request: Request, parse: Callable[[bytes, Arrival], Asking]) -> Asking:
    """What a body asks, in its dialect. Raises ModelNotFound before anything is loaded."""
    known = arrival(server, request)
    body = await read_body(request, server.options.limits.max_body_bytes)
    question = await off_loop(len(body), parse, body, known)
    check(server, request, question)
    return question


def check(server: Server, request: Request, question: Question) -> None:
    """Whether there is the model of a question; one of a batch yields to all others. Raises ModelNotFound."""
    if request.scope.get(BACKGROUND):
        asked = question.asked
        quiet = msgspec.structs.replace(asked.request, priority=LOWEST_PRIORITY)
        question.asked = msgspec.structs.replace(asked, request=quiet)
    server.backend.resolve(question.asked.request.model)


async def generation(
    server: Server, request: Request, parse: Callable[[bytes, Arrival], Exchange], route: str
) -> Generation:
    """The response of a generating route."""
    return await generating(server, await understood(server, request, parse), route)


async def generating(server: Server, exchange: Exchange, route: str) -> Generation:
    """The response to a body that is understood."""
    await refuse_blind(server, exchange)
    return Generation(exchange, route, server.place, ignored_header(exchange.asked.ignored))


async def refuse_blind(server: Server, question: Adapting) -> None:
    """Refuse images that can't be had, or whose model is known not to see, before any is fetched.

    Raises BadRequest, UnsupportedFeature.
    """
    asked = question.asked
    if not asked.pictures:
        return
    info = (await server.cards.one(asked.request.model)).info
    if info is not None and info.capabilities:
        question.adapt(info)
    server.place.images.check(asked.pictures)


def respond(reply: Reply) -> Response:
    """A wire reply as a response."""
    return Response(reply.body, reply.status, dict(reply.headers), reply.media_type)


def json_response(value: Any, status: int = 200, media_type: str = "application/json") -> Response:
    """A value as JSON."""
    return Response(jsontext.encode(value), status, None, media_type)
