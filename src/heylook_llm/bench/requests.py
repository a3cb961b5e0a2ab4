"""The requests of one cell that are still to be sent, and their samples once they were."""

import random
import time
from collections.abc import Iterator

import msgspec

from heylook_llm import hardware
from heylook_llm.bench.frames import Begin, Item
from heylook_llm.bench.load import Load, schedule
from heylook_llm.bench.probe import FORCING, Found
from heylook_llm.bench.sample import Cell, Phase, Sample, Target, new_id
from heylook_llm.bench.spec import RunSpec, load_of, warmup_of
from heylook_llm.bench.store import Store
from heylook_llm.bench.targets import dialect_of
from heylook_llm.bench.targets.dialect import Dialect, Wanted
from heylook_llm.bench.timeline import Exchange, measure
from heylook_llm.bench.workload import Prompt, Workload


class CellRequests:
    """The requests of one cell that are still to be sent."""

    def __init__(
        self, spec: RunSpec, cell: Cell, target: Target, workload: Workload, *, found: Found, key: str | None
    ) -> None:
        self.cell = cell
        self.target = target
        self.dialect: Dialect = dialect_of(target.kind)
        self.load: Load = load_of(spec, cell)
        self.warmup = 0 if cell.cache == "cold" else warmup_of(spec, self.load)
        self.asked: dict[tuple[int, int], tuple[Prompt, int]] = {}
        """(ordinal, attempt) -> prompt and bytes of the body, of those in flight."""
        self.expected = cell.planned or 0
        self._spec = spec
        self._workload = workload
        self._headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "X-Run-Id": cell.run_id,
            **self.dialect.headers(key),
        }
        self._force = spec.force_length and target.kind == "openai" and found.flavor in FORCING
        self._attempts: dict[int, int] = {}
        self._settled: set[int] = set()
        self._left_seconds = spec.duration_seconds
        self.flags = tuple(
            flag for flag, holds in (("inexact-length", not workload.words.exact), ("ignore-eos", self._force)) if holds
        )

    def settle(self, store: Store) -> None:
        """Leave out what was committed, and of a time limit what was used."""
        self._settled, self._attempts = store.settled(self.cell.id), store.attempts(self.cell.id)
        if not self._attempts:
            return
        self.flags = (*self.flags, "resumed")
        measured = [one for one in store.samples(self.cell.run_id, self.cell.id) if one.phase == "measure"]
        starts = [one.t_start for one in measured if one.t_start is not None]
        if self._left_seconds is not None and starts:
            self._left_seconds = max(0.0, self._left_seconds - (max(starts) - min(starts)) / 1e9)
        if self.cell.planned is not None:
            self.expected = sum(ordinal not in self._settled for ordinal in self._measured_ordinals())

    def _measured_ordinals(self) -> range:
        assert self.cell.planned is not None
        return range(self.warmup, self.warmup + self.cell.planned)

    def begin(self) -> Begin:
        """How the sender is to send them."""
        url = self.target.base_url + self.dialect.path(self._spec.task)
        limits = (self._spec.timeout_seconds, self._spec.drain_seconds)
        return Begin(url, self._headers, *limits, self.load.clients, self._left_seconds, self.warmup)

    def items(self) -> Iterator[Item]:
        """Warm-up first, which a resumed run sends again; then what isn't settled."""
        for ordinal in range(self.warmup):
            yield self._item(ordinal, None)
        dues = None if self.load.clients is not None else schedule(self.load, random.Random(self._arrivals))  # noqa: S311
        first: int | None = None
        ordinal = self.warmup
        while self.cell.planned is None or ordinal < self.warmup + self.cell.planned:
            due = None if dues is None else next(dues)
            if ordinal not in self._settled:
                first = due if first is None else first
                yield self._item(ordinal, None if due is None or first is None else due - first)
            ordinal += 1

    @property
    def _arrivals(self) -> str:
        return f"{self._workload.seed}/arrivals"

    def _item(self, ordinal: int, due: int | None) -> Item:
        prompt = self._workload.prompt(ordinal)
        wanted = Wanted(
            *(self._spec.task, self.cell.model, prompt.text, prompt.output_tokens, self._force, self._spec.options)
        )
        body = msgspec.json.encode(self.dialect.body(wanted))
        attempt = self._attempts.get(ordinal, 0)
        self.asked[ordinal, attempt] = prompt, len(body)
        phase: Phase = "warmup" if ordinal < self.warmup else "measure"
        return Item(ordinal, attempt, phase, self.request_id(ordinal, attempt), body, due)

    def request_id(self, ordinal: int, attempt: int) -> str:
        """What the target is told that this request is called."""
        return f"{self.cell.id}-{ordinal}-{attempt}"

    def sample(self, exchange: Exchange) -> Sample:
        """A request that ended, measured."""
        prompt, size = self.asked.pop((exchange.ordinal, exchange.attempt))
        measured = msgspec.structs.asdict(measure(exchange, self.dialect))
        measured.pop("output")
        return Sample(
            id=new_id(time.time()),
            run_id=self.cell.run_id,
            cell_id=self.cell.id,
            ordinal=exchange.ordinal,
            attempt=exchange.attempt,
            sender=0,
            clock_id=hardware.clock_id(),
            phase=exchange.phase,
            t_due=exchange.t_due,
            t_start=None if exchange.error_class == "dropped" else exchange.t_start,
            t_dns=exchange.t_dns,
            t_tcp=exchange.t_tcp,
            t_tls=exchange.t_tls,
            t_sent=exchange.t_sent,
            t_end=exchange.t_end,
            bytes_out=size,
            in_planned=prompt.tokens,
            out_asked=prompt.output_tokens,
            client_request_id=self.request_id(exchange.ordinal, exchange.attempt),
            **measured,
        )
