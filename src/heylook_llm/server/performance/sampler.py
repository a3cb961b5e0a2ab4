"""One sample a second of what the models and the machine do, as long as somebody listens."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from heylook_llm import core
from heylook_llm.hardware.readings import Meter, Reading
from heylook_llm.server.backend import ModelStatus

log = logging.getLogger(__name__)

SAMPLE_SECONDS: Final = 1.0
STALE_SECONDS: Final = 3.0
"""A model that hasn't told its counters for so long has an unknown speed."""


class Speed(msgspec.Struct, frozen=True):
    """Tokens per second of one model, all its sequences together; None: unknown."""

    output: float | None = None
    prompt: float | None = None


class Speeds:
    """The models' speeds, from counters that they tell of about once a second with their time. Pure."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int | None, core.WorkerStats, Speed]] = {}

    def take(self, statuses: Iterable[ModelStatus], now_ns: int) -> dict[str, Speed]:
        """The speed of each loaded model, by what its counters grew since they were last told."""
        found: dict[str, tuple[int | None, core.WorkerStats, Speed]] = {}
        for status in statuses:
            if status.stats is not None and status.stats.at_ns:
                last = self._last.get(status.spec.id)
                found[status.spec.id] = _next(last if last and last[0] == status.pid else None, status, now_ns)
        self._last = found
        return {model: speed for model, (_, _, speed) in found.items()}


def _next(
    last: tuple[int | None, core.WorkerStats, Speed] | None, status: ModelStatus, now_ns: int
) -> tuple[int | None, core.WorkerStats, Speed]:
    stats = status.stats
    assert stats is not None
    if now_ns - stats.at_ns > STALE_SECONDS * 1e9 or last is None:
        return status.pid, stats, Speed()
    before = last[1]
    if stats.at_ns == before.at_ns:  # nothing new was told since
        return status.pid, stats, last[2]
    seconds = (stats.at_ns - before.at_ns) / 1e9
    output = (stats.output_tokens - before.output_tokens) / seconds
    prompt = (stats.prompt_tokens - before.prompt_tokens) / seconds
    return status.pid, stats, Speed(round(output, 2), round(prompt, 2))


def sample(statuses: list[ModelStatus], speeds: dict[str, Speed], reading: Reading, in_flight: int) -> dict[str, Any]:
    """A sample in the words of the API."""
    models = {status.spec.id: _model(status, speeds.get(status.spec.id, Speed())) for status in statuses if status.info}
    return {
        "tokens_per_second": _sum(one["tokens_per_second"] for one in models.values()),
        "prompt_tokens_per_second": _sum(one["prompt_tokens_per_second"] for one in models.values()),
        "in_flight": in_flight,
        "queued": sum(status.queued for status in statuses),
        "batch_size": _sum(one["batch_size"] for one in models.values()),
        "models": models,
        **machine(reading),
    }


def machine(reading: Reading) -> dict[str, Any]:
    """The machine's part of a sample."""
    return {
        "cpu_percent": reading.cpu_percent,
        "memory_used_bytes": reading.memory.used_bytes,
        "memory_total_bytes": reading.memory.total_bytes,
        "gpus": [
            {"index": gpu.index, "percent": gpu.percent, "memory_used_bytes": gpu.used_bytes} for gpu in reading.gpus
        ],
        "power_watts": reading.total_watts,
    }


def _model(status: ModelStatus, speed: Speed) -> dict[str, Any]:
    stats = status.stats or core.WorkerStats()
    return {
        "tokens_per_second": speed.output,
        "prompt_tokens_per_second": speed.prompt,
        "running": stats.running,
        "waiting": stats.waiting,
        "batch_size": stats.batch_size if stats.running else 0,
        "kv_used_tokens": stats.kv_used_tokens,
        "kv_tokens": status.info.kv_tokens if status.info else None,
        "resident_bytes": stats.resident_bytes,
    }


def _sum(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None: none is."""
    known = [value for value in values if value is not None]
    return round(sum(known), 2) if known else None


class Sampler:
    """Takes samples from `start` to `stop`."""

    def __init__(
        self,
        meter: Callable[[], Meter],
        models: Callable[[], list[ModelStatus]],
        in_flight: Callable[[], int],
        give: Callable[[dict[str, Any]], None],
    ) -> None:
        self._meter = meter
        self._models = models
        self._in_flight = in_flight
        self._give = give
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Somebody listens."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Nobody does any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        meter, speeds = self._meter(), Speeds()
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                try:
                    reading = await asyncio.to_thread(meter.read)
                except Exception:  # whatever a driver does: the models' part is still worth telling of
                    log.exception("the machine can't be read")
                    return
                statuses = self._models()
                self._give(sample(statuses, speeds.take(statuses, reading.at_ns), reading, self._in_flight()))
                await asyncio.sleep(SAMPLE_SECONDS)
