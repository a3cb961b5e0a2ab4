"""Pulled models in the registry: noted in its overlay, and removed from it with their files."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from heylook_llm import config, registry
from heylook_llm.catalog import facts, importing, library, partial, split
from heylook_llm.catalog.hub import Name
from heylook_llm.catalog.importing import Found
from heylook_llm.catalog.pull import Pulled
from heylook_llm.config import canonical
from heylook_llm.errors import Conflict, HeylookError, ModelNotFound, PullFailed


def register(path: Path, pulled: Pulled) -> str:
    """Note a pulled model in the overlay, under the name it was asked for; returns its id. Reads and writes files."""
    read = facts.of_gguf if pulled.path.suffix == ".gguf" else facts.of_folder
    with registry.changing(path):
        settings = registry.load(path)
        known = next((spec for spec in settings.models if spec.path == pulled.path.absolute()), None)
        if known is not None:
            return known.id
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
    """Take a model out of the overlay, or note that one of models.yaml isn't served; files that we pulled go.

    Raises ModelNotFound, Conflict, ConfigError.
    """
    with registry.changing(path):
        settings = registry.load(path)
        names = {canonical(name): spec for spec in settings.models for name in (spec.id, *spec.aliases)}
        spec = names.get(canonical(model))
        if spec is None:
            raise ModelNotFound(model=model)
        if settings.default_model is not None and names.get(canonical(settings.default_model)) is spec:
            raise Conflict(f"'{spec.id}' is the default_model of {path.name}; name another one there first.")
        shared = any(other.path == spec.path for other in settings.models if other.id != spec.id)
        root = library.models_folder()
        with _claimed(None if shared else _repository_of(spec.path, root), root, spec.id) as repository:
            over = registry.without_model(registry.read_overlay(path), spec.id)
            registry.write(registry.overlay_path(path), registry.overlay_text(over))
            if repository is not None:
                _remove(spec.path, library.folder_of(repository, root))


@contextlib.contextmanager
def _claimed(repository: str | None, root: Path, model: str) -> Iterator[str | None]:
    """The repository whose files go, with nobody fetching into it meanwhile; None: no files go. Raises Conflict."""
    if repository is None:
        yield None
        return
    try:
        with library.claimed(repository, root):
            yield repository
    except library.Busy as error:
        raise Conflict(
            f"'{model}' can't be removed while {repository} is being pulled; wait for it or cancel it."
        ) from error


def _repository_of(path: Path, root: Path) -> str | None:
    """The repository that a model's files were pulled from; None where they lie anywhere else."""
    try:
        inside = path.resolve().relative_to(root.resolve())
    except ValueError:
        return None
    return "/".join(inside.parts[:2]) if len(inside.parts) >= 2 else None


def _remove(path: Path, folder: Path) -> None:
    """Remove a pulled model's files, and its folder unless other models lie in it."""
    parts = split.parts(path)
    if path.is_dir() or not any(other not in parts for other in folder.rglob("*.gguf")):
        shutil.rmtree(folder, ignore_errors=True)
        return
    for part in parts:
        partial.remove(part)
