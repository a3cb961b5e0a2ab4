"""Reads the bench's machine beside a run, once a second: what `meanwhile` sums up."""

import contextlib
import time
from collections.abc import Mapping

import psutil

from heylook_llm.bench.sample import Point
from heylook_llm.hardware.energy import Energy, open_energy
from heylook_llm.hardware.readings import Meter


class Watch:
    """Reads the machine, and the processes behind local targets. One thread at a time."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        """`ports`: of targets on this machine, by their name."""
        self._energy: Energy = open_energy()
        self._meter = Meter(self._energy)
        self._meter.read()  # rates are since the reading before
        self._targets = {name: found for name, port in ports.items() if (found := _listener(port)) is not None}

    def points(self) -> list[Point]:
        """Everything that is known now."""
        now, read = time.monotonic_ns(), self._meter.read()
        told: list[tuple[str, str, float | None]] = [
            *(("host", f"cpu{core}_share", share / 100) for core, share in enumerate(read.core_percents or ())),
            ("host", "available_bytes", float(read.memory.available_bytes)),
            ("host", "celsius", read.cpu_celsius),
        ]
        for gpu in read.gpus:
            source = f"gpu{gpu.index}"
            told += [(source, name, getattr(gpu, name)) for name in ("percent", "used_bytes", "celsius", "watts")]
        told += [("energy", name, float(count)) for name, count in self._energy.microjoules().items()]
        told += [(f"target {name}", "rss_bytes", _resident(process)) for name, process in self._targets.items()]
        return [Point(now, source, name, value) for source, name, value in told if value is not None]

    def close(self) -> None:
        """End what reads beside us."""
        self._energy.close()


def _listener(port: int) -> psutil.Process | None:
    """The process that listens there, if it is this user's."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return process
    return None


def _resident(process: psutil.Process) -> float | None:
    """Bytes in memory of a process and all below it; pages that they share count once for each."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    return float(total) or None
