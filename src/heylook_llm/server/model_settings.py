"""A model's settings as an operator sees and changes them while the server runs: laid over models.yaml, in its overlay.

A name is a key of the entry (`idle_ttl`) or of its `config` (`config.n_ctx`).
"""

import asyncio
import contextlib
import functools
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from heylook_llm import config, registry
from heylook_llm.catalog.import_plan import shown
from heylook_llm.config import ModelSpec, Settings, canonical
from heylook_llm.effects import SHARED, effect
from heylook_llm.errors import BadRequest, ConfigError, Conflict, Forbidden, ModelNotFound

ENTRY_KEYS: Final = ("description", "aliases", "tags", "pinned", "idle_ttl", "system")
"""Of an entry, what may be changed beside its `config`."""
PATH_KEYS: Final = frozenset({*config.PATH_KEYS, "lora", "log_file"})
_LOCKED: Final = "It names a file of this machine, which only models.yaml may."
_DURATION: Final = {"type": ["number", "string"], "examples": [300, "5m", "1h30m", "never"], "default": "never"}
CONFIG: Final = "config."


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be so."""

    set: Mapping[str, Any]
    reset: Sequence[str] = ()
    """Names that models.yaml decides again, or where it says nothing the default."""
    preview: bool = False
    """Nothing is written."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A model's settings, and what the overlay says of them."""

    spec: ModelSpec
    path: Path
    changed: tuple[str, ...]
    """Names that stand in the overlay."""
    difference: str = ""
    """Of the overlay, as `diff -u` shows it; of a change only."""
    reloads: bool = False
    """A loaded model has to be loaded anew for it."""


class ModelSettings:
    """Settings of the models of the registry at `path`; `follow_file` makes the server read that anew."""

    def __init__(self, path: Path, follow_file: Callable[[], Awaitable[None]]) -> None:
        self._path = path
        self._follow_file = follow_file

    async def see(self, model: str) -> Seen:
        """As they are. Raises ModelNotFound, Conflict."""
        return await asyncio.to_thread(self._see, model)

    async def change(self, model: str, wanted: Wanted) -> Seen:
        """Change them. Raises ModelNotFound, BadRequest, Forbidden, Conflict; then nothing is changed."""
        seen = await asyncio.to_thread(self._change, model, wanted)
        if seen.difference and not wanted.preview:
            await self._follow_file()
        return seen

    def _see(self, model: str) -> Seen:
        spec = _entry_of(self._load(), model)
        return Seen(spec, self._path, _names(_own(registry.read_overlay(self._path), spec)))

    def _change(self, model: str, wanted: Wanted) -> Seen:
        with contextlib.nullcontext() if wanted.preview else registry.changing(self._path):
            before = _entry_of(self._load(), model)
            _check(before, (*wanted.set, *wanted.reset))
            over = registry.read_overlay(self._path)
            own = _with(_own(over, before), wanted)
            text = registry.overlay_text(_laid(over, own))
            after = self._checked(text, before.id)
            target = registry.overlay_path(self._path)
            difference = registry.difference(target, text, target.name)
            if difference and not wanted.preview:
                registry.write(target, text)
        reloads = before.loaded_parts != after.loaded_parts
        return Seen(after, self._path, _names(own), difference, reloads)

    def _load(self) -> Settings:
        """The files as they are. Raises Conflict where they are broken: nothing can be laid over them."""
        try:
            return registry.load(self._path)
        except ConfigError as error:
            words = error.message.replace(f"{self._path.parent}/", "")
            raise Conflict(f"The registry can't be read, so nothing is changed: {words}") from error

    def _checked(self, text: str, model: str) -> ModelSpec:
        """The entry as the server will read it. Raises BadRequest with the reader's own words."""
        try:
            document = config.document_of(config.read(self._path), self._path)
            over = config.document_of(text, self._path)
            return _entry_of(config.validate(registry.merged(document, over), self._path), model)
        except ConfigError as error:
            words = error.message.replace(f"{self._path}: ", "").replace(f"{self._path.parent}/", "")
            raise BadRequest(words, code="invalid_value", param="set") from error


def _entry_of(settings: Settings, model: str) -> ModelSpec:
    spec = config.named(settings.models, model)
    if spec is None:
        raise ModelNotFound(model=model)
    return spec


def _check(spec: ModelSpec, names: Sequence[str]) -> None:
    """Raises BadRequest for a name that is none, Forbidden for one that only models.yaml may give."""
    known = config.PROVIDERS[spec.provider].model_fields
    every = [*ENTRY_KEYS, *(CONFIG + key for key in known)]
    for name in names:
        if name not in every:
            near = config.nearest(name, every)
            raise BadRequest(f"'{spec.id}' has no setting '{name[:64]}'{near}.", code="invalid_value", param="set")
        if name.removeprefix(CONFIG) in PATH_KEYS:
            raise Forbidden(f"`{name}` can't be changed here. {_LOCKED}", code="setting_locked", param="set")


# ---- the overlay -----------------------------------------------------------------------------------------------------


def _own(over: Mapping[str, Any], spec: ModelSpec) -> dict[str, Any]:
    """What the overlay says of a model."""
    found = (entry for entry in over["models"] if canonical(entry["id"]) == canonical(spec.id))
    return dict(next(found, {"id": spec.id}))


def _names(own: Mapping[str, Any]) -> tuple[str, ...]:
    settings = own.get("config") or {}
    entry = [key for key in ENTRY_KEYS if key in own]
    return (*entry, *(CONFIG + key for key in settings if key not in PATH_KEYS))


def _with(own: Mapping[str, Any], wanted: Wanted) -> dict[str, Any]:
    entry, settings = dict(own), dict(own.get("config") or {})
    for name in wanted.reset:
        (settings if name.startswith(CONFIG) else entry).pop(name.removeprefix(CONFIG), None)
    for name, value in wanted.set.items():
        (settings if name.startswith(CONFIG) else entry)[name.removeprefix(CONFIG)] = value
    entry.pop("config", None)
    return {**entry, "config": settings} if settings else entry


def _laid(over: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The overlay with a model's entry in it; one that says nothing any more leaves it."""
    if len(own) > 1:
        return registry.with_models(over, [own])
    kept = [entry for entry in over["models"] if canonical(entry["id"]) != canonical(own["id"])]
    return {**over, "models": kept}


# ---- in the words of the API -----------------------------------------------------------------------------------------


def told(seen: Seen) -> dict[str, Any]:
    """Settings, what they may be, and who says so. Not for the event loop: it may have to make the schema."""
    spec = seen.spec
    return {
        "id": spec.id,
        "object": "model.settings",
        "provider": spec.provider,
        "file": seen.path.name,
        "overlay": registry.overlay_path(seen.path).name,
        "schema": schema_of(spec.provider),
        "values": _values(spec),
        "changed": list(seen.changed),
    }


def _values(spec: ModelSpec) -> dict[str, Any]:
    entry = spec.model_dump(mode="json", include=set(ENTRY_KEYS))
    ttl = spec.idle_ttl
    settings = spec.config.model_dump(mode="json")
    paths = {key: _shown(value) for key, value in settings.items() if key in PATH_KEYS}
    return {
        **{key: entry[key] for key in ENTRY_KEYS},
        "idle_ttl": "never" if math.isinf(ttl) else ttl,
        "config": {**settings, **paths},
    }


def _shown(value: Any) -> Any:
    """A path, or what holds some, fit to be shown."""
    if isinstance(value, str):
        return shown(Path(value)) if value else value
    if isinstance(value, list):
        return [_shown(one) for one in value]
    return {key: _shown(one) for key, one in value.items()} if isinstance(value, dict) else value


@functools.cache
def schema_of(provider: str) -> dict[str, Any]:
    """What the settings of a model of a provider may be, each with what it does: a JSON schema.

    Kept, not to be changed: it takes tens of milliseconds to make.
    """
    entry, kind = ModelSpec.model_json_schema()["properties"], config.PROVIDERS[provider]
    settings = kind.model_json_schema()["properties"]
    described = {key: _described(entry[key], ModelSpec, key, "model") for key in ENTRY_KEYS}
    described["idle_ttl"] |= _DURATION
    return {
        "type": "object",
        "properties": {
            **described,
            "config": {
                "type": "object",
                "properties": {key: _described(settings[key], kind, key, _group(kind, key)) for key in settings},
            },
        },
    }


def _described(schema: Mapping[str, Any], kind: type[Any], key: str, group: str) -> dict[str, Any]:
    found = {name: value for name, value in schema.items() if name not in ("title", "description")}
    found |= {"description": effect(kind, key), "x-group": group}
    if key in PATH_KEYS:
        return {"description": found["description"], "x-group": "files", "readOnly": True, "x-locked": _LOCKED}
    return found


def _group(kind: type[Any], key: str) -> str:
    return next(
        (name for base, name in SHARED.items() if issubclass(kind, base) and key in base.model_fields), "engine"
    )
