"""What a cell's requests are to be, as far as its target must be asked for it: words, templates, contexts, rates."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from heylook_llm.bench import dataset
from heylook_llm.bench.load import swept
from heylook_llm.bench.probe import Found, Probe
from heylook_llm.bench.requests import CellRequests
from heylook_llm.bench.sample import Cell, Run, Sample, Target
from heylook_llm.bench.scenario import parse, window
from heylook_llm.bench.spec import FASTEST, SLOWEST, SWEPT, DatasetSpec, RunSpec, load_of, seed_of, warmup_of
from heylook_llm.bench.store import Store
from heylook_llm.bench.targets import dialect_of
from heylook_llm.bench.targets.dialect import Wanted
from heylook_llm.bench.workload import Rows, Source, Trace, Vocabulary, Workload, compose, vocabulary
from heylook_llm.errors import TargetFailed

TRIED_TOKENS: Final = 16
"""Of the text by which a target is asked what it computes beside it."""


class Planner:
    """Plans the cells of one run; what it learned of a model it keeps."""

    def __init__(  # noqa: PLR0917 (a run and all that is known of it)
        self,
        store: Store,
        run: Run,
        spec: RunSpec,
        cells: Sequence[Cell],
        found: dict[str, Found],
        keys: dict[str, str | None],
    ) -> None:
        """`found` and `keys` by the id of the target. Raises ConfigError where its dataset was changed."""
        self._store = store
        self._spec = spec
        self._cells = cells
        self._found = found
        self._keys = keys
        self._rows = () if spec.dataset is None else dataset.of_run(spec.dataset, run.manifest_json)
        self._words: dict[tuple[str, str], Vocabulary] = {}
        self._templates: dict[tuple[str, str], int] = {}

    def swept(self, cell: Cell) -> Cell:
        """A sweep's cell with its rate, by what the ends of its first repeat reached. Raises TargetFailed."""
        if SWEPT not in cell.flags:
            return cell
        low, high = (self._reached(end, cell) for end in (SLOWEST, FASTEST))
        if low is None or high is None:
            raise TargetFailed(f"the ends of the sweep of {cell.model} measured nothing, so its rates aren't known")
        flags = (*(flag for flag in cell.flags if flag != SWEPT), "sweep")
        level = swept(cell.level, low, high)
        self._store.set_cell(cell, time.time(), level=level, flags=flags)
        return msgspec.structs.replace(cell, level=level, flags=flags)

    def _reached(self, end: str, cell: Cell) -> float | None:
        found = next(one for one in self._cells if one.repeat == 0 and end in one.flags and _is_alike(one, cell))
        return _rate(self._store.samples(cell.run_id, found.id))

    async def is_beyond(self, probe: Probe, cell: Cell) -> str | None:
        """Why the model can't hold this traffic, if its context is known and too small; None: it can, or who knows."""
        needed = window(parse(cell.scenario))
        most = await probe.context(self._found[cell.target_id].flavor, cell.model) if needed else None
        if most is None or needed <= most:
            return None
        return f"{cell.scenario} takes {needed} tokens, {cell.model} holds {most}: skipped"

    async def plan(self, probe: Probe, cell: Cell, target: Target, sender: int) -> CellRequests:
        """A cell's requests, which this sender sends. Raises TargetFailed, ConfigError for what it can't be asked."""
        source = await self._source(probe, cell, target)
        _asked(self._spec, cell, target, source)
        found, key = self._found[target.id], self._keys[target.id]
        plan = CellRequests(self._spec, cell, target, source, found=found, key=key, sender=sender)
        plan.settle(self._store)
        return plan

    async def _source(self, probe: Probe, cell: Cell, target: Target) -> Source:
        seed, given = seed_of(self._spec, cell), self._spec.dataset
        if given is not None and cell.scenario == "dataset":
            return await self._of_dataset(probe, cell, target, given)
        words = await self._words_of(probe, cell, target)
        share = int(cell.cache.removeprefix("prefix")) / 100 if cell.cache.startswith("prefix") else 0.0
        workload = Workload(parse(cell.scenario), words, seed, share)
        if self._spec.count == "user":
            return workload
        return replace(workload, beside=await self._beside(probe, cell, target, words))

    async def _of_dataset(self, probe: Probe, cell: Cell, target: Target, given: DatasetSpec) -> Source:
        seed, documents = seed_of(self._spec, cell), cell.task == "embeddings"
        is_trace = any(row.input_tokens for row in self._rows)
        if not is_trace and cell.load != "replay":
            return Rows(self._rows, seed, documents, given.output_tokens)
        words = await self._words_of(probe, cell, target)
        return Trace(
            rows=dataset.in_time(self._rows) if cell.load == "replay" else self._rows,
            words=words,
            seed=seed,
            block_tokens=given.block_tokens,
            warmup=0 if cell.cache == "cold" else warmup_of(self._spec, load_of(self._spec, cell)),
            documents=documents,
            output_tokens=given.output_tokens,
            beside=0 if self._spec.count == "user" else await self._beside(probe, cell, target, words),
        )

    async def _words_of(self, probe: Probe, cell: Cell, target: Target) -> Vocabulary:
        words = self._words.get((target.id, cell.model))
        if words is None:
            words = await _vocabulary(probe, self._found[target.id], cell.model)
            self._words[target.id, cell.model] = words
        return words

    async def _beside(self, probe: Probe, cell: Cell, target: Target, words: Vocabulary) -> int:
        """Tokens that the target computes beside a text: it is asked with a short one."""
        known = self._templates.get((target.id, cell.model))
        if known is None:
            text = compose(words, TRIED_TOKENS, random.Random(0))  # noqa: S311
            dialect, task = dialect_of(target.kind), self._spec.task
            wanted = Wanted(task, cell.model, text, 1, False, {}, documents=(text,))
            seen = await probe.input_tokens(dialect.path(task), dialect.body(wanted), dialect.reader(task))
            if seen is None or seen < TRIED_TOKENS:
                raise TargetFailed(
                    f"{target.name} doesn't tell how many tokens a prompt has: no count: engine with it."
                )
            known = self._templates[target.id, cell.model] = seen - TRIED_TOKENS
        return known


def _is_alike(one: Cell, other: Cell) -> bool:
    """Whether they differ in their load alone."""
    names = ("target_id", "model", "scenario", "cache")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _rate(samples: Sequence[Sample]) -> float | None:
    """Requests per second that ended well; None: there were none."""
    good = [
        (one.t_start, one.t_end)
        for one in samples
        if one.phase == "measure" and one.outcome == "ok" and one.t_start is not None and one.t_end is not None
    ]
    if not good:
        return None
    seconds = (max(end for _, end in good) - min(start for start, _ in good)) / 1e9
    return len(good) / seconds if seconds > 0 else None


def _asked(spec: RunSpec, cell: Cell, target: Target, source: Source) -> None:
    """Make a request once, so that what can't be made ends the cell before it begins. Raises ConfigError."""
    first = source.conversation(0)[0]
    wanted = Wanted(
        *(spec.task, cell.model, first.text, first.output_tokens, False, spec.options),
        system=first.system,
        documents=first.documents,
        images=first.images,
    )
    dialect_of(target.kind).body(wanted)


async def _vocabulary(probe: Probe, found: Found, model: str) -> Vocabulary:
    """The words of a model, by its target's tokenizer. It is asked from a thread, one text after the other."""
    loop = asyncio.get_running_loop()

    def count(text: str) -> int | None:
        return asyncio.run_coroutine_threadsafe(probe.count(found.flavor, model, text), loop).result()

    return await asyncio.to_thread(vocabulary, count)
