"""Runs of the bench on the command line: begun, resumed and executed here."""

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import psutil

from heylook_llm import __version__
from heylook_llm.bench import begin, estimates, run, told
from heylook_llm.bench import calibrate as calibration
from heylook_llm.bench import spec as specs
from heylook_llm.bench.begin import Party
from heylook_llm.bench.calibrate import Calibration
from heylook_llm.bench.kept import Kept
from heylook_llm.bench.load import Load
from heylook_llm.bench.metrics import limits_of
from heylook_llm.bench.probe import LOCAL
from heylook_llm.bench.remarks import counted
from heylook_llm.bench.report import files, terminal
from heylook_llm.bench.run import Progress, Recorder
from heylook_llm.bench.sample import CLIENT_LIMITED, Run, RunState
from heylook_llm.bench.spec import RunSpec, TargetSpec
from heylook_llm.bench.store import Store
from heylook_llm.commands import bench_reports, bench_runs, state
from heylook_llm.errors import ConfigError, Conflict, TargetFailed

GOOD, USAGE, UNTRUSTWORTHY, TARGET, CANCELLED = 0, 2, 3, 4, 130
"""Exit statuses of a run."""
BARE_SECONDS: Final = 60.0
BARE_LEVELS: Final = (1.0, 4.0, 16.0)


@dataclass(frozen=True, slots=True)
class Order:
    """The options of `bench run`, as they were given."""

    spec: Path | None
    targets: tuple[str, ...]
    kind: str | None
    key: str | None
    models: tuple[str, ...]
    task: str | None
    scenarios: tuple[str, ...]
    dataset: Path | None
    count: str | None
    concurrency: str | None
    rate: str | None
    arrival: str | None
    burstiness: float | None
    ramp: str | None
    sweep: int | None
    replay: str | None
    block_tokens: int | None
    requests: int | None
    duration: float | None
    warmup: int | None
    cooldown: int | None
    parallel: str | None
    repeats: int | None
    cache: tuple[str, ...]
    slo: tuple[str, ...]
    seed: int | None
    timeout: float | None
    name: str | None
    output: Path | None
    dry_run: bool
    calibrated: bool
    as_json: bool


# ---- beginning -------------------------------------------------------------------------------------------------------


def begin_run(order: Order) -> int:
    """Do what was ordered; the exit status."""
    try:
        spec, found = asyncio.run(_resolved(order))
    except TargetFailed as error:
        click.echo(f"Error: {error.message}", err=True)
        return TARGET
    if order.dry_run:
        _show_estimate(spec, found, order.as_json)
        return GOOD
    for party in found.values():
        if party.target.key_ref is not None:
            click.echo(f"The key of {party.target.name} is that of {party.target.key_ref}.", err=True)
    known = _calibration() if order.calibrated else None
    with Store(state.bench_file()) as store:
        made = begin.created(store, spec, found, version=__version__, calibration=known)
        parties = {party.target.id: party for party in found.values()}
        return _execute(store, made, parties, order.output, order.as_json)


async def _resolved(order: Order) -> tuple[RunSpec, dict[TargetSpec, Party]]:
    spec = spec_of(order, await _default_target(order))
    return spec, await begin.parties(spec, keys=_kept().key_of)


def _kept() -> Kept:
    """The targets that the user keeps, whose keys a spec may name."""
    return Kept(state.targets_file())


async def _default_target(order: Order) -> str | None:
    """Where to measure when nobody said: the first local server that answers. Raises TargetFailed."""
    if order.targets or order.spec is not None:
        return None
    noted = state.running_server()
    first = (noted.url,) if noted is not None and noted.url.startswith("http") else ()
    candidates: dict[str, None] = dict.fromkeys([*first, *LOCAL])
    for url in candidates:
        try:
            party = await begin.identified(TargetSpec(url=url))
        except TargetFailed:
            continue
        click.echo(f"Found {party.found.flavor} at {url}.", err=True)
        return url
    ports = ", ".join(url.rpartition(":")[2] for url in LOCAL)
    raise TargetFailed(f"No server answers on the ports {ports}; start one with `heylookllm`, or name it: --target URL")


def spec_of(order: Order, default_target: str | None) -> RunSpec:
    """The spec that was ordered: a file's, with the options above it. Raises ConfigError."""
    given: dict[str, Any] = {}
    if order.spec is not None:
        given = specs.read(order.spec).model_dump(mode="json", exclude_unset=True)
    urls = order.targets or ((default_target,) if default_target else ())
    if urls:
        given["targets"] = [{"url": url} for url in urls]
    for target in given.get("targets", ()):
        above = {"kind": order.kind, "key": order.key, "models": list(order.models) or None}
        target.update({name: value for name, value in above.items() if value is not None})
    if loads := _loads(order):
        given["loads"] = loads
    plain = {
        **{"name": order.name, "seed": order.seed, "task": order.task, "requests": order.requests},
        **{"duration_seconds": order.duration, "warmup_requests": order.warmup, "repeats": order.repeats},
        **{"cooldown_requests": order.cooldown, "parallel": order.parallel, "count": order.count},
        **{"dataset": None if order.dataset is None else {"path": str(order.dataset)}},
        **{"timeout_seconds": order.timeout, "scenarios": order.scenarios or None, "cache": order.cache or None},
        "slo": limits_of(order.slo, "--slo") or None,
    }
    given |= {name: value for name, value in plain.items() if value is not None}
    if order.block_tokens is not None:
        if not given.get("dataset"):
            raise ConfigError("--block-tokens goes with --dataset FILE, of a trace.")
        given["dataset"]["block_tokens"] = order.block_tokens
    replays = {load.get("kind") == "replay" for load in given.get("loads", ())}
    if given.get("requests") is None and given.get("duration_seconds") is None and replays != {True}:
        given.setdefault("loads", [{"kind": "closed", "levels": BARE_LEVELS}])
        levels = sum(_levels(load) for load in given["loads"])
        given["duration_seconds"] = round(BARE_SECONDS / levels, 3)
    return specs.checked(given, "The run" if order.spec is None else str(order.spec))


def _loads(order: Order) -> list[dict[str, Any]]:
    loads: list[dict[str, Any]] = []
    if order.concurrency is not None:
        loads.append({"kind": "closed", "levels": _numbers("--concurrency", order.concurrency)})
    if order.rate is not None:
        kind = order.arrival or "poisson"
        loads.append({"kind": kind, "levels": _numbers("--rate", order.rate), **_of_arrival(order)})
    elif order.arrival == "max":
        loads.append({"kind": "max", **_of_arrival(order)})
    elif order.arrival is not None:
        raise ConfigError(f"--arrival {order.arrival} says how the requests of --rate arrive: give that, too.")
    elif order.ramp is not None or order.burstiness is not None:
        raise ConfigError("--ramp and --burstiness say how the requests of --rate arrive.")
    if order.sweep is not None:
        loads.append({"kind": "sweep", "levels": [order.sweep]})
    if order.replay is not None:
        loads.append({"kind": "replay", "levels": _numbers("--replay", order.replay)})
    return loads


def _of_arrival(order: Order) -> dict[str, float]:
    """What else a load takes that is planned beforehand."""
    if (order.ramp is not None) > (order.arrival == "ramp"):
        raise ConfigError("--ramp goes with --arrival ramp.")
    if (order.burstiness is not None) > (order.arrival == "gamma"):
        raise ConfigError("--burstiness goes with --arrival gamma.")
    if order.arrival == "ramp":
        start, *seconds = _numbers("--ramp", order.ramp or "0,30")
        if len(seconds) != 1:
            raise ConfigError(f"--ramp {order.ramp}: must be a rate and seconds, as 0,30")
        return {"ramp_from": start, "ramp_seconds": seconds[0]}
    return {} if order.burstiness is None else {"burstiness": order.burstiness}


def _levels(load: dict[str, Any]) -> int:
    """How many cells it makes of each combination of the rest."""
    levels = load.get("levels", (1,))
    return int(levels[0]) if load.get("kind") == "sweep" else len(levels)


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} {text}: must be numbers with commas between them, as 1,4,16") from None


def _show_estimate(spec: RunSpec, found: dict[TargetSpec, Party], as_json: bool) -> None:
    estimate, seconds = begin.estimated(spec, found), _expected(spec, found)
    if as_json:
        told = {**msgspec.structs.asdict(estimate), "seconds": seconds}
        click.echo(json.dumps({"spec": spec.model_dump(mode="json"), "estimate": told}))
        return
    parts = [
        counted(estimate.cells, "cell"),
        "requests as time allows" if estimate.requests is None else counted(estimate.requests, "request"),
        None if estimate.input_tokens is None else f"at most {estimate.input_tokens} + {estimate.output_tokens} tokens",
        None if estimate.at_most_seconds is None else f"at most {_long(estimate.at_most_seconds)} of sending",
        None if seconds is None else f"about {_long(seconds)} by earlier runs",
        None if estimate.cost is None else f"at most {estimate.cost:.2f} in your prices",
    ]
    click.echo(" · ".join(part for part in parts if part is not None))
    for party in found.values():
        click.echo(f"  {party.found.flavor} at {party.target.base_url}: {', '.join(party.models)}")
    loads = [_named(load) for each in spec.loads for load in each.loads()]
    for title, values in (("scenarios", spec.scenarios), ("loads", loads), ("caches", spec.cache)):
        click.echo(f"  {title}: {', '.join(values)}")
    if spec.repeats > 1:
        click.echo(f"  each {spec.repeats} times")


def _long(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} minutes"


def _expected(spec: RunSpec, found: dict[TargetSpec, Party]) -> float | None:
    """How long it takes by earlier runs; None: there were none, or they don't tell."""
    if not state.bench_file().exists():
        return None
    with Store(state.bench_file()) as store:
        return estimates.expected(store, spec, found)


def _named(load: Load) -> str:
    """A load for a reader."""
    if load.kind == "replay":
        return f"replay {load.level:g}x"
    return f"{load.kind} {load.level:g}" if load.share is None else f"{load.kind} at {100 * load.share:.0f} % between"


# ---- calibration -----------------------------------------------------------------------------------------------------


def calibrate(as_json: bool) -> None:
    """Measure the bench itself, and keep that for a day."""
    made = asyncio.run(calibration.made_anew(*_ours()))
    if as_json:
        click.echo(json.dumps(msgspec.structs.asdict(made)))
        return
    click.echo(
        f"{made.chunks} chunks were stamped later than the null target wrote them by {made.error_p50_ms} ms (median), "
        f"{made.error_p99_ms} ms (p99), {made.worst_ms} ms at most."
    )


def _calibration() -> Calibration | None:
    """Today's, of this machine and version; else it is made now. None where it can't be: a run goes on without."""
    try:
        return asyncio.run(calibration.of_today(*_ours()))
    except TargetFailed as error:
        click.echo(f"Warning: {error.message}", err=True)
        return None


def _ours() -> tuple[Path, str, str]:
    """Where it is kept, our version, this machine."""
    return state.calibration_file(), __version__, begin.this_machine().id


# ---- executing -------------------------------------------------------------------------------------------------------


def _execute(store: Store, made: Run, parties: dict[str, Party], output: Path | None, as_json: bool) -> int:
    found = {identity: party.found for identity, party in parties.items()}
    keys = {identity: party.key for identity, party in parties.items()}
    line = _Line()
    recorder = Recorder(store, made, found, keys, line.show)
    ended = asyncio.run(run.execute(recorder))
    line.end()
    made = store.run(made.id)
    if as_json:
        bench_runs.tell(store, made, as_json)
    else:
        click.echo(terminal.text(files.made(store, made)))
        bench_runs.warn(store, made)
    if output is not None:
        bench_reports.everything(store, made, output)
        click.echo(f"wrote {output}", err=True)
    return _status(made, ended)


def _status(made: Run, ended: RunState) -> int:
    if ended in ("cancelled", "interrupted"):
        click.echo(f"Go on with: heylookllm bench resume {made.id[-8:]}", err=True)
        return CANCELLED
    if ended == "failed":
        return TARGET
    return UNTRUSTWORTHY if CLIENT_LIMITED in json.loads(made.flags_json) else GOOD


class _Line:
    """Progress on one line of a terminal; nothing where nobody looks."""

    def __init__(self) -> None:
        self._wide = 0

    def show(self, progress: Progress) -> None:
        """Write it over the last."""
        if not sys.stderr.isatty():
            return
        cell = progress.cell
        of = f"/{progress.in_cell}" if progress.in_cell else ""
        failed = f", {progress.failed} failed" if progress.failed else ""
        text = (
            f"cell {cell.ordinal + 1}/{progress.cells} · {cell.model} {cell.scenario} {cell.load} {cell.level:g} · "
            f"{progress.done}{of} done{failed} · {progress.seconds:.0f} s"
        )
        with contextlib.suppress(OSError):  # whoever looked is gone, as behind a connection that broke
            click.echo(f"\r{text.ljust(self._wide)}", nl=False, err=True)
        self._wide = len(text)

    def end(self) -> None:
        """Leave the line empty."""
        if self._wide:
            click.echo(f"\r{' ' * self._wide}\r", nl=False, err=True)


def resume(name: str, output: Path | None, as_json: bool) -> int:
    """Send what a run hasn't committed; the exit status."""
    with Store(state.bench_file()) as store:
        made = told.current(store, store.run(name))
        if made.goes_on:
            raise Conflict(f"The run {made.id[-8:]} goes on, in process {made.pid}.")
        spec = specs.checked(json.loads(made.spec_json))
        try:
            parties = asyncio.run(begin.parties_again(store, made, spec, _kept().key_of))
        except TargetFailed as error:
            click.echo(f"Error: {error.message}", err=True)
            return TARGET
        me = psutil.Process()
        mine = {"pid": me.pid, "pid_started": me.create_time(), "cancel_requested": False}
        taken = store.take_up(made, time.time(), "running", **mine)
        if taken is None:  # two commands resume it at once
            raise Conflict(f"The run {made.id[-8:]} was taken up by somebody else.")
        return _execute(store, taken, parties, output, as_json)


def schema() -> None:
    """The JSON schema of specs."""
    click.echo(json.dumps(RunSpec.model_json_schema(), indent=2))
