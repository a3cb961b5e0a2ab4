"""The routes by which models come and go, in the Ollama dialect."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from heylook_llm.catalog.pull import Progress
from heylook_llm.errors import HeylookError, UnsupportedFeature
from heylook_llm.server.endpoint import Server, read_body
from heylook_llm.server.generate import while_connected
from heylook_llm.server.offloop import off_loop
from heylook_llm.server.pulls import Pulls, final
from heylook_llm.server.wire import ollama, table
from heylook_llm.server.wire.exchange import ignored_header


async def ollama_pull(server: Server, request: Request) -> Response:
    """Fetch a model from a Hugging Face hub and serve it; streamed, a line for each step."""
    body = await read_body(request, server.options.limits.max_body_bytes)
    fields = await off_loop(len(body), ollama.parse_pull, body)
    headers = dict(ignored_header(table.told(fields)))
    progress = pulls_of(server).pull(fields.model or fields.name)
    if not fields.stream:
        await while_connected(request.receive, final(progress))
        return Response(ollama.pull_line("success"), 200, headers, ollama.JSON)
    begun = await while_connected(request.receive, _begun(progress))
    return StreamingResponse(lines(begun, progress), 200, headers, ollama.NDJSON)


async def _begun(progress: AsyncGenerator[Progress, None]) -> list[Progress]:
    """The first steps, up to the one after the manifest: what fails until then keeps its status."""
    first = [await anext(progress)]
    try:
        first.append(await anext(progress))
    except BaseException:
        await progress.aclose()
        raise
    return first


async def lines(begun: list[Progress], progress: AsyncGenerator[Progress, None]) -> AsyncGenerator[bytes, None]:
    """A line for each step, those that have begun and the rest; an error is the last."""
    async with aclosing(progress):
        for step in begun:
            yield _line(step)
        try:
            async for step in progress:
                yield _line(step)
        except HeylookError as error:
            yield bytes(ollama.error(error).body) + b"\n"


def _line(step: Progress) -> bytes:
    return ollama.pull_line(step.status, step.digest, step.total_bytes, step.done_bytes)


async def ollama_delete(server: Server, request: Request) -> Response:
    """Take a model out of the registry; its files go where a pull brought them, and stay where you put them."""
    body = await read_body(request, server.options.limits.max_body_bytes)
    name = await off_loop(len(body), ollama.parse_delete, body)
    await pulls_of(server).delete(name)
    return Response(b"", 200)


def pulls_of(server: Server) -> Pulls:
    """What fetches and deletes models. Raises UnsupportedFeature."""
    if server.options.pulls is None:
        raise UnsupportedFeature("This server follows no models.yaml: models neither come nor go while it runs.")
    return server.options.pulls
