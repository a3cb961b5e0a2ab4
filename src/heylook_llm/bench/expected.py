"""How long a run will take, by how its targets did in earlier runs. Pure.

Told only where an earlier cell asked the same model of the same address; a guess says what it is made of.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from heylook_llm.bench.measures import input_tokens, output_tokens, values
from heylook_llm.bench.sample import Cell, Sample
from heylook_llm.bench.scenario import longest, parse
from heylook_llm.bench.spec import SWEPT, RunSpec, load_of, warmup_of

MOST_SAMPLES: Final = 200
BETWEEN_SECONDS: Final = 1.0
"""Between two cells: the model is made ready, its kept prefixes dropped."""


class Pace(msgspec.Struct, frozen=True):
    """How one cell went."""

    run_id: str
    level: float
    closed: bool
    prefill_ms: float
    """Until the first token, for each token of the prompt."""
    decode_ms: float
    """For each token after it."""


def pace_of(cell: Cell, samples: Iterable[Sample]) -> Pace | None:
    """Of a cell's answers; None: they don't tell."""
    prefills, decodes = [], []
    for sample in samples:
        numbers, tokens = values(sample, cell.load != "closed"), input_tokens(sample)
        followers = (output_tokens(sample) or 0) - 1
        if sample.outcome == "ok" and tokens and followers > 0 and {"ttft", "e2e"} <= numbers.keys():
            prefills.append(numbers["ttft"] / tokens)
            decodes.append((numbers["e2e"] - numbers["ttft"]) / followers)
    if not decodes:
        return None
    middle = statistics.median
    return Pace(cell.run_id, cell.level, cell.load == "closed", middle(prefills), middle(decodes))


def seconds_of(spec: RunSpec, cells: Sequence[Cell], paces: Mapping[tuple[str, str], Sequence[Pace]]) -> float | None:
    """How long all cells take; `paces` by target and model. None: of one nothing is known."""
    total = 0.0
    for cell in cells:
        seconds = _seconds(spec, cell, paces.get((cell.target_id, cell.model), ()))
        if seconds is None:
            return None
        total += seconds + BETWEEN_SECONDS
    return total


def _seconds(spec: RunSpec, cell: Cell, paces: Sequence[Pace]) -> float | None:
    load, requests = load_of(spec, cell), spec.requests
    limit = spec.duration_seconds
    if SWEPT in cell.flags or load.kind == "replay":  # its rate isn't known here
        return limit
    if load.clients is None and requests is not None and load.kind != "max":
        planned = requests / load.level
        limit = planned if limit is None else min(limit, planned)
    if requests is None or (load.clients is None and load.kind != "max"):
        return limit
    pace = _nearest(paces, load.clients or requests)
    if pace is None:
        return limit
    tokens, output = longest(parse(cell.scenario))
    each = (pace.prefill_ms * tokens + pace.decode_ms * max(0, output - 1)) / 1000
    rounds = math.ceil((requests + warmup_of(spec, load)) / (load.clients or requests))
    return each * rounds if limit is None else min(limit, each * rounds)


def _nearest(paces: Sequence[Pace], clients: float) -> Pace | None:
    """Of the level that is nearest by its ratio; of equals the first, which is the newest."""
    closed = [pace for pace in paces if pace.closed]
    return min(closed, key=lambda pace: abs(math.log(pace.level / clients)), default=None)
