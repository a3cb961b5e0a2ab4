"""The routes of the bench and what their documentation says of them: bodies, replies, parameters, examples."""

from typing import Any, Final, Literal, NamedTuple

import msgspec

from heylook_llm.bench.spec import RunSpec

_REF: Final = "#/components/schemas/"
_PREFIX: Final = "Bench."
_ERROR: Final = {
    "description": "An error",
    "content": {"application/json": {"schema": {"$ref": f"{_REF}OpenAI.Error"}}},
}
_SPEC_EXAMPLE: Final = {
    "name": "evening",
    "targets": [{"url": "http://127.0.0.1:8080", "models": ["heylook-tiny"]}],
    "scenarios": ["D(100,50)"],
    "loads": [{"kind": "closed", "levels": [1, 4]}],
    "requests": 10,
}
Kind = Literal["string", "integer"]


class Parameter(NamedTuple):
    """Of a path or behind the question mark."""

    name: str
    what: str
    kind: Kind = "string"
    values: tuple[str, ...] = ()
    place: Literal["query", "header"] = "query"


class Route(NamedTuple):
    """One route; its handler is the method of that name."""

    method: str
    path: str
    name: str
    summary: str
    reply: str = ""
    """Name of the reply's schema; empty: a file, a stream or a schema."""
    body: str = ""
    example: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    parameters: tuple[Parameter, ...] = ()
    status: int = 200
    media_type: str = "application/json"

    def responses(self) -> dict[int | str, dict[str, Any]]:
        """For the documentation."""
        schema = {"schema": {"$ref": _REF + _PREFIX + self.reply}} if self.reply else {}
        good = {"description": "As it was asked", "content": {self.media_type: schema}}
        return {self.status: good, "4XX": _ERROR, "5XX": _ERROR}

    def extra(self) -> dict[str, Any]:
        """What else the operation says."""
        told: dict[str, Any] = {"parameters": [_parameter(one) for one in self.parameters]}
        if "{name" in self.path:
            what = "A target's name." if "/targets/" in self.path else _RUN
            told["parameters"].insert(
                0, {"name": "name", "in": "path", "required": True, "description": what, "schema": {"type": "string"}}
            )
        if self.body:
            content: dict[str, Any] = {"schema": {"$ref": _REF + _PREFIX + self.body}}
            if self.example:
                content["example"] = self.example
            told["requestBody"] = {"required": True, "content": {"application/json": content}}
        return told


def _parameter(one: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": one.kind} | ({"enum": list(one.values)} if one.values else {})
    return {"name": one.name, "in": one.place, "required": False, "description": one.what, "schema": schema}


_RUN: Final = "A run's id, its name, the end of its id, `last`, or `@2` for the last but one."
_AFTER: Final = Parameter("after", "From behind this place; `next_after` of the page before.", "integer")
_LAST: Final = (
    Parameter("after", "From behind the event of this id.", "integer"),
    Parameter("Last-Event-ID", "The same, as browsers send it; it stands above `after`.", "string", place="header"),
)
_SLO: Final = (Parameter("slo", "A limit above the spec's, as `ttft=200`; may come again."),)
_CALIBRATE: Final = (
    Parameter("calibrate", "Whether the bench first measures itself, once a day; true.", values=("true", "false")),
)
_STREAM: Final = "text/event-stream"
ROUTES: Final = (
    Route(
        "GET", "/v1/bench/schema", "get_bench_schema", "The schema of run specs", media_type="application/schema+json"
    ),
    Route("GET", "/v1/bench/presets", "list_bench_presets", "Traffic that many people have", "Presets"),
    Route("GET", "/v1/bench/found", "find_bench_targets", "The servers that answer on this machine", "FoundTargets"),
    Route("GET", "/v1/bench/targets", "list_bench_targets", "The targets that are kept", "Targets"),
    Route(
        "PUT",
        "/v1/bench/targets/{name:path}",
        "keep_bench_target",
        "Keep a target, with its key",
        "Target",
        "TargetBody",
        {"url": "http://127.0.0.1:11434", "kind": "ollama"},
    ),
    Route("DELETE", "/v1/bench/targets/{name:path}/key", "drop_bench_key", "Forget its key", "Target"),
    Route("DELETE", "/v1/bench/targets/{name:path}", "forget_bench_target", "Keep it no longer", "Deleted"),
    Route(
        "POST",
        "/v1/bench/estimate",
        "estimate_bench_run",
        "What a run would send",
        "Estimate",
        "RunSpec",
        _SPEC_EXAMPLE,
    ),
    Route("POST", "/v1/bench/runs", "start_bench_run", "Begin a run", "Run", "RunSpec", _SPEC_EXAMPLE, _CALIBRATE, 201),
    Route(
        "GET",
        "/v1/bench/runs",
        "list_bench_runs",
        "The runs, newest first",
        "Runs",
        parameters=(Parameter("limit", "Runs of the list, up to 1000; 100 where it isn't said.", "integer"),),
    ),
    Route("GET", "/v1/bench/runs/{name}", "show_bench_run", "One run", "Run"),
    Route("DELETE", "/v1/bench/runs/{name}", "delete_bench_run", "Forget a run", "Deleted"),
    Route("POST", "/v1/bench/runs/{name}/cancel", "cancel_bench_run", "Have it end", "Run"),
    Route("POST", "/v1/bench/runs/{name}/resume", "resume_bench_run", "Send what is left of it", "Run"),
    Route(
        "GET",
        "/v1/bench/runs/{name}/report",
        "report_bench_run",
        "Its report",
        "Report",
        parameters=_SLO,
    ),
    Route(
        "GET",
        "/v1/bench/runs/{name}/result",
        "show_bench_result",
        "Its report, as pages show it",
        "Result",
        parameters=_SLO,
    ),
    Route(
        "GET",
        "/v1/bench/runs/{name}/export",
        "export_bench_run",
        "A file of it",
        media_type="application/octet-stream",
        parameters=(Parameter("format", "Which.", values=("json", "csv", "jsonl", "xlsx", "html", "markdown")),),
    ),
    Route(
        "GET",
        "/v1/bench/runs/{name}/samples",
        "list_bench_samples",
        "Its raw samples",
        "Samples",
        parameters=(_AFTER, Parameter("limit", "Samples of a page, up to 1000.", "integer")),
    ),
    Route(
        "GET",
        "/v1/bench/runs/{name}/rows",
        "list_bench_rows",
        "Its samples as rows, sorted",
        "Rows",
        parameters=(
            Parameter("offset", "Rows before the page.", "integer"),
            Parameter("limit", "Rows of a page, up to 1000; 50 where it isn't said.", "integer"),
            Parameter("sort", "A field or a measure; absent: the order of the run."),
            Parameter("descending", "The other way round.", values=("true", "false")),
            Parameter("outcome", "Only these.", values=("ok", "error", "timeout", "cancelled", "cut")),
            Parameter("phase", "Only these.", values=("warmup", "measure", "cooldown", "drain")),
        ),
    ),
    Route(
        "GET",
        "/v1/bench/runs/{name}/points",
        "list_bench_points",
        "Its samples, to draw",
        "Points",
        parameters=(_AFTER,),
    ),
    Route(
        "GET",
        "/v1/bench/runs/{name}/events",
        "stream_bench_run",
        "What happens in it",
        "Event",
        parameters=_LAST,
        media_type=_STREAM,
    ),
    Route(
        "GET",
        "/v1/bench/events",
        "stream_bench",
        "What happens in all runs",
        "Event",
        parameters=_LAST,
        media_type=_STREAM,
    ),
    Route(
        "POST",
        "/v1/bench/compare",
        "compare_bench_runs",
        "Runs side by side",
        "Comparison",
        "Comparing",
        {"runs": ["@2", "last"], "measures": ["ttft.p50", "output"]},
    ),
)
_TEXT: Final = {"type": "string"}
_WHOLE: Final = {"type": "integer"}
_NUMBER: Final = {"type": "number"}
_FLAG: Final = {"type": "boolean"}
_TEXTS: Final = {"type": "array", "items": _TEXT}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


def _of(properties: dict[str, Any], required: tuple[str, ...] | None = None) -> dict[str, Any]:
    needed = list(properties if required is None else required)
    return {"type": "object", "properties": properties, **({"required": needed} if needed else {})}


def _list_of(name: str, **more: Any) -> dict[str, Any]:
    data = {"type": "array", "items": {"$ref": f"{_REF}{_PREFIX}{name}"}}
    return _of({"object": {"const": "list"}, "data": data, **more})


_TIMES: Final = {name: _or_null(_NUMBER) for name in ("started", "ended")}
_BRIEF: Final = {
    "object": {"const": "bench.run"},
    "id": _TEXT,
    "name": _or_null(_TEXT),
    "state": {"enum": ["pending", "queued", "running", "done", "failed", "cancelled", "interrupted"]},
    "place": {**_or_null(_WHOLE), "description": "Runs before one that waits."},
    "verdict": {**_or_null(_TEXT), "description": "Of one that has ended; in a list only where it was looked at."},
    "origin": {"enum": ["cli", "web", "agent", "schedule", "import"]},
    "created": _NUMBER,
    **_TIMES,
    "spec_hash": _TEXT,
    "flags": _TEXTS,
    "targets": _TEXTS,
    "models": _TEXTS,
    "cells_settled": {**_WHOLE, "description": "Cells of which nothing is left to send."},
    "samples": _WHOLE,
}
_CELL: Final = {
    "id": _TEXT,
    "ordinal": _WHOLE,
    **dict.fromkeys(("target", "model", "task", "scenario", "load", "cache"), _TEXT),
    "level": _or_null(_NUMBER),
    "repeat": _WHOLE,
    "state": {"enum": ["pending", "running", "done", "failed", "skipped", "cancelled"]},
    "planned": _or_null(_WHOLE),
    "flags": _TEXTS,
    "outcomes": {"type": "object", "additionalProperties": _WHOLE},
}
_PROGRESS: Final = {
    "cell": _WHOLE,
    "cells": _WHOLE,
    "done": _WHOLE,
    "failed": _WHOLE,
    "in_cell": _or_null(_WHOLE),
    "seconds": _NUMBER,
}
_POINT: Final = {
    "row": _WHOLE,
    "cell": _WHOLE,
    "ordinal": _WHOLE,
    "phase": {"enum": ["warmup", "measure", "cooldown", "drain"]},
    "outcome": {"enum": ["ok", "error", "timeout", "cancelled", "cut"]},
    "error": _or_null(_TEXT),
    "at": {**_or_null(_NUMBER), "description": "When it ended: seconds since the run's first request."},
    "tokens": _or_null(_WHOLE),
    **{name: {**_or_null(_NUMBER), "description": "Milliseconds."} for name in ("ttft", "tpot", "e2e")},
}
_ESTIMATE: Final = {
    "object": {"const": "bench.estimate"},
    "cells": _WHOLE,
    "requests": _or_null(_WHOLE),
    "input_tokens": _or_null(_WHOLE),
    "output_tokens": _or_null(_WHOLE),
    "at_most_seconds": {**_or_null(_NUMBER), "description": "Of sending, where the spec limits it."},
    "cost": {**_or_null(_NUMBER), "description": "In the targets' prices."},
    "seconds": {**_or_null(_NUMBER), "description": "By how the same models did in the runs of `seconds_by`."},
    "seconds_by": _TEXTS,
    "models": {"type": "object", "additionalProperties": _TEXTS, "description": "By the target's URL."},
    "problems": {"type": "object", "additionalProperties": _TEXT, "description": "Why a target can't be asked."},
    "spec": {"$ref": f"{_REF}{_PREFIX}RunSpec"},
    "yaml": _TEXT,
    "command": _TEXT,
}
_TARGET: Final = {
    "name": _TEXT,
    "url": _TEXT,
    "kind": _or_null(_TEXT),
    "price_in": _or_null(_NUMBER),
    "price_out": _or_null(_NUMBER),
    "key": {**_or_null(_TEXT), "description": "Its end, behind dots."},
}
_FOUND: Final = {
    "url": _TEXT,
    "own": _FLAG,
    "kind": _TEXT,
    "flavor": {"enum": ["heylook", "llama-server", "vllm", "ollama", "other"]},
    "version": _or_null(_TEXT),
    "models": {"type": "array", "items": _of({"id": _TEXT, "loaded": _FLAG})},
}
_EVENT: Final = {
    "type": {"enum": ["run.state", "cell.state", "progress", "note", "warning", "artifact"]},
    "id": _TEXT,
    "run_id": _TEXT,
    "at": _NUMBER,
}
_PLAIN: Final[dict[str, dict[str, Any]]] = {
    "Presets": _list_of("Preset"),
    "Preset": _of({"name": _TEXT, "title": _TEXT, "what": _TEXT, "spec": {"type": "object"}}),
    "FoundTargets": _list_of("FoundTarget"),
    "FoundTarget": _of(_FOUND),
    "Targets": _list_of("Target"),
    "Target": _of({"object": {"const": "bench.target"}, **_TARGET}),
    "TargetBody": _of(
        {
            "url": _TEXT,
            "kind": {"enum": ["openai", "ollama", "anthropic"]},
            "price_in": _NUMBER,
            "price_out": _NUMBER,
            "key": {**_TEXT, "description": "Left out: the one it has, unless the address is another."},
        },
        ("url",),
    ),
    "Deleted": _of({"id": _TEXT, "object": _TEXT, "deleted": _FLAG}),
    "Estimate": _of(_ESTIMATE),
    "Runs": _list_of("RunBrief"),
    "RunBrief": _of({**_BRIEF, "cells": _WHOLE}),
    "Run": _of(
        {
            **_BRIEF,
            "cells": {"type": "array", "items": _of(_CELL)},
            "warnings": _TEXTS,
            "spec": {"$ref": f"{_REF}{_PREFIX}RunSpec"},
            "manifest": {"type": "object"},
            "progress": {"anyOf": [_of(_PROGRESS), {"type": "null"}]},
            "last_event": _WHOLE,
            "yaml": _or_null(_TEXT),
            "command": _or_null(_TEXT),
        }
    ),
    "Samples": _list_of("Sample", next_after=_or_null(_WHOLE)),
    "Sample": {"type": "object", "description": "As docs/bench.md says; its numbers are in `values_ms`."},
    "Rows": _list_of("FlatRow", total=_WHOLE, offset=_WHOLE),
    "FlatRow": _of({"id": _TEXT, "cell": _WHOLE, "ordinal": _WHOLE, "outcome": _TEXT}),
    "Points": _list_of("Point", next_after=_WHOLE),
    "Point": _of(_POINT),
    "Event": _of(_EVENT),
    "Comparing": _of(
        {
            "runs": _TEXTS,
            "files": {"type": "array", "items": _of({"name": _TEXT, "text": _TEXT})},
            "measures": {**_TEXTS, "description": "As `ttft.p95` or `output`; absent: the usual ones."},
            "models": _TEXTS,
            "scenarios": _TEXTS,
        },
        (),
    ),
    "Result": _of(
        {
            "object": {"const": "bench.result"},
            "report": {"$ref": f"{_REF}{_PREFIX}Report"},
            "verdict": _TEXT,
            "next": {"type": ["string", "null"]},
            "rows": {"type": "array", "items": {"type": "object"}},
            "within": _TEXTS,
            "remarks": {"type": "array", "items": {}},
            "meanings": {"type": "object"},
            "figures": {"type": "object"},
        }
    ),
}


def schemas() -> dict[str, Any]:
    """All that the routes name, under their full names."""
    from heylook_llm.bench.compare import Comparison  # noqa: PLC0415 (numpy, when the document is asked for)
    from heylook_llm.bench.metrics import Report  # noqa: PLC0415

    template = _REF + _PREFIX + "{model}"
    spec = RunSpec.model_json_schema(ref_template=template)
    found: dict[str, Any] = {**_PLAIN, **spec.pop("$defs", {}), "RunSpec": spec}
    _, structs = msgspec.json.schema_components([Report, Comparison], ref_template=_REF + _PREFIX + "{name}")
    return {f"{_PREFIX}{name}": {**schema, "title": f"Bench{name}"} for name, schema in (found | structs).items()}
