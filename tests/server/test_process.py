"""One worker process, from its parent's side."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from heylook_llm import config, core, pipe
from heylook_llm.errors import BadRequest, EngineError, InsufficientMemory, LoadFailed, WorkerDied
from heylook_llm.server.process import (
    FOLDER_PREFIX,
    STDERR_LINES,
    Stderr,
    Watch,
    WorkerProcess,
    _Outbox,
    fold_events,
    remove_left_folders,
    worker_environment,
)
from tests.server.routing import chat, until

unit = pytest.mark.unit
integration = pytest.mark.integration


def new_process(options: str = "", stall_seconds: float = 60.0, load_timeout_seconds: float = 60.0) -> WorkerProcess:
    settings = config.parse(f"models: [{{id: m, provider: fake, config: {{{options}}}}}]", Path("/nowhere/m.yaml"))
    return WorkerProcess(settings.models[0], stall_seconds=stall_seconds, load_timeout_seconds=load_timeout_seconds)


def load_frame(process: WorkerProcess) -> core.Load:
    spec = process.spec
    return core.Load(spec.id, spec.provider, "", spec.config.model_dump(mode="json"))


@contextlib.asynccontextmanager
async def ready(options: str = "", load_timeout_seconds: float = 60.0) -> AsyncIterator[WorkerProcess]:
    process = new_process(options, load_timeout_seconds=load_timeout_seconds)
    await process.start(load_frame(process))
    try:
        yield process
    finally:
        await process.stop()
        assert process.pid is not None
        assert not psutil.pid_exists(process.pid)


async def collect(process: WorkerProcess, text: str, **sampling: object) -> list[core.Event]:
    return [event async for events in process.submit(chat("m", text, **sampling)) for event in events]


# ---- pure parts ------------------------------------------------------------------------------------------------------


@unit
def test_environment_keeps_engines_switches_and_no_secret() -> None:
    kept = {"PATH": "/bin", "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "0", "LC_ALL": "C", "LD_LIBRARY_PATH": "/l"}
    dropped = {
        **{
            "HF_TOKEN": "x",
            "OPENAI_API_KEY": "x",
            "HOME": "/root",
            "AWS_SECRET_ACCESS_KEY": "x",
            "HEYLOOK_API_KEY": "x",
        },
        **{"GGML_AUTH": "x", "CUDA_API_TOKEN": "x", "SSH_AUTH_SOCK": "x", "http_proxy": "http://user:pw@proxy"},
    }
    ours = {"GGML_NO_BACKTRACE": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    assert worker_environment({**kept, **dropped}) == {**ours, **kept}
    given = {"GGML_NO_BACKTRACE": "0", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
    assert worker_environment(given) == given


@unit
def test_watch_tells_silence_from_stuck_and_from_loading() -> None:
    watch = Watch(stall_seconds=4.0, load_seconds=10.0, now=0.0)
    now = 0.0

    def ticks(seconds: float, live: int, steps: int | None = None, running: int = 1) -> str | None:
        nonlocal now
        for _ in range(round(seconds)):
            now += 1.0
            if steps is not None:
                watch.pong(core.WorkerStats(steps=steps, running=running))
            if (trouble := watch.tick(now, live)) is not None:
                return trouble
        return None

    assert ticks(9, 0) is None
    watch.loading()
    assert ticks(9, 0) is None
    watch.ready()
    assert ticks(100, 0, steps=1) is None, "idle is no stall"
    assert ticks(4, 1, steps=1) is None
    assert ticks(4, 1, steps=2) is None
    assert ticks(9, 1, steps=2) == "no step while requests wait"
    watch.ready()
    assert ticks(39, 1, steps=2, running=0) is None, "a prompt that is being prepared needs no step"
    assert ticks(9, 1, steps=2, running=0) == "no prompt got ready"
    watch.ready()
    for images in (1, 2, 3):
        assert ticks(39, 1, steps=2, running=0) is None
        watch.pong(core.WorkerStats(steps=2, images=images))
    watch.ready()
    assert ticks(9, 0) == "no answer to pings"


@unit
def test_watch_does_not_count_time_in_which_nobody_ran() -> None:
    watch = Watch(stall_seconds=60.0, load_seconds=600.0, now=0.0)
    watch.ready()
    assert watch.tick(3600.0, 1) is None, "the machine slept for an hour"


@unit
def test_stderr_keeps_the_last_lines_of_a_flood() -> None:
    stderr = Stderr("m")
    for _ in range(100):
        stderr.feed(b"x" * 100_000 + b"\n" + b"line\n" * 10_000)
    stderr.feed(b"the ")
    stderr.feed(b"end \xff")
    stderr.end()
    assert len(stderr.lines) == STDERR_LINES
    assert stderr.lines[-1] == "the end \ufffd"


@unit
def test_events_that_lie_are_folded_into_fewer_with_the_same_meaning() -> None:
    begun = core.Progress(0, 0, 10, left_out=("pattern",))
    events: list[core.Event] = [begun, *(core.Progress(0, n, 10) for n in range(5))]
    events += [core.Text(n % 2, f"{n}", (n,)) for n in (0, 2, 4, 1, 3, 6)]
    events += [core.ToolCallStart(0, 0, "i", "f"), core.ToolCallArgs(0, 0, "{"), core.ToolCallArgs(0, 0, "}")]
    noted = [core.Progress(0, 10, 10, times=core.Times(n, 0, 1, n)) for n in (1, 2)]
    assert fold_events([noted[0], core.Text(0, "a"), noted[1], core.Text(0, "b")]) == [
        core.Text(0, "a"),
        noted[1],
        core.Text(0, "b"),
    ]
    assert fold_events(events) == [
        begun,
        core.Progress(0, 4, 10),
        core.Text(0, "0246", (0, 2, 4, 6)),
        core.ToolCallStart(0, 0, "i", "f"),
        core.ToolCallArgs(0, 0, "{}"),
        core.Text(1, "13", (1, 3)),
    ]


class Wire:
    """What an outbox wrote, decoded."""

    def __init__(self) -> None:
        self.decoder: pipe.Decoder[core.Downward] = pipe.Decoder(core.Downward)  # type: ignore[arg-type]  # a union
        self.seen: list[core.Downward] = []
        self.writes = 0
        self.outbox = _Outbox(self.write)

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.seen += self.decoder.feed(data)


def large(number: int) -> core.Submit:
    part = core.ImagePart(b"x" * (3 << 20), 1024, 1024)
    return core.Submit(number, core.Request("r", "m", (core.ChatPrompt((core.Message("user", (part,)),)),)))


@unit
def test_short_frames_pass_between_the_pieces_of_a_long_one() -> None:
    wire = Wire()
    wire.outbox.pause()
    wire.outbox.send(large(1))
    wire.outbox.send(core.Ping(7))
    wire.outbox.resume()
    assert [type(message) for message in wire.seen] == [core.Ping, core.Submit]
    assert wire.writes > 4


@unit
def test_a_cancel_never_overtakes_its_own_request() -> None:
    unsent, half = Wire(), Wire()
    unsent.outbox.pause()
    unsent.outbox.send(large(1))
    unsent.outbox.cancel(1)
    unsent.outbox.resume()
    assert unsent.seen == []

    def pause_after_a_piece(data: bytes) -> None:
        half.write(data)
        half.outbox.pause()

    half.outbox = _Outbox(pause_after_a_piece)
    half.outbox.send(large(2))
    half.outbox.cancel(2)
    while len(half.seen) < 2:
        half.outbox.resume()
    assert isinstance(half.seen[0], core.Submit)
    assert half.seen[1] == core.Cancel(2)


FLOOD = """
import os, sys, time
fd, sent, end = os.open(sys.argv[1], os.O_WRONLY), 0, time.monotonic() + 1
while time.monotonic() < end:
    sent += os.write(fd, b"a line of a log that never ends\\n" * 2000)
print(sent)
"""


# ---- a real worker ---------------------------------------------------------------------------------------------------


@integration
async def test_a_worker_answers_and_stamps_the_hand_over() -> None:
    async with ready() as process:
        events = await collect(process, "hello")
        assert "".join(event.text for event in events if isinstance(event, core.Text)) == "hello"
        done = events[-1]
        assert isinstance(done, core.Done)
        timeline = done.timeline
        assert timeline.submitted_ns is not None
        assert timeline.first_token_ns is not None
        assert timeline.submitted_ns <= timeline.first_token_ns


@integration
async def test_a_unary_operation_and_its_error() -> None:
    async with ready() as process:
        assert await process.call(core.Detokenize((104, 105))) == core.Rendered("hi")
        with pytest.raises(Exception, match="rerank"):
            await process.call(core.Rerank("x", ("y",)))


@integration
async def test_leaving_a_call_stops_what_it_computes() -> None:
    texts = tuple(core.TextPrompt("x" * 400) for _ in range(10_000))
    async with ready("prefill_tokens_per_second: 1000, n_ctx: 512") as process:
        asking = asyncio.create_task(process.call(core.Embed(texts)))
        await until(lambda: process.stats is not None and process.stats.running == 1, 20)
        assert process.live == 1
        asking.cancel()
        await until(lambda: process.stats is not None and process.stats.running == 0, 20)
        assert process.live == 0
        assert isinstance(await process.call(core.Embed(texts[:1])), core.Vectors)


@integration
async def test_what_can_not_be_sent_is_refused_and_leaves_nothing_live() -> None:
    prompt = core.ChatPrompt((), tools=(core.Tool("f", "", {"maximum": 10**30}),))
    async with ready() as process:
        with pytest.raises(BadRequest, match="beyond 64 bits"):
            await anext(process.submit(core.Request("r", "m", (prompt,))))
        with pytest.raises(BadRequest, match="beyond 64 bits"):
            await process.call(core.Render(prompt))
        assert process.live == 0  # or the watchdog would take the worker for stalled
        assert await collect(process, "hi")


@integration
async def test_a_slow_consumer_costs_little_and_loses_nothing() -> None:
    async with ready("n_ctx: 100000") as process:
        stream = process.submit(chat("m", "[[count:5000]]"))
        events = list(await anext(stream))
        await until(lambda: process.live == 0, 20)
        queued = list(await anext(stream))
        assert len(queued) < 1100
        events += queued
        assert [event async for more in stream for event in more] == []
        text = "".join(event.text for event in events if isinstance(event, core.Text))
        assert text == " ".join(map(str, range(1, 5001)))


@integration
async def test_the_child_gets_a_clean_environment_and_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary-7f3a")
    monkeypatch.setenv("CUDA_SECRET", "canary-7f3a")
    with open(os.devnull) as file:  # noqa: ASYNC230 (opened to be leaked)
        os.set_inheritable(file.fileno(), True)
        async with ready() as process:
            child = Path(f"/proc/{process.pid}")
            assert b"canary" not in (child / "environ").read_bytes()
            assert b"HOME=" not in (child / "environ").read_bytes()
            descriptors = {int(fd.name) for fd in (child / "fd").iterdir()}
            assert file.fileno() not in descriptors
            links = {os.readlink(child / "fd" / str(fd)) for fd in descriptors}
            assert all(link.startswith(("pipe:", "socket:", "/dev/null", "anon_inode:")) for link in links), links
            assert list((child / "cwd").resolve().iterdir()) == []
            assert process.pid is not None
            assert resource.prlimit(process.pid, resource.RLIMIT_CORE)[0] == 0
            assert os.getsid(process.pid) == process.pid, "Ctrl-C in our terminal passes it by"
            status = (child / "status").read_text()
            assert "NoNewPrivs:\t1" in status
            folder = (child / "cwd").resolve()
    assert not folder.exists()


@integration
def test_folders_of_a_killed_server_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    left, used = tmp_path / f"{FOLDER_PREFIX}{gone.pid}-a", tmp_path / f"{FOLDER_PREFIX}{gone.pid}-b"
    ours, foreign = tmp_path / f"{FOLDER_PREFIX}{os.getpid()}-a", tmp_path / f"{FOLDER_PREFIX}x"
    for folder in (left, used, ours, foreign):
        folder.mkdir()
    (used / "file").touch()
    remove_left_folders()
    assert sorted(tmp_path.iterdir()) == sorted([used, ours, foreign])


@integration
async def test_a_refused_load_raises_what_the_worker_said() -> None:
    process = new_process("load_error: wrong shape")
    with pytest.raises(LoadFailed, match="wrong shape"):
        await process.start(load_frame(process))
    assert process.state == "ended"
    assert process.fault is None or not psutil.pid_exists(process.pid or 0)


@integration
@pytest.mark.parametrize(
    ("name", "kind"), [("SIGSEGV", LoadFailed), ("SIGABRT", LoadFailed), ("SIGKILL", InsufficientMemory)]
)
async def test_a_crash_while_loading(name: str, kind: type[EngineError], caplog: pytest.LogCaptureFixture) -> None:
    process = new_process(f"load_crash: {name}")
    with pytest.raises(kind) as caught:
        await process.start(load_frame(process))
    assert name not in str(caught.value)
    assert process.fault == "crashed"
    await until(lambda: name in caplog.text)


@integration
async def test_a_load_that_hangs_is_given_up() -> None:
    process = new_process("load_hang: true", load_timeout_seconds=0.4)
    begun = time.monotonic()
    with pytest.raises(LoadFailed, match="no further"):
        await process.start(load_frame(process))
    assert time.monotonic() - begun < 3
    assert process.pid is not None
    assert not psutil.pid_exists(process.pid)


@integration
async def test_a_slow_load_that_advances_is_not_given_up() -> None:
    async with ready("load_seconds: 3", load_timeout_seconds=2.0) as process:
        assert process.load_fraction > 0.5


@integration
async def test_a_cancelled_load_leaves_no_process() -> None:
    process = new_process("load_seconds: 30")
    loading = asyncio.ensure_future(process.start(load_frame(process)))
    await until(lambda: process.load_fraction > 0)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert process.pid is not None
    assert not psutil.pid_exists(process.pid)


@integration
async def test_stop_ends_even_a_stopped_process() -> None:
    process = new_process()
    await process.start(load_frame(process))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    await process.stop(grace_seconds=0.1)
    assert not psutil.pid_exists(process.pid)


@integration
async def test_bytes_that_are_no_frame_end_the_worker() -> None:
    async with ready() as process:
        waiting = asyncio.ensure_future(collect(process, "[[hang]]"))
        await until(lambda: process.live == 1)
        process.pipe_data_received(1, b"\xff\xff\xff\x7fgarbage")
        with pytest.raises(WorkerDied):
            await asyncio.wait_for(waiting, 1)
        assert process.fault == "crashed"


@integration
async def test_requests_after_the_death_are_told_at_once() -> None:
    async with ready() as process:
        os.kill(process.pid or 0, signal.SIGKILL)
        await until(lambda: process.state == "ended", 1)
        with pytest.raises(WorkerDied):
            await collect(process, "hello")
        with pytest.raises(WorkerDied):
            await process.call(core.Stats())


@integration
async def test_the_reply_names_neither_signal_nor_log(caplog: pytest.LogCaptureFixture) -> None:
    async with ready() as process:
        with pytest.raises(WorkerDied) as caught:
            await collect(process, "[[crash:SIGABRT]]")
        assert "SIGABRT" not in caught.value.message
        await until(lambda: "SIGABRT" in caplog.text)


@integration
async def test_a_flood_on_stderr_blocks_nothing() -> None:
    async with ready() as process:
        flood = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FLOOD, f"/proc/{process.pid}/fd/2"), stdout=asyncio.subprocess.PIPE
        )
        begun = time.monotonic()
        while flood.returncode is None and time.monotonic() - begun < 0.9:
            assert isinstance((await collect(process, "hello"))[-1], core.Done)
        out, _ = await flood.communicate()
        assert int(out) > 10 << 20
        assert len(process._stderr.lines) <= STDERR_LINES


@integration
async def test_a_hundred_streams_share_a_worker() -> None:
    async with ready("n_parallel: 8") as process:
        texts = await asyncio.gather(*(collect(process, f"[[say:number {n}]]") for n in range(100)))
        for number, events in enumerate(texts):
            assert "".join(e.text for e in events if isinstance(e, core.Text)) == f"number {number}"
        assert process.live == 0


if sys.platform != "linux":
    pytestmark = pytest.mark.skip(reason="reads /proc")
