"""GET /v1/performance and what lies below it: summaries, requests, why one was slow, export."""

import csv
import functools
import io
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeVar, get_args

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from heylook_llm.errors import BadRequest, NotFound
from heylook_llm.server.endpoint import Server, json_response, object_body
from heylook_llm.server.performance import telling
from heylook_llm.server.performance.database import Database
from heylook_llm.server.performance.record import MAX_LABEL_CHARACTERS, Finished, Outcome
from heylook_llm.server.performance.selection import Selection, Since
from heylook_llm.server.performance.usual import usual
from heylook_llm.server.performance.verdict import verdict
from heylook_llm.server.performance.windows import SECONDS, WINDOWS, Window, summary
from heylook_llm.server.wire import jsontext

T = TypeVar("T")
DEFAULT_WINDOW: Final[Window] = "1h"
MOST_ROWS: Final = 1_000
EXPORT_ROWS: Final = 200
"""Rows that are read at a time, so that nothing waits long behind an export."""
COMPARED_WITH: Final = 200
MOST_COMPANY: Final = 100
NDJSON: Final = "application/x-ndjson"


async def summarize_performance(server: Server, request: Request) -> Response:
    """Counts, tokens and percentiles per model, of a window: `1m`, `5m`, `1h`, `24h` or `7d`."""
    recorder = server.place.performance
    found = await recorder.ask(summary(_window(request), recorder.now(), request.query_params.get("model")))
    parallel = {status.spec.id: status.info.n_parallel for status in server.backend.models() if status.info}
    for model, told in found["models"].items():
        told["batch_occupancy"] = _occupancy(told["batch_size_mean"], parallel.get(model))
    return json_response({"object": "performance", **found, "dropped_requests": recorder.dropped})


def _occupancy(batch_size: float | None, parallel: int | None) -> float | None:
    """The part of a loaded model's places that its decode steps had in use."""
    return None if batch_size is None or parallel is None else round(batch_size / parallel, 4)


def _window(request: Request) -> Window:
    given = request.query_params.get("window", DEFAULT_WINDOW)
    window = next((known for known in WINDOWS if known == given), None)
    if window is None:
        raise BadRequest(f"'window' must be one of {', '.join(WINDOWS)}.", code="invalid_value", param="window")
    return window


# ---- requests --------------------------------------------------------------------------------------------------------


async def list_finished_requests(server: Server, request: Request) -> Response:
    """Finished requests, newest first, a page at a time; `format=ndjson` gives all, oldest first, with Timelines."""
    chosen = selection_of(server, request)
    if _format(request, "json", ("json", "ndjson")) == "ndjson":
        return _export(server, chosen, "ndjson")
    limit = _number(request, "limit", 100, 1, MOST_ROWS)
    before = _number(request, "before", None, 1, 1 << 62)
    return json_response(await server.place.performance.ask(functools.partial(_listed, chosen, before, limit)))


def _listed(chosen: Selection, before: int | None, limit: int, database: Database) -> dict[str, Any]:
    """A page. Told in the recorder's thread, as all that is told of many: meanwhile answers go on."""
    rows = database.select(chosen, before=before, limit=limit + 1)
    page = rows[:limit]
    more = len(rows) > limit
    return {
        "object": "list",
        "data": [telling.brief(row) for _, row in page],
        "has_more": more,
        "next_before": page[-1][0] if more else None,
    }


async def explain_finished_request(server: Server, request: Request) -> Response:
    """One finished request with its whole Timeline, why it took so long, and who shared the batch."""
    identity = request.path_params["request_id"]
    return json_response(await server.place.performance.ask(_explained(identity)))


def _explained(identity: str) -> Callable[[Database], dict[str, Any]]:
    known = "req_" + identity.rpartition("-")[2].removeprefix("req_")

    def read(database: Database) -> dict[str, Any]:
        row = database.find(known)
        if row is None:
            raise NotFound(f"No finished request '{identity[:64]}' is kept.", code="request_not_found")
        others = database.select(Selection(model=row.model, outcome="done"), limit=COMPARED_WITH)
        typical = usual([other for _, other in others if other.id != row.id])
        return telling.explained(row, verdict(row, typical), database.company(row, MOST_COMPANY))

    return read


async def export_finished_requests(server: Server, request: Request) -> Response:
    """Every kept request, oldest first: `format=json`, `ndjson` (both with Timelines) or `csv`."""
    return _export(server, selection_of(server, request), _format(request, "json", ("json", "ndjson", "csv")))


async def clear_performance(server: Server, request: Request) -> Response:
    """Delete what is kept; requests of pinned runs stay."""
    deleted = await server.place.performance.ask(lambda database: database.clear())
    return json_response({"object": "performance", "deleted": deleted})


async def pin_run(server: Server, request: Request) -> Response:
    """Keep the requests of a run whatever their age and size; `pinned: false` no longer."""
    run, fields = request.path_params["run_id"], await object_body(server, request)
    if len(run) > MAX_LABEL_CHARACTERS:
        raise BadRequest(
            f"A run's id has at most {MAX_LABEL_CHARACTERS} characters.", code="invalid_value", param="run_id"
        )
    pinned = fields.get("pinned", True)
    if not isinstance(pinned, bool):
        raise BadRequest("'pinned' must be true or false.", code="invalid_type", param="pinned")
    await server.place.performance.ask(lambda database: database.pin(run, pinned))
    return json_response({"id": run, "object": "performance.run", "pinned": pinned})


def selection_of(server: Server, request: Request) -> Selection:
    """Which requests a query asks for. Raises BadRequest."""
    given = request.query_params
    outcome = given.get("outcome")
    if outcome is not None and outcome not in get_args(Outcome):
        raise BadRequest(
            f"'outcome' must be one of {', '.join(get_args(Outcome))}.", code="invalid_value", param="outcome"
        )
    since = None
    if "window" in given:
        since = Since(server.place.performance.now(), SECONDS[_window(request)])
    return Selection(
        model=given.get("model"),
        outcome=outcome,
        run_id=given.get("run_id"),
        client=given.get("client"),
        client_request_id=given.get("client_request_id"),
        since=since,
    )


def _format(request: Request, default: str, known: tuple[str, ...]) -> str:
    given = request.query_params.get("format", default)
    if given not in known:
        raise BadRequest(f"'format' must be one of {', '.join(known)}.", code="invalid_value", param="format")
    return given


def _number(request: Request, name: str, default: int | None, least: int, most: int) -> Any:
    given = request.query_params.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 20 and least <= int(given) <= most):
        raise BadRequest(f"'{name}' must be a whole number from {least} to {most}.", code="invalid_value", param=name)
    return int(given)


async def scrape_metrics(server: Server, request: Request) -> Response:
    """What was measured since the server began, for Prometheus."""
    body, media_type = server.place.metrics.exposition(request.headers.get("accept", ""))
    return Response(body, media_type=media_type)


# ---- export ----------------------------------------------------------------------------------------------------------


def _export(server: Server, chosen: Selection, form: str) -> Response:
    kind = {"json": "application/json", "ndjson": NDJSON, "csv": "text/csv; charset=utf-8"}[form]
    write = {"json": _as_json, "ndjson": _as_ndjson, "csv": _as_csv}[form]
    named = {"content-disposition": f'attachment; filename="performance.{form}"'}
    return StreamingResponse(write(server, chosen), media_type=kind, headers=named)


async def pages(server: Server, chosen: Selection, tell: Callable[[list[Finished]], T]) -> AsyncIterator[T]:
    """What was recorded when it began, oldest first, some rows at a time, as `tell` tells them in another thread."""
    ask, after = server.place.performance.ask, 0
    last = await ask(lambda database: database.last())
    while (page := await ask(functools.partial(_page, chosen, after, last, tell))) is not None:
        after, told = page
        yield told


def _page(
    chosen: Selection, after: int, last: int, tell: Callable[[list[Finished]], T], database: Database
) -> tuple[int, T] | None:
    rows = database.select_from(chosen, after, last, EXPORT_ROWS)
    return (rows[-1][0], tell([row for _, row in rows])) if rows else None


async def _as_ndjson(server: Server, chosen: Selection) -> AsyncIterator[bytes]:
    async for lines in pages(server, chosen, lambda rows: b"".join(_line(row) + b"\n" for row in rows)):
        yield lines


async def _as_json(server: Server, chosen: Selection) -> AsyncIterator[bytes]:
    between = b"["
    async for values in pages(server, chosen, lambda rows: b",\n".join(map(_line, rows))):
        yield between + values
        between = b",\n"
    yield b"[]\n" if between == b"[" else b"]\n"


def _line(row: Finished) -> bytes:
    return jsontext.encode(telling.whole(row))


async def _as_csv(server: Server, chosen: Selection) -> AsyncIterator[bytes]:
    first = True
    async for table in pages(server, chosen, _table):
        yield table if first else table.partition(b"\r\n")[2]
        first = False


def _table(rows: list[Finished]) -> bytes:
    """Some rows, below their names."""
    text = io.StringIO()
    writer = csv.writer(text)
    told = [telling.brief(row) for row in rows]
    writer.writerow(told[0])
    writer.writerows([_cell(value) for value in one.values()] for one in told)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """A value as a spreadsheet takes it for what it is: a client's label isn't to be run as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
