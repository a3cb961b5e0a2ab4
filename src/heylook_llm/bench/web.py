"""The bench over HTTP: runs that are ordered, followed, resumed and read; mounted by whoever composes a server.

Every route is for administrators: it sends requests to addresses that its client names. Errors are in OpenAI's words,
which the server around it gives them.
"""

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi import APIRouter
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from heylook_llm.bench import spec as specs
from heylook_llm.bench import spelling, told, web_schemas
from heylook_llm.bench.following import Following
from heylook_llm.bench.jobs import Jobs, Setting, refuse_files
from heylook_llm.bench.kept import KeptTarget
from heylook_llm.bench.presets import PRESETS
from heylook_llm.bench.sample import Run
from heylook_llm.bench.spec import RunSpec, TargetSpec
from heylook_llm.bench.store import Store
from heylook_llm.bench.web_schemas import ROUTES, Route
from heylook_llm.errors import BadRequest, ConfigError, HeylookError, Overloaded, TooLarge

if TYPE_CHECKING:
    from heylook_llm.bench.metrics import Report

MOST_BYTES: Final = 64 << 20
"""Of a body: reports that are compared are large."""
QUIET_SECONDS: Final = 15.0
"""After so long without an event a comment is sent, so that proxies keep the connection."""
FOUND_SECONDS: Final = 3.0
"""In which a local server has to say what it is."""
OWN_SECONDS: Final = 30.0
"""The same for this one: it is there, however busy."""
MOST_POINTS: Final = 5000
MOST_SAMPLES: Final = 1000
MOST_RUNS: Final = 1000
LONGEST_NUMBER: Final = 19
"""Digits, less one: what SQLite keeps of whole numbers has 19."""
GOING_AWAY, TRY_LATER, WRONG = 1001, 1013, 1008
Handler = Callable[[Request], Awaitable[Response]]


class Bench:
    """The routes over one store, and what they need while a server lives."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._jobs = Jobs(setting)
        self._following = Following(setting.store)
        self._verdicts: dict[str, tuple[float | None, str]] = {}
        """Of runs that were looked at: when they had ended, and the verdict then."""
        self.router = APIRouter()
        for route in ROUTES:
            _mount(self.router, route, getattr(self, route.name))
        self.router.add_api_websocket_route("/v1/bench/ws", self.follow)

    @staticmethod
    def schemas() -> dict[str, Any]:
        """What the routes name in the API's documentation."""
        return web_schemas.schemas()

    async def close(self) -> None:
        """End what goes on: runs, to be resumed, and whoever listens."""
        self._following.close()
        await self._jobs.close()

    # ---- what can be ordered -----------------------------------------------------------------------------------------

    async def get_bench_schema(self, request: Request) -> Response:
        """The JSON schema of run specs."""
        return _json(RunSpec.model_json_schema(), media_type="application/schema+json")

    async def list_bench_presets(self, request: Request) -> Response:
        """Parts of specs for traffic that many people have."""
        return _json(_listed([preset._asdict() for preset in PRESETS]))

    async def find_bench_targets(self, request: Request) -> Response:
        """The servers that answer on this machine's usual ports, this one first, with their models."""
        from heylook_llm.bench.probe import LOCAL  # noqa: PLC0415 (its HTTP client loads slowly)

        own = self._setting.own
        urls = dict.fromkeys([*([own.url] if own is not None else []), *LOCAL])
        found = await asyncio.gather(*(self._found(url) for url in urls))
        return _json(_listed([one for one in found if one is not None]))

    async def _found(self, url: str) -> dict[str, Any] | None:
        from heylook_llm.bench import begin  # noqa: PLC0415

        own = self._setting.own
        is_own = own is not None and url == own.url
        try:
            async with asyncio.timeout(OWN_SECONDS if is_own else FOUND_SECONDS):
                party = await begin.identified(TargetSpec(url=url), again=True, keys=self._jobs.key_of)
        except (HeylookError, TimeoutError):
            return None
        found = party.found
        return {
            "url": url,
            "own": is_own,
            "kind": found.kind,
            "flavor": found.flavor,
            "version": found.version,
            "models": [{"id": model, "loaded": model in found.loaded} for model in found.models],
        }

    async def estimate_bench_run(self, request: Request) -> Response:
        """What a spec would send, and how it is written as a command and as YAML; nothing is sent to models.

        A target whose models are named isn't asked. How long it takes is told from earlier runs, where there are any.
        """
        from heylook_llm.bench import estimates  # noqa: PLC0415 (as above)

        spec = await _spec(request)
        refuse_files(spec)
        parties, problems = await estimates.parties(spec, self._jobs.key_of)
        estimate = await self._jobs.ask(lambda store: estimates.told(store, spec, parties))
        return _json(
            {
                "object": "bench.estimate",
                **estimate,
                "problems": problems,
                "spec": spec.model_dump(mode="json"),
                "yaml": spelling.as_yaml(spec),
                "command": spelling.as_command(spec),
            }
        )

    # ---- runs --------------------------------------------------------------------------------------------------------

    async def start_bench_run(self, request: Request) -> Response:
        """Begin a run, in a process of its own, as soon as those before it have ended; its targets must answer."""
        calibrated = _flag(request, "calibrate", True)
        made = await self._jobs.start(await _spec(request), calibrated)
        return _json(await self._whole(made), 201)

    async def list_bench_runs(self, request: Request) -> Response:
        """The runs of this machine, newest first, whoever began them."""
        limit = _number(request, "limit", 100, 1, MOST_RUNS)

        def ask(store: Store) -> list[dict[str, Any]]:
            return [told.brief(store, told.current(store, made)) for made in store.runs(limit)]

        runs = await self._jobs.ask(ask)
        return _json(_listed([{**run, **self._now(run["id"], run["ended"])} for run in runs]))

    def _now(self, run_id: str, ended: float | None) -> dict[str, Any]:
        """What isn't in the store."""
        then, verdict = self._verdicts.get(run_id, (None, None))
        known = verdict if then == ended else None
        return {"object": "bench.run", "place": self._jobs.place(run_id), "verdict": known}

    async def show_bench_run(self, request: Request) -> Response:
        """One run: its state, its spec, and what became of the requests of each cell."""
        return _json(await self._whole(await self._run(request)))

    async def cancel_bench_run(self, request: Request) -> Response:
        """Have a run end within a second or so; what it has is kept."""
        return _json(await self._whole(await self._jobs.cancel(_name(request))))

    async def resume_bench_run(self, request: Request) -> Response:
        """Send what a run hasn't committed, with the same prompts."""
        return _json(await self._whole(await self._jobs.resume(_name(request))))

    async def delete_bench_run(self, request: Request) -> Response:
        """Forget a run that has ended, with all its samples."""
        made = await self._jobs.delete(_name(request))
        return _json({"id": made.id, "object": "bench.run", "deleted": True})

    async def _run(self, request: Request) -> Run:
        name = _name(request)
        return await self._jobs.ask(lambda store: told.current(store, store.run(name)))

    async def _whole(self, made: Run) -> dict[str, Any]:
        def ask(store: Store) -> dict[str, Any]:
            events = store.events(made.id)
            progress = next((event for event in reversed(events) if event.type == "progress"), None)
            if made.ended is not None:
                self._judge(store, made)
            return {
                **told.whole(store, made),
                "spec": json.loads(made.spec_json),
                "manifest": json.loads(made.manifest_json),
                "progress": None if progress is None else json.loads(progress.data_json),
                "last_event": events[-1].seq if events else 0,
            }

        found = await self._jobs.ask(ask)
        return {**found, **_written(found["spec"]), **self._now(made.id, made.ended)}

    def _judge(self, store: Store, made: Run) -> None:
        """Make the verdict of a run that has ended, once: it is read of all samples."""
        from heylook_llm.bench.report import files, words  # noqa: PLC0415 (load slowly)

        if self._verdicts.get(made.id, (None,))[0] != made.ended and store.sample_count(made.id):
            self._verdicts[made.id] = (made.ended, words.verdict(files.made(store, made)))

    # ---- what was measured -------------------------------------------------------------------------------------------

    async def report_bench_run(self, request: Request) -> Response:
        """The report of a run, made anew of its samples: every number with its n and interval."""
        from heylook_llm.bench.report import files, tables  # noqa: PLC0415 (load slowly)

        made, limits = await self._run(request), _limits(request)
        return Response(
            await self._jobs.ask(lambda store: tables.as_json(files.made(store, made, limits))),
            media_type="application/json",
        )

    async def export_bench_run(self, request: Request) -> Response:
        """A run as a file to keep: its report in each form, or its raw samples (`jsonl`). Never shown in place: it
        holds foreign text.
        """
        from heylook_llm.bench.report import files  # noqa: PLC0415

        made, asked = await self._run(request), request.query_params.get("format", "json")
        form = next((form for form in files.FILES if form == asked), None)
        if form is None:
            raise BadRequest(f"'format' is one of {', '.join(files.FILES)}.", param="format")
        body = await self._jobs.ask(lambda store: files.content(store, made, form))
        headers = {"content-disposition": f'attachment; filename="{files.name_of(made, form)}"'}
        return Response(body, media_type=files.FILES[form].media_type, headers=headers)

    async def list_bench_samples(self, request: Request) -> Response:
        """The raw samples of a run, page by page, in the order in which they were committed."""
        from heylook_llm.bench.report import tables  # noqa: PLC0415

        made = await self._run(request)
        after, limit = _number(request, "after", 0, 0), _number(request, "limit", 100, 1, MOST_SAMPLES)

        def ask(store: Store) -> bytes:
            rows = store.samples_after(made.id, after, limit)
            lines = tables.as_jsonl(store.cells(made.id), [sample for _, sample in rows], store.pairs(made.id))
            data = b",".join(line.rstrip() for line in lines)
            following = rows[-1][0] if len(rows) == limit else None
            return b'{"object":"list","data":[%s],"next_after":%s}' % (data, msgspec.json.encode(following))

        return Response(await self._jobs.ask(ask), media_type="application/json")

    async def list_bench_rows(self, request: Request) -> Response:
        """The samples of a run as flat rows, each with its numbers: a page of them, sorted by any."""
        from heylook_llm.bench.rows import Page, rows  # noqa: PLC0415

        made, query = await self._run(request), request.query_params
        page = Page(
            offset=_number(request, "offset", 0, 0),
            limit=_number(request, "limit", 50, 1, MOST_SAMPLES),
            sort=query.get("sort"),
            descending=_flag(request, "descending", False),
            outcome=query.get("outcome"),
            phase=query.get("phase"),
        )
        return _json(await self._jobs.ask(lambda store: rows(store, made, page)))

    async def list_bench_points(self, request: Request) -> Response:
        """A few numbers of each sample, to draw while a run goes on: from behind the last point that was read."""
        from heylook_llm.bench.points import points  # noqa: PLC0415

        made, after = await self._run(request), _number(request, "after", 0, 0)
        found = await self._jobs.ask(lambda store: points(store, made.id, after, MOST_POINTS))
        return _json({"object": "list", "data": found, "next_after": found[-1]["row"] if found else after})

    async def show_bench_result(self, request: Request) -> Response:
        """A run's report as pages show it: each number with its n and interval or why it is unknown, what they mean,
        the figures' data, the slowest requests by the client's clock and the server's.
        """
        from heylook_llm.bench.report import files, shown  # noqa: PLC0415

        made, limits = await self._run(request), _limits(request)

        def ask(store: Store) -> dict[str, Any]:
            report = files.made(store, made, limits)
            return shown.shown(report, store.samples(made.id), store.pairs(made.id))

        return _json({"object": "bench.result", **await self._jobs.ask(ask)})

    async def compare_bench_runs(self, request: Request) -> Response:
        """Runs, and files that were exported as JSON or JSON lines, side by side: ranked only where it is shown.

        `models` and `scenarios` choose rows; all of them where none is named.
        """
        from heylook_llm.bench.report import beside, files  # noqa: PLC0415

        given = _comparison(await _object(request))

        def ask(store: Store) -> dict[str, Any]:
            runs = {run.id: run for run in (store.run(name) for name in given.runs)}
            reports = [*(files.made(store, run) for run in runs.values()), *map(_dropped, given.files)]
            return beside.beside(reports, given.measures, given.models, given.scenarios)

        return _json({"object": "bench.comparison", **await self._jobs.ask(ask)})

    # ---- what happens ------------------------------------------------------------------------------------------------

    async def stream_bench_run(self, request: Request) -> Response:
        """What happens in a run, from its beginning, as server-sent events; behind `Last-Event-ID` where it is given.

        Of progress that lies in the past only the last is told.
        """
        made = await self._run(request)
        return self._stream(request, made.id)

    async def stream_bench(self, request: Request) -> Response:
        """What happens in all runs, from now on, or from behind `Last-Event-ID`; as server-sent events."""
        return self._stream(request, None)

    def _stream(self, request: Request, run_id: str | None) -> Response:
        self._following.admit()
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        body = self._events(run_id, _after(request))
        return StreamingResponse(body, media_type="text/event-stream", headers=headers)

    async def _events(self, run_id: str | None, after: int | None) -> AsyncIterator[bytes]:
        async with self._following.listen(run_id, after) as listener:
            while True:
                try:
                    async with asyncio.timeout(QUIET_SECONDS):
                        message = await listener.next()
                except TimeoutError:
                    yield b": nothing happened\n\n"
                    continue
                if message is None:
                    return
                yield message.event

    async def follow(self, socket: WebSocket) -> None:
        """The same events over WebSocket, of one run (`run`) or of all, each a JSON text."""
        try:
            self._following.admit()
            name, after = socket.query_params.get("run"), _after(socket)
            run_id = None if name is None else (await self._jobs.ask(lambda store: store.run(name))).id
        except HeylookError as error:
            await socket.close(TRY_LATER if isinstance(error, Overloaded) else WRONG, error.message[:100])
            return
        await socket.accept()
        sending = asyncio.create_task(self._send(socket, run_id, after))
        reading = asyncio.create_task(_read(socket))
        done, pending = await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*done, *pending, return_exceptions=True)
        if reading not in done:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it has left meanwhile
                await socket.close(GOING_AWAY)

    async def _send(self, socket: WebSocket, run_id: str | None, after: int | None) -> None:
        async with self._following.listen(run_id, after) as listener:
            while (message := await listener.next()) is not None:
                await socket.send_text(message.text)

    # ---- targets that are kept ---------------------------------------------------------------------------------------

    async def list_bench_targets(self, request: Request) -> Response:
        """The targets that are kept, each with the end of its key, which is never shown again."""
        return _json(_listed([_target(target) for target in self._setting.kept.all()]))

    async def keep_bench_target(self, request: Request) -> Response:
        """Keep a target under a name; a spec names its key as `kept:NAME`.

        The key belongs to scheme, host and port: another address without a key drops it.
        """
        given = await _object(request)
        return _json(_target(self._setting.kept.keep(_kept_target(_name(request), given))))

    async def forget_bench_target(self, request: Request) -> Response:
        """Keep a target no longer, nor its key."""
        name = _name(request)
        self._setting.kept.forget(name)
        return _json({"id": name, "object": "bench.target", "deleted": True})

    async def drop_bench_key(self, request: Request) -> Response:
        """Forget the key of a kept target."""
        return _json(_target(self._setting.kept.drop_key(_name(request))))


# ---- what clients say ------------------------------------------------------------------------------------------------


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    return name


async def _body(request: Request) -> bytes:
    """Raises TooLarge while it arrives."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise TooLarge(f"The body is larger than {MOST_BYTES >> 20} MiB.")
    return bytes(body)


async def _object(request: Request) -> dict[str, Any]:
    """Raises BadRequest, TooLarge."""
    try:
        value = msgspec.json.decode(await _body(request))
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"The body is no JSON: {error}", code="invalid_json") from error
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.", code="invalid_type")
    return value


async def _spec(request: Request) -> RunSpec:
    """The spec that a body is. Raises BadRequest with every mistake and its place."""
    return specs.checked(await _object(request))


def _number(request: HTTPConnection, name: str, default: int, least: int, most: int = 2**62) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < LONGEST_NUMBER and least <= int(text) <= most):
        raise BadRequest(f"'{name}' must be a whole number from {least}.", param=name)
    return int(text)


def _flag(request: Request, name: str, default: bool) -> bool:
    text = request.query_params.get(name)
    if text not in (None, "true", "false"):
        raise BadRequest(f"'{name}' must be true or false.", param=name)
    return default if text is None else text == "true"


def _after(connection: HTTPConnection) -> int | None:
    """From behind which event on; None: nobody said. Raises BadRequest."""
    text = connection.headers.get("last-event-id") or connection.query_params.get("after")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < LONGEST_NUMBER):
        raise BadRequest("The id of the last event is a number.", param="after")
    return int(text)


def _limits(request: Request) -> dict[str, float] | None:
    """`slo=ttft=200&slo=tpot=50`: limits in milliseconds above the spec's. Raises ConfigError."""
    from heylook_llm.bench.metrics import limits_of  # noqa: PLC0415

    return limits_of(request.query_params.getlist("slo"), "slo") or None


class _File(msgspec.Struct, frozen=True):
    """A file that somebody dropped."""

    name: str
    text: str


class _Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be compared."""

    runs: list[str] = []
    files: list[_File] = []
    measures: list[str] = []
    models: list[str] = []
    scenarios: list[str] = []


def _comparison(given: dict[str, Any]) -> _Comparison:
    """Raises BadRequest."""
    try:
        found = msgspec.convert(given, _Comparison)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The comparison is wrong: {error}") from error
    if not found.runs and not found.files:
        raise BadRequest("Name runs, or give files, to compare.", param="runs")
    return found


def _dropped(file: _File) -> "Report":
    """The report of a file, under its own name or the file's. Raises BadRequest."""
    from heylook_llm.bench import dropped  # noqa: PLC0415

    try:
        report = dropped.read(file.text.encode())
    except BadRequest as error:
        raise BadRequest(f"{file.name[:100]}: {error.message}", param="files") from error
    return report if report.name is not None else msgspec.structs.replace(report, name=file.name[:100])


def _kept_target(name: str, given: dict[str, Any]) -> KeptTarget:
    """Raises BadRequest."""
    if not 0 < len(name) <= 100 or not name.isprintable():
        raise BadRequest("A target's name has 1 to 100 printable characters.", param="name")
    if name in (".", "..") or name.endswith("/key"):
        raise BadRequest("A target can't have this name: its address would mean another.", param="name")
    key = given.pop("key", None)
    if key is not None and not isinstance(key, str):
        raise BadRequest("'key' must be a string.", code="invalid_type", param="key")
    target = specs.checked({"targets": [{**given, "name": name}], "requests": 1}, "the target").targets[0]
    if target.models or target.key:
        raise BadRequest("A kept target has no models; a run names them.", param="models")
    return KeptTarget(name, target.url, target.kind, target.price_in, target.price_out, key)


# ---- what they are told ----------------------------------------------------------------------------------------------


def _json(value: Any, status: int = 200, media_type: str = "application/json") -> Response:
    return Response(msgspec.json.encode(value), status, media_type=media_type)


def _listed(values: list[Any]) -> dict[str, Any]:
    return {"object": "list", "data": values}


def _written(given: dict[str, Any]) -> dict[str, str | None]:
    """A kept spec as a person writes it; None: an earlier version made it, and this one doesn't know all of it."""
    try:
        spec = specs.checked(given)
    except ConfigError:
        return {"yaml": None, "command": None}
    return {"yaml": spelling.as_yaml(spec), "command": spelling.as_command(spec)}


def _target(target: KeptTarget) -> dict[str, Any]:
    told = msgspec.structs.asdict(target)
    return {"object": "bench.target", **told, "key": target.masked}


async def _read(socket: WebSocket) -> None:
    """Until it leaves; what it says is ignored."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _mount(router: APIRouter, route: Route, handler: Handler) -> None:
    """A route with its words for the API's documentation; what is wrong with a spec is the client's to mend."""

    @functools.wraps(handler)
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ConfigError as error:
            raise BadRequest(error.message, param=error.param) from error

    router.add_api_route(
        route.path,
        answer,
        methods=[route.method],
        operation_id=route.name,
        summary=route.summary,
        description=" ".join((handler.__doc__ or "").split()),
        tags=["Bench"],
        response_model=None,
        response_class=Response,
        status_code=route.status,
        responses=route.responses(),
        openapi_extra=route.extra(),
    )
