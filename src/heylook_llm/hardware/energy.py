"""What this machine has consumed, by counters: RAPL (powercap), NVML, macmon. Where there is none, the reason.

A counter only grows; what it counts from means nothing. All of it is micro-joules.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from heylook_llm import hardware
from heylook_llm.hardware.apple import Macmon, open_macmon

POWERCAP: Final = Path("/sys/class/powercap")
_PARTS: Final = ("package", "dram")
"""RAPL domains that add up to what is consumed: cores and GPU are parts of the package, psys is all of it again."""


class Counter(Protocol):
    """A counter of one part of the machine."""

    name: str

    def microjoules(self) -> int | None:
        """What it counted so far; None: it can't be read now."""
        ...


class Rapl:
    """A domain of the processor's own counter, which begins anew at its range's end."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._file = folder / "energy_uj"
        self._range = _number(folder / "max_energy_range_uj") or 0
        self._last: int | None = None
        self._wrapped = 0

    def microjoules(self) -> int | None:
        """See Counter."""
        value = _number(self._file)
        if value is None:
            return None
        if self._last is not None and value < self._last:
            self._wrapped += self._range
        self._last = value
        return self._wrapped + value


class NvmlEnergy:
    """What a GPU has consumed since its driver was loaded."""

    def __init__(self, nvml: Any, index: int) -> None:
        self.name = f"gpu-{index}"
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def microjoules(self) -> int | None:
        """See Counter."""
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) * 1000
        except self._nvml.NVMLError:
            return None


class AppleEnergy:
    """macmon's power of CPU, GPU and neural engine, added up."""

    name = "soc"

    def __init__(self, macmon: Macmon) -> None:
        self._macmon = macmon

    def microjoules(self) -> int | None:
        """See Counter."""
        return self._macmon.microjoules()


@dataclass(frozen=True, slots=True)
class Energy:
    """The counters of this machine, and why there are no others."""

    counters: tuple[Counter, ...]
    reason: str | None
    """Why nothing is counted; None: something is."""
    close: Callable[[], None] = lambda: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def names(self) -> tuple[str, ...]:
        """What is counted."""
        return tuple(counter.name for counter in self.counters)

    def microjoules(self) -> dict[str, int]:
        """What each counter says now; those that can't be read are left out. Any thread may ask."""
        with self._lock:
            return {counter.name: value for counter in self.counters if (value := counter.microjoules()) is not None}

    def total(self) -> int | None:
        """All of them together; None: there is none, or one can't be read."""
        found = self.microjoules()
        return sum(found.values()) if found and len(found) == len(self.counters) else None


def open_energy(powercap: Path = POWERCAP, *, macmon: bool = True) -> Energy:
    """The counters that can be read here. `macmon`: start it, where it is installed."""
    rapl, reason = _rapl(powercap)
    found: list[Counter] = [*rapl, *_nvml()]
    beside = open_macmon() if macmon and not found else None
    if beside is not None:
        return Energy((AppleEnergy(beside),), None, beside.close)
    return Energy(tuple(found), None if found else reason)


def _rapl(root: Path) -> tuple[list[Rapl], str]:
    """The domains that can be read, or why there are none."""
    found, locked = [], ""
    for folder in _zones(root):
        name = hardware.read_text(folder / "name").strip()
        if not name.startswith(_PARTS):
            continue
        if _number(folder / "energy_uj") is not None:
            found.append(Rapl(folder, name if name.startswith("package") else f"{name}-{folder.name.split(':')[1]}"))
        elif (folder / "energy_uj").exists():
            locked = f"{folder / 'energy_uj'} is readable by root only; `sudo chmod a+r` on it opens it until a restart"
    if hardware.sysctl("hw.optional.arm64") == "1":
        return found, "Apple's counters are read by macmon, which isn't installed (brew install macmon)"
    return found, locked or f"no energy counter is shown: {root} has no RAPL domain, and nvml lists no GPU with one"


def _zones(root: Path) -> Iterable[Path]:
    """Of the first control type; intel-rapl-mmio shows the same packages a second time."""
    try:
        return sorted(root.glob("intel-rapl:*"))
    except OSError:
        return ()


def _nvml() -> list[NvmlEnergy]:
    return [counter for counter in hardware.of_nvml_gpus(NvmlEnergy) if counter.microjoules() is not None]


def _number(path: Path) -> int | None:
    text = hardware.read_text(path).strip()
    return int(text) if text.isdecimal() else None
