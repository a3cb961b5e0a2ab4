"""How a run begins: its targets are identified, its cells made, and everything is kept before anything is sent."""

import difflib
import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from heylook_llm import hardware
from heylook_llm.bench import dataset
from heylook_llm.bench import spec as specs
from heylook_llm.bench.calibrate import Calibration, doubt
from heylook_llm.bench.keys import key_of
from heylook_llm.bench.probe import Flavor, Found, Probe, probing
from heylook_llm.bench.remarks import SHARED
from heylook_llm.bench.sample import Cell, Machine, Origin, Run, Target, new_id
from heylook_llm.bench.scenario import longest, parse
from heylook_llm.bench.spec import RunSpec, TargetSpec
from heylook_llm.bench.store import Store
from heylook_llm.bench.targets import dialect_of
from heylook_llm.errors import ConfigError, TargetFailed

NAMING: Final[frozenset[Flavor]] = frozenset({"heylook", "ollama"})
"""Servers that answer to no other names than they list; llama-server, for one, answers to any."""
MOST_TOKENS: Final = 1 << 53
"""What JSON's numbers hold exactly."""


class Party(msgspec.Struct, frozen=True):
    """A target of a run: what it is, what answers there, which models are asked, and its key."""

    target: Target
    found: Found
    models: tuple[str, ...]
    key: str | None

    def __repr__(self) -> str:
        """Without the key."""
        return f"Party({self.target.name})"


class Estimate(msgspec.Struct, frozen=True):
    """What a run will send, before it does; None: its time decides."""

    cells: int
    requests: int | None
    input_tokens: int | None
    output_tokens: int | None
    at_most_seconds: float | None
    cost: float | None


KeyOf = Callable[[TargetSpec], str | None]
"""The key of a target; None: it needs none. Raises ConfigError."""


def named_key(given: TargetSpec) -> str | None:
    """The key that a target's spec names, where no kept ones are at hand. Raises ConfigError."""
    return key_of(given.key)


async def parties(spec: RunSpec, *, again: bool = False, keys: KeyOf = named_key) -> dict[TargetSpec, Party]:
    """Identify every target; `again`: of a run whose cells know their models. Raises TargetFailed, ConfigError."""
    found = {given: await identified(given, again=again, keys=keys) for given in spec.targets}
    for party in found.values():
        dialect_of(party.target.kind).path(spec.task)
    return found


async def parties_again(store: Store, run: Run, spec: RunSpec, keys: KeyOf) -> dict[str, Party]:
    """The targets of a kept run as they answer now, by their id. Raises TargetFailed, ConfigError."""
    found = {party.target.id: party for party in (await parties(spec, again=True, keys=keys)).values()}
    if changed := [target.name for identity, target in store.targets(run.id).items() if identity not in found]:
        raise TargetFailed(f"{', '.join(changed)} speaks another API than when the run began.")
    return found


async def identified(given: TargetSpec, *, again: bool = False, keys: KeyOf = named_key) -> Party:
    """Identify one target. Raises TargetFailed, ConfigError."""
    key = keys(given)
    headers = dialect_of(given.kind or "openai").headers(key)
    async with probing() as http:
        found = await Probe(http, given.url, headers, key).identify(given.kind)
    return Party(specs.target_of(given, found.kind), found, given.models if again else _models(given, found), key)


def _models(given: TargetSpec, found: Found) -> tuple[str, ...]:
    """Those that were named, else the one that is loaded, else the only one."""
    if given.models:
        _are_there(given, found)
        return given.models
    candidates = found.loaded or found.models
    if len(candidates) == 1 or found.loaded:
        return candidates[:1]
    known = ", ".join(found.models[:20]) or "none that it names"
    raise TargetFailed(f"{given.url} has no model loaded; say which with --model. There are: {known}.")


def _are_there(given: TargetSpec, found: Found) -> None:
    """Whether it has the models that were named, as far as it lists all of them. Raises TargetFailed."""
    if found.flavor not in NAMING or not found.models:
        return
    there = {_plain(name): name for name in (*found.models, *found.aliases)}
    for name in given.models:
        if _plain(name) not in there:
            near = difflib.get_close_matches(_plain(name), there, 1)
            hint = f"is it {there[near[0]]}?" if near else f"there are: {', '.join(found.models[:20])}."
            raise TargetFailed(f"{given.url} has no model '{name[:100]}'; {hint}")


def _plain(name: str) -> str:
    return name.strip().casefold().removesuffix(":latest")


def created(
    store: Store,
    spec: RunSpec,
    found: dict[TargetSpec, Party],
    *,
    version: str,
    origin: Origin = "cli",
    parent: str | None = None,
    calibration: Calibration | None = None,
) -> Run:
    """Keep a new run with its cells. `version` is ours.

    Raises ConfigError: a file that stands on this machine is read for who has a shell here, and for nobody else.
    """
    if spec.dataset is not None and spec.dataset.path is not None and origin != "cli":
        raise ConfigError("A dataset is a file of this machine: such runs begin on its command line.")
    spec, rows = settled(spec)
    wall = time.time()
    machine = this_machine()
    run = Run(
        id=new_id(wall),
        spec_json=specs.as_json(spec),
        spec_hash=specs.hash_of(spec),
        state="pending",
        created=wall,
        origin=origin,
        name=spec.name,
        machine_id=machine.id,
        parent_id=parent,
        manifest_json=json.dumps(_manifest(spec, rows, found, version, calibration)),
    )
    store.create(run, machine, [party.target for party in found.values()], _cells(spec, run.id, wall, found))
    if calibration is not None and (text := doubt(calibration)) is not None:
        store.add_event(run.id, wall, "warning", {"text": text})
    return run


def settled(spec: RunSpec) -> tuple[RunSpec, dataset.Dataset | None]:
    """A spec with what its dataset decides, a replay ends with its rows; and the dataset. Raises ConfigError."""
    if spec.dataset is None:
        return spec, None
    found = dataset.of_spec(spec.dataset)
    rows = found.rows
    if spec.count == "engine" and not all(row.input_tokens for row in rows):
        raise ConfigError("count: engine has no meaning for a dataset's texts, whose tokens aren't known beforehand.")
    if not any(load.kind == "replay" for load in spec.loads):
        return spec, found
    dataset.in_time(rows)
    most = sum(row.requests for row in rows)
    return spec.model_copy(update={"requests": min(spec.requests or most, most)}), found


def _cells(spec: RunSpec, run_id: str, wall: float, found: dict[TargetSpec, Party]) -> list[Cell]:
    return specs.cells_of(spec, run_id, wall, {given: (party.target, party.models) for given, party in found.items()})


def estimated(spec: RunSpec, found: dict[TargetSpec, Party]) -> Estimate:
    """What a run will send. Lengths that are drawn count with the longest. Raises ConfigError for endless ones."""
    spec, known = settled(spec)
    rows = () if known is None else known.rows
    cells = _cells(spec, "", 0.0, found)
    seconds = _at_most_seconds(spec, cells, rows)
    if spec.requests is None:
        return Estimate(len(cells), None, None, None, seconds, None)
    prompts = {text: _tokens(spec, text, spec.requests, rows) for text in spec.scenarios}
    prices = {party.target.id: party.target for party in found.values()}
    inputs = outputs = 0
    cost: float | None = 0.0
    for cell in cells:
        tokens, made = prompts[cell.scenario]
        inputs, outputs = inputs + tokens, outputs + made
        target = prices[cell.target_id]
        if cost is None or target.price_in is None or target.price_out is None:
            cost = None
        else:
            cost += (tokens * target.price_in + made * target.price_out) / 1e6
    if inputs + outputs > MOST_TOKENS:
        raise ConfigError(
            f"{spec.requests} requests of {', '.join(spec.scenarios)[:200]} come to more tokens than count."
        )
    return Estimate(len(cells), spec.requests * len(cells), inputs, outputs, seconds, cost)


def _tokens(spec: RunSpec, scenario: str, requests: int, rows: Sequence[dataset.Row]) -> tuple[int, int]:
    """Of a cell's prompts and answers."""
    if scenario == "dataset" and spec.dataset is not None:
        return dataset.lengths(rows, requests, spec.dataset.output_tokens)
    tokens, made = longest(parse(scenario))
    return requests * tokens, requests * made


def _at_most_seconds(spec: RunSpec, cells: Sequence[Cell], rows: Sequence[dataset.Row]) -> float | None:
    """How long all cells send; None: until they have sent all."""
    times = dataset.in_time(rows) if any(cell.load == "replay" for cell in cells) else ()
    total = 0.0
    for cell in cells:
        known = [spec.duration_seconds] if spec.duration_seconds is not None else []
        if cell.load == "replay":
            known.append(((times[-1].at_ms or 0) - (times[0].at_ms or 0)) / 1000 / cell.level)
        if not known:
            return None
        total += min(known)
    return total


def this_machine() -> Machine:
    """Where the bench runs."""
    cpu, memory = hardware.cpu(), hardware.memory()
    told = {
        "cpu": cpu.name,
        "physical_cores": cpu.physical_cores,
        "available_cores": cpu.available_cores,
        "memory_bytes": memory.total_bytes,
        "gpus": [gpu.name for gpu in hardware.gpus()],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    label = platform.node()
    identity = hashlib.sha256(json.dumps([label, told["cpu"], told["gpus"]]).encode()).hexdigest()[:26]
    return Machine(identity, label, hardware.clock_id(), json.dumps(told))


def _of_dataset(found: dataset.Dataset, spec: RunSpec) -> dict[str, Any]:
    rows = found.rows
    if any(load.kind == "replay" for load in spec.loads):
        rows = dataset.in_time(rows)[: spec.requests]
    shared = None if spec.dataset is None else dataset.alike(rows, spec.dataset.block_tokens)
    return {
        "dataset_sha256": found.sha256,
        "dataset_rows": len(found.rows),
        **({} if shared is None else {SHARED: shared}),
    }


def _manifest(
    spec: RunSpec,
    rows: dataset.Dataset | None,
    found: dict[TargetSpec, Party],
    version: str,
    calibration: Calibration | None,
) -> dict[str, Any]:
    """What must be known to do it again."""
    return {
        **({} if rows is None else _of_dataset(rows, spec)),
        "heylookllm": version,
        "python": platform.python_version(),
        "clock_id": hardware.clock_id(),
        "machine": json.loads(this_machine().hardware_json),
        "calibration": None if calibration is None else msgspec.structs.asdict(calibration),
        "targets": {
            party.target.id: {
                "flavor": party.found.flavor,
                "version": party.found.version,
                "kind": party.found.kind,
            }
            for party in found.values()
        },
    }
