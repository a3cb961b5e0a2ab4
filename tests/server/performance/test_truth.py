"""What the server measures against what the fake provider wrote down itself, and against its clients' clocks.

With every commit: order, consistency and exact counts. The long tier also asks how far stamps are apart, as medians.
"""

import http.client
import json
import statistics
import threading
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.server.performance.evidence import Witnessed, entries, spans, witnessed
from tests.serving import Running, running
from tests.worker.tiers import LONG

pytestmark = pytest.mark.integration

MODELS = """
default_model: fake
models:
  - id: fake
    provider: fake
    config: {n_ctx: 4096, n_parallel: 6, prefill_tokens: 64, prefill_tokens_per_second: 20000,
             decode_tokens_per_second: 500, load_seconds: 0.1, log_file: LOG}
"""
MS = 1_000_000
ROUNDS = 15 if LONG else 1


class Asked(NamedTuple):
    """A request as its client saw it."""

    id: str
    prompt_tokens: int
    begin_ns: int
    end_ns: int


class Place(NamedTuple):
    """A server, what its provider writes, and what the layer around it does."""

    server: Running
    log: Path
    layer: Path
    lengths: Iterator[int]
    """Prompts that nobody sent before."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("truth")
    log = folder / "fake.log"
    with running(MODELS.replace("LOG", str(log)), folder, delays=str(folder / "layer.log")) as server:
        yield Place(server, log, folder / "layer.log", iter(range(20, 4000)))


def ask(port: int, length: int, *, stream: bool) -> Asked:
    """One completion, as long as its prompt but for the long ones; the client's clock encloses the whole exchange."""
    body = {"model": "fake", "prompt": chr(97 + length % 26) * length, "max_tokens": 12 + length % 7, "stream": stream}
    begin_ns = time.monotonic_ns()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/completions", json.dumps(body), {"x-delay-witness": str(length + 1)})
    reply = connection.getresponse()
    reply.read()
    end_ns = time.monotonic_ns()
    connection.close()
    return Asked(str(reply.headers["x-request-id"]), length + 1, begin_ns, end_ns)


def together(place: Place, clients: int) -> list[Asked]:
    """So many at once."""
    asked: list[Asked] = []

    def client(number: int) -> None:
        asked.append(ask(place.server.port, lengths[number], stream=number % 2 == 0))

    lengths = [next(place.lengths) for _ in range(clients)]
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == clients
    return asked


def told(place: Place, one: Asked) -> dict[str, Any]:
    """What the server says of it."""
    connection = http.client.HTTPConnection("127.0.0.1", place.server.port, timeout=60)
    connection.request("GET", f"/v1/performance/requests/{one.id}")
    found: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return found


def ends_of(times: dict[str, Any]) -> list[float]:
    """When each decode step ended, as the server tells it."""
    first = times["first_token_ns"]
    return [first + 1000 * us for us in accumulate(times["decode"]["gaps_us"])]


@pytest.mark.parametrize("clients", [1, 8, 32])
def test_stamps_enclose_what_was_done_and_counts_are_exact(place: Place, clients: int) -> None:
    asked = together(place, clients)
    log = witnessed(place.log)
    for one in asked:
        row, seen = told(place, one), log[one.prompt_tokens]
        enclosed(row["timeline"], seen, one)
        counted(row, seen, one)


def enclosed(times: dict[str, Any], seen: Witnessed, one: Asked) -> None:
    """Each stamp stands where the provider and the client leave it room."""
    assert seen.encoded is not None
    encoding, encoded = seen.encoded
    order = [
        *(one.begin_ns, times["received_ns"], times["parsed_ns"], times["ready_ns"], times["submitted_ns"]),
        *(times["rendered_ns"], encoding, encoded, times["tokenized_ns"], times["queued_ns"], times["admitted_ns"]),
        *(seen.prompt[0].start_ns, seen.first_token_ns, times["first_token_ns"]),
        *(seen.last_token_ns, times["last_token_ns"], times["closed_ns"], one.end_ns),
    ]
    assert order == sorted(order)
    chunks = times["prefill"]
    for chunk, step in zip(chunks, seen.prompt, strict=True):
        assert chunk["start_ns"] <= step.start_ns <= step.end_ns <= chunk["end_ns"]
    assert (chunks[0]["start_ns"], chunks[-1]["end_ns"]) == (times["admitted_ns"], times["first_token_ns"])
    for end, step, after in zip(ends_of(times), seen.decoding, [*seen.decoding[1:], None], strict=True):
        assert step.end_ns - 1000 <= end, "rounded to a microsecond"
        assert after is None or end - 1000 <= after.start_ns


def counted(row: dict[str, Any], seen: Witnessed, one: Asked) -> None:
    """What is counted is what was computed."""
    times = row["timeline"]
    assert row["outcome"] == "done"
    assert row["prompt_tokens"] == one.prompt_tokens
    assert row["output_tokens"] == seen.drawn
    assert [chunk["tokens"] for chunk in times["prefill"]] == [step.tokens for step in seen.prompt]
    assert row["cached_tokens"] == one.prompt_tokens - sum(step.tokens for step in seen.prompt)
    assert times["decode"]["batch_sizes"] == [step.batch_size for step in seen.decoding]
    assert times["steps"] == len(seen.prompt) + len(seen.decoding)
    assert sum(row["phases_ms"].values()) == pytest.approx(row["e2e_ms"], abs=0.01)


def test_the_load_encloses_the_providers(place: Place) -> None:
    one = ask(place.server.port, next(place.lengths), stream=False)
    asked = json.loads(post(place, "/v1/models/fake/unload"))
    assert asked["state"] == "unloaded"
    again = ask(place.server.port, next(place.lengths), stream=False)
    assert told(place, one)["load_ms"] is None or len(spans(place.log, "load")) == 2
    times, (start_ns, end_ns) = told(place, again)["timeline"], spans(place.log, "load")[-1]
    assert times["ready_ns"] <= times["load_start_ns"] <= start_ns
    assert end_ns - start_ns >= 100 * MS
    assert end_ns <= times["load_end_ns"] <= times["submitted_ns"]
    assert told(place, again)["phases_ms"]["load"] >= 100


def post(place: Place, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", place.server.port, timeout=60)
    connection.request("POST", path, b"{}")
    found = connection.getresponse().read()
    connection.close()
    return found


@pytest.mark.skipif(not LONG, reason="times: on a machine that does nothing else (make test_truth)")
@pytest.mark.parametrize("clients", [1, 8, 32])
def test_each_phase_is_within_a_millisecond_of_the_providers_log(place: Place, clients: int) -> None:
    apart: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        asked = together(place, clients)
        log, sent = witnessed(place.log), sendings(place)
        for one in asked:
            tokens = one.prompt_tokens
            for name, ns in differences(told(place, one)["timeline"], log[tokens], sent[tokens]).items():
                apart.setdefault(name, []).append(ns / MS)
    medians = {name: statistics.median(values) for name, values in apart.items()}
    shown = {name: (round(medians[name], 3), round(max(values), 3)) for name, values in apart.items()}
    print(f"{clients} clients: ms apart, median and most: {shown}")
    assert all(abs(median) < 1 for median in medians.values()), medians


def sendings(place: Place) -> dict[int, int]:
    """When the last bytes of a reply went, by the layer around the server; by the prompt's tokens."""
    return {int(entry["name"]): entry["start_ns"] for entry in entries(place.layer) if entry["did"] == "sent"}


def differences(times: dict[str, Any], seen: Witnessed, sent_ns: int) -> dict[str, float]:
    """Nanoseconds by which the server's account of each phase differs from what the others wrote down."""
    assert seen.encoded is not None
    ends = ends_of(times)
    return {
        "tokenized": times["tokenized_ns"] - seen.encoded[1],
        "queue": (times["admitted_ns"] - times["tokenized_ns"]) - (seen.prompt[0].start_ns - seen.encoded[1]),
        "prefill": (times["first_token_ns"] - times["admitted_ns"]) - (seen.first_token_ns - seen.prompt[0].start_ns),
        "decode": (times["last_token_ns"] - times["first_token_ns"]) - (seen.last_token_ns - seen.first_token_ns),
        "a step": max((end - step.end_ns for end, step in zip(ends, seen.decoding, strict=True)), default=0.0),
        "flush": (times["closed_ns"] - times["last_token_ns"]) - (sent_ns - seen.last_token_ns),
    }
