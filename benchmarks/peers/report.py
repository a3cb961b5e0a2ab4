"""The results as lines while they come, as Markdown, and as JSON with every sample."""

import json
import platform
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.peers.client import Played
from benchmarks.peers.measures import GOALS, Figures, Goal, Spread, figures, ratios, spread
from benchmarks.peers.servers import OURS, ROOT, Server
from benchmarks.peers.workloads import WORKLOADS
from heylook_llm import hardware

BLOCK: Final = re.compile(r"(<!-- measured -->\n).*?(<!-- end of measured -->)", re.DOTALL)


class Contest:
    """All rounds of all servers with one model."""

    def __init__(self, model: str, what: str, servers: list[Server]) -> None:
        self.model = model
        self.what = what
        self.servers = servers
        self._rounds: dict[tuple[str, str], list[Played]] = {}

    def add(self, workload: str, server: str, played: Played) -> None:
        """One round."""
        self._rounds.setdefault((workload, server), []).append(played)

    def played(self, workload: str, server: str) -> list[Played]:
        """The rounds, as they were."""
        return self._rounds.get((workload, server), [])

    def figures(self, workload: str, server: str) -> list[Figures]:
        """The rounds, summed up."""
        return [figures(played) for played in self.played(workload, server)]


class Results(NamedTuple):
    """A run."""

    contests: list[Contest]
    threads: int
    rounds: int
    seconds: float


def say(model: str, workload: str, server: str, one: Figures) -> None:
    """A line of a round that is over."""
    late = f", late: TTFT {one.late_ttft:.2f} s, worst gap {one.late_gap or 0:.3f} s" if one.late_ttft else ""
    gap = f", gap {one.gap * 1e3:.1f} ms" if one.gap else ""
    counts = f"{one.prompt_tokens} + {one.output_tokens} tokens"
    print(
        f"{model:12} {workload:7} {server:17} {one.tokens_per_second:8.1f} tokens/s, TTFT {one.ttft:.3f} s{gap}{late} "
        f"({counts})",
        flush=True,
    )


# ---- Markdown --------------------------------------------------------------------------------------------------------


def put_into(page: Path, text: str) -> None:
    """Replace what was measured before. Raises SystemExit where the page has no place for it."""
    old = page.read_text(encoding="utf-8")
    new, count = BLOCK.subn(lambda found: f"{found[1]}{text}{found[2]}", old)
    if count != 1:
        raise SystemExit(f"{page} has no `<!-- measured -->` ... `<!-- end of measured -->`.")
    page.write_text(new, encoding="utf-8")


def markdown(results: Results) -> str:
    """The run, its tables, its goals."""
    return "\n".join(
        [*_head(results), "", *_goals(results), *(line for one in results.contests for line in _table(one))]
    )


def _head(results: Results) -> Iterator[str]:
    cpu = hardware.cpu()
    versions = {f"{server.name} {server.version}" for contest in results.contests for server in contest.servers}
    yield called("benchmarks.peers")
    yield f"- Machine: {cpu.name}, {cpu.available_cores:g} cores, {platform.system()} {platform.machine()}, Python " + (
        f"{platform.python_version()}; {results.threads} threads for every GGUF server"
    )
    yield f"- Versions: {', '.join(sorted(versions))}"
    yield f"- {results.rounds} rounds of each workload, {results.seconds / 60:.0f} minutes in all"


def called(module: str) -> str:
    """The line that says how this benchmark was called, without this machine's folders."""
    arguments = [Path(one).name if one.startswith("/") else one for one in sys.argv[1:]]
    return f"- Command: `python -m {module} {shlex.join(arguments)}`"


def _goals(results: Results) -> Iterator[str]:
    yield "| Model | Beside | Workload | Ratio of | Goal | Measured | |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for contest in results.contests:
        for goal in GOALS:
            ratio = _ratio(contest, goal)
            if ratio is not None:
                bound = f"{'≥' if goal.at_least else '≤'} {goal.bound:g}"
                verdict = "met" if goal.met(ratio.median) else "**missed**"
                measured = f"{ratio.median:.2f} ({ratio.least:.2f}-{ratio.greatest:.2f})"
                names = f"| {contest.model} | {goal.peer} | {_what(goal.workload)} | {TITLES[goal.figure]} "
                yield f"{names}| {bound} | {measured} | {verdict} |"


TITLES: Final = {
    "tokens_per_second": "tokens/s",
    "ttft": "TTFT",
    "late_gap": "worst gap of the streams",
    "late_ttft": "TTFT of the long prompt",
}


def _ratio(contest: Contest, goal: Goal) -> Spread | None:
    ours, theirs = contest.figures(goal.workload, OURS), contest.figures(goal.workload, goal.peer)
    return ratios(ours, theirs, goal.figure)


def _what(name: str) -> str:
    return next(workload.what for workload in WORKLOADS if workload.name == name)


def _table(contest: Contest) -> Iterator[str]:
    yield from ("", f"### {contest.model}: {contest.what}", "")
    yield "| Workload | Server | tokens/s | TTFT, s | gap, ms | long prompt: TTFT, s | worst gap, s | ours / it |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for workload in WORKLOADS:
        ours = contest.figures(workload.name, OURS)
        for server in contest.servers:
            rounds = contest.figures(workload.name, server.name)
            if rounds:
                ratio = None if server.name == OURS else ratios(ours, rounds, "tokens_per_second")
                yield f"| {workload.what} | {server.name} | {' | '.join(_cells(rounds, ratio))} |"


def _cells(rounds: list[Figures], ratio: Spread | None) -> Iterator[str]:
    yield _cell(spread([one.tokens_per_second for one in rounds]), 1)
    yield _cell(spread([one.ttft for one in rounds]), 2)
    yield _cell(spread([None if one.gap is None else one.gap * 1e3 for one in rounds]), 1)
    yield _cell(spread([one.late_ttft for one in rounds]), 2)
    yield _cell(spread([one.late_gap for one in rounds]), 2)
    yield _cell(ratio, 2)


def _cell(value: Spread | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value.median:.{digits}f} ({value.least:.{digits}f}-{value.greatest:.{digits}f})"


# ---- JSON ------------------------------------------------------------------------------------------------------------


def as_json(results: Results) -> str:
    """Everything, with every sample's stamps."""
    contests = [
        {
            "model": contest.model,
            "servers": [_server(server) for server in contest.servers],
            "rounds": [
                {"workload": workload.name, "server": server.name, **_round(played)}
                for workload in WORKLOADS
                for server in contest.servers
                for played in contest.played(workload.name, server.name)
            ],
        }
        for contest in results.contests
    ]
    run = {"threads": results.threads, "rounds": results.rounds, "seconds": results.seconds}
    return json.dumps(run | {"machine": hardware.cpu().name, "contests": contests})


def _server(server: Server) -> dict[str, Any]:
    command = [part.replace(str(ROOT), ".") for part in server.command]
    return {"name": server.name, "version": server.version, "command": command}


def _round(played: Played) -> dict[str, Any]:
    late = None if played.late is None else played.late._asdict()
    return {"figures": figures(played)._asdict(), "samples": [one._asdict() for one in played.samples], "late": late}
