"""The route by which the models of this machine come in: what `heylookllm import --merge` does, over HTTP."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm.catalog.import_plan import Wishes, shown
from heylook_llm.catalog.importing import Found
from heylook_llm.catalog.scan import Skipped
from heylook_llm.errors import UnsupportedFeature
from heylook_llm.server.endpoint import Server, json_response, read_body
from heylook_llm.server.generate import while_connected
from heylook_llm.server.imports import Imported, Order
from heylook_llm.server.offloop import off_loop
from heylook_llm.server.wire import admin_body, table
from heylook_llm.server.wire.exchange import ignored_header

MOST_SKIPPED: Final = 1000
"""Files with their reasons in one reply; `skipped_count` says how many there are."""


async def import_models(server: Server, request: Request) -> Response:
    """Find models on this machine and add them to the registry; `dry_run` shows what would be written, with its diff.

    Only below folders that the operator allows (`--import-root`). A preview's `plan`, given back, writes what that
    showed.
    """
    if server.options.imports is None:
        raise UnsupportedFeature("This server follows no models.yaml: models neither come nor go while it runs.")
    body = await read_body(request, server.options.limits.max_body_bytes)
    fields = await off_loop(len(body), admin_body.parse_import, body)
    imported = await while_connected(request.receive, server.options.imports.run(_order(fields)))
    response = json_response(_told(imported))
    response.headers.update(dict(ignored_header(table.told(fields))))
    return response


def _order(fields: admin_body.ImportBody) -> Order:
    return Order(
        fields.folders,
        fields.hf_cache,
        fields.ollama_store,
        fields.lmstudio,
        Wishes(fields.profile, fields.overrides),
        fields.dry_run,
        fields.plan,
    )


def _told(imported: Imported) -> dict[str, Any]:
    findings, plan = imported.findings, imported.plan
    new = {found.path for found in plan.new}
    return {
        "object": "model.import",
        "written": imported.written,
        "file": plan.target.name,
        "plan": plan.digest,
        "models": [_model(found, entry) for found, entry in zip(plan.new, plan.entries, strict=True)],
        "served": [shown(found.path) for found in findings.models if found.path not in new],
        "skipped": [_skipped(one) for one in findings.skipped[:MOST_SKIPPED]],
        "skipped_count": len(findings.skipped),
        "difference": plan.difference,
    }


def _model(found: Found, entry: Any) -> dict[str, Any]:
    facts = found.facts
    return {
        "id": found.id,
        "path": shown(found.path),
        "provider": facts.provider,
        "kind": facts.kind,
        "architecture": facts.architecture,
        "parameters": facts.parameters,
        "quantization": facts.quantization,
        "context_length": facts.context_length,
        "size_bytes": facts.size_bytes,
        "abilities": [*facts.abilities, *(["vision"] if found.projector is not None else [])],
        "projector": None if found.projector is None else shown(found.projector),
        "drafts_for": list(found.drafts_for),
        "config": entry["config"],
    }


def _skipped(one: Skipped) -> dict[str, str]:
    return {"path": shown(one.path), "reason": one.reason}
