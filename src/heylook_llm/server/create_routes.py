"""The routes by which Ollama's clients make models: create, copy, push, and the uploads that a creation is made of."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from heylook_llm.catalog import hub
from heylook_llm.catalog.blobs import Upload, digest_of
from heylook_llm.catalog.pull import Progress
from heylook_llm.errors import BadRequest, NotFound, UnsupportedFeature
from heylook_llm.server.creations import Creations
from heylook_llm.server.endpoint import Endpoint, Server, json_response, read_body
from heylook_llm.server.generate import while_connected
from heylook_llm.server.offloop import off_loop
from heylook_llm.server.pull_routes import lines
from heylook_llm.server.pulls import final
from heylook_llm.server.wire import ollama, ollama_create
from heylook_llm.server.wire.exchange import ignored_header

PIECE_BYTES: Final = 1 << 20
"""An upload is hashed and written in pieces so large, each in a thread."""
_NO_REGISTRY: Final = "This server pushes to no registry: copy the model's file, or share its repository, yourself."
_NO_MODELS_FILE: Final = "This server follows no models.yaml: models neither come nor go while it runs."


class _NoBlob(NotFound):
    """No file of this digest was uploaded."""

    default_code = "blob_not_found"


async def ollama_create_model(server: Server, request: Request) -> Response:
    """Make a model of another, or of uploaded files, with what it begins with; streamed, a line for each step."""
    body = await read_body(request, server.options.limits.max_body_bytes)
    order = await off_loop(len(body), ollama_create.parse_create, body, digest_of)
    headers = dict(ignored_header(order.ignored))
    progress = _creations(server).create(order)
    if not order.stream:
        await while_connected(request.receive, final(progress))
        return Response(ollama.pull_line("success"), 200, headers, "application/json")
    first = await while_connected(request.receive, _first(progress))
    return StreamingResponse(lines([first], progress), 200, headers, ollama.NDJSON)


async def _first(progress: AsyncGenerator[Progress, None]) -> Progress:
    """The first step: what fails until then keeps its status."""
    return await anext(progress)


async def ollama_copy_model(server: Server, request: Request) -> Response:
    """Give a model a second name; its files are shared, and stay until the last of their models goes."""
    body = await read_body(request, server.options.limits.max_body_bytes)
    source, destination = await off_loop(len(body), ollama_create.parse_copy, body)
    await _creations(server).copy(source, destination)
    return Response(b"", 200)


async def ollama_push_model(server: Server, request: Request) -> Response:
    """There is no registry to push to, so what is asked rightly is refused: copy the model's file yourself."""
    body = await read_body(request, server.options.limits.max_body_bytes)
    name = await off_loop(len(body), ollama_create.parse_push, body)
    server.backend.resolve(name)
    raise UnsupportedFeature(_NO_REGISTRY, param="model")


async def ollama_find_blob(server: Server, request: Request) -> Response:
    """Whether a file was uploaded."""
    digest = digest_of(request.path_params["digest"])
    if not await asyncio.to_thread(_creations(server).blobs.path(digest).is_file):
        raise _NoBlob(f"There is no blob sha256:{digest}.")
    return Response(b"", 200)


async def ollama_upload_blob(server: Server, request: Request) -> Response:
    """Take a file, which must be the one that its digest names."""
    digest = digest_of(request.path_params["digest"])
    blobs = _creations(server).blobs
    if await asyncio.to_thread(blobs.path(digest).is_file):
        await _read_past(request)
        return Response(b"", 200)
    length = request.headers.get("content-length", "")
    begun = await asyncio.to_thread(blobs.upload, digest, int(length) if length.isdecimal() else None)
    try:
        await _received(request, begun)
    finally:
        await asyncio.to_thread(begun.__exit__, None, None, None)
    return Response(b"", 201)


async def _received(request: Request, upload: Upload) -> None:
    """The body into a file. Raises BadRequest, InsufficientStorage."""
    pending = bytearray()
    try:
        async for chunk in request.stream():
            pending += chunk
            if len(pending) >= PIECE_BYTES:
                piece, pending = bytes(pending), bytearray()
                await asyncio.to_thread(upload.append, piece)
    except ClientDisconnect as error:
        raise BadRequest("The client left before its upload was complete.", code="incomplete_body") from error
    await asyncio.to_thread(upload.append, bytes(pending))
    await asyncio.to_thread(upload.finish)


async def _read_past(request: Request) -> None:
    """A client that sends what is there already hears so when it has sent it: many read no answer before."""
    try:
        async for _ in request.stream():
            pass
    except ClientDisconnect as error:
        raise BadRequest("The client left before its upload was complete.", code="incomplete_body") from error


async def ollama_status(server: Server, request: Request) -> Response:
    """There is no cloud behind this server."""
    return json_response({"cloud": {"disabled": True, "source": "config"}}, media_type=ollama.JSON)


async def ollama_recommendations(server: Server, request: Request) -> Response:
    """Models that can be pulled by a short name."""
    told = [{"model": name, "description": repository} for name, repository in hub.SHORT_NAMES.items()]
    return json_response({"recommendations": told}, media_type=ollama.JSON)


def _creations(server: Server) -> Creations:
    if server.options.creations is None:
        raise UnsupportedFeature(_NO_MODELS_FILE)
    return server.options.creations


OLLAMA: Final = (
    Endpoint(
        "POST",
        "/api/create",
        ollama_create_model,
        "admin",
        "Make a model",
        "Ollama.CreateBody",
        {"model": "pirate", "from": "heylook-tiny", "system": "You are a pirate.", "stream": False},
        media_type="application/x-ndjson",
    ),
    Endpoint(
        "POST",
        "/api/copy",
        ollama_copy_model,
        "admin",
        "Copy a model",
        "Ollama.CopyBody",
        {"source": "heylook-tiny", "destination": "gpt-3.5-turbo"},
    ),
    Endpoint(
        "POST", "/api/push", ollama_push_model, "admin", f"Refused: {_NO_REGISTRY}", "Ollama.PushBody", refused=True
    ),
    Endpoint("HEAD", "/api/blobs/{digest}", ollama_find_blob, "admin", "Whether a file was uploaded"),
    Endpoint(
        "POST",
        "/api/blobs/{digest}",
        ollama_upload_blob,
        "admin",
        "Upload a file",
        "Ollama.Blob",
        body_type="application/octet-stream",
    ),
    Endpoint("GET", "/api/status", ollama_status, "use", "Whether there is a cloud", response="Reply.OllamaStatus"),
    Endpoint(
        "GET",
        "/api/experimental/model-recommendations",
        ollama_recommendations,
        "use",
        "Models that can be pulled by a short name",
        response="Reply.OllamaRecommendations",
    ),
)
