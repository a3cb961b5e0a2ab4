"""bench report, export, compare, gate and baseline on the command line, over a store that a run left."""

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest

from heylook_llm.bench.sample import Sample
from heylook_llm.bench.store import Store
from heylook_llm.cli import heylookllm
from heylook_llm.commands import state
from heylook_llm.errors import ConfigError, Conflict, NotFound
from tests.bench.answers import answer
from tests.bench.records import MACHINE, TARGET, cell, run

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs, the second slower; the state folder is the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with Store(state.bench_file()) as store:
        for place, (name, ttft) in enumerate((("fast", 100), ("slow", 150))):
            made = run(f"01RUN{name.upper()}", name=name, created=float(place), state="done")
            store.create(made, MACHINE, [TARGET], [cell(name, run_id=made.id)])
            store.add_samples(of(made.id, name, n, ttft) for n in range(40))


def of(run_id: str, cell_id: str, ordinal: int, ttft: float) -> Sample:
    return answer(ordinal, ordinal * 300, ttft + ordinal % 5, run_id=run_id, cell_id=cell_id)


def says(*arguments: str) -> int:
    """Run the command; its exit status."""
    return int(heylookllm.main(["bench", *arguments], standalone_mode=False) or 0)


def test_a_report_of_the_last_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert says("report") == 0
    assert capsys.readouterr().out.startswith("m on null, asked by 4 clients: ")
    assert says("report", "fast", "--format", "json", "--slo", "ttft=102") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"][0]["goodput"]["limits"] == {"ttft": 102}
    assert found["rows"][0]["goodput"]["good"] == 24
    assert says("report", "fast", "--format", "markdown") == 0
    assert capsys.readouterr().out.startswith("# Run ")
    with pytest.raises(ConfigError, match="--slo speed=1"):
        says("report", "--slo", "speed=1")
    for limit in ("ttft=-5", "ttft=nan", "ttft=soon"):  # of a run as of its report
        with pytest.raises(ConfigError, match=f"--slo {limit}: must be ttft, tpot, itl or e2e"):
            says("run", "--target", "http://127.0.0.1:1", "--slo", limit)
        with pytest.raises(ConfigError, match=f"--slo {limit}: must be ttft, tpot, itl or e2e"):
            says("report", "--slo", limit)
    with pytest.raises(NotFound):
        says("report", "nobody")


def test_files_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert says("export", "--output", "one.html") == 0
    assert (tmp_path / "one.html").read_bytes().startswith(b"<!doctype html>")
    forms = ("json", "csv", "jsonl", "xlsx", "html", "markdown")
    chosen = [part for form in forms for part in ("--format", form)]
    assert says("export", "fast", *chosen, "--output", "folder") == 0
    written = {path.suffix: path for path in (tmp_path / "folder").iterdir()}
    assert set(written) == {".json", ".csv", ".jsonl", ".xlsx", ".html", ".md"}
    assert len(written[".jsonl"].read_bytes().splitlines()) == 40
    assert len(list(csv.reader(io.StringIO(written[".csv"].read_text("utf-8-sig"))))) == 2
    assert zipfile.is_zipfile(written[".xlsx"])
    with pytest.raises(ConfigError, match="--force"):
        says("export", "--output", "one.html")
    assert says("export", "--output", "one.html", "--force") == 0
    with pytest.raises(ConfigError, match="Say --format"):
        says("export")
    capsys.readouterr()
    assert says("export", "fast", "--format", "csv", "--output", "-") == 0
    assert "D(10,10)" in capsys.readouterr().out


def test_runs_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert says("compare", "fast", "slow", "--measure", "ttft") == 0
    assert "fast is 33 % lower than the next" in capsys.readouterr().out
    assert says("compare", "fast", "fast", "--json") == 0
    assert json.loads(capsys.readouterr().out)["alone"] == ["m D(10,10) closed 4 warm"]
    with pytest.raises(ConfigError, match="no measure 'luck'"):
        says("compare", "fast", "slow", "--measure", "luck")


def test_gates_and_baselines(capsys: pytest.CaptureFixture[str]) -> None:
    assert says("baseline") == 0
    assert capsys.readouterr().out.startswith("There are no baselines yet")
    assert says("baseline", "main", "fast") == 0
    assert says("baseline") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("main  ")
    assert says("gate", "main", "--fail-if", "ttft.p90>+5%") == 1
    assert "REGRESSED: ttft.p90>+5%" in capsys.readouterr().out
    assert says("gate", "main", "--fail-if", "ttft.p95>+5%") == 0  # 40 requests bound no p95 from above
    assert "not shown: ttft.p95>+5%" in capsys.readouterr().out
    assert says("gate", "main", "--fail-if", "ttft.p95>+5%", "--strict") == 1
    assert says("gate", "main", "fast", "--fail-if", "ttft.p95>+5%", "--fail-if", "errors>1%") == 0
    assert says("gate", "fast", "slow", "--fail-if", "ttft.p99>+5%") == 3
    assert says("gate", "fast", "slow", "--fail-if", "ttft.p50>+5%", "--json") == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["status"] == 1
    with Store(state.bench_file()) as store:
        store.create(run("01RUNEMPTY", name="empty", created=2.0, state="failed"), MACHINE, [TARGET], [])
        store.add_event("01RUNEMPTY", 3.0, "warning", {"text": "cell 0: there is no model 'nope'."})
    says("report", "empty")
    assert "(cell 0: there is no model 'nope')" in capsys.readouterr().out
    with pytest.raises(Conflict, match="measured nothing"):
        says("baseline", "main", "empty")
    with pytest.raises(ConfigError, match="is no condition"):
        says("gate", "main", "--fail-if", "faster")
