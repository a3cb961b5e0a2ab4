"""Samples to a Report: pure. Nothing that stands in a report is kept; it is made anew of the samples each time.

Cells that differ in their repeat alone make one row, of all their samples together: percentiles are never averaged.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from heylook_llm.bench import absent, counters, statistics
from heylook_llm.bench.breakdown import Breakdown, Slow, breakdown, mean_ms, slowest
from heylook_llm.bench.meanwhile import Meanwhile, meanwhile
from heylook_llm.bench.measures import (
    MEASURES,
    chunk_gaps_ms,
    chunk_tokens,
    input_tokens,
    is_ordered,
    origin,
    output_tokens,
    token_gaps_ms,
    values,
)
from heylook_llm.bench.remarks import SHARED, Remark, remarks
from heylook_llm.bench.sample import Cell, Pair, Point, Run, Sample, Target, stamps_of
from heylook_llm.bench.statistics import Interval
from heylook_llm.bench.turns import Turn, turns_of
from heylook_llm.errors import ConfigError

VERSION: Final = 1
"""Of the report as JSON."""
UNKNOWN: Final = Interval(None, None)
SLOW_LEAST: Final = 3
"""Requests that are looked at, where the slowest hundredth is fewer."""
SLOW_MOST: Final = 20


class Distribution(msgspec.Struct, frozen=True):
    """Values of one measure. A percentile is None where there are too few samples for it."""

    n: int
    mean: float | None = None
    least: float | None = None
    most: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    intervals: dict[str, Interval] = {}
    """Of each percentile that is told; of the mean never, since nothing is presumed of what the values look like."""
    deviation: float | None = None
    """The standard deviation of the values, from two on."""


class Counts(msgspec.Struct, frozen=True):
    """Requests, by what became of them. Those below `measured` are in no other number, but where it says so."""

    planned: int | None
    measured: int
    """Sent to be measured, each counted once, whatever became of it."""
    ok: int
    error: int
    timeout: int
    cut: int
    """Still in flight at the end of the drain: the slowest, so their number stands beside every latency."""
    cancelled: int
    missing: int | None
    """Planned and never sent."""
    warmup: int
    cooldown: int
    drain: int
    superseded: int
    """Earlier attempts of requests that were sent again."""
    disordered: int
    """Ended well, but with stamps that can't be; left out of everything."""
    loading: int
    """Of a warm row: ended well, but waited for their model's load; left out of latencies."""
    ready: int = 0
    """Of a cold row: ended well, but found their model loaded; left out of latencies."""


class Rates(msgspec.Struct, frozen=True):
    """Per second. Tokens count when they came, in the window of the cell (docs/bench_metrics.md)."""

    window_seconds: float | None = None
    output: float | None = None
    """Tokens."""
    output_interval: Interval = UNKNOWN
    input: float | None = None
    """Prompt tokens, counted at their answer's first token."""
    requests: float | None = None
    """That ended well."""
    requests_interval: Interval = UNKNOWN
    whole_seconds: float | None = None
    """From the first measured request to the end of the last."""
    whole_output: float | None = None
    """Tokens of all measured requests that ended well, by that time."""
    whole_requests: float | None = None


class Goodput(msgspec.Struct, frozen=True):
    """Requests that kept every limit."""

    limits: dict[str, float]
    """Milliseconds."""
    offered: int
    """Measured requests, without those excluded; errors and timeouts are misses."""
    good: int
    share: float | None
    share_interval: Interval
    per_second: float | None
    """By the whole run's time."""
    tokens_per_second: float | None
    kept: dict[str, float | None]
    """The share of those that have it that kept each limit."""
    excluded: dict[str, int]
    """cut, cancelled, and those for whom a limit can't be judged while no other was broken."""


class TokenTruth(msgspec.Struct, frozen=True):
    """Who said how many tokens, added up over the requests that ended well; None: nobody said so of all of them."""

    requests: int
    in_planned: int | None
    in_usage: int | None
    in_engine: int | None
    cached: int | None
    out_asked: int | None
    out_usage: int | None
    out_engine: int | None
    out_counted: int | None
    reasoning: int | None
    chunks: int
    disagree: dict[str, int]
    """How many requests of which two of them differ, as "out_usage/out_engine"."""
    template_overhead: Distribution
    """Prompt tokens that the engine saw beyond the planned ones."""
    short: int
    """Answers of fewer tokens than asked."""
    unmapped: int
    """Answers of several chunks of which nobody knows how many tokens each holds."""
    beyond: int = 0
    """Answers of more tokens than asked."""


class Row(msgspec.Struct, frozen=True):
    """What was measured alike: one combination of a run's axes, all repeats together."""

    target: str
    target_id: str
    model: str
    task: str
    scenario: str
    load: str
    level: float
    cache: str
    repeats: int
    counts: Counts
    measures: dict[str, Distribution]
    rates: Rates
    goodput: Goodput | None
    tokens: TokenTruth
    errors: dict[str, int]
    error_share: float | None
    error_interval: Interval
    per_repeat: list[dict[str, float]]
    """The medians of each repeat in turn, and its `output` and `requests` per second."""
    where: dict[str, float]
    """Mean milliseconds of each phase; together the mean E2E."""
    paired: int
    """Requests of which the server's own times are known."""
    slow: list[Slow]
    remarks: list[Remark]
    flags: list[str] = []
    """What its cells are marked with, as inexact-length."""
    absent: dict[str, str] = {}
    """Why it lacks a measure or a number, of each that it lacks."""
    meanwhile: Meanwhile | None = None
    """What the bench's machine did meanwhile; None: nothing was read."""
    joules_per_token: float | None = None
    """Of output tokens, by the machine's counters and the tokens that came in the windows."""
    turns: list[Turn] = []
    """Of conversations, each turn by itself."""
    told: dict[str, float] = {}
    """What the target's own counters say of the row, as means in milliseconds; `cached` is a share. vLLM's alone."""

    @property
    def axes(self) -> tuple[str, str, str, float, str]:
        """What must be equal for two rows to be compared: all but target and model."""
        return self.task, self.scenario, self.load, self.level, self.cache


class Report(msgspec.Struct, frozen=True):
    """A run, summed up."""

    version: int
    run: str
    name: str | None
    state: str
    created: float
    started: float | None
    ended: float | None
    spec_hash: str
    flags: list[str]
    manifest: dict[str, Any]
    rows: list[Row]
    warnings: list[str] = []
    """What was in the way while it ran."""


def report(  # noqa: PLR0917 (a run and all that was kept of it)
    run: Run,
    cells: Sequence[Cell],
    samples: Iterable[Sample],
    targets: Mapping[str, Target],
    pairs: Mapping[str, Sequence[Pair]] | None = None,
    limits: Mapping[str, float] | None = None,
    warnings: Sequence[str] = (),
    series: Sequence[Point] = (),
) -> Report:
    """A run's report. `limits` are the SLOs in milliseconds; None: those of its spec."""
    by_cell: dict[str, list[Sample]] = {}
    for sample in samples:
        by_cell.setdefault(sample.cell_id, []).append(sample)
    spec = _object(run.spec_json) | {SHARED: _object(run.manifest_json).get(SHARED)}
    kept = _limits(spec if limits is None else {"slo": dict(limits)})
    groups = [list(group) for _, group in groupby(sorted(cells, key=_key), key=_key)]
    groups.sort(key=lambda group: min(cell.ordinal for cell in group))
    return Report(
        version=VERSION,
        run=run.id,
        name=run.name,
        state=run.state,
        created=run.created,
        started=run.started,
        ended=run.ended,
        spec_hash=run.spec_hash,
        flags=[str(flag) for flag in _list(run.flags_json)],
        manifest=_object(run.manifest_json),
        rows=[
            _Rows(group, by_cell, pairs or {}, kept).row(targets.get(group[0].target_id), spec, series)
            for group in groups
        ],
        warnings=list(warnings),
    )


def _key(cell: Cell) -> tuple[Any, ...]:
    return cell.target_id, cell.model, cell.task, cell.scenario, cell.load, cell.level, cell.cache


def _object(text: str) -> dict[str, Any]:
    found = _decoded(text)
    return found if isinstance(found, dict) else {}


def _list(text: str) -> list[Any]:
    found = _decoded(text)
    return found if isinstance(found, list) else []


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode())
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None


SLO_MEASURES: Final = ("ttft", "tpot", "itl", "e2e")


def _limits(spec: Mapping[str, Any]) -> dict[str, float]:
    given = spec.get("slo") or {}
    named = {"e2e" if name == "e2el" else name: float(limit) for name, limit in given.items()}
    return {name: limit for name, limit in named.items() if name in SLO_MEASURES}


def limits_of(given: Sequence[str], said: str) -> dict[str, float]:
    """`ttft=200` as milliseconds; `said` is what its user calls it. Raises ConfigError."""
    limits = {}
    for text in given:
        name, _, value = text.partition("=")
        name = {"e2el": "e2e"}.get(name.strip(), name.strip())
        try:
            limits[name] = float(value.strip().removesuffix("ms"))
        except ValueError:
            limits[name] = math.nan
        if name not in SLO_MEASURES or not limits[name] > 0:
            raise ConfigError(f"{said} {text[:60]}: must be ttft, tpot, itl or e2e, and milliseconds, as ttft=200")
    return limits


class Part(NamedTuple):
    """One cell's samples, sorted out."""

    cell: Cell
    measured: list[Sample]
    """The last attempt of each measured request."""
    ok: list[Sample]
    """Of those, the ones that ended well, with stamps that can be."""
    latencies: list[tuple[Sample, dict[str, float], Breakdown | None]]
    """Of those that ended well and count."""
    stream: list[Sample]
    """All whose tokens came, whatever their phase: what the server was doing meanwhile."""


class _Rows:
    """The cells of one row."""

    def __init__(
        self,
        cells: Sequence[Cell],
        by_cell: Mapping[str, Sequence[Sample]],
        pairs: Mapping[str, Sequence[Pair]],
        limits: Mapping[str, float],
    ) -> None:
        self._cells = sorted(cells, key=lambda cell: cell.repeat)
        self._open = self._cells[0].load != "closed"
        self._warm = self._cells[0].cache != "cold"
        self._pairs, self._limits = pairs, limits
        self._tally: Counter[str] = Counter()
        self._parts = [self._sorted_out(cell, by_cell.get(cell.id, ())) for cell in self._cells]
        self._measured = [sample for part in self._parts for sample in part.measured]
        self._latencies = [each for part in self._parts for each in part.latencies]
        self._ok = [sample for part in self._parts for sample in part.ok]
        self._flows = [_flow(part, self._open) for part in self._parts]

    def _sorted_out(self, cell: Cell, samples: Sequence[Sample]) -> Part:
        last: dict[int, Sample] = {}
        for sample in sorted(samples, key=lambda sample: (sample.ordinal, sample.attempt)):
            self._tally["superseded"] += sample.ordinal in last
            last[sample.ordinal] = sample
        for sample in last.values():
            if sample.phase != "measure":
                self._tally[sample.phase] += 1
        measured = [sample for sample in last.values() if sample.phase == "measure"]
        self._tally.update(sample.outcome for sample in measured)
        stream = [sample for sample in last.values() if sample.outcome in _DELIVERED and is_ordered(sample)]
        ok = [sample for sample in stream if sample.outcome == "ok" and sample.phase == "measure"]
        self._tally["disordered"] += sum(sample.outcome == "ok" for sample in measured) - len(ok)
        latencies = []
        for sample in ok:
            cut = breakdown(sample, self._open, self._pairs.get(sample.id, ()))
            loaded = None if cut is None else _loaded(cut)
            if loaded is not None and loaded == self._warm:
                self._tally["loading" if self._warm else "ready"] += 1
            else:
                latencies.append((sample, values(sample, self._open), cut))
        return Part(cell, measured, ok, latencies, stream)

    def row(self, target: Target | None, spec: Mapping[str, Any], series: Sequence[Point]) -> Row:
        """All that is known of them."""
        cell = self._cells[0]
        cuts = [(sample, cut) for sample, _, cut in self._latencies if cut is not None]
        failed = self._tally["error"] + self._tally["timeout"]
        judged = failed + self._tally["ok"]
        rates = self._rates()
        row = Row(
            target=target.name if target is not None else cell.target_id,
            target_id=cell.target_id,
            model=cell.model,
            task=cell.task,
            scenario=cell.scenario,
            load=cell.load,
            level=cell.level,
            cache=cell.cache,
            repeats=len(self._cells),
            counts=self._counts(),
            measures=self._measures(),
            rates=rates,
            goodput=self._goodput(rates.whole_seconds) if self._limits else None,
            tokens=self._tokens(),
            errors=dict(Counter(_error(one) for one in self._measured if one.outcome in ("error", "timeout"))),
            error_share=failed / judged if judged else None,
            error_interval=statistics.share(failed, judged),
            per_repeat=[_medians(part, flow) for part, flow in zip(self._parts, self._flows, strict=True)],
            where=mean_ms([cut for _, cut in cuts]) if cuts else {},
            paired=sum(cut.source is not None for _, cut in cuts),
            slow=slowest(cuts, min(SLOW_MOST, max(SLOW_LEAST, -(-len(cuts) // 100)))),
            remarks=[],
            flags=list(dict.fromkeys(flag for cell in self._cells for flag in cell.flags)),
            turns=turns_of((sample, numbers) for sample, numbers, _ in self._latencies),
        )
        row = self._with_machine(row, series)
        mismatched = sum(cut.mismatched for _, cut in cuts)
        said = remarks(row, self._measured, mismatched, self._clocks(), spec)
        return msgspec.structs.replace(row, remarks=said, absent=absent.reasons(row))

    def _with_machine(self, row: Row, series: Sequence[Point]) -> Row:
        windows = [
            (cell.window_start, cell.window_end)
            for cell in self._cells
            if cell.window_start is not None and cell.window_end is not None
        ]
        found, told = meanwhile(series, windows, row.target), counters.told(series, windows)
        rate, watts = row.rates.output, None if found is None else found.watts
        each = None if watts is None or not rate else watts / rate
        return msgspec.structs.replace(row, meanwhile=found, joules_per_token=each, told=told)

    def _clocks(self) -> int:
        """Most clocks of one cell."""
        return max(len({sample.clock_id for sample in part.measured}) for part in self._parts)

    def _counts(self) -> Counts:
        planned = [cell.planned for cell in self._cells]
        total = None if None in planned else sum(count or 0 for count in planned)
        tally = self._tally
        return Counts(
            planned=total,
            measured=len(self._measured),
            missing=None if total is None else max(0, total - len(self._measured)),
            **{name: tally[name] for name in _TALLIED},
        )

    def _measures(self) -> dict[str, Distribution]:
        found = _by_name(self._latencies)
        told = {name: distribution(found[name]) for name in MEASURES if name in found}
        samples = [sample for sample, _, _ in self._latencies]
        gaps = [gap for sample in samples for gap in token_gaps_ms(sample)]
        if gaps:
            told["itl"] = _pooled(np.array([gap for gap, _ in gaps]), np.array([count for _, count in gaps]))
        chunks = np.array([gap for sample in samples for gap in chunk_gaps_ms(sample)])
        if chunks.size:
            told["icl"] = _pooled(chunks, np.ones(chunks.size, dtype=np.int64))
        return {name: told[name] for name in MEASURES if name in told}

    def _rates(self) -> Rates:
        return _rates_of(self._flows) if self._clocks() <= 1 else Rates()

    def _goodput(self, seconds: float | None) -> Goodput:
        judged: dict[str, list[bool]] = {name: [] for name in self._limits}
        good, tokens, missed, excluded = 0, 0, 0, Counter[str]()
        for sample in self._measured:
            if sample.outcome in ("cut", "cancelled"):
                excluded[sample.outcome] += 1
                continue
            verdict = self._is_good(sample, judged)
            if verdict is None:
                excluded["unjudged"] += 1
            elif verdict:
                good += 1
                tokens += output_tokens(sample) or 0
            else:
                missed += 1
        offered = good + missed
        return Goodput(
            limits=dict(self._limits),
            offered=offered,
            good=good,
            share=good / offered if offered else None,
            share_interval=statistics.share(good, offered),
            per_second=good / seconds if seconds else None,
            tokens_per_second=tokens / seconds if seconds else None,
            kept={name: sum(each) / len(each) if each else None for name, each in judged.items()},
            excluded={name: excluded[name] for name in ("cut", "cancelled", "unjudged")},
        )

    def _is_good(self, sample: Sample, judged: dict[str, list[bool]]) -> bool | None:
        """None: it broke no limit, but one couldn't be judged."""
        if sample.outcome != "ok":
            return False
        if not is_ordered(sample):
            return None
        numbers = values(sample, self._open)
        gaps = list(token_gaps_ms(sample))
        if gaps:
            numbers["itl"] = sum(gap * count for gap, count in gaps) / sum(count for _, count in gaps)
        kept = {name: numbers[name] <= limit for name, limit in self._limits.items() if name in numbers}
        for name, passed in kept.items():
            judged[name].append(passed)
        if not all(kept.values()):
            return False
        return True if len(kept) == len(self._limits) else None

    def _tokens(self) -> TokenTruth:
        ok = self._ok
        fields = [name for name in TokenTruth.__struct_fields__ if name.startswith(("in_", "out_"))]
        disagree = Counter(
            f"{one}/{other}"
            for sample in ok
            for one, other in _PAIRS
            if None not in (a := getattr(sample, one), b := getattr(sample, other)) and a != b
        )
        overhead = [
            tokens - sample.in_planned
            for sample in ok
            if sample.in_planned is not None and (tokens := input_tokens(sample)) is not None
        ]
        return TokenTruth(
            requests=len(ok),
            **{name: _total(getattr(sample, name) for sample in ok) for name in (*fields, "cached", "reasoning")},
            chunks=sum(len(sample.chunk_times) // 8 for sample in ok),
            disagree=dict(disagree),
            template_overhead=distribution(overhead),
            short=sum(_beyond(sample) < 0 for sample in ok),
            unmapped=sum(len(sample.chunk_times) > 8 and chunk_tokens(sample) is None for sample in ok),
            beyond=sum(_beyond(sample) > 0 for sample in ok),
        )


_TALLIED: Final = (
    *("ok", "error", "timeout", "cut", "cancelled", "warmup", "cooldown", "drain"),
    *("superseded", "disordered", "loading", "ready"),
)
_DELIVERED: Final = frozenset({"ok", "cut", "cancelled"})
"""What we ended ourselves had delivered its tokens until then."""
_PAIRS: Final = (
    ("in_usage", "in_engine"),
    ("out_usage", "out_engine"),
    ("out_usage", "out_counted"),
    ("out_engine", "out_counted"),
)
_LOAD_NS: Final = {"heylook": 1_000_000, "ollama": 200_000_000}
"""A load is no shorter; what is told of a loaded model is the time of looking at it, which Ollama takes some for."""


def _loaded(cut: Breakdown) -> bool | None:
    """Whether it waited for its model's load; None: nobody says."""
    spent = cut.phases.get("load")
    return None if spent is None else spent > _LOAD_NS.get(cut.source or "", 0)


def distribution(numbers: Iterable[float]) -> Distribution:
    """Of independent values: one for each request."""
    ordered = sorted(numbers)
    if not ordered:
        return Distribution(0)
    told = {name: statistics.told(ordered, name) for name in statistics.QUANTILES}
    return Distribution(
        n=len(ordered),
        mean=sum(ordered) / len(ordered),
        least=ordered[0],
        most=ordered[-1],
        p50=told["p50"],
        p90=told["p90"],
        p95=told["p95"],
        p99=told["p99"],
        intervals={
            name: statistics.interval(ordered, statistics.QUANTILES[name])
            for name, value in told.items()
            if value is not None
        },
        deviation=statistics.deviation(ordered),
    )


def _pooled(gaps: "np.ndarray[Any, Any]", counts: "np.ndarray[Any, Any]") -> Distribution:
    """Of many values a request, each counted so often: exact, and without intervals."""
    order = np.argsort(gaps, kind="stable")
    gaps, reached = gaps[order], np.cumsum(counts[order])
    n = int(reached[-1])

    def at(name: str) -> float | None:
        if n < statistics.LEAST_SAMPLES[name]:
            return None
        place = np.searchsorted(reached, statistics.rank(n, statistics.QUANTILES[name]))
        return float(gaps[place])

    mean = float(np.dot(gaps, counts[order])) / n
    return Distribution(n, mean, float(gaps[0]), float(gaps[-1]), at("p50"), at("p90"), at("p95"), at("p99"))


def _by_name(latencies: Sequence[tuple[Sample, dict[str, float], Breakdown | None]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for _, numbers, _ in latencies:
        for name, value in numbers.items():
            found.setdefault(name, []).append(value)
    return found


def _medians(part: Part, flow: "_Flow | None") -> dict[str, float]:
    """Of one repeat: what `Row.per_repeat` holds."""
    medians = {name: statistics.percentile(sorted(each), 0.5) for name, each in _by_name(part.latencies).items()}
    if flow is None:
        return medians
    told = {"output": _per_second(flow.tokens, flow.window), "requests": _per_second(flow.ended, flow.window)}
    return medians | {name: rate for name, rate in told.items() if rate is not None}


class _Flow(NamedTuple):
    """What came in one cell's window, and when since it began: (nanoseconds, amount)."""

    tokens: list[tuple[int, float]]
    prompts: list[tuple[int, float]]
    ended: list[tuple[int, float]]
    window: int
    whole: int
    """Until the last answer's end."""
    requests: int
    """That ended well, in the window or behind it."""
    output: int | None
    """Their tokens."""


def _flow(part: Part, open_loop: bool) -> _Flow | None:
    """None: nothing was sent."""
    if (span := _window(part, open_loop)) is None:
        return None
    start, end, last = span

    def within(amounts: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
        return [(at - start, amount) for at, amount in amounts if start <= at < end]

    return _Flow(
        tokens=within(_tokens_in(part.stream)),
        prompts=within(_prompts_in(part.stream)),
        ended=within((one.t_end, 1.0) for one in part.stream if one.outcome == "ok" and one.t_end is not None),
        window=end - start,
        whole=last - start,
        requests=len(part.ok),
        output=_total(output_tokens(one) for one in part.ok),
    )


def _rates_of(flows: Iterable[_Flow | None]) -> Rates:
    """Of several cells as if their windows followed each other without a gap."""
    tokens: list[tuple[int, float]] = []
    prompts: list[tuple[int, float]] = []
    ended: list[tuple[int, float]] = []
    window = whole = whole_requests = 0
    whole_tokens: int | None = 0
    for flow in flows:
        if flow is None:
            continue
        for amounts, found in ((tokens, flow.tokens), (prompts, flow.prompts), (ended, flow.ended)):
            amounts.extend((at + window, amount) for at, amount in found)
        window += flow.window
        whole += flow.whole
        whole_requests += flow.requests
        whole_tokens = None if flow.output is None or whole_tokens is None else whole_tokens + flow.output
    return Rates(
        window_seconds=window / 1e9 if window else None,
        output=_per_second(tokens, window),
        output_interval=statistics.rate_interval(tokens, 0, window) if window else UNKNOWN,
        input=_per_second(prompts, window),
        requests=_per_second(ended, window),
        requests_interval=statistics.rate_interval(ended, 0, window) if window else UNKNOWN,
        whole_seconds=whole / 1e9 if whole else None,
        whole_output=whole_tokens * 1e9 / whole if whole and whole_tokens else None,
        whole_requests=whole_requests * 1e9 / whole if whole else None,
    )


def _window(part: Part, open_loop: bool) -> tuple[int, int, int] | None:
    """(start, end, the last answer's end) of a cell: as it noted them, else by its samples; None: nothing was sent."""
    begins = [begin for sample in part.measured if (begin := origin(sample, open_loop)) is not None]
    starts = [sample.t_start for sample in part.measured if sample.t_start is not None]
    ends = [sample.t_end for sample in part.measured if sample.t_end is not None]
    if not begins or not starts or not ends:
        return None
    cell = part.cell
    start = min(begins) if cell.window_start is None else cell.window_start
    end = max(starts) if cell.window_end is None else cell.window_end
    return start, max(start, end), max(start, *ends)


def _tokens_in(samples: Iterable[Sample]) -> Iterable[tuple[int, float]]:
    """(when they came, tokens): by each chunk's own stamp. Where nobody knows what chunks hold, all hold as many."""
    for sample in samples:
        stamps, total = stamps_of(sample), output_tokens(sample)
        counts = chunk_tokens(sample)
        if counts is not None:
            yield from zip(stamps, map(float, counts), strict=True)
        elif stamps and total is not None:
            yield from ((stamp, total / len(stamps)) for stamp in stamps)
        elif total is not None and sample.t_end is not None:
            yield sample.t_end, float(total)


def _prompts_in(samples: Iterable[Sample]) -> Iterable[tuple[int, float]]:
    for sample in samples:
        at = sample.t_first_token if sample.t_first_token is not None else sample.t_end
        if at is not None and (count := input_tokens(sample)) is not None:
            yield at, float(count)


def _per_second(amounts: Sequence[tuple[int, float]], nanoseconds: int) -> float | None:
    return sum(amount for _, amount in amounts) * 1e9 / nanoseconds if nanoseconds and amounts else None


def _total(counts: Iterable[int | None]) -> int | None:
    total = known = 0
    for count in counts:
        if count is None:
            return None
        total += count
        known += 1
    return total if known else None


def _beyond(sample: Sample) -> int:
    """Tokens beyond those that were asked for; 0, too, where nobody knows."""
    tokens = output_tokens(sample)
    return 0 if sample.out_asked is None or tokens is None else tokens - sample.out_asked


def _error(sample: Sample) -> str:
    if sample.error_class is not None:
        return sample.error_class
    failed = sample.outcome == "error" and sample.http_status is not None and sample.http_status >= 400
    return f"http_{sample.http_status}" if failed else sample.outcome
