"""What is so of a model whether or not it is loaded: its files, its digest, what its header says."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from heylook_llm import core
from heylook_llm.catalog import facts, gguf_header, split
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.config import ModelSpec
from heylook_llm.errors import HeylookError
from heylook_llm.server.backend import Backend, ModelStatus
from heylook_llm.server.wire import jsontext

ReadHeader = Callable[[Path, str], gguf_header.Header]
_STEPS: Final = ((1e9, "B", 1), (1e6, "M", 2), (1e3, "K", 0))


class Card(msgspec.Struct, frozen=True):
    """A model as listings show it. Unknown is None."""

    spec: ModelSpec
    status: ModelStatus
    size_bytes: int
    modified_at: float
    """Wall clock, seconds since 1970."""
    digest: str
    """64 hexadecimal digits: of a GGUF file's header and what the entry adds to it, else of the model's entry and its
    files' sizes and times."""
    info: core.ModelInfo | None
    """As the engine said when the model was last loaded here, or as its file's header says."""
    projector: dict[str, Any] = {}
    """What the header of its image projector says; empty: it has none."""

    @property
    def context_length(self) -> int | None:
        """Tokens that one request may use."""
        if self.info is not None:
            return self.info.n_ctx
        return getattr(self.spec.config, "n_ctx", None) or None

    @property
    def format(self) -> str:
        """gguf, safetensors, or the provider's name."""
        return {"llama_cpp": "gguf", "mlx": "safetensors"}.get(self.spec.provider, self.spec.provider)


class _Files(msgspec.Struct, frozen=True):
    """What a model's files say; valid while its entry, their sizes and their times are these."""

    spec: ModelSpec
    stats: list[tuple[str, int, float]]
    """Name, size and time of each."""
    digest: str
    info: core.ModelInfo | None
    projector: dict[str, Any] = {}


class Cards:
    """Cards of a backend's models. A model's info is kept after it is unloaded."""

    def __init__(self, backend: Backend, read_header: ReadHeader = gguf_header.read) -> None:
        self._backend = backend
        self._read_header = read_header
        self._started = time.time()
        self._infos: dict[str, tuple[ModelSpec, core.ModelInfo]] = {}
        self._files: dict[str, _Files] = {}
        self._reading: dict[str, asyncio.Task[dict[str, _Files]]] = {}

    async def all(self) -> list[Card]:
        """Every enabled model, in the registry's order."""
        return await self._read(self._backend.models())

    async def one(self, model: str) -> Card:
        """The model of an id or alias. Raises ModelNotFound."""
        (card,) = await self._read([self._backend.status(model)])
        return card

    async def _read(self, statuses: Sequence[ModelStatus]) -> list[Card]:
        self._infos |= {status.spec.id: (status.spec, status.info) for status in statuses if status.info is not None}
        files = await self._files_of([status.spec for status in statuses])
        return [self._card(status, files[status.spec.id]) for status in statuses]

    async def _files_of(self, specs: Sequence[ModelSpec]) -> dict[str, _Files]:
        """What the models' files say, by id. Who asks for a model that is being read waits for the same reading.

        In one thread: a large vocabulary takes a quarter of a second, a slow disk longer, and many threads would keep
        the interpreter from the event loop.
        """
        unread = [spec for spec in specs if spec.id not in self._reading]
        if unread:
            task = asyncio.create_task(asyncio.to_thread(self._read_files, unread, dict(self._files)))
            self._reading |= dict.fromkeys((spec.id for spec in unread), task)
            task.add_done_callback(self._have_read)
        found: dict[str, _Files] = {}
        for reading in {self._reading[spec.id] for spec in specs}:
            found |= await asyncio.shield(reading)
        return found

    def _have_read(self, task: "asyncio.Task[dict[str, _Files]]") -> None:
        self._reading = {model: other for model, other in self._reading.items() if other is not task}
        if not task.cancelled() and task.exception() is None:
            self._files |= task.result()

    def _read_files(self, specs: Sequence[ModelSpec], known: dict[str, _Files]) -> dict[str, _Files]:
        return {spec.id: self._read_one(spec, known.get(spec.id)) for spec in specs}

    def _read_one(self, spec: ModelSpec, known: _Files | None) -> _Files:
        """A model's files; their header only where they have changed since."""
        stats = _stats(spec)
        if known is not None and known.info is not None and (known.spec, known.stats) == (spec, stats):
            return known
        header = self._header(spec)
        if header is not None:
            eyes = self._projector(spec)
            return _Files(spec, stats, _digest(spec, header), _from_header(spec, header, sees=bool(eyes)), eyes)
        manifest = {"model": spec.model_dump(mode="json"), "files": stats}
        digest = hashlib.sha256(jsontext.encode(manifest)).hexdigest()
        return _Files(spec, stats, digest, _from_folder(spec) if spec.provider == "mlx" else None)

    def _header(self, spec: ModelSpec) -> gguf_header.Header | None:
        """The header of a GGUF model; None where there is none to read."""
        if spec.provider != "llama_cpp":
            return None
        try:
            return self._read_header(spec.path, spec.id)
        except (HeylookError, OSError):
            return None

    def _projector(self, spec: ModelSpec) -> dict[str, Any]:
        """What the header of a model's projector says."""
        path = getattr(spec.config, "mmproj_path", None)
        if path is None:
            return {}
        try:
            return dict(self._read_header(Path(path), spec.id).metadata)
        except (HeylookError, OSError):
            return {}

    def _card(self, status: ModelStatus, files: _Files) -> Card:
        spec = status.spec
        of, told = self._infos.get(spec.id, (spec, None))
        return Card(
            spec=spec,
            status=status,
            size_bytes=sum(size for _, size, _ in files.stats),
            modified_at=max((modified for _, _, modified in files.stats), default=self._started),
            digest=files.digest,
            info=told if told is not None and of.config == spec.config else files.info,
            projector=files.projector,
        )


def _digest(spec: ModelSpec, header: gguf_header.Header) -> str:
    """Of the file; of one of several models of a file, also of what its entry says."""
    said = {key: getattr(spec, key) for key in ("system", "messages", "license") if getattr(spec, key)}
    template = getattr(spec.config, "chat_template", None)
    if not (said or template or spec.parent):
        return header.digest
    text = repr((header.digest, said, sorted(spec.config.model_dump(exclude_unset=True).items(), key=str)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _template(spec: ModelSpec, own: str) -> str:
    """The chat template in force: the entry's, or the file's own."""
    if text := getattr(spec.config, "chat_template", None):
        return str(text)
    if path := getattr(spec.config, "chat_format_template", None):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return Path(path).read_text(encoding="utf-8")
    return own


def _from_folder(spec: ModelSpec) -> core.ModelInfo | None:
    """What the files of an MLX model say; None where they can't be served."""
    try:
        folder, known = Folder(spec.path, spec.id), facts.of_folder(spec.path)
        pooling = getattr(spec.config, "pooling", None) or folder.pooling()
        own = folder.chat_template()
    except (HeylookError, OSError):
        return None
    template = "" if pooling else _template(spec, own)
    sees = "vision" in known.abilities and getattr(spec.config, "vision", "auto") is not False
    return core.ModelInfo(
        provider=spec.provider,
        architecture=folder.architecture,
        n_ctx=getattr(spec.config, "n_ctx", 0) or folder.context_length or 0,
        n_ctx_trained=folder.context_length,
        n_layers=folder.number("num_hidden_layers"),
        n_embedding=known.embedding_length,
        n_parameters=known.parameters,
        quantization=known.quantization,
        weights_bytes=known.size_bytes,
        chat_template=template,
        capabilities=_capabilities(pooling, template, sees=sees),
        metadata=folder.metadata(),
        pooling=pooling,
    )


def _capabilities(pooling: str, template: str, *, sees: bool) -> tuple[str, ...]:
    found = {
        "rerank": pooling == "rank",
        "embedding": pooling not in ("", "rank"),
        "completion": not pooling,
        "chat": bool(template),
        "vision": bool(template) and sees,
    }
    return (*(name for name, has in found.items() if has), *facts.template_abilities(template))


def _from_header(spec: ModelSpec, header: gguf_header.Header, *, sees: bool) -> core.ModelInfo:
    """What the file says of a model that was never loaded here; the engine will know better. `sees`: images."""
    pooling = getattr(spec.config, "pooling", None) or header.pooling
    template = "" if pooling else _template(spec, header.chat_template or "")
    asked = getattr(spec.config, "n_ctx", 0)
    return core.ModelInfo(
        provider=spec.provider,
        architecture=header.architecture,
        n_ctx=asked or header.context_length or 0,
        n_ctx_trained=header.context_length,
        n_layers=header.block_count,
        n_embedding=header.embedding_length,
        n_parameters=header.parameters,
        quantization=header.quantization,
        weights_bytes=header.weights_bytes,
        chat_template=template,
        capabilities=_capabilities(pooling, template, sees=sees),
        metadata=dict(header.metadata),
        pooling=pooling,
    )


def _stats(spec: ModelSpec) -> list[tuple[str, int, float]]:
    """Name, size and time of every file of a model; none where it has none."""
    found: list[tuple[str, int, float]] = []
    for path in spec.files:
        with contextlib.suppress(OSError):
            found += map(_file, sorted(path.iterdir()) if path.is_dir() else split.parts(path))
    return found


def _file(path: Path) -> tuple[str, int, float]:
    stat = path.stat()
    return path.name, stat.st_size, stat.st_mtime


def parameter_size(count: int | None) -> str:
    """ "8.0B", "7B", "2.31M": as Ollama writes it."""
    for unit, letter, digits in _STEPS:
        if count is not None and count >= unit:
            value = count / unit
            return f"{value:.0f}{letter}" if value == int(value) else f"{value:.{digits}f}{letter}"
    return "" if count is None else str(count)


def metadata(card: Card, own: Mapping[str, Any], *, verbose: bool) -> dict[str, Any]:
    """The file's own key-value pairs, without its name and template; long arrays are empty unless `verbose`.

    `own`: as the file has them; empty: what the engine said of them.
    """
    if card.info is None:
        return {"general.architecture": card.spec.provider, "general.basename": card.spec.id}
    info = card.info
    told: dict[str, Any] = {"general.architecture": info.architecture}
    if info.n_parameters is not None:
        told["general.parameter_count"] = info.n_parameters
    told |= {
        f"{info.architecture}.{name}": value
        for name, value in (
            ("context_length", info.n_ctx_trained or info.n_ctx),
            ("embedding_length", info.n_embedding),
            ("block_count", info.n_layers),
        )
        if value is not None
    }
    told |= {key: _short(value, verbose) for key, value in (own or info.metadata).items()}
    told.setdefault("general.basename", card.spec.id)
    told.pop("general.name", None)
    told.pop("tokenizer.chat_template", None)
    return told


def _short(value: Any, verbose: bool) -> Any:
    return [] if isinstance(value, list | tuple) and len(value) > 5 and not verbose else value
