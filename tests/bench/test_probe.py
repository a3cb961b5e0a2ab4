"""What targets are asked between measurements: each by stand-ins that answer as theirs do."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from heylook_llm.bench import begin
from heylook_llm.bench.probe import Probe, probing
from heylook_llm.bench.spec import TargetSpec
from heylook_llm.bench.targets.vectors import Vectors
from heylook_llm.errors import TargetFailed

pytestmark = pytest.mark.integration

Routes = dict[str, Callable[[dict[str, Any]], Any]]
"""`METHOD /path` -> what it answers; text stays text."""


@contextlib.contextmanager
def answering(routes: Routes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            asked = json.loads(self.rfile.read(size) or b"{}")
            found = routes.get(f"{self.command} {self.path.partition('?')[0]}")
            told = {} if found is None else found(asked)
            body = (told if isinstance(told, str) else json.dumps(told)).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def asked(url: str, what: Callable[[Probe], Any]) -> Any:
    async def ask() -> Any:
        async with probing() as http:
            return await what(Probe(http, url, {}))

    return asyncio.run(ask())


class Ollama:
    """One that unloads a model some while after it said so."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.unloaded: list[dict[str, Any]] = []

    def routes(self) -> Routes:
        return {
            "GET /api/version": lambda _: {"version": "0.9"},
            "GET /v1/models": lambda _: {"data": [{"id": "m:latest"}, {"id": "other"}]},
            "GET /api/ps": self.ps,
            "POST /api/generate": self.unload,
        }

    def ps(self, _: dict[str, Any]) -> dict[str, Any]:
        self.looks -= 1
        held = [{"name": "m:latest", "context_length": 4096}] if self.looks >= 0 or not self.unloaded else []
        return {"models": [*held, {"name": "other:latest"}]}

    def unload(self, body: dict[str, Any]) -> dict[str, Any]:
        self.unloaded.append(body)
        return {"done": True}


def test_ollama_is_cold_once_it_lists_the_model_no_more() -> None:
    ollama = Ollama(looks=4)
    with answering(ollama.routes()) as url:
        found = asked(url, lambda probe: probe.identify(None))
        assert (found.flavor, found.kind) == ("ollama", "ollama")
        assert asked(url, lambda probe: probe.context("ollama", "m")) == 4096
        assert asked(url, lambda probe: probe.context("ollama", "other")) is None
        assert asked(url, lambda probe: probe.make_cold("ollama", "m")) is True
    assert ollama.unloaded == [{"model": "m", "keep_alive": 0}]
    assert ollama.looks < 0, "it was asked until the model was gone"


def test_a_misspelt_model_is_no_run() -> None:
    def models(url: str, *names: str) -> tuple[str, ...]:
        return asyncio.run(begin.identified(TargetSpec(url=url, models=names))).models

    ours: Routes = {
        "GET /v1/capabilities": lambda _: {},
        "GET /v1/models": lambda _: {"data": [{"id": "tiny", "aliases": ["gpt-4o"]}, {"id": "large"}]},
    }
    with answering(ours) as url:
        assert models(url, "Tiny:latest", "gpt-4o", "large") == ("Tiny:latest", "gpt-4o", "large")
        with pytest.raises(TargetFailed, match=r"has no model 'tniy'; is it tiny\?"):
            models(url, "large", "tniy")
        with pytest.raises(TargetFailed, match=r"has no model 'x'; there are: tiny, large\."):
            models(url, "x")
    with answering(Ollama(9).routes()) as url:
        assert models(url, "m", "other:latest") == ("m", "other:latest")
        with pytest.raises(TargetFailed, match="has no model 'm:7b'"):
            models(url, "m:7b")
    with answering({"GET /v1/models": lambda _: {"data": [{"id": "m"}]}}) as url:
        assert models(url, "any") == ("any",), "others answer to any name"
    with pytest.raises(TargetFailed, match="a name that no machine goes by"):
        models("http://nobody.invalid", "m")


def test_contexts_and_counters_are_what_each_target_tells() -> None:
    routes: Routes = {
        "GET /props": lambda _: {"default_generation_settings": {"n_ctx": 2048}},
        "GET /v1/models": lambda _: {"data": [{"id": "m", "max_model_len": 8192}, {"id": "n", "max_model_len": "8"}]},
        "GET /metrics": lambda _: 'vllm:request_queue_time_seconds_sum{model_name="m"} 1.5\n',
    }
    with answering(routes) as url:
        assert asked(url, lambda probe: probe.context("llama-server", "m")) == 2048
        assert asked(url, lambda probe: probe.context("vllm", "m")) == 8192
        assert asked(url, lambda probe: probe.context("vllm", "n")) is None
        assert asked(url, lambda probe: probe.context("other", "m")) is None
        assert asked(url, lambda probe: probe.counters("vllm")) == {"vllm:request_queue_time_seconds_sum": 1.5}
        assert asked(url, lambda probe: probe.counters("other")) == {}
    with answering({}) as url:
        assert asked(url, lambda probe: probe.context("llama-server", "m")) is None
        assert asked(url, lambda probe: probe.counters("vllm")) == {}


def test_a_target_is_asked_what_it_counts_of_a_prompt() -> None:
    with answering({"POST /v1/embeddings": lambda _: {"data": [], "usage": {"prompt_tokens": 19}}}) as url:
        assert asked(url, lambda probe: probe.input_tokens("/v1/embeddings", {}, Vectors())) == 19
        with pytest.raises(TargetFailed, match="refuses POST /elsewhere"):
            asked(url, lambda probe: probe.input_tokens("/elsewhere", {}, Vectors()))


@pytest.mark.parametrize(("on_gpu", "compute"), [(0, "cpu"), (60, "hybrid"), (100, "gpu")])
def test_where_a_model_is_computed_by_what_ollama_says(on_gpu: int, compute: str) -> None:
    running = {"models": [{"name": "other:latest"}, {"name": "m:latest", "size": 100, "size_vram": on_gpu}]}
    with answering({"GET /api/ps": lambda _: running}) as url:
        assert asked(url, lambda probe: probe.placed("ollama", "m")) == {
            "compute": compute,
            "bytes": 100,
            "gpu_bytes": on_gpu,
        }
        assert asked(url, lambda probe: probe.placed("ollama", "other")) is None, "it doesn't say how much"
        assert asked(url, lambda probe: probe.placed("ollama", "absent")) is None
        assert asked(url, lambda probe: probe.placed("vllm", "m")) is None


def test_where_a_model_is_computed_by_what_our_server_says() -> None:
    live = {"models": {"m": {"compute": "hybrid", "resident_bytes": 7, "gpu_bytes": 3, "layers": 2}}}
    with answering({"GET /hardware/live": lambda _: live}) as url:
        told = asked(url, lambda probe: probe.placed("heylook", "m"))
        assert told == {"compute": "hybrid", "bytes": 7, "gpu_bytes": 3}
        assert asked(url, lambda probe: probe.placed("heylook", "absent")) is None
    with answering({"GET /hardware/live": lambda _: {"models": []}}) as url:
        assert asked(url, lambda probe: probe.placed("heylook", "m")) is None


STRANGE: tuple[Any, ...] = (
    {"data": [1, "m", None, {}, {"id": 7}, {"id": "m"}], "models": [[], {"name": None}, {"name": "m:latest"}]},
    {"data": {"id": "m"}, "models": "m"},
    {"data": None, "models": 3, "version": {"a": ["deep"]}},
    {"version": 1.5, "data": [], "models": [], "default_generation_settings": []},
    [],
    "[" * 100_000,
    "\ud800 \x00",
)


@pytest.mark.parametrize("told", STRANGE)
@pytest.mark.parametrize("path", ["/api/version", "/v1/capabilities", "/props", "/version", "/v1/models"])
def test_whatever_answers_at_a_port_is_a_target_or_none(path: str, told: Any) -> None:
    every = [f"GET {path}", "GET /v1/models", "GET /api/ps", "GET /health", "POST /tokenize", "GET /hardware/live"]

    async def look(probe: Probe) -> list[Any]:
        try:
            found = [await probe.identify(None)]
        except TargetFailed:
            found = []
        for flavor in ("heylook", "vllm", "ollama", "llama-server"):
            await probe.context(flavor, "m")
            await probe.count(flavor, "m", "text")
            await probe.placed(flavor, "m")
        return found

    with answering(
        {
            route: lambda _: told.encode("utf-8", "replace").decode() if isinstance(told, str) else told
            for route in every
        }
    ) as url:
        for found in asked(url, look):
            assert all(isinstance(name, str) for name in (*found.models, *found.loaded))
            assert found.version is None or (isinstance(found.version, str) and len(found.version) <= 100)


def test_an_answer_without_an_end_is_not_read() -> None:
    with answering({"GET /v1/models": lambda _: " " * (17 << 20) + "{}"}) as url:
        assert asked(url, lambda probe: probe.get("/v1/models")) is None
        with pytest.raises(TargetFailed, match="refuses GET /v1/models: an answer of more than 16 MiB"):
            asked(url, lambda probe: probe.must("GET", "/v1/models", None))
