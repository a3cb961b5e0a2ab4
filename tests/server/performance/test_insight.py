"""Profile, models' history, traces, energy and kept texts over a real server, whose energy counter the test writes."""

import http.client
import itertools
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped,unused-ignore]  # comes with openapi-spec-validator, without types
import pytest

from heylook_llm.server.app import create_app
from heylook_llm.server.openapi import components
from tests.server.asgi import call
from tests.server.scripted import ScriptedBackend
from tests.serving import Running, running
from tests.test_hardware_files import zone

pytestmark = pytest.mark.integration

MODELS = """
default_model: fake
max_loaded_models: 1
hardware: {label: my box, memory: 2 x 8 GB, gpu: Somebody's GPU, powercap: POWERCAP}
models:
  - {id: fake, provider: fake, config: {n_ctx: 4096, n_parallel: 4, decode_tokens_per_second: 100}}
  - {id: other, provider: fake, config: {n_ctx: 2048}}
"""
COMPONENTS = components()


class Counted:
    """A running server and the counter that it reads."""

    def __init__(self, running: Running, counter: Path) -> None:
        self.server = running
        self.counter = counter
        self.microjoules = 1_000

    def told(self, path: str, name: str | None = None) -> Any:
        """The reply, which is what the OpenAPI document says."""
        with urllib.request.urlopen(self.server.url + path, timeout=30) as reply:
            value = json.loads(reply.read())
        if name is not None:
            schemas = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": COMPONENTS}}
            jsonschema.Draft202012Validator(schemas).validate(value)
        return value

    def lines(self, path: str) -> list[Any]:
        with urllib.request.urlopen(self.server.url + path, timeout=30) as reply:
            return [json.loads(line) for line in reply.read().splitlines()]

    def chat(self, text: str, model: str = "fake", **more: Any) -> str:
        """The id of a request that was answered."""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **more}).encode()
        headers = {"content-type": "application/json", "X-Run-Id": text[:8].strip()}
        request = urllib.request.Request(f"{self.server.url}/v1/chat/completions", body, headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return str(reply.headers["x-request-id"])

    def consume(self, microjoules: int) -> None:
        """The machine consumes this."""
        self.microjoules += microjoules
        fresh = self.counter.with_suffix(".new")
        fresh.write_text(f"{self.microjoules}\n")
        fresh.replace(self.counter)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    """A server that keeps texts, too."""
    folder = tmp_path_factory.mktemp("insight")
    counter = zone(folder / "powercap", "intel-rapl:0", "package-0", 1_000)
    models = MODELS.replace("POWERCAP", str(folder / "powercap"))
    with running(models, folder, recorder=str(folder / "performance.sqlite3"), record_text=True) as it:
        yield Counted(it, counter)


def test_energy_is_shared_out_by_tokens(counted: Counted) -> None:
    counted.chat("warm")
    deadline = time.monotonic() + 60
    while counted.told("/hardware/live", "Hardware.Now")["power"]["idle_watts"] is None:
        assert time.monotonic() < deadline
    before, ids, ended = counted.microjoules, dict[str, str](), threading.Event()

    def ask(text: str) -> None:
        ids[text] = counted.chat(text)

    def burn() -> None:
        while not ended.wait(0.02):
            counted.consume(400_000)

    burning = threading.Thread(target=burn)
    burning.start()
    asking = [threading.Thread(target=ask, args=(text,)) for text in ("x" * 30, "y" * 60)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    ended.set()
    burning.join()
    written = (counted.microjoules - before) / 1e6
    rows = [counted.told(f"/v1/performance/requests/{ids[text]}", "Performance.Explained") for text in ids]
    for row in rows:
        energy = row["energy"]
        assert energy["reason"] is None
        assert (energy["method"], energy["baseline_watts"], "package-0" in energy["counters"]) == (
            "attributed",
            0,
            True,
        )
        assert energy["decode_joules"] > 0
        assert energy["joules"] == pytest.approx(energy["prefill_joules"] + energy["decode_joules"], abs=1e-5)
    assert 0 < sum(row["energy"]["joules"] for row in rows) <= written
    few, many = sorted(rows, key=lambda row: int(row["output_tokens"]))
    assert few["energy"]["joules"] < many["energy"]["joules"]
    with urllib.request.urlopen(counted.server.url + "/metrics", timeout=30) as reply:
        assert b'heylook_energy_joules_total{gen_ai_request_model="fake",phase="decode"}' in reply.read()


def test_a_request_says_what_its_model_held(counted: Counted) -> None:
    row = counted.told(f"/v1/performance/requests/{counted.chat('memory')}", "Performance.Explained")
    assert row["timeline"]["peak_bytes"] > 10 << 20
    assert row["timeline"]["kv_cells"] == row["prompt_tokens"] + row["output_tokens"] - 1
    assert row["timeline"]["prefill_end_ns"] == row["timeline"]["first_token_ns"]


def test_texts_are_kept_where_that_was_asked(counted: Counted) -> None:
    row = counted.told(f"/v1/performance/requests/{counted.chat('a secret, n=2', n=2)}")
    assert row["texts"] == {"prompt": "user: a secret, n=2", "answer": "a secret, n=2\n\na secret, n=2"}


def test_a_profile_tells_of_the_window(counted: Counted) -> None:
    counted.chat("profile")
    for span in ("1h", "6h", "24h", "7d"):
        told = counted.told(f"/v1/performance/profile/{span}", "Performance.Profile")
        kept = counted.told("/v1/performance/requests?limit=1000")["data"]
        assert told["request_count"] == len(kept)
        assert sum(row["percentage"] for row in told["timing_breakdown"]) == pytest.approx(100, abs=0.1)
        (model,) = [row for row in told["bottlenecks"] if row["model"] == "fake"]
        of_model = [row["e2e_ms"] for row in kept if row["model"] == "fake"]
        assert model["avg_total_ms"] == pytest.approx(sum(of_model) / len(of_model), abs=0.01)
        now = told["resource_timeline"][-1]
        assert now["memory_used_bytes"] > 10 << 20
        seconds = told["time_range"]["bucket_seconds"]
        assert now["timestamp"] % seconds == 0
    connection = http.client.HTTPConnection("127.0.0.1", counted.server.port, timeout=30)
    connection.request("GET", "/v1/performance/profile/2h")
    assert connection.getresponse().status == 404


def test_models_remember_their_loads(counted: Counted) -> None:
    counted.chat("there", "other")
    counted.chat("and back")
    told = {row["model"]: row for row in counted.told("/v1/performance/models", "Performance.Models")["data"]}
    fake, other = told["fake"], told["other"]
    assert (fake["state"], other["state"]) == ("ready", "unloaded")
    assert (fake["evictions"]["place"], other["evictions"]) == (1, {"place": 1})
    assert (fake["loads"], other["loads"], other["crashes"], other["failures"]) == (2, 1, 0, 0)
    assert other["load_ms"]["n"] == 1
    assert other["load_ms"]["p50"] > 0
    assert [change["change"] for change in other["history"]] == ["evicted", "loaded", "loading"]
    assert fake["memory"]["peak_resident_bytes"] >= fake["memory"]["resident_bytes"] > 10 << 20
    assert other["memory"]["resident_bytes"] is None


def test_a_trace_says_which_prompts_began_alike(counted: Counted) -> None:
    begin = time.monotonic()
    shared, long = "traced: " + "s" * 1500, "traced: " + "t" * 700
    for text in (shared + "one", shared + "two", long):
        counted.chat(text, max_tokens=5)
    elapsed = 1000 * (time.monotonic() - begin)
    lines = counted.lines("/v1/performance/trace?run_id=traced:&window=1h")
    for line in lines:
        schema = {"$ref": "#/components/schemas/Performance.Trace", "components": {"schemas": COMPONENTS}}
        jsonschema.Draft202012Validator(schema).validate(line)
    kept = counted.told("/v1/performance/requests?run_id=traced:")["data"][::-1]
    assert [line["input_length"] for line in lines] == [row["prompt_tokens"] for row in kept]
    assert [line["output_length"] for line in lines] == [5, 5, 5]
    times = [line["timestamp"] for line in lines]
    assert times[0] == 0
    assert times == sorted(times)
    assert times[-1] <= elapsed
    one, two, three = (line["hash_ids"] for line in lines)
    assert [len(ids) for ids in (one, two, three)] == [-(-line["input_length"] // 512) for line in lines]
    assert one[:-1] == two[:-1]
    assert one[-1] != two[-1]
    assert not set(one) & set(three)
    fine = counted.lines("/v1/performance/trace?run_id=traced:&block_tokens=64")
    alike = list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(fine[0]["hash_ids"], fine[1]["hash_ids"])))  # noqa: B905 (cut to the shorter)
    assert len(alike) >= 1500 // 64
    export = json.dumps(counted.lines("/v1/performance/export?run_id=traced:&format=ndjson"))
    assert "prompt_blocks" not in export


@pytest.mark.parametrize("given", ["63", "65", "0", "-64", "x", "99999999999999999999"])
async def test_blocks_are_multiples(given: str) -> None:
    reply = await call(create_app(ScriptedBackend()), "GET", f"/v1/performance/trace?block_tokens={given}")
    assert (reply.status, reply.json["error"]["param"]) == (400, "block_tokens")


def test_the_machine_is_described(counted: Counted) -> None:
    told = counted.told("/hardware", "Hardware.Inventory")
    assert (told["label"], told["memory"]["description"]) == ("my box", "2 x 8 GB")
    assert told["gpus"][0]["name"] == "Somebody's GPU"
    assert told["processor"]["logical_cores"] >= 1
    assert {"memory.description", "gpus.0.name"} <= set(told["overridden"])
    assert not set(told["overridden"]) & set(told["unknown"])
    assert all(told["unknown"].values())
    live = counted.told("/hardware/live", "Hardware.Now")
    assert 0 <= live["cpu"]["percent"] <= 100
    assert live["seconds"] > 0
    assert live["power"]["watts"] is not None
    assert live["models"]["fake"]["compute"] is None, "the fake engine says nothing of layers"


def test_where_the_time_of_a_stopped_answer_went(counted: Counted) -> None:
    """Its client leaves after some tokens: what the engine did until then is known, and what was given of it."""
    address = counted.server.url.removeprefix("http://")
    client = http.client.HTTPConnection(address, timeout=60)
    body = {"model": "fake", "messages": [{"role": "user", "content": "z" * 400}], "stream": True}
    client.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    reply = client.getresponse()
    identity = reply.headers["x-request-id"]
    given = 0
    while given < 12:  # the first says only who speaks
        given += b'"content":"' in reply.readline()
    reply.close()
    client.close()
    deadline = time.monotonic() + 60
    while identity not in {row["id"] for row in counted.told("/v1/performance/requests?outcome=disconnected")["data"]}:
        assert time.monotonic() < deadline
    row = counted.told(f"/v1/performance/requests/{identity}", "Performance.Explained")
    assert 10 <= row["output_tokens"] < 400
    assert row["prompt_tokens"] >= 400
    phases, times = row["phases_ms"], row["timeline"]
    assert times["queued_ns"] <= times["admitted_ns"] <= times["first_token_ns"] < times["last_token_ns"]
    assert phases["decode"] > phases["prepare"] + phases["queue"], "ten tokens at 100 a second"
    assert phases["prefill"] > 0
