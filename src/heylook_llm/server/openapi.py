"""The OpenAPI document: every route with its body's schema, an example that runs, and its errors."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from heylook_llm import __version__
from heylook_llm.server import hardware_schemas, reply_schemas
from heylook_llm.server.endpoint import Endpoint, Query
from heylook_llm.server.performance import insight_schemas, live_schemas
from heylook_llm.server.performance import schemas as performance_schemas
from heylook_llm.server.wire import (
    admin_body,
    anthropic,
    llama_server,
    ollama,
    ollama_body,
    openai_batches,
    openai_multipart,
    openai_tables,
    table,
)

_PARAMETER: Final = re.compile(r"{(\w+)")
_REF: Final = "#/components/schemas/"
_DESCRIPTION: Final = (
    "A local model server. It speaks the OpenAI, the Anthropic and the Ollama API; `GET /v1/capabilities` says for "
    "each field whether it is honoured, ignored or refused."
)
_ERRORS: Final[dict[str, Any]] = {
    "OpenAI.Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
            }
        },
    },
    "OpenAI.ChatForm": openai_multipart.SCHEMA,
    "OpenAI.FileForm": openai_batches.SCHEMA,
    "Llama.Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "type"],
                "properties": {
                    "code": {"type": "integer", "description": "The status."},
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                },
            }
        },
    },
    "Ollama.Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    "Anthropic.Error": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {
            "type": {"type": "string"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {
                    "type": {"type": "string"},
                    "message": {"type": "string"},
                    "details": {
                        "type": "object",
                        "properties": {"error_code": {"type": "string"}, "param": {"type": ["string", "null"]}},
                    },
                },
            },
            "request_id": {"type": "string"},
        },
    },
    "Ollama.Blob": {"type": "string", "format": "binary"},
    "Admin.Load": {"type": "object", "properties": {"n_ctx": {"type": "integer", "minimum": 4}}},
    "Admin.Unload": {"type": "object", "properties": {"force": {"type": "boolean", "default": False}}},
    "Admin.Pin": {"type": "object", "properties": {"pinned": {"type": "boolean", "default": True}}},
}


_TAGS: Final = {
    "OpenAI": "What OpenAI's clients ask for",
    "Llama": "What llama-server's clients ask for",
    "Anthropic": "What Anthropic's clients ask for",
    "Ollama": "What Ollama's clients ask for",
    "Admin": "The models and the requests of this server",
    "Bench": "Benchmarks: runs, their targets and what was measured",
    "Pages": "The web pages and this documentation",
}


def tag_of(endpoint: Endpoint) -> str:
    """The heading under which a route stands."""
    if endpoint.path.startswith("/api/") or endpoint.operation.startswith("ollama"):
        return "Ollama"
    if endpoint.path.startswith("/v1/messages"):
        return "Anthropic"
    if endpoint.body.startswith("Llama.") or endpoint.path in ("/props", "/slots"):
        return "Llama"
    if endpoint.access == "admin" or endpoint.path == "/health":
        return "Admin"
    return "Pages" if endpoint.access in ("open", "page") else "OpenAI"


def described(endpoint: Endpoint) -> dict[str, Any]:
    """What a route adds to its operation: the body with its example, and its errors."""
    told: dict[str, Any] = {"responses": {"4XX": _error(endpoint), "5XX": _error(endpoint)}}
    if endpoint.refused:
        told = {"responses": {"400": _error(endpoint)}, "x-heylook-treatment": "refused"}
    if names := _PARAMETER.findall(endpoint.path):
        told["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    told.setdefault("parameters", []).extend(_query(query) for query in endpoint.query)
    if endpoint.body:
        content: dict[str, Any] = {"schema": {"$ref": _REF + endpoint.body}}
        if endpoint.pictured:
            content["examples"] = {"text": {"value": endpoint.example}, "image": {"value": endpoint.pictured}}
        elif endpoint.example:
            content["example"] = endpoint.example
        told["requestBody"] = {
            "required": not endpoint.body.startswith("Admin."),
            "content": {endpoint.body_type: content},
        }
    return told


def reply(endpoint: Endpoint) -> dict[str, Any]:
    """The schema of a route's reply, where it is written down."""
    return {"schema": {"$ref": _REF + endpoint.response}} if endpoint.response else {}


def _query(query: Query) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": query.kind} | ({"enum": list(query.values)} if query.values else {})
    return {"name": query.name, "in": "query", "required": False, "description": query.what, "schema": schema}


def _error(endpoint: Endpoint) -> dict[str, Any]:
    tag = tag_of(endpoint)
    name = f"{tag}.Error" if tag in ("Llama", "Ollama", "Anthropic") else "OpenAI.Error"
    return {"description": "An error", "content": {"application/json": {"schema": {"$ref": _REF + name}}}}


def components() -> dict[str, Any]:
    """The schemas of all bodies."""
    schemas: dict[str, Any] = _ERRORS | performance_schemas.SCHEMAS | live_schemas.SCHEMAS
    schemas |= insight_schemas.SCHEMAS | hardware_schemas.SCHEMAS | reply_schemas.schemas()
    schemas |= _schemas("OpenAI", list(openai_tables.BODIES.values()))
    schemas |= _schemas("Llama", list(llama_server.BODIES.values()))
    schemas |= _schemas("Anthropic", list(anthropic.BODIES.values()))
    schemas |= _schemas("Ollama", [*ollama.BODIES.values(), ollama_body.Options])
    return schemas | _schemas("Admin", list(admin_body.BODIES.values()))


def _schemas(prefix: str, bodies: list[type[table.Body]]) -> dict[str, Any]:
    """The bodies' schemas and those within them, named `prefix.Class`, each field with what becomes of it."""
    _, found = models_json_schema(
        [(body, "validation") for body in bodies], ref_template=f"{_REF}{prefix}.{{model}}", title=None
    )
    schemas: dict[str, Any] = found.get("$defs", {})
    for body in bodies:
        for row in table.rows(body):
            described_field = schemas[body.__name__]["properties"][row.name]
            described_field["description"] = f"{row.treatment.capitalize()}. {row.note}".strip()
    return {f"{prefix}.{name}": _without_null(schema) | _title(prefix, name) for name, schema in schemas.items()}


def _title(prefix: str, name: str) -> dict[str, str]:
    """A title of its own: generators of clients call a model by it, and every dialect has a Message."""
    return {"title": prefix + name}


def _without_null(schema: Any) -> Any:
    """The same without defaults of null: they stand for "absent", which most types don't allow as a value."""
    if isinstance(schema, list):
        return [_without_null(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _without_null(value) for key, value in schema.items() if key != "default" or value is not None}


def document(
    table: Sequence[Endpoint], extra: Sequence[APIRouter] = (), schemas: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The document of these rows and routers: FastAPI's own, with our schemas, the routers' and our description.

    Rows are told to an app that serves none of them: its routes cost more to make than a server has time for at start.
    """
    told = FastAPI(title="heylookllm", version=__version__, description=_DESCRIPTION)
    for endpoint in table:
        _tell(told, endpoint)
    for router in extra:
        told.include_router(router)
    generated = told.openapi()
    held = generated.setdefault("components", {}).setdefault("schemas", {})
    held |= components() | dict(schemas or {})
    generated["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    generated["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
    generated["security"] = [{}, {"bearer": []}, {"header": []}]
    return generated


def _tell(app: FastAPI, endpoint: Endpoint) -> None:
    """The first of a row's methods, by its own path; the others are the same."""
    app.add_api_route(
        endpoint.path,
        _unanswered,
        methods=[endpoint.methods.split()[0]],
        operation_id=endpoint.operation,
        summary=endpoint.summary,
        description=endpoint.handler.__doc__,
        tags=[tag_of(endpoint)],
        response_model=None,
        response_class=Response,
        responses={} if endpoint.refused else {200: {"content": {endpoint.media_type: reply(endpoint)}}},
        status_code=400 if endpoint.refused else 200,
        deprecated=endpoint.refused or None,
        openapi_extra=described(endpoint),
    )


def _unanswered() -> None:
    """A row's place in the document."""
