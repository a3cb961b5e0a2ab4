"""How true the bench's own stamps are here and now: a short load against the null target, held to the target's log."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from heylook_llm.bench.frames import Begin, Ended, Item, Items, More, Pulse, Report
from heylook_llm.bench.probe import Probe, probing
from heylook_llm.bench.sending import SenderProcess
from heylook_llm.bench.targets.openai import OpenAI
from heylook_llm.bench.timeline import Exchange, measure
from heylook_llm.errors import TargetFailed

CLIENTS: Final = 8
REQUESTS: Final = 24
TOKENS: Final = 40
TTFT_MS: Final = 50
ITL_MS: Final = 10
WARMUP: Final = 8
LONGEST_SECONDS: Final = 30.0
DAY_SECONDS: Final = 86_400


POOR_MS: Final = 5.0
"""Stamps that are later than this, p99, are worth little; they are looked at anew by the next run."""


class Calibration(msgspec.Struct, frozen=True):
    """What stamps were late by, against what the null target wrote when; milliseconds."""

    wall: float
    """When it was made, seconds since 1970."""
    version: str
    machine: str
    chunks: int
    error_p50_ms: float
    error_p99_ms: float
    worst_ms: float
    loop_lag_ms: float
    """The latest that the sender's loop was at an alarm of its own."""
    sender_cpu_share: float


async def of_today(path: Path, version: str, machine: str) -> Calibration:
    """That which the file at `path` keeps, if it is of this machine, version and day; else a new one, kept there.

    Raises TargetFailed.
    """
    found = _kept(path)
    if found is not None and is_good_for(found, version, machine, time.time()):
        return found
    return await made_anew(path, version, machine)


def is_good_for(found: Calibration, version: str, machine: str, wall: float) -> bool:
    """Whether a run of now needs no other. A poor one doesn't count: the machine may be quiet by now."""
    ours = (found.version, found.machine) == (version, machine)
    return ours and 0 <= wall - found.wall < DAY_SECONDS and doubt(found) is None


def doubt(found: Calibration) -> str | None:
    """Why stamps are worth little here and now; None: they are good."""
    if found.error_p99_ms <= POOR_MS:
        return None
    return (
        f"When the bench measured itself, its stamps were late by up to {found.error_p99_ms:g} ms (p99): this machine "
        "is busy otherwise, or too slow, and all times hold that, too."
    )


def _kept(path: Path) -> Calibration | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    except (OSError, msgspec.DecodeError):
        return None


async def made_anew(path: Path, version: str, machine: str) -> Calibration:
    """A new one, kept at `path`. Raises TargetFailed."""
    made = await calibrate(version, machine)
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(made))
    draft.replace(path)
    return made


async def calibrate(version: str, machine: str) -> Calibration:
    """Measure ourselves. Raises TargetFailed where the null target can't be started."""
    null = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "heylook_llm.bench.null"),
        *("--ttft-ms", str(TTFT_MS), "--itl-ms", str(ITL_MS), "--tokens", str(TOKENS)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert null.stdin is not None
    assert null.stdout is not None
    try:
        port = (await null.stdout.readline()).decode().strip()
        if not port:
            raise TargetFailed("The null target can't be started; what the bench's stamps are worth stays unknown.")
        url = f"http://127.0.0.1:{port}"
        async with asyncio.timeout(LONGEST_SECONDS):
            exchanges, pulses = await _load(url)
            async with probing() as http:
                written = {row["id"]: row["written"] for row in await Probe(http, url).lines("/log")}
    except TimeoutError as error:
        raise TargetFailed(f"The null target took longer than {LONGEST_SECONDS:g} s.") from error
    finally:
        null.stdin.close()
        await null.wait()
    return _judged(errors_ns(exchanges, written), pulses, version, machine)


def errors_ns(exchanges: list[Exchange], written: dict[str, list[int]]) -> list[int]:
    """Of every chunk: its stamp less when the target wrote it, which is by so much late at most."""
    found = []
    for exchange in exchanges:
        stamps = memoryview(measure(exchange, OpenAI()).chunk_times).cast("q")
        log = written.get(str(exchange.ordinal), [])[: len(stamps)]  # behind the tokens stands the end
        found += [stamp - wrote for stamp, wrote in zip(stamps, log, strict=True)]
    return found


async def _load(url: str) -> tuple[list[Exchange], list[Pulse]]:
    """Send the requests of a calibration, in a closed loop."""
    body = json.dumps({"model": "null", "messages": [{"role": "user", "content": "a"}], "stream": True}).encode()
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    begin = Begin(f"{url}/v1/chat/completions", headers, LONGEST_SECONDS, LONGEST_SECONDS, CLIENTS, None, WARMUP)
    places = [(ordinal, "warmup" if ordinal < WARMUP else "measure") for ordinal in range(WARMUP + REQUESTS)]
    items: list[Any] = [Item(ordinal, 0, phase, str(ordinal), body) for ordinal, phase in places]  # type: ignore[arg-type]
    exchanges, pulses = [], []
    async with SenderProcess() as sender:
        sender.send(begin)
        while (news := await sender.news()) is not None and not isinstance(news, Ended):
            match news:
                case More():
                    sender.send(Items(tuple(items), last=True))
                    items = []
                case Report(exchange) if exchange.phase == "measure":
                    exchanges.append(exchange)
                case Pulse():
                    pulses.append(news)
                case _:
                    pass
    return exchanges, pulses


def _judged(errors: list[int], pulses: list[Pulse], version: str, machine: str) -> Calibration:
    if not errors:
        raise TargetFailed("The null target answered nothing; what the bench's stamps are worth stays unknown.")
    ordered = sorted(errors)
    return Calibration(
        wall=time.time(),
        version=version,
        machine=machine,
        chunks=len(ordered),
        error_p50_ms=_milliseconds(ordered[len(ordered) // 2]),
        error_p99_ms=_milliseconds(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]),
        worst_ms=_milliseconds(ordered[-1]),
        loop_lag_ms=_milliseconds(max((pulse.lag_ns for pulse in pulses), default=0)),
        sender_cpu_share=round(max((pulse.cpu_share for pulse in pulses), default=0.0), 3),
    )


def _milliseconds(ns: int) -> float:
    return round(ns / 1e6, 3)
