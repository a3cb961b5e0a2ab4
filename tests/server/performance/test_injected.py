"""20 ms put into each phase of a running server: that phase grows by them, no other does, and the verdict names it.

Times, so for the long tier, on a machine that does nothing else: make test_truth. What was put in is taken from the
logs of who put it in: the fake provider, and the layer around the server that holds bodies and chunks up.
"""

import asyncio
import datetime
import http.client
import json
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from heylook_llm import core
from heylook_llm.server.performance.phases import PHASES
from heylook_llm.worker.prompt import ChatTemplate
from tests.server.performance.evidence import entries, size, spans
from tests.serving import Running, running
from tests.worker.tiers import LONG

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not LONG, reason="times: on a machine that does nothing else (make test_truth)"),
    pytest.mark.timeout(900),
]

MS = 1_000_000
SECONDS = 0.02
TRIALS = 100
LOADS = 100
TOLERANCE_MS = 2.0
NAMED = 0.95
MODELS = """
default_model: paced
max_loaded_models: 2
models:
  - id: paced
    provider: fake
    config: {n_ctx: 4096, n_parallel: 1, decode_tokens_per_second: 500, log_file: LOG/paced.log,
             chat_template: TEMPLATE}
  - {id: quick, provider: fake, config: {n_ctx: 4096, log_file: LOG/quick.log}}
  - {id: slow, provider: fake, config: {n_ctx: 4096, load_seconds: 0.02, log_file: LOG/slow.log}}
"""
TEMPLATE = (
    "{% for message in messages %}"
    "{% if 'template' in message.content %}"
    "{% for _ in range(LOOPS) %}{% for _ in range(100) %}{% endfor %}{% endfor %}"
    "{% endif %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
ANSWER = "[[say:abcdefgh]]"


class Fault(NamedTuple):
    """What holds a request up, and the phase that it is to be found in."""

    phase: str
    text: str = ""
    header: tuple[str, str] | None = None


FAULTS = {
    "body": Fault("parse", header=("x-delay-body", str(SECONDS))),
    "template": Fault("prepare", "template"),
    "tokens": Fault("prepare", f"[[encode:{SECONDS}]]"),
    "prefill": Fault("prefill", f"[[stall:{SECONDS}]]"),
    "decode": Fault("decode", f"[[stall:after=3 {SECONDS}]]"),
    # two tokens before the end, 4 ms: a chunk that goes with the reply's last bytes goes after all that is measured
    "flush": Fault("flush", header=("x-delay-chunk", f'{SECONDS + 0.004} "content":"g"')),
}
MIXED = (("body", "prefill"), ("tokens", "decode"), ("prefill", "flush"), ("prefill", "decode"), ("body", "flush"))


class Trial(NamedTuple):
    """One request: what was put in, by what its causers wrote, and what the server says."""

    injected_ms: float
    row: dict[str, Any]

    @property
    def causes(self) -> set[str]:
        """The phases that the verdict names."""
        return {cause["phase"] for cause in self.row["why_slow"]["causes"]}


class Place(NamedTuple):
    """The server, and where its logs are."""

    server: Running
    folder: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("injected")
    models = MODELS.replace("LOG", str(folder)).replace("TEMPLATE", json.dumps(TEMPLATE.replace("LOOPS", loops())))
    with running(models, folder, delays=str(folder / "layer.log")) as server:
        yield Place(server, folder)


def loops() -> str:
    """Hundreds of turns of a template's loop that take about as long as is to be put in."""
    template = ChatTemplate(TEMPLATE.replace("LOOPS", "10"), model="paced", bos="")
    prompt = core.ChatPrompt((core.Message("user", (core.TextPart("template"),)),))
    took = []
    for _ in range(9):
        start = time.perf_counter()
        template.render(prompt, datetime.datetime.now(datetime.UTC))
        took.append(time.perf_counter() - start)
    return str(max(1, round(10 * SECONDS / min(took))))


def told(place: Place, method: str, path: str, body: Any = None, **headers: str) -> tuple[Any, dict[str, str]]:
    """A reply's value, and its headers."""
    connection = http.client.HTTPConnection("127.0.0.1", place.server.port, timeout=60)
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    return (json.loads(text) if text.startswith(b"{") else text), {k.lower(): v for k, v in reply.headers.items()}


def explained(place: Place, headers: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = told(place, "GET", f"/v1/performance/requests/{headers['x-request-id']}")[0]
    return row


def trial(place: Place, faults: tuple[str, ...]) -> Trial:
    """A streamed chat with these faults."""
    chosen = [FAULTS[name] for name in faults]
    body = {
        "model": "paced",
        "messages": [{"role": "user", "content": ANSWER + "".join(fault.text for fault in chosen)}],
        "stream": True,
    }
    seen, held = size(place.folder / "paced.log"), size(place.folder / "layer.log")
    headers = dict(fault.header for fault in chosen if fault.header is not None)
    row = explained(place, told(place, "POST", "/v1/chat/completions", body, **headers)[1])
    did = entries(place.folder / "paced.log", seen)
    layer = entries(place.folder / "layer.log", held)
    return Trial(injected(faults, did, layer), row)


def injected(faults: tuple[str, ...], did: list[dict[str, Any]], layer: list[dict[str, Any]]) -> float:
    """Milliseconds that the (only) fault took by the log of who caused it; of several it isn't asked."""

    def took(entry: dict[str, Any]) -> float:
        return float(entry["end_ns"] - entry["start_ns"]) / MS

    steps = [took(entry) for entry in did if entry["did"] == "step"]
    match faults:
        case ("body",):
            return took(layer[-1])
        case ("tokens",):
            return max(took(entry) for entry in did if entry["did"] == "encode")
        case ("prefill",):
            return steps[0] - statistics.median(steps[1:])  # of a known prompt it computes one token, as others do
        case ("decode",):
            return max(steps[1:]) - statistics.median(steps[1:])
        case ("flush",):
            last = max(entry["end_ns"] for entry in did if entry["did"] == "step")
            return float(layer[-1]["end_ns"] - last) / MS
    return 0.0


def moved(trials: list[Trial], usual: dict[str, float]) -> dict[str, float]:
    """By how many ms each phase is longer than usual, as medians."""
    return {phase: statistics.median(one.row["phases_ms"][phase] for one in trials) - usual[phase] for phase in PHASES}


@pytest.fixture(scope="module")
def trials(place: Place) -> dict[tuple[str, ...], list[Trial]]:
    """Of every kind so many, in random order."""
    kinds: list[tuple[str, ...]] = [(), *((name,) for name in FAULTS), *MIXED]
    order = [kind for kind in kinds for _ in range(TRIALS)]
    random.Random(1).shuffle(order)
    for _ in range(40):  # what is usual gets known
        trial(place, ())
    found = defaultdict(list)
    for kind in order:
        found[kind].append(trial(place, kind))
    return found


def usual_of(trials: dict[tuple[str, ...], list[Trial]]) -> dict[str, float]:
    return {phase: statistics.median(one.row["phases_ms"][phase] for one in trials[()]) for phase in PHASES}


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "template"])
def test_the_named_phase_grows_by_what_was_put_in_and_no_other(
    trials: dict[tuple[str, ...], list[Trial]], name: str
) -> None:
    growth = moved(trials[name,], usual_of(trials))
    put_in = statistics.median(one.injected_ms for one in trials[name,])
    shown = {phase: round(ms, 2) for phase, ms in growth.items()}
    print(f"{name}: {put_in:.2f} ms put in; medians moved by {shown}")
    assert put_in == pytest.approx(SECONDS * 1e3, abs=3)
    for phase, ms in growth.items():
        assert ms == pytest.approx(put_in if phase == FAULTS[name].phase else 0, abs=TOLERANCE_MS), (phase, shown)


def test_a_slow_template_is_prepare_by_as_much_as_rendering_it_takes(
    place: Place, trials: dict[tuple[str, ...], list[Trial]]
) -> None:
    took: dict[str, list[float]] = {"template": [], "": []}
    for _ in range(40):
        for text, durations in took.items():
            start = time.perf_counter()
            told(place, "POST", "/apply-template", {"model": "paced", "messages": [{"role": "user", "content": text}]})
            durations.append((time.perf_counter() - start) * 1e3)
    rendering = statistics.median(took["template"]) - statistics.median(took[""])
    growth = moved(trials["template",], usual_of(trials))
    print(f"template: {rendering:.2f} ms; medians moved by { {phase: round(ms, 2) for phase, ms in growth.items()} }")
    for phase, ms in growth.items():
        assert ms == pytest.approx(rendering if phase == "prepare" else 0, abs=TOLERANCE_MS), growth


@pytest.mark.parametrize("name", FAULTS)
def test_the_verdict_names_the_cause(trials: dict[tuple[str, ...], list[Trial]], name: str) -> None:
    words = Counter(one.row["why_slow"]["verdict"] for one in trials[name,])
    print(f"{name}: {dict(words)}")
    assert words[f"{FAULTS[name].phase}-bound"] >= NAMED * TRIALS


@pytest.mark.parametrize("pair", MIXED)
def test_the_verdict_names_both_of_two_causes(
    trials: dict[tuple[str, ...], list[Trial]], pair: tuple[str, str]
) -> None:
    wanted = {FAULTS[name].phase for name in pair}
    named = Counter(tuple(sorted(one.causes)) for one in trials[pair])
    print(f"{pair}: {dict(named)}")
    assert sum(count for phases, count in named.items() if wanted <= set(phases)) >= NAMED * TRIALS


def test_without_a_cause_the_verdict_is_normal(trials: dict[tuple[str, ...], list[Trial]]) -> None:
    words = Counter(one.row["why_slow"]["verdict"] for one in trials[()])
    print(dict(words))
    assert words["normal"] >= NAMED * TRIALS


def test_a_wait_for_a_place_is_the_queue(place: Place) -> None:
    """The victim comes while the only place is taken for some 20 ms more, by the other's own log."""
    apart, words, others = list[float](), Counter[str](), defaultdict[str, list[float]](list)
    usual = usual_of({(): [trial(place, ()) for _ in range(40)]})
    for _ in range(TRIALS):
        row, waited = asyncio.run(behind_another(place))
        apart.append(row["phases_ms"]["queue"] - usual["queue"] - waited)
        words[row["why_slow"]["verdict"]] += 1
        for phase in PHASES:
            others[phase].append(row["phases_ms"][phase] - usual[phase])
    medians = {phase: round(statistics.median(values), 2) for phase, values in others.items()}
    print(f"queue: {statistics.median(apart):.2f} ms off the log; moved by {medians}; {dict(words)}")
    assert statistics.median(apart) == pytest.approx(0, abs=TOLERANCE_MS)
    assert all(abs(ms) <= TOLERANCE_MS for phase, ms in medians.items() if phase != "queue"), medians
    assert words["queue-bound"] >= NAMED * TRIALS


async def behind_another(place: Place) -> tuple[dict[str, Any], float]:
    """A victim's row, and how long by the log it waited for the one before it, in ms."""
    seen = size(place.folder / "paced.log")
    reader, writer = await asyncio.open_connection("127.0.0.1", place.server.port)
    text = f"[[say:ab]][[stall:after=1 {SECONDS * 1.25}]]"
    body = json.dumps({"model": "paced", "messages": [{"role": "user", "content": text}], "stream": True})
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n\r\n{body}".encode()
    )
    await reader.readuntil(b'"a"')  # its second token is on its way
    victim = {"model": "paced", "messages": [{"role": "user", "content": ANSWER}], "stream": True}
    _, headers = await asyncio.to_thread(told, place, "POST", "/v1/chat/completions", victim)
    await reader.read()
    writer.close()
    did = entries(place.folder / "paced.log", seen)
    encoded = [entry["end_ns"] for entry in did if entry["did"] == "encode"][-1]
    released = next(entry["end_ns"] for entry in did if entry["did"] == "release")
    row = await asyncio.to_thread(explained, place, headers)
    return row, (released - encoded) / MS


def test_a_load_is_as_much_longer_as_the_provider_says(place: Place) -> None:
    """Most of a load is a process's start, which varies; so what isn't the provider's own part is compared."""
    rest: dict[str, list[float]] = {"quick": [], "slow": []}
    own: dict[str, list[float]] = {"quick": [], "slow": []}
    words = Counter[str]()
    for number in range(LOADS):
        for model in rest if number % 2 else reversed(rest):
            told(place, "POST", f"/v1/models/{model}/unload", {})
            body = {"model": model, "messages": [{"role": "user", "content": "a"}]}
            row = explained(place, told(place, "POST", "/v1/chat/completions", body)[1])
            start_ns, end_ns = spans(place.folder / f"{model}.log", "load")[-1]
            own[model].append((end_ns - start_ns) / MS)
            rest[model].append(row["phases_ms"]["load"] - own[model][-1])
            words[row["why_slow"]["verdict"]] += 1
    longer = statistics.median(own["slow"]) - statistics.median(own["quick"])
    apart = statistics.median(rest["slow"]) - statistics.median(rest["quick"])
    print(f"load: {longer:.2f} ms put in, {apart:.2f} ms besides; {dict(words)}")
    assert longer == pytest.approx(SECONDS * 1e3, abs=5)  # it sleeps ten times
    assert apart == pytest.approx(0, abs=TOLERANCE_MS)
    assert words["load-bound"] >= NAMED * 2 * LOADS
