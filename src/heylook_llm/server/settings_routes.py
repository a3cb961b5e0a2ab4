"""GET /v1/settings, what this server was set up with; and the settings of each model, to see and to change."""

import asyncio
import math
import os
import shutil
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm import __version__, config, engines, support
from heylook_llm.catalog import library
from heylook_llm.catalog.import_plan import shown
from heylook_llm.effects import effect
from heylook_llm.errors import UnsupportedFeature
from heylook_llm.server import model_settings
from heylook_llm.server.admin import status_of
from heylook_llm.server.cards import Card
from heylook_llm.server.endpoint import Server, json_response, read_body
from heylook_llm.server.model_settings import ModelSettings, Wanted
from heylook_llm.server.offloop import off_loop
from heylook_llm.server.placement import compute_mode
from heylook_llm.server.sqlite_file import SqliteFile
from heylook_llm.server.wire import admin_body, table
from heylook_llm.server.wire.exchange import ignored_header

_CHOSEN: Final = ("default_model", "max_loaded_models", "prewarm")
"""Keys of models.yaml that are told as they are in force; null: no file is followed."""
_PLACED: Final = {
    "layers": "n_layers",
    "layers_gpu": "n_layers_gpu",
    "weights_bytes": "weights_bytes",
    "kv_bytes": "kv_bytes",
    "gpu_bytes": "gpu_bytes",
    "kv_tokens": "kv_tokens",
    "n_parallel": "n_parallel",
}
"""What the engine says of a model that is loaded."""


async def describe_settings(server: Server, request: Request) -> Response:
    """What this server was set up with: limits, who may call, what is kept where. Never a key."""
    guard, media, watch = server.options.guard, server.options.media, server.options.registry
    in_force = None if watch is None else watch.settings
    return json_response(
        {
            "object": "settings",
            "server": {
                "version": __version__,
                "api": server.options.api,
                "pid": os.getpid(),
                "started_at": server.started_at,
                "key_required": guard.api_key is not None,
                "open_admin": guard.open_admin,
                "record_text": server.options.record_text,
            },
            "registry": None if watch is None else {"file": shown(watch.path), "error": watch.error},
            "models": {
                name: {"value": getattr(in_force, name, None), "what": effect(config.Settings, name)}
                for name in _CHOSEN
            },
            "limits": {
                name: {"value": getattr(server.options.limits, name), "what": effect(config.Limits, name)}
                for name in config.Limits.model_fields
            },
            "callers": {
                "hosts": list(guard.allow_hosts),
                "origins": list(guard.allow_origins),
                "app_origins": guard.allow_app_origins,
            },
            "media": {"urls": media.urls, "hosts": list(media.allow_hosts)},
            "import_roots": None if server.options.imports is None else list(map(shown, server.options.imports.roots)),
            "storage": await _storage(server),
            "providers": {name: _provider(name) for name in support.PROVIDERS},
        }
    )


def _provider(name: str) -> dict[str, Any]:
    """Whether an engine can be used here; the fake one needs no package."""
    version = engines.version(name) if name in engines.DISTRIBUTIONS else __version__
    return {"installed": version is not None, "version": version, "missing": engines.missing(name) or None}


# ---- storage ---------------------------------------------------------------------------------------------------------


async def _storage(server: Server) -> dict[str, Any]:
    recorder, responses = server.place.performance, server.responses.store
    folders = {"models": library.models_folder(), "files": server.options.data_folder}
    return {
        "performance": _kept(await recorder.ask(_used), recorder.keep_seconds, recorder.keep_bytes),
        "responses": _kept(await responses.ask(_used), responses.keep_seconds, responses.keep_bytes),
        **{name: await asyncio.to_thread(_folder, path) for name, path in folders.items()},
    }


def _used(file: SqliteFile) -> tuple[Path | None, int]:
    return file.path, file.used_bytes


def _kept(used: tuple[Path | None, int], keep_seconds: float, keep_bytes: int) -> dict[str, Any]:
    path, used_bytes = used
    return {
        "file": None if path is None else shown(path),
        "used_bytes": used_bytes,
        "keep_bytes": keep_bytes,
        "keep_seconds": None if math.isinf(keep_seconds) else keep_seconds,
    }


def _folder(path: Path | None) -> dict[str, Any]:
    """Where it lies, and what is free there; None: in a temporary folder, as long as the server runs."""
    there = next((one for one in (path, *path.parents) if one.exists()), None) if path is not None else None
    free = shutil.disk_usage(there).free if there is not None else None
    return {"folder": None if path is None else shown(path), "free_bytes": free}


# ---- of the models ---------------------------------------------------------------------------------------------------


async def list_model_states(server: Server, request: Request) -> Response:
    """Every model: its state, what its files say, and where and in how much memory it is computed."""
    return json_response({"object": "list", "data": [_state(card) for card in await server.cards.all()]})


def _state(card: Card) -> dict[str, Any]:
    status, info, loaded = card.status, card.info, card.status.info
    return {
        **status_of(status),
        "provider": card.spec.provider,
        "description": card.spec.description,
        "aliases": list(card.spec.aliases),
        "tags": list(card.spec.tags),
        "load_fraction": status.load_fraction if status.state == "loading" else None,
        "format": card.format,
        "size_bytes": card.size_bytes,
        "modified_at": card.modified_at,
        "architecture": info.architecture if info else None,
        "parameters": info.n_parameters if info else None,
        "quantization": info.quantization if info else None,
        "context_length": card.context_length,
        "n_ctx_trained": info.n_ctx_trained if info else None,
        "capabilities": list(info.capabilities) if info else None,
        "compute": compute_mode(loaded),
        **{key: getattr(loaded, name, None) for key, name in _PLACED.items()},
    }


async def describe_model_settings(server: Server, request: Request) -> Response:
    """A model's settings: their schema with what each does, the values in force, and which were changed here."""
    seen = await _settings_of(server).see(request.path_params["model_id"])
    return json_response(await asyncio.to_thread(model_settings.told, seen))


async def change_model_settings(server: Server, request: Request) -> Response:
    """Lay settings over the model's entry of models.yaml, which stays as it is; `dry_run` shows the difference.

    What a loaded model was loaded with takes effect by loading it anew once it is idle.
    """
    body = await read_body(request, server.options.limits.max_body_bytes)
    fields = await off_loop(len(body), admin_body.parse_settings, body)
    model = request.path_params["model_id"]
    seen = await _settings_of(server).change(model, Wanted(fields.set, fields.reset, fields.dry_run))
    told = {
        **await asyncio.to_thread(model_settings.told, seen),
        "written": bool(seen.difference) and not fields.dry_run,
        "reloads": seen.reloads,
        "difference": seen.difference,
    }
    response = json_response(told)
    response.headers.update(dict(ignored_header(table.told(fields))))
    return response


def _settings_of(server: Server) -> ModelSettings:
    """Raises UnsupportedFeature."""
    if server.options.registry is None:
        raise UnsupportedFeature("This server follows no models.yaml: settings don't change while it runs.")
    return ModelSettings(server.options.registry.path, server.options.registry.read_anew)
