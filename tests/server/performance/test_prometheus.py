"""GET /metrics, read by Prometheus's own parser; the dashboard asks only for what is there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from heylook_llm.errors import LoadFailed
from heylook_llm.server.app import create_app
from tests.server.asgi import call
from tests.server.scripted import ScriptedBackend, says

pytestmark = pytest.mark.unit

CHAT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
DASHBOARD = Path(__file__).parents[3] / "docs" / "grafana.json"


async def scraped(app: Any, accept: str = "") -> tuple[str, str]:
    reply = await call(app, "GET", "/metrics", headers={"accept": accept})
    assert reply.status == 200
    return reply.body.decode(), reply.headers["content-type"]


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name, labels) -> value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(found: dict[Any, float], name: str, **labels: str) -> float:
    return sum(value for (at, has), value in found.items() if at == name and labels.items() <= dict(has).items())


async def test_what_was_answered_is_counted() -> None:
    backend = ScriptedBackend(says("Hel", "lo"))
    app = create_app(backend)
    for _ in range(3):
        await call(app, "POST", "/v1/chat/completions", CHAT)
    backend.refusal = LoadFailed("damaged")
    await call(app, "POST", "/api/chat", CHAT)
    found = samples((await scraped(app))[0])
    model = {"gen_ai_request_model": "org/scripted"}
    chat = {**model, "gen_ai_operation_name": "chat"}
    assert total(found, "heylook_requests_total", **chat, outcome="done", error_type="") == 3
    assert total(found, "heylook_requests_total", route="/api/chat", error_type="model_load_failed") == 1
    assert total(found, "heylook_tokens_total", **model, type="output") == 6
    assert total(found, "heylook_tokens_total", **model, type="prompt") == 21
    assert total(found, "gen_ai_server_request_duration_seconds_count", **chat) == 4
    assert total(found, "gen_ai_server_time_to_first_token_seconds_count", **chat) == 3
    assert 0 < total(found, "gen_ai_server_request_duration_seconds_sum", **chat) < 60
    assert total(found, "gen_ai_server_time_to_first_token_seconds_bucket", **chat, le="+Inf") == 3
    assert total(found, "heylook_load_seconds_count") == 0
    assert total(found, "heylook_model_loaded", **model) == 1
    assert total(found, "heylook_requests_in_flight") == 0


async def test_either_format_is_what_its_parser_reads() -> None:
    app = create_app(ScriptedBackend())
    await call(app, "POST", "/v1/chat/completions", CHAT)
    text, kind = await scraped(app)
    assert kind.startswith("text/plain; version=")
    assert samples(text)
    text, kind = await scraped(app, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    families = openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # theirs has no types
    assert {family.name for family in families} >= {"heylook_requests"}


async def test_two_servers_of_one_process_count_apart() -> None:
    first, second = create_app(ScriptedBackend()), create_app(ScriptedBackend())
    await call(first, "POST", "/v1/chat/completions", CHAT)
    assert total(samples((await scraped(second))[0]), "heylook_requests_total") == 0


async def test_the_dashboard_asks_for_what_is_there() -> None:
    app = create_app(ScriptedBackend())
    await call(app, "POST", "/v1/chat/completions", CHAT)
    text = (await scraped(app))[0]
    names = {name for name, _ in samples(text)} | set(re.findall(r"# TYPE (\w+)", text))
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    asked = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"(?:heylook|gen_ai_server)_\w+", target["expr"])
    }
    assert len(asked) >= 8
    assert asked - {name for name in asked if name.startswith("gen_ai_request")} <= names | {
        f"{n}_bucket" for n in names
    }
