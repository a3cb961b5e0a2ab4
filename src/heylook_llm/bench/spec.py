"""The run spec: the one description behind the command line, files, pages and the HTTP API; and the cells it makes."""

import contextlib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from heylook_llm.bench import scenario as scenarios
from heylook_llm.bench.load import Kind, Load, sweep
from heylook_llm.bench.sample import Cell, Target, new_id
from heylook_llm.bench.scenario import WHOLE, Task
from heylook_llm.errors import ConfigError


def _is_state(text: str) -> str:
    if re.fullmatch(CACHE, text) is None:
        raise ValueError(f"'{text[:40]}' is no state of a cache: say cold, warm, or prefix and a per cent, as prefix75")
    return text


CACHE: Final = "^(cold|warm|prefix(100|[1-9]?[0-9]))$"
Cache = Annotated[str, AfterValidator(_is_state), Field(json_schema_extra={"pattern": CACHE})]
Measure = Literal["ttft", "tpot", "itl", "e2e", "e2el"]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False, description="Per million tokens.")]
OwnPrompt = Annotated[str, Field(min_length=1, max_length=1_000_000)]
MOST_CELLS: Final = 10_000
MOST_SWEPT: Final = 20
MOST_REQUESTS: Final = 1_000_000_000
MOST_SECONDS: Final = 100_000_000.0
"""Three years: clocks and alarms count so far."""
MOST_SEED: Final = (1 << 63) - 1
"""What the store keeps of whole numbers."""
SLOWEST, FASTEST, SWEPT = "sweep-slowest", "sweep-fastest", "sweep-planned"
"""Flags of a sweep's cells: its two ends, and those whose rate is known once the ends are measured."""
USUAL: Final[dict[Task, str]] = {
    "chat": "D(100,100)",
    "completion": "D(100,100)",
    "embeddings": "E(256)",
    "rerank": "R(256,32,8)",
    "image-text": "I(512,512)",
}
"""The traffic of a task where none is said."""
KEY_KINDS: Final = ("kept", "env", "file", "keyring")


class _Part(BaseModel):
    """Unknown keys are errors: a misspelt option must not be left out in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetSpec(_Part):
    """A server and what to ask of it."""

    url: str = Field(
        max_length=2000, description="Its root, as http://127.0.0.1:8080; a path before /v1 or /api may follow."
    )
    kind: Literal["openai", "ollama", "anthropic"] | None = Field(
        None, description="Which API to speak; none: the one that it is found to speak."
    )
    name: str | None = Field(None, max_length=100, description="What reports call it; none: host and port.")
    models: tuple[str, ...] = Field((), description="Which models; none: the one that is loaded.")
    key: str | None = Field(
        None, description="Where its API key is: kept:NAME, env:NAME, file:PATH (mode 0600) or keyring:NAME."
    )
    price_in: Price | None = None
    price_out: Price | None = None

    @field_validator("url")
    @classmethod
    def _is_root(cls, url: str) -> str:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError("must be http:// or https://, a host and a port, without a user or a query")
        port = f":{parts.port}" if parts.port else ""
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/').removesuffix('/v1')}"

    @field_validator("key")
    @classmethod
    def _names_a_key(cls, key: str | None) -> str | None:
        """The key itself never stands in a spec, which is kept and shown."""
        if key is not None and key.partition(":")[0] not in KEY_KINDS:
            raise ValueError(
                "names a key, as kept:NAME, env:NAME, file:PATH or keyring:NAME; the key itself is never written here"
            )
        return key


class LoadSpec(_Part):
    """How requests are sent; each level is a cell of its own."""

    kind: Kind | Literal["sweep"] = Field(
        "closed",
        description="closed: so many clients; the others plan each request beforehand. sweep: one client, as many as "
        "the target has use for, then rates between. replay: when the dataset's timestamps say.",
    )
    levels: tuple[float, ...] = Field(
        (1.0,),
        min_length=1,
        description="Clients, or requests per second; of sweep: how many loads; of replay: so many times as fast.",
    )
    burstiness: float = Field(1.0, gt=0, description="Of gamma: 1 is Poisson, below 1 bursts.")
    ramp_from: float = Field(0.0, ge=0, description="Of ramp: the rate it begins with.")
    ramp_seconds: float = Field(0.0, ge=0, description="Of ramp: how long it rises.")

    @model_validator(mode="after")
    def _sends_something(self) -> "LoadSpec":
        if self.kind == "sweep" and not (len(self.levels) == 1 and self.levels[0] in range(3, MOST_SWEPT + 1)):
            raise ValueError(f"a sweep has 3 to {MOST_SWEPT} loads: levels: [5]")
        try:
            list(self.loads())
        except ConfigError as error:
            raise ValueError(error.message) from error
        return self

    def loads(self) -> Iterator[Load]:
        """One for each level."""
        if self.kind == "sweep":
            yield from sweep(int(self.levels[0]))
            return
        for level in self.levels:
            yield Load(self.kind, level, self.burstiness, self.ramp_from, self.ramp_seconds)


class DatasetSpec(_Part):
    """Prompts of the user's own, which the scenario `dataset` sends as they stand: of a file, or written here.

    Or a trace: a file that says how long prompts are, which begin alike, and when they came.
    """

    path: str | None = Field(
        None, description="JSON lines, JSON, CSV or plain lines, by the name's end; relative to this folder."
    )
    prompts: tuple[OwnPrompt, ...] = Field((), max_length=10_000, description="Instead of a file: the prompts.")
    column: str | None = Field(None, description="Which field holds the prompt; none: prompt, text, messages...")
    output_tokens: int | None = Field(
        None, ge=1, description="How long an answer may be, where a row doesn't say; none: as the target likes."
    )
    block_tokens: int = Field(
        512, ge=1, le=1 << 20, description="Of a trace: tokens that each of a row's hash_ids stands for."
    )

    @field_validator("path")
    @classmethod
    def _is_absolute(cls, path: str | None) -> str | None:
        """A run may be resumed from elsewhere."""
        return None if path is None else str(Path(path).expanduser().absolute())

    @model_validator(mode="after")
    def _is_one(self) -> "DatasetSpec":
        if (self.path is None) == (not self.prompts):
            raise ValueError("a dataset is either a path or a list of prompts")
        return self


class RunSpec(_Part):
    """A benchmark: everything that decides what is sent, when and where to."""

    name: str | None = Field(None, max_length=100, description="What to call the run.")
    seed: int = Field(1, ge=-MOST_SEED, le=MOST_SEED, description="Of lengths, texts and arrivals.")
    salt: str | None = Field(
        None,
        max_length=100,
        description="Words of the prompts depend on it; none: the run's id, so that no cache knows them.",
    )
    targets: tuple[TargetSpec, ...] = Field(min_length=1)
    task: Task = Field("chat", description="What to ask for; none: what the first scenario is for.")
    scenarios: tuple[str, ...] = Field(
        (USUAL["chat"],), min_length=1, description="Traffic, as D(100,100); none: the dataset, or the task's usual."
    )
    dataset: DatasetSpec | None = Field(None, description="The prompts of the scenario `dataset`.")
    count: Literal["user", "engine"] = Field(
        "user", description="Whose tokens a prompt's length is of: the user's text, or all that the engine computes."
    )
    loads: tuple[LoadSpec, ...] = Field((LoadSpec(),), min_length=1)
    requests: int | None = Field(None, ge=1, le=MOST_REQUESTS, description="Measured requests of each cell.")
    duration_seconds: float | None = Field(
        None, gt=0, le=MOST_SECONDS, description="How long each cell sends; whichever ends first."
    )
    warmup_requests: int | None = Field(
        None,
        ge=0,
        le=MOST_REQUESTS,
        description="Requests before the measured ones; none: one for each client, at least one.",
    )
    cooldown_requests: int = Field(
        0,
        ge=0,
        le=MOST_REQUESTS,
        description="Requests behind the measured ones, so that the last of those has company, too.",
    )
    parallel: Literal["none", "host", "all"] = Field(
        "host", description="Which targets are measured side by side: none, those on different hosts, or all."
    )
    repeats: int = Field(1, ge=1, le=100, description="How often every cell runs; targets take turns within each.")
    cache: tuple[Cache, ...] = Field(("warm",), min_length=1, description="cold, warm, or prefix and a per cent.")
    force_length: bool = Field(
        True, description="Ask for exactly the planned tokens where the server can (ignore_eos), else at most."
    )
    options: dict[str, Any] = Field(
        default_factory=lambda: {"temperature": 0},
        description="More fields of every request's body; none: temperature 0, where answers are texts.",
    )
    timeout_seconds: float = Field(300.0, gt=0, le=MOST_SECONDS, description="After which a request is given up.")
    stall_seconds: float = Field(
        60.0, gt=0, le=MOST_SECONDS, description="How long an answer that began may be silent."
    )
    drain_seconds: float = Field(
        60.0, ge=0, le=MOST_SECONDS, description="How long requests in flight may end after the last was sent."
    )
    slo: dict[Measure, Limit] = Field({}, description="Limits in milliseconds that a good request keeps.")

    @model_validator(mode="before")
    @classmethod
    def _fills_in(cls, given: Any) -> Any:
        """What depends on something else that is said. Mistakes are found by what comes behind."""
        if not isinstance(given, dict):
            return given
        filled = dict(given)
        if "task" not in given and isinstance(given.get("scenarios"), list | tuple):
            for text in given["scenarios"][:1]:
                with contextlib.suppress(ConfigError, TypeError):
                    filled["task"] = scenarios.task_of(scenarios.parse(text))
        if not isinstance(filled.get("task", "chat"), str):
            return filled
        task = filled.get("task", "chat")
        if "scenarios" not in given and task in get_args(Task):
            filled["scenarios"] = ["dataset"] if given.get("dataset") else [USUAL[task]]
        if "options" not in given and task in WHOLE:
            filled["options"] = {}
        return filled

    @field_validator("scenarios")
    @classmethod
    def _is_canonical(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(str(scenarios.parse(text)) for text in given)
        except ConfigError as error:
            raise ValueError(error.message) from error  # which pydantic gives its place

    @model_validator(mode="after")
    def _is_possible(self) -> "RunSpec":
        replays = {load.kind == "replay" for load in self.loads}
        if self.requests is None and self.duration_seconds is None and replays != {True}:
            raise ValueError("requests or duration_seconds must say when a cell ends")
        if True in replays:
            self._is_replayable()
        for text in self.scenarios:
            parsed = scenarios.parse(text)
            if not scenarios.fits(parsed, self.task):
                raise ValueError(f"{text} is no traffic of task {self.task}")
            if isinstance(parsed, scenarios.Dataset) and self.dataset is None:
                raise ValueError("the scenario dataset needs a dataset: {path: FILE}, or --dataset FILE")
            if self.count == "engine" and isinstance(parsed, _UNCOUNTED):
                raise ValueError(f"count: engine has no meaning for {text}, whose tokens aren't known beforehand")
        if "cold" in self.cache and any(load.clients is None for each in self.loads for load in each.loads()):
            raise ValueError("cache: cold unloads the model before each request, which needs loads of kind closed")
        return self

    @model_validator(mode="after")
    def _says_nothing_twice(self) -> "RunSpec":
        """Two cells of the same axes would be one row and send the same prompts, which the second finds cached."""
        loads = [load for each in self.loads for load in each.loads() if load.share is None]
        said: dict[str, Sequence[Hashable]] = {
            "targets": [(target.url, target.kind, target.name) for target in self.targets],
            "scenarios": self.scenarios,
            "cache": self.cache,
            "loads": [(f"{load.kind} {load.level:g}", load.level) for load in loads],
            **{f"models of {target.url}": target.models for target in self.targets},
        }
        for name, values in said.items():
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                what = twice[0][0] if isinstance(twice[0], tuple) else twice[0]
                raise ValueError(f"{name}: {what} stands there twice; repeats (--repeats 2) measures all of it again")
        return self

    def _is_replayable(self) -> None:
        if self.dataset is None or self.dataset.path is None or set(self.scenarios) != {"dataset"}:
            raise ValueError("a load of kind replay sends the rows of a dataset's file, which say when: --dataset FILE")
        if self.cooldown_requests:
            raise ValueError("a replay has no cool-down: its rows end")


_UNCOUNTED: Final = (scenarios.Image, scenarios.Conversation, scenarios.Rerank)


def parse(text: str, source: str = "the spec") -> RunSpec:
    """A spec from YAML or JSON. Raises ConfigError with every mistake and its place."""
    try:
        return checked(yaml.safe_load(text), source)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is no YAML: {' '.join(str(error).split())}") from error


def read(path: Path) -> RunSpec:
    """A spec from a file. Raises ConfigError."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error


def checked(given: Any, source: str = "the spec") -> RunSpec:
    """A spec from what was read. Raises ConfigError with every mistake and its place."""
    try:
        return RunSpec.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        # a list from which a wrong item was left out is not too short because of it
        within = {one["loc"][:depth] for one in found for depth in range(1, len(one["loc"]))}
        mistakes = [_mistake(one) for one in found if one["loc"] not in within]
        raise ConfigError(f"{source} is wrong: {'; '.join(mistakes)}.") from error


def _mistake(found: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in found["loc"] if part != "[key]")
    said = found["msg"].removeprefix("Value error, ").removesuffix(".")
    return f"{place}: {said}" if place else said


def as_json(spec: RunSpec) -> str:
    """In one form: equal specs give equal texts."""
    return json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def hash_of(spec: RunSpec) -> str:
    """Of all that decides what is measured: runs of one hash are repeats of one experiment, whatever their names."""
    return hashlib.sha256(as_json(spec.model_copy(update={"name": None})).encode()).hexdigest()


def target_of(given: TargetSpec, kind: Literal["openai", "ollama", "anthropic"]) -> Target:
    """A target as the store keeps it; its id is of its content."""
    name = given.name or urlsplit(given.url).netloc
    content = json.dumps([name, kind, given.url, given.key, given.price_in, given.price_out])
    identity = hashlib.sha256(content.encode()).hexdigest()[:26]
    return Target(identity, name, kind, given.url, given.key, price_in=given.price_in, price_out=given.price_out)


def cells_of(
    spec: RunSpec, run_id: str, wall: float, targets: dict[TargetSpec, tuple[Target, tuple[str, ...]]]
) -> list[Cell]:
    """The cells of a run, in the order of its execution.

    Targets and models stand innermost: what will be compared is measured in turn, close together in time.
    """
    loads = sum(int(each.levels[0]) if each.kind == "sweep" else len(each.levels) for each in spec.loads)
    models_asked = sum(len(models) for _, models in targets.values())
    count = spec.repeats * len(spec.cache) * len(spec.scenarios) * loads * models_asked
    if count > MOST_CELLS:  # before they are made: a short spec can name billions
        raise ConfigError(f"{count} cells are too many; {MOST_CELLS} are the most.")
    axes = [
        (repeat, text, load, flags, cache, target, model)
        for repeat in range(spec.repeats)
        for cache in spec.cache
        for text in spec.scenarios
        for each in spec.loads
        for load, flags in _flagged(each)
        for target, models in targets.values()
        for model in models
    ]
    return [
        Cell(
            id=new_id(wall),
            run_id=run_id,
            ordinal=ordinal,
            target_id=target.id,
            model=model,
            task=spec.task,
            scenario=text,
            load=load.kind,
            level=load.level,
            repeat=repeat,
            cache=cache,
            seed=spec.seed,
            planned=spec.requests,
            flags=flags,
        )
        for ordinal, (repeat, text, load, flags, cache, target, model) in enumerate(axes)
    ]


def _flagged(each: LoadSpec) -> Iterator[tuple[Load, tuple[str, ...]]]:
    """The loads, and of a sweep what each is in it."""
    for place, load in enumerate(each.loads()):
        swept = (SLOWEST, FASTEST)[place] if place < 2 else SWEPT
        yield load, (swept,) if each.kind == "sweep" else ()


def load_of(spec: RunSpec, cell: Cell) -> Load:
    """How a cell's requests are sent. A sweep's rates stand in its cells alone."""
    found = (load for each in spec.loads for load in each.loads() if load.share is None)
    alike = (load for load in found if (load.kind, load.level) == (cell.load, cell.level))
    return next(alike, None) or Load(_KINDS[cell.load], cell.level)


_KINDS: Final[dict[str, Kind]] = {kind: kind for kind in get_args(Kind)}


def seed_of(spec: RunSpec, cell: Cell) -> str:
    """What makes a cell's prompts and arrivals its own; the same for each target, which so gets the same."""
    salt = spec.salt if spec.salt is not None else cell.run_id
    return f"{spec.seed}/{salt}/{cell.scenario}/{cell.load}/{cell.level:g}/{cell.cache}/{cell.repeat}"


def warmup_of(spec: RunSpec, load: Load) -> int:
    """Requests that are sent before the measured ones."""
    return spec.warmup_requests if spec.warmup_requests is not None else max(1, load.clients or 0)
