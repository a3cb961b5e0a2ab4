"""The OpenAPI document against its standard, and replies against the document."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # brings no types
from openapi_spec_validator import validate

from heylook_llm import registry
from heylook_llm.server.app import create_app, endpoints
from heylook_llm.server.endpoint import Options
from heylook_llm.server.imports import Imports
from heylook_llm.server.reload import RegistryWatch
from heylook_llm.server.reply_schemas import schemas
from tests.catalog.places import gguf
from tests.server.asgi import Client, call
from tests.server.scripted import ScriptedBackend

pytestmark = pytest.mark.unit


async def document(app: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await call(app, "GET", "/openapi.json")).json
    return found


@pytest.mark.parametrize("api", ["openai", "ollama", "both"])
async def test_the_document_holds_to_its_standard(api: Any) -> None:
    validate(await document(create_app(ScriptedBackend(), Options(api=api))))


def test_every_route_that_is_read_says_what_it_replies() -> None:
    rows = [row for row in endpoints("both") if "GET" in row.methods.split() and row.media_type == "application/json"]
    unsaid = [row.path for row in rows if not row.refused and not row.response]
    assert unsaid == []
    assert set(schemas()) <= {row.response for row in endpoints("both")}, "every schema is some route's"


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
        self.seen: set[str] = set()

    async def holds(self, method: str, path: str, route: str, body: Any = b"", **headers: str) -> Any:
        """The reply, which is of the shape that the document gives the route."""
        reply = await call(self.app, method, path, body, headers=headers)
        assert reply.status == 200, (path, reply.body)
        told = await document(self.app)
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
    assert checked.seen | {"Reply.Request", "Reply.Cancelled"} == set(schemas()), "the two are asked for below"


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
