"""kill -9 at random moments: the database is sound, and holds whatever an answer had told of."""

import http.client
import json
import random
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from heylook_llm.server.performance.database import Database
from tests.serving import ROOT, Running, running
from tests.worker.tiers import LONG

pytestmark = pytest.mark.integration

KILLS = 200 if LONG else 5
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


def loading(port: int) -> threading.Thread:
    """Asks for completions until nobody answers."""

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            while True:
                connection.request("POST", "/v1/completions", b'{"model": "fake", "prompt": "a", "max_tokens": 2}')
                connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def told_by(server: Running, path: str, body: bytes | None = None) -> Any:
    with urllib.request.urlopen(f"{server.url}{path}", body, timeout=30) as reply:
        return json.load(reply)


@pytest.mark.timeout(SERVERS * 60)
def test_a_server_killed_at_work_has_kept_what_its_routes_told(tmp_path: Path) -> None:
    path, moments, told = tmp_path / "performance.sqlite3", random.Random(8), set[str]()
    for _ in range(SERVERS):
        count = 0
        with running(FAKE, tmp_path, recorder=str(path)) as server:
            told_by(server, "/v1/completions", b'{"model": "fake", "prompt": "a", "max_tokens": 2}')  # loads the model
            clients = [loading(server.port) for _ in range(2)]
            for _ in range(moments.randint(1, 8)):
                told |= {row["id"] for row in told_by(server, "/v1/performance/requests?limit=5")["data"]}
                count = told_by(server, "/v1/performance?window=7d")["models"].get("fake", {}).get("count", 0)
            server.process.kill()
            server.process.wait()
            for client in clients:
                client.join()
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        kept = [identity for (identity,) in connection.execute("SELECT id FROM requests")]
        connection.close()
        assert len(kept) == len(set(kept))
        assert told <= set(kept)
        assert len(kept) >= count
        database = Database(path, keep_seconds=1e9, keep_bytes=1 << 30)
        assert sum(tally.count for _, tally in database.hours(0, None)) == len(kept), "a row and its sums go together"
        database.close()
    assert told
