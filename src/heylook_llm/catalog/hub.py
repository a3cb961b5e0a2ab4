"""What a name means on a Hugging Face hub: which repository, which of its files, and whether they may be fetched."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from heylook_llm.catalog import split
from heylook_llm.errors import BadRequest, PullFailed

MAX_FILES: Final = 10_000
MAX_PATH_CHARACTERS: Final = 240
SHORT_NAMES: Final = {
    "smollm2:135m": "bartowski/SmolLM2-135M-Instruct-GGUF",
    "smollm2:1.7b": "bartowski/SmolLM2-1.7B-Instruct-GGUF",
    "qwen2.5:0.5b": "Qwen/Qwen2.5-0.5B-Instruct-GGUF",
    "qwen2.5:1.5b": "Qwen/Qwen2.5-1.5B-Instruct-GGUF",
    "qwen2.5:7b": "bartowski/Qwen2.5-7B-Instruct-GGUF",
    "qwen3:0.6b": "Qwen/Qwen3-0.6B-GGUF",
    "qwen3:4b": "Qwen/Qwen3-4B-GGUF",
    "qwen3:8b": "Qwen/Qwen3-8B-GGUF",
    "llama3.2:1b": "bartowski/Llama-3.2-1B-Instruct-GGUF",
    "llama3.2:3b": "bartowski/Llama-3.2-3B-Instruct-GGUF",
    "llama3.1:8b": "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF",
    "gemma3:1b": "ggml-org/gemma-3-1b-it-GGUF",
    "gemma3:4b": "ggml-org/gemma-3-4b-it-GGUF",
    "mistral:7b": "bartowski/Mistral-7B-Instruct-v0.3-GGUF",
    "nomic-embed-text:v1.5": "nomic-ai/nomic-embed-text-v1.5-GGUF",
}
"""Names as Ollama's users type them. Any other model is named by its repository."""
PREFERRED: Final = ("Q4_K_M", "Q4_K_S", "Q5_K_M", "Q4_0", "IQ4_XS", "Q6_K", "Q8_0", "F16", "BF16", "F32")
"""Which GGUF of several a name without a tag means: the first that is there."""
PROJECTORS: Final = ("F16", "BF16", "Q8_0", "F32")
"""Which projector of several is fetched: the first that is there."""
_HOSTS: Final = ("https://huggingface.co/", "http://huggingface.co/", "hf.co/", "https://hf.co/", "huggingface.co/")
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_ALLOWED: Final = re.compile(
    r"(.*\.gguf|(.*/)?model.*\.safetensors(\.index\.json)?|[^/]*\.(json|jinja)|tokenizer\.model|merges\.txt|vocab\.txt)"
)
"""Nothing that could be code or a pickle is on this list, so none is ever fetched."""
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Name:
    """A model as it was asked for."""

    asked: str
    repository: str
    tag: str | None


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository at one commit. `sha256` is known of large files, `git_sha1` of all."""

    path: str
    size: int
    git_sha1: str
    sha256: str | None = None

    @property
    def digest(self) -> str:
        """What names its content."""
        return self.sha256 or self.git_sha1


def parse_name(text: str) -> Name:
    """hf.co/org/repo:TAG, org/repo:TAG, a page's address, or a short name. Raises BadRequest."""
    asked = text.strip()
    plain = asked.removesuffix("/").removesuffix(":latest")
    short = SHORT_NAMES.get(plain.lower())
    if short is not None:
        return Name(asked, short, None)
    for host in _HOSTS:
        plain = plain.removeprefix(host)
    repository, _, tag = plain.partition(":")
    if not _REPOSITORY.fullmatch(repository) or ".." in repository or (tag and not _TAG.fullmatch(tag)):
        raise BadRequest(
            f"'{asked[:200]}' names no model: write a Hugging Face repository, with a quantization if you like "
            f"(hf.co/org/repo:Q4_K_M), or one of {', '.join(SHORT_NAMES)}",
            code="invalid_model_name",
            param="model",
        )
    return Name(asked, repository, tag or None)


def select(name: Name, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """The files to fetch: the GGUF (all its parts) of the wanted quantization, else a folder of safetensors.

    A GGUF's projector, with which it sees, comes last.
    Raises PullFailed where the repository has nothing that can be served, or an unsafe path among what is wanted.
    """
    weights = [file for file in files if file.path.endswith(".gguf") and not is_projector(file.path)]
    chosen = [*_gguf(name, weights), *_eyes(files)] if weights else _folder(name, files)
    check_paths(chosen)
    return chosen


def is_projector(path: str) -> bool:
    """Whether a GGUF file's name says that it is the projector of a model that sees."""
    return "mmproj" in path.rpartition("/")[2].lower()


def _gguf(name: Name, weights: Sequence[RemoteFile]) -> list[RemoteFile]:
    models: dict[str, list[RemoteFile]] = {}
    for file in weights:
        models.setdefault(split.model_of(file.path), []).append(file)
    for wanted in (name.tag,) if name.tag is not None else PREFERRED:
        fitting = [stem for stem in models if _has_tag(stem, wanted)]
        if fitting:
            return _whole(models[min(fitting, key=len)])
    if name.tag is not None:
        known = ", ".join(sorted({tag for stem in models for tag in PREFERRED if _has_tag(stem, tag)})) or "none known"
        raise PullFailed(f"{name.repository} has no '{name.tag}'; it has: {known}", code="tag_not_found")
    return _whole(min(models.values(), key=lambda parts: sum(part.size for part in parts)))


def _eyes(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """The projector of several that serves best: half precision loses nothing, and takes half of what F32 takes."""
    found = [file for file in files if file.path.endswith(".gguf") and is_projector(file.path)]
    for wanted in PROJECTORS:
        if fitting := [file for file in found if _has_tag(file.path.removesuffix(".gguf"), wanted)]:
            return [min(fitting, key=lambda file: len(file.path))]
    return sorted(found, key=lambda file: file.size)[:1]


def _has_tag(stem: str, tag: str) -> bool:
    """Whether a quantization stands in a file's name as a word of its own; or its whole name is meant."""
    return re.search(rf"(^|[-_./]){re.escape(tag)}($|[-_./])", stem, re.IGNORECASE) is not None


def _whole(parts: list[RemoteFile]) -> list[RemoteFile]:
    first = split.part_of(parts[0].path)
    if first is not None and len(parts) != first.count:
        raise PullFailed(f"of {parts[0].path} only {len(parts)} of {first.count} parts are there", code="incomplete")
    return sorted(parts, key=lambda part: part.path)


def _folder(name: Name, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    chosen = [file for file in files if "/" not in file.path and _ALLOWED.fullmatch(file.path)]
    chosen = [file for file in chosen if not file.path.endswith(".gguf")]
    names = {file.path for file in chosen}
    if "config.json" in names and any(path.endswith(".safetensors") for path in names):
        if name.tag is None:
            return sorted(chosen, key=lambda file: file.path)
        raise PullFailed(f"{name.repository} holds safetensors, which have no tag '{name.tag}'", code="tag_not_found")
    kinds = ", ".join(sorted({file.path.rpartition(".")[2] for file in files if "." in file.path})[:8])
    raise PullFailed(
        f"{name.repository} holds no GGUF and no safetensors that can be served (it has: {kinds or 'nothing'})",
        code="nothing_to_serve",
    )


def is_fetched(path: str) -> bool:
    """Whether a file may be part of a model: none that could be code."""
    return _ALLOWED.fullmatch(path) is not None


def check_paths(files: Iterable[RemoteFile]) -> None:
    """Refuse paths that could leave the model's folder, or that two systems would read differently."""
    seen: set[str] = set()
    for file in files:
        path = file.path
        parts = path.split("/")
        unsafe = (
            len(path) > MAX_PATH_CHARACTERS
            or not path.isprintable()
            or "\\" in path
            or ":" in path
            or any(part in ("", ".", "..") or part != part.strip() or _RESERVED.fullmatch(part) for part in parts)
            or not _ALLOWED.fullmatch(path)
        )
        if unsafe or path.casefold() in seen:
            raise PullFailed(f"the repository lists a file whose name is refused: {path[:80]!a}", code="unsafe_path")
        seen.add(path.casefold())
