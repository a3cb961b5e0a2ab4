"""What this machine is: plausible values here, and cgroup limits from files written by hand."""

import os
from pathlib import Path

import pytest

from heylook_llm import hardware

pytestmark = pytest.mark.unit


def test_this_machine() -> None:
    cpu, memory = hardware.cpu(), hardware.memory()
    assert cpu.name
    assert 0 < cpu.available_cores <= cpu.logical_cores
    assert 0 < memory.available_bytes <= memory.total_bytes
    assert (hardware.gpu_free_bytes() is None) == (not hardware.gpus())
    assert all(gpu.free_bytes <= gpu.total_bytes for gpu in hardware.gpus())


def test_this_process() -> None:
    held = hardware.process_memory(os.getpid())
    assert held is not None
    assert 0 < held.private_bytes <= held.resident_bytes
    assert hardware.process_memory(2**22 + 1) is None


@pytest.mark.parametrize(
    "files",
    [
        {
            "memory.max": "1000000",
            "memory.current": "700000",
            "memory.stat": "anon 1\ninactive_file 200000\n",
            "cpu.max": "150000 100000",
        },
        {
            "memory/memory.limit_in_bytes": "1000000",
            "memory/memory.usage_in_bytes": "700000",
            "memory/memory.stat": "cache 5\ntotal_inactive_file 200000\n",
            "cpu/cpu.cfs_quota_us": "150000",
            "cpu/cpu.cfs_period_us": "100000",
        },
    ],
    ids=["v2", "v1"],
)
def test_cgroup_limits(files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    assert hardware.memory() == hardware.Memory(1_000_000, 500_000)
    assert hardware._cgroup_cores() == 1.5


def test_no_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    assert hardware.memory().total_bytes > 1 << 28
    assert hardware._cgroup_cores() is None
