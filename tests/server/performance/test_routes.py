"""/v1/performance over a real server: what it tells is what its own headers and the clients' clocks say."""

import csv
import io
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
from heylook_llm.server.endpoint import Options
from heylook_llm.server.performance.recorder import Recorder
from heylook_llm.server.performance.routes import EXPORT_ROWS
from heylook_llm.server.performance.schemas import SCHEMAS
from tests.server.asgi import call
from tests.server.recording import finished
from tests.server.scripted import ScriptedBackend
from tests.serving import Running, running
from tests.worker.tiers import LONG

pytestmark = pytest.mark.integration

MODELS = """
default_model: fake
max_loaded_models: 3
models:
  - {id: fake, aliases: [other-name], provider: fake, config: {n_ctx: 2048, n_parallel: 4}}
  - {id: paced, provider: fake, config: {n_ctx: 2048, n_parallel: 2, decode_tokens_per_second: 200}}
  - {id: cold, provider: fake, config: {n_ctx: 2048, load_seconds: 0.3}}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server records."""
    return tmp_path_factory.mktemp("performance") / "performance.sqlite3"


@pytest.fixture(scope="module")
def server(file: Path) -> Iterator[Running]:
    """A server that records into that file."""
    with running(MODELS, file.parent, recorder=str(file)) as it:
        yield it


def asked(server: Running, path: str, body: Any = None, method: str = "GET", **headers: str) -> tuple[Any, Any]:
    """The reply's text and headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, named, method="POST" if data else method)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.read().decode(), reply.headers


def told(server: Running, path: str, **more: Any) -> Any:
    return json.loads(asked(server, path, **more)[0])


def chat(server: Running, text: str = "Hello, world", model: str = "fake", **more: Any) -> tuple[Any, Any]:
    headers = {name: more.pop(name) for name in tuple(more) if name.startswith("X_")}
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return asked(server, "/v1/chat/completions", body, **headers)


def at_once(server: Running, clients: int, text: str) -> list[Any]:
    """What is told of requests to a slow model that came together."""
    replies: list[Any] = []
    threads = [threading.Thread(target=lambda: replies.append(chat(server, text, "paced"))) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [told(server, f"/v1/performance/requests/{headers['x-request-id']}") for _, headers in replies]


def holds(value: Any, name: str) -> None:
    """Raises where a reply isn't what the OpenAPI document says."""
    jsonschema.validate(value, {"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}})


def test_a_request_is_told_as_it_was(server: Running) -> None:
    begin = time.monotonic_ns()
    _, headers = chat(server, model="other-name", X_Run_Id="run-1", X_Client_Request_Id="mine", X_Client_Tag="bench")
    end = time.monotonic_ns()
    row = told(server, f"/v1/performance/requests/{headers['x-request-id']}")
    holds(row, "Performance.Explained")
    assert (row["model"], row["provider"], row["dialect"], row["outcome"]) == ("fake", "fake", "openai", "done")
    assert (row["run_id"], row["client_request_id"], row["client"]) == ("run-1", "mine", "bench")
    times = row["timeline"]
    stamps = [
        times[f"{name}_ns"]
        for name in (
            *("received", "parsed", "ready", "submitted", "rendered", "tokenized", "queued", "admitted"),
            *("first_token", "last_token", "all_tokens", "first_byte", "closed"),
        )
    ]
    assert begin <= stamps[0]
    assert stamps == sorted(stamps)
    assert stamps[-1] <= end, "the server's E2E is within the client's"
    assert sum(row["phases_ms"].values()) == pytest.approx(row["e2e_ms"], abs=0.01)
    assert row["output_tokens"] == len("Hello, world") + 1
    steps = times["decode"]
    assert len(steps["gaps_us"]) == len(steps["batch_sizes"]) == row["output_tokens"] - 1
    assert sum(steps["gaps_us"]) * 1e3 == pytest.approx(times["last_token_ns"] - times["first_token_ns"], abs=1e3)
    assert sum(chunk["tokens"] for chunk in times["prefill"]) == row["prompt_tokens"] - row["cached_tokens"]


def test_who_shared_the_batch_is_named(server: Running) -> None:
    row, other = at_once(server, 2, "x" * 100)
    second = other["id"]
    shared = {other["id"]: other["overlap_ms"] for other in row["shared_batch_with"]}
    assert max(row["timeline"]["decode"]["batch_sizes"]) == 2
    assert 0 < shared[second] <= row["e2e_ms"]


def test_a_wait_for_a_place_is_the_verdict(server: Running) -> None:
    slowest = max(at_once(server, 5, "y" * 80), key=lambda row: float(row["e2e_ms"]))
    assert slowest["why_slow"]["verdict"] == "queue-bound"
    assert slowest["why_slow"]["causes"][0]["spent_ms"] == pytest.approx(slowest["queue_ms"], abs=0.01)


def test_a_load_is_the_verdict_of_who_waited_for_it(server: Running) -> None:
    row = told(server, f"/v1/performance/requests/{chat(server, model='cold')[1]['x-request-id']}")
    again = told(server, f"/v1/performance/requests/{chat(server, model='cold')[1]['x-request-id']}")
    assert row["why_slow"]["verdict"] == "load-bound"
    assert row["load_ms"] >= 300
    assert again["load_ms"] is None
    assert "load" not in [cause["phase"] for cause in again["why_slow"]["causes"]]


def test_requests_are_filtered_and_paged(server: Running) -> None:
    ids = [chat(server, X_Run_Id="paged")[1]["x-request-id"] for _ in range(5)]
    chat(server, X_Run_Id="another")
    seen: list[str] = []
    query = "/v1/performance/requests?run_id=paged&limit=2"
    page = told(server, query)
    while True:
        holds(page, "Performance.Requests")
        seen += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            break
        page = told(server, f"{query}&before={page['next_before']}")
    assert seen == ids[::-1]
    assert page["next_before"] is None
    assert told(server, "/v1/performance/requests?run_id=paged&outcome=error")["data"] == []
    assert told(server, "/v1/performance/requests?run_id=paged%27%20OR%201=1--")["data"] == []


def test_a_run_comes_whole_and_in_order(server: Running) -> None:
    ids = [chat(server, X_Run_Id="whole", X_Client_Tag="=1+1")[1]["x-request-id"] for _ in range(3)]
    text, headers = asked(server, "/v1/performance/requests?run_id=whole&format=ndjson")
    rows = [json.loads(line) for line in text.splitlines()]
    assert headers["content-type"] == "application/x-ndjson"
    assert [row["id"] for row in rows] == ids
    for row in rows:
        holds(row, "Performance.Whole")
    assert json.loads(asked(server, "/v1/performance/export?run_id=whole&format=json")[0]) == rows
    assert asked(server, "/v1/performance/export?run_id=nobody&format=json")[0] == "[]\n"
    table = list(csv.DictReader(io.StringIO(asked(server, "/v1/performance/export?run_id=whole&format=csv")[0])))
    assert [row["id"] for row in table] == ids
    assert table[0]["client"] == "'=1+1"
    assert float(table[0]["e2e_ms"]) == rows[0]["e2e_ms"]


async def test_an_export_of_many_pages_is_one_file() -> None:
    recorder = Recorder()
    app = create_app(ScriptedBackend(), Options(recorder=recorder))
    count = 2 * EXPORT_ROWS + 7
    for number in range(count):
        recorder.record(finished(number))
    ids = [finished(number).id for number in range(count)]
    lines = (await call(app, "GET", "/v1/performance/export?format=ndjson")).body.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ids
    assert (await call(app, "GET", "/v1/performance/export")).json == [json.loads(line) for line in lines]
    table = (await call(app, "GET", "/v1/performance/export?format=csv")).body.decode()
    assert [row["id"] for row in csv.DictReader(io.StringIO(table))] == ids
    recorder.close()


@pytest.mark.parametrize("window", ["1m", "5m", "1h", "24h", "7d"])
def test_each_window_sums_up_the_same_requests(server: Running, window: str) -> None:
    chat(server, n=2)
    asked(server, "/v1/embeddings", {"model": "fake", "input": "a"})
    found = told(server, f"/v1/performance?window={window}&model=fake")
    holds(found, "Performance.Summary")
    kept = told(server, "/v1/performance/requests?limit=1000&model=fake")["data"]
    rows = [row for row in kept if found["from"] <= row["finished_at"] <= found["to"]]
    summary = found["models"]["fake"]
    assert list(found["models"]) == ["fake"]
    assert summary["count"] == len(rows)
    assert summary["outcomes"] == {"done": len(rows)}
    assert summary["tokens"]["output_tokens"] == sum(row["output_tokens"] for row in rows)
    ordered = sorted(row["e2e_ms"] for row in rows)
    exact = window in ("1m", "5m", "1h")
    assert (found["method"], found["relative_error"]) == (("samples", None) if exact else ("histogram", 0.01))
    assert summary["e2e_ms"]["p50"] == pytest.approx(ordered[(len(ordered) - 1) // 2], rel=1e-4 if exact else 0.011)
    assert (summary["e2e_ms"]["p90"] is None) == (len(rows) < 20)
    assert summary["itl_ms"]["relative_error"] == 0.01
    assert 0 < summary["batch_occupancy"] <= 1


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/performance?window=2h", "window"),
        ("/v1/performance/requests?limit=0", "limit"),
        ("/v1/performance/requests?limit=x", "limit"),
        ("/v1/performance/requests?before=-1", "before"),
        ("/v1/performance/requests?outcome=fine", "outcome"),
        ("/v1/performance/export?format=xlsx", "format"),
    ],
)
async def test_what_is_not_known_is_refused(path: str, param: str) -> None:
    reply = await call(create_app(ScriptedBackend()), "GET", path)
    assert (reply.status, reply.json["error"]["param"]) == (400, param)


async def test_an_unknown_request_is_not_found() -> None:
    reply = await call(create_app(ScriptedBackend()), "GET", "/v1/performance/requests/req_0")
    assert (reply.status, reply.json["error"]["code"]) == (404, "request_not_found")


async def test_a_run_has_an_id_of_bounded_length() -> None:
    reply = await call(create_app(ScriptedBackend()), "POST", f"/v1/performance/runs/{'a' * 129}/pin", {})
    assert (reply.status, reply.json["error"]["param"]) == (400, "run_id")


async def test_a_run_is_pinned_by_true_or_false_only() -> None:
    reply = await call(create_app(ScriptedBackend()), "POST", "/v1/performance/runs/a/pin", {"pinned": 1})
    assert (reply.status, reply.json["error"]["param"]) == (400, "pinned")


@pytest.mark.parametrize("clients", [1, 8, *([32] if LONG else [])])
def test_each_clients_clock_encloses_the_servers(server: Running, clients: int) -> None:
    spans: dict[str, tuple[int, int, int]] = {}

    def ask(number: int) -> None:
        text = "z" * (number + 1)
        begin = time.monotonic_ns()
        _, headers = chat(server, text, "paced" if number % 2 else "fake", stream=number % 3 == 0)
        spans[headers["x-request-id"]] = (begin, time.monotonic_ns(), len(text) + 1)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(spans) == clients
    for identity, (begin, end, tokens) in spans.items():
        row = told(server, f"/v1/performance/requests/{identity}")
        times = row["timeline"]
        assert begin <= times["received_ns"] <= times["closed_ns"] <= end
        assert times["received_ns"] <= times["admitted_ns"] <= times["first_token_ns"] <= times["last_token_ns"]
        assert times["last_token_ns"] <= times["closed_ns"]
        assert row["output_tokens"] == tokens == 1 + len(times["decode"]["gaps_us"])
        assert row["prompt_tokens"] == row["cached_tokens"] + sum(chunk["tokens"] for chunk in times["prefill"])


def test_no_text_of_prompts_or_answers_is_kept(server: Running, file: Path) -> None:
    identity = chat(server, "a secret to keep")[1]["x-request-id"]
    text = asked(server, "/v1/performance/export?format=ndjson")[0]
    assert identity in text
    assert "secret" not in text
    written = b"".join(part.read_bytes() for part in file.parent.glob(f"{file.name}*"))
    assert identity.encode() in written
    assert b"secret" not in written


def test_a_pinned_run_survives_the_clearing(server: Running) -> None:
    kept = chat(server, X_Run_Id="kept")[1]["x-request-id"]
    chat(server)
    run = told(server, "/v1/performance/runs/kept/pin", body={"pinned": True})
    before = len(told(server, "/v1/performance/requests?limit=1000")["data"])
    cleared = told(server, "/v1/performance", method="DELETE")
    assert [row["id"] for row in told(server, "/v1/performance/requests")["data"]] == [kept]
    assert told(server, "/v1/performance?window=7d")["models"] == {}
    holds(run, "Performance.Run")
    holds(cleared, "Performance.Cleared")
    assert cleared["deleted"] == before - 1
