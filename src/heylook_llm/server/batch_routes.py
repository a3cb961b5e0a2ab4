"""OpenAI's routes for files and for batches of requests in the background."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm.errors import BadRequest, UnsupportedFeature
from heylook_llm.server.batch_store import Store
from heylook_llm.server.endpoint import Endpoint, Query, Server, json_response, read_body
from heylook_llm.server.offloop import off_loop
from heylook_llm.server.wire import openai_batches, table
from heylook_llm.server.wire.exchange import ignored_header
from heylook_llm.server.wire.openai_batches import Batch, File

MAX_PAGE: Final = 10_000
BATCHES_PAGE: Final = 20


async def create_file(server: Server, request: Request) -> Response:
    """Keep a file of requests, one JSON object a line: custom_id, method, url, body."""
    body = await read_body(request, server.options.limits.max_body_bytes)
    content_type = request.headers.get("content-type", "")
    upload = await off_loop(len(body), openai_batches.parse_upload, body, content_type)
    return json_response((await server.batches.upload(upload)).told())


async def list_files(server: Server, request: Request) -> Response:
    """The files, the newest first."""
    files = await server.batches.ask(Store.files)
    wanted, order = request.query_params.get("purpose"), request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise BadRequest("Invalid value for 'order': it must be asc or desc.", param="order")
    chosen = [file for file in files if wanted in (None, file.purpose)]
    return json_response(_page(chosen if order == "desc" else chosen[::-1], request, MAX_PAGE))


async def retrieve_file(server: Server, request: Request) -> Response:
    """One file, without its bytes."""
    return json_response((await server.batches.ask(Store.file, request.path_params["file_id"])).told())


async def retrieve_file_content(server: Server, request: Request) -> Response:
    """The bytes of a file."""
    data: bytes = await server.batches.ask(Store.read, request.path_params["file_id"])
    return Response(data, media_type="application/jsonl")


async def delete_file(server: Server, request: Request) -> Response:
    """Delete a file that no batch reads."""
    identity = request.path_params["file_id"]
    await server.batches.delete_file(identity)
    return json_response({"id": identity, "object": "file", "deleted": True})


async def create_batch(server: Server, request: Request) -> Response:
    """Answer the requests of a file in the background, behind all that somebody waits for."""
    body = await read_body(request, server.options.limits.max_body_bytes)
    fields = await off_loop(len(body), openai_batches.parse_batch, body)
    if fields.endpoint in server.refused:
        raise UnsupportedFeature(f"{fields.endpoint} is not offered.", param="endpoint")
    response = json_response((await server.batches.create(fields)).told())
    response.headers.update(dict(ignored_header(table.told(fields))))
    return response


async def list_batches(server: Server, request: Request) -> Response:
    """The batches, the newest first."""
    return json_response(_page(await server.batches.ask(Store.batches), request, BATCHES_PAGE))


async def retrieve_batch(server: Server, request: Request) -> Response:
    """One batch, and how far it is."""
    return json_response((await server.batches.ask(Store.batch, request.path_params["batch_id"])).told())


async def cancel_batch(server: Server, request: Request) -> Response:
    """Ask no more of a batch's requests; what was answered stays."""
    return json_response((await server.batches.cancel(request.path_params["batch_id"])).told())


def _page(items: list[File] | list[Batch], request: Request, default: int) -> dict[str, Any]:
    """Those behind `after`, at most `limit`."""
    given, after = request.query_params.get("limit"), request.query_params.get("after")
    if given is not None and not (
        given.isascii() and given.isdigit() and len(given) < 6 and 1 <= int(given) <= MAX_PAGE
    ):
        raise BadRequest(f"Invalid value for 'limit': it must be from 1 to {MAX_PAGE}.", param="limit")
    start = 0
    if after is not None:
        ids = [item.id for item in items]
        if after not in ids:
            raise BadRequest(f"Invalid value for 'after': there is no '{after[:100]}' in the list.", param="after")
        start = ids.index(after) + 1
    end = start + (default if given is None else int(given))
    shown = [item.told() for item in items[start:end]]
    ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {"first_id": None, "last_id": None}
    return {"object": "list", "data": shown, **ends, "has_more": end < len(items)}


_PAGE: Final = (
    Query("limit", "At most so many.", kind="integer"),
    Query("after", "Those behind this one."),
)
ROUTES: Final = (
    Endpoint(
        "POST",
        "/v1/files",
        create_file,
        "use",
        "Keep a file",
        "OpenAI.FileForm",
        body_type="multipart/form-data",
        response="Reply.File",
    ),
    Endpoint(
        "GET",
        "/v1/files",
        list_files,
        "use",
        "The files",
        query=(
            Query("purpose", "Only files of this purpose.", (openai_batches.PURPOSE, openai_batches.OUTPUT)),
            Query("order", "By age.", ("asc", "desc")),
            *_PAGE,
        ),
        response="Reply.Files",
    ),
    Endpoint("GET", "/v1/files/{file_id}", retrieve_file, "use", "One file", response="Reply.File"),
    Endpoint("DELETE", "/v1/files/{file_id}", delete_file, "use", "Delete a file", response="Reply.Deleted"),
    Endpoint(
        "GET",
        "/v1/files/{file_id}/content",
        retrieve_file_content,
        "use",
        "The bytes of a file",
        media_type="application/jsonl",
    ),
    Endpoint(
        "POST", "/v1/batches", create_batch, "use", "Answer many later", "OpenAI.BatchBody", response="Reply.Batch"
    ),
    Endpoint("GET", "/v1/batches", list_batches, "use", "The batches", query=_PAGE, response="Reply.Batches"),
    Endpoint("GET", "/v1/batches/{batch_id}", retrieve_batch, "use", "One batch", response="Reply.Batch"),
    Endpoint("POST", "/v1/batches/{batch_id}/cancel", cancel_batch, "use", "Cancel a batch", response="Reply.Batch"),
)
