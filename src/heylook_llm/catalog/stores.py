"""Where the Hugging Face cache, Ollama and LM Studio keep models, and what they call them."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from heylook_llm.catalog.scan import Candidate, Skipped

MAX_MANIFEST_BYTES: Final = 1 << 20
MODEL_LAYER: Final = "application/vnd.ollama.image.model"
PROJECTOR_LAYER: Final = "application/vnd.ollama.image.projector"
_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{64})")
_SNAPSHOT: Final = re.compile(r"models--(?P<repo>.+)")
_OLLAMA_DEFAULT: Final = ("registry.ollama.ai", "library")


def hugging_face_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """$HF_HUB_CACHE, $HF_HOME/hub, or the default."""
    if cache := environment.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def ollama_store(environment: Mapping[str, str] = os.environ) -> Path:
    """$OLLAMA_MODELS, the user's store, or the one of Linux's system service."""
    if folder := environment.get("OLLAMA_MODELS"):
        return Path(folder).expanduser()
    users = Path("~/.ollama/models").expanduser()
    system = Path("/usr/share/ollama/.ollama/models")
    return system if not users.is_dir() and system.is_dir() else users


def lm_studio_folder() -> Path:
    """Where LM Studio keeps models: the place of now, else the one of before."""
    places = (Path("~/.lmstudio/models").expanduser(), Path("~/.cache/lm-studio/models").expanduser())
    return next((place for place in places if place.is_dir()), places[0])


def repository(path: Path) -> str | None:
    """ "org/name" of a path in the Hugging Face cache: models--org--name/snapshots/REVISION/..."""
    parts = path.parts
    for at, part in enumerate(parts[:-1]):
        match = _SNAPSHOT.fullmatch(part)
        if match is not None and parts[at + 1] == "snapshots":
            return match["repo"].replace("--", "/", 1)
    return None


def is_current_snapshot(path: Path) -> bool:
    """Whether a path of the Hugging Face cache lies in the revision that `main` names; true of any other path."""
    parts = path.parts
    for at, part in enumerate(parts[:-2]):
        if _SNAPSHOT.fullmatch(part) and parts[at + 1] == "snapshots":
            reference = Path(*parts[: at + 1], "refs", "main")
            try:
                return reference.read_text(encoding="utf-8").strip() == parts[at + 2]
            except (OSError, UnicodeDecodeError):
                return True
    return True


class OllamaStore:
    """Ollama's models: manifests that name blobs by digest. A blob is a GGUF file without the ending."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.skipped: list[Skipped] = []

    def models(self) -> list[tuple[str, Candidate, Path | None]]:
        """(name with tag, its file, its projector) of each manifest that names a whole model."""
        manifests = self._folder / "manifests"
        if not manifests.is_dir():
            self._skip(self._folder, "holds no Ollama store (no folder `manifests`)")
            return []
        found = []
        for path in sorted(manifests.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                model = self._model(path, path.relative_to(manifests).parts)
                if model is not None:
                    found.append(model)
        return found

    def _model(self, path: Path, parts: tuple[str, ...]) -> tuple[str, Candidate, Path | None] | None:
        if len(parts) != 4:  # host, namespace, name, tag
            self._skip(path, "is not where a manifest lies")
            return None
        manifest = self._manifest(path)
        if manifest is None:
            return None
        layers = manifest.get("layers")
        blobs = {layer.get("mediaType"): layer.get("digest") for layer in layers or () if isinstance(layer, dict)}
        file = self._blob(path, blobs.get(MODEL_LAYER))
        if file is None:
            return None
        projector = self._blob(path, blobs[PROJECTOR_LAYER]) if PROJECTOR_LAYER in blobs else None
        return _ollama_name(parts), Candidate(file, self._folder), projector

    def _manifest(self, path: Path) -> dict[str, Any] | None:
        try:
            if path.stat().st_size > MAX_MANIFEST_BYTES:
                self._skip(path, "is too large for a manifest")
                return None
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("layers"), list):
            self._skip(path, "is no manifest")
            return None
        return found

    def _blob(self, manifest: Path, digest: object) -> Path | None:
        """The file of a digest, which must be one: it becomes part of a path."""
        match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
        if match is None:
            self._skip(manifest, "names no model file by a sha256 digest (a cloud model, perhaps)")
            return None
        file = self._folder / "blobs" / f"sha256-{match[1]}"
        if not file.is_file():
            self._skip(manifest, f"names a file that isn't there ({file.name[:19]}...)")
            return None
        if not file.resolve().is_relative_to(self._folder.resolve()):
            self._skip(manifest, f"names a file that is a link out of the store ({file.name[:19]}...)")
            return None
        return file

    def _skip(self, path: Path, reason: str) -> None:
        self.skipped.append(Skipped(path, reason))


def _ollama_name(parts: tuple[str, ...]) -> str:
    """As `ollama list` shows it: host and namespace only where they aren't the default."""
    host, namespace, name, tag = parts
    if (host, namespace) == _OLLAMA_DEFAULT:
        return f"{name}:{tag}"
    if host == _OLLAMA_DEFAULT[0]:
        return f"{namespace}/{name}:{tag}"
    return f"{host}/{namespace}/{name}:{tag}"
