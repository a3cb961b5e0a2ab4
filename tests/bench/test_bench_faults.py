"""Deaths of sender, recorder and target, targets that lie, flood and hang, and keys that must stand nowhere."""

import contextlib
import gzip
import itertools
import json
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest

from heylook_llm.bench.sample import NOT_REACHED, SETTLED, Sample
from tests.bench.places import misbehaving, null_target
from tests.bench.test_runs import LONG, STREAM, TOKEN, bench, going_on, samples_of, store_of
from tests.commands_at_work import COMMAND, Home

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
DEATHS: Final = 200


# ---- keys ------------------------------------------------------------------------------------------------------------

CANARY: Final = "sk-canary-8203-abcdefgh"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="/proc shows what processes were given")
def test_a_key_stands_nowhere_but_in_the_requests(home: Home) -> None:
    output = home.folder / "out"
    options = ("--key", "env:BENCH_CANARY", "--output", str(output), "--requests", "60", "--concurrency", "2")
    with null_target(ttft_ms=20, itl_ms=2, tokens=4) as null:
        process = subprocess.Popen(
            [*COMMAND, "bench", "run", "--no-calibrate", "--target", null.url, "--scenario", "D(5,4)", *options],
            env=home.environment(BENCH_CANARY=CANARY), cwd=home.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            seen = _told_of(process)
            said, complained = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, complained
    assert any(b"heylook_llm.bench.sender" in told for told in seen), "the sender was looked at"
    kept = [path.read_bytes() for path in home.folder.rglob("*") if path.is_file()]
    assert {path.name for path in output.iterdir()} >= {"report.html", "report.xlsx", "samples.jsonl", "spec.json"}
    for told in (*seen, said, complained, *kept):
        assert CANARY.encode() not in told


def _told_of(process: "subprocess.Popen[bytes]") -> list[bytes]:
    """Arguments of the command and its children, and the environments of the children, until it ends."""
    seen: set[bytes] = set()
    while process.poll() is None:
        with contextlib.suppress(psutil.Error, OSError):
            children = psutil.Process(process.pid).children(recursive=True)
            seen.add(Path(f"/proc/{process.pid}/cmdline").read_bytes())
            for child in children:
                parts = [Path(f"/proc/{child.pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
                seen.add(b"\0".join(parts))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    return list(seen)


# ---- targets that lie, flood and hang --------------------------------------------------------------------------------


def _usage(value: str) -> Callable[[socket.socket, bytes], None]:
    last = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": %s}}\n\n'

    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(STREAM + TOKEN + last % value.encode() + b"data: [DONE]\n\n")

    return answer


def _page(connection: socket.socket, _: bytes) -> None:
    connection.sendall(STREAM.replace(b"event-stream", b"html") + b"<html><script>alert(1)</script></html>")


def _packed(connection: socket.socket, _: bytes) -> None:
    bomb = gzip.compress(b"data: " + b"x" * (64 << 20))
    connection.sendall(STREAM.replace(b"close\r\n", b"close\r\ncontent-encoding: gzip\r\n") + bomb)


def _one_line(connection: socket.socket, _: bytes) -> None:
    connection.sendall(STREAM + b'data: {"x": "')
    for _round in range(1024):
        connection.sendall(b"x" * (1 << 20))


LIARS: Final = {
    "minus one": (_usage("-1"), "unreadable"),
    "huge": (_usage("1e308"), "unreadable"),
    "not a number": (_usage("NaN"), "unreadable"),
    "a page": (_page, "truncated"),
    "a bomb": (_packed, "truncated"),
    "a gigabyte": (_one_line, "flood"),
}


@LONG
def test_what_a_lying_target_says_is_in_no_number(home: Home) -> None:
    options = ("--requests", "2", "--scenario", "D(5,2)", "--timeout", "30", "--warmup", "0", "--parallel", "none")
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(misbehaving(answer)) for answer, _ in LIARS.values()]
        targets = [part for url in urls for part in ("--target", url)]
        told = bench(home, "run", *targets, *options, status=4)
    samples = samples_of(home)
    for cell, (name, (_, word)) in zip(told["cells"], LIARS.items(), strict=True):
        assert {one.error_class for one in samples if one.cell_id == cell["id"]} == {word}, name
    shown = home.run("bench", "report", "last", "--format", "json").stdout
    assert "NaN" not in shown
    assert all(not row["measures"] for row in json.loads(shown)["rows"])


@LONG
def test_a_flood_fills_no_memory(home: Home) -> None:
    """The sender holds an answer's most bytes, and hands on its beginning."""
    most = 0
    with misbehaving(_one_line) as url:
        command = [*COMMAND, "bench", "run", "--no-calibrate", "--target", url, "--requests", "6", "--warmup", "0"]
        process = subprocess.Popen(command, env=home.environment(), cwd=home.folder, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
                most = max([most, *(one.memory_info().rss for one in family)])
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
    assert process.returncode == 4
    assert {one.error_class for one in samples_of(home)} == {"flood"}
    assert most < 400 << 20


@LONG
def test_an_answer_that_goes_silent_is_given_up(home: Home) -> None:
    def hang(connection: socket.socket, _: bytes) -> None:
        connection.sendall(STREAM + TOKEN)
        connection.recv(1)

    with misbehaving(hang) as url:
        spec = {"targets": [{"url": url}], "requests": 2, "stall_seconds": 1, "warmup_requests": 0}
        (home.folder / "spec.json").write_text(json.dumps(spec))
        began = time.monotonic()
        bench(home, "run", "--spec", "spec.json", status=4)
    assert time.monotonic() - began < 60, "not its whole timeout"
    assert {(one.outcome, one.error_class) for one in samples_of(home)} == {("timeout", "stall")}


@LONG
def test_a_target_that_only_fails_is_left_alone(home: Home) -> None:
    def refuse(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    with misbehaving(refuse) as url:
        bench(home, "run", "--target", url, "--requests", "5000", "--concurrency", "2", status=4)
    assert 22 <= len(samples_of(home)) < 300


@LONG
def test_a_target_that_refuses_many_and_answers_some_is_measured_on(home: Home) -> None:
    lock, count = threading.Lock(), itertools.count()

    def overloaded(connection: socket.socket, _: bytes) -> None:
        with lock:
            number = next(count)
        if number % 40:
            connection.sendall(b"HTTP/1.1 429 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        else:
            connection.sendall(STREAM + TOKEN + TOKEN.replace(b"null", b'"stop"') + b"data: [DONE]\n\n")

    with misbehaving(overloaded) as url:
        told = bench(home, "run", "--target", url, "--requests", "120", "--concurrency", "2", "--warmup", "1")
    assert sum(told["cells"][0]["outcomes"].values()) == 120
    assert told["cells"][0]["outcomes"]["ok"] in (2, 3)


# ---- deaths ----------------------------------------------------------------------------------------------------------


class Target:
    """A null target that comes back at its address."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.begin()

    def begin(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "heylook_llm.bench.null", "--ttft-ms", "20", "--itl-ms", "2"]
        self.process = subprocess.Popen(
            [*command, "--tokens", "8", "--port", str(self.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert int(self.process.stdout.readline()) == self.port

    def kill(self) -> None:
        """As the kernel would."""
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def dying_target() -> Iterator[Target]:
    target = Target()
    try:
        yield target
    finally:
        target.kill()


@LONG
@pytest.mark.timeout(3600)
def test_two_hundred_deaths_lose_no_sample_that_was_acknowledged(home: Home) -> None:
    chance = random.Random(4711)
    known: dict[str, Sample] = {}
    with dying_target() as target, (home.folder / "complaints").open("ab") as complaints:
        begin = ["bench", "run", "--no-calibrate", "--target", target.url, "--scenario", "D(5,8)"]
        arguments = [*begin, "--requests", "50000", "--concurrency", "4"]
        for death in range(DEATHS):
            process = subprocess.Popen(
                [*COMMAND, *arguments], env=home.environment(), cwd=home.folder,
                stdout=subprocess.DEVNULL, stderr=complaints,
            )  # fmt: skip
            try:
                acknowledged = _until_more_than(home, len(known), process, chance.random() * 0.3)
                children = psutil.Process(process.pid).children(recursive=True)
                _kill(("recorder", "sender", "target")[death % 3], process, children, target)
                process.wait(60)
            finally:
                process.kill()
                process.wait()
            psutil.wait_procs(children, timeout=20)
            found = {one.id: one for one in samples_of(home)}
            assert {name: found.get(name) for name in acknowledged} == acknowledged
            assert {name: found.get(name) for name in known} == known
            assert _is_whole(home)
            known = found
            if target.process.poll() is not None:
                target.begin()
            arguments = ["bench", "resume", "last"]
    measured = [one for one in known.values() if one.phase == "measure"]
    settled = {one.ordinal: one.attempt for one in measured if _needs_no_other(one)}
    assert len(settled) > DEATHS
    assert not [one for one in measured if one.attempt > settled.get(one.ordinal, one.attempt)], (
        "what was committed is sent no second time"
    )
    assert len({(one.ordinal, one.attempt) for one in measured}) == len(measured)
    places = [(one.ordinal, one.in_planned, one.out_asked, one.bytes_out) for one in known.values()]
    assert len({(place, size) for place, _, _, size in places}) == len({place for place, *_ in places}), "same prompts"


def _needs_no_other(sample: Sample) -> bool:
    """Whether a resumed run leaves it as it is: one that never reached its target, which dies now and then, is sent."""
    return sample.outcome in SETTLED and sample.error_class not in NOT_REACHED


def _until_more_than(home: Home, count: int, process: "subprocess.Popen[bytes]", more: float) -> dict[str, Sample]:
    """What the store shows once it has more than that, a moment later."""
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if list(home.folder.rglob("bench.sqlite3")) and len(_shown(home)) > count:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(more)
            return _shown(home)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    said = (home.folder / "complaints").read_text()[-2000:]
    raise AssertionError(f"no sample came: status {process.poll()}, {said}")


def _shown(home: Home) -> dict[str, Sample]:
    with store_of(home) as store:
        runs = store.runs(1)
        return {one.id: one for one in store.samples(runs[0].id)} if runs else {}


def _kill(whom: str, process: "subprocess.Popen[bytes]", children: list[psutil.Process], target: Target) -> None:
    if whom == "target":
        target.kill()
    elif whom == "recorder":
        process.kill()
    else:
        for child in children:
            if "heylook_llm.bench.sender" in child.cmdline():
                child.kill()


def _is_whole(home: Home) -> bool:
    (path,) = home.folder.rglob("bench.sqlite3")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


@LONG
def test_a_conversation_that_was_cut_goes_on_with_the_same_words(home: Home) -> None:
    with null_target(ttft_ms=20, itl_ms=2, tokens=8) as null:
        options = ("--requests", "60", "--concurrency", "3")
        with going_on(home, null.url, *options, samples=20, scenario="T(5)*D(5,8)") as process:
            process.kill()
            process.wait()
        kept = {one.id for one in samples_of(home)}
        assert bench(home, "resume")["cells"][0]["outcomes"] == {"ok": 60}
    samples = [one for one in samples_of(home) if one.phase == "measure"]
    assert kept <= {one.id for one in samples_of(home)}
    assert sorted(one.ordinal for one in samples) == list(range(3, 63))
    turns = {one.ordinal: json.loads(one.extra_json or "{}") for one in samples}
    assert [turns[place]["turn"] for place in range(3, 63)] == [0, 1, 2, 3, 4] * 12
    assert all(turn["answer"] == " null" * 8 for turn in turns.values())
    assert [one.in_planned for one in samples[:5]] == [5, 18, 31, 44, 57]
