"""Found models as entries of models.yaml: names, projectors joined to their models, and what was left out, with why."""

import bisect
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from heylook_llm.catalog import facts as facts_of_files
from heylook_llm.catalog import profiles, split, stores
from heylook_llm.catalog.facts import Facts
from heylook_llm.catalog.scan import Candidate, Skipped, Walk
from heylook_llm.config import ID_PATTERN, canonical
from heylook_llm.errors import LoadFailed

MAX_ID_CHARACTERS: Final = 120
LARGE_PARAMETERS: Final = 30_000_000_000
SMALL_PARAMETERS: Final = 3_000_000_000
ADAPTER: Final = "is an adapter, which belongs to the config of its base model"
_NOT_IN_AN_ID: Final = re.compile(r"[^A-Za-z0-9_.:/@+-]+")
_MESSAGE_START: Final = re.compile(r"^Model '.*?' can't be loaded: ")


@dataclass(frozen=True, slots=True)
class Found:
    """A model that can be served: its entry's name, its facts, its file or folder."""

    id: str
    path: Path
    facts: Facts
    projector: Path | None = None
    """The image projector that fits it."""
    drafts_for: tuple[str, ...] = ()
    """Larger models of the same vocabulary, for which it may propose tokens."""


@dataclass(slots=True)
class Findings:
    """What an import found."""

    models: list[Found] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to look."""

    folders: tuple[Path, ...] = ()
    hugging_face: Path | None = None
    ollama: Path | None = None
    lm_studio: Path | None = None

    @property
    def roots(self) -> list[Path]:
        """The folders to walk; Ollama's store is read by its manifests instead."""
        return [root for root in (*self.folders, self.hugging_face, self.lm_studio) if root is not None]


@dataclass(frozen=True, slots=True)
class _Named:
    """A file with its facts and the name that its place suggests."""

    name: str
    path: Path
    facts: Facts
    projector: Path | None = None


def find(sources: Sources, check: Callable[[], None] = lambda: None) -> Findings:
    """Every model of the sources, in the order of their names; nothing is copied or changed.

    `check` is called before each file, and ends the look by raising.
    """
    findings = Findings()
    named: list[_Named] = []
    walk = Walk(sources.roots, check)
    for candidate in walk.candidates():
        check()
        if stores.is_current_snapshot(candidate.path):
            named += _read(candidate, _name_of(candidate, sources), findings)
    findings.skipped += walk.skipped
    if sources.ollama is not None:
        store = stores.OllamaStore(sources.ollama)
        for name, candidate, projector in store.models():
            check()
            seen = projector if projector is not None and _offered(projector, findings) else None
            named += [replace(one, projector=seen) for one in _read(candidate, name, findings)]
        findings.skipped += store.skipped
    _join(named, findings)
    return findings


def entry(found: Found, profile: str | None, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of models.yaml, as plain values."""
    eyes = {"mmproj_path": str(found.projector)} if found.projector is not None else {}
    config = {"model_path": str(found.path), **eyes, **profiles.configuration(found.facts, profile, overrides)}
    return {
        "id": found.id,
        "provider": found.facts.provider,
        "description": description(found),
        "tags": list(tags(found)),
        "enabled": True,
        "config": config,
    }


def description(found: Found) -> str:
    """One line: what it is, how large, how precise."""
    facts = found.facts
    parts = [
        facts.name,
        f"{facts.architecture} {facts.kind} model",
        f"{facts.parameters / 1e9:.1f} B parameters" if facts.parameters and facts.parameters >= 1e8 else None,
        facts.quantization,
        f"context {facts.context_length}" if facts.context_length else None,
    ]
    return ", ".join(part for part in parts if part)


def tags(found: Found) -> Iterable[str]:
    """What a client may filter by."""
    facts = found.facts
    yield facts.kind
    yield "gguf" if facts.provider == "llama_cpp" else "mlx"
    yield from facts.abilities
    if found.projector is not None:
        yield "vision"
    if facts.parameters is not None and facts.parameters >= LARGE_PARAMETERS:
        yield "large"
    if facts.parameters is not None and facts.parameters <= SMALL_PARAMETERS:
        yield "small"
    if found.drafts_for:
        yield "draft"


# ---- from files to names ---------------------------------------------------------------------------------------------


def _read(candidate: Candidate, name: str, findings: Findings) -> list[_Named]:
    """The facts of a candidate; none, and a reason, where it can't be served."""
    facts = _facts(candidate)
    if isinstance(facts, Facts):
        return [_Named(name, candidate.path, facts)]
    findings.skipped.append(Skipped(candidate.path, facts))
    return []


def _offered(projector: Path, findings: Findings) -> bool:
    """Whether a projector can be used."""
    facts = _facts(Candidate(projector, projector.parent))
    if isinstance(facts, Facts) and facts.kind == "projector":
        return True
    reason = facts if isinstance(facts, str) else "is no projector of images"
    findings.skipped.append(Skipped(projector, reason))
    return False


def _facts(candidate: Candidate) -> Facts | str:
    """The facts of a candidate, or the reason why it can't be served."""
    if candidate.adapter:
        return ADAPTER
    try:
        facts = (facts_of_files.of_folder if candidate.folder else facts_of_files.of_gguf)(candidate.path)
    except LoadFailed as error:
        reason = _MESSAGE_START.sub("", error.message).removeprefix("the file ").rstrip(".")
        return reason.removeprefix("its `mmproj_path` ")
    if facts.kind == "embedding" and facts.provider == "mlx":
        return "is an embedding model in safetensors; its GGUF can be served"
    return ADAPTER if facts.kind == "adapter" else facts


def _name_of(candidate: Candidate, sources: Sources) -> str:
    """org/name in the Hugging Face cache and LM Studio's folder, else the file's or folder's own name."""
    path = candidate.path
    own = path.name if candidate.folder else split.model_of(path.name)
    if (repository := stores.repository(path)) is not None:
        return repository if candidate.folder else f"{repository}:{own}"
    if sources.lm_studio is not None and candidate.root == sources.lm_studio.resolve():
        parts = path.relative_to(candidate.root).parts
        if len(parts) >= 2:
            return "/".join(parts[:2]) if candidate.folder else f"{'/'.join(parts[:2])}:{own}"
    return own


def _join(named: list[_Named], findings: Findings) -> None:
    """Projectors to the models they fit, unique names to all, drafts to what they may draft for."""
    projectors = [one for one in named if one.facts.kind == "projector"]
    models = [one for one in named if one.facts.kind != "projector"]
    alike = _by_vocabulary(models)
    used: set[Path] = set()
    taken: set[str] = set()
    for one in models:
        projector = one.projector or _projector_of(one, projectors)
        if projector is not None:
            used.add(projector)
        drafts = _drafts_for(one, alike.get((one.facts.provider, one.facts.vocabulary), []))
        findings.models.append(Found(_unique(one, taken), one.path, one.facts, projector, drafts))
    for lone in projectors:
        if lone.path not in used:
            findings.skipped.append(Skipped(lone.path, "is a projector, and no model in its folder fits it"))


def _projector_of(model: _Named, projectors: list[_Named]) -> Path | None:
    """The projector in the model's folder whose output is as wide as the model."""
    if model.facts.kind not in ("chat", "base") or model.facts.provider != "llama_cpp":
        return None
    fitting = [
        one.path
        for one in projectors
        if one.path.parent == model.path.parent and one.facts.embedding_length in (None, model.facts.embedding_length)
    ]
    return fitting[0] if fitting else None


def _by_vocabulary(models: list[_Named]) -> dict[tuple[str, str | None], list[_Named]]:
    """Models of one engine and one vocabulary, each list by size: among ten thousand nobody compares all with all."""
    found: dict[tuple[str, str | None], list[_Named]] = {}
    for one in models:
        if one.facts.vocabulary is not None:
            found.setdefault((one.facts.provider, one.facts.vocabulary), []).append(one)
    for alike in found.values():
        alike.sort(key=_parameters)
    return found


def _drafts_for(small: _Named, alike: list[_Named]) -> tuple[str, ...]:
    """Those of the same vocabulary, by size, that are at least four times as large."""
    mine = _parameters(small)
    if small.facts.kind not in ("chat", "base") or not 0 < mine <= SMALL_PARAMETERS:
        return ()
    return tuple(large.name for large in alike[bisect.bisect_left(alike, 4 * mine, key=_parameters) :])


def _parameters(one: _Named) -> int:
    return one.facts.parameters or 0


def renamed(found: Found, taken: set[str]) -> Found:
    """The same with a name that isn't among `taken`, where it is noted."""
    return replace(found, id=_free(found.id, taken))


def _unique(one: _Named, taken: set[str]) -> str:
    """A name that models.yaml allows and no other entry has."""
    plain = unicodedata.normalize("NFKD", one.name).encode("ascii", "ignore").decode()
    name = _NOT_IN_AN_ID.sub("-", plain).strip("-./:@+")[:MAX_ID_CHARACTERS]
    if not ID_PATTERN.fullmatch(name):
        name = f"model-{hashlib.sha256(str(one.path).encode()).hexdigest()[:8]}"
    return _free(name, taken)


def _free(name: str, taken: set[str]) -> str:
    free, number = name, 2
    while canonical(free) in taken:
        free, number = f"{name}-{number}", number + 1
    taken.add(canonical(free))
    return free
