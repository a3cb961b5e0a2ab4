"""A hundred random faults of a hub, of the disk and of the process: a right file every time, at once or by a retry.

HEYLOOK_FAULT_SEED chooses others; `make test_faults` shows what came of each kind.
"""

import collections
import contextlib
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import constants

from heylook_llm.catalog import pull as pulling
from heylook_llm.catalog.partial import PARTIAL
from heylook_llm.errors import InsufficientStorage, PullFailed
from tests.catalog.hub import Fault, Hub
from tests.catalog.places import made
from tests.catalog.pulling import begun, fill, models, pull, small_disk
from tests.commands_at_work import Home

pytestmark = pytest.mark.integration
LONG = os.environ.get("HEYLOOK_TEST_TIER") == "long"
SEED = int(os.environ.get("HEYLOOK_FAULT_SEED", "20261128"))
FAULTS = 100 if LONG else 6
FILE = "m-Q4_K_M.gguf"
STALL_SECONDS = 0.5
TYPED = {"hub_failed", "hub_busy", "hub_unreachable", "hub_not_found", "hash_mismatch", "insufficient_storage"}


@dataclass
class Scene:
    """One pull and what it meets."""

    hub: Hub
    other: Hub
    """Where bytes may be redirected to."""
    folder: Path
    """On a small disk, where there may be one."""
    rng: random.Random
    rows: int
    """Of the model."""

    @property
    def data(self) -> bytes:
        """What the hub holds now."""
        return self.hub.repositories["org/model"][FILE]

    def some(self) -> int:
        """A random place in the file."""
        return self.rng.randrange(len(self.data))

    def another(self) -> bytes:
        """Another file, of the same length or not."""
        return model(self.rng, self.rows if self.rng.random() < 0.5 else 0)


Kind = Callable[[Scene], Fault]


def model(rng: random.Random, rows: int = 0) -> bytes:
    """A GGUF file of random weights; of so many rows, or of a random number."""
    blank = made(rows=rows or rng.randrange(500, 3000))
    blank.data = rng.randbytes(len(blank.data))
    return blank.bytes_()


def pushed(scene: Scene) -> Fault:
    data = scene.another()
    return Fault(after=scene.some(), then=lambda: scene.hub.replace("org/model", FILE, data))


def swapped(scene: Scene) -> Fault:
    data = scene.another()
    return Fault(after=scene.some(), then=lambda: scene.hub.repositories["org/model"].update({FILE: data}))


def full(scene: Scene) -> Fault:
    def then() -> None:
        fill(scene.folder)

    return Fault(after=scene.some(), then=then)


KINDS: dict[str, Kind] = {
    "drop": lambda scene: Fault(after=scene.some()),
    "server error": lambda scene: Fault(status=scene.rng.choice([500, 502, 503, 504])),
    "busy": lambda scene: Fault(status=429, headers={"Retry-After": scene.rng.choice(["0", "soon", "900"])}),
    "stall": lambda scene: Fault(after=scene.some(), stall=True),
    "wrong bytes": lambda scene: Fault(corrupt=True),
    "too many bytes": lambda scene: Fault(more=scene.rng.randbytes(scene.rng.randrange(1, 5000))),
    "ignored range": lambda scene: Fault(ignore_range=True, after=scene.some()),
    "wrong range": lambda scene: Fault(wrong_range=True),
    "packed": lambda scene: Fault(packed=True),
    "another file": pushed,
    "another file under the same name": swapped,
    "redirect": lambda scene: Fault(redirect=scene.other.url, after=scene.some()),
    "full disk": full,
    "kill -9": lambda scene: Fault(after=scene.some()),
}
"""What may go wrong. kill -9 is done to another process; the others meet this one."""
OF_THE_REST = ("ignored range", "wrong range", "another file", "another file under the same name")
"""Kinds that matter where a part came before."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, bool]]:
    """A disk of 2 MiB, where one may be mounted."""
    folder = tmp_path / "disk"
    with small_disk(folder, 2 << 20) as mounted:
        yield folder, mounted


@pytest.mark.timeout(1200)
def test_after_every_fault_the_file_is_right(
    hub: Hub, disk: tuple[Path, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", STALL_SECONDS)
    monkeypatch.setattr(pulling, "SPARE_BYTES", 0)
    rng = random.Random(SEED)
    kinds = [kind for kind in KINDS if kind != "full disk" or disk[1]]
    order = [*kinds * (FAULTS // len(kinds)), *rng.sample(kinds, FAULTS % len(kinds))]
    rng.shuffle(order)
    came: collections.Counter[tuple[str, str]] = collections.Counter()
    other = Hub()
    other.repositories, other.commits = hub.repositories, hub.commits
    with other.running():
        for number, kind in enumerate(order):
            scene = Scene(hub, other, disk[0], rng, rng.randrange(500, 3000))
            hub.repositories["org/model"] = {FILE: model(rng, scene.rows)}
            with said(f"fault {number} of seed {SEED}: {kind}"):
                met = killed if kind == "kill -9" else faulted
                came[kind, met(scene, kind, tmp_path / f"home{number}")] += 1
    print(f"\nseed {SEED}, {came.total()} faults")
    for (kind, how), count in sorted(came.items()):
        print(f"  {kind}: {count} {how}")


@contextlib.contextmanager
def said(what: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(what)
        raise


def faulted(scene: Scene, kind: str, home: Path) -> str:
    """A pull in this process: perhaps with a part that came before, then the fault; and a retry, where it failed."""
    begun_before = kind in OF_THE_REST or scene.rng.random() < 0.5
    faults = iter([*([Fault(after=scene.some() or 1)] if begun_before else []), KINDS[kind](scene)])
    scene.hub.fault = lambda path: next(faults, None)
    error = refusal(scene)
    if error is not None:
        assert error.code in TYPED
        assert "\n" not in error.message
        assert not (scene.folder / "org" / "model" / FILE).exists(), "no file has its name before it is right"
    scene.hub.fault = lambda path: None
    (scene.folder / "ballast").unlink(missing_ok=True)
    assert pull(scene.hub, scene.folder).path.read_bytes() == scene.data
    nothing_left(scene.folder)
    shutil.rmtree(scene.folder / "org")
    return "right at once" if error is None else f"right after a retry ({error.code})"


def refusal(scene: Scene) -> PullFailed | InsufficientStorage | None:
    """The error of a pull, which is one of ours; None, and a right file, where there is none."""
    try:
        path = pull(scene.hub, scene.folder).path
    except (PullFailed, InsufficientStorage) as error:
        return error
    assert path.read_bytes() == scene.data
    return None


def killed(scene: Scene, kind: str, folder: Path) -> str:
    """A pull in another process, which ends at a random byte; then another."""
    folder.mkdir()
    home = Home(folder)
    fault = KINDS[kind](scene)
    scene.hub.gate = threading.Event()
    process = begun(home, scene.hub)
    scene.hub.fault = lambda path: Fault(after=fault.after, then=process.kill, stall=True)
    scene.hub.gate.set()
    told, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, told
    scene.hub.gate, scene.hub.fault = None, lambda path: None
    assert not (models(home) / "org" / "model" / FILE).exists()
    done = home.run("pull", "org/model", HF_ENDPOINT=scene.hub.url)
    assert done.returncode == 0, done.stderr
    assert (models(home) / "org" / "model" / FILE).read_bytes() == scene.data
    nothing_left(models(home))
    return "right after a retry (killed)"


def nothing_left(folder: Path) -> None:
    assert list(folder.rglob(f"*{PARTIAL}*")) == []
