"""What a saved prefix is valid for, and where it lies."""

from pathlib import Path
from typing import Any

import pytest

from heylook_llm.catalog import prefix_files

pytestmark = pytest.mark.unit

OPTIONS: dict[str, Any] = {"n_ctx": 512, "type_k": "f16", "lora": [], "temperature": 0.5, "n_threads": 2}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of three megabytes."""
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(range(256)) * (12 << 10))
    return path


def changed(path: Path, at: int) -> None:
    """Another byte at this place."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_the_same_file_and_settings_are_the_same(weights: Path, tmp_path: Path) -> None:
    identity = prefix_files.identity_of(weights, OPTIONS, "engine 1")
    moved = weights.rename(tmp_path / "renamed.gguf")
    for more in ({"temperature": 1.0}, {"n_threads": 8}, {"prefix_disk_bytes": 5}, {"model_path": "elsewhere"}):
        assert prefix_files.identity_of(moved, OPTIONS | more, "engine 1") == identity


@pytest.mark.parametrize("at", [0, 1000, 2 << 20, -1])
def test_other_weights_are_another(weights: Path, at: int) -> None:
    identity = prefix_files.identity_of(weights, OPTIONS, "engine 1")
    changed(weights, at)
    assert prefix_files.identity_of(weights, OPTIONS, "engine 1") != identity


def test_another_length_engine_or_setting_is_another(weights: Path) -> None:
    found = {prefix_files.identity_of(weights, OPTIONS, engine) for engine in ("engine 1", "engine 2")}
    for more in ({"n_ctx": 1024}, {"type_k": "q8_0"}, {"anything": True}):
        found.add(prefix_files.identity_of(weights, OPTIONS | more, "engine 1"))
    weights.write_bytes(weights.read_bytes() + b"more")
    found.add(prefix_files.identity_of(weights, OPTIONS, "engine 1"))
    assert len(found) == 6


def test_an_adapter_is_known_by_its_content(weights: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.gguf"
    adapter.write_bytes(b"adapter" * 100)
    options = OPTIONS | {"lora": [{"path": str(adapter), "scale": 1.0}]}
    identity = prefix_files.identity_of(weights, options, "")
    assert identity != prefix_files.identity_of(weights, OPTIONS, "")
    changed(adapter, 50)
    assert prefix_files.identity_of(weights, options, "") != identity


def test_all_files_of_a_folder_and_all_parts_count(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    folder = prefix_files.identity_of(tmp_path, {}, "")
    parts = prefix_files.identity_of(tmp_path / "m-00001-of-00002.gguf", {}, "")
    changed(tmp_path / "m-00002-of-00002.gguf", 9)
    assert prefix_files.identity_of(tmp_path, {}, "") != folder
    assert prefix_files.identity_of(tmp_path / "m-00001-of-00002.gguf", {}, "") != parts


def test_each_model_has_a_folder_of_its_own(tmp_path: Path) -> None:
    names = ["a/b", "a_b", "../up", "x" * 300, "m:latest"]
    folders = [prefix_files.folder_of(name, str(tmp_path)) for name in names]
    assert len(set(folders)) == len(names)
    assert all(folder.parent == tmp_path for folder in folders)
    assert prefix_files.folder_of("a", None).parent.name == "prefixes"


def test_only_its_own_files_are_deleted(tmp_path: Path) -> None:
    mine = tmp_path / f"mine{prefix_files.SUFFIX}"
    mine.write_bytes(prefix_files.MAGIC + b"rest")
    others = [tmp_path / "notes.txt", tmp_path / f"other{prefix_files.SUFFIX}"]
    for other in others:
        other.write_bytes(b"not one of these")
    assert prefix_files.delete_all(tmp_path) == len(prefix_files.MAGIC) + 4
    assert sorted(tmp_path.iterdir()) == sorted(others)
    assert prefix_files.delete_all(tmp_path / "missing") == 0
