"""Projectors by their headers: what they are, which models they fit, and what no engine should see."""

from collections.abc import Callable
from pathlib import Path

import pytest

from heylook_llm.catalog import projector
from heylook_llm.errors import LoadFailed
from tests.worker import random_gguf, random_projector

pytestmark = pytest.mark.unit


def truncated(data: bytearray) -> None:
    """Only the beginning is left."""
    del data[-1000:]


def garbled(data: bytearray) -> None:
    """The header counts nonsense."""
    data[8:16] = b"\xff" * 8


def another(data: bytearray) -> None:
    """It is something else."""
    data[:4] = b"ZIP!"


@pytest.mark.parametrize("kind", list(random_projector.TYPES))
def test_what_a_projector_says(tmp_path: Path, kind: str) -> None:
    found = projector.read(random_projector.write(tmp_path / "mmproj.gguf", kind, width=96), "m")
    assert (found.kind, found.image_size, found.patch_size, found.width) == (kind, 32, 8, 96)
    assert found.is_square is (kind == "mlp")
    assert 0 < found.compute_bytes(flash=True) < found.compute_bytes(flash=False)
    assert found.info["clip.has_vision_encoder"] is True
    projector.check_fits(found, 96, "m")
    with pytest.raises(LoadFailed, match="its `mmproj_path` fits models that are 96 wide, and this one is 64"):
        projector.check_fits(found, 64, "m")


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"patch_size": 0}, "says no `clip.vision.patch_size`"),
        ({"image_size": 1 << 20}, "says sizes that no model has"),
        ({"block_count": 1 << 20}, "says sizes that no model has"),
        ({"patch_size": 33}, "says sizes that don't fit each other"),
        ({"attention.head_count": 7}, "says sizes that don't fit each other"),
    ],
)
def test_numbers_that_an_engine_would_fail_at(tmp_path: Path, keys: dict[str, int], reason: str) -> None:
    path = random_projector.write(tmp_path / "mmproj.gguf", "mlp", keys=keys)
    with pytest.raises(LoadFailed, match=reason):
        projector.read(path, "m")


@pytest.mark.parametrize("change", [truncated, garbled, another])
def test_damaged_files(tmp_path: Path, change: Callable[[bytearray], None]) -> None:
    path = random_projector.write(tmp_path / "mmproj.gguf", "mlp")
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    with pytest.raises(LoadFailed, match="Model 'm' can't be loaded: its `mmproj_path` "):
        projector.read(path, "m")


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="its `mmproj_path` is no projector of images"):
        projector.read(random_gguf.write(tmp_path / "text.gguf", "llama"), "m")
    with pytest.raises(LoadFailed, match="its `mmproj_path` does not exist"):
        projector.read(tmp_path / "none.gguf", "m")
