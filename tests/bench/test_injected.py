"""20 ms put into each part of a request's way: the bench finds them where they are, and nowhere else.

On a synthetic clock to the nanosecond, from stamped bytes and a server's row to the report. And in earnest, in the long
tier (make test_truth): a running server, a relay before it, and a sender whose process is stopped. What was put in is
taken from the logs of who put it in: the fake provider's, the layer's around the server, the relay's, the clock's.
"""

import asyncio
import itertools
import json
import os
import random
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil
import pytest

from heylook_llm import hardware
from heylook_llm.bench.breakdown import PHASES, SERVERS, Phase, breakdown
from heylook_llm.bench.frames import Begin, Ended, Item, Items, More, Report, Window
from heylook_llm.bench.pairing import heylook_pairs
from heylook_llm.bench.probe import Probe, probing
from heylook_llm.bench.sample import Pair, Sample
from heylook_llm.bench.sending import SenderProcess
from heylook_llm.bench.targets.openai import OpenAI
from heylook_llm.bench.timeline import Exchange, measure
from tests.bench.answers import MS, remarks_of, row_of
from tests.bench.records import cell, sample
from tests.bench.relay import Relay, relaying
from tests.bench.tapes import HEAD, framed
from tests.bench.test_breakdown import PARTS, USUAL, WAYS, story
from tests.server.performance.evidence import entries, size
from tests.serving import Running, running
from tests.worker.tiers import LONG

PUT_IN_MS = 20.0
TOLERANCE_MS = 2.0
RATE = 8
"""Requests per second: so far apart that none meets another unless it is meant to."""


def sample_of(exchange: Exchange, cell_id: str = "cell-1") -> Sample:
    """What a recorder makes of it."""
    measured = msgspec.structs.asdict(measure(exchange, OpenAI()))
    kept = {name: value for name, value in measured.items() if name in Sample.__struct_fields__}
    times = {
        name: getattr(exchange, name) for name in ("t_due", "t_start", "t_dns", "t_tcp", "t_tls", "t_sent", "t_end")
    }
    named = {"cell_id": cell_id, "client_request_id": request_id(cell_id, exchange.ordinal), "phase": exchange.phase}
    made = sample(exchange.ordinal, clock_id=hardware.clock_id())
    return msgspec.structs.replace(made, id=f"{cell_id}-{exchange.ordinal}", **named, **times, **kept)


def request_id(cell_id: str, ordinal: int) -> str:
    return f"{cell_id}-{ordinal}-0"


# ---- on a synthetic clock --------------------------------------------------------------------------------------------


def chunk(text: str, finish: str = "null") -> bytes:
    choice = b'{"index": 0, "delta": {"content": "%s"}, "finish_reason": %s}' % (text.encode(), finish.encode())
    return framed(b'data: {"choices": [%s]}\n\n' % choice)


def crossed(**spent: int) -> tuple[Exchange, dict[str, Any]]:
    """What crossed the wire of a request whose phases took so long, and what its server says of it."""
    made, pair = story(**spent)
    first, last, end = (stamp or 0 for stamp in (made.t_first_token, made.t_last_token, made.t_end))
    tape = ((first, HEAD + chunk("a")), (last, chunk("b", '"stop"')), (end, framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"))
    exchange = Exchange(0, 0, "measure", "ok", None, made.t_due or 0, made.t_start or 0, end, tape=tape)
    exchange = msgspec.structs.replace(exchange, t_tcp=made.t_tcp, t_sent=made.t_sent)
    return exchange, json.loads(pair.timeline_json)


def reported(**spent: int) -> dict[str, float]:
    """Where the time of a row of that one request went, by its report."""
    exchange, row = crossed(**spent)
    one = sample_of(exchange)
    clock = {"client_request_id": one.client_request_id, "clock_id": one.clock_id}
    cells = [cell(load="constant", level=RATE, cache="cold" if "load" in spent else "warm")]
    found = row_of([one], cells=cells, pairs=heylook_pairs([one], [row | clock]))
    assert found.paired == 1
    return found.where


@pytest.mark.unit
@pytest.mark.parametrize("part", PARTS)
def test_from_bytes_to_report_20_ms_are_where_they_were_put_to_the_nanosecond(part: str) -> None:
    usual = {"load": 5 * MS} if part == "load" else {}  # which warm rows leave out, and cold ones expect
    before, after = reported(**usual), reported(**{part: usual.get(part, USUAL[part]) + 20 * MS})
    named = "residual" if part in WAYS else part
    assert {phase: after[phase] - spent for phase, spent in before.items()} == {
        phase: 20.0 if phase == named else 0.0 for phase in before
    }


# ---- in earnest ------------------------------------------------------------------------------------------------------

RUN = "run-1"
EACH = 6
ROUNDS = 6
MODELS = """
default_model: paced
models:
  - id: paced
    provider: fake
    config: {n_ctx: 4096, n_parallel: 1, decode_tokens_per_second: 500, log_file: LOG}
"""
ANSWER = "[[say:abcdefgh]]"
EARLY = 3 * MS
"""So long before a request is due its sender is stopped."""
INTO = 10 * MS
"""So long after a request was due its sender is stopped, when the answer has begun; it ends meanwhile."""
ASLEEP = 45 * MS


class Fault(NamedTuple):
    """What holds a request up, and the phase that it is to be found in."""

    phase: Phase
    text: str = ""
    header: tuple[str, str] | None = None


FAULTS = {
    "upload": Fault("residual", header=("x-relay-delay", "0.02")),
    "parse": Fault("parse", header=("x-delay-body", "0.02")),
    "queue": Fault("queue"),
    "prepare": Fault("prepare", "[[encode:0.02]]"),
    "prefill": Fault("prefill", "[[stall:0.02]]"),
    "decode": Fault("decode", "[[stall:after=3 0.02]]"),
    # two tokens before the end, 4 ms: a chunk that goes with the reply's last bytes goes after all that is measured
    "flush": Fault("flush", header=("x-delay-chunk", '0.024 "content":"g"')),
    "loop that sends": Fault("wait"),
    "loop that reads": Fault("residual"),
}
BLOCKING = "[[say:ab]][[stall:after=1 0.025]]"
USUAL_KIND = "nothing"


class Trial(NamedTuple):
    """One request; what was put in, by who put it in, of some needs what the server says."""

    sample: Sample
    put_in_ms: float


class Proof(NamedTuple):
    """All that was measured."""

    trials: dict[str, list[Trial]]
    rows: list[dict[str, Any]]

    def phases(self, kind: str) -> list[dict[Phase, int]]:
        """Where the time of each request went."""
        samples = [trial.sample for trial in self.trials[kind]]
        pairs = {pair.sample_id: pair for pair in heylook_pairs(samples, self.rows)}
        cuts = [breakdown(sample, True, [pairs[sample.id]]) for sample in samples]
        assert all(cut is not None and cut.one_clock and not cut.mismatched for cut in cuts)
        return [cut.phases for cut in cuts if cut is not None]

    def put_in_ms(self, kind: str) -> float:
        """The median."""
        if kind != "loop that reads":
            return statistics.median(trial.put_in_ms for trial in self.trials[kind])
        closed = {row["client_request_id"]: row["timeline"]["closed_ns"] for row in self.rows}
        return statistics.median(
            trial.put_in_ms - int(closed[trial.sample.client_request_id]) / MS for trial in self.trials[kind]
        )


class Bench:
    """A sender, the server behind a relay, and the logs."""

    def __init__(self, sender: SenderProcess, relay: Relay, folder: Path) -> None:
        self._sender = sender
        self._relay = relay
        self._folder = folder
        self._pid = next(
            child.pid for child in psutil.Process().children() if "heylook_llm.bench.sender" in child.cmdline()
        )
        self._numbers = itertools.count()

    async def cell(self, kind: str) -> list[Trial]:
        """Some requests of that kind, apart from each other."""
        fault, cell_id = FAULTS.get(kind, Fault("rest")), f"c{next(self._numbers)}"
        headers = {"Content-Type": "application/json", "X-Run-Id": RUN, **dict([fault.header] if fault.header else [])}
        dues = [1000 * MS * (place + 1) // RATE for place in range(EACH)]
        items = [item for place, due in enumerate(dues) for item in _items(cell_id, kind, fault, place, due)]
        seen = size(self._folder / "paced.log"), size(self._folder / "layer.log"), len(self._relay.held)
        url = f"http://127.0.0.1:{self._relay.port}/v1/chat/completions"
        self._sender.send(Begin(url, headers, 30.0, 30.0, None, None, 0))
        exchanges, woken = await self._sent(items, kind, dues)
        victims = sorted((one for one in exchanges if one.ordinal % 2 == 0), key=lambda one: one.ordinal)
        samples = [sample_of(exchange, cell_id) for exchange in victims]
        assert {sample.outcome for sample in samples} == {"ok"}
        paced = entries(self._folder / "paced.log", seen[0])
        layer = entries(self._folder / "layer.log", seen[1])
        if kind.startswith("loop"):
            ends = [0 if kind == "loop that reads" else one.t_due for one in victims]
            put_in = [(awake - end) / MS for awake, end in zip(woken, ends, strict=True)]
        else:
            put_in = put_in_by_logs(kind, paced, layer, self._relay.held[seen[2] :])
        return [Trial(sample, ms) for sample, ms in zip(samples, put_in, strict=True)]

    async def _sent(self, items: list[Item], kind: str, dues: list[int]) -> tuple[list[Exchange], list[int]]:
        """What the sender tells of the cell, and when it was woken where it was stopped."""
        exchanges: list[Exchange] = []
        left = tuple(items)
        stopping: asyncio.Task[list[int]] | None = None
        while not isinstance(news := await self._sender.news(), Ended):
            match news:
                case More():
                    self._sender.send(Items(left, last=True))
                    left = ()
                case Window(start) if kind.startswith("loop"):
                    stopping = asyncio.create_task(self._stopped(kind, [start + due for due in dues]))
                case Report(exchange):
                    exchanges.append(exchange)
                case None:
                    raise AssertionError("the sender has ended")
                case _:
                    pass
        return exchanges, await stopping if stopping is not None else []

    async def _stopped(self, kind: str, dues: list[int]) -> list[int]:
        """Stop the sender's process about each of these moments; when it went on each time."""
        woken = []
        for due in dues:
            sleeps, wakes = (due - EARLY, due + 20 * MS) if kind == "loop that sends" else (due + INTO, due + ASLEEP)
            await until(sleeps)
            os.kill(self._pid, signal.SIGSTOP)
            try:
                await until(wakes)
            finally:
                woken.append(time.monotonic_ns())
                os.kill(self._pid, signal.SIGCONT)
        return woken


def _items(cell_id: str, kind: str, fault: Fault, place: int, due: int) -> Iterator[Item]:
    """The request, after another one that takes its place where it is to queue; victims have even ordinals."""
    texts = [(2 * place, ANSWER + fault.text, due)]
    if kind == "queue":
        texts.insert(0, (2 * place + 1, BLOCKING, due - 10 * MS))
    for ordinal, text, at in texts:
        body = {"model": "paced", "messages": [{"role": "user", "content": text}], "stream": True}
        yield Item(ordinal, 0, "measure", request_id(cell_id, ordinal), json.dumps(body).encode(), at)


async def until(moment: int) -> None:
    """The last millisecond in turns of the loop, which sleeps no more finely."""
    while (left := moment - time.monotonic_ns()) > 0:  # noqa: ASYNC110 (time alone decides)
        await asyncio.sleep(max(0, left - MS) / 1e9)


def put_in_by_logs(  # noqa: PLR0911 (a table)
    kind: str, paced: list[dict[str, Any]], layer: list[dict[str, Any]], held: list[int]
) -> list[float]:
    """Milliseconds that each request of a cell was held up, by the log of who did it."""

    def took(entry: dict[str, Any]) -> float:
        return float(entry["end_ns"] - entry["start_ns"]) / MS

    answers = list(by_answer(paced))
    encoded = [entry for entry in paced if entry["did"] == "encode"]
    match kind:
        case "upload":
            return [ns / MS for ns in held]
        case "parse":
            return [took(entry) for entry in layer]
        case "prepare":
            return [took(entry) for entry in encoded]
        case "prefill":  # of a known prompt it computes one token, as others do
            return [took(steps[0]) - statistics.median(map(took, steps[1:])) for steps in answers]
        case "decode":
            return [max(map(took, steps[1:])) - statistics.median(map(took, steps[1:])) for steps in answers]
        case "flush":
            return [(entry["end_ns"] - steps[-1]["end_ns"]) / MS for entry, steps in zip(layer, answers, strict=True)]
        case "queue":  # the odd ones wait until the place of those before them is free
            released = [entry["end_ns"] for entry in paced if entry["did"] == "release"]
            pairs = zip(released[::2], encoded[1::2], strict=True)
            return [(free - entry["end_ns"]) / MS for free, entry in pairs]
    return [0.0] * len(answers)


def by_answer(paced: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The steps of each answer, in a worker that computes one at a time."""
    steps: list[dict[str, Any]] = []
    for entry in paced:
        if entry["did"] == "step":
            steps.append(entry)
        elif entry["did"] == "release":
            yield steps
            steps = []


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    folder = tmp_path_factory.mktemp("injected")
    models = MODELS.replace("LOG", str(folder / "paced.log"))
    with running(models, folder, delays=str(folder / "layer.log")) as server:
        yield server, folder


@pytest.fixture(scope="module")
def proof(place: tuple[Running, Path]) -> Proof:
    server, folder = place
    with relaying(server.port) as relay:
        return asyncio.run(measured(server, relay, folder))


async def measured(server: Running, relay: Relay, folder: Path) -> Proof:
    """All kinds, in random order."""
    order = [kind for kind in (USUAL_KIND, *FAULTS) for _ in range(ROUNDS)]
    random.Random(1).shuffle(order)
    trials: defaultdict[str, list[Trial]] = defaultdict(list)
    async with SenderProcess() as sender:
        bench = Bench(sender, relay, folder)
        await bench.cell(USUAL_KIND)  # the model is loaded, the prompt gets known
        for kind in order:
            trials[kind] += await bench.cell(kind)
    async with probing() as http:
        rows = await Probe(http, server.url, {}).rows(RUN)
    return Proof(trials, rows)


in_earnest = [
    pytest.mark.integration,
    pytest.mark.skipif(not LONG, reason="times: on a machine that does nothing else (make test_truth)"),
    pytest.mark.timeout(300),
]


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=in_earnest) for kind in FAULTS])
def test_the_named_phase_grows_by_what_was_put_in_and_no_other(proof: Proof, kind: str) -> None:
    usual, held = proof.phases(USUAL_KIND), proof.phases(kind)
    named, put_in = FAULTS[kind].phase, proof.put_in_ms(kind)
    growth = {
        phase: (statistics.median(one[phase] for one in held) - statistics.median(one[phase] for one in usual)) / MS
        for phase in PHASES
        if phase in usual[0]
    }
    shown = {phase: round(ms, 2) for phase, ms in growth.items()}
    print(f"{kind}: {put_in:.2f} ms put in; medians moved by {shown}")
    assert set(growth) == {"wait", "connect", "upload", *SERVERS, "residual"}
    assert PUT_IN_MS / 4 <= put_in <= 2 * PUT_IN_MS  # of waits that end with another's answer, as the machine goes
    for phase, ms in growth.items():
        assert ms == pytest.approx(put_in if phase == named else 0, abs=TOLERANCE_MS), (phase, shown)


@pytest.mark.parametrize("kind", [pytest.param(USUAL_KIND, marks=in_earnest)])
def test_pairs_that_were_shuffled_are_found_out_and_used_for_nothing(proof: Proof, kind: str) -> None:
    samples = [trial.sample for trial in proof.trials[kind]]
    pairs = heylook_pairs(samples, proof.rows)
    cells = [cell(identity, load="constant", level=RATE) for identity in dict.fromkeys(one.cell_id for one in samples)]
    assert row_of(samples, cells=cells, pairs=pairs).paired == len(samples)
    shuffled = [
        Pair(sample.id, "heylook", pair.timeline_json)
        for sample, pair in zip(samples, [*pairs[1:], pairs[0]], strict=True)
    ]
    for given in (samples, [msgspec.structs.replace(one, client_request_id=None) for one in samples]):
        row = row_of(given, cells=cells, pairs=shuffled)
        assert row.paired == 0  # by their ids, or without them by their times alone
        assert "pairs-mismatched" in remarks_of(row)
