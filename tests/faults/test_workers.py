"""What a worker's death, silence or noise costs: its own requests a typed error, and nobody else anything."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import uvloop

from heylook_llm.errors import LoadFailed, Unavailable, WorkerDied
from heylook_llm.server import plan
from heylook_llm.server.router import ModelRouter
from tests.server.routing import answer, ask, chat, routing, until

pytestmark = [pytest.mark.integration, pytest.mark.skipif(sys.platform != "linux", reason="Linux's signals and /proc")]
ENDLESS = "[[count:100000]]"
TWO = """
prewarm: false
models:
  - {id: a, provider: fake, config: {n_ctx: 900000, decode_tokens_per_second: 200}}
  - {id: b, provider: fake, config: {n_ctx: 900000, decode_tokens_per_second: 200}}
"""


@pytest.fixture(scope="module")
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """uvloop, as in production; tests/server runs on asyncio's own loop. Their subprocesses differ."""
    policy: asyncio.AbstractEventLoopPolicy = uvloop.EventLoopPolicy()
    return policy


async def streaming(router: ModelRouter, model: str, text: str = ENDLESS) -> "asyncio.Task[object]":
    """A request whose stream has begun."""
    begun = asyncio.Event()

    async def stream() -> None:
        async with router.acquire(model) as lease:
            async for _ in lease.generate(chat(model, text)):
                begun.set()

    task: asyncio.Task[object] = asyncio.ensure_future(stream())
    await asyncio.wait_for(begun.wait(), 5)
    return task


def pid_of(router: ModelRouter, model: str) -> int:
    """Of its worker."""
    pid = router.status(model).pid
    assert pid is not None
    return pid


async def test_kill_9_in_mid_stream() -> None:
    async with routing(TWO) as router:
        tasks = [await streaming(router, "a") for _ in range(3)]
        other = await streaming(router, "b")
        killed = pid_of(router, "a")
        os.kill(killed, signal.SIGKILL)
        begun = time.monotonic()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 2)
        assert time.monotonic() - begun < 1
        assert [type(result) for result in results] == [WorkerDied] * 3
        assert router.status("a").state == "crashed"
        assert router.status("a").crashes == 1
        assert not other.done(), "the other model streams on"
        assert await ask(router, "a") == "hello"
        assert pid_of(router, "a") != killed
        assert router.status("a").state == "ready"
        other.cancel()


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS"])
async def test_a_crash_on_command_and_the_next_request(name: str) -> None:
    async with routing(TWO) as router:
        with pytest.raises(WorkerDied) as caught:
            await ask(router, "a", f"[[crash:{name}]]")
        assert caught.value.retry_after_seconds
        assert await ask(router, "a") == "hello"


async def test_a_crash_after_some_tokens_keeps_what_came_before() -> None:
    async with routing(TWO) as router, router.acquire("a") as lease:
        text = ""
        stream = lease.generate(chat("a", "[[say:0123456789]][[crash:after=5]]"))
        try:
            async for events in stream:
                text += "".join(getattr(event, "text", "") for event in events)
        except WorkerDied:
            text += "!"
        assert text == "01234!"


async def test_a_stopped_worker_is_found_and_replaced() -> None:
    async with routing(TWO, stall_seconds=1.0) as router:
        task = await streaming(router, "a")
        stopped = pid_of(router, "a")
        os.kill(stopped, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(WorkerDied, match="no progress"):
            await asyncio.wait_for(task, 5)
        assert 0.5 < time.monotonic() - begun < 2.5
        assert router.status("a").state == "stalled"
        await until(lambda: not psutil.pid_exists(stopped), 1)
        assert await ask(router, "a") == "hello"


async def test_a_hung_step_is_found_though_pings_are_answered() -> None:
    async with routing(TWO, stall_seconds=1.0) as router:
        begun = time.monotonic()
        with pytest.raises(WorkerDied, match="no progress"):
            await ask(router, "a", "[[hang]]")
        assert time.monotonic() - begun < 4


async def test_a_stall_shorter_than_the_limit_is_waited_for() -> None:
    async with routing(TWO, stall_seconds=2.0) as router:
        assert await ask(router, "a", "[[stall:0.8]][[say:late]]") == "late"


async def test_three_crashes_open_the_circuit() -> None:
    async with routing(TWO) as router:
        for _ in range(plan.CRASHES):
            with pytest.raises(WorkerDied):
                await ask(router, "a", "[[crash:SIGKILL]]")
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="crashed 3 times") as caught:
            await ask(router, "a")
        assert time.monotonic() - begun < 0.1
        assert 25 < (caught.value.retry_after_seconds or 0) <= 30
        assert router.status("a").pid is None
        assert await ask(router, "b") == "hello"


async def test_crashes_while_loading_open_the_circuit_too() -> None:
    async with routing("models: [{id: bad, provider: fake, config: {load_crash: SIGABRT}}]") as router:
        for _ in range(plan.CRASHES):
            with pytest.raises(LoadFailed):
                await ask(router, "bad")
        with pytest.raises(Unavailable, match="crashed 3 times"):
            await ask(router, "bad")


async def test_why_a_load_failed_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with routing("models: [{id: bad, provider: fake, config: {load_crash: NO_SUCH_SIGNAL}}]") as router:
        with pytest.raises(LoadFailed, match="the log has the cause"):
            await ask(router, "bad")

        def told() -> list[str]:
            return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

        await until(lambda: any("worker bad couldn't load" in text and "NO_SUCH_SIGNAL" in text for text in told()), 2)


async def test_a_load_that_hangs_tells_its_waiters() -> None:
    models = "models: [{id: slow, provider: fake, config: {load_hang: true}}, {id: a, provider: fake}]"
    async with routing(models, load_timeout_seconds=2.0) as router:
        hanging = [asyncio.ensure_future(ask(router, "slow")) for _ in range(2)]
        await until(lambda: router.status("slow").state == "loading")
        behind = asyncio.ensure_future(ask(router, "a"))
        results = await asyncio.wait_for(asyncio.gather(*hanging, return_exceptions=True), 10)
        assert [type(result) for result in results] == [LoadFailed] * 2
        assert await asyncio.wait_for(behind, 10) == "hello"


async def test_kills_at_random_moments_lose_no_request_and_no_process() -> None:
    async with routing(TWO, stall_seconds=5.0) as router:
        before = {child.pid for child in psutil.Process().children()}
        outcomes: list[str] = []

        async def client(number: int) -> None:
            try:
                outcomes.append(await ask(router, "a", f"[[say:{number}]]"))
            except WorkerDied:
                outcomes.append("died")
            except (Unavailable, LoadFailed):
                outcomes.append("refused")

        for round_ in range(10):
            clients = [asyncio.ensure_future(client(number)) for number in range(8)]
            if (pid := router.status("a").pid) is not None and round_ % 2:
                os.kill(pid, signal.SIGKILL)
            await asyncio.wait_for(asyncio.gather(*clients), 20)
        assert len(outcomes) == 80
        assert set(outcomes) <= {*map(str, range(8)), "died", "refused"}
        await until(lambda: router.status("a").in_flight == router.status("a").queued == 0)

        def left_over() -> set[int]:
            mine = {child.pid for child in psutil.Process().children()} - before
            return mine.difference(pid for status in router.models() if (pid := status.pid) is not None)

        await until(lambda: not left_over(), 1)


PARENT = """
import asyncio, sys
from pathlib import Path
from heylook_llm import config
from heylook_llm.server.router import ModelRouter

async def main():
    router = ModelRouter(config.parse(sys.argv[1], Path("/nowhere/m.yaml")))
    await asyncio.gather(*(router.load(name) for name in sys.argv[2:-1]))
    loading = asyncio.ensure_future(router.load(sys.argv[-1]))
    while router.status(sys.argv[-1]).pid is None:
        await asyncio.sleep(0.01)
    print(*(status.pid for status in router.models()), flush=True)
    await loading

asyncio.run(main())
"""


@pytest.mark.parametrize("stopped", [False, True])
async def test_workers_go_when_their_parent_is_killed(stopped: bool) -> None:
    """Also one that is stopped and can't read its input's end, and one that is still loading."""
    models = (
        "max_loaded_models: 3\nmodels: [{id: a, provider: fake}, {id: b, provider: fake}, "
        "{id: slow, provider: fake, config: {load_seconds: 60}}]"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, models, "a", "b", "slow"), stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await asyncio.wait_for(parent.stdout.readline(), 20)).split()]
    assert len(pids) == 3
    if stopped:
        os.kill(pids[0], signal.SIGSTOP)
    parent.kill()
    await parent.wait()
    await until(lambda: not any(_runs(pid) for pid in pids), 2)


def _runs(pid: int) -> bool:
    """Whether it is there and no zombie: an orphan's zombie is its new parent's to reap."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_lease_on_a_dead_worker_is_told_and_the_next_lease_works() -> None:
    async with routing(TWO) as router:
        async with router.acquire("a") as lease:
            os.kill(pid_of(router, "a"), signal.SIGKILL)
            await until(lambda: router.status("a").state == "crashed", 1)
            with pytest.raises(WorkerDied):
                await answer(lease, chat("a", "hello"))
        assert await ask(router, "a") == "hello"
