"""Pulling from a hub that drops, lies and refuses."""

import fcntl
import hashlib
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from heylook_llm.catalog import hub as names
from heylook_llm.catalog import pull as pulling
from heylook_llm.catalog.partial import PARTIAL
from heylook_llm.catalog.pull import Progress, Pull
from heylook_llm.errors import BadRequest, Cancelled, HeylookError, InsufficientStorage, PullFailed
from tests.catalog.hub import Fault, Hub
from tests.catalog.pulling import DATA, SIZE, pull

pytestmark = pytest.mark.integration
LONG = os.environ.get("HEYLOOK_TEST_TIER") == "long"


def downloads(hub: Hub) -> list[str]:
    return [seen.path.rpartition("/")[2] for seen in hub.seen if "/resolve/" in seen.path]


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "repository", "tag"),
    [
        ("org/repo", "org/repo", None),
        ("hf.co/org/repo:Q4_K_M", "org/repo", "Q4_K_M"),
        ("https://huggingface.co/org/repo/", "org/repo", None),
        ("llama3.2:1b", "bartowski/Llama-3.2-1B-Instruct-GGUF", None),
        ("org/repo:latest", "org/repo", None),
    ],
)
def test_names(text: str, repository: str, tag: str | None) -> None:
    found = names.parse_name(text)
    assert (found.repository, found.tag, found.asked) == (repository, tag, text)


@pytest.mark.parametrize("text", ["", "model", "a/b/c", "../x", "a/..", "a/b:", "a/b:x/y", "http://evil/a/b", "a/b\n"])
def test_names_that_are_none(text: str) -> None:
    if text == "a/b:":
        assert names.parse_name(text).tag is None
        return
    if text == "a/b\n":
        assert names.parse_name(text).repository == "a/b"
        return
    with pytest.raises(BadRequest, match="names no model"):
        names.parse_name(text)


def files(*paths: str) -> list[names.RemoteFile]:
    return [names.RemoteFile(path, 100 + at, "0" * 40, "0" * 64) for at, path in enumerate(paths)]


@pytest.mark.parametrize(
    ("listed", "tag", "chosen"),
    [
        (("m.Q8_0.gguf", "m.Q4_K_M.gguf"), None, ("m.Q4_K_M.gguf",)),
        (("m.Q8_0.gguf", "m.Q4_K_M.gguf"), "q8_0", ("m.Q8_0.gguf",)),
        (("a-IQ4_XS.gguf", "a-Q4_K_M-imat.gguf"), "Q4_K_M", ("a-Q4_K_M-imat.gguf",)),
        (
            ("m-Q4_K_M-00002-of-00002.gguf", "m-Q4_K_M-00001-of-00002.gguf"),
            None,
            ("m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf"),
        ),
        (("mmproj-F16.gguf", "m-odd.gguf"), None, ("m-odd.gguf", "mmproj-F16.gguf")),
        (
            ("m-mmproj-f32.gguf", "m-mmproj-bf16.gguf", "m-mmproj-Q8_0.gguf", "m-Q8_0.gguf"),
            "Q8_0",
            ("m-Q8_0.gguf", "m-mmproj-bf16.gguf"),
        ),
        (("mmproj-large.gguf", "m.gguf"), None, ("m.gguf", "mmproj-large.gguf")),
        (("mmproj-F16.gguf", "config.json", "model.safetensors"), None, ("config.json", "model.safetensors")),
        (
            ("model.safetensors", "config.json", "x.py", "pytorch_model.bin", "sub/model.safetensors"),
            None,
            ("config.json", "model.safetensors"),
        ),
    ],
)
def test_what_is_fetched(listed: tuple[str, ...], tag: str | None, chosen: tuple[str, ...]) -> None:
    found = names.select(names.Name("x", "o/r", tag), files(*listed))
    assert tuple(file.path for file in found) == chosen


@pytest.mark.parametrize(
    ("listed", "tag", "words"),
    [
        (("m-Q8_0.gguf",), "Q4_K_M", "it has: Q8_0"),
        (("pytorch_model.bin", "x.py"), None, "bin, py"),
        (("m-Q4_K_M-00001-of-00002.gguf",), None, "1 of 2"),
        (("model.safetensors", "config.json"), "Q4", "no tag"),
    ],
)
def test_what_can_not_be_served_is_refused(listed: tuple[str, ...], tag: str | None, words: str) -> None:
    with pytest.raises(PullFailed, match=words):
        names.select(names.Name("x", "o/r", tag), files(*listed))


@pytest.mark.parametrize(
    "path",
    [
        "../m.gguf",
        "/m.gguf",
        "a/../m.gguf",
        "C:\\m.gguf",
        "a\\m.gguf",
        "m\0.gguf",
        "x" * 300 + ".gguf",
        "CON.gguf",
        "a//m.gguf",
        " m.gguf",
        "a/./m.gguf",
        "m\n.gguf",
        "c:m.gguf",
    ],
)
def test_unsafe_paths_are_refused_before_anything_is_written(hub: Hub, tmp_path: Path, path: str) -> None:
    hub.repositories["org/model"] = {}
    hub.extra_paths = [path]
    with pytest.raises(PullFailed) as error:
        pull(hub, tmp_path)
    assert error.value.code in ("unsafe_path", "nothing_to_serve")
    assert list(tmp_path.iterdir()) == []


def test_paths_that_differ_in_case_alone_are_refused() -> None:
    with pytest.raises(PullFailed, match="refused"):
        names.check_paths(files("a.gguf", "A.gguf"))


# ---- bytes -----------------------------------------------------------------------------------------------------------


def test_a_pull_brings_the_file_and_tells_how_far_it_is(hub: Hub, tmp_path: Path) -> None:
    path, told = pull(hub, tmp_path)
    assert path == tmp_path / "org" / "model" / "m-Q4_K_M.gguf"
    assert path.read_bytes() == DATA
    assert told[0].status == "pulling manifest"
    assert told[-1].status == "verifying sha256 digest"
    steps = [progress.done_bytes for progress in told if progress.total_bytes]
    assert steps == sorted(steps)
    assert steps[-1] == SIZE
    assert told[1].digest == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    assert not list(tmp_path.rglob(f"*{PARTIAL}"))


def test_what_is_there_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    pull(hub, tmp_path)
    pull(hub, tmp_path)
    assert downloads(hub) == ["m-Q4_K_M.gguf"]
    hub.repositories["org/model"]["m-Q4_K_M.gguf"] = DATA[::-1]
    path, _ = pull(hub, tmp_path)
    assert path.read_bytes() == DATA[::-1], "the hub's file is another one now"


def test_a_folder_of_safetensors_comes_without_what_could_be_code(hub: Hub, tmp_path: Path) -> None:
    wanted = {"model.safetensors": DATA, "config.json": b"{}", "tokenizer.json": b"[]", "chat_template.jinja": b"x"}
    refused = dict.fromkeys(("x.bin", "x.pt", "x.pkl", "x.py", "x.so", "x.7z", "x.npz", "x.ckpt"), DATA)
    hub.repositories["org/model"] = {**wanted, **refused}
    path, _ = pull(hub, tmp_path)
    assert path == tmp_path / "org" / "model"
    assert {file.name: file.read_bytes() for file in path.iterdir() if not file.name.startswith(".")} == wanted
    assert set(downloads(hub)) == set(wanted)


def test_a_partial_file_of_a_killed_pull_is_gone_on_with(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "org" / "model"
    folder.mkdir(parents=True)
    digest = hashlib.sha256(DATA).hexdigest()
    (folder / f"m-Q4_K_M.gguf.{digest[:16]}{PARTIAL}").write_bytes(DATA[:200_000])
    assert pull(hub, tmp_path).path.read_bytes() == DATA
    assert hub.sent_bytes == SIZE - 200_000


FAULTS: list[Callable[[random.Random], Fault]] = [
    lambda rng: Fault(after=rng.randrange(SIZE // 3)),
    lambda rng: Fault(status=rng.choice([500, 502, 503, 504])),
    lambda rng: Fault(status=429, headers={"Retry-After": "0"}),
    lambda rng: Fault(ignore_range=True, after=rng.randrange(SIZE // 2)),
    lambda rng: Fault(status=408),
]


@pytest.mark.parametrize("seed", range(20 if LONG else 2))
def test_random_faults_end_in_a_right_file(hub: Hub, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    left = [5]

    def fault(path: str) -> Fault | None:
        left[0] -= 1
        return rng.choice(FAULTS)(rng) if left[0] >= 0 else None

    hub.fault = fault
    assert pull(hub, tmp_path).path.read_bytes() == DATA
    assert left[0] < 0, "every fault came"


def test_wrong_bytes_are_fetched_anew_and_never_kept(hub: Hub, tmp_path: Path) -> None:
    faults = iter([Fault(corrupt=True), None])
    hub.fault = lambda path: next(faults)
    assert pull(hub, tmp_path).path.read_bytes() == DATA
    hub.fault = lambda path: Fault(corrupt=True)
    with pytest.raises(PullFailed, match="other bytes"):
        pull(hub, tmp_path, "org/model:Q8_0")
    assert not (tmp_path / "org" / "model" / "m-Q8_0.gguf").exists()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((401, {}), "hub_unauthorized"),
        ((403, {"X-Error-Code": "GatedRepo"}), "hub_gated"),
        ((404, {"X-Error-Code": "RepoNotFound"}), "hub_not_found"),
        ((500, {}), "hub_failed"),
    ],
)
def test_the_hubs_refusals(hub: Hub, tmp_path: Path, answer: tuple[int, dict[str, str]], code: str) -> None:
    hub.answer = answer
    with pytest.raises(PullFailed) as error:
        pull(hub, tmp_path)
    assert error.value.code == code
    assert "\n" not in error.value.message
    assert hub.url not in error.value.message


def test_no_hub_is_told_within_seconds(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(PullFailed, match="can't be reached: look at the network") as error:
        Pull(names.parse_name("org/model"), lambda _: None, tmp_path, "http://127.0.0.1:9").run()
    assert error.value.code == "hub_unreachable"
    assert time.monotonic() - began < 20, "a hub that was reached before is waited for longer"


def test_a_listing_without_end_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.extra_paths = [f"f{n}.txt" for n in range(names.MAX_FILES + 5)]
    with pytest.raises(PullFailed, match="more than"):
        pull(hub, tmp_path)


def test_the_token_stays_with_the_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    other = Hub()
    other.repositories = hub.repositories
    with other.running():
        hub.redirect = other.url.replace("127.0.0.1", "localhost")
        assert pull(hub, tmp_path).path.read_bytes() == DATA
    assert any("hf_canary" in str(seen.headers) for seen in hub.seen)
    assert other.seen
    assert not any("hf_canary" in str(seen.headers) for seen in other.seen)


# ---- the disk, and others --------------------------------------------------------------------------------------------


def test_too_little_space_is_told_first(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=pulling.SPARE_BYTES + SIZE - 1))
    with pytest.raises(InsufficientStorage, match=r"needs .* GB more"):
        pull(hub, tmp_path)
    assert downloads(hub) == []


def test_two_pulls_of_one_model_are_one_download(hub: Hub, tmp_path: Path) -> None:
    hub.gate = threading.Event()
    results: list[Path | HeylookError] = []
    told: list[Progress] = []

    def one() -> None:
        results.append(Pull(names.parse_name("org/model"), told.append, tmp_path, hub.url).run().path)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not any("another download" in progress.status for progress in list(told)):
        threads[0].join(0.01)
    hub.gate.set()
    for thread in threads:
        thread.join(60)
    assert len(results) == 2
    assert downloads(hub) == ["m-Q4_K_M.gguf"]


def test_a_cancelled_pull_is_resumed(hub: Hub, tmp_path: Path) -> None:
    told: list[Progress] = []

    def tell(progress: Progress) -> None:
        told.append(progress)
        if progress.done_bytes > 100_000:
            cancelled.cancel()

    cancelled = Pull(names.parse_name("org/model"), tell, tmp_path, hub.url)
    with pytest.raises(Cancelled):
        cancelled.run()
    before = hub.sent_bytes
    assert pull(hub, tmp_path).path.read_bytes() == DATA
    (resumed,) = [seen for seen in hub.seen if "Range" in seen.headers]
    assert resumed.headers["Range"] != "bytes=0-"
    assert hub.sent_bytes - before < SIZE


def test_a_lock_of_a_dead_process_is_none(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "org" / "model"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert pull(hub, tmp_path).path.read_bytes() == DATA
