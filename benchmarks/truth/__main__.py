"""Our bench, genai-bench and guidellm against one target whose log says what was true. See docs/bench_truth.md.

    make bench-truth
    make bench-truth ARGS="--rounds 1 --levels 1 16 --tools 'heylookllm bench' genai-bench"

Round by round, the tools in turn and each round begun by another one, every tool sends the same load to a target of its
own that is as the others'. Then come our own goals and the saturation curve. Printed as Markdown: the medians.
"""

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.peers.report import put_into
from benchmarks.truth import machine, report, stamps
from benchmarks.truth.answers import errors, truth
from benchmarks.truth.machine import Split, Watch
from benchmarks.truth.report import Cell, Results
from benchmarks.truth.stamps import RATES, REQUEST_RATES, STEADY_RATE, Schedule, Streams
from benchmarks.truth.target import Plan, target
from benchmarks.truth.tools import BUILD, TOOLS, Job, Tool

LEVELS: Final = {1: 20, 16: 64, 64: 192}
"""Requests by the number of clients."""
LIMIT_SECONDS: Final = 300.0


def main() -> None:
    """See the module's docstring."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # targets end with it
    shutil.rmtree(options.folder, ignore_errors=True)
    text = report.markdown(_measured(options))
    print(text, flush=True)
    if options.write is not None:
        put_into(options.write, text)


def _measured(options: argparse.Namespace) -> Results:
    began, cores = time.monotonic(), Split(None, None) if options.share_cores else machine.split()
    plan = Plan(options.ttft_ms, options.itl_ms, options.tokens)
    tools = [TOOLS[name]() for name in options.tools]
    folders = _Folders(options.folder)
    idle = {tool.name: _cell(tool, plan, (1, 1), folders.new(f"{tool.name} idle"), cores).cpu_seconds for tool in tools}
    cells: list[Cell] = []
    own = _Own(folders, cores)
    for number in range(options.rounds):
        turn = number % len(tools)
        for clients in options.levels:
            for tool in [*tools[turn:], *tools[:turn]]:
                cell = _cell(tool, plan, (clients, LEVELS[clients]), folders.new(f"{tool.name} {clients}"), cores)
                cells.append(cell)
                _say(number, cell)
        own.round(options.rates)
    return Results(
        plan=plan,
        versions={tool.name: tool.version for tool in tools},
        cells=cells,
        idle_cpu=idle,
        steady=own.curve[STEADY_RATE],
        bursts=own.bursts,
        curve=[own.curve[rate] for rate in sorted(own.curve)],
        schedules=list(own.schedules.values()),
        calibrations=own.calibrations,
        conditions=str(cores),
        rounds=options.rounds,
        seconds=time.monotonic() - began,
    )


class _Folders:
    """A new folder for each run of a command."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0

    def new(self, name: str) -> Path:
        """The next."""
        self._count += 1
        return self._root / f"{self._count:03} {name}".replace(" ", "-")


class _Own:
    """Our own goals and the curve, round by round."""

    def __init__(self, folders: _Folders, cores: Split) -> None:
        self._folders = folders
        self._cores = cores
        self.curve: dict[int, list[Streams]] = {}
        self.bursts: list[Streams] = []
        self.schedules: dict[int, list[Schedule]] = {}
        self.calibrations: list[float] = []

    def round(self, rates: list[int]) -> None:
        """All of it once."""
        for rate in sorted({*rates, STEADY_RATE}):
            one = stamps.streams(rate, "spread", self._folders.new(f"streams {rate}"), self._cores)
            self.curve.setdefault(rate, []).append(one)
            print(one, flush=True)
        self.bursts.append(stamps.streams(STEADY_RATE, "together", self._folders.new("bursts"), self._cores))
        print(self.bursts[-1], flush=True)
        for rate in REQUEST_RATES:
            planned = stamps.schedule(rate, "constant", self._folders.new(f"schedule {rate}"), self._cores)
            self.schedules.setdefault(rate, []).append(planned)
            print(planned, flush=True)
        self.calibrations.append(stamps.calibration_seconds(self._folders.new("calibration"), self._cores))


def _cell(tool: Tool, plan: Plan, size: tuple[int, int], folder: Path, cores: Split) -> Cell:
    """Have a tool measure a new target, by so many clients with so many requests together."""
    clients, requests = size
    with target(plan, cores.target) as null, Watch() as watch:
        command = tool.command(Job(null.url, clients, requests, plan.tokens), folder)
        ran = machine.run(command, folder, tool.environment(folder), cores.tool, LIMIT_SECONDS)
        log = null.log()
    ended = tool.of(folder, [answer for answer in log if answer.end is not None])
    return Cell(
        tool=tool.name,
        clients=clients,
        said=tool.said(folder),
        true=truth(ended, tool.percentile, tool.gap),
        sent=len(log),
        answered=len(ended),
        cpu_seconds=ran.cpu_seconds,
        seconds=ran.seconds,
        used=watch.used(min(one.received for one in log), max(one.end or 0 for one in log)),
    )


def _say(number: int, cell: Cell) -> None:
    """A line of what is over."""
    apart = errors(cell.said, cell.true)
    print(f"round {number + 1}, {cell.clients} clients, {cell.tool}: {cell.seconds:.0f} s, off by {apart}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--levels", type=int, nargs="+", choices=list(LEVELS), default=list(LEVELS))
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("--rates", type=int, nargs="+", default=list(RATES), help="of the saturation curve")
    parser.add_argument("--ttft-ms", type=float, default=200.0)
    parser.add_argument("--itl-ms", type=float, default=20.0)
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--share-cores", action="store_true", help="let target and tools have all cores")
    parser.add_argument("--folder", type=Path, default=BUILD / "runs", help="where the tools write; emptied first")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the result into this Markdown file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
