"""Pulled models in the registry: noted in its overlay, and removed from it with their files."""

import contextlib
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from heylook_llm import config, registry
from heylook_llm.catalog import facts, importing, library, partial, projector, split
from heylook_llm.catalog.blobs import Blobs
from heylook_llm.catalog.hub import Name, is_projector
from heylook_llm.catalog.importing import Found
from heylook_llm.catalog.pull import Pulled
from heylook_llm.config import ModelSpec, canonical
from heylook_llm.errors import Conflict, HeylookError, LoadFailed, ModelNotFound, PullFailed

log = logging.getLogger(__name__)


def register(path: Path, pulled: Pulled) -> str:
    """Note a pulled model in the overlay, under the name it was asked for; returns its id. Reads and writes files."""
    with registry.changing(path):
        settings = registry.load(path)
        known = next((spec for spec in settings.models if spec.path == pulled.path.absolute()), None)
        if known is not None and not _lacks_eyes(known, pulled):
            return known.id
        over = registry.read_overlay(path)
        entry = _new_entry(settings, pulled) if known is None else _with_eyes(known, pulled, over)
        registry.write(registry.overlay_path(path), registry.overlay_text(registry.with_models(over, [entry])))
    return str(entry["id"])


def _new_entry(settings: config.Settings, pulled: Pulled) -> dict[str, Any]:
    read = facts.of_gguf if pulled.path.suffix == ".gguf" else facts.of_folder
    try:
        of_model = read(pulled.path)
    except HeylookError as error:
        words = f"{pulled.name.repository}: what came can't be served: {error.message}"
        raise PullFailed(words, code="unservable") from error
    eyes = _eyes(pulled, of_model.embedding_length)
    found = Found(_id_of(pulled.name), pulled.path.absolute(), of_model, eyes)
    taken = {canonical(name) for spec in settings.models for name in (spec.id, *spec.aliases)}
    return importing.entry(importing.renamed(found, taken), None, {})


def _eyes(pulled: Pulled, text_width: int | None) -> Path | None:
    """The projector that came along, if it can be used with the model."""
    if pulled.projector is None:
        return None
    try:
        eyes = projector.read(pulled.projector, pulled.name.repository)
        if text_width is not None:
            projector.check_fits(eyes, text_width, pulled.name.repository)
    except LoadFailed as error:
        log.warning("%s doesn't see: %s", pulled.name.repository, error.message)
        return None
    return pulled.projector.absolute()


def _lacks_eyes(known: ModelSpec, pulled: Pulled) -> bool:
    """Whether a model was pulled before its projector was."""
    if pulled.projector is None or getattr(known.config, "mmproj_path", "") is not None:
        return False
    return _eyes(pulled, facts.of_gguf(pulled.path).embedding_length) is not None


def _with_eyes(known: ModelSpec, pulled: Pulled, over: Mapping[str, Any]) -> dict[str, Any]:
    """Its entry of the overlay, with the projector."""
    entries = {canonical(entry["id"]): entry for entry in over["models"]}
    entry: dict[str, Any] = entries.get(canonical(known.id), {"id": known.id})
    own: dict[str, Any] = entry.get("config") or {}
    assert pulled.projector is not None
    return {**entry, "config": {**own, "mmproj_path": str(pulled.projector.absolute())}}


def _id_of(name: Name) -> str:
    plain = name.asked.partition("://")[2] or name.asked
    return plain if config.ID_PATTERN.fullmatch(plain) else f"{name.repository}{':' + name.tag if name.tag else ''}"


def unregister(path: Path, model: str) -> None:
    """Take a model out of the overlay, or note that one of models.yaml isn't served; files that are ours go.

    Ours are those that a pull or a creation brought, unless another model is loaded from them.
    Raises ModelNotFound, Conflict, ConfigError.
    """
    with registry.changing(path):
        settings = registry.load(path)
        spec = config.named(settings.models, model)
        if spec is None:
            raise ModelNotFound(model=model)
        if settings.default_model is not None and config.named([spec], settings.default_model):
            raise Conflict(f"'{spec.id}' is the default_model of {path.name}; name another one there first.")
        others = [other for other in settings.models if other is not spec]
        with claimed_files(spec):
            over = registry.without_model(registry.read_overlay(path), spec.id)
            registry.write(registry.overlay_path(path), registry.overlay_text(over))
            remove_files(spec, others)


@contextlib.contextmanager
def claimed_files(spec: ModelSpec) -> Iterator[None]:
    """Be the one who changes the folders of ours that a model lies in. Raises Conflict."""
    root = library.models_folder()
    with contextlib.ExitStack() as held:
        for name in sorted(_own_folders(spec, root)):
            try:
                held.enter_context(library.claimed(name, root))
            except library.Busy as error:
                raise Conflict(
                    f"'{spec.id}' can't be removed while {name} is being pulled or made; wait for it or cancel it."
                ) from error
        yield


def remove_files(spec: ModelSpec, others: Iterable[ModelSpec]) -> None:
    """Remove the files of ours that a model was loaded from, but those that others are."""
    root = library.models_folder()
    used = {part.resolve() for other in others for file in other.files for part in split.parts(file)}
    for name in _own_folders(spec, root):
        folder = library.folder_of(name, root).resolve()
        own = {part.resolve() for file in spec.files for part in split.parts(file)}
        kept = {file for file in used if file.is_relative_to(folder)}
        if kept or _holds_others(folder, own):
            for file in own - kept:
                if file.is_relative_to(folder) and file.is_file():
                    partial.remove(file)
        else:
            _remove_folder(folder, root)


def _own_folders(spec: ModelSpec, root: Path) -> set[str]:
    """The folders below ours, as two names, that a model's files lie in."""
    found = set()
    for file in spec.files:
        with contextlib.suppress(ValueError):
            inside = file.resolve().relative_to(root.resolve())
            if len(inside.parts) > 1:
                found.add("/".join(inside.parts[:2]))
    return found


def _holds_others(folder: Path, own: set[Path]) -> bool:
    """Whether a folder holds GGUF models beside these, which another registry may serve; eyes alone are none."""
    if any(file.is_dir() for file in own):
        return False
    return any(file not in own and not is_projector(file.name) for file in folder.rglob("*.gguf"))


def _remove_folder(folder: Path, root: Path) -> None:
    """Remove a folder, and the uploads that its files were linked from."""
    files = [file.stat() for file in folder.rglob("*") if file.is_file()]
    shutil.rmtree(folder, ignore_errors=True)
    Blobs(root).forget(files)
