"""GET /v1/performance/profile, /models and /trace: windows as a whole, the models' history, a trace to replay."""

import functools
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from heylook_llm import core
from heylook_llm.errors import BadRequest, NotFound, TooLarge
from heylook_llm.server.backend import ModelChange
from heylook_llm.server.endpoint import Server, json_response
from heylook_llm.server.performance.database import Database
from heylook_llm.server.performance.minutes import MINUTE_SECONDS, Resources
from heylook_llm.server.performance.models import model_history
from heylook_llm.server.performance.profile import SPANS, Span, first_minute, profile, read
from heylook_llm.server.performance.routes import NDJSON, pages, selection_of
from heylook_llm.server.performance.trace import (
    DEFAULT_BLOCK_TOKENS,
    MOST_BLOCK_TOKENS,
    MOST_REQUESTS,
    Arrivals,
)
from heylook_llm.server.wire import jsontext

CHANGES_OF_A_MODEL: Final = 10_000


async def profile_performance(server: Server, request: Request) -> Response:
    """Where time went in a window, `1h`, `6h`, `24h` or `7d`; what the machine did; which models are slow; trends."""
    given = request.path_params["window"]
    span = next((known for known in SPANS if known == given), None)
    if span is None:
        raise NotFound(f"There is no profile of '{given[:16]}': one of {', '.join(SPANS)}.", code="window_not_found")
    used = await server.place.minutes.resources()
    told = await server.place.performance.ask(functools.partial(_profiled, span, time.time(), used))
    return json_response({"object": "performance.profile", **told})


def _profiled(span: Span, now: float, current: Resources, database: Database) -> dict[str, Any]:
    """In the recorder's thread: of a busy week it takes a while, in which answers go on."""
    used = dict(database.history.resources(first_minute(span, now)))
    used.setdefault(int(now // MINUTE_SECONDS), current)
    return profile(span, now, read(span, now, database.history), used)


async def list_model_history(server: Server, request: Request) -> Response:
    """Every model: how often and how long it was loaded, what it holds and held at most, why it was unloaded."""
    statuses = server.backend.models()
    read = functools.partial(_changes, [status.spec.id for status in statuses])
    changes = await server.place.performance.ask(read)
    return json_response(
        {"object": "list", "data": [model_history(status, changes[status.spec.id]) for status in statuses]}
    )


def _changes(models: list[str], database: Database) -> dict[str, list[ModelChange]]:
    return {model: database.history.changes(model, 0.0, CHANGES_OF_A_MODEL) for model in models}


async def trace_performance(server: Server, request: Request) -> Response:
    """The requests of a window as a trace to replay: a JSON object a line, in the order of arrival, without texts."""
    block_tokens = _block_tokens(request)
    arrivals = Arrivals()
    async for _ in pages(server, selection_of(server, request), arrivals.take):
        if len(arrivals) > MOST_REQUESTS:
            raise TooLarge(f"A trace has at most {MOST_REQUESTS} requests: choose a shorter window, a model or a run.")
    named = {"content-disposition": 'attachment; filename="trace.jsonl"'}
    return StreamingResponse(_lines(arrivals, block_tokens), media_type=NDJSON, headers=named)


async def _lines(arrivals: Arrivals, block_tokens: int) -> AsyncIterator[bytes]:
    for line in arrivals.lines(block_tokens):
        yield jsontext.encode(line) + b"\n"


def _block_tokens(request: Request) -> int:
    given = request.query_params.get("block_tokens", str(DEFAULT_BLOCK_TOKENS))
    value = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    if not (0 < value <= MOST_BLOCK_TOKENS) or value % core.BLOCK_TOKENS:
        raise BadRequest(
            f"'block_tokens' must be a multiple of {core.BLOCK_TOKENS}, at most {MOST_BLOCK_TOKENS}.",
            code="invalid_value",
            param="block_tokens",
        )
    return value
