"""The HTTP program: the route table, and the one place where an error becomes a status."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, get_args

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, compile_path
from starlette.types import Scope
from starlette.websockets import WebSocket

from heylook_llm.errors import BadRequest, EngineError, HeylookError, MethodNotAllowed, NotFound, Overloaded
from heylook_llm.server import (
    admin,
    anthropic_routes,
    batch_routes,
    carried,
    create_routes,
    examples,
    group_routes,
    hardware_routes,
    import_routes,
    llama_routes,
    ollama_routes,
    openai_routes,
    openapi,
    pages,
    pull_routes,
    refused,
    responses_routes,
    settings_routes,
    shell,
    token_routes,
)
from heylook_llm.server.backend import Backend, ModelChange
from heylook_llm.server.batches import Batches
from heylook_llm.server.cards import Cards
from heylook_llm.server.endpoint import Endpoint, Options, Query, Server, Socket, respond
from heylook_llm.server.generate import InFlight, Place
from heylook_llm.server.guard import REQUEST_ID, SECURITY_HEADERS, Access, Guard
from heylook_llm.server.http import COUNT_REFUSAL, COUNTED
from heylook_llm.server.images import Images
from heylook_llm.server.inward import Inward
from heylook_llm.server.literal import PARAMETER, Literal
from heylook_llm.server.machine import Machine
from heylook_llm.server.media import Fetcher
from heylook_llm.server.performance import insight_routes, live_routes, telling
from heylook_llm.server.performance import routes as performance_routes
from heylook_llm.server.performance.energy_meter import EnergyMeter
from heylook_llm.server.performance.live import CHANGES, Feed
from heylook_llm.server.performance.minute_log import MinuteLog
from heylook_llm.server.performance.prometheus import Metrics
from heylook_llm.server.performance.record import Outcome
from heylook_llm.server.performance.recorder import Recorder
from heylook_llm.server.performance.sampler import Sampler
from heylook_llm.server.performance.windows import WINDOWS
from heylook_llm.server.precompile import Precompile
from heylook_llm.server.responses_kept import Responses
from heylook_llm.server.responses_store import ResponseStore
from heylook_llm.server.wire import anthropic, jsontext, llama_server, ollama, openai_words
from heylook_llm.server.wire.exchange import Reply

log = logging.getLogger(__name__)

_TINY: Final = "heylook-tiny"
_HELLO: Final = {"model": _TINY, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
_CONTINUED: Final = {"model": _TINY, "prompt": "1, 2, 3,", "max_tokens": 16}
_COUNT: Final = {"model": _TINY, "prompt": "Count from 1 to 5.", "stream": False}

PAGES: Final = (
    Endpoint("GET HEAD", "/", pages.root, "page", "Whether the server runs", media_type="text/plain"),
    Endpoint(
        "GET HEAD",
        "/ui",
        shell.open_page,
        "page",
        "The web pages",
        media_type="text/html",
        aliases=("/ui/{path:path}",),
    ),
    Endpoint("GET", "/docs", pages.swagger, "page", "This API, to try out", media_type="text/html"),
    Endpoint("GET", "/redoc", pages.read_docs, "page", "This API, to read", media_type="text/html"),
    Endpoint("GET", "/docs/assets/{name}", pages.docs_asset, "open", "A file of those pages", media_type="text/plain"),
    Endpoint(
        "GET HEAD",
        "/health",
        admin.health,
        "open",
        "The server's and each model's state",
        aliases=("/v1/health",),
        response="Reply.Health",
    ),
)
OPENAI: Final = (
    Endpoint(
        "GET HEAD",
        "/v1/models",
        openai_routes.list_models,
        "use",
        "Every model",
        query=(
            Query("limit", "At most so many, 1 to 1000; absent: all.", kind="integer"),
            Query("after_id", "Those behind this one."),
            Query("before_id", "Those before this one."),
        ),
        aliases=("/models",),
        response="Reply.Models",
    ),
    Endpoint(
        "GET", "/v1/models/{model_id:path}", openai_routes.retrieve_model, "use", "One model", response="Reply.Model"
    ),
    Endpoint(
        "DELETE",
        "/v1/models/{model_id:path}",
        openai_routes.delete_model,
        "admin",
        "Delete a model",
        response="Reply.Deleted",
    ),
    Endpoint(
        "POST",
        "/v1/chat/completions",
        openai_routes.create_chat_completion,
        "use",
        "Answer a conversation",
        "OpenAI.ChatBody",
        _HELLO,
        pictured=examples.CHAT,
        aliases=("/chat/completions",),
        response="Reply.ChatAnswer",
    ),
    Endpoint(
        "POST",
        "/v1/chat/completions/multipart",
        openai_routes.create_chat_completion_from_form,
        "use",
        "Answer a conversation with images as files",
        "OpenAI.ChatForm",
        examples.FORM,
        body_type="multipart/form-data",
        response="Reply.ChatAnswer",
    ),
    Endpoint(
        "POST",
        "/v1/completions",
        openai_routes.create_completion,
        "use",
        "Continue a text",
        "OpenAI.CompletionBody",
        _CONTINUED,
        response="Reply.Completion",
    ),
    Endpoint(
        "POST",
        "/v1/embeddings",
        openai_routes.create_embedding,
        "use",
        "Texts to vectors",
        "OpenAI.EmbeddingBody",
        {"model": _TINY, "input": ["Hello, world", "Paris is in France."]},
        response="Reply.Vectors",
    ),
    Endpoint(
        "POST",
        "/v1/rerank",
        openai_routes.rerank_documents,
        "use",
        "Rank documents",
        "OpenAI.RerankBody",
        aliases=("/rerank", "/v1/reranking", "/reranking", "/v2/rerank"),
        response="Reply.Ranking",
    ),
    Endpoint(
        "POST",
        "/tokenize",
        token_routes.tokenize,
        "use",
        "Text to token ids",
        "OpenAI.TokenizeBody",
        {"model": _TINY, "content": "Hello, world"},
        aliases=("/v1/tokenize",),
        response="Reply.TokenIds",
    ),
    Endpoint(
        "POST",
        "/detokenize",
        token_routes.detokenize,
        "use",
        "Token ids to text",
        "OpenAI.DetokenizeBody",
        {"model": _TINY, "tokens": [72, 101]},
        aliases=("/v1/detokenize",),
        response="Reply.Detokenized",
    ),
    Endpoint(
        "POST",
        "/apply-template",
        token_routes.apply_template,
        "use",
        "Messages to the model's prompt",
        "OpenAI.TemplateBody",
        _HELLO,
        response="Reply.Rendered",
    ),
    Endpoint(
        "POST",
        "/v1/chat/completions/input_tokens",
        token_routes.count_input_tokens,
        "use",
        "Tokens of a conversation",
        "OpenAI.ChatBody",
        _HELLO,
        response="Reply.InputTokens",
    ),
    Endpoint(
        "POST",
        "/v1/batch/chat/completions",
        group_routes.create_chat_completion_batch,
        "use",
        "Answer several conversations",
        "OpenAI.ChatBatchBody",
        {"requests": [_HELLO, _HELLO]},
        response="Reply.ChatCompletions",
    ),
    *batch_routes.ROUTES,
    *llama_routes.ROUTES,
    *responses_routes.ROUTES,
    *refused.OPENAI,
)
ANTHROPIC: Final = (
    Endpoint(
        "POST",
        "/v1/messages",
        anthropic_routes.create_message,
        "use",
        "Answer a conversation",
        "Anthropic.MessageBody",
        {**_HELLO, "max_tokens": 64},
        pictured=examples.MESSAGES,
        response="Reply.Message",
    ),
    Endpoint(
        "POST",
        "/v1/messages/count_tokens",
        anthropic_routes.count_message_tokens,
        "use",
        "Tokens of a conversation",
        "Anthropic.CountBody",
        _HELLO,
        response="Reply.MessageTokens",
    ),
    *refused.ANTHROPIC,
)
OLLAMA: Final = (
    Endpoint(
        "GET HEAD",
        "/api/version",
        ollama_routes.ollama_version,
        "use",
        "The API's version",
        response="Reply.OllamaVersion",
    ),
    Endpoint("GET HEAD", "/api/tags", ollama_routes.ollama_tags, "use", "Every model", response="Reply.OllamaTags"),
    Endpoint("GET", "/api/ps", ollama_routes.ollama_ps, "use", "The loaded models", response="Reply.OllamaRunning"),
    Endpoint(
        "POST",
        "/api/show",
        ollama_routes.ollama_show,
        "use",
        "One model",
        "Ollama.ShowBody",
        {"model": _TINY},
        response="Reply.OllamaModel",
    ),
    Endpoint(
        "POST",
        "/api/chat",
        ollama_routes.ollama_chat,
        "use",
        "Answer a conversation",
        "Ollama.ChatBody",
        {**_HELLO, "stream": False},
        response="Reply.OllamaAnswer",
    ),
    Endpoint(
        "POST",
        "/api/generate",
        ollama_routes.ollama_generate,
        "use",
        "Answer a prompt",
        "Ollama.GenerateBody",
        _COUNT,
        pictured=examples.GENERATE,
        response="Reply.OllamaGenerated",
    ),
    Endpoint(
        "POST",
        "/api/embed",
        ollama_routes.ollama_embed,
        "use",
        "Texts to vectors",
        "Ollama.EmbedBody",
        {"model": _TINY, "input": ["Hello, world", "Paris is in France."]},
        response="Reply.OllamaVectors",
    ),
    Endpoint(
        "POST",
        "/api/embeddings",
        ollama_routes.ollama_embeddings,
        "use",
        "One text to a vector",
        "Ollama.EmbeddingsBody",
        {"model": _TINY, "prompt": "Hello, world"},
        response="Reply.OllamaVector",
    ),
    Endpoint(
        "POST",
        "/api/rerank",
        ollama_routes.ollama_rerank,
        "use",
        "Rank documents",
        "OpenAI.RerankBody",
        response="Reply.Ranking",
    ),
    Endpoint(
        "POST",
        "/api/pull",
        pull_routes.ollama_pull,
        "admin",
        "Fetch a model",
        "Ollama.PullBody",
        media_type="application/x-ndjson",
    ),
    Endpoint("DELETE", "/api/delete", pull_routes.ollama_delete, "admin", "Delete a model", "Ollama.DeleteBody"),
    *create_routes.OLLAMA,
    *refused.OLLAMA,
)
ADMIN: Final = (
    Endpoint(
        "POST",
        "/v1/models/import",
        import_routes.import_models,
        "admin",
        "Add the models of this machine",
        "Admin.ImportBody",
        {"hf_cache": True, "dry_run": True},
        response="Reply.Import",
    ),
    Endpoint(
        "GET",
        "/v1/capabilities",
        admin.capabilities,
        "use",
        "What is honoured, ignored and refused",
        response="Reply.Capabilities",
    ),
    Endpoint(
        "POST",
        "/v1/models/{model_id:path}/load",
        admin.load_model,
        "admin",
        "Load a model",
        "Admin.Load",
        {},
        response="Reply.Status",
    ),
    Endpoint(
        "POST",
        "/v1/models/{model_id:path}/unload",
        admin.unload_model,
        "admin",
        "Unload it",
        "Admin.Unload",
        {},
        response="Reply.Status",
    ),
    Endpoint(
        "POST",
        "/v1/models/{model_id:path}/pin",
        admin.pin_model,
        "admin",
        "Pin or unpin it",
        "Admin.Pin",
        {},
        response="Reply.Status",
    ),
    Endpoint(
        "DELETE",
        "/v1/models/{model_id:path}/cache",
        admin.flush_model_cache,
        "admin",
        "Drop its kept prefixes",
        response="Reply.Flushed",
    ),
    Endpoint(
        "GET",
        "/v1/settings",
        settings_routes.describe_settings,
        "admin",
        "What this server was set up with",
        response="Reply.Settings",
    ),
    Endpoint(
        "GET",
        "/v1/settings/models",
        settings_routes.list_model_states,
        "admin",
        "Every model's state, files and memory",
        response="Reply.ModelStates",
    ),
    Endpoint(
        "GET",
        "/v1/settings/models/{model_id:path}",
        settings_routes.describe_model_settings,
        "admin",
        "A model's settings",
        response="Reply.ModelSettings",
    ),
    Endpoint(
        "PATCH",
        "/v1/settings/models/{model_id:path}",
        settings_routes.change_model_settings,
        "admin",
        "Change them",
        "Admin.SettingsBody",
        {"set": {"config.temperature": 0.5}, "dry_run": True},
        response="Reply.ModelSettings",
    ),
    Endpoint("GET", "/v1/requests", admin.list_requests, "admin", "The requests in flight", response="Reply.Requests"),
    Endpoint(
        "GET", "/v1/requests/{request_id}", admin.retrieve_request, "admin", "One of them", response="Reply.Request"
    ),
    Endpoint(
        "DELETE", "/v1/requests/{request_id}", admin.cancel_request, "admin", "Cancel it", response="Reply.Cancelled"
    ),
)
_WINDOW: Final = Query("window", "How far back.", WINDOWS)
_MODEL: Final = Query("model", "Only this model's, by its id.")
_SELECTION: Final = (
    _MODEL,
    Query("outcome", "Only those that ended so.", get_args(Outcome)),
    Query("run_id", "Only those of this run (`X-Run-Id`)."),
    Query("client", "Only those with this tag (`X-Client-Tag`)."),
    Query("client_request_id", "Only those that their client called so (`X-Client-Request-Id`)."),
    _WINDOW,
)
PERFORMANCE: Final = (
    Endpoint(
        "GET",
        "/v1/performance",
        performance_routes.summarize_performance,
        "admin",
        "What was measured lately, per model",
        query=(_WINDOW, _MODEL),
        response="Performance.Summary",
    ),
    Endpoint(
        "DELETE",
        "/v1/performance",
        performance_routes.clear_performance,
        "admin",
        "Delete what is kept",
        response="Performance.Cleared",
    ),
    Endpoint(
        "GET",
        "/v1/performance/requests",
        performance_routes.list_finished_requests,
        "admin",
        "Finished requests",
        query=(
            *_SELECTION,
            Query("limit", "Requests of a page, up to 1000.", kind="integer"),
            Query("before", "`next_before` of the page before.", kind="integer"),
            Query("format", "ndjson: all of them, oldest first, with Timelines.", ("json", "ndjson")),
        ),
        response="Performance.Requests",
    ),
    Endpoint(
        "GET",
        "/v1/performance/requests/{request_id}",
        performance_routes.explain_finished_request,
        "admin",
        "One of them, and why it was slow",
        response="Performance.Explained",
    ),
    Endpoint(
        "GET",
        "/v1/performance/export",
        performance_routes.export_finished_requests,
        "admin",
        "All of them as a file",
        query=(*_SELECTION, Query("format", "Of the file.", ("json", "ndjson", "csv"))),
        response="Performance.Export",
    ),
    Endpoint(
        "POST",
        "/v1/performance/runs/{run_id}/pin",
        performance_routes.pin_run,
        "admin",
        "Keep a run's requests",
        "Admin.Pin",
        {},
        response="Performance.Run",
    ),
    Endpoint(
        "GET",
        "/v1/performance/profile/{window}",
        insight_routes.profile_performance,
        "admin",
        "Where time went: 1h, 6h, 24h or 7d",
        response="Performance.Profile",
    ),
    Endpoint(
        "GET",
        "/v1/performance/models",
        insight_routes.list_model_history,
        "admin",
        "The models' loads and memory",
        response="Performance.Models",
    ),
    Endpoint(
        "GET",
        "/v1/performance/trace",
        insight_routes.trace_performance,
        "admin",
        "A window as a trace to replay",
        query=(
            *_SELECTION,
            Query(
                "block_tokens", "Tokens of a block of `hash_ids`, a multiple of 64; 512 as Mooncake's.", kind="integer"
            ),
        ),
        media_type="application/x-ndjson",
        response="Performance.Trace",
    ),
    Endpoint(
        "GET",
        "/v1/performance/stream",
        live_routes.stream_performance,
        "admin",
        "What happens now, as it happens",
        query=(Query("after", "The id of the last event that was read; `Last-Event-ID` stands above it."),),
        media_type="text/event-stream",
        response="Performance.Live",
    ),
    Endpoint("GET", "/metrics", performance_routes.scrape_metrics, "admin", "For Prometheus", media_type="text/plain"),
)
FOLLOWED: Final = Socket("/v1/performance/ws", live_routes.follow_performance, "admin")
HARDWARE: Final = (
    Endpoint(
        "GET", "/hardware", hardware_routes.describe_hardware, "admin", "The machine", response="Hardware.Inventory"
    ),
    Endpoint(
        "GET",
        "/hardware/live",
        hardware_routes.read_hardware,
        "admin",
        "What it does now",
        response="Hardware.Now",
    ),
)
_DOCUMENT: Final = "/openapi.json"


def endpoints(api: str) -> tuple[Endpoint, ...]:
    """The route table of `--api openai|ollama|both`."""
    ours = (*OPENAI, *ANTHROPIC)
    chosen = {"openai": ours, "ollama": OLLAMA, "both": (*ours, *OLLAMA)}[api]
    return (*PAGES, *ADMIN, *PERFORMANCE, *HARDWARE, *chosen)


def sockets(table: Sequence[Endpoint]) -> tuple[Socket, ...]:
    """The routes that are WebSockets; those that carry a request need what it needs."""
    carriers = (Socket(row.path, carried.carry, row.access) for row in table if row.path in carried.PATHS)
    return (FOLLOWED, *carriers)


def create_app(
    backend: Backend,
    options: Options | None = None,
    extra: Sequence[APIRouter] = (),
    lifespan: Callable[[FastAPI], Any] | None = None,
) -> FastAPI:
    """The server over a backend. Routes of `extra` are admin routes to the guard; `lifespan` is the composer's."""
    options = options or Options()
    recorder = options.recorder or Recorder()
    images = Images(Fetcher(options.media), options.limits)
    in_flight = InFlight()
    metrics = Metrics(backend.models, lambda: len(in_flight.all()), lambda: recorder.dropped)
    machine = options.machine or Machine()
    live = _feed(backend, in_flight, machine)
    energy = EnergyMeter(machine.energy)
    minutes = MinuteLog(machine.meter, backend.models, recorder)
    backend.follow(lambda change: _note(recorder, change))
    place = Place(
        *(backend, in_flight, recorder, metrics, options.pace, Precompile(), images, live, energy, minutes),
        record_text=options.record_text,
    )
    table = endpoints(options.api)
    inward = Inward(options.guard.api_key)
    batches = Batches(inward, options.data_folder)
    refused_paths = frozenset(endpoint.path for endpoint in table if endpoint.refused)
    responses = Responses(options.responses or ResponseStore(), place)
    server = Server(backend, options, place, Cards(backend), inward, batches, responses, machine, refused_paths)

    def count_refusal(code: str) -> None:
        recorder.refuse(code)
        metrics.refuse(code)

    life = _living(batches, place, lifespan, {COUNT_REFUSAL: count_refusal})
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=life, redirect_slashes=True)
    inward.app = app
    for endpoint in table:
        app.router.routes += _routes(server, endpoint)
    for socket in sockets(table):
        _mount_socket(app, server, socket)
    app.router.routes.insert(0, Literal(app.router.routes))
    for router in extra:
        app.include_router(router)
    app.router.routes.append(_route(_DOCUMENT, _document_route(table, extra, options), "GET"))

    def word(error: HeylookError, scope: Scope) -> Reply:
        """An error that no request's row will tell of: it is counted."""
        if not scope.get(COUNTED):
            count_refusal(error.code or "error")
        return worded(options.api, error, scope)

    _catch(app, word)
    app.state.server = server
    app.add_middleware(Guard, options=options.guard, access=_access(table), word=word)
    return app


def _living(
    batches: Batches, place: Place, lifespan: Callable[[FastAPI], Any] | None, state: dict[str, Any]
) -> Callable[[FastAPI], Any]:
    """The composer's life of the app, within which batches go on and the machine is measured; with what HTTP needs."""

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with contextlib.nullcontext() if lifespan is None else lifespan(app), _measuring(place):
            await batches.start()
            yield state
            await batches.close()

    return life


@contextlib.asynccontextmanager
async def _measuring(place: Place) -> AsyncIterator[None]:
    """What is measured all the time; at the end nobody listens any more."""
    tasks = [asyncio.create_task(work) for work in (place.energy.run(), place.minutes.run())]
    try:
        yield
    finally:
        place.live.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _note(recorder: Recorder, change: ModelChange) -> None:
    """Keep what happened to a model; while more comes than can be written it is left out."""
    with contextlib.suppress(Overloaded):
        recorder.question(lambda database: database.history.note_change(change))


def _routes(server: Server, endpoint: Endpoint) -> list[Route]:
    """The routes of a row, one for each method and path: plain ones, since its handler reads the request by itself."""

    async def answer(request: Request) -> Response:
        return await endpoint.handler(server, request)

    return [
        _route(path, answer, method)
        for path in (endpoint.path, *endpoint.aliases)
        for method in endpoint.methods.split()
    ]


def _route(path: str, answer: Callable[[Request], Awaitable[Response]], method: str) -> Route:
    route = Route(path, answer, methods=[method])
    route.methods = {method}  # without the HEAD that Starlette adds to each GET
    return route


def _mount_socket(app: FastAPI, server: Server, socket: Socket) -> None:
    async def converse(websocket: WebSocket) -> None:
        await socket.handler(server, websocket)

    app.add_api_websocket_route(socket.path, converse)


def _feed(backend: Backend, in_flight: InFlight, machine: Machine) -> Feed:
    """The live feed, told of the models' changes, and of a sample each second while somebody listens."""

    def state() -> dict[str, Any]:
        return {
            "requests": [entry.told() for entry in in_flight.all()],
            "models": {status.spec.id: admin.health_of(status) for status in backend.models()},
        }

    feed = Feed(state)
    sampler = Sampler(
        machine.meter,
        backend.models,
        lambda: len(in_flight.all()),
        lambda sample: feed.publish("sample", lambda: {"sample": sample}),
    )
    feed.on_first, feed.on_last = sampler.start, sampler.stop
    backend.follow(lambda change: feed.publish(CHANGES[change.kind], lambda: {"model": telling.change(change)}))
    return feed


def _document_route(
    table: tuple[Endpoint, ...], extra: Sequence[APIRouter], options: Options
) -> Callable[[Request], Awaitable[Response]]:
    """The OpenAPI document, made when it is first asked for: in a thread, since it takes a fifth of a second."""
    made = functools.cache(lambda: jsontext.encode(openapi.document(table, extra, options.schemas())))
    once = asyncio.Lock()

    async def document(request: Request) -> Response:
        async with once:
            body = await asyncio.to_thread(made)
        return respond(Reply(body))

    return document


def _access(table: tuple[Endpoint, ...]) -> Callable[[str, str], Access]:
    """What a method and a path need: what its row says; a route without a row is admin's."""
    rows = [(set(row.methods.split()), compile_path(path)[0], row.access) for row in table for path in row.paths]
    rows += [({"WEBSOCKET"}, compile_path(row.path)[0], row.access) for row in sockets(table)]
    rows.append(({"GET"}, compile_path(_DOCUMENT)[0], "open"))

    def first(method: str, path: str) -> Access:
        for methods, pattern, need in rows:
            if method in methods and pattern.match(path):
                return need
        return "admin"

    literal = {
        (method, path): first(method, path)
        for row in table
        for path in row.paths
        if PARAMETER not in path
        for method in row.methods.split()
    }
    return lambda method, path: literal.get((method, path)) or first(method, path)


# ---- errors ----------------------------------------------------------------------------------------------------------


def worded(api: str, error: HeylookError, scope: Scope) -> Reply:
    """An error in the words of a request's dialect: the one place where it becomes a status."""
    path: str = scope["path"]
    ollamas = path.startswith("/api/") or (api == "ollama" and not path.startswith("/v1/"))
    if _is_anthropics(scope):
        return anthropic.error(error, scope.get(REQUEST_ID, ""))
    if not ollamas:
        return llama_server.error(error) if path in llama_routes.PATHS else openai_words.error(error)
    if type(error) is NotFound and error.code == "unknown_url":
        return Reply(b"404 page not found", 404, "text/plain; charset=utf-8")
    if isinstance(error, MethodNotAllowed):
        return Reply(b"405 method not allowed", 405, "text/plain; charset=utf-8")
    return ollama.error(error)


def _is_anthropics(scope: Scope) -> bool:
    """Whether the Anthropic dialect is spoken: on its own paths, and by its clients on those it shares."""
    path: str = scope["path"]
    if path == "/v1/models" or path.startswith("/v1/models/"):
        return anthropic_routes.is_client(scope)
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def _catch(app: FastAPI, word: Callable[[HeylookError, Scope], Reply]) -> None:
    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, HeylookError)
        return respond(word(error, request.scope))

    async def frameworks(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = respond(word(_known(error, request), request.scope))
        response.headers.update(error.headers or {})
        return response

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        problem = EngineError("The server failed in a way it did not expect; its log says more.")
        response = respond(word(problem, request.scope))
        for name in ("x-request-id", "request-id"):  # the guard stands inside the framework's last resort
            response.headers[name] = request.scope.get(REQUEST_ID, "")
        response.raw_headers.extend(SECURITY_HEADERS)
        return response

    app.add_exception_handler(HeylookError, ours)
    app.add_exception_handler(HTTPException, frameworks)
    app.add_exception_handler(Exception, unexpected)


def _known(error: HTTPException, request: Request) -> HeylookError:
    if error.status_code == 404:
        return NotFound(f"Unknown request URL: {request.method} {request.url.path[:256]}.")
    if error.status_code == 405:
        return MethodNotAllowed(f"Not allowed to {request.method} on {request.url.path[:256]}.")
    return BadRequest(str(error.detail))
