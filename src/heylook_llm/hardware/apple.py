"""What an Apple machine tells without root: its GPU (ioreg), its memory (system_profiler), its power (macmon)."""

import contextlib
import json
import plistlib
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from heylook_llm.hardware import command_output, sysctl
from heylook_llm.hardware.smbios import MemoryModule

MACMON: Final = "macmon"
"""A program of others that reads Apple's own power counters without root: https://github.com/vladkens/macmon."""
INTERVAL_MILLISECONDS: Final = 200
FRESH_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class AppleGpu:
    """The GPU of an Apple chip, which shares the machine's memory."""

    name: str
    cores: int | None
    percent: float | None
    used_bytes: int | None


def gpu() -> AppleGpu | None:
    """The GPU now; None: there is none that ioreg knows."""
    return parse_gpu(command_output("/usr/sbin/ioreg", "-r", "-d", "1", "-a", "-c", "IOAccelerator").encode())


def parse_gpu(document: bytes) -> AppleGpu | None:
    """The GPU in what `ioreg -a` prints."""
    try:
        entries = plistlib.loads(document)
    except (ValueError, plistlib.InvalidFileException, RecursionError):
        return None
    entry = next((one for one in entries if isinstance(one, dict) and "gpu-core-count" in one), None)
    if entry is None:
        return None
    statistics = entry.get("PerformanceStatistics", {})
    model = entry.get("model", "Apple GPU")
    return AppleGpu(
        model.decode("utf-8", "replace").rstrip("\0") if isinstance(model, bytes) else str(model),
        _whole(entry.get("gpu-core-count")),
        _whole(statistics.get("Device Utilization %")),
        _whole(statistics.get("In use system memory")),
    )


def memory_modules() -> tuple[MemoryModule, ...] | None:
    """The memory that system_profiler tells of."""
    return parse_memory(command_output("/usr/sbin/system_profiler", "SPMemoryDataType", "-json"), sysctl("hw.memsize"))


def parse_memory(document: str, total: str) -> tuple[MemoryModule, ...] | None:
    """Soldered memory is one module of the machine's whole size."""
    try:
        entries = json.loads(document)["SPMemoryDataType"]
    except (ValueError, KeyError, TypeError):
        return None
    first = next((entry for entry in entries if isinstance(entry, dict)), {})
    kind = first.get("dimm_type")
    if not total.isdecimal():
        return None
    return (MemoryModule(None, int(total), kind, None, first.get("dimm_manufacturer")),)


@dataclass(frozen=True, slots=True)
class Power:
    """One line of macmon: watts and degrees Celsius."""

    watts: float
    cpu_celsius: float | None
    gpu_celsius: float | None


def parse_power(line: bytes) -> Power | None:
    """A line of `macmon pipe`: CPU, GPU, neural engine together."""
    try:
        told = json.loads(line)
        temperatures = told.get("temp", {})
        watts = float(told["all_power"])
        degrees = temperatures.get("cpu_temp_avg"), temperatures.get("gpu_temp_avg")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Power(watts, *degrees)


class Macmon:
    """macmon beside us: its power, added up to energy. It runs from the first reading until `close`."""

    def __init__(self, program: str) -> None:
        command = [program, "pipe", "--interval", str(INTERVAL_MILLISECONDS)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._microjoules = 0.0
        self._last: tuple[float, Power] | None = None
        threading.Thread(target=self._follow, name=MACMON, daemon=True).start()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            power, now = parse_power(line), time.monotonic()
            if power is not None:
                if self._last is not None:  # each line tells of the time since the one before
                    self._microjoules += power.watts * (now - self._last[0]) * 1e6
                self._last = (now, power)

    def microjoules(self) -> int | None:
        """What was consumed since it began; None: it has said nothing of late."""
        return int(self._microjoules) if self.power() is not None else None

    def power(self) -> Power | None:
        """What it said last, if that is fresh."""
        if self._last is None or time.monotonic() - self._last[0] > FRESH_SECONDS:
            return None
        return self._last[1]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        with contextlib.suppress(OSError):
            self._process.wait()


def open_macmon() -> Macmon | None:
    """macmon, where it is installed."""
    program = shutil.which(MACMON)
    try:
        return None if program is None else Macmon(program)
    except OSError:
        return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None
