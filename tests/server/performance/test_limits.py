"""A minute at full speed, a million requests, a wall clock that jumps: within the limits, and nothing is told wrong."""

import http.client
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import performance_queries
from heylook_llm.server.performance.windows import WINDOWS
from tests.serving import Running, running
from tests.worker.tiers import LONG

pytestmark = pytest.mark.integration

FAKE = "default_model: fake\nmodels:\n  - {id: fake, provider: fake, config: {n_ctx: 2048, n_parallel: 8}}\n"
LIMIT_BYTES = 2 << 20
CLIENTS = 8
LOAD_SECONDS = 60
MANY = 1_000_000
FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


def completing(port: int) -> Callable[[], str]:
    """Asks for a completion, on one connection, and returns its request's id."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"model": "fake", "prompt": "a" * 30, "max_tokens": 24}).encode()

    def ask() -> str:
        connection.request("POST", "/v1/completions", body)
        reply = connection.getresponse()
        reply.read()
        return str(reply.headers["x-request-id"])

    return ask


def told(server: Running, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", path)
    found = json.loads(connection.getresponse().read())
    connection.close()
    return found


def bytes_of(path: Path) -> int:
    """What the database takes on the disk, its log included."""
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))


@pytest.mark.skipif(not LONG, reason="a minute of load (make test_truth)")
def test_a_minute_at_full_speed_stays_within_the_limit(tmp_path: Path) -> None:
    path, ends, counts = tmp_path / "state" / "performance.sqlite3", time.monotonic() + LOAD_SECONDS, [0] * CLIENTS
    with running(FAKE, tmp_path, recorder=str(path), keeping={"keep_bytes": LIMIT_BYTES}) as server:

        def client(number: int) -> None:
            ask = completing(server.port)
            while time.monotonic() < ends:
                ask()
                counts[number] += 1

        threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        largest = 0
        while time.monotonic() < ends:
            told(server, "/v1/performance?window=1m")
            largest = max(largest, bytes_of(path))
        for thread in threads:
            thread.join()
        last = completing(server.port)()
        summary = told(server, "/v1/performance?window=7d")
        rows = told(server, "/v1/performance/requests?limit=1000")["data"]
    print(
        f"{sum(counts)} requests in {LOAD_SECONDS} s; at most {largest} bytes of {LIMIT_BYTES}, then {bytes_of(path)}"
    )
    assert largest <= LIMIT_BYTES
    assert bytes_of(path) <= LIMIT_BYTES
    assert summary["models"]["fake"]["count"] + summary["dropped_requests"] == sum(counts) + 1
    assert summary["dropped_requests"] == 0
    assert rows[0]["id"] == last
    assert len(rows) > 500
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.skipif(not LONG, reason="minutes of writing and asking (make test_truth)")
@pytest.mark.timeout(1800)
def test_a_million_requests_are_asked_in_a_moment(tmp_path: Path) -> None:
    """Each route, window, filter and page: medians of three, within 200 ms."""
    path = tmp_path / "performance.sqlite3"
    performance_queries.fill(path, MANY)
    assert performance_queries.measure(path, MANY, 3) == []


@pytest.mark.skipif(not LONG, reason="the same as test_windows, by a whole server (make test_truth)")
@pytest.mark.skipif(FAKETIME is None, reason="needs Debian's package faketime")
def test_steps_of_the_wall_clock_change_no_duration_and_no_window(tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    offset.write_text("+0")
    environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    spans: dict[str, tuple[int, int]] = {}
    with running(FAKE, tmp_path, environment=environment, recorder=str(tmp_path / "p.sqlite3")) as server:
        ask = completing(server.port)
        for step in ("+0", "+3600", "+0", "-3600", "+0", "+3600", "-3600"):
            offset.write_text(step)
            for _ in range(3):
                begin = time.monotonic_ns()
                identity = ask()
                spans[identity] = begin, time.monotonic_ns()
            for window in WINDOWS:
                assert told(server, f"/v1/performance?window={window}")["models"]["fake"]["count"] == len(spans), step
                listed = told(server, f"/v1/performance/requests?window={window}")["data"]
                assert [row["id"] for row in listed] == [*spans][::-1]
        walls = [row["finished_at"] for row in listed]
        for row in listed:
            begin, end = spans[row["id"]]
            assert 0 < row["e2e_ms"] * 1e6 <= end - begin
            assert row["ttft_ms"] <= row["e2e_ms"]
            assert row["load_ms"] is None or row["load_ms"] <= row["e2e_ms"]
    assert max(walls) - min(walls) > 7000, "the wall clock was stepped"
