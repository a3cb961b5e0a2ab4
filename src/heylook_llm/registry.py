"""The registry in force: models.yaml with the overlay beside it, which only we write.

A user's file is never changed. What commands and requests add (imported models, settings, models made from others)
stands in `models.overlay.yaml`: entries of the same shape, laid over those of the same id, and ids to leave out.
"""

import contextlib
import difflib
import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import platformdirs
import yaml

from heylook_llm import config
from heylook_llm.config import BUNDLED, Settings, canonical
from heylook_llm.errors import ConfigError

OVERLAY_SUFFIX: Final = ".overlay.yaml"
REMOVED: Final = "removed"
_HEAD: Final = """\
# Written by heylookllm; laid over the file of the same name beside it, which is never changed. An entry of a known id
# changes what that entry says; a new id is a model of its own; `removed` lists ids that aren't served.
"""


def overlay_path(path: Path) -> Path:
    """Where the overlay of a models.yaml lies: beside it; that of the bundled one in the user's config folder."""
    if path == BUNDLED:
        return Path(platformdirs.user_config_dir("heylookllm", appauthor=False)) / f"bundled{OVERLAY_SUFFIX}"
    return path.with_name(path.stem + OVERLAY_SUFFIX)


def load(path: Path) -> Settings:
    """Read and validate models.yaml and its overlay. Raises ConfigError with one line that names file and place."""
    document = config.document_of(config.read(path), path)
    laid = overlay_path(path)
    if not laid.is_file():
        return config.validate(document, path)
    over = read_overlay(path)
    with _naming(laid, path):
        return config.validate(merged(document, over), path)


@contextlib.contextmanager
def _naming(laid: Path, path: Path) -> Any:
    """Errors of a merged document name both files: either may be the cause."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{laid}, laid over {error.message.removeprefix(str(path) + ': ')}") from error


def read_overlay(path: Path) -> dict[str, Any]:
    """The overlay of a models.yaml as YAML gives it, its paths absolute; empty where there is none."""
    laid = overlay_path(path)
    if not laid.is_file():
        return {"models": []}
    document = config.document_of(config.read(laid), laid)
    removed = document.get(REMOVED) or []
    if not isinstance(removed, list) or not all(isinstance(name, str) for name in removed):
        raise ConfigError(f"{laid}: `{REMOVED}` must be a list of model ids")
    for at, entry in enumerate(document.get("models") or []):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
            raise ConfigError(f"{laid}: models[{at}] must be a mapping with an `id`")
        if isinstance(entry.get("config"), dict):
            entry["config"] = config.absolute(entry["config"], laid)
    return {**document, "models": list(document.get("models") or [])}


def merged(document: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A document with an overlay laid over it: model by model, key by key."""
    removed = {canonical(name) for name in over.get(REMOVED) or ()}
    changes = {canonical(entry["id"]): entry for entry in over.get("models") or ()}
    models: list[Any] = []
    for entry in document.get("models") or ():
        name = canonical(str(entry.get("id"))) if isinstance(entry, dict) else ""
        if name in removed:
            continue
        change = changes.pop(name, None)
        models.append(entry if change is None else _laid(entry, change))
    models += [entry for name, entry in changes.items() if name not in removed]
    rest = {key: value for key, value in over.items() if key not in (REMOVED, "models")}
    return {**document, **rest, "models": models}


def _laid(entry: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """One entry with another laid over it; of another provider's `config` nothing remains."""
    below = entry.get("config") or {}
    if change.get("provider", entry.get("provider")) != entry.get("provider"):
        below = {}
    both = {**entry, **change}
    if isinstance(below, dict) and isinstance(change.get("config") or {}, dict):
        both["config"] = {**below, **(change.get("config") or {})}
    return both


# ---- writing ---------------------------------------------------------------------------------------------------------


def overlay_text(over: Mapping[str, Any]) -> str:
    """The text of an overlay."""
    return _HEAD + dump(over)


def dump(document: Mapping[str, Any]) -> str:
    """YAML as a person would write it: keys in their order, one below the other, any script as it is."""
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Lists are indented below their key; those of plain values stand on one line."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, not any(isinstance(item, dict | list) for item in sequence))


@contextlib.contextmanager
def changing(path: Path) -> Iterator[None]:
    """Be the one, of all processes, who reads and then writes the overlay of a models.yaml; others wait."""
    laid = overlay_path(path)
    try:
        laid.parent.mkdir(parents=True, exist_ok=True)
        lock = laid.with_name(f".{laid.name}.lock").open("w")
    except OSError as error:
        raise ConfigError(f"{laid}: can't be written: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def with_models(over: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """An overlay with these entries in it; one of the same id is replaced in its place, and no longer removed."""
    added = {canonical(entry["id"]): dict(entry) for entry in entries}
    models = [added.pop(canonical(entry["id"]), entry) for entry in over.get("models") or ()]
    kept = {key: value for key, value in over.items() if key != "models"}
    names = {canonical(entry["id"]) for entry in (*models, *added.values())}
    if REMOVED in kept:
        kept[REMOVED] = [name for name in kept[REMOVED] or () if canonical(name) not in names]
    return {**kept, "models": [*models, *added.values()]}


def without_model(over: Mapping[str, Any], model: str) -> dict[str, Any]:
    """An overlay that neither adds the model nor lets the file below serve it."""
    models = [entry for entry in over.get("models") or () if canonical(entry["id"]) != canonical(model)]
    removed = [name for name in over.get(REMOVED) or () if canonical(name) != canonical(model)]
    return {**over, "models": models, REMOVED: [*removed, model]}


def difference(path: Path, text: str, name: str) -> str:
    """How a file, which may not be there yet, would change, as `diff -u` shows it under that name."""
    before = config.read(path).splitlines(keepends=True) if path.is_file() else []
    return "".join(difflib.unified_diff(before, text.splitlines(keepends=True), name, f"{name} (new)"))


def write(path: Path, text: str) -> None:
    """Replace a file in one piece, or leave it as it was. Raises ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror}") from error
