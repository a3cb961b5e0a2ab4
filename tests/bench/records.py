"""Runs, cells and samples as tests need them."""

from typing import Any

import msgspec

from heylook_llm.bench.sample import Cell, Machine, Run, Sample, Target

MACHINE = Machine("machine", "here", "boot", "{}")
TARGET = Target("target", "null", "openai", "http://127.0.0.1:1", skip_params=("top_k",))


def run(identity: str = "run-1", **more: Any) -> Run:
    """A run that goes on."""
    given = Run(id=identity, spec_json="{}", spec_hash="0", state="running", created=1.0)
    return msgspec.structs.replace(given, **more)


def cell(identity: str = "cell-1", **more: Any) -> Cell:
    """The first cell of run-1."""
    given = Cell(
        id=identity,
        run_id="run-1",
        ordinal=0,
        target_id=TARGET.id,
        model="m",
        task="chat",
        scenario="D(10,10)",
        load="closed",
        level=4,
        repeat=0,
        cache="warm",
        seed=1,
        planned=10,
    )
    return msgspec.structs.replace(given, **more)


def sample(ordinal: int = 0, attempt: int = 0, **more: Any) -> Sample:
    """A sample of that cell."""
    given = Sample(
        id=f"{more.get('cell_id', 'cell-1')}-{ordinal}-{attempt}",
        run_id="run-1",
        cell_id="cell-1",
        ordinal=ordinal,
        attempt=attempt,
        sender=0,
        clock_id="clock",
        phase="measure",
        outcome="ok",
    )
    return msgspec.structs.replace(given, **more)
