"""What a spec would send, before anything is sent: its targets are asked only where their models aren't named."""

from typing import Any, Final

import msgspec

from heylook_llm.bench import begin
from heylook_llm.bench import spec as specs
from heylook_llm.bench.begin import KeyOf, Party
from heylook_llm.bench.expected import MOST_SAMPLES, Pace, pace_of, seconds_of
from heylook_llm.bench.probe import Found
from heylook_llm.bench.spec import RunSpec, TargetSpec
from heylook_llm.bench.store import Store
from heylook_llm.errors import HeylookError

_LOOKED_AT: Final = 200
"""Runs, back into the past, among which earlier ones of the same target and model are looked for."""


async def parties(spec: RunSpec, keys: KeyOf) -> tuple[dict[TargetSpec, Party], dict[str, str]]:
    """The targets, and why some can't be asked, by URL; such a one counts with one model."""
    found, problems = {}, {}
    for given in spec.targets:
        try:
            keys(given)
            found[given] = _supposed(given) if given.models else await begin.identified(given, keys=keys)
        except HeylookError as error:
            problems[given.url] = error.message
            found[given] = _supposed(given)
    return found, problems


def _supposed(given: TargetSpec) -> Party:
    """A target that nobody asked."""
    kind = given.kind or "openai"
    return Party(specs.target_of(given, kind), Found(kind, "other"), given.models or ("",), None)


def told(store: Store, spec: RunSpec, found: dict[TargetSpec, Party]) -> dict[str, Any]:
    """What it will send, and how long that takes by earlier runs."""
    paces = _paces(store, found)
    return {
        **msgspec.structs.asdict(begin.estimated(spec, found)),
        "seconds": _seconds(spec, found, paces),
        "seconds_by": sorted({pace.run_id for each in paces.values() for pace in each}),
        "models": {given.url: [model for model in party.models if model] for given, party in found.items()},
    }


def expected(store: Store, spec: RunSpec, found: dict[TargetSpec, Party]) -> float | None:
    """Seconds that it takes by earlier runs; None: they don't tell."""
    return _seconds(spec, found, _paces(store, found))


def _seconds(spec: RunSpec, found: dict[TargetSpec, Party], paces: dict[tuple[str, str], list[Pace]]) -> float | None:
    targets = {given: (party.target, party.models) for given, party in found.items()}
    return seconds_of(spec, specs.cells_of(spec, "", 0.0, targets), paces)


def _paces(store: Store, found: dict[TargetSpec, Party]) -> dict[tuple[str, str], list[Pace]]:
    """How models did at their addresses, by the newest run that asked them there."""
    wanted = {
        (party.target.base_url, model): (party.target.id, model) for party in found.values() for model in party.models
    }
    paces: dict[tuple[str, str], list[Pace]] = {}
    for run in store.runs(_LOOKED_AT):
        if len(paces) == len(wanted):
            break
        addresses = {target.id: target.base_url for target in store.targets(run.id).values()}
        for cell in store.cells(run.id):
            place = wanted.get((addresses[cell.target_id], cell.model))
            if place is None or cell.state != "done" or (place in paces and paces[place][0].run_id != run.id):
                continue
            pace = pace_of(cell, store.samples(run.id, cell.id)[:MOST_SAMPLES])
            if pace is not None:
                paces.setdefault(place, []).append(pace)
    return paces
