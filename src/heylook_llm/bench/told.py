"""What a kept run is, in the form in which programs are told: by the command line, by the HTTP API."""

import json
import time
from collections.abc import Iterator
from typing import Any, Final

from heylook_llm.bench.sample import Run
from heylook_llm.bench.store import Store, alive

SETTLED_CELLS: Final = frozenset({"done", "failed", "skipped"})
"""States of cells of which nothing is left to send."""


def current(store: Store, made: Run) -> Run:
    """The run as it is now: interrupted, if its process is gone."""
    return store.interrupt_if_dead(made, alive(made), time.time())


def brief(store: Store, made: Run) -> dict[str, Any]:
    """A run in a list."""
    cells = store.cells(made.id)
    return {
        "id": made.id,
        "name": made.name,
        "state": made.state,
        "origin": made.origin,
        "created": made.created,
        "started": made.started,
        "ended": made.ended,
        "spec_hash": made.spec_hash,
        "flags": json.loads(made.flags_json),
        "targets": sorted(target.name for target in store.targets(made.id).values()),
        "models": sorted({cell.model for cell in cells}),
        "cells": len(cells),
        "cells_settled": sum(cell.state in SETTLED_CELLS for cell in cells),
        "samples": store.sample_count(made.id),
    }


def whole(store: Store, made: Run) -> dict[str, Any]:
    """A run with its cells and what was in the way."""
    return {**brief(store, made), "cells": list(_cells(store, made)), "warnings": store.warnings(made.id)}


def _cells(store: Store, made: Run) -> Iterator[dict[str, Any]]:
    """What became of the measured requests of each cell."""
    targets = store.targets(made.id)
    outcomes = store.outcomes(made.id)
    for cell in store.cells(made.id):
        yield {
            "id": cell.id,
            "ordinal": cell.ordinal,
            "target": targets[cell.target_id].name,
            **{name: getattr(cell, name) for name in ("model", "task", "scenario", "load", "level", "repeat", "cache")},
            **{name: getattr(cell, name) for name in ("state", "planned", "flags")},
            "outcomes": outcomes.get(cell.id, {}),
        }
