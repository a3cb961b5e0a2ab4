"""The OpenAPI document against its standard, and replies against the document."""

import asyncio
import json
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # brings no types
from openapi_spec_validator import validate

from heylook_llm import core, registry
from heylook_llm.server.app import create_app, endpoints
from heylook_llm.server.endpoint import Options
from heylook_llm.server.imports import Imports
from heylook_llm.server.reload import RegistryWatch
from heylook_llm.server.reply_schemas import schemas
from tests.catalog.places import gguf
from tests.server.asgi import Client, call
from tests.server.scripted import ScriptedBackend, done, says

pytestmark = pytest.mark.unit


async def document(app: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await call(app, "GET", "/openapi.json")).json
    return found


@pytest.mark.parametrize("api", ["openai", "ollama", "both"])
async def test_the_document_holds_to_its_standard(api: Any) -> None:
    validate(await document(create_app(ScriptedBackend(), Options(api=api))))


async def test_the_document_is_made_once_while_answers_go_on() -> None:
    made_in: list[threading.Thread] = []

    def noting() -> dict[str, Any]:
        made_in.append(threading.current_thread())
        return {}

    app = create_app(ScriptedBackend(), Options(schemas=noting))
    first, *others = await asyncio.gather(*(document(app) for _ in range(4)))
    assert others == [first] * 3
    assert len(made_in) == 1
    assert made_in[0] is not threading.current_thread(), "it takes as long as many tokens"


def test_every_route_that_is_read_says_what_it_replies() -> None:
    rows = [row for row in endpoints("both") if "GET" in row.methods.split() and row.media_type == "application/json"]
    unsaid = [row.path for row in rows if not row.refused and not row.response]
    assert unsaid == []
    answering = [row for row in endpoints("both") if row.methods == "POST" and row.media_type == "application/json"]
    unsaid = [row.path for row in answering if not row.refused and not row.response]
    assert set(unsaid) == {"/api/copy", "/api/blobs/{digest}"}, "their replies are empty"
    referred = set(re.findall(r"#/components/schemas/(Reply\.\w+)", json.dumps(schemas())))
    assert set(schemas()) <= {row.response for row in endpoints("both")} | referred, "every schema is some route's"


class Checked:
    """A server whose replies are held to its document."""

    def __init__(self, root: Path) -> None:
        self.backend = ScriptedBackend()
        file = root / "models.yaml"
        file.write_text("models: [{id: kept, provider: fake}]")
        gguf(root / "models" / "one.gguf")
        (root / "models" / "bad.gguf").write_bytes(b"GGUF")

        async def follow() -> None:
            return

        imports = Imports(file, follow, [root / "models"])
        watch = RegistryWatch(file, lambda: registry.load(file), lambda settings: None, registry.load(file))
        self.app = create_app(self.backend, Options(imports=imports, registry=watch))
        self.told: dict[str, Any] = {}
        self.seen: set[str] = set()

    async def holds(self, method: str, path: str, route: str, body: Any = b"", **headers: str) -> Any:
        """The reply, which is of the shape that the document gives the route."""
        reply = await call(self.app, method, path, body, headers=headers)
        assert reply.status == 200, (path, reply.body)
        self.told = self.told or await document(self.app)
        told = self.told
        (content,) = told["paths"][route][method.lower()]["responses"]["200"]["content"].values()
        schema = {**content["schema"], "components": told["components"]}
        Draft202012Validator(schema).validate(reply.json)
        self.seen.add(content["schema"]["$ref"].rpartition("/")[2])
        return reply.json


FORM = (
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n{}\r\n--x--\r\n'
)


async def files_and_batches(checked: Checked) -> None:
    form = {"content-type": "multipart/form-data; boundary=x"}
    file = await checked.holds("POST", "/v1/files", "/v1/files", FORM, **form)
    await checked.holds("GET", f"/v1/files/{file['id']}", "/v1/files/{file_id}")
    await checked.holds("GET", "/v1/files", "/v1/files")
    body = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "metadata": {"a": "b"}}
    batch = await checked.holds("POST", "/v1/batches", "/v1/batches", body)
    while (told := await checked.holds("GET", f"/v1/batches/{batch['id']}", "/v1/batches/{batch_id}"))[
        "errors"
    ] is None:
        continue
    assert told["status"] == "failed"
    await checked.holds("GET", "/v1/batches", "/v1/batches")
    await checked.holds("DELETE", f"/v1/files/{file['id']}", "/v1/files/{file_id}")


PARTS = {
    f"Reply.{name}"
    for name in (
        *("Timings", "PerformanceOfAnswer", "ChatCompletion", "ChatCompletionGroup", "NativeAnswer"),
        *("RankedDocuments", "RankedDocument", "ScoredText"),
    )
}
"""Of which others are made."""
LIKELY = core.TokenLogprob(5, b"a", -0.5, (core.TopLogprob(5, b"a", -0.5),))
USER = [{"role": "user", "content": "x"}]


def everything(request: core.Request) -> Iterable[tuple[core.Event, ...]]:
    """Each choice thinks, says and calls."""
    wanted = request.sampling.logprobs is not None
    count = request.n * len(request.prompts)
    for choice in range(count):
        yield (
            core.Reasoning(choice, "hm", (1,)),
            core.Text(choice, "a", (5,), (LIKELY,) if wanted else ()),
            core.ToolCallStart(choice, 0, "call_1", "f"),
            core.ToolCallArgs(choice, 0, '{"a": 1}'),
        )
    yield tuple(done(choice, "tool_calls") for choice in range(count))


async def answers(checked: Checked) -> None:
    """Answers of every kind: with reasoning, calls, log probabilities, measures, several choices."""
    asked: dict[str, Any] = {"model": "scripted", "messages": USER}
    function = {"name": "f", "parameters": {"type": "object"}}
    tools = [{"type": "function", "function": function}]
    whole = {**asked, "tools": tools, "stream": False, "include_performance": True, "n": 2}
    for script in (says("Hello"), everything):
        checked.backend.script = script
        chat = "/v1/chat/completions"
        for more in ({}, {"logprobs": True, "top_logprobs": 1}, {"return_token_ids": True}):
            await checked.holds("POST", chat, chat, {**whole, **more})
        await checked.holds("POST", chat, chat, {**asked, "functions": [function]})
        for individual in (True, False):
            body = {**asked, "processing_mode": "parallel", "include_timing": True, "return_individual": individual}
            await checked.holds("POST", chat, chat, body)
        batch = "/v1/batch/chat/completions"
        await checked.holds("POST", batch, batch, {"requests": [asked, asked]})
        prompt = {"model": "scripted", "prompt": ["x", "y"], "logprobs": 1, "return_token_ids": True}
        await checked.holds("POST", "/v1/completions", "/v1/completions", prompt)
        await checked.holds("POST", "/completion", "/completion", {**prompt, "n_probs": 1})
        await checked.holds("POST", "/completion", "/completion", {"model": "scripted", "prompt": "x"})
        messages = {**asked, "max_tokens": 9, "tools": [{"name": "f", "input_schema": {"type": "object"}}]}
        await checked.holds("POST", "/v1/messages", "/v1/messages", {**messages, "thinking": {"type": "adaptive"}})
        ollamas = {**asked, "tools": tools, "stream": False, "logprobs": True, "top_logprobs": 1}
        await checked.holds("POST", "/api/chat", "/api/chat", ollamas)
        await checked.holds("POST", "/api/chat", "/api/chat", {"model": "scripted", "messages": []})
        generate = {"model": "scripted", "prompt": "x", "stream": False}
        await checked.holds("POST", "/api/generate", "/api/generate", generate)
        await checked.holds("POST", "/api/generate", "/api/generate", {"model": "scripted", "stream": True})
    await vectors_and_tokens(checked)


async def vectors_and_tokens(checked: Checked) -> None:
    model = {"model": "scripted"}
    for form in ("float", "base64"):
        await checked.holds(
            "POST", "/v1/embeddings", "/v1/embeddings", {**model, "input": "x", "encoding_format": form}
        )
    await checked.holds("POST", "/api/embed", "/api/embed", {**model, "input": ["x", "y"]})
    await checked.holds("POST", "/api/embed", "/api/embed", {**model, "input": []})
    await checked.holds("POST", "/api/embeddings", "/api/embeddings", {**model, "prompt": "x"})
    await checked.holds("POST", "/embedding", "/embedding", {**model, "content": ["x", "y"]})
    documents = {**model, "query": "x", "documents": ["x", "y"], "return_documents": True}
    for route in ("/v1/rerank", "/api/rerank"):
        await checked.holds("POST", route, route, documents)
    await checked.holds(
        "POST", "/v1/rerank", "/v1/rerank", {**model, "query": "x", "texts": ["x"], "return_text": True}
    )
    for more in ({}, {"with_pieces": True}, {"return_token_strs": True}):
        await checked.holds("POST", "/tokenize", "/tokenize", {**model, "content": "xy", **more})
    await checked.holds("POST", "/detokenize", "/detokenize", {**model, "tokens": [104]})
    for route in ("/apply-template", "/v1/chat/completions/input_tokens", "/v1/messages/count_tokens"):
        await checked.holds("POST", route, route, {**model, "messages": USER})


async def test_replies_are_what_the_document_says(tmp_path: Path) -> None:
    checked = Checked(tmp_path)
    for path in (
        *("/health", "/v1/models", "/v1/requests", "/v1/capabilities", "/v1/settings", "/v1/settings/models"),
        *("/api/version", "/api/tags", "/api/ps", "/api/status", "/api/experimental/model-recommendations"),
    ):
        await checked.holds("GET", path, path)
    for path in ("/props", "/slots"):
        await checked.holds("GET", path, path)
    await files_and_batches(checked)
    await checked.holds("GET", "/v1/models/scripted", "/v1/models/{model_id}")
    await checked.holds("GET", "/v1/models", "/v1/models", **{"anthropic-version": "2023-06-01"})
    await checked.holds("POST", "/api/show", "/api/show", {"model": "scripted", "verbose": True, "system": "x"})
    for verb in ("load", "unload", "pin"):
        await checked.holds("POST", f"/v1/models/scripted/{verb}", f"/v1/models/{{model_id}}/{verb}", {})
    await checked.holds("DELETE", "/v1/models/scripted/cache", "/v1/models/{model_id}/cache")
    here, route = "/v1/settings/models/kept", "/v1/settings/models/{model_id}"
    await checked.holds("GET", here, route)
    await checked.holds("PATCH", here, route, {"set": {"pinned": True}})
    for dry_run in (True, False, False):
        await checked.holds("POST", "/v1/models/import", "/v1/models/import", {"dry_run": dry_run})
    made = await checked.holds("POST", "/v1/responses", "/v1/responses", {"model": "scripted", "input": "x"})
    here, route = f"/v1/responses/{made['id']}", "/v1/responses/{response_id}"
    await checked.holds("GET", here, route)
    await checked.holds("GET", f"{here}/input_items", f"{route}/input_items")
    await checked.holds("DELETE", here, route)
    counted = "/v1/responses/input_tokens"
    await checked.holds("POST", counted, counted, {"model": "scripted", "input": "x"})
    background = {"model": "scripted", "input": "x", "background": True, "instructions": "y", "metadata": {"k": "v"}}
    waits = await checked.holds("POST", "/v1/responses", "/v1/responses", background)
    await checked.holds("POST", f"/v1/responses/{waits['id']}/cancel", f"{route}/cancel")
    await answers(checked)
    unseen = set(schemas()) - checked.seen
    assert unseen == {"Reply.Request", "Reply.Cancelled"} | PARTS, "the two are asked for below"


async def test_a_request_in_flight_is_what_the_document_says(tmp_path: Path) -> None:
    checked = Checked(tmp_path)
    checked.backend.gate = asyncio.Event()
    body = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}
    asking = Client(checked.app, "POST", "/v1/chat/completions", body)
    await checked.backend.paused.wait()
    listed = (await checked.holds("GET", "/v1/requests", "/v1/requests"))["data"]
    name = listed[0]["id"]
    await checked.holds("GET", f"/v1/requests/{name}", "/v1/requests/{request_id}")
    await checked.holds("DELETE", f"/v1/requests/{name}", "/v1/requests/{request_id}")
    await asking.end()


async def test_operations_keep_the_names_that_generated_clients_call() -> None:
    """A name once published stays; a new route's is added to the file."""
    told = await document(create_app(ScriptedBackend(), Options()))
    operations = {
        f"{verb.upper()} {path} {operation['operationId']}"
        for path, verbs in told["paths"].items()
        for verb, operation in verbs.items()
    }
    published = set((Path(__file__).parent.parent / "golden" / "operations.txt").read_text().splitlines())
    assert published <= operations, "generated clients call these"
    assert len(published) >= 60


async def test_no_two_models_have_one_title() -> None:
    """Generators call a class by it, and leave out the routes of those that collide."""
    schemas = (await document(create_app(ScriptedBackend(), Options())))["components"]["schemas"]
    titles = [schema.get("title", name) for name, schema in schemas.items()]
    assert len(titles) == len(set(titles))
