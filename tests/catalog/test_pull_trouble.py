"""Pulling while the hub changes, the disk fills up, others pull and delete, and processes are killed."""

import contextlib
import datetime
import email.utils
import json
import os
import random
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heylook_llm import registry
from heylook_llm.catalog import hub as names
from heylook_llm.catalog import library
from heylook_llm.catalog import pull as pulling
from heylook_llm.catalog.hub_client import MAX_ANSWER_BYTES
from heylook_llm.catalog.installed import register, unregister
from heylook_llm.catalog.partial import PARTIAL
from heylook_llm.catalog.pull import Progress, Pull, Pulled
from heylook_llm.errors import Cancelled, Conflict, InsufficientStorage, PullFailed
from tests.catalog.hub import COMMIT, Fault, Hub
from tests.catalog.places import made
from tests.catalog.pulling import DATA, SIZE, begun, fill, models, pull, small_disk
from tests.commands_at_work import COMMAND, Home

pytestmark = pytest.mark.integration
LONG = os.environ.get("HEYLOOK_TEST_TIER") == "long"
FILE = "m-Q4_K_M.gguf"
OTHER = random.Random(2).randbytes(SIZE)
MODEL = made(rows=5000).bytes_()


def partials(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(f"*{PARTIAL}*") if path.is_file()]


def once(fault: Fault, then: Fault | None = None) -> Callable[[str], Fault | None]:
    """This for the first request of bytes, `then` for the second, and nothing for others."""
    faults = iter([fault, then])
    return lambda path: next(faults, None)


# ---- the hub's files change ------------------------------------------------------------------------------------------


def pushed(hub: Hub, data: bytes) -> Callable[[], None]:
    """A new commit, and the old one gone."""
    return lambda: hub.replace("org/model", FILE, data)


def swapped(hub: Hub, data: bytes) -> Callable[[], None]:
    """Another file under the same commit, listed as what it is."""
    return lambda: hub.repositories["org/model"].update({FILE: data})


@pytest.mark.parametrize("change", [pushed, swapped])
@pytest.mark.parametrize("data", [OTHER, OTHER[:250_000], OTHER + b"more"], ids=["same", "shorter", "longer"])
@pytest.mark.parametrize("then", [None, Fault(ignore_if_range=True)], ids=["honest", "mixing"])
def test_a_file_that_changes_midway_is_the_new_one_and_never_a_mix(
    hub: Hub, tmp_path: Path, change: Any, data: bytes, then: Fault | None
) -> None:
    hub.fault = once(Fault(after=100_000, then=change(hub, data)), then)
    assert pull(hub, tmp_path).path.read_bytes() == data
    assert partials(tmp_path) == []


def test_a_resumed_file_is_asked_for_under_the_name_it_had(hub: Hub, tmp_path: Path) -> None:
    hub.fault = once(Fault(after=100_000))
    assert pull(hub, tmp_path).path.read_bytes() == DATA
    (resumed,) = [seen for seen in hub.seen if "Range" in seen.headers]
    assert resumed.headers["If-Range"].startswith('"')


def test_a_file_that_is_never_what_was_listed_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.fault = lambda path: Fault(more=b"!")
    with pytest.raises(PullFailed, match="another size") as error:
        pull(hub, tmp_path)
    assert error.value.code == "hash_mismatch"
    assert [seen.path for seen in hub.seen].count("/api/models/org/model") == pulling.LISTINGS


@pytest.mark.parametrize("fault", [Fault(wrong_range=True), Fault(packed=True), Fault(packed=True, ignore_range=True)])
def test_bytes_that_were_not_asked_for_are_not_taken(hub: Hub, tmp_path: Path, fault: Fault) -> None:
    hub.fault = once(Fault(after=100_000), fault)
    with contextlib.suppress(PullFailed):
        assert pull(hub, tmp_path).path.read_bytes() == DATA
    assert pull(hub, tmp_path).path.read_bytes() == DATA


def test_a_file_whose_fetcher_ended_before_it_was_noted_is_read_and_not_fetched(hub: Hub, tmp_path: Path) -> None:
    path, _ = pull(hub, tmp_path)
    for note in path.parent.glob(f".{path.name}.*"):
        note.unlink()
    before = hub.sent_bytes
    assert pull(hub, tmp_path).path.read_bytes() == DATA
    assert hub.sent_bytes == before
    for note in path.parent.glob(f".{path.name}.*"):
        note.unlink()
    path.write_bytes(OTHER)
    assert pull(hub, tmp_path).path.read_bytes() == DATA


# ---- what a listing may say ------------------------------------------------------------------------------------------


def entry(**changes: Any) -> dict[str, Any]:
    return {"type": "file", "path": "x-Q4_K_M.gguf", "size": 100, "oid": "0" * 40, **changes}


@pytest.mark.parametrize(
    "listed",
    [
        entry(oid="../../../../evil"),
        entry(oid="0" * 39),
        entry(lfs={"oid": "../" * 22, "size": 1}),
        entry(lfs={"oid": 5}),
        entry(size=-1),
        entry(size="5"),
        entry(size=2**60),
        entry(path=5),
        {},
        [],
        None,
        "x",
    ],
)
def test_a_hostile_listing_is_refused_before_anything_is_written(hub: Hub, tmp_path: Path, listed: Any) -> None:
    """S-39: a digest becomes part of a path."""
    hub.extra_entries = [listed]
    with pytest.raises(PullFailed, match="no file"):
        pull(hub, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_endless_or_packed_answer_is_not_read(hub: Hub, tmp_path: Path) -> None:
    """S-41."""
    hub.answer, hub.answer_body = (200, {}), b" " * (MAX_ANSWER_BYTES + 1)
    with pytest.raises(PullFailed, match="larger than 16 MiB"):
        pull(hub, tmp_path)
    hub.answer = (200, {"Content-Encoding": "gzip"})
    with pytest.raises(PullFailed, match="packed"):
        pull(hub, tmp_path)
    hub.answer, hub.answer_body = (200, {}), b"[" * 100_000
    with pytest.raises(PullFailed, match="not JSON"):
        pull(hub, tmp_path)


def test_a_listing_does_not_lead_elsewhere(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S-40: the token would go along."""
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    other = Hub()
    with other.running():
        hub.extra_paths = [f"f{number}.txt" for number in range(1500)]
        hub.next_page = f"{other.url}/api/models/org/model/tree/{COMMIT}"
        with pytest.raises(PullFailed, match="another address"):
            pull(hub, tmp_path)
    assert other.seen == []


def test_nothing_within_a_model_leads_elsewhere(hub: Hub, tmp_path: Path) -> None:
    """S-15: addresses in cards and settings are words; who pulls, lists and imports the model asks only the hub."""
    other = Hub()
    with other.running():
        link = f"{other.url}/canary"
        told = {"base_url": link, "proxy_url": link, "_name_or_path": link, "chat_template": link, "image_url": link}
        settings = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "source": {"url": link}} | told
        hub.repositories["org/model"] = {
            "README.md": f"---\nbase_model: {link}\ndatasets: [{link}]\n---\n![]({link}.png)".encode(),
            "config.json": json.dumps(settings).encode(),
            "generation_config.json": json.dumps(told).encode(),
            "tokenizer_config.json": json.dumps(told).encode(),
            "tokenizer.json": json.dumps({"model": {"type": "BPE", "vocab": {}, "merges": []}} | told).encode(),
            "model.safetensors": b"\x02\x00\x00\x00\x00\x00\x00\x00{}",
        }
        path = pull(hub, tmp_path / "models").path
        assert b"canary" in (path / "config.json").read_bytes()
        found = Home(tmp_path).run("import", "--folder", str(tmp_path / "models"), "--dry-run")
        assert "model" in found.stdout
    assert other.seen == []
    assert all("/org/model" in seen.path for seen in hub.seen)


def test_an_error_of_any_size_is_not_read(hub: Hub, tmp_path: Path) -> None:
    hub.answer, hub.answer_body = (404, {}), b"x" * (20 << 20)
    with pytest.raises(PullFailed, match="no such repository"):
        pull(hub, tmp_path)


def test_offline_is_told_at_once(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PullFailed, match="HF_HUB_OFFLINE"):
        pull(hub, tmp_path)
    assert hub.seen == []


# ---- a hub that asks to wait (F50) -----------------------------------------------------------------------------------


def in_seconds(seconds: float) -> str:
    return email.utils.format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "3600"},
        {"Retry-After": in_seconds(2 * 3600)},  # counted from when the tests were collected
        {"RateLimit": '"api";r=0;t=3600'},
        {"Retry-After": "9" * 5000},
    ],
    ids=["seconds", "date", "rate", "absurd"],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_asks_for_an_hour_is_told_to_the_user(
    hub: Hub, tmp_path: Path, status: int, headers: dict[str, str]
) -> None:
    hub.fault = once(Fault(after=100_000), Fault(status=status, headers=headers))
    with pytest.raises(PullFailed, match="come back in") as error:
        pull(hub, tmp_path)
    assert error.value.code == "hub_busy"
    assert (error.value.retry_after_seconds or 0) > 3500
    before = hub.sent_bytes
    assert pull(hub, tmp_path).path.read_bytes() == DATA
    assert hub.sent_bytes - before == SIZE - 100_000, "what was fetched stayed"


def test_a_bearable_wait_is_kept_told_and_may_be_cancelled(hub: Hub, tmp_path: Path) -> None:
    hub.fault = once(Fault(status=429, headers={"Retry-After": "1"}))
    begin = time.monotonic()
    assert pull(hub, tmp_path).path.read_bytes() == DATA
    assert time.monotonic() - begin >= 1
    hub.fault = once(Fault(status=429, headers={"Retry-After": "200"}))

    def tell(progress: Progress) -> None:
        if progress.status == "waiting 200 s, as the hub asks":
            waiting.cancel()

    waiting = Pull(names.parse_name("org/model:Q8_0"), tell, tmp_path, hub.url)
    with pytest.raises(Cancelled):
        waiting.run()


def test_a_hub_that_asks_to_wait_for_the_listing_is_heard(hub: Hub, tmp_path: Path) -> None:
    hub.answer = (429, {"Retry-After": "3600"})
    with pytest.raises(PullFailed, match="come back in 3600 s"):
        pull(hub, tmp_path)


# ---- a full disk (F09) -----------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    with small_disk(folder, 1 << 20) as mounted:
        if not mounted:
            pytest.skip("no disk may be mounted here")
        yield folder


def test_a_disk_that_fills_up_midway_keeps_what_came(hub: Hub, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InsufficientStorage, match="GB more"):
        pull(hub, disk)
    monkeypatch.setattr(pulling, "SPARE_BYTES", 0)
    ballasts: list[Path] = []

    def tell(progress: Progress) -> None:
        if progress.done_bytes > 50_000 and not ballasts:
            ballasts.append(fill(disk))

    with pytest.raises(InsufficientStorage, match=r"the disk is full, and \d+ bytes are still to come") as error:
        Pull(names.parse_name("org/model"), tell, disk, hub.url).run()
    (coming,) = [path for path in partials(disk) if path.name.endswith(PARTIAL)]
    came = coming.read_bytes()
    assert DATA.startswith(came)
    assert 0 < len(came) < SIZE
    assert f"{SIZE - len(came)} bytes" in error.value.message
    with pytest.raises(InsufficientStorage, match="GB more"):
        pull(hub, disk)
    ballasts[0].unlink()
    before = hub.sent_bytes
    assert pull(hub, disk).path.read_bytes() == DATA
    assert hub.sent_bytes - before == SIZE - len(came)


def test_a_limit_on_the_size_of_files_is_a_full_disk(hub: Hub, tmp_path: Path) -> None:
    """Another process, because the limit holds for all of one."""
    hub.repositories["org/model"] = {FILE: MODEL}
    home = Home(tmp_path)
    limited = subprocess.run(
        [*COMMAND, "pull", "org/model"],
        env=home.environment(HF_ENDPOINT=hub.url),
        cwd=home.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )
    assert limited.returncode == 1
    assert f"the disk is full, and {len(MODEL) - 200_000} bytes are still to come" in limited.stderr
    done = home.run("pull", "org/model", HF_ENDPOINT=hub.url)
    assert (done.returncode, (models(home) / "org" / "model" / FILE).read_bytes()) == (0, MODEL)


# ---- others (F11) ----------------------------------------------------------------------------------------------------


def test_two_processes_that_pull_one_model_are_one_download(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["org/model"] = {FILE: MODEL}
    gate = hub.gate = threading.Event()
    home = Home(tmp_path)

    def follow(process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if "another download" in line:
                gate.set()

    processes = [begun(home, hub), begun(home, hub)]
    followers = [threading.Thread(target=follow, args=(process,)) for process in processes]
    for follower in followers:
        follower.start()
    assert [process.wait(60) for process in processes] == [0, 0]
    for process, follower in zip(processes, followers, strict=True):
        follower.join(60)
        assert process.stdout is not None
        process.stdout.close()
    assert gate.is_set(), "one waited for the other"
    assert hub.sent_bytes == len(MODEL)
    assert [spec.id for spec in registry.load(home.models).models] == ["fake", "slow", "org/model"]


def test_models_that_are_pulled_beside_each_other_are_all_noted(hub: Hub, tmp_path: Path) -> None:
    """Several processes write one overlay."""
    for number in range(4):
        hub.repositories[f"org/m{number}"] = {FILE: made(rows=number + 1).bytes_()}
    home = Home(tmp_path)
    processes = [begun(home, hub, f"org/m{number}") for number in range(4)]
    for process in processes:
        told, _ = process.communicate(timeout=60)
        assert process.returncode == 0, told
    assert {spec.id for spec in registry.load(home.models).models} >= {f"org/m{number}" for number in range(4)}


def test_a_model_that_is_being_pulled_can_not_be_deleted(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEYLOOK_MODELS", str(tmp_path / "m"))
    path = tmp_path / "models.yaml"
    path.write_text("models: []")
    hub.repositories["org/model"] = {"m-Q4_K_M.gguf": MODEL, "m-Q8_0.gguf": MODEL}

    def pulled(tag: str, keep: Callable[[Pulled], Any]) -> None:
        Pull(names.parse_name(f"org/model:{tag}"), lambda _: None, None, hub.url).run(keep)

    pulled("Q4_K_M", lambda found: register(path, found))

    def refused(found: Pulled) -> None:
        with pytest.raises(Conflict, match="while org/model is being pulled"):
            unregister(path, "org/model:Q4_K_M")
        register(path, found)

    pulled("Q8_0", refused)
    assert [spec.id for spec in registry.load(path).models] == ["org/model:Q4_K_M", "org/model:Q8_0"]
    unregister(path, "org/model:Q4_K_M")
    folder = library.folder_of("org/model", tmp_path / "m")
    assert sorted(file.name for file in folder.iterdir() if "Q4" in file.name) == []
    unregister(path, "org/model:Q8_0")
    assert not folder.exists()
    assert registry.load(path).models == ()


def test_pulls_and_deletions_at_once_leave_a_registry_that_is_true(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is listed lies there whole; what isn't listed is gone, or was put back whole by the last pull."""
    monkeypatch.setenv("HEYLOOK_MODELS", str(tmp_path / "m"))
    monkeypatch.setattr(pulling, "LOCK_SECONDS", 0.01)
    path = tmp_path / "models.yaml"
    path.write_text("models: []")
    hub.repositories["org/model"] = {FILE: MODEL}
    over = threading.Event()
    failures: list[BaseException] = []

    def deleting() -> None:
        while not over.is_set():
            try:
                for spec in registry.load(path).models:
                    unregister(path, spec.id)
            except Conflict:
                continue
            except BaseException as error:
                failures.append(error)
                return

    thread = threading.Thread(target=deleting)
    thread.start()
    for _ in range(10 if LONG else 4):
        Pull(names.parse_name("org/model"), lambda _: None, None, hub.url).run(lambda found: register(path, found))
    over.set()
    thread.join(60)
    assert failures == []
    for spec in registry.load(path).models:
        assert spec.path.read_bytes() == MODEL
    Pull(names.parse_name("org/model"), lambda _: None, None, hub.url).run(lambda found: register(path, found))
    (spec,) = registry.load(path).models
    assert spec.path.read_bytes() == MODEL


# ---- kill -9 ---------------------------------------------------------------------------------------------------------


def killed(home: Home, hub: Hub, after: int) -> int:
    """Kill a pull once so many bytes were sent to it; how many of the file lie there now."""
    hub.gate = threading.Event()
    process = begun(home, hub)
    hub.fault = lambda path: Fault(after=after, then=process.kill, stall=True)
    hub.gate.set()
    told, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, told
    hub.fault = lambda path: None
    return sum(path.stat().st_size for path in partials(models(home)) if path.name.endswith(PARTIAL))


@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_a_killed_puller_is_gone_on_from(hub: Hub, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    hub.repositories["org/model"] = {FILE: MODEL}
    home = Home(tmp_path)
    fetched = 0
    for _ in range(2):
        fetched = killed(home, hub, rng.randrange(len(MODEL) - fetched))
    before = hub.sent_bytes
    done = home.run("pull", "org/model", HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    assert (models(home) / "org" / "model" / FILE).read_bytes() == MODEL
    assert hub.sent_bytes - before == len(MODEL) - fetched, "nothing that had come was fetched again"
    assert partials(models(home)) == []
    assert "org/model" in {spec.id for spec in registry.load(home.models).models}
