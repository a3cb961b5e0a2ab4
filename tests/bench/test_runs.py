"""Runs as a user makes them: `heylookllm bench` beside a null target, our own server, and targets that misbehave."""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Final

import psutil
import pytest

from heylook_llm.bench.sample import SETTLED, Sample, stamps_of
from heylook_llm.bench.store import Store
from tests.bench.places import Null, misbehaving, null_target
from tests.commands_at_work import COMMAND, Home
from tests.serving import Running

LONG: Final = pytest.mark.skipif(os.environ.get("HEYLOOK_TEST_TIER") != "long", reason="a test of the long tier")
pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


CANARY = "sk-canary-4711"


def store_of(home: Home) -> Store:
    (path,) = home.folder.rglob("bench.sqlite3")
    return Store(path)


def bench(home: Home, *arguments: str, status: int = 0, **more: str) -> Any:
    """The JSON that a command tells."""
    plain = ("--no-calibrate",) if arguments[0] == "run" else ()
    done = home.run("bench", *arguments, *plain, "--json", **more)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def samples_of(home: Home, run: str = "last") -> list[Sample]:
    with store_of(home) as store:
        return store.samples(store.run(run).id)


def test_every_stamp_follows_what_the_target_wrote(home: Home, null: Null) -> None:
    options = ("--scenario", "D(20,8)", "--concurrency", "1,4", "--requests", "10", "--name", "first")
    told = bench(home, "run", "--target", null.url, *options, "--key", "env:BENCH_CANARY", BENCH_CANARY=CANARY)
    assert CANARY not in json.dumps(told)
    kept = [path for path in home.folder.rglob("*") if path.is_file()]
    assert kept, "a key stands nowhere but in the request"
    assert not [path for path in kept if CANARY.encode() in path.read_bytes()]
    assert [cell["outcomes"] for cell in told["cells"]] == [{"ok": 10}, {"ok": 10}]
    assert (told["state"], told["name"]) == ("done", "first")
    samples = samples_of(home)
    assert len(samples) == 20 + 1 + 4
    log = null.log()
    for sample in samples:
        received, *written, end = log[sample.client_request_id or ""]
        arrived = stamps_of(sample)
        assert len(arrived) == len(written) == 8 == sample.out_usage
        assert all(there <= here for there, here in zip(written, arrived, strict=True))
        assert list(arrived) == sorted(arrived)
        order = (sample.t_due, sample.t_start, sample.t_sent, received, written[0], sample.t_headers)
        assert [at for at in order if at is not None] == sorted(at for at in order if at is not None)
        assert None not in order
        assert sample.t_end is not None
        assert sample.t_end >= end
        assert sample.t_first_event == sample.t_first_token == arrived[0]
        assert sample.in_planned == sample.in_usage == 20
    opened = [sample for sample in samples if sample.t_tcp is not None]
    assert 0 < len(opened) < len(samples), "connections are used again, and what opening one took stands apart"


@LONG
def test_open_loops_send_when_planned_however_slow_the_answers_are(home: Home) -> None:
    with null_target(ttft_ms=400, itl_ms=1, tokens=2) as slow:
        told = bench(home, "run", "--target", slow.url, "--rate", "50", "--arrival", "constant", "--requests", "20",
                     "--scenario", "D(5,2)", "--warmup", "0")  # fmt: skip
    assert told["cells"][0]["outcomes"] == {"ok": 20}
    dues = [sample.t_due or 0 for sample in samples_of(home)]
    assert {later - earlier for earlier, later in itertools.pairwise(dues)} == {20_000_000}
    starts = [sample.t_start or 0 for sample in samples_of(home)]
    assert all(start >= due for start, due in zip(starts, dues, strict=True))
    assert starts[-1] < (samples_of(home)[0].t_end or 0), "none waits for an answer"


@LONG
def test_a_time_limit_ends_sending_and_nothing_in_flight_is_forgotten(home: Home, null: Null) -> None:
    bench(home, "run", "--target", null.url, "--duration", "0.5", "--concurrency", "3", "--scenario", "D(5,8)")
    samples = [sample for sample in samples_of(home) if sample.phase == "measure"]
    assert {sample.outcome for sample in samples} == {"ok"}
    assert [sample.ordinal for sample in samples] == list(range(3, 3 + len(samples)))
    with store_of(home) as store:
        (cell,) = store.cells(store.run("last").id)
    assert cell.window_start is not None
    assert cell.window_end is not None
    assert all(cell.window_start <= (one.t_start or 0) <= cell.window_end for one in samples)
    assert max(one.t_end or 0 for one in samples) > cell.window_end


@LONG
def test_what_would_be_sent_is_said_without_sending(home: Home, null: Null) -> None:
    before = len(null.log())
    options = (
        "--scenario",
        "D(10,5)",
        "--scenario",
        "U(10,20)",
        "--concurrency",
        "1,2",
        "--requests",
        "3",
        "--dry-run",
    )
    told = bench(home, "run", "--target", null.url, *options)
    assert told["estimate"] == {
        **{"cells": 4, "requests": 12, "input_tokens": 6 * 10 + 6 * 10, "output_tokens": 6 * 5 + 6 * 20},
        **{"at_most_seconds": None, "cost": None, "seconds": None},
    }
    shown = home.run("bench", "run", "--no-calibrate", "--target", null.url, *options).stdout.splitlines()
    assert shown[0].startswith("4 cells · 12 requests · ")
    assert null.url in shown[1]
    assert shown[2:] == ["  scenarios: D(10,5), U(1,10)/(2,20)", "  loads: closed 1, closed 2", "  caches: warm"]
    assert len(null.log()) == before
    assert not list(home.folder.rglob("bench.sqlite3"))


# ---- what is interrupted ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def going_on(
    home: Home, url: str, *options: str, samples: int, scenario: str = "D(5,8)"
) -> Iterator["subprocess.Popen[bytes]"]:
    """A run that has at least so many samples, and goes on."""
    command = [*COMMAND, "bench", "run", "--no-calibrate", "--target", url, "--scenario", scenario, *options]
    process = subprocess.Popen(
        command, env=home.environment(), cwd=home.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _until(lambda: _count(home) >= samples or process.poll() is not None)
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.communicate()


def _count(home: Home) -> int:
    """The samples of the run that goes on."""
    if not list(home.folder.rglob("bench.sqlite3")):
        return 0
    with store_of(home) as store:
        running = [run for run in store.runs(1) if run.state == "running"]
        return store.sample_count(running[0].id) if running else 0


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Look again and again, as there is nothing to wait for."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError("it never came to that")


def test_a_killed_run_is_resumed_with_what_it_lacks(home: Home, null: Null) -> None:
    with going_on(home, null.url, "--requests", "100", "--concurrency", "4", samples=5) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "a sender ends with its recorder"
    kept = {sample.id: sample for sample in samples_of(home)}
    assert bench(home, "show")["state"] == "interrupted"
    told = bench(home, "resume", "--output", "resumed")
    assert told["state"] == "done"
    assert told["cells"][0]["outcomes"] == {"ok": 100}
    report = json.loads((home.folder / "resumed" / "report.json").read_text())
    assert report["rows"][0]["counts"]["ok"] == 100
    assert "resumed" in told["cells"][0]["flags"]
    samples = samples_of(home)
    assert {sample.id: sample for sample in samples if sample.id in kept} == kept
    measured = [sample for sample in samples if sample.phase == "measure" and sample.outcome in SETTLED]
    assert sorted(sample.ordinal for sample in measured) == list(range(4, 104))


@LONG
def test_a_killed_sender_loses_nothing_that_was_kept(home: Home, null: Null) -> None:
    with going_on(home, null.url, "--requests", "100", "--concurrency", "4", samples=5) as process:
        (sender,) = psutil.Process(process.pid).children()
        sender.kill()
        assert process.wait(60) == 130
    kept = samples_of(home)
    assert len(kept) >= 5
    assert bench(home, "resume")["cells"][0]["outcomes"] == {"ok": 100}
    assert {sample.id for sample in kept} <= {sample.id for sample in samples_of(home)}


@LONG
def test_one_interrupt_lets_what_is_in_flight_end_and_a_second_cuts_it_off(home: Home) -> None:
    with null_target(ttft_ms=1500, itl_ms=1, tokens=2) as slow:
        options = ("--rate", "20", "--duration", "100", "--warmup", "0")
        with going_on(home, slow.url, *options, samples=1) as process:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert process.stderr is not None
            assert b"bench resume" in process.stderr.read()
        assert {sample.outcome for sample in samples_of(home)} == {"ok"}
        with going_on(home, slow.url, *options, samples=1) as process:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)  # counts as a second: two of one kind could become one
            assert process.wait(60) == 130
    assert "cut" in {sample.outcome for sample in samples_of(home)}
    assert bench(home, "list")[0]["state"] == "cancelled"


@LONG
def test_an_interrupt_ends_a_run_that_waits_for_its_targets_model(home: Home) -> None:
    asked = threading.Event()

    def load(connection: socket.socket, head: bytes) -> None:
        if head.startswith(b"POST /v1/models/bad/load "):
            asked.set()
            connection.recv(1)  # for as long as somebody waits
        status = b"200 OK" if head.startswith(b"GET /v1/capabilities ") else b"404 Not Found"
        connection.sendall(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")

    with misbehaving(load, everything=True) as url:
        command = [*COMMAND, "bench", "run", "--no-calibrate", "--target", url, "--requests", "5"]
        process = subprocess.Popen(command, env=home.environment(), cwd=home.folder, stderr=subprocess.DEVNULL)
        try:
            assert asked.wait(60)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        finally:
            process.kill()
            process.wait()


@LONG
def test_a_run_is_cancelled_from_elsewhere_and_keeps_what_it_has(home: Home) -> None:
    options = ("--concurrency", "8", "--duration", "100")
    with (
        null_target(ttft_ms=30, itl_ms=300, tokens=8) as slow,
        going_on(home, slow.url, *options, samples=8) as process,
    ):
        refused = home.run("bench", "delete", "last")
        assert (refused.returncode, "goes on" in refused.stderr) == (1, True)
        assert home.run("bench", "cancel").returncode == 0
        assert process.wait(60) == 130
    outcomes = [sample.outcome for sample in samples_of(home)]
    assert outcomes.count("cancelled") == 8
    assert outcomes.count("ok") >= 8
    assert home.run("bench", "cancel").returncode == 1
    assert home.run("bench", "delete", "last").returncode == 0
    assert bench(home, "list") == []


@LONG
def test_a_target_that_dies_ends_the_cell_and_says_so(home: Home) -> None:
    options = ("--concurrency", "2", "--duration", "100")
    with (
        null_target(ttft_ms=20, itl_ms=2, tokens=8) as dying,
        going_on(home, dying.url, *options, samples=5) as process,
    ):
        dying.process.kill()
        assert process.wait(60) == 4
    assert {"disconnected", "connect", "reset"} >= {
        sample.error_class for sample in samples_of(home) if sample.error_class
    }
    assert bench(home, "show")["cells"][0]["state"] == "failed"


# ---- targets that misbehave ------------------------------------------------------------------------------------------

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
TOKEN = b'data: {"choices": [{"delta": {"content": "x"}, "finish_reason": null}]}\n\n'


def hang(connection: socket.socket, _: bytes) -> None:
    connection.sendall(STREAM + TOKEN)
    connection.recv(1)


def lie(connection: socket.socket, _: bytes) -> None:
    connection.sendall(STREAM.replace(b"close\r\n", b"close\r\ncontent-length: 9999\r\n") + TOKEN)


def stop_short(connection: socket.socket, _: bytes) -> None:
    connection.sendall(STREAM + TOKEN)


def babble(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"\x00\xff" * 500)


def say_no(connection: socket.socket, _: bytes) -> None:
    body = b'{"error": {"message": "too many"}}'
    connection.sendall(b"HTTP/1.1 429 Too Many\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


def redirect(connection: socket.socket, _: bytes) -> None:
    connection.sendall(
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )


WRONG: Final[dict[str, tuple[Callable[[socket.socket, bytes], None], str]]] = {
    "total": (hang, "timeout"),
    "disconnected": (lie, "error"),
    "truncated": (stop_short, "error"),
    "protocol": (babble, "error"),
    "http_429": (say_no, "error"),
    "http_302": (redirect, "error"),
}


def test_what_a_target_does_wrong_has_its_name(home: Home) -> None:
    options = ("--requests", "2", "--scenario", "D(5,2)", "--timeout", "2", "--warmup", "0")
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(misbehaving(answer)) for answer, _ in WRONG.values()]
        targets = [part for url in urls for part in ("--target", url)]
        told = bench(home, "run", *targets, *options, status=4)
    samples = samples_of(home)
    for cell, (word, (_, outcome)) in zip(told["cells"], WRONG.items(), strict=True):
        assert cell["outcomes"] == {outcome: 2}
        assert {sample.error_class for sample in samples if sample.cell_id == cell["id"]} == {word}


@LONG
def test_nothing_listens_and_nothing_is_kept(home: Home) -> None:
    done = home.run("bench", "run", "--target", "http://127.0.0.1:1", "--requests", "1")
    assert done.returncode == 4
    assert "Nothing answers at http://127.0.0.1:1 (Connection refused); start the server" in done.stderr
    assert home.run("bench", "run", "--target", "ftp://x", "--requests", "1").returncode == 2
    assert home.run("bench", "show", "nobody").returncode == 1
    rateless = home.run("bench", "run", "--target", "http://127.0.0.1:1", "--requests", "1", "--arrival", "constant")
    assert (rateless.returncode, "the requests of --rate arrive: give that, too" in rateless.stderr) == (2, True)
    without_key = home.run("bench", "run", "--target", "http://127.0.0.1:1", "--requests", "1", "--key", "env:NOT_SET")
    assert (without_key.returncode, "NOT_SET" in without_key.stderr) == (2, True)


# ---- our own server --------------------------------------------------------------------------------------------------


def test_every_api_of_our_server_is_measured_and_paired(home: Home, fake_server: Running) -> None:
    targets = [{"url": fake_server.url, "kind": kind, "models": ["fake"]} for kind in ("openai", "ollama", "anthropic")]
    spec = {"targets": targets, "scenarios": ["D(40,12)"], "requests": 4, "loads": [{"levels": [2]}]}
    (home.folder / "spec.yaml").write_text(json.dumps(spec))
    told = bench(home, "run", "--spec", "spec.yaml")
    assert [cell["outcomes"] for cell in told["cells"]] == [{"ok": 4}] * 3
    assert not [cell for cell in told["cells"] if "inexact-length" in cell["flags"]]
    assert told["warnings"] == []
    with store_of(home) as store:
        run = store.run("last")
        samples, pairs = store.samples(run.id), store.pairs(run.id)
    for sample in samples:
        row = json.loads(next(pair.timeline_json for pair in pairs[sample.id] if pair.source == "heylook"))
        assert row["client_request_id"] == sample.client_request_id
        assert row["output_tokens"] == sample.out_usage
        (residual,) = (pair.residual_ns for pair in pairs[sample.id] if pair.source == "heylook")
        assert residual is not None
        assert 0 <= residual < (sample.t_end or 0) - (sample.t_start or 0)
    added = {(sample.cell_id, (sample.in_usage or 0) - (sample.in_planned or 0)) for sample in samples}
    assert len(added) == 3, "what the template adds is the same for each of a cell"


@LONG
def test_cold_and_prefix_cells_are_what_they_say(home: Home, fake_server: Running) -> None:
    options = ("--model", "fake", "--scenario", "D(400,4)", "--requests", "4", "--cache", "cold", "--cache", "prefix75")
    told = bench(home, "run", "--target", fake_server.url, *options)
    assert [cell["outcomes"] for cell in told["cells"]] == [{"ok": 4}, {"ok": 4}]
    with store_of(home) as store:
        run = store.run("last")
        cold, shared = (store.samples(run.id, cell.id) for cell in store.cells(run.id))
        pairs = store.pairs(run.id)
    rows = [json.loads(pairs[sample.id][0].timeline_json) for sample in cold]
    assert all(row["timeline"]["load_end_ns"] is not None for row in rows), "each waited for its load"
    assert all((sample.cached or 0) >= 300 for sample in shared[1:])
    assert all((sample.cached or 0) < 100 for sample in cold)


@LONG
def test_a_run_goes_on_although_its_model_is_no_longer_loaded(home: Home, fake_server: Running) -> None:
    _ask(fake_server, "POST", "/v1/models/fake/load")
    first = bench(home, "run", "--target", fake_server.url, "--scenario", "D(40,4)", "--requests", "2")
    for model in ("fake", "slow"):
        _ask(fake_server, "POST", f"/v1/models/{model}/unload")
    again = bench(home, "resume")
    assert (again["state"], again["samples"]) == ("done", first["samples"])


def _ask(server: Running, method: str, path: str) -> None:
    asked = urllib.request.Request(server.url + path, b"{}", {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(asked, timeout=60) as response:
        assert response.status == 200
