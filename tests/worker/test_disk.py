"""The folder of saved states: what a restart finds, and what it leaves alone."""

import logging
import os
import threading
from pathlib import Path

import pytest

from heylook_llm.catalog import prefix_files
from heylook_llm.worker.disk import Disk

pytestmark = pytest.mark.unit

OURS, OTHERS = b"o" * 32, b"x" * 32
STATE = bytes(range(256)) * 8
TOKENS = list(range(100, 180))


def settled(disk: Disk) -> Disk:
    """The folder, once its thread has done all it was given."""
    done = threading.Event()
    disk._tasks.put(done.set)
    assert done.wait(30)
    return disk


def held_by(hold: threading.Event) -> None:
    """Keep the thread waiting."""
    assert hold.wait(30)


def opened(folder: Path, identity: bytes = OURS, limit: int = 1 << 20) -> Disk:
    """The folder as a new process finds it."""
    return settled(Disk(folder, limit, identity))


def written(folder: Path, *, tokens: list[int] | None = None, identity: bytes = OURS, limit: int = 1 << 20) -> Path:
    """A folder with a state more; returns its file."""
    disk = opened(folder, identity, limit)
    disk.write(tokens or TOKENS, STATE)
    settled(disk)
    entry, _ = disk.best(tokens or TOKENS, whole=True)
    assert entry is not None
    return entry.path


def found(folder: Path, tokens: list[int] | None = None) -> bytes | None:
    """The state that a new process finds."""
    disk = opened(folder)
    entry, _ = disk.best(tokens or TOKENS, whole=False)
    state = disk.read(entry) if entry is not None else None
    return bytes(state) if state is not None else None


def test_a_restart_finds_what_was_written(tmp_path: Path) -> None:
    path = written(tmp_path / "new" / "folder")
    assert found(path.parent) == STATE
    entry, common = opened(path.parent).best([*TOKENS[:50], 7], whole=False)
    assert entry is not None
    assert (entry.tokens, common) == (TOKENS, 50)
    assert opened(path.parent).best([*TOKENS[:50], 7], whole=True) == (None, 0)
    assert [other.suffix for other in path.parent.iterdir()] == [prefix_files.SUFFIX]
    assert (path.parent.stat().st_mode & 0o777) == 0o700


@pytest.mark.parametrize(
    ("place", "named"), [(0, True), (15, True), (20, False), (50, True), (85, True), (90, False), (-1, True)]
)
def test_a_damaged_file_is_not_used(tmp_path: Path, place: int, named: bool, caplog: pytest.LogCaptureFixture) -> None:
    """And named, but where it looks like one of another model, or of other tokens."""
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    data[place] ^= 0x55
    path.write_bytes(data)
    assert found(tmp_path) is None
    assert (path.name in caplog.text) == named
    assert path.exists()


@pytest.mark.parametrize("length", [0, 10, 60, 200, -1])
def test_a_truncated_file_is_named_and_not_used(tmp_path: Path, length: int, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert found(tmp_path) is None
    assert path.name in caplog.text


def test_files_of_others_are_named_and_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "other.prefix").write_bytes(b"\0" * 500)
    disk = opened(tmp_path)
    assert "notes.txt" in caplog.text
    assert "other.prefix" in caplog.text
    freed: list[int] = []
    disk.clear(freed.append)
    settled(disk)
    assert freed[0] > len(STATE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "notes.txt", "other.prefix"]


def test_another_identity_uses_nothing_and_goes_first(tmp_path: Path) -> None:
    stale = written(tmp_path, identity=OTHERS)
    assert found(tmp_path) is None
    size = stale.stat().st_size
    mine = written(tmp_path, tokens=[1, 2, 3], limit=2 * size)
    assert stale.exists()
    later = written(tmp_path, tokens=[1, 2, 4], limit=2 * size)
    assert (stale.exists(), mine.exists(), later.exists()) == (False, True, True)


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    first, second = written(tmp_path, tokens=[1, 1]), written(tmp_path, tokens=[2, 2])
    os.utime(second, ns=(1, 1))
    os.utime(first, ns=(2, 2))
    size = first.stat().st_size
    disk = opened(tmp_path, limit=2 * size)
    disk.write([3, 3], STATE)
    settled(disk)
    assert (first.exists(), second.exists()) == (True, False)
    entry, _ = disk.best([1, 1], whole=True)
    assert entry is not None
    assert disk.read(entry) is not None
    disk.write([4, 4], STATE)
    settled(disk)
    assert first.exists(), "it was read"
    disk.write([5, 5], bytes(2 * size))
    settled(disk)
    assert disk.best([5, 5], whole=True) == (None, 0), "it is larger than the budget"


def test_what_a_dying_process_left_half_written_is_removed(tmp_path: Path) -> None:
    written(tmp_path)
    part = tmp_path / "something.123.part"
    part.write_bytes(b"half")
    opened(tmp_path)
    assert not part.exists()


def test_nothing_arrives_behind_a_clear(tmp_path: Path) -> None:
    disk = opened(tmp_path)
    hold, freed = threading.Event(), list[int]()
    disk._tasks.put(lambda: held_by(hold))
    disk.write(TOKENS, STATE)
    disk.clear(freed.append)
    disk.write([9, 9], STATE)
    hold.set()
    settled(disk)
    assert freed == [0]
    assert disk.best(TOKENS, whole=False) == (None, 0)
    assert disk.best([9, 9], whole=False)[1] == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_a_slow_disk_takes_only_so_many(tmp_path: Path) -> None:
    disk = opened(tmp_path)
    hold = threading.Event()
    disk._tasks.put(lambda: held_by(hold))
    for at in range(20):
        disk.write([at, at], STATE)
    hold.set()
    settled(disk)
    assert len(list(tmp_path.iterdir())) == 8


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    disk = opened(tmp_path / "file" / "folder")
    disk.write(TOKENS, STATE)
    settled(disk)
    assert disk.best(TOKENS, whole=False) == (None, 0)
    assert "file" in caplog.text


def test_a_file_that_vanished_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path)
    disk = opened(tmp_path)
    entry, _ = disk.best(TOKENS, whole=True)
    assert entry is not None
    path.unlink()
    with caplog.at_level(logging.WARNING):
        assert disk.read(entry) is None
    assert path.name in caplog.text
    assert disk.best(TOKENS, whole=True) == (None, 0)
