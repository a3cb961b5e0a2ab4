"""The three tools: how each is told to send so many requests from so many clients, and what its own output says then.

Each is measured at its best: without a dashboard, and with requests for as many tokens as the target would say anyway.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import heylook_llm
from benchmarks.truth.answers import Answer, Said, interpolated, nearest_rank
from heylook_llm.bench.store import Store

ROOT: Final = Path(__file__).resolve().parent.parent.parent
BUILD: Final = ROOT / "build" / "truth"
TOKENIZER: Final = ROOT / "src" / "heylook_llm" / "tiny" / "heylook-tiny-mlx"
"""Any tokenizer will do: the target counts words."""
PROMPT_TOKENS: Final = 100


class Job(NamedTuple):
    """What is to be sent."""

    url: str
    clients: int
    requests: int
    tokens: int
    """Of each answer."""


class Tool(Protocol):
    """One of them."""

    name: str
    version: str

    def percentile(self, values: Sequence[float], share: float) -> float:
        """As it computes percentiles: the truth is put in the same form."""

    def gap(self, answer: Answer) -> float:
        """What it calls the time between tokens, by the target's stamps."""

    def command(self, job: Job, folder: Path) -> list[str]:
        """What starts it; it writes into the folder."""

    def environment(self, folder: Path) -> Mapping[str, str]:
        """What stands in its environment."""

    def said(self, folder: Path) -> Said:
        """What its output says."""

    def of(self, folder: Path, ended: Sequence[Answer]) -> list[Answer]:
        """Those answers that its numbers are of."""


class Ours:
    """`heylookllm bench`."""

    name = "heylookllm bench"
    version = heylook_llm.__version__

    def percentile(self, values: Sequence[float], share: float) -> float:
        """Of those that were measured."""
        return nearest_rank(values, share)

    def gap(self, answer: Answer) -> float:
        """TPOT: from the first token to the last."""
        return answer.gap_ms

    def command(self, job: Job, folder: Path) -> list[str]:
        """Its warm-up is as it is by itself: a request for each client."""
        del folder
        scenario = f"D({PROMPT_TOKENS},{job.tokens})"
        sizes = ("--scenario", scenario, "--concurrency", str(job.clients), "--requests", str(job.requests))
        return [*cli(), "run", "--no-calibrate", "--target", job.url, "--kind", "openai", "--model", "null", *sizes]

    def environment(self, folder: Path) -> Mapping[str, str]:
        """A home of its own, so that its store is empty."""
        return home(folder)

    def said(self, folder: Path) -> Said:
        """Its report."""
        (row,) = exported(folder)["rows"]
        measures = row["measures"]
        return Said(
            requests=row["counts"]["ok"],
            tokens=row["tokens"]["out_usage"],
            ttft_p50=measures["ttft"]["p50"],
            ttft_p95=measures["ttft"]["p95"],
            e2e_p50=measures["e2e"]["p50"],
            e2e_p95=measures["e2e"]["p95"],
            gap=measures["tpot"]["mean"],
            tokens_per_second=row["rates"]["whole_output"],
        )

    def of(self, folder: Path, ended: Sequence[Answer]) -> list[Answer]:
        """Its numbers are of the measured requests, which it gave names."""
        measured = {sample["client_request_id"] for sample in samples(folder) if sample["phase"] == "measure"}
        return [answer for answer in ended if answer.identity in measured]


def cli() -> list[str]:
    """The command of our bench."""
    return [sys.executable, "-m", "heylook_llm.cli", "bench"]


def home(folder: Path) -> Mapping[str, str]:
    """An environment whose user's folders lie in this one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OLLAMA_", "HEYLOOK_", "XDG_"))}
    return {**kept, "HOME": str(folder), "PYTHONPATH": str(ROOT / "src")}


def exported(folder: Path) -> dict[str, Any]:
    """The report of the only run of a home."""
    found: dict[str, Any] = json.loads(_export(folder, ".json").read_text())
    return found


def samples(folder: Path) -> list[dict[str, Any]]:
    """Its samples."""
    return [json.loads(line) for line in _export(folder, ".jsonl").read_text().splitlines()]


def window(folder: Path) -> tuple[int, int]:
    """Between which stamps the rates of the only cell of a home's only run are taken."""
    (path,) = folder.rglob("bench.sqlite3")
    with Store(path) as store:
        (cell,) = store.cells(store.run("last").id)
    assert cell.window_start is not None
    assert cell.window_end is not None
    return cell.window_start, cell.window_end


def _export(folder: Path, suffix: str) -> Path:
    """A file of that run; all are written at once."""
    kept = folder / "exported"
    if not kept.exists():
        forms = ("--format", "json", "--format", "jsonl")
        command = [*cli(), "export", "last", *forms, "--output", str(kept)]
        subprocess.run(command, env=home(folder), cwd=folder, capture_output=True, check=True)
    (path,) = kept.glob(f"*{suffix}")
    return path


class GenaiBench:
    """genai-bench."""

    name = "genai-bench"
    version = "0.0.5"

    def percentile(self, values: Sequence[float], share: float) -> float:
        """By numpy."""
        return interpolated(values, share)

    def gap(self, answer: Answer) -> float:
        """TPOT: from the first token to the end of the answer."""
        return answer.gap_to_end_ms

    def command(self, job: Job, folder: Path) -> list[str]:
        """One run of one scenario; its limit of time, in minutes, is never reached."""
        what = ("--api-backend", "openai", "--api-base", job.url, "--api-key", "none", "--api-model-name", "null")
        model = ("--task", "text-to-text", "--model-tokenizer", str(TOKENIZER))
        scenario = ("--traffic-scenario", f"D({PROMPT_TOKENS},{job.tokens})", "--num-concurrency", str(job.clients))
        limits = ("--max-requests-per-run", str(job.requests), "--max-time-per-run", "10")
        where = ("--experiment-base-dir", str(folder), "--experiment-folder-name", "run", "--metrics-time-unit", "ms")
        return [program(self.name, "genai-bench"), "benchmark", *what, *model, *scenario, *limits, *where]

    def environment(self, folder: Path) -> Mapping[str, str]:
        """Its dashboard is off: that draws while it sends."""
        return offline(folder) | {"ENABLE_UI": "false"}

    def said(self, folder: Path) -> Said:
        """The file of its only run."""
        (path,) = (folder / "run").glob("D*.json")
        whole = json.loads(path.read_text())["aggregated_metrics"]
        stats = whole["stats"]
        return Said(
            requests=whole["num_completed_requests"],
            tokens=stats["num_output_tokens"]["sum"],
            ttft_p50=stats["ttft"]["p50"],
            ttft_p95=stats["ttft"]["p95"],
            e2e_p50=stats["e2e_latency"]["p50"],
            e2e_p95=stats["e2e_latency"]["p95"],
            gap=stats["tpot"]["mean"],
            tokens_per_second=whole["mean_output_throughput_tokens_per_s"],
        )

    def of(self, folder: Path, ended: Sequence[Answer]) -> list[Answer]:
        """All."""
        del folder
        return list(ended)


class Guidellm:
    """guidellm."""

    name = "guidellm"
    version = "0.8.1"

    def percentile(self, values: Sequence[float], share: float) -> float:
        """Of those that were measured."""
        return nearest_rank(values, share)

    def gap(self, answer: Answer) -> float:
        """ITL: from the first token to the last."""
        return answer.gap_ms

    def command(self, job: Job, folder: Path) -> list[str]:
        """One benchmark of its concurrent profile."""
        data = f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={job.tokens}"
        return [
            *(program(self.name, "guidellm"), "run", "--disable-console"),
            *("--backend", f"kind=openai_http,target={job.url}"),
            *("--tokenizer", f"kind=huggingface_auto,model={TOKENIZER}"),
            *("--profile", f"kind=concurrent,streams={job.clients}"),
            *("--constraint", f"kind=max_requests,count={job.requests}"),
            *("--data", data, "--output", f"kind=json,path={folder / 'report.json'}"),
        ]

    def environment(self, folder: Path) -> Mapping[str, str]:
        """Nothing is fetched."""
        return offline(folder)

    def said(self, folder: Path) -> Said:
        """Its report, of the requests that ended well."""
        (benchmark,) = json.loads((folder / "report.json").read_text())["benchmarks"]
        metrics = benchmark["metrics"]
        ttft, e2e = metrics["time_to_first_token_ms"]["successful"], metrics["request_latency"]["successful"]
        return Said(
            requests=metrics["request_totals"]["successful"],
            tokens=metrics["output_token_count"]["successful"]["total_sum"],
            ttft_p50=ttft["percentiles"]["p50"],
            ttft_p95=ttft["percentiles"]["p95"],
            e2e_p50=e2e["percentiles"]["p50"] * 1e3,
            e2e_p95=e2e["percentiles"]["p95"] * 1e3,
            gap=metrics["inter_token_latency_ms"]["successful"]["mean"],
            tokens_per_second=metrics["output_tokens_per_second"]["successful"]["mean"],
        )

    def of(self, folder: Path, ended: Sequence[Answer]) -> list[Answer]:
        """All."""
        del folder
        return list(ended)


def program(tool: str, name: str) -> str:
    """A rival's command. Raises SystemExit where it isn't installed."""
    path = BUILD / tool / "bin" / name
    if not path.exists():
        raise SystemExit(f"{name} isn't installed: make bench-truth installs it.")
    return str(path)


def offline(folder: Path) -> dict[str, str]:
    """Ours, with caches in the folder, and nothing that would be fetched."""
    return {**os.environ, "HOME": str(folder), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "huggingface")}


TOOLS: Final[dict[str, Callable[[], Tool]]] = {tool.name: tool for tool in (Ours, GenaiBench, Guidellm)}
