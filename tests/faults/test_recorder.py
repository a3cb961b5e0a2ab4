"""kill -9 at random moments: the database is sound, and holds whatever an answer had told of."""

import json
import random
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.serving import ROOT, running
from tests.worker.tiers import LONG

pytestmark = pytest.mark.integration

KILLS = 200 if LONG else 4
SERVERS = 200 if LONG else 1
FAKE = "default_model: fake\nmodels:\n  - {id: fake, provider: fake, config: {n_ctx: 2048}}\n"


def killed(path: Path, start: int, lines: int) -> list[str]:
    """Ids that a process told of before it was killed, some moment after it had told of so many."""
    command = [sys.executable, "-m", "tests.faults.recording_process", str(path), str(start)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    told += process.stdout.readlines()  # what it had still told of
    process.wait()
    process.stdout.close()
    return [line.strip() for line in told if line.endswith("\n")]


@pytest.mark.timeout(KILLS * 30)
def test_nothing_is_lost_that_was_told_of(tmp_path: Path) -> None:
    path, moments, told = tmp_path / "performance.sqlite3", random.Random(7), list[str]()
    for kill in range(KILLS):
        told += killed(path, kill * 10_000_000, moments.randint(1, 60))
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        kept = [identity for (identity,) in connection.execute("SELECT id FROM requests")]
        connection.close()
        assert len(kept) == len(set(kept))
        assert set(told) <= set(kept)
        assert not list(tmp_path.glob("*.damaged*"))


@pytest.mark.timeout(SERVERS * 60)
def test_a_killed_server_has_kept_what_its_routes_told(tmp_path: Path) -> None:
    path, moments, told = tmp_path / "performance.sqlite3", random.Random(8), set[str]()
    for _ in range(SERVERS):
        with running(FAKE, tmp_path, recorder=str(path)) as server:
            for _ in range(moments.randint(1, 8)):
                body = json.dumps({"model": "fake", "prompt": "a", "max_tokens": 2}).encode()
                urllib.request.urlopen(f"{server.url}/v1/completions", body, timeout=30).close()
                with urllib.request.urlopen(f"{server.url}/v1/performance/requests?limit=3", timeout=30) as reply:
                    told |= {row["id"] for row in json.load(reply)["data"]}
            server.process.kill()
            server.process.wait()
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert told <= {identity for (identity,) in connection.execute("SELECT id FROM requests")}
        connection.close()
    assert told
