"""What a machine tells by its files: powercap's counters, the firmware's memory modules, cores, AMD's GPUs."""

import os
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.hardware import apple, inventory
from heylook_llm.hardware.energy import Energy, open_energy
from heylook_llm.hardware.readings import Meter
from heylook_llm.hardware.smbios import MemoryModule, memory_modules

pytestmark = pytest.mark.unit

WRAP = 262_143_328_850


def zone(root: Path, folder: str, name: str, value: int) -> Path:
    """One RAPL domain, as powercap shows it."""
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(name + "\n")
    (path / "max_energy_range_uj").write_text(f"{WRAP}\n")
    (path / "energy_uj").write_text(f"{value}\n")
    return path / "energy_uj"


def machine(root: Path) -> dict[str, Path]:
    """Two packages with their parts, and all of it once more."""
    return {
        "package-0": zone(root, "intel-rapl:0", "package-0", 1_000),
        "core": zone(root, "intel-rapl:0:0", "core", 400),
        "dram-0": zone(root, "intel-rapl:0:1", "dram", 50),
        "package-1": zone(root, "intel-rapl:1", "package-1", 2_000),
        "psys": zone(root, "intel-rapl:2", "psys", 9_000),
        "mmio": zone(root, "intel-rapl-mmio:0", "package-0", 1_000),
    }


def test_what_adds_up_is_counted_once(tmp_path: Path) -> None:
    machine(tmp_path)
    energy = open_energy(tmp_path, macmon=False)
    assert set(energy.names) >= {"package-0", "dram-0", "package-1"}
    assert not {"core", "psys"} & set(energy.names)
    found = energy.microjoules()
    assert (found["package-0"], found["dram-0"], found["package-1"]) == (1_000, 50, 2_000)


def test_a_counter_that_begins_anew_goes_on(tmp_path: Path) -> None:
    file = machine(tmp_path)["package-0"]
    energy = open_energy(tmp_path, macmon=False)
    file.write_text(str(WRAP - 10))
    before = energy.microjoules()["package-0"]
    file.write_text("15")
    assert energy.microjoules()["package-0"] - before == 25


def test_where_nothing_counts_the_reason_is_told(tmp_path: Path) -> None:
    energy = open_energy(tmp_path / "absent", macmon=False)
    if not energy.counters:
        assert energy.total() is None
        assert str(tmp_path) in (energy.reason or "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_locked_counter_says_how_to_open_it(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1).chmod(0)
    assert "chmod a+r" in (open_energy(tmp_path, macmon=False).reason or "")


def test_watts_are_energy_by_time(tmp_path: Path) -> None:
    files, now = machine(tmp_path), [5_000_000_000]
    meter = Meter(open_energy(tmp_path, macmon=False), tmp_path, lambda: now[0])
    assert meter.read().watts is None
    files["package-0"].write_text(str(1_000 + 30_000_000))
    now[0] += 2_000_000_000
    reading = meter.read()
    assert reading.watts is not None
    assert (reading.seconds, reading.watts["package-0"], reading.watts["package-1"]) == (2.0, 15.0, 0.0)


def test_a_machine_without_counters_says_so() -> None:
    reading = Meter(Energy((), "nothing counts here")).read()
    assert reading.watts is None
    assert reading.unknown["power"] == "nothing counts here"
    assert reading.cpu_percent is None


# ---- memory modules --------------------------------------------------------------------------------------------------


def structure(kind: int, body: bytes, *strings: str) -> bytes:
    """An SMBIOS structure."""
    texts = b"".join(text.encode() + b"\0" for text in strings) or b"\0"
    return bytes((kind, 4 + len(body))) + b"\1\0" + body + texts + b"\0"


def device(size: int, *, extended: int = 0, kind: int = 0x22, rated: int = 5600, configured: int = 5200) -> bytes:
    """A memory device of SMBIOS 3: offsets 04 to 22 (hexadecimal)."""
    body = struct.pack("<HHHHHBBBBBHH", 1, 0xFFFE, 64, 64, size, 9, 0, 1, 2, kind, 0x80, rated)
    body += bytes((3, 0, 0, 4, 0)) + struct.pack("<IH", extended, configured)
    return structure(17, body, "DIMM A1", "BANK 0", "Maker ", "PART-1 ")


def test_modules_are_read_as_the_firmware_says() -> None:
    table = structure(0, bytes(20), "bios") + device(0x7FFF, extended=49152) + device(0) + device(0x4000, configured=0)
    table += device(0x8000 | 512, kind=0x01, rated=0, configured=0) + structure(127, b"") + device(64)
    modules = memory_modules(table)
    assert modules == (
        MemoryModule("DIMM A1", 48 << 30, "DDR5", 5200, "Maker", "PART-1"),
        MemoryModule("DIMM A1", 16 << 30, "DDR5", 5600, "Maker", "PART-1"),
        MemoryModule("DIMM A1", 512 << 10, None, None, "Maker", "PART-1"),
    )


@given(st.binary(max_size=200), st.integers(0, 60))
def test_any_bytes_are_survived(noise: bytes, cut: int) -> None:
    memory_modules(noise)
    memory_modules(device(1024)[: -cut or None] + noise)


# ---- the rest --------------------------------------------------------------------------------------------------------


def test_a_machine_is_described_by_its_files(tmp_path: Path) -> None:
    gpu = "sys/class/drm/card0/device"
    for name, text in {
        "proc/cpuinfo": "vendor_id : GenuineIntel\nmicrocode : 0x2b\nflags : fpu avx2 avx512f amx_tile\n\nflags: x\n",
        "sys/class/dmi/id/sys_vendor": "Maker\n",
        "sys/class/dmi/id/product_name": "Box 9\n",
        "sys/class/dmi/id/bios_version": "1.2\n",
        "sys/devices/cpu_core/cpus": "0-7,16\n",
        "sys/devices/cpu_atom/cpus": "8-15\n",
        "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_min_freq": "800000\n",
        "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "5000000\n",
        "sys/devices/system/cpu/cpufreq/policy8/cpuinfo_max_freq": "3800000\n",
        f"{gpu}/vendor": "0x1002\n",
        f"{gpu}/device": "0x744c\n",
        f"{gpu}/mem_info_vram_total": "25753026560\n",
        f"{gpu}/mem_info_vram_used": "1000\n",
        f"{gpu}/gpu_busy_percent": "37\n",
        f"{gpu}/hwmon/hwmon3/temp1_input": "54000\n",
        f"{gpu}/hwmon/hwmon3/power1_average": "211000000\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "sys/firmware/dmi/tables").mkdir(parents=True)
    (tmp_path / "sys/firmware/dmi/tables/DMI").write_bytes(device(16384))
    found = inventory.inventory(tmp_path)
    assert (found.machine, found.firmware) == ("Maker Box 9", "1.2")
    processor = found.processor
    assert (processor.vendor, processor.microcode) == ("GenuineIntel", "0x2b")
    assert processor.instruction_sets == ("avx2", "avx512f", "amx_tile")
    assert (processor.performance_cores, processor.efficiency_cores) == (9, 8)
    assert (processor.min_mhz, processor.max_mhz) == (800.0, 5000.0)
    assert found.modules is not None
    assert found.modules[0].size_bytes == 16 << 30
    amd = next(each for each in found.gpus if each.vendor == "AMD")
    assert (amd.name, amd.memory_bytes) == ("AMD GPU 0x744c", 25753026560)
    assert not {"machine", "firmware", "memory.modules", "gpus"} & set(found.unknown)
    reading = Meter(Energy((), "none"), tmp_path).read()
    (now,) = [each for each in reading.gpus if each.total_bytes == 25753026560]
    assert (now.percent, now.used_bytes, now.celsius, now.watts) == (37.0, 1000, 54.0, 211.0)


def test_what_a_machine_does_not_tell_has_a_reason(tmp_path: Path) -> None:
    found = inventory.inventory(tmp_path)
    assert (found.machine, found.firmware, found.modules) == (None, None, None)
    assert {"machine", "firmware", "memory.modules", "processor.max_mhz"} <= set(found.unknown)
    assert all(found.unknown.values())


# ---- Apple -----------------------------------------------------------------------------------------------------------

IOREG = b"""<?xml version="1.0" encoding="UTF-8"?><plist version="1.0"><array><dict>
<key>gpu-core-count</key><integer>38</integer><key>model</key><string>Apple M2 Max</string>
<key>PerformanceStatistics</key><dict><key>Device Utilization %</key><integer>61</integer>
<key>In use system memory</key><integer>123456</integer></dict></dict></array></plist>"""
MACMON = (
    b'{"timestamp":"2026-01-01T00:00:00+00:00","temp":{"cpu_temp_avg":43.7,"gpu_temp_avg":36.9},"cpu_power":0.2,'
    b'"gpu_power":0.02,"ane_power":0.0,"all_power":%s,"sys_power":5.8}\n'
)


def test_apples_gpu_is_read_of_ioreg() -> None:
    gpu = apple.parse_gpu(IOREG)
    assert gpu == apple.AppleGpu("Apple M2 Max", 38, 61, 123456)
    assert apple.parse_gpu(b"") is None
    assert apple.parse_gpu(b"<plist><array/></plist>") is None


@given(st.binary(max_size=100))
def test_no_line_of_macmon_ends_us(line: bytes) -> None:
    apple.parse_power(line)
    apple.parse_gpu(line)


def test_macmons_power_adds_up_to_energy(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    os.mkfifo(lines)
    program = tmp_path / "macmon"
    program.write_text(f"#!/bin/sh\nexec cat {lines}\n")
    program.chmod(0o755)
    begin = time.monotonic()
    macmon = apple.Macmon(str(program))
    with lines.open("wb", buffering=0) as pipe:
        pipe.write(MACMON % b"10.0")
        while macmon.power() is None:
            assert time.monotonic() - begin < 30
        first = macmon.microjoules()
        assert first is not None
        pipe.write(b"nonsense\n" + MACMON % b"20.0")
        while not (grown := (macmon.microjoules() or 0) - first):
            assert time.monotonic() - begin < 30
        assert grown <= 20.0 * (time.monotonic() - begin) * 1e6
        power = macmon.power()
        assert power is not None
        assert (power.watts, power.cpu_celsius) == (20.0, 43.7)
    macmon.close()
