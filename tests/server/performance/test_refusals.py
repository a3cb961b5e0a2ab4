"""What is refused before it becomes a request: it is counted by its error, and takes no request's place."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from heylook_llm import config
from heylook_llm.server.app import create_app
from heylook_llm.server.endpoint import Options
from heylook_llm.server.guard import GuardOptions
from heylook_llm.server.performance.recorder import Recorder
from heylook_llm.server.performance.selection import Selection
from heylook_llm.server.performance.windows import WINDOWS
from tests.server.asgi import call
from tests.server.recording import at, finished, held
from tests.server.scripted import ScriptedBackend

pytestmark = pytest.mark.unit

CHAT = "/v1/chat/completions"
KEY = {"authorization": "Bearer secret"}
ASKED: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "Hello"}]}
REFUSED: list[tuple[str, str, Any, dict[str, str], int, str]] = [
    ("POST", CHAT, b"{not json", KEY, 400, "invalid_json"),
    ("POST", CHAT, {**ASKED, "temperature": "hot"}, KEY, 400, "invalid_type"),
    ("POST", CHAT, {**ASKED, "model": "nobody"}, KEY, 404, "model_not_found"),
    ("POST", "/api/chat", {**ASKED, "model": "nobody"}, KEY, 404, "model_not_found"),
    ("POST", CHAT, {**ASKED, "user": "x" * 5000}, KEY, 413, "request_too_large"),
    ("GET", "/v1/nothing", b"", KEY, 404, "unknown_url"),
    ("PUT", CHAT, b"", KEY, 405, "method_not_supported"),
    ("POST", CHAT, ASKED, {}, 401, "invalid_api_key"),
    ("POST", CHAT, ASKED, {**KEY, "host": "evil.example"}, 403, "host_not_allowed"),
    ("POST", CHAT, ASKED, {**KEY, "origin": "http://evil.example"}, 403, "origin_not_allowed"),
]


async def test_what_is_refused_is_counted_by_its_error_and_leaves_no_row() -> None:
    limits = config.Limits(max_body_bytes=4096)
    app = create_app(ScriptedBackend(), Options(limits=limits, guard=GuardOptions(api_key="secret")))
    expected: dict[str, int] = {}
    for method, path, body, headers, status, code in REFUSED:
        assert (await call(app, method, path, body, headers=headers)).status == status, (path, code)
        expected[code] = expected.get(code, 0) + 1
    assert (await call(app, "POST", CHAT, ASKED, headers=KEY)).status == 200
    for window in WINDOWS:
        told = (await call(app, "GET", f"/v1/performance?window={window}", headers=KEY)).json
        assert told["refused"] == {"count": len(REFUSED), "errors": expected}, window
        assert {name: found["count"] for name, found in told["models"].items()} == {"org/scripted": 1}
    of_a_model = (await call(app, "GET", "/v1/performance?model=org/scripted", headers=KEY)).json
    assert of_a_model["refused"]["count"] == len(REFUSED)
    rows = (await call(app, "GET", "/v1/performance/requests", headers=KEY)).json["data"]
    assert [told["outcome"] for told in rows] == ["done"]
    assert await scraped(app) == expected
    assert (await call(app, "DELETE", "/v1/performance", headers=KEY)).json["deleted"] == 1
    for window in WINDOWS:
        told = (await call(app, "GET", f"/v1/performance?window={window}", headers=KEY)).json
        assert (told["models"], told["refused"]) == ({}, {"count": 0, "errors": {}})


async def scraped(app: Any) -> dict[str, int]:
    """What /metrics counts, by error."""
    text = (await call(app, "GET", "/metrics", headers=KEY)).body.decode()
    found = (family for family in text_string_to_metric_families(text) if family.name == "heylook_refused_requests")
    return {
        sample.labels["error_type"]: int(sample.value)
        for family in found
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def test_a_flood_of_refusals_pushes_no_request_out() -> None:
    recorder = Recorder(capacity=3, now=lambda: at(1e9))
    with held(recorder):
        for number in range(10_000):
            recorder.refuse(("invalid_json", "unknown_url")[number % 2])
        recorder.record(finished(1))
        recorder.record(finished(2))
    assert len(recorder.question(lambda database: database.select(Selection())).result(10)) == 2
    assert recorder.dropped == 0
    tallies = recorder.question(lambda database: list(database.hours(0, None))).result(10)
    assert [tally.errors for name, tally in tallies if name == ""] == [{"invalid_json": 5000, "unknown_url": 5000}]
    recorder.close()


def test_refusals_alone_wake_the_recorder_and_outlive_it(tmp_path: Any) -> None:
    path = tmp_path / "performance.sqlite3"
    recorder = Recorder(path)
    recorder.refuse("invalid_json")
    recorder.close()
    again = Recorder(path)
    again.refuse("invalid_json")
    ((_, tally),) = again.question(lambda database: list(database.hours(0, None))).result(10)
    assert (tally.count, tally.outcomes) == (2, {"refused": 2})
    again.close()
