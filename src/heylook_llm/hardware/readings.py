"""What this machine does now: utilisation, memory, temperatures, power. Rates are since the reading before."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from heylook_llm import hardware
from heylook_llm.hardware import apple
from heylook_llm.hardware.energy import Energy
from heylook_llm.hardware.inventory import amd_devices

_CPU_SENSORS: Final = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")
_WORTHWHILE_SECONDS: Final = 0.05
"""A rate over less says nothing."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU now."""

    index: int
    percent: float | None = None
    used_bytes: int | None = None
    total_bytes: int | None = None
    celsius: float | None = None
    watts: float | None = None
    mhz: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The machine now. `unknown`: field -> why it isn't known."""

    at_ns: int
    """Monotonic."""
    seconds: float | None
    """What rates are of; None: there was no reading before."""
    cpu_percent: float | None
    core_percents: tuple[float, ...] | None
    cpu_mhz: float | None
    cpu_celsius: float | None
    load_average: tuple[float, float, float]
    memory: hardware.Memory
    swap_used_bytes: int
    gpus: tuple[GpuReading, ...]
    watts: dict[str, float] | None
    """By counter (energy.Energy.names)."""
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def total_watts(self) -> float | None:
        """All counters together."""
        return None if self.watts is None else round(sum(self.watts.values()), 3)


class Meter:
    """Reads the machine; keeps what rates need of the reading before. One thread at a time."""

    def __init__(self, energy: Energy, root: Path = Path("/"), now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._energy = energy
        self._root = root
        self._now_ns = now_ns
        self._at_ns: int | None = None
        self._busy: list[tuple[float, float]] = []
        self._microjoules: dict[str, int] = {}

    def read(self) -> Reading:
        """The machine now."""
        now_ns, unknown = self._now_ns(), dict[str, str]()
        seconds = None if self._at_ns is None else (now_ns - self._at_ns) / 1e9
        if seconds is not None and seconds < _WORTHWHILE_SECONDS:
            seconds = None
        cores = self._cores(seconds)
        watts = self._watts(seconds)
        self._at_ns = now_ns
        gpus = self._gpus()
        temperature = _temperature()
        if temperature is None:
            unknown["cpu.temperature_celsius"] = "no sensor is shown, as in virtual machines and containers"
        if not gpus:
            unknown["gpus"] = "none is found by nvml, amdgpu or ioreg"
        if watts is None:
            unknown["power"] = self._energy.reason or "there is no reading before this one yet"
        return Reading(
            now_ns,
            seconds,
            None if cores is None else round(sum(cores) / len(cores), 1),
            cores,
            _megahertz(),
            temperature,
            psutil.getloadavg(),
            hardware.memory(),
            psutil.swap_memory().used,
            gpus,
            watts,
            unknown,
        )

    def _cores(self, seconds: float | None) -> tuple[float, ...] | None:
        """How busy each core was, in percent."""
        before, self._busy = self._busy, [_busy_and_all(times) for times in psutil.cpu_times(percpu=True)]
        if seconds is None or len(before) != len(self._busy):
            return None
        pairs = zip(before, self._busy, strict=True)
        return tuple(_percent(busy - was_busy, of - was_of) for (was_busy, was_of), (busy, of) in pairs)

    def _watts(self, seconds: float | None) -> dict[str, float] | None:
        before, self._microjoules = self._microjoules, self._energy.microjoules()
        if not seconds or not before:
            return None
        grown = {name: value - before[name] for name, value in self._microjoules.items() if name in before}
        return {name: round(max(0, more) / 1e6 / seconds, 3) for name, more in grown.items()} or None

    def _gpus(self) -> tuple[GpuReading, ...]:
        found = [
            *hardware.of_nvml_gpus(_nvidia),
            *(_amd(at, device) for at, device in enumerate(amd_devices(self._root))),
        ]
        if sys.platform == "darwin" and (gpu := apple.gpu()) is not None:
            found.append(GpuReading(0, gpu.percent, gpu.used_bytes))
        return tuple(found)


def _busy_and_all(times: Any) -> tuple[float, float]:
    """Seconds that a core was busy, and all; guests are among their hosts' time already."""
    all_of = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return all_of - times.idle - getattr(times, "iowait", 0.0), all_of


def _percent(part: float, whole: float) -> float:
    return round(min(100.0, max(0.0, 100 * part / whole)), 1) if whole > 0 else 0.0


def _megahertz() -> float | None:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError, RuntimeError):  # Apple silicon, some boards
        return None
    return None if frequency is None else round(frequency.current, 1) or None


def _temperature() -> float | None:
    """The hottest that the processor's own sensor tells."""
    sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
    for name in _CPU_SENSORS:
        if degrees := [one.current for one in sensors.get(name, ()) if one.current]:
            return float(max(degrees))
    return None


# ---- GPUs ------------------------------------------------------------------------------------------------------------


def _nvidia(nvml: Any, index: int) -> GpuReading:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(name: str, *arguments: int) -> Any:
        try:
            return getattr(nvml, name)(handle, *arguments)
        except (nvml.NVMLError, AttributeError):
            return None

    rates, held = ask("nvmlDeviceGetUtilizationRates"), ask("nvmlDeviceGetMemoryInfo")
    power = ask("nvmlDeviceGetPowerUsage")
    return GpuReading(
        index,
        None if rates is None else float(rates.gpu),
        None if held is None else int(held.used),
        None if held is None else int(held.total),
        ask("nvmlDeviceGetTemperature", 0),
        None if power is None else power / 1000,
        ask("nvmlDeviceGetClockInfo", 0),
    )


def _amd(index: int, device: Path) -> GpuReading:
    """By amdgpu's files: percent, bytes, thousandths of degrees, micro-watts, hertz."""
    sensors = next(iter(sorted((device / "hwmon").glob("hwmon*"))), device)
    degrees, power = _number(sensors / "temp1_input"), _number(sensors / "power1_average")
    clock = _number(sensors / "freq1_input")
    return GpuReading(
        index,
        _number(device / "gpu_busy_percent"),
        _whole(_number(device / "mem_info_vram_used")),
        _whole(_number(device / "mem_info_vram_total")),
        None if degrees is None else degrees / 1e3,
        None if power is None else power / 1e6,
        None if clock is None else clock / 1e6,
    )


def _number(path: Path) -> float | None:
    text = hardware.read_text(path).strip()
    return float(text) if text.isdecimal() else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
