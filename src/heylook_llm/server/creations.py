"""Models that clients make: of other models, of uploaded files, or of both; copies are made alike.

What is made is an entry of the overlay beside models.yaml, which itself is never changed. Uploaded files are linked,
and quantized ones written, into a folder that belongs to the models made of them, and goes with the last of these.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from heylook_llm import config, engines, registry
from heylook_llm.catalog import facts, gguf_header, hub, installed, library, split, template_syntax
from heylook_llm.catalog.blobs import Blobs
from heylook_llm.catalog.facts import Facts
from heylook_llm.catalog.pull import Progress
from heylook_llm.config import ModelSpec, Settings, canonical
from heylook_llm.errors import BadRequest, ConfigError, Conflict, LoadFailed, ModelNotFound, UnsupportedFeature
from heylook_llm.server import quantizing
from heylook_llm.server.pulls import Pulls
from heylook_llm.server.uncut import uncut
from heylook_llm.server.wire import ollama_create
from heylook_llm.server.wire.ollama_create import Order

FOLDER: Final = "created"
_MAGIC: Final = b"GGUF"
_ADAPTER_FILES: Final = ("adapters.safetensors", "adapter_config.json")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Made:
    """What an order's files came to."""

    facts: Facts | None = None
    """Of the model among them."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Keys of `config`."""
    other_weights: bool = False
    """There is a model among the files."""


class Creations:
    """Creations in the registry at `path`; `follow_file` makes the server read that anew."""

    def __init__(self, path: Path, follow_file: Callable[[], Any], pulls: Pulls) -> None:
        self._path = path
        self._follow_file = follow_file
        self._pulls = pulls
        self._root = library.models_folder()
        self.blobs = Blobs(self._root)

    async def copy(self, source: str, destination: str) -> None:
        """Give a model a second name. Raises ModelNotFound, Conflict, BadRequest."""
        if canonical(source) == canonical(destination):
            return
        await asyncio.to_thread(self._copy, source, destination)
        await self._follow_file()

    def _copy(self, source: str, destination: str) -> None:
        with registry.changing(self._path):
            spec = config.named(registry.load(self._path).models, source)
            if spec is None:
                raise ollama_create.no_source(source)
            self._write(_entry_of(spec, destination))

    async def create(self, order: Order) -> AsyncGenerator[Progress, None]:
        """Make a model; yields what is being done. Closing the generator leaves nothing half made.

        Raises BadRequest, ModelNotFound, Conflict, InsufficientStorage, EngineError, and what a pull raises.
        """
        await asyncio.to_thread(self._check, order)
        source: ModelSpec | None = None
        if order.source:
            async with aclosing(self._fetched(order.source)) as steps:
                async for step in steps:
                    yield step
            source = await asyncio.to_thread(self._source, order.source)
            yield Progress("reading model metadata")
        folder = self._folder(order, source)
        with self._claimed(order, folder):
            try:
                async with aclosing(self._made(order, source, folder)) as steps:
                    async for step in steps:
                        yield step
            except BaseException:
                await asyncio.to_thread(self._abandon, folder)
                raise
        await self._follow_file()
        await asyncio.to_thread(self.blobs.prune, time.time())
        yield Progress("success")

    async def _made(
        self, order: Order, source: ModelSpec | None, folder: Path | None
    ) -> AsyncGenerator[Progress, None]:
        for digest in (*order.files.values(), *order.adapters.values(), *order.drafts.values()):
            yield Progress(f"using existing layer sha256:{digest}")
        if order.files:
            yield Progress("parsing GGUF" if self._holds_gguf(order) else "converting model")
        made = await asyncio.to_thread(self._placed, order, folder, source)
        if order.quantize:
            assert folder is not None
            async with aclosing(self._quantized(order, made, source, folder)) as steps:
                async for step in steps:
                    yield step
        wanted = order.parameters.get("n_ctx") or 0
        most = await asyncio.to_thread(_trained, made, source) if wanted else None
        if most is not None and wanted > most:
            yield Progress(f"num_ctx is {most}: the model was trained for no more")
            order = msgspec.structs.replace(order, parameters={**order.parameters, "n_ctx": most})
        entry, unknown = _entry(order, source, made)
        for name in unknown:
            yield Progress(f"leaving {name} out, which the engine of this model doesn't have")
        for digest in _layers(order):
            yield Progress(f"creating new layer sha256:{digest}")
        yield Progress("writing manifest")
        await uncut(asyncio.to_thread(self._write, entry, True))

    # ---- before anything is written ----------------------------------------------------------------------------------

    def _check(self, order: Order) -> None:
        """Refuse what can't come to anything. Raises BadRequest, Conflict."""
        self._check_name(order.name)
        if order.quantize:
            quantizing.type_of(order.quantize)
        _check_template(order.template)
        for files in (order.files, order.adapters, order.drafts):
            for name, digest in files.items():
                if not self.blobs.path(digest).is_file():
                    raise BadRequest(f"{name[:128]}: there is no blob sha256:{digest}; upload it first", param="files")

    def _check_name(self, name: str) -> None:
        """Raises Conflict for a name that stands in models.yaml itself."""
        document = config.document_of(config.read(self._path), self._path)
        for entry in document.get("models") or ():
            names = (entry.get("id"), *(entry.get("aliases") or ())) if isinstance(entry, dict) else ()
            if canonical(name) in {canonical(str(known)) for known in names}:
                raise Conflict(
                    f"'{name}' stands in {self._path.name}, which is never changed; choose another name.", param="model"
                )

    async def _fetched(self, name: str) -> AsyncGenerator[Progress, None]:
        """Pull a source that isn't there. Raises ModelNotFound for a name that no hub could know."""
        settings = await asyncio.to_thread(registry.load, self._path)
        if config.named(settings.models, name) is not None:
            return
        try:
            hub.parse_name(name)
        except BadRequest:
            raise ModelNotFound(model=name) from None
        async with aclosing(self._pulls.pull(name)) as steps:
            async for step in steps:
                if step.status != "success":
                    yield step

    def _source(self, name: str) -> ModelSpec:
        found = config.named(registry.load(self._path).models, name)
        if found is None:
            raise ModelNotFound(model=name)
        return found

    # ---- files -------------------------------------------------------------------------------------------------------

    def _folder(self, order: Order, source: ModelSpec | None) -> Path | None:
        """Where an order's own files lie; equal orders share it. None: it has none."""
        if not (order.files or order.adapters or order.drafts or order.quantize):
            return None
        of_source = str(source.path) if source is not None and order.quantize else ""
        parts = [
            order.files,
            order.adapters,
            order.drafts,
            order.quantize.upper(),
            of_source,
            str(self._path.resolve()),
        ]
        named = json.dumps([sorted(part.items()) if isinstance(part, Mapping) else part for part in parts])
        return library.folder_of(f"{FOLDER}/{hashlib.sha256(named.encode()).hexdigest()[:24]}", self._root)

    @contextlib.contextmanager
    def _claimed(self, order: Order, folder: Path | None) -> Iterator[None]:
        """Nobody else makes or removes these files meanwhile. Raises Conflict."""
        if folder is None:
            yield
            return
        try:
            with library.claimed(f"{FOLDER}/{folder.name}", self._root):
                yield
        except library.Busy as error:
            raise Conflict(f"'{order.name}' is being made already.") from error

    def _holds_gguf(self, order: Order) -> bool:
        return any(_is_gguf(self.blobs.path(digest)) for digest in order.files.values())

    def _placed(self, order: Order, folder: Path | None, source: ModelSpec | None) -> _Made:
        """Link the files where the model will find them, and read what they are. Raises BadRequest."""
        made = _Made()
        if folder is None:
            return made
        for files, name in ((order.files, "model"), (order.drafts, "draft"), (order.adapters, "adapter")):
            placed = [self._link(digest, folder / name / _file_name(given)) for given, digest in files.items()]
            ggufs = [path for path in placed if _is_gguf(path)]
            if ggufs:
                _take_ggufs(ggufs, name, made)
            elif any(not hub.is_fetched(path.name) for path in placed) and name != "adapter":
                raise BadRequest("Besides GGUF, only the files of a folder of safetensors are taken", param="files")
            elif placed and name == "adapter":
                made.settings["adapter_path"] = _adapter_folder(folder / name)
            elif placed:
                _take_folder(folder / name, name, made)
        if order.files and made.facts is None and source is None:
            raise BadRequest("There is no model among the files.", param="files")
        return made

    def _link(self, digest: str, path: Path) -> Path:
        """The upload under its own name: the same file, where the disk can do that."""
        if _is_gguf(self.blobs.path(digest)) and path.suffix != ".gguf":
            path = path.with_name(f"{path.name}.gguf")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            try:
                os.link(self.blobs.path(digest), path)
            except OSError:
                shutil.copyfile(self.blobs.path(digest), path)
        return path

    async def _quantized(
        self, order: Order, made: _Made, source: ModelSpec | None, folder: Path
    ) -> AsyncGenerator[Progress, None]:
        """Put the smaller file in the larger one's place. Raises UnsupportedFeature."""
        kind = quantizing.type_of(order.quantize)
        path = Path(made.settings["model_path"]) if "model_path" in made.settings else source.path if source else None
        if path is None or not await asyncio.to_thread(_is_gguf, path):
            raise UnsupportedFeature(
                "Only GGUF files are quantized here; MLX folders come as they are.", param="quantize"
            )
        before = await asyncio.to_thread(_facts, path)
        quantizing.check_source(before.quantization)
        target = folder / "model" / f"{split.model_of(path.name)}-{kind}.gguf"
        target.parent.mkdir(parents=True, exist_ok=True)
        words = f"quantizing {before.quantization} model to {kind}"
        digest = f"sha256:{(await asyncio.to_thread(gguf_header.read, path, path.stem)).digest}"
        yield Progress(words)
        if not target.exists():
            async with aclosing(quantizing.quantized(path, target, kind)) as steps:
                async for done, total in steps:
                    yield Progress(words, digest, before.size_bytes, before.size_bytes * done // max(1, total))
        yield Progress("verifying conversion")
        made.facts = await asyncio.to_thread(_facts, target)
        made.settings["model_path"] = str(target)
        if path.is_relative_to(folder):
            for part in split.parts(path):
                part.unlink(missing_ok=True)

    def _abandon(self, folder: Path | None) -> None:
        """Remove what was placed for nothing; the uploads stay, to be used again."""
        if folder is None:
            return
        with contextlib.suppress(ConfigError), registry.changing(self._path):
            settings = registry.load(self._path)
            if not any(file.is_relative_to(folder) for spec in settings.models for file in spec.files):
                shutil.rmtree(folder, ignore_errors=True)

    # ---- the entry ---------------------------------------------------------------------------------------------------

    def _write(self, entry: Mapping[str, Any], locks: bool = False) -> None:
        """Note an entry in the overlay, in place of one that was made before; what only that one used goes.

        `locks`: it isn't held yet. Raises BadRequest for what models.yaml wouldn't allow, Conflict.
        """
        with registry.changing(self._path) if locks else contextlib.nullcontext():
            self._check_name(entry["id"])
            before = config.named(registry.load(self._path).models, entry["id"])
            if before is not None and canonical(before.id) != canonical(entry["id"]):
                raise Conflict(f"'{entry['id']}' is another name of '{before.id}'; choose another name.", param="model")
            over = registry.with_models(registry.read_overlay(self._path), [entry])
            settings = self._valid(over)
            registry.write(registry.overlay_path(self._path), registry.overlay_text(over))
            if before is not None:
                self._drop(before, settings)

    def _valid(self, over: Mapping[str, Any]) -> Settings:
        """The registry with another overlay. Raises BadRequest."""
        text = registry.dump(over)
        laid = registry.overlay_path(self._path)
        document = config.document_of(config.read(self._path), self._path)
        try:
            return config.validate(registry.merged(document, config.document_of(text, laid)), self._path)
        except ConfigError as error:
            raise BadRequest(error.message.removeprefix(f"{self._path}: ")) from error

    @staticmethod
    def _drop(before: ModelSpec, settings: Settings) -> None:
        """Files of the model that was replaced; what somebody else is just making stays."""
        with contextlib.suppress(Conflict), installed.claimed_files(before):
            installed.remove_files(before, settings.models)


def _entry_of(spec: ModelSpec, name: str) -> dict[str, Any]:
    """Another entry of the same model, under a name of its own."""
    told = spec.model_dump(exclude_unset=True, exclude={"id", "aliases", "pinned", "config"})
    return {"id": name, **told, "config": spec.config.model_dump(exclude_unset=True)}


def _entry(order: Order, source: ModelSpec | None, made: _Made) -> tuple[dict[str, Any], list[str]]:
    """The entry of what was ordered, and the parameters that its engine doesn't have."""
    entry: dict[str, Any] = {"id": order.name}
    settings: dict[str, Any] = {}
    if source is not None and (made.facts is None or made.facts.provider == source.provider):
        replaced = canonical(source.id) == canonical(order.name)
        entry = {**_entry_of(source, order.name), "parent": source.parent if replaced else source.id}
        settings = dict(entry["config"])
    if made.facts is not None:
        if made.other_weights:  # nothing of the source's files fits them
            settings = {key: value for key, value in settings.items() if key not in (*config.FILE_KEYS, "lora")}
        entry |= {"provider": made.facts.provider, "description": _description(made.facts)}
    settings |= made.settings
    known = config.PROVIDERS[entry["provider"]].model_fields
    wanted = {**order.parameters, **({"chat_template": order.template} if order.template is not None else {})}
    for key, value in wanted.items():
        if key in known:
            settings[key] = value
    if order.template is not None:
        settings.pop("chat_format_template", None)
    entry["config"] = {key: value for key, value in settings.items() if value is not None}
    for key in ("system", "license"):
        if (text := getattr(order, key)) is not None:
            entry[key] = text
    if order.messages is not None:
        entry["messages"] = [{"role": role, "content": content} for role, content in order.messages]
    return entry, [
        name for name, key in ollama_create.PARAMETERS.items() if key in order.parameters and key not in known
    ]


def _trained(made: _Made, source: ModelSpec | None) -> int | None:
    """The context that what was ordered was trained for; None: nothing says so."""
    if made.facts is not None or source is None or source.provider not in ("llama_cpp", "mlx"):
        return made.facts.context_length if made.facts is not None else None
    read = facts.of_gguf if source.provider == "llama_cpp" else facts.of_folder
    with contextlib.suppress(LoadFailed):  # told when it is loaded
        return read(source.path).context_length
    return None


def _description(found: Facts) -> str:
    return ", ".join(part for part in (found.name, f"{found.architecture} {found.kind} model") if part)


def _layers(order: Order) -> Iterator[str]:
    """The digests of what was said of the model, each a layer to Ollama."""
    for said in (order.template, order.system, order.license, order.parameters, order.messages):
        if said:
            text = said if isinstance(said, str) else json.dumps(said)
            yield hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _check_template(template: str | None) -> None:
    """Raises BadRequest for a template that can't be read."""
    try:
        template_syntax.check(template or "")
    except ValueError as error:
        raise BadRequest(f"the template {error}", param="template") from error


# ---- what files are --------------------------------------------------------------------------------------------------


def _is_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _file_name(given: str) -> str:
    """A file's own name, which becomes part of a path. Raises BadRequest."""
    name = given.replace("\\", "/").rpartition("/")[2]
    if not name or not name.isprintable() or name.startswith(".") or len(name.encode()) > 200:
        raise BadRequest(f"{given[:64]!a} is no name for a file", param="files")
    return name


def _facts(path: Path) -> Facts:
    """What a GGUF is. Raises BadRequest."""
    try:
        return facts.of_gguf(path)
    except LoadFailed as error:
        raise BadRequest(f"{path.name}: {error.message}", code="model_file_invalid", param="files") from error


def _take_ggufs(paths: list[Path], place: str, made: _Made) -> None:
    """Note the model, its projector, adapters or draft model. Raises BadRequest."""
    for path in paths:
        part = split.part_of(path.name)
        if part is not None and part.number != 1:
            continue
        found = _facts(path)
        if found.kind == "adapter":
            made.settings["lora"] = [*made.settings.get("lora", []), {"path": str(path)}]
        elif found.kind == "projector":
            made.settings["mmproj_path"] = str(path)
        elif place == "draft":
            made.settings["draft_model_path"] = str(path)
        elif place == "adapter" or made.facts is not None:
            raise BadRequest(f"{path.name} is no adapter, and there is a model already", param="files")
        else:
            made.facts, made.settings["model_path"], made.other_weights = found, str(path), True


def _take_folder(folder: Path, place: str, made: _Made) -> None:
    """Note a folder of safetensors. Raises BadRequest, UnsupportedFeature."""
    try:
        found = facts.of_folder(folder)
    except LoadFailed as error:
        raise BadRequest(
            f"The files are no GGUF, and {error.message}", code="model_file_invalid", param="files"
        ) from error
    if missing := engines.missing("mlx", sees=False):
        raise UnsupportedFeature(
            f"Safetensors are served by MLX, and {missing} isn't installed; send the model as a GGUF.", param="files"
        )
    if place == "draft":
        made.settings["draft_model_path"] = str(folder)
    else:
        made.facts, made.settings["model_path"], made.other_weights = found, str(folder), True


def _adapter_folder(folder: Path) -> str:
    missing = [name for name in _ADAPTER_FILES if not (folder / name).is_file()]
    if missing:
        raise BadRequest(f"An adapter is a GGUF, or MLX's {' and '.join(_ADAPTER_FILES)}", param="adapters")
    return str(folder)
