"""The router over real workers of the fake provider."""

import asyncio
import contextlib
import math
import time
from pathlib import Path

import psutil
import pytest

from heylook_llm import config, core
from heylook_llm.errors import (
    Cancelled,
    Conflict,
    InsufficientMemory,
    LoadFailed,
    ModelNotFound,
    Overloaded,
    ShuttingDown,
    Unavailable,
)
from heylook_llm.server.fit import Bytes
from heylook_llm.server.router import ModelRouter
from tests.server.routing import THREE, answer, ask, chat, idle, routing, stats, until

pytestmark = pytest.mark.integration
SLOW_LOAD = """
max_loaded_models: 2
prewarm: false
models:
  - {id: slow, provider: fake, config: {load_seconds: 20}}
  - {id: a, provider: fake, config: {}}
"""


async def test_three_models_share_two_places_under_load() -> None:
    async with routing(same_model_age_seconds=0.2) as router:

        async def client(model: str) -> None:
            for number in range(5):
                assert await ask(router, model, f"[[say:{model} {number}]]") == f"{model} {number}"

        await asyncio.gather(*(client(model) for model in "abcabcabc"))
        states = [status.state for status in router.models()]
        assert states.count("ready") + states.count("draining") <= 2
        assert all(status.in_flight == status.queued == 0 for status in router.models())


async def test_requests_join_a_load_in_flight_and_say_how_long_it_took() -> None:
    async with routing() as router:

        async def client() -> tuple[int | None, tuple[int, int] | None]:
            async with router.acquire("a") as lease:
                return router.status("a").pid, lease.load_ns

        seen = await asyncio.gather(*(client() for _ in range(5)))
        assert len({pid for pid, _ in seen}) == 1
        assert all(load is not None and load[0] < load[1] <= time.monotonic_ns() for _, load in seen)
        async with router.acquire("a") as lease:
            assert lease.load_ns is None, "it was loaded already"


async def test_names_and_aliases() -> None:
    models = "models: [{id: Org/One, aliases: [gpt-4o], provider: fake}, {id: hidden, provider: fake, enabled: false}]"
    async with routing(models) as router:
        for name in ("org/one", "Org/One:latest", "GPT-4o", " gpt-4o:latest"):
            assert router.resolve(name).id == "Org/One"
        for name in ("one", "hidden", ""):
            with pytest.raises(ModelNotFound):
                router.resolve(name)
        with pytest.raises(ModelNotFound):
            async with router.acquire("nope"):
                pass


async def test_the_default_model_is_loaded_at_start() -> None:
    async with routing("default_model: a\nmodels: [{id: a, provider: fake}]") as router:
        assert router.status("a").state in ("unloaded", "loading")
        await until(lambda: router.status("a").state == "ready")
        assert router.status("a").in_flight == 0


async def test_a_failing_prewarm_is_shown_and_not_fatal() -> None:
    models = """
default_model: bad
models:
  - {id: bad, provider: fake, config: {load_error: no such luck}}
  - {id: a, provider: fake}
"""
    async with routing(models) as router:
        await until(lambda: router.status("bad").last_error is not None)
        assert "no such luck" in (router.status("bad").last_error or "")
        assert await ask(router, "a") == "hello"


async def test_a_failed_load_tells_each_waiter_once() -> None:
    async with routing("models: [{id: bad, provider: fake, config: {load_error: damaged}}]") as router:
        results = await asyncio.gather(*(ask(router, "bad") for _ in range(4)), return_exceptions=True)
        assert [type(result) for result in results] == [LoadFailed] * 4
        assert router.status("bad").queued == 0


async def test_a_damaged_file_starts_no_worker(tmp_path: Path) -> None:
    damaged = tmp_path / "m.gguf"
    damaged.write_bytes(b"GGUF" + b"\xff" * 60)
    models = f"models: [{{id: m, provider: llama_cpp, config: {{model_path: {damaged}}}}}]"
    async with routing(models) as router:
        before = psutil.Process().children()
        begun = time.monotonic()
        with pytest.raises(LoadFailed, match="version"):
            await ask(router, "m")
        assert time.monotonic() - begun < 1
        assert psutil.Process().children() == before
        assert str(tmp_path) not in (router.status("m").last_error or "")


async def test_a_missing_file_is_named_without_its_path(tmp_path: Path) -> None:
    models = f"models: [{{id: m, provider: llama_cpp, config: {{model_path: {tmp_path}/none.gguf}}}}]"
    async with routing(models) as router:
        with pytest.raises(LoadFailed, match="does not exist") as caught:
            await ask(router, "m")
        assert str(tmp_path) not in caught.value.message


async def test_a_model_that_can_not_be_measured_blocks_no_other(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    models = f"""
prewarm: false
models:
  - {{id: broken, provider: mlx, config: {{model_path: {tmp_path}}}}}
  - {{id: odd, provider: llama_cpp, config: {{model_path: "{"x" * 300}.gguf"}}}}
  - {{id: a, provider: fake, config: {{}}}}
"""
    async with routing(models) as router:
        for model in ("broken", "odd"):
            with pytest.raises(LoadFailed, match="can't be"):
                await ask(router, model)
        assert await ask(router, "a", "hi") == "hi"


async def test_too_little_memory_is_refused_with_the_numbers() -> None:
    models = "models: [{id: big, provider: fake, config: {resident_bytes: 8589934592}}]"
    async with routing(models, lambda: Bytes(1 << 30)) as router:
        with pytest.raises(InsufficientMemory, match=r"8,192 MiB.*1,024 MiB"):
            await ask(router, "big")


async def test_idle_models_make_room_in_memory() -> None:
    one = "provider: fake, config: {resident_bytes: 600000000}"
    limits = "limits: {memory_reserve_bytes: 200000000}"
    models = f"max_loaded_models: 3\n{limits}\nmodels: [{{id: a, {one}}}, {{id: b, {one}}}]"
    started: list[ModelRouter] = []

    def free_memory() -> Bytes:
        loaded = sum(s.pid is not None for router in started for s in router.models())
        return Bytes(1_000_000_000 - 600_000_000 * loaded)

    async with routing(models, free_memory) as router:
        started.append(router)
        await ask(router, "a")
        await ask(router, "b")
        assert [status.state for status in router.models()] == ["unloaded", "ready"]


async def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    async with routing(max_queue=3) as router:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(2 + 3):  # n_parallel run, three wait
                await stack.enter_async_context(router.acquire("a"))
            assert router.status("a").queued == 3
            with pytest.raises(Overloaded) as caught:
                await stack.enter_async_context(router.acquire("a"))
            assert 1 <= (caught.value.retry_after_seconds or 0) <= 30
        assert await ask(router, "a") == "hello"


async def test_a_request_is_cancelled_while_it_waits_for_a_place() -> None:
    async with routing("max_loaded_models: 1\n" + THREE.partition("2\n")[2]) as router:
        async with router.acquire("a"):
            waiting = asyncio.ensure_future(ask(router, "b"))
            await until(lambda: router.status("b").queued == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert router.status("b").queued == 0
        assert await ask(router, "b") == "hello"


async def test_a_load_that_is_stopped_before_its_first_step_leaves_the_model_usable() -> None:
    async with routing(THREE.replace("max_loaded_models: 2", "max_loaded_models: 1")) as router:
        await ask(router, "a")
        async with router.acquire("b"):
            waiting = asyncio.create_task(ask(router, "a"))
            await until(lambda: router.status("a").queued)
            waiting.cancel()  # it hears of it in the loop's next turn, and the load begins in this one
            router.configure(config.parse(THREE, Path("/nowhere/models.yaml")))
            await asyncio.gather(waiting, return_exceptions=True)
            assert waiting.cancelled()
            async with asyncio.timeout(30):
                assert await ask(router, "a", "again") == "again"


async def test_a_load_that_nobody_waits_for_is_stopped() -> None:
    async with routing(SLOW_LOAD) as router:
        waiting = asyncio.ensure_future(ask(router, "slow"))
        await until(lambda: (router.status("slow").load_fraction or 0) > 0)
        pid = router.status("slow").pid
        assert pid is not None
        waiting.cancel()
        await until(lambda: router.status("slow").state == "unloaded", 1.0)
        assert not psutil.pid_exists(pid)
        assert router.status("slow").crashes == 0


async def test_a_load_goes_on_while_another_waits_for_it() -> None:
    async with routing(SLOW_LOAD.replace("20", "0.5")) as router:
        leaves, stays = (asyncio.ensure_future(ask(router, "slow")) for _ in range(2))
        await until(lambda: (router.status("slow").load_fraction or 0) > 0)
        leaves.cancel()
        assert await stays == "hello"


async def test_an_operators_load_outlives_its_client() -> None:
    async with routing(SLOW_LOAD.replace("20", "0.5")) as router:
        order = asyncio.ensure_future(router.load("slow"))
        await until(lambda: router.status("slow").state == "loading")
        order.cancel()
        await until(lambda: router.status("slow").state == "ready")


@pytest.mark.parametrize("text", ["[[count:100000]]", "x" * 3000])
async def test_a_client_that_leaves_frees_its_place(text: str) -> None:
    speeds = "{n_ctx: 900000, n_parallel: 2, prefill_tokens_per_second: 500, prefill_tokens: 64}"
    models = f"models: [{{id: a, provider: fake, config: {speeds}}}]"
    async with routing(models) as router:
        async with router.acquire("a") as lease:
            stream = lease.generate(chat("a", text))
            await anext(stream)
            assert (await stats(router, "a")).running == 1
            await stream.aclose()
            begun = time.monotonic()
            await idle(router, "a")
            assert time.monotonic() - begun < 0.5
        assert router.status("a").in_flight == 0


async def test_a_client_that_leaves_while_queued_in_the_worker_frees_its_place() -> None:
    models = "models: [{id: a, provider: fake, config: {n_ctx: 900000, n_parallel: 1, decode_tokens_per_second: 100}}]"
    async with routing(models) as router, router.acquire("a") as lease, router.acquire("a") as other:
        first = lease.generate(chat("a", "[[count:100000]]"))
        await anext(first)
        second = asyncio.ensure_future(answer(other, chat("a", "hi")))
        deadline = time.monotonic() + 2
        while (await stats(router, "a")).waiting != 1:
            assert time.monotonic() < deadline
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        while (await stats(router, "a")).waiting:
            assert time.monotonic() < deadline
        await first.aclose()


async def test_keep_alive_zero_answers_first_and_unloads_then() -> None:
    async with routing() as router:
        assert await ask(router, "a", keep_alive_seconds=0.0) == "hello"
        await until(lambda: router.status("a").state == "unloaded")
        assert router.status("a").crashes == 0


async def test_the_idle_time_starts_when_the_last_request_ends() -> None:
    async with routing() as router:
        async with router.acquire("a", keep_alive_seconds=0.2):
            status = router.status("a")
            assert status.expires
            await asyncio.wait_for(_longer_than(0.4), 2)
            assert router.status("a").state == "ready"
        await until(lambda: router.status("a").state == "unloaded", 1.0)


async def _longer_than(seconds: float) -> None:
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, seconds)


async def test_expiry_is_told_in_wall_time() -> None:
    async with routing() as router:
        await ask(router, "a", keep_alive_seconds=300.0)
        status = router.status("a")
        assert status.expires_at == pytest.approx(time.time() + 300, abs=1)
        await ask(router, "a", keep_alive_seconds=math.inf)
        assert router.status("a").expires_at is None
        assert not router.status("a").expires


async def test_unload_waits_for_requests_and_force_ends_them() -> None:
    models = "models: [{id: a, provider: fake, config: {n_ctx: 900000, decode_tokens_per_second: 50}}]"
    async with routing(models) as router:
        async with router.acquire("a") as lease:
            stream = lease.generate(chat("a", "[[count:20]]"))
            await anext(stream)
            unloading = asyncio.ensure_future(router.unload("a"))
            await until(lambda: router.status("a").state == "draining")
            async for _ in stream:
                assert not unloading.done()
        assert (await unloading).state == "unloaded"
        async with router.acquire("a") as lease:
            stream = lease.generate(chat("a", "[[count:100000]]"))
            await anext(stream)
            forced = asyncio.ensure_future(router.unload("a", force=True))
            with pytest.raises(Cancelled):
                async for _ in stream:
                    pass
            assert (await forced).state == "unloaded"
        assert await ask(router, "a") == "hello"


async def test_a_pinned_model_stays_and_says_so() -> None:
    async with routing("max_loaded_models: 1\n" + THREE.partition("2\n")[2]) as router:
        await ask(router, "a")
        assert (await router.pin("a", True)).pinned
        with pytest.raises(Unavailable, match="pinned"):
            await ask(router, "b")
        with pytest.raises(Conflict):
            await router.unload("a")
        await router.pin("a", False)
        assert await ask(router, "b") == "hello"


async def test_a_larger_context_reloads_when_idle() -> None:
    async with routing() as router:
        async with router.acquire("a") as lease:
            assert lease.info.n_ctx == 4096
            larger = asyncio.ensure_future(_loaded_ctx(router, 8192))
            await until(lambda: router.status("a").queued == 1)
            assert not larger.done()
            assert await ask(router, "a", n_ctx=2048) == "hello", "a smaller one needs no reload"
        assert await larger == 8192
        assert await _loaded_ctx(router, 4096) == 8192, "and is not taken back"


async def _loaded_ctx(router: ModelRouter, n_ctx: int) -> int:
    async with router.acquire("a", n_ctx=n_ctx) as lease:
        return lease.info.n_ctx


async def test_flush_gives_retained_prefixes_back() -> None:
    async with routing() as router:
        assert await router.flush("a") == core.Flushed()
        await ask(router, "a", "a prompt that is kept for the next who asks it")
        assert (await router.flush("a")).tokens > 0
        assert (await stats(router, "a")).kv_retained_tokens == 0


def saved_prefixes(folder: Path) -> list[Path]:
    """The files of saved prefixes."""
    return list(folder.rglob("*.prefix"))


async def test_flush_deletes_what_an_unloaded_model_left_on_disk(tmp_path: Path) -> None:
    kept = f"prefix_disk_bytes: 1000000, prefix_folder: {tmp_path}"
    async with routing(f"models: [{{id: a, provider: fake, config: {{{kept}}}}}]") as router:
        await ask(router, "a", "a prompt that is long enough to be worth a file of its own")
        await until(lambda: bool(saved_prefixes(tmp_path)))
        await router.unload("a")
        flushed = await router.flush("a")
        assert (flushed.tokens, flushed.saved_bytes > 0) == (0, True)
        assert not saved_prefixes(tmp_path)
        assert await router.flush("a") == core.Flushed()


async def test_close_lets_a_stream_end_and_refuses_new_requests() -> None:
    models = "models: [{id: a, provider: fake, config: {decode_tokens_per_second: 50}}]"
    async with routing(models) as router:
        async with router.acquire("a") as lease:
            stream = lease.generate(chat("a", "[[count:20]]"))
            await anext(stream)
            closing = asyncio.ensure_future(router.close(10))
            await asyncio.sleep(0)
            with pytest.raises(ShuttingDown):
                await ask(router, "a")
            last = [event async for events in stream for event in events][-1]
            assert isinstance(last, core.Done)
            assert not closing.done()
        await asyncio.wait_for(closing, 2)


async def test_close_ends_what_outlasts_the_drain_and_a_second_call_hurries() -> None:
    async with routing() as router, router.acquire("a") as lease:
        stream = lease.generate(chat("a", "[[hang]]"))
        waiting = asyncio.ensure_future(anext(stream))
        await until(lambda: router.status("a").in_flight == 1)
        closing = asyncio.ensure_future(router.close(60))
        await asyncio.sleep(0)
        await asyncio.wait_for(router.close(0), 8)
        with pytest.raises(ShuttingDown):
            await waiting
        await asyncio.wait_for(closing, 8)


async def test_close_while_loading_leaves_nothing() -> None:
    async with routing(SLOW_LOAD) as router:
        waiting = asyncio.ensure_future(ask(router, "slow"))
        await until(lambda: router.status("slow").pid is not None)
        pid = router.status("slow").pid
        await asyncio.wait_for(router.close(5), 5)
        with pytest.raises(ShuttingDown):
            await waiting
        assert pid is not None
        assert not psutil.pid_exists(pid)
