"""Pulled models in the registry: noted in its overlay, and removed from it with their files."""

import shutil
from pathlib import Path

from heylook_llm import config, registry
from heylook_llm.catalog import facts, importing, split
from heylook_llm.catalog.hub import Name
from heylook_llm.catalog.importing import Found
from heylook_llm.catalog.pull import Pulled, models_folder
from heylook_llm.config import canonical
from heylook_llm.errors import Conflict, HeylookError, ModelNotFound, PullFailed


def register(path: Path, pulled: Pulled) -> str:
    """Note a pulled model in the overlay, under the name it was asked for; returns its id. Reads and writes files."""
    settings = registry.load(path)
    known = next((spec for spec in settings.models if spec.path == pulled.path.absolute()), None)
    if known is not None:
        return known.id
    read = facts.of_gguf if pulled.path.suffix == ".gguf" else facts.of_folder
    try:
        found = Found(_id_of(pulled.name), pulled.path.absolute(), read(pulled.path))
    except HeylookError as error:
        words = f"{pulled.name.repository}: what came can't be served: {error.message}"
        raise PullFailed(words, code="unservable") from error
    taken = {canonical(name) for spec in settings.models for name in (spec.id, *spec.aliases)}
    entry = importing.entry(importing.renamed(found, taken), None, {})
    over = registry.with_models(registry.read_overlay(path), [entry])
    registry.write(registry.overlay_path(path), registry.overlay_text(over))
    return str(entry["id"])


def _id_of(name: Name) -> str:
    plain = name.asked.partition("://")[2] or name.asked
    return plain if config.ID_PATTERN.fullmatch(plain) else f"{name.repository}{':' + name.tag if name.tag else ''}"


def unregister(path: Path, model: str) -> None:
    """Take a model out of the overlay, or note that one of models.yaml isn't served; files that we pulled go."""
    settings = registry.load(path)
    names = {canonical(name): spec for spec in settings.models for name in (spec.id, *spec.aliases)}
    spec = names.get(canonical(model))
    if spec is None:
        raise ModelNotFound(model=model)
    if settings.default_model is not None and names.get(canonical(settings.default_model)) is spec:
        raise Conflict(f"'{spec.id}' is the default_model of {path.name}; name another one there first.")
    over = registry.without_model(registry.read_overlay(path), spec.id)
    registry.write(registry.overlay_path(path), registry.overlay_text(over))
    if not any(other.path == spec.path for other in settings.models if other.id != spec.id):
        _remove_pulled(spec.path, models_folder())


def _remove_pulled(path: Path, root: Path) -> None:
    """Remove a model's files, if they lie in the folder of what we pulled."""
    try:
        inside = path.resolve().relative_to(root.resolve())
    except ValueError:
        return
    if len(inside.parts) < 2:
        return
    folder = root / inside.parts[0] / inside.parts[1]
    if path.is_dir() or not any(other != path for other in folder.rglob("*.gguf")):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        for part in split.parts(path):
            part.unlink(missing_ok=True)
