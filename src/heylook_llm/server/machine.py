"""The machine that the server runs on, as GET /hardware tells it: what it found, and what its owner says instead."""

import asyncio
import dataclasses
import time
from pathlib import Path
from typing import Any, Final

from heylook_llm import __version__, config, engines
from heylook_llm.hardware import inventory as inventories
from heylook_llm.hardware.energy import Energy, open_energy
from heylook_llm.hardware.inventory import Inventory
from heylook_llm.hardware.readings import GpuReading, Meter, Reading
from heylook_llm.server.backend import ModelStatus
from heylook_llm.server.placement import compute_mode

RATE_SECONDS: Final = 0.2
"""Over so long the first reading after a while is taken."""
FRESH_SECONDS: Final = 10.0
_ROOT: Final = Path("/")


class Machine:
    """This machine. Reading it blocks for some milliseconds, so it is done in threads."""

    def __init__(self, owner: config.Hardware | None = None, energy: Energy | None = None, root: Path = _ROOT) -> None:
        """`owner`: what models.yaml says of it; `energy`: its counters, by default those that need nothing started."""
        self.owner = owner or config.Hardware()
        self.energy = energy or open_energy(Path(self.owner.powercap), macmon=False)
        self._root = root
        self._inventory: Inventory | None = None
        self._meter = self.meter()
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")

    def meter(self) -> Meter:
        """What reads it now and then, for somebody's own pace."""
        return Meter(self.energy, self._root)

    async def described(self) -> dict[str, Any]:
        """What it is made of."""
        if self._inventory is None:
            self._inventory = await asyncio.to_thread(inventories.inventory, self._root)
        return described(self._inventory, self.owner)

    async def reading(self) -> Reading:
        """What it does now: over the time since it was last asked, or a fifth of a second."""
        async with self._reading:
            if time.monotonic() - self._read_at > FRESH_SECONDS:
                await asyncio.to_thread(self._meter.read)
                await asyncio.sleep(RATE_SECONDS)
            elif time.monotonic() - self._read_at < RATE_SECONDS:
                await asyncio.sleep(RATE_SECONDS)
            self._read_at = time.monotonic()
            return await asyncio.to_thread(self._meter.read)


def described(found: Inventory, owner: config.Hardware) -> dict[str, Any]:
    """An inventory in the words of the API, the owner's in place of what was found."""
    processor, unknown = dataclasses.asdict(found.processor), dict(found.unknown)
    told: dict[str, Any] = {
        "object": "hardware",
        "label": owner.label,
        "machine": found.machine,
        "firmware": found.firmware,
        "processor": {**processor, "instruction_sets": list(found.processor.instruction_sets)},
        "memory": {
            "description": None,
            "total_bytes": found.memory_bytes,
            "swap_bytes": found.swap_bytes,
            "modules": None if found.modules is None else [dataclasses.asdict(module) for module in found.modules],
        },
        "gpus": [dataclasses.asdict(gpu) for gpu in found.gpus],
        "system": dataclasses.asdict(found.system),
        "engines": {"heylookllm": __version__, **{name: _engine(name) for name in engines.DISTRIBUTIONS}},
        "overridden": [],
    }
    _override(told, owner)
    told["unknown"] = {name: why for name, why in unknown.items() if name not in told["overridden"]}
    return told


def _override(told: dict[str, Any], owner: config.Hardware) -> None:
    """Put the owner's words in place of what was found; they are named."""
    if owner.machine is not None:
        told["machine"] = owner.machine
        told["overridden"].append("machine")
    if owner.processor is not None:
        told["processor"]["name"] = owner.processor
        told["overridden"].append("processor.name")
    if owner.memory is not None:
        told["memory"]["description"] = owner.memory
        told["overridden"].append("memory.description")
    if owner.gpu is not None:
        unseen = dict.fromkeys(field.name for field in dataclasses.fields(inventories.Graphics))
        told["gpus"] = told["gpus"] or [{**unseen, "index": 0, "vendor": "unknown"}]
        told["gpus"][0]["name"] = owner.gpu
        told["overridden"] += ["gpus", "gpus.0.name"]


def _engine(provider: str) -> dict[str, Any] | None:
    """An engine's version, and whether it was built for a GPU; None: it isn't installed."""
    version = engines.version(provider)
    return None if version is None else {"version": version, "uses_gpu": engines.uses_gpu(provider)}


def now(reading: Reading, statuses: list[ModelStatus], idle_watts: float | None) -> dict[str, Any]:
    """A reading in the words of the API, with what the loaded models take of the machine."""
    return {
        "object": "hardware.live",
        "at": time.time(),
        "seconds": None if reading.seconds is None else round(reading.seconds, 3),
        "cpu": {
            "percent": reading.cpu_percent,
            "core_percents": None if reading.core_percents is None else list(reading.core_percents),
            "mhz": reading.cpu_mhz,
            "temperature_celsius": reading.cpu_celsius,
            "load_average": list(reading.load_average),
        },
        "memory": {
            "total_bytes": reading.memory.total_bytes,
            "available_bytes": reading.memory.available_bytes,
            "swap_used_bytes": reading.swap_used_bytes,
        },
        "gpus": [_gpu(gpu) for gpu in reading.gpus],
        "power": {
            "watts": reading.total_watts,
            "idle_watts": None if idle_watts is None else round(idle_watts, 3),
            "counters": reading.watts or {},
        },
        "models": {status.spec.id: _model(status) for status in statuses if status.info is not None},
        "unknown": reading.unknown,
    }


def _gpu(gpu: GpuReading) -> dict[str, Any]:
    return {
        "index": gpu.index,
        "percent": gpu.percent,
        "memory_used_bytes": gpu.used_bytes,
        "memory_total_bytes": gpu.total_bytes,
        "temperature_celsius": gpu.celsius,
        "power_watts": gpu.watts,
        "mhz": gpu.mhz,
    }


def _model(status: ModelStatus) -> dict[str, Any]:
    info = status.info
    return {
        "compute": compute_mode(info),
        "layers": info.n_layers if info else None,
        "layers_gpu": info.n_layers_gpu if info else None,
        "gpu_bytes": info.gpu_bytes if info else None,
        "resident_bytes": status.resident_bytes,
        "peak_resident_bytes": status.stats.peak_resident_bytes if status.stats else None,
    }
