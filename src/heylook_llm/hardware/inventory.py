"""What this machine is made of, as far as it tells without root; what it doesn't tell is null, with the reason."""

import contextlib
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from heylook_llm import hardware
from heylook_llm.hardware import apple
from heylook_llm.hardware.smbios import MemoryModule, memory_modules

_X86: Final = (
    *("sse4_2", "avx", "avx2", "avx_vnni", "f16c", "fma", "bmi2", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "avx10", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
)
_ARM: Final = ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16", "sme", "sme2")
_APPLE: Final = ("AdvSIMD", "FEAT_FP16", "FEAT_DotProd", "FEAT_I8MM", "FEAT_BF16", "FEAT_SME", "FEAT_SME2")
"""What engines have kernels for."""
_AMD: Final = "0x1002"


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor. Frequencies are those that it may run at."""

    name: str
    vendor: str | None
    architecture: str
    physical_cores: int | None
    logical_cores: int
    available_cores: float
    performance_cores: int | None
    efficiency_cores: int | None
    """Both None: it has one kind of core, or doesn't tell."""
    min_mhz: float | None
    max_mhz: float | None
    instruction_sets: tuple[str, ...]
    microcode: str | None


@dataclass(frozen=True, slots=True)
class Graphics:
    """A GPU. `memory_bytes` None: it shares the machine's."""

    index: int
    name: str
    vendor: str
    memory_bytes: int | None
    driver: str | None = None
    cores: int | None = None
    compute_capability: str | None = None
    bus: str | None = None
    power_limit_watts: float | None = None


@dataclass(frozen=True, slots=True)
class System:
    """What runs on it."""

    name: str
    distribution: str | None
    kernel: str
    architecture: str
    python: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """The machine. `unknown`: field -> why it isn't known."""

    machine: str | None
    firmware: str | None
    processor: Processor
    memory_bytes: int
    swap_bytes: int
    modules: tuple[MemoryModule, ...] | None
    gpus: tuple[Graphics, ...]
    system: System
    unknown: dict[str, str] = field(default_factory=dict)


def inventory(root: Path = Path("/")) -> Inventory:
    """This machine; `root`: where its /proc and /sys are."""
    unknown: dict[str, str] = {}
    dmi = root / "sys/class/dmi/id"
    machine = _joined(_line(dmi / "sys_vendor"), _line(dmi / "product_name")) or _mac_model()
    firmware = _joined(_line(dmi / "bios_vendor"), _line(dmi / "bios_version"), _line(dmi / "bios_date"))
    if machine is None:
        unknown["machine"] = "the firmware's description isn't shown here, as in many virtual machines and containers"
    if firmware is None:
        unknown["firmware"] = unknown.get("machine", "macOS doesn't tell it without root")
    return Inventory(
        machine,
        firmware,
        _processor(root, unknown),
        hardware.memory().total_bytes,
        psutil.swap_memory().total,
        _modules(root, unknown),
        _graphics(root, unknown),
        _system(),
        unknown,
    )


# ---- the processor ---------------------------------------------------------------------------------------------------


def _processor(root: Path, unknown: dict[str, str]) -> Processor:
    cpu, facts = hardware.cpu(), _facts(root)
    sets = _instruction_sets(facts)
    fast, slow = _kinds_of_cores(root)
    lowest, highest = _frequencies(root)
    if not sets:
        unknown["processor.instruction_sets"] = "this system doesn't list them"
    if highest is None:
        unknown["processor.max_mhz"] = "no cpufreq driver tells it, as in most virtual machines"
    return Processor(
        cpu.name,
        facts.get("vendor_id") or facts.get("CPU implementer") or hardware.sysctl("machdep.cpu.vendor") or None,
        platform.machine(),
        cpu.physical_cores,
        cpu.logical_cores,
        cpu.available_cores,
        fast,
        slow,
        lowest,
        highest,
        sets,
        facts.get("microcode"),
    )


def _facts(root: Path) -> dict[str, str]:
    """What /proc/cpuinfo says of the first processor."""
    first = hardware.read_text(root / "proc/cpuinfo").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _instruction_sets(facts: dict[str, str]) -> tuple[str, ...]:
    has = set((facts.get("flags") or facts.get("Features") or "").split())
    if sys.platform == "darwin":
        return tuple(name for name in _APPLE if hardware.sysctl(f"hw.optional.arm.{name}") == "1")
    return tuple(name for name in (*_X86, *_ARM) if name in has)


def _kinds_of_cores(root: Path) -> tuple[int | None, int | None]:
    """How many threads of fast and of slow cores, where there are both."""
    if sys.platform == "darwin":
        counts = [hardware.sysctl(f"hw.perflevel{level}.logicalcpu") for level in (0, 1)]
        return (int(counts[0]), int(counts[1])) if all(map(str.isdecimal, counts)) else (None, None)
    fast = _cpus(_line(root / "sys/devices/cpu_core/cpus"))
    slow = _cpus(_line(root / "sys/devices/cpu_atom/cpus"))
    return (fast, slow) if fast and slow else (None, None)


def _cpus(text: str | None) -> int:
    """How many are in a list like `0-7,16`."""
    count = 0
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            count += int(last or first) - int(first) + 1
    return count


def _frequencies(root: Path) -> tuple[float | None, float | None]:
    """Lowest and highest of any core, in MHz."""
    policies = list((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    found = []
    for name, pick in (("cpuinfo_min_freq", min), ("cpuinfo_max_freq", max)):
        kilohertz = [int(text) for policy in policies if (text := _line(policy / name) or "").isdecimal()]
        found.append(pick(kilohertz) / 1000 if kilohertz else None)
    return found[0], found[1]


# ---- memory ----------------------------------------------------------------------------------------------------------


def _modules(root: Path, unknown: dict[str, str]) -> tuple[MemoryModule, ...] | None:
    if sys.platform == "darwin":
        found = apple.memory_modules()
        if found is None:
            unknown["memory.modules"] = "system_profiler doesn't tell"
        return found
    table = root / "sys/firmware/dmi/tables/DMI"
    try:
        return memory_modules(table.read_bytes())
    except PermissionError:
        unknown["memory.modules"] = f"{table} is readable by root only"
    except OSError:
        unknown["memory.modules"] = f"there is no {table}, as in many virtual machines and containers"
    return None


# ---- GPUs ------------------------------------------------------------------------------------------------------------


def _graphics(root: Path, unknown: dict[str, str]) -> tuple[Graphics, ...]:
    found = [*_nvidia(), *_amd(root)]
    if sys.platform == "darwin" and (gpu := apple.gpu()) is not None:
        found.append(Graphics(0, gpu.name, "Apple", None, f"macOS {platform.mac_ver()[0]}", gpu.cores))
    if not found:
        unknown["gpus"] = "none is found by nvml, amdgpu or ioreg"
    return tuple(found)


def _nvidia() -> list[Graphics]:
    nvml = hardware.open_nvml()
    if nvml is None:
        return []
    return [_one_nvidia(nvml, gpu) for gpu in hardware.gpus()]


def _one_nvidia(nvml: Any, gpu: hardware.Gpu) -> Graphics:
    handle = nvml.nvmlDeviceGetHandleByIndex(gpu.index)

    def ask(name: str) -> Any:
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            return getattr(nvml, name)(handle)
        return None

    capability = ask("nvmlDeviceGetCudaComputeCapability")
    generation, width = ask("nvmlDeviceGetMaxPcieLinkGeneration"), ask("nvmlDeviceGetMaxPcieLinkWidth")
    limit = ask("nvmlDeviceGetEnforcedPowerLimit")
    return Graphics(
        gpu.index,
        gpu.name,
        "NVIDIA",
        gpu.total_bytes,
        gpu.driver,
        ask("nvmlDeviceGetNumGpuCores"),
        None if capability is None else "{}.{}".format(*capability),
        None if generation is None or width is None else f"PCIe {generation}.0 x{width}",
        None if limit is None else limit / 1000,
    )


def amd_devices(root: Path) -> list[Path]:
    """The devices that amdgpu drives."""
    devices = (card / "device" for card in sorted((root / "sys/class/drm").glob("card[0-9]")))
    return [
        device for device in devices if _line(device / "vendor") == _AMD and (device / "mem_info_vram_total").exists()
    ]


def _amd(root: Path) -> list[Graphics]:
    found = []
    for at, device in enumerate(amd_devices(root)):
        total = _line(device / "mem_info_vram_total") or ""
        name = _line(device / "product_name") or f"AMD GPU {_line(device / 'device') or ''}".strip()
        found.append(Graphics(at, name, "AMD", int(total) if total.isdecimal() else None, "amdgpu"))
    return found


# ---- the system ------------------------------------------------------------------------------------------------------


def _system() -> System:
    distribution = None
    if sys.platform == "darwin":
        distribution = f"macOS {platform.mac_ver()[0]}"
    else:
        with contextlib.suppress(OSError):
            distribution = platform.freedesktop_os_release().get("PRETTY_NAME")
    return System(platform.system(), distribution, platform.release(), platform.machine(), platform.python_version())


def _mac_model() -> str | None:
    return hardware.sysctl("hw.model") or None if sys.platform == "darwin" else None


def _line(path: Path) -> str | None:
    return hardware.read_text(path).strip() or None


def _joined(*parts: str | None) -> str | None:
    return " ".join(part for part in parts if part) or None
