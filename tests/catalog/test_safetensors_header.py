"""Headers of safetensors files: what is read of a good one, and that every damage is refused by name."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.catalog import safetensors_header
from heylook_llm.errors import LoadFailed

pytestmark = pytest.mark.unit

GOOD: dict[str, Any] = {
    "__metadata__": {"format": "mlx"},
    "b.weight": {"dtype": "F16", "shape": [2, 3], "data_offsets": [8, 20]},
    "a.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
}


def written(path: Path, header: dict[str, Any] | bytes, data: int = 20, *, length: int | None = None) -> Path:
    """A file with that header and so many bytes of tensors."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + bytes(data))
    return path


def changed(**fields: Any) -> dict[str, Any]:
    """GOOD with other fields in its second tensor."""
    return {**GOOD, "b.weight": {**GOOD["b.weight"], **fields}}


def test_a_folder_of_files(tmp_path: Path) -> None:
    written(tmp_path / "model-1.safetensors", GOOD)
    other = {"c": {"dtype": "U32", "shape": [10, 5], "data_offsets": [0, 200]}}
    written(tmp_path / "model-2.safetensors", other, 200)
    written(tmp_path / "adapter.safetensors", b"not looked at")
    tensors = safetensors_header.read_folder(tmp_path, "m")
    assert [tensor.name for tensor in tensors] == ["a.weight", "b.weight", "c"]
    assert (tensors[1].shape, tensors[1].dtype, tensors[1].start, tensors[1].end) == ((2, 3), "F16", 8, 20)
    assert safetensors_header.weights_bytes(tensors) == 220
    assert safetensors_header.main_dtype(tensors) == "U32"


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        (changed(data_offsets=[8, 24]), 20, "another number of bytes"),
        (changed(shape=[2, 5], data_offsets=[0, 20]), 20, "overlap"),
        (changed(data_offsets=[12, 24]), 24, "hole"),
        (changed(shape=[1 << 62, 1 << 62]), 20, "another number of bytes"),
        (changed(shape=[-2, -3]), 20, "shape or offsets"),
        (changed(shape=[True, 6]), 20, "shape or offsets"),
        (changed(shape=[1] * 9), 20, "shape or offsets"),
        (changed(data_offsets=[8, 20, 20]), 20, "shape or offsets"),
        (changed(dtype="F17"), 20, "unknown type"),
        (changed(extra=1), 20, "unknown way"),
        (GOOD, 19, "holds 19 bytes"),
        (GOOD, 21, "holds 21 bytes"),
        (b'{"a": {}, "a": {}}', 0, "twice"),
        (b'{"a\xff": 1}', 0, "not JSON"),
        (b"[" * 200_000, 0, "not JSON"),
        (b"[]", 0, "not a JSON object"),
        (b"{" + b'"n": ' + b"9" * 5000 + b"}", 0, "not JSON"),
        ({"n" * 5000: GOOD["a.weight"]}, 8, "name of 5000"),
    ],
)
def test_damage_is_refused_by_name(tmp_path: Path, header: dict[str, Any] | bytes, data: int, words: str) -> None:
    written(tmp_path / "model.safetensors", header, data)
    with pytest.raises(LoadFailed, match=words) as refused:
        safetensors_header.read_folder(tmp_path, "m")
    assert str(tmp_path) not in refused.value.message
    assert refused.value.code == "model_file_invalid"


@pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 1, 1000])
def test_a_length_beyond_the_file(tmp_path: Path, length: int) -> None:
    written(tmp_path / "model.safetensors", GOOD, length=length)
    with pytest.raises(LoadFailed, match="beyond its end"):
        safetensors_header.read_folder(tmp_path, "m")


def test_a_million_tensors_are_refused_soon(tmp_path: Path) -> None:
    entry = b'"%d":{"dtype":"U8","shape":[],"data_offsets":[0,1]}'
    written(tmp_path / "model.safetensors", b"{" + b",".join(entry % n for n in range(1_000_000)) + b"}", 1)
    start = time.perf_counter()
    with pytest.raises(LoadFailed, match="at most"):
        safetensors_header.read_folder(tmp_path, "m")
    assert time.perf_counter() - start < 5


def test_two_files_with_one_tensor(tmp_path: Path) -> None:
    for name in ("model-1.safetensors", "model-2.safetensors"):
        written(tmp_path / name, GOOD)
    with pytest.raises(LoadFailed, match="another file has too"):
        safetensors_header.read_folder(tmp_path, "m")


def test_no_file_and_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="holds no"):
        safetensors_header.read_folder(tmp_path, "m")
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(LoadFailed, match="not a regular file"):
        safetensors_header.read_folder(tmp_path, "m")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "model.safetensors"
    path.write_bytes(data)
    try:
        safetensors_header.read(path, "m")
    except LoadFailed:
        return
