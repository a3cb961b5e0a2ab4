"""What this machine is and does now: processor, memory, GPUs, and what a process holds of them.

A leaf: it imports psutil and, where it is installed, NVIDIA's nvml. Bytes are bytes; unknown is None. What it is made
of in detail: `inventory`; what it does now: `readings`; what it consumes: `energy`.
"""

import functools
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil

T = TypeVar("T")
_CGROUP: Final = Path("/sys/fs/cgroup")
_UNLIMITED_BYTES: Final = 1 << 60
"""cgroup v1 writes a number near 2**63 for "no limit"."""
COMMAND_SECONDS: Final = 5.0
COMMAND_ENVIRONMENT: Final = ("PATH", "LANG", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SystemRoot")


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor. `available_cores` is what this process may run on (affinity and cgroup quota)."""

    name: str
    physical_cores: int | None
    logical_cores: int
    available_cores: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Main memory; the smaller of the machine's and the cgroup's."""

    total_bytes: int
    available_bytes: int

    @property
    def used_bytes(self) -> int:
        """What isn't available."""
        return self.total_bytes - self.available_bytes


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that nvml knows."""

    index: int
    name: str
    total_bytes: int
    free_bytes: int
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """What a process holds. `private_bytes` leaves out mapped files, whose pages count as available already."""

    resident_bytes: int
    private_bytes: int


@functools.cache
def cpu() -> Cpu:
    """The processor of this machine."""
    logical = psutil.cpu_count(logical=True) or 1
    return Cpu(_cpu_name(), psutil.cpu_count(logical=False), logical, _available_cores(logical))


def memory() -> Memory:
    """Total and available memory now, within the cgroup's limit."""
    machine = psutil.virtual_memory()
    limit = _cgroup_memory()
    if limit is None:
        return Memory(machine.total, machine.available)
    return Memory(min(machine.total, limit.total_bytes), min(machine.available, limit.available_bytes))


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that nvml lists; () without nvml, without a driver or without a GPU."""
    return of_nvml_gpus(_gpu)


def gpu_free_bytes() -> int | None:
    """The free memory of the GPUs that have their own; None: there is none, or nvml can't tell."""
    found = gpus()
    return sum(gpu.free_bytes for gpu in found) if found else None


def process_memory(pid: int) -> ProcessMemory | None:
    """What a process holds now; None if it is gone or not ours to see."""
    try:
        process = psutil.Process(pid)
        resident = process.memory_info().rss
        private = _anonymous_bytes(pid)
    except (psutil.Error, OSError):
        return None
    return ProcessMemory(resident, resident if private is None else private)


def peak_bytes() -> int | None:
    """The most main memory that this process ever held."""
    if sys.platform == "linux":  # getrusage would count what the process that started this one held
        for line in read_text("/proc/self/status").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None
    import resource  # noqa: PLC0415 (absent on Windows)

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


@functools.cache
def clock_id() -> str:
    """Which monotonic clock this process reads: stamps compare only within one boot and one time namespace."""
    boot = read_text("/proc/sys/kernel/random/boot_id").strip() or f"boot-{psutil.boot_time():.0f}"
    try:
        namespace = os.readlink("/proc/self/ns/time")
    except OSError:  # not Linux, or one without time namespaces
        return boot
    return f"{boot} {namespace}"


def boot_seconds() -> float:
    """Seconds since the machine booted, its sleep included; unlike the wall clock it is never set."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":  # where time.monotonic() stands still in sleep
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic()


@functools.cache
def open_nvml() -> Any:
    """The module, initialized; None if it isn't installed or finds no driver."""
    try:
        import pynvml  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 (optional: the extra `nvidia`)
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def of_nvml_gpus(read: Callable[[Any, int], T]) -> tuple[T, ...]:
    """What is read of each GPU that nvml lists; () as for `gpus`."""
    nvml = open_nvml()
    if nvml is None:
        return ()
    try:
        return tuple(read(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError:
        return ()


def _gpu(pynvml: Any, index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    held = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name, driver = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlSystemGetDriverVersion()
    return Gpu(index, as_text(name), int(held.total), int(held.free), as_text(driver))


def as_text(value: str | bytes) -> str:
    """What nvml says, which some versions say in bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _cpu_name() -> str:
    if sys.platform == "linux":
        for line in read_text("/proc/cpuinfo").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model", "cpu model"):
                return value.strip()
    if sys.platform == "darwin" and (brand := sysctl("machdep.cpu.brand_string")):
        return brand
    return platform.processor() or platform.machine() or "unknown"


def _available_cores(logical: int) -> float:
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    quota = _cgroup_cores()
    return float(affinity) if quota is None else min(float(affinity), quota)


def _cgroup_cores() -> float | None:
    if (both := read_text(_CGROUP / "cpu.max").split()) and both[0] != "max":
        return int(both[0]) / int(both[1])
    quota, period = _number(_CGROUP / "cpu/cpu.cfs_quota_us"), _number(_CGROUP / "cpu/cpu.cfs_period_us")
    return quota / period if quota is not None and period and quota > 0 else None


def _cgroup_memory() -> Memory | None:
    """The tightest limit; page cache that the kernel would drop first counts as available."""
    for limit, used, stat, inactive in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        total, current = _number(_CGROUP / limit), _number(_CGROUP / used)
        if total is None or current is None or total >= _UNLIMITED_BYTES:
            continue
        cached = _stat(read_text(_CGROUP / stat), inactive)
        return Memory(total, max(0, total - current + cached))
    return None


def _stat(text: str, key: str) -> int:
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def _anonymous_bytes(pid: int) -> int | None:
    if sys.platform != "linux":
        return None
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None


def _number(path: Path) -> int | None:
    text = read_text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def read_text(path: Path | str) -> str:
    """A file's text; empty where it can't be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def sysctl(name: str) -> str:
    """What macOS says of itself; empty where it has nothing to say."""
    return command_output("/usr/sbin/sysctl", "-n", name).strip()


def command_output(*command: str) -> str:
    """What a program of the system prints; empty where it isn't there, fails or takes long."""
    known = {name: os.environ[name] for name in COMMAND_ENVIRONMENT if name in os.environ}  # no key of ours
    try:
        done = subprocess.run(command, check=True, capture_output=True, timeout=COMMAND_SECONDS, env=known)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


def own_addresses() -> frozenset[str]:
    """The IP addresses of this machine's interfaces, without their zones."""
    interfaces = psutil.net_if_addrs().values()
    families = (socket.AF_INET, socket.AF_INET6)
    return frozenset(one.address.partition("%")[0] for each in interfaces for one in each if one.family in families)
