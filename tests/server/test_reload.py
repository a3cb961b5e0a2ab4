"""The registry changes while the server runs."""

import asyncio
from pathlib import Path

import pytest

from heylook_llm import config, registry
from heylook_llm.config import Settings
from heylook_llm.errors import ModelNotFound
from heylook_llm.server.reload import RegistryWatch
from tests.server.routing import THREE, answer, ask, chat, routing, until

unit = pytest.mark.unit
integration = pytest.mark.integration
PATH = Path("/nowhere/models.yaml")
HELLO = "models: [{id: a, provider: fake, config: {reply: hello}}]"


def parsed(text: str) -> Settings:
    return config.parse(f"prewarm: false\n{text}", PATH)


# ---- the files -------------------------------------------------------------------------------------------------------


@unit
async def test_a_change_is_read_once_it_rests(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(HELLO)
    seen: list[Settings] = []
    watch = RegistryWatch(path, lambda: registry.load(path), seen.append)
    await watch.look()
    path.write_text(HELLO.replace("id: a", "id: other"))
    await watch.look()
    assert seen == [], "it may still be being written"
    await watch.look()
    assert [spec.id for spec in seen.pop().models] == ["other"]
    await watch.look()
    assert seen == []


@unit
async def test_a_broken_change_keeps_what_was_good(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(HELLO)
    seen: list[Settings] = []
    watch = RegistryWatch(path, lambda: registry.load(path), seen.append)
    for text, words in (("models: [", "line 1"), ("modles: []", "did you mean `models`")):
        path.write_text(text)
        await watch.look()
        await watch.look()
        assert watch.error is not None
        assert words in watch.error
    path.unlink()
    await watch.look()
    await watch.look()
    assert "no such file" in (watch.error or "")
    assert seen == []
    path.write_text(HELLO)
    registry.write(registry.overlay_path(path), "models: [{id: b, provider: fake}]")
    await watch.look()
    await watch.look()
    assert watch.error is None
    assert [spec.id for spec in seen[0].models] == ["a", "b"]


# ---- the router ------------------------------------------------------------------------------------------------------


@integration
async def test_a_new_model_is_served_and_a_removed_one_is_not() -> None:
    async with routing(HELLO) as router:
        assert await ask(router, "a", "[[say:x]]") == "x"
        router.configure(parsed("models: [{id: b, aliases: [bee], provider: fake}]"))
        assert [status.spec.id for status in router.models()] == ["b"]
        assert await ask(router, "bee", "[[say:y]]") == "y"
        with pytest.raises(ModelNotFound):
            await ask(router, "a")
        await until(lambda: list(router._entries) == ["b"])


@integration
async def test_what_is_in_flight_ends_as_it_began() -> None:
    slow = "models: [{id: a, provider: fake, config: {decode_tokens_per_second: 200}}]"
    async with routing(slow) as router, router.acquire("a") as lease:
        running = asyncio.create_task(answer(lease, chat("a", "[[count:60]]")))
        await until(lambda: router.status("a").in_flight == 1)
        router.configure(parsed("models: []"))
        assert router.models() == []
        assert (await running).choices[0].text.endswith(" 60")


@integration
async def test_another_config_takes_effect_once_idle_and_who_waits_gets_it() -> None:
    async with routing(HELLO) as router:
        async with router.acquire("a") as lease:
            pid = router.status("a").pid
            router.configure(parsed(HELLO.replace("hello", "bye")))
            assert router.status("a").state == "draining"
            waiting = asyncio.create_task(ask(router, "a", "?"))
            assert (await answer(lease, chat("a", "?"))).choices[0].text == "hello"
            assert not waiting.done()
        assert await waiting == "bye"
        assert router.status("a").pid != pid


@integration
async def test_what_needs_no_load_changes_at_once() -> None:
    async with routing(THREE) as router:
        await ask(router, "a")
        pid = router.status("a").pid
        changed = THREE.replace("{id: a,", "{id: a, pinned: true, aliases: [alpha], idle_ttl: 60,")
        router.configure(parsed(changed.replace("prewarm: false", "")))
        status = router.status("alpha")
        assert (status.pid, status.pinned, status.state, status.expires) == (pid, True, "ready", False)
        await router.pin("a", False)
        assert router.status("a").expires
        router.configure(parsed(changed.replace("prewarm: false", "")))
        assert not router.status("a").pinned, "an operator's word stands until the entry itself changes"


@integration
async def test_a_removed_model_that_is_waited_for_is_loaded_for_those_and_ends() -> None:
    models = "models: [{id: a, provider: fake, config: {load_seconds: 0.3}}]"
    async with routing(models) as router:
        waiting = asyncio.create_task(ask(router, "a", "[[say:served]]"))
        await until(lambda: router.status("a").state == "loading")
        router.configure(parsed("models: []"))
        assert await waiting == "served"
        await until(lambda: router._entries == {})


@integration
async def test_a_new_default_is_loaded() -> None:
    async with routing(THREE) as router:
        router.configure(config.parse("default_model: b\n" + THREE.replace("prewarm: false", ""), PATH))
        assert router.default_model == "b"
        await until(lambda: router.status("b").state == "ready")
