"""What came out, as Markdown: the three tools' errors, what each said, the goals, and the saturation curve."""

import platform
import statistics
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from benchmarks.peers.report import called
from benchmarks.truth.answers import Said, errors
from benchmarks.truth.machine import Used
from benchmarks.truth.stamps import LIMIT_MS, STEADY_RATE, Schedule, Streams
from benchmarks.truth.target import Plan
from heylook_llm import hardware

OURS: Final = "heylookllm bench"
CPU_RATIO: Final = 1 / 3
TITLES: Final = {
    "ttft_p50": "TTFT p50, ms",
    "ttft_p95": "TTFT p95, ms",
    "e2e_p50": "E2E p50, ms",
    "e2e_p95": "E2E p95, ms",
    "gap": "TPOT or ITL, %",
    "tokens_per_second": "tokens/s, %",
}
PARTS: Final = frozenset({"gap", "tokens_per_second"})


class Cell(NamedTuple):
    """One tool, one number of clients, one round."""

    tool: str
    clients: int
    said: Said
    true: Said
    sent: int
    """Requests that the target read, warm-up's too."""
    answered: int
    """... and answered to the end, of those that the tool's numbers are of."""
    cpu_seconds: float
    seconds: float
    used: Used | None
    """While it sent."""


class Results(NamedTuple):
    """A run of the comparison."""

    plan: Plan
    versions: dict[str, str]
    cells: list[Cell]
    idle_cpu: dict[str, float]
    """CPU seconds of each tool that sends next to nothing."""
    steady: list[Streams]
    bursts: list[Streams]
    curve: list[list[Streams]]
    """For each rate, its rounds."""
    schedules: list[list[Schedule]]
    calibrations: list[float]
    conditions: str
    """Which cores who had."""
    rounds: int
    seconds: float


def markdown(results: Results) -> str:
    """All of it."""
    parts = (_head, _errors, _said, _goals, _curve, _schedules)
    return "\n".join(line for part in parts for line in part(results)) + "\n"


def _head(results: Results) -> Iterator[str]:
    cpu, plan = hardware.cpu(), results.plan
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    stolen = [cell.used.stolen for cell in results.cells if cell.used is not None]
    switches = [cell.used.switches_per_second for cell in results.cells if cell.used is not None]
    yield called("benchmarks.truth")
    yield f"- Machine: {cpu.name}, {cpu.available_cores:g} cores, {platform.system()} {platform.machine()}, " + (
        f"Python {platform.python_version()}; {results.conditions}"
    )
    yield f"- Versions: {versions}"
    yield f"- Target: first token after {plan.ttft_ms:g} ms, {plan.tokens} tokens {plan.itl_ms:g} ms apart"
    yield f"- {results.rounds} rounds, the tools in turn; {results.seconds / 60:.0f} minutes in all"
    if stolen:
        most = f"at most {max(stolen) * 100:.1f} % of the cores taken by other guests of the host"
        yield f"- While they sent: {most}, {min(switches):.0f} to {max(switches):.0f} context switches a second"


# ---- the three tools -------------------------------------------------------------------------------------------------


def _errors(results: Results) -> Iterator[str]:
    yield from ("", "### How far from the truth", "")
    yield "What each says, less what is true: medians of the rounds (least to greatest). The smallest error of a number"
    yield "of clients is bold. CPU is the whole command's by the requests that it sent; in brackets without what a run"
    yield "with a single request takes, which stands below."
    yield ""
    yield f"| Clients | Tool | {' | '.join(TITLES.values())} | requests, tokens | CPU, ms/request | tool's cores |"
    yield f"| --- | --- |{' --- |' * (len(TITLES) + 3)}"
    for clients in _levels(results):
        best = {name: _closest(results, clients, name) for name in TITLES}
        for tool in results.versions:
            cells = _of(results, tool, clients)
            shown = [_error(cells, name, bold=tool == best[name]) for name in TITLES]
            cpu = f"{cpu_ms(cells):.1f} ({cpu_ms(cells, results.idle_cpu[tool]):.1f})"
            yield f"| {clients} | {tool} | {' | '.join(shown)} | {_counts(cells)} | {cpu} | {_busy(cells)} |"
    yield ""
    idle = ", ".join(f"{tool} {seconds:.1f} s" for tool, seconds in results.idle_cpu.items())
    yield f"CPU of a run with one request: {idle}."


def _said(results: Results) -> Iterator[str]:
    yield from ("", "### What each said, and what was true", "", "Medians of the rounds: said / true.", "")
    names = [name for name in TITLES if name not in PARTS]
    yield f"| Clients | Tool | {' | '.join(TITLES[name] for name in names)} | TPOT or ITL, ms | tokens/s |"
    yield f"| --- | --- |{' --- |' * (len(names) + 2)}"
    for clients in _levels(results):
        for tool in results.versions:
            cells = _of(results, tool, clients)
            shown = [
                f"{_median(cells, 'said', name, 2)} / {_median(cells, 'true', name, 2)}"
                for name in (*names, "gap", "tokens_per_second")
            ]
            yield f"| {clients} | {tool} | {' | '.join(shown)} |"


def _median(cells: Sequence[Cell], side: str, name: str, digits: int) -> str:
    known = [value for cell in cells if (value := getattr(getattr(cell, side), name)) is not None]
    return f"{statistics.median(known):.{digits}f}" if known else "–"


def _levels(results: Results) -> list[int]:
    return sorted({cell.clients for cell in results.cells})


def _of(results: Results, tool: str, clients: int) -> list[Cell]:
    return [cell for cell in results.cells if (cell.tool, cell.clients) == (tool, clients)]


def _apart(cells: Sequence[Cell], name: str) -> list[float]:
    scale = 100 if name in PARTS else 1
    found = [getattr(errors(cell.said, cell.true), name) for cell in cells]
    return [value * scale for value in found if value is not None]


def size(cells: Sequence[Cell], name: str) -> float:
    """How far off a number is, whichever way: the median of the rounds."""
    return statistics.median([abs(value) for value in _apart(cells, name)] or [float("inf")])


def _closest(results: Results, clients: int, name: str) -> str:
    return min(results.versions, key=lambda tool: size(_of(results, tool, clients), name))


def _error(cells: Sequence[Cell], name: str, bold: bool) -> str:
    values = _apart(cells, name)
    if not values:
        return "–"
    middle = f"{statistics.median(values):+.2f}"
    return f"{f'**{middle}**' if bold else middle} ({min(values):+.2f} to {max(values):+.2f})"


def _counts(cells: Sequence[Cell]) -> str:
    """Whether all that was answered is in its numbers, in every round."""
    requests = sum((cell.said.requests or 0) - cell.answered for cell in cells)
    tokens = sum((cell.said.tokens or 0) - (cell.true.tokens or 0) for cell in cells)
    cut = sum(cell.sent - cell.answered for cell in cells if cell.tool != OURS)
    exact = "exact" if requests == tokens == 0 else f"{requests:+.0f}, {tokens:+.0f}"
    return exact if not cut else f"{exact}; {cut} more begun and cut off"


def cpu_ms(cells: Sequence[Cell], without: float = 0.0) -> float:
    """CPU by request, of the whole command or without so many seconds of it."""
    return statistics.median((cell.cpu_seconds - without) * 1e3 / cell.sent for cell in cells if cell.sent)


def _busy(cells: Sequence[Cell]) -> str:
    shares = [cell.used.busy[0] for cell in cells if cell.used is not None]
    return f"{statistics.median(shares) * 100:.0f} %" if shares else "–"


# ---- goals -----------------------------------------------------------------------------------------------------------


class Goal(NamedTuple):
    """A bound, and what was measured."""

    text: str
    bound: str
    measured: str
    met: bool


def goals(results: Results) -> Iterator[Goal]:
    """All that the bench set itself."""
    yield from _beside(results)
    steady, bursts = results.steady, results.bursts
    streams = f"64 streams apart, {STEADY_RATE:,} chunks/s"
    yield _most(f"{streams}: a stamp is late by, p50", "ms", 0.2, [one.late_p50 for one in steady])
    yield _most(f"{streams}: a stamp is late by, p99", "ms", 1.0, [one.late_p99 for one in steady])
    yield _most("64 streams in bursts: a stamp is late by, p99", "ms", 3.0, [one.late_p99 for one in bursts])
    yield _most(f"{streams}: mean TPOT off by", "%", 0.5, [abs(one.gap) * 100 for one in steady])
    yield _most(f"{streams}: tokens/s off by", "%", 1.0, [abs(one.output) * 100 for one in steady])
    wrong = [one.miscounted for one in (*steady, *bursts, *(one for rate in results.curve for one in rate))]
    yield Goal("requests and tokens are counted right", "exact", f"{sum(map(bool, wrong))} runs wrong", not any(wrong))
    for rounds in results.schedules:
        if rounds[0].rate <= 200:
            name = f"{rounds[0].rate} requests/s: the target has one after it was due, p99"
            yield _most(name, "ms", 2.0, [one.late_p99 for one in rounds])
    yield _most("calibration, with the command's start", "s", 3.0, results.calibrations)


def _beside(results: Results) -> Iterator[Goal]:
    """Beside the rivals: the smallest error, and a third of genai-bench's CPU."""
    levels = _levels(results)
    places = [(clients, name) for clients in levels for name in TITLES]
    lost = [f"{TITLES[name].partition(',')[0]} at {n}" for n, name in places if _closest(results, n, name) != OURS]
    found = f"{len(places) - len(lost)} of {len(places)}" + (f"; not {', '.join(lost)}" if lost else "")
    yield Goal("the smallest error of the three", "everywhere", found, not lost)
    if "genai-bench" in results.versions:
        for clients in levels[1:]:
            ratio = cpu_ms(_of(results, OURS, clients)) / cpu_ms(_of(results, "genai-bench", clients))
            name = f"CPU for each request beside genai-bench's, {clients} clients"
            yield Goal(name, f"≤ {CPU_RATIO:.2f}", f"{ratio:.2f}", ratio <= CPU_RATIO)


def _most(text: str, unit: str, bound: float, values: Sequence[float]) -> Goal:
    middle = statistics.median(values)
    measured = f"{middle:.3g} {unit} ({min(values):.3g} to {max(values):.3g})"
    return Goal(text, f"≤ {bound:g} {unit}", measured, middle <= bound)


def _goals(results: Results) -> Iterator[str]:
    yield from ("", "### Goals", "", "| What | Goal | Measured | |", "| --- | --- | --- | --- |")
    for goal in goals(results):
        yield f"| {goal.text} | {goal.bound} | {goal.measured} | {'met' if goal.met else '**missed**'} |"


# ---- the curve -------------------------------------------------------------------------------------------------------


def limit(curve: Sequence[Sequence[Streams]]) -> int | None:
    """The highest planned rate up to which p99 stays within the limit; None: it never does."""
    kept = None
    for rounds in curve:
        if _middle(rounds, "late_p99") > LIMIT_MS:
            break
        kept = rounds[0].rate
    return kept


def _curve(results: Results) -> Iterator[str]:
    found, highest = limit(results.curve), results.curve[-1][0].rate
    yield from ("", "### Saturation", "")
    if found is None:
        yield f"Stamps are late by more than {LIMIT_MS:g} ms (p99) at every rate that was measured."
    elif found == highest:
        yield f"Stamps stay within {LIMIT_MS:g} ms (p99) up to {found:,} chunks per second, the highest measured rate."
    else:
        yield f"**The limit: {found:,} chunks per second.** Beyond, stamps are late by more than {LIMIT_MS:g} ms (p99)."
    yield ""
    yield "| Planned chunks/s | written | late by, ms: p50 | p99 | most | TPOT off, % | tokens/s off, % | cores |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for rounds in results.curve:
        yield f"| {rounds[0].rate:,} | {' | '.join(_point(rounds))} |"
    yield from ("", "Cores: how busy the target's and the bench's were. Above 50 % the goals aren't judged.")


def _point(rounds: Sequence[Streams]) -> Iterator[str]:
    yield f"{_middle(rounds, 'written_rate'):,.0f}"
    yield f"{_middle(rounds, 'late_p50'):.3f}"
    yield f"{_middle(rounds, 'late_p99'):.3f}"
    yield f"{_middle(rounds, 'late_most'):.2f}"
    yield f"{_middle(rounds, 'gap') * 100:+.3f}"
    yield f"{_middle(rounds, 'output') * 100:+.2f}"
    shares = [(one.busy[-1], one.busy[0]) for one in rounds if one.busy]
    yield ", ".join(f"{statistics.median(side) * 100:.0f} %" for side in zip(*shares, strict=True)) or "–"


def _middle(rounds: Sequence[Streams] | Sequence[Schedule], name: str) -> float:
    return statistics.median(float(getattr(one, name)) for one in rounds)


def _schedules(results: Results) -> Iterator[str]:
    yield from ("", "### Planned requests", "", "How long after it was due the target had a request, in ms.", "")
    yield from ("| Requests/s | p50 | p99 | p99 of the report's own lag |", "| --- | --- | --- | --- |")
    for rounds in results.schedules:
        numbers = [_middle(rounds, name) for name in ("late_p50", "late_p99", "said_p99")]
        yield f"| {rounds[0].rate} | {' | '.join(f'{number:.2f}' for number in numbers)} |"
