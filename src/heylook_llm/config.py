"""models.yaml as ModelSpec and Settings: its only reader.

An unknown key is an error that names the key, where it stands and the nearest known one. Nothing is ever written into
the user's file.
"""

import difflib
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import platformdirs
import pydantic
import yaml

from heylook_llm import core, engines
from heylook_llm.errors import ConfigError

FILE_NAME: Final = "models.yaml"
BUNDLED: Final = Path(__file__).parent / FILE_NAME
FOREVER: Final = float("inf")

ID_PATTERN: Final = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.:/@+-]{0,349}$")
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h|d)")
_UNIT_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> float:
    """Seconds of a number, a string of digits, or a Go duration ("5m", "1h30m"); negative or "never" is FOREVER.

    Raises ValueError with a text that names the value.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"Unsupported type: {type(value).__name__!r}")
    if isinstance(value, int | float):
        return _bounded(_float(value), value)
    text = value.strip()
    if text.lower() == "never":
        return FOREVER
    sign, digits = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if re.fullmatch(r"\d+(\.\d+)?", digits):
        return _bounded(sign * float(digits), value)
    parts = _DURATION.findall(digits)
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        raise ValueError(f'time: invalid duration "{value}"')
    return _bounded(sign * sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts), value)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError("time: invalid duration: a number is too large") from None


def _bounded(seconds: float, value: object) -> float:
    if math.isnan(seconds):
        raise ValueError(f'time: invalid duration "{value}"')
    return FOREVER if seconds < 0 else seconds


Duration = Annotated[float, pydantic.BeforeValidator(parse_duration)]


class _Model(pydantic.BaseModel):
    """Strict about names: an unknown key is an error."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class SamplingDefaults(_Model):
    """What a request that says nothing gets. None: what the model's file says, the dialect, or the engine."""

    temperature: float | None = pydantic.Field(None, ge=0, le=5)
    top_p: float | None = pydantic.Field(None, ge=0, le=1)
    top_k: int | None = pydantic.Field(None, ge=0)
    min_p: float | None = pydantic.Field(None, ge=0, le=1)
    typical_p: float | None = pydantic.Field(None, ge=0, le=1)
    max_tokens: int | None = pydantic.Field(None, ge=1)
    repetition_penalty: float | None = pydantic.Field(None, gt=0, le=2)
    repetition_context_size: int | None = pydantic.Field(None, ge=-1)
    presence_penalty: float | None = pydantic.Field(None, ge=-2, le=2)
    frequency_penalty: float | None = pydantic.Field(None, ge=-2, le=2)
    mirostat: int | None = pydantic.Field(None, ge=0, le=2)
    mirostat_tau: float | None = pydantic.Field(None, ge=0, le=1000)
    mirostat_eta: float | None = pydantic.Field(None, ge=0, le=1)
    top_n_sigma: float | None = pydantic.Field(None, ge=0, le=1000)
    xtc_probability: float | None = pydantic.Field(None, ge=0, le=1)
    xtc_threshold: float | None = pydantic.Field(None, ge=0, le=1)
    dynatemp_range: float | None = pydantic.Field(None, ge=0, le=5)
    dynatemp_exponent: float | None = pydantic.Field(None, ge=0, le=10)
    dry_multiplier: float | None = pydantic.Field(None, ge=0, le=100)
    dry_base: float | None = pydantic.Field(None, ge=1, le=100)
    dry_allowed_length: int | None = pydantic.Field(None, ge=0)
    dry_penalty_last_n: int | None = pydantic.Field(None, ge=-1)
    adaptive_target: float | None = pydantic.Field(None, ge=0, le=1)
    adaptive_decay: float | None = pydantic.Field(None, ge=0, le=0.99)
    seed: int | None = None
    stop: tuple[str, ...] = ()


class Speculating(_Model):
    """Guessing ahead."""

    prompt_lookup: bool = False
    num_draft_tokens: int = pydantic.Field(16, ge=1, le=64)


class KeepingPrefixes(_Model):
    """Where prefixes are kept that the pool of context memory has no room for."""

    prefix_memory_bytes: int = pydantic.Field(256 << 20, ge=0)
    prefix_disk_bytes: int = pydantic.Field(0, ge=0)
    prefix_folder: str | None = None

    @pydantic.model_validator(mode="after")
    def _check_memory(self) -> Self:
        if self.prefix_disk_bytes and not self.prefix_memory_bytes:
            raise ValueError("`prefix_disk_bytes` needs `prefix_memory_bytes`, through which all of it passes")
        return self


class Lora(_Model):
    """An adapter of a llama_cpp model."""

    path: str
    scale: float = pydantic.Field(1.0, ge=-100, le=100)


FILE_KEYS: Final = ("model_path", "draft_model_path", "mmproj_path", "adapter_path")
"""Of `config`: where weights lie."""
PATH_KEYS: Final = (*FILE_KEYS, "chat_format_template", "prefix_folder")
"""Of `config`: paths, relative to the file that names them. Those of `lora` stand in a list."""
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]
MetadataKey = Annotated[str, pydantic.Field(min_length=1, max_length=127)]
MetadataValue = (
    pydantic.StrictBool
    | pydantic.StrictInt
    | pydantic.StrictFloat
    | Annotated[str, pydantic.Field(strict=True, max_length=127)]
)


class LlamaCppConfig(SamplingDefaults, Speculating, KeepingPrefixes):
    """`config:` of a llama_cpp model. Paths are relative to the file that names them."""

    model_path: str
    chat_format_template: str | None = None
    chat_template: str | None = None
    n_ctx: int = pydantic.Field(0, ge=0, le=core.MOST_CONTEXT_TOKENS)
    kv_tokens: int = pydantic.Field(0, ge=0)
    n_parallel: int = pydantic.Field(8, ge=1, le=256)
    n_batch: int = pydantic.Field(2048, ge=1, le=65536)
    n_ubatch: int = pydantic.Field(512, ge=1, le=65536)
    prefill_tokens: int = pydantic.Field(512, ge=1, le=65536)
    n_threads: int = pydantic.Field(0, ge=0, le=1024)
    n_threads_batch: int = pydantic.Field(0, ge=0, le=1024)
    n_gpu_layers: int | Literal["auto"] = "auto"
    main_gpu: int = pydantic.Field(0, ge=0)
    split_mode: Literal["none", "layer", "row", "tensor"] = "layer"
    tensor_split: tuple[float, ...] = ()
    devices: tuple[str, ...] = ()
    n_cpu_moe: int = pydantic.Field(0, ge=-1, le=4096)
    override_tensor: dict[str, str] = {}
    flash_attn: bool | Literal["auto"] = "auto"
    use_mmap: bool | Literal["auto"] = "auto"
    use_mlock: bool = False
    use_direct_io: bool = False
    check_tensors: bool = False
    repack: bool = True
    no_host: bool = False
    offload_kqv: bool = True
    op_offload: bool = True
    swa_full: bool = True
    type_k: CacheType = "f16"
    type_v: CacheType = "f16"
    rope_scaling_type: Literal["none", "linear", "yarn", "longrope"] | None = None
    rope_freq_base: float | None = pydantic.Field(None, gt=0)
    rope_freq_scale: float | None = pydantic.Field(None, gt=0)
    yarn_ext_factor: float | None = pydantic.Field(None, ge=0, le=1)
    yarn_attn_factor: float | None = pydantic.Field(None, gt=0)
    yarn_beta_fast: float | None = pydantic.Field(None, gt=0)
    yarn_beta_slow: float | None = pydantic.Field(None, gt=0)
    yarn_orig_ctx: int | None = pydantic.Field(None, ge=1)
    override_kv: dict[MetadataKey, MetadataValue] = {}
    lora: tuple[Lora, ...] = ()
    draft_model_path: str | None = None
    mmproj_path: str | None = None
    numa: bool | Literal["distribute", "isolate", "numactl"] = False
    pooling: Literal["mean", "cls", "last"] | None = None
    """It embeds, and answers nothing. None: what the file says."""


class MlxConfig(SamplingDefaults, Speculating, KeepingPrefixes):
    """`config:` of an mlx model, the original's keys."""

    model_path: str
    draft_model_path: str | None = None
    adapter_path: str | None = None
    vision: bool | Literal["auto"] = "auto"
    n_ctx: int = pydantic.Field(0, ge=0, le=core.MOST_CONTEXT_TOKENS)
    kv_tokens: int = pydantic.Field(0, ge=0)
    n_parallel: int = pydantic.Field(8, ge=1, le=256)
    prefill_tokens: int = pydantic.Field(512, ge=1, le=65536)
    cache_type: Literal["standard", "rotating", "quantized"] = "standard"
    max_kv_size: int | None = pydantic.Field(None, ge=1)
    kv_bits: int | None = pydantic.Field(None, ge=1, le=8)
    kv_group_size: int = pydantic.Field(64, ge=1)
    quantized_kv_start: int = pydantic.Field(2048, ge=0)
    chat_template: str | None = None
    pooling: Literal["mean", "cls", "last"] | None = None
    """It embeds, and answers nothing. None: what 1_Pooling/config.json says."""


class FakeConfig(SamplingDefaults, Speculating, KeepingPrefixes):
    """`config:` of a fake model: no weights, settable speeds, faults on command (worker/providers/fake.py)."""

    model_path: str = ""
    n_ctx: int = pydantic.Field(4096, ge=4, le=core.MOST_CONTEXT_TOKENS)
    kv_tokens: int = pydantic.Field(0, ge=0)
    n_parallel: int = pydantic.Field(8, ge=1, le=256)
    n_batch: int = pydantic.Field(2048, ge=1)
    prefill_tokens: int = pydantic.Field(512, ge=1)
    prefill_tokens_per_second: float = pydantic.Field(0, ge=0)
    decode_tokens_per_second: float = pydantic.Field(0, ge=0)
    load_seconds: float = pydantic.Field(0, ge=0)
    load_error: str | None = None
    load_crash: str | None = None
    load_hang: bool = False
    resident_bytes: int = pydantic.Field(0, ge=0)
    """What the memory verdict counts for it."""
    reply: str | None = None
    chat_template: str | None = None
    pooling: Literal["mean", "cls", "last", "rank"] | None = None
    """It embeds or ranks, and answers nothing."""
    image_tokens: int = pydantic.Field(0, ge=0, le=4096)
    image_seconds: float = pydantic.Field(0, ge=0)
    image_whole: bool = False
    log_file: str | None = None


ProviderConfig = LlamaCppConfig | MlxConfig | FakeConfig
PROVIDERS: Final[dict[str, type[ProviderConfig]]] = {
    "llama_cpp": LlamaCppConfig,
    "mlx": MlxConfig,
    "fake": FakeConfig,
}


class Turn(_Model):
    """A message that every conversation with a model begins with."""

    role: Literal["system", "user", "assistant"]
    content: str


class ModelSpec(_Model):
    """One entry of models.yaml. A value, never weights."""

    id: str
    aliases: tuple[str, ...] = ()
    provider: Literal["llama_cpp", "mlx", "fake"]
    description: str = ""
    tags: tuple[str, ...] = ()
    enabled: bool | Literal["auto"] = True
    """ "auto": where its engine is installed; elsewhere it is left out."""
    pinned: bool = False
    idle_ttl: Duration = FOREVER
    """Seconds without a request until it is unloaded; FOREVER: never."""
    system: str = ""
    """The system message of conversations that begin with none."""
    messages: tuple[Turn, ...] = ()
    license: tuple[str, ...] = ()
    parent: str = ""
    """The model that it was made from."""
    config: Annotated[ProviderConfig, pydantic.Field(union_mode="left_to_right")]

    @property
    def missing(self) -> str:
        """The package that it needs and that isn't installed; empty: there is none."""
        return engines.missing(self.provider, sees=getattr(self.config, "vision", None) is True)

    @property
    def lacks_engine(self) -> bool:
        """Whether it is left out because its engine isn't installed."""
        return self.enabled == "auto" and bool(self.missing)

    @property
    def path(self) -> Path:
        """The file or folder of its weights, absolute."""
        return Path(self.config.model_path)

    @property
    def turns(self) -> tuple[core.Message, ...]:
        """`messages` as core has them."""
        return tuple(core.Message(turn.role, (core.TextPart(turn.content),)) for turn in self.messages)

    @property
    def loaded_parts(self) -> tuple[object, ...]:
        """What a worker is given of it: where this differs, it is loaded anew."""
        return self.provider, self.config, self.system, self.messages

    @property
    def files(self) -> tuple[Path, ...]:
        """All files and folders that it is loaded from: weights, projector, adapters, draft model."""
        named = (getattr(self.config, key, None) for key in FILE_KEYS)
        adapters = (adapter.path for adapter in getattr(self.config, "lora", ()))
        return tuple(Path(path) for path in (*named, *adapters) if path)


class Limits(_Model):
    """Bounds that keep one caller from starving the rest."""

    max_queue: int = pydantic.Field(512, ge=0)
    """Requests that wait for a model or a place in it, server-wide; one more gets 503."""
    max_body_bytes: int = pydantic.Field(64 << 20, ge=1024)
    max_n: int = pydantic.Field(16, ge=1)
    max_stop: int = pydantic.Field(16, ge=1)
    max_tools: int = pydantic.Field(128, ge=1)
    max_inputs: int = pydantic.Field(8192, ge=1)
    """Texts of one request for vectors or scores: the largest batch that vector stores send through LangChain fits."""
    max_images: int = pydantic.Field(16, ge=0)
    """Of one request: a conversation sends all its images at every turn."""
    max_image_pixels: int = pydantic.Field(4 << 20, ge=1 << 16, le=1 << 26)
    """What a model gets of an image; a larger one is made smaller."""
    image_cache_bytes: int = pydantic.Field(128 << 20, ge=0)
    same_model_age_seconds: float = pydantic.Field(10.0, ge=0)
    """How long requests for a loaded model may pass older ones that need another model to be loaded."""
    load_timeout_seconds: float = pydantic.Field(600.0, gt=0)
    """Without any load progress for so long, a load is given up."""
    stall_seconds: float = pydantic.Field(60.0, gt=0)
    """A worker with live requests and no step for so long is killed."""
    drain_seconds: float = pydantic.Field(15.0, ge=0)
    memory_reserve_bytes: int = pydantic.Field(512 << 20, ge=0)
    """What loading a model must leave free, its compute buffers among it."""


class Recording(_Model):
    """What is kept of finished requests; their texts never are."""

    file: str | None = None
    """None: performance.sqlite3 in the user's state folder; IN_MEMORY: nothing is written."""
    keep: Duration = 30 * 86_400.0
    """Seconds until a request is forgotten."""
    keep_bytes: int = pydantic.Field(512 << 20, ge=1 << 20)
    """What the file may take; the oldest make room."""


class KeepingResponses(_Model):
    """What is kept of responses of /v1/responses that are to be stored: their texts and images."""

    file: str | None = None
    """None: responses.sqlite3 in the user's state folder; IN_MEMORY: nothing is written."""
    keep: Duration = 30 * 86_400.0
    """Seconds until a response that wasn't gone on from is forgotten; what OpenAI keeps them."""
    keep_bytes: int = pydantic.Field(256 << 20, ge=1 << 20)
    """What the file may take; what was longest unused makes room."""


class Hardware(_Model):
    """The machine, in its owner's words: where the machine doesn't tell, or tells wrong."""

    label: str | None = None
    """What the owner calls it."""
    machine: str | None = None
    processor: str | None = None
    memory: str | None = None
    """Its modules."""
    gpu: str | None = None
    powercap: str = "/sys/class/powercap"
    """Where the processor's energy counters are."""


class Settings(_Model):
    """A whole models.yaml."""

    default_model: str | None = None
    max_loaded_models: int = pydantic.Field(2, ge=1)
    prewarm: bool = True
    """Load default_model at the start."""
    limits: Limits = Limits()
    performance: Recording = Recording()
    responses: KeepingResponses = KeepingResponses()
    hardware: Hardware = Hardware()
    models: tuple[ModelSpec, ...] = ()

    @property
    def enabled(self) -> tuple[ModelSpec, ...]:
        """The models that are served."""
        return tuple(spec for spec in self.models if spec.enabled and not spec.lacks_engine)

    @property
    def left_out(self) -> tuple[ModelSpec, ...]:
        """The models that would be served, if their engines were installed."""
        return tuple(spec for spec in self.models if spec.lacks_engine)


SECTIONS: Final[dict[str, type[_Model]]] = {
    "limits": Limits,
    "performance": Recording,
    "responses": KeepingResponses,
    "hardware": Hardware,
}
"""The mappings of models.yaml beside its list of models."""
IN_MEMORY: Final = "memory"


def locate(explicit: str | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """The models.yaml in force: --config, $HEYLOOK_CONFIG, ./models.yaml, the user's config folder, the bundled one."""
    if explicit is None:
        explicit = environment.get("HEYLOOK_CONFIG") or None
    if explicit is not None:
        return Path(explicit)
    local = Path(FILE_NAME)
    if local.is_file():
        return local
    users = Path(platformdirs.user_config_dir("heylookllm", appauthor=False)) / FILE_NAME
    return users if users.is_file() else BUNDLED


def load(path: Path) -> Settings:
    """Read and validate models.yaml. Raises ConfigError with one line that names file and place."""
    return parse(read(path), path)


def read(path: Path) -> str:
    """A file's text. Raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file. Write one, or leave --config out.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error


def parse(text: str, path: Path) -> Settings:
    """Settings of models.yaml's text; `path` is what errors name and relative paths start from."""
    return validate(document_of(text, path), path)


def validate(document: dict[str, Any], path: Path) -> Settings:
    """Settings of a document as YAML gives it."""
    for at, entry in enumerate(document.get("models") or []):
        _prepare_model(entry, at, path)
    try:
        settings = Settings.model_validate(document)
    except pydantic.ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error, document)}") from error
    _check_names(settings, path)
    return _with_installed_default(settings)


def _with_installed_default(settings: Settings) -> Settings:
    """With another default, the first that is served, in place of one that is left out for its engine."""
    default = settings.default_model
    if default is None or canonical(default) in _names(settings.enabled):
        return settings
    return settings.model_copy(update={"default_model": next((spec.id for spec in settings.enabled), None)})


def named(specs: Iterable[ModelSpec], name: str) -> ModelSpec | None:
    """The model that has this name or alias, in whichever spelling."""
    return next((spec for spec in specs if canonical(name) in _names([spec])), None)


def _names(specs: Iterable[ModelSpec]) -> set[str]:
    return {canonical(name) for spec in specs for name in (spec.id, *spec.aliases)}


def document_of(text: str, path: Path) -> dict[str, Any]:
    """The mapping that a YAML text holds, in which no key is given twice. Raises ConfigError that names the line."""
    try:
        document = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a subclass of SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}:{where} {getattr(error, 'problem', None) or 'is not YAML'}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply") from error
    if document is None:
        raise ConfigError(f"{path}: is empty; it needs at least `models:` with one entry")
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must be a mapping with the key `models`")
    if not isinstance(document.get("models", []), list):
        raise ConfigError(f"{path}: `models` must be a list")
    return document


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader to which a key that is given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key `{key.value}` is given twice", problem_mark=key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _prepare_model(entry: object, at: int, path: Path) -> None:
    """Pick the config class by provider, so that errors name its keys, and make the model's path absolute."""
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: models[{at}] must be a mapping with `id`, `provider` and `config`")
    name = entry.get("id", f"number {at + 1}")
    provider = entry.get("provider")
    if provider is None:
        raise ConfigError(f"{path}: model {name}: the key `provider` is missing: one of {', '.join(PROVIDERS)}")
    if provider not in PROVIDERS:
        known = ", ".join(PROVIDERS)
        near = nearest(str(provider), PROVIDERS)
        raise ConfigError(f"{path}: model {name}: provider {provider!r} is not one of {known}{near}")
    config = entry.get("config") or {}
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: model {name}: `config` must be a mapping")
    try:
        entry["config"] = PROVIDERS[provider].model_validate(absolute(config, path))
    except pydantic.ValidationError as error:
        raise ConfigError(f"{path}: model {name}: config: {_first_problem(error, config)}") from error


def absolute(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """A model's config with its paths made absolute: they are relative to the file `path` that names them."""
    found = dict(config)
    for key in PATH_KEYS:
        value = config.get(key)
        if isinstance(value, str) and value:
            found[key] = _beside(path, value)
    adapters = config.get("lora")
    if isinstance(adapters, list):
        found["lora"] = [_absolute_adapter(adapter, path) for adapter in adapters]
    return found


def _absolute_adapter(adapter: Any, path: Path) -> Any:
    """An adapter with an absolute path; its path alone stands for one at full scale."""
    given = {"path": adapter} if isinstance(adapter, str) else adapter
    if isinstance(given, dict) and isinstance(given.get("path"), str):
        return {**given, "path": _beside(path, given["path"])}
    return given


def _beside(path: Path, value: str) -> str:
    return str((path.resolve().parent / Path(value).expanduser()).absolute())


def _first_problem(error: pydantic.ValidationError, document: Any) -> str:
    """The first problem of a validation, as a line that a user can act on."""
    problem = error.errors(include_url=False)[0]
    place = [part for part in problem["loc"] if not str(part).endswith("Config")]
    if problem["type"] == "extra_forbidden":
        key, parent = str(place[-1]), place[:-1]
        where = f" in {_dotted(parent)}" if parent else ""
        return f"unknown key `{key}`{where}{nearest(key, _known_keys(parent, error))}"
    if problem["type"] == "missing":
        return f"the key `{_dotted(place)}` is missing"
    quote = "; put it in quotes" if problem["type"] == "string_type" else ""
    return f"`{_dotted(place)}`: {problem['msg'].removeprefix('Value error, ')}{quote}"


def _dotted(place: Iterable[object]) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _known_keys(parent: list[Any], error: pydantic.ValidationError) -> Iterable[str]:
    titles: dict[str, type[_Model]] = {kind.__name__: kind for kind in (Settings, *PROVIDERS.values())}
    if parent and parent[0] == "models":
        return ModelSpec.model_fields
    if parent and parent[0] in SECTIONS:
        return SECTIONS[str(parent[0])].model_fields
    return titles[error.title].model_fields


def nearest(key: str, known: Iterable[str]) -> str:
    """ "; did you mean `n_ctx`?", or nothing."""
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else ""


def _check_names(settings: Settings, path: Path) -> None:
    seen: dict[str, str] = {}
    for spec in settings.models:
        for name in (spec.id, *spec.aliases):
            if not ID_PATTERN.match(name):
                raise ConfigError(
                    f"{path}: {name!r} is not a model name: letters, digits and . _ - / : @ + only, 350 at most"
                )
            if (key := canonical(name)) in seen:
                raise ConfigError(f"{path}: the name {name!r} is given twice (by {seen[key]} and {spec.id})")
            seen[key] = spec.id
    possible = _names((*settings.enabled, *settings.left_out))
    if settings.default_model is not None and canonical(settings.default_model) not in possible:
        raise ConfigError(f"{path}: default_model {settings.default_model!r} is not an enabled model of this file")


def canonical(name: str) -> str:
    """What two spellings of one model's name have in common: case and a tag `:latest` don't count."""
    return name.strip().casefold().removesuffix(":latest")
