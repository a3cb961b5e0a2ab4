"""The route table: what is mounted, how errors are worded, what the documents say."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # brings no types

from heylook_llm import config
from heylook_llm.errors import LoadFailed
from heylook_llm.server.app import create_app
from heylook_llm.server.creations import Creations
from heylook_llm.server.endpoint import Options
from heylook_llm.server.guard import GuardOptions
from heylook_llm.server.imports import Imports
from heylook_llm.server.pulls import Pulls
from tests.server.asgi import Client, call
from tests.server.scripted import ScriptedBackend

pytestmark = pytest.mark.unit

HI: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


def app_of(**options: Any) -> Any:
    return create_app(ScriptedBackend(), Options(**options))


# ---- what is mounted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("api", "openai", "ollama"), [("openai", 200, 404), ("ollama", 404, 200), ("both", 200, 200)])
async def test_the_api_decides_what_is_mounted(api: Any, openai: int, ollama: int) -> None:
    app = app_of(api=api)
    assert (await call(app, "GET", "/v1/models")).status == openai
    assert (await call(app, "GET", "/api/tags")).status == ollama
    assert (await call(app, "GET", "/health")).status == 200
    assert (await call(app, "GET", "/v1/requests")).status == 200


async def test_the_root_by_client() -> None:
    plain = await call(app_of(), "GET", "/")
    assert (plain.body, plain.headers["content-type"]) == (b"Ollama is running", "text/plain; charset=utf-8")
    assert (await call(app_of(api="openai"), "GET", "/")).body == b"heylookllm is running"


@pytest.mark.parametrize(
    ("accept", "is_browser"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", True),
        ("text/html,*/*", True),
        ("*/*", False),
        ("application/json, text/plain, */*", False),
        ("text/html;q=0.5, text/plain", False),
        ("text/html;q=0, */*", False),
        ("text/html;q=much", False),
        ("", False),
    ],
)
async def test_a_browser_at_the_root_is_sent_to_the_pages(accept: str, is_browser: bool) -> None:
    reply = await call(app_of(), "GET", "/", headers={"accept": accept})
    assert (reply.status, reply.headers.get("location")) == ((307, "/ui") if is_browser else (200, None))
    assert reply.headers["vary"] == "Accept"


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags", "/v1/models", "/health"])
async def test_head_where_ollama_has_it(path: str) -> None:
    assert (await call(app_of(), "HEAD", path)).status == 200


async def test_the_version() -> None:
    assert (await call(app_of(), "GET", "/api/version")).json == {"version": "0.13.3"}


# ---- errors in each dialect's words ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/nope", "/v1/nope", "/v1/chat", "/v1", "/docs/assets/nope.js"])
async def test_an_unknown_url_of_v1(path: str) -> None:
    reply = await call(app_of(), "GET", path)
    assert reply.status == 404
    assert reply.json["error"]["code"] == "unknown_url"
    assert set(reply.json["error"]) == {"message", "type", "param", "code"}


async def test_an_unknown_url_of_ollama() -> None:
    for app, path in ((app_of(), "/api/nope"), (app_of(api="ollama"), "/nope")):
        reply = await call(app, "GET", path)
        assert (reply.status, reply.body) == (404, b"404 page not found")


REFUSED = [
    ("POST", "/v1/responses/compact", "truncation"),
    ("POST", "/v1/conversations", "previous_response_id"),
    ("POST", "/v1/audio/transcriptions", "no model here hears"),
    ("POST", "/v1/audio/speech", "no model here hears"),
    ("POST", "/v1/images/generations", "models see them"),
    ("GET", "/v1/fine_tuning/jobs", "serve an adapter"),
    ("POST", "/v1/moderations", "classifies"),
    ("POST", "/v1/assistants", "use POST /v1/chat/completions"),
    ("POST", "/v1/threads/thread_1/runs", "send the messages"),
    ("DELETE", "/v1/vector_stores/vs_1", "/v1/rerank"),
    ("POST", "/v1/realtime/sessions", "stream POST"),
    ("POST", "/v1/uploads", "POST /v1/files"),
    ("POST", "/v1/messages/batches", "to POST /v1/messages"),
    ("POST", "/api/push", "copy the model's file"),
]
CLOUD = ["/api/experimental/web_search", "/api/experimental/web_fetch", "/api/me", "/api/signout"]
NO_MODELS_FILE = [
    ("POST", "/api/create", {"model": "new", "from": "scripted"}),
    ("POST", "/api/copy", {"source": "scripted", "destination": "new"}),
    ("HEAD", "/api/blobs/sha256:" + 64 * "0", None),
    ("POST", "/api/blobs/sha256:" + 64 * "0", None),
]


@pytest.mark.parametrize(("method", "path", "words"), REFUSED)
async def test_what_is_not_offered_is_refused_in_its_dialect(method: str, path: str, words: str) -> None:
    reply = await call(app_of(), method, path, {"model": "scripted", "stream": True})
    assert reply.status == 400
    error = reply.json["error"]
    if path.startswith("/api/"):
        text = error
    elif path.startswith("/v1/messages"):
        assert reply.json["type"] == "error"
        assert error["type"] == "invalid_request_error"
        text = error["message"]
    else:
        assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "unsupported_value", None)
        text = error["message"]
    assert words in text
    assert "\n" not in text


@pytest.mark.parametrize("path", CLOUD)
async def test_there_is_no_cloud(path: str) -> None:
    reply = await call(app_of(), "POST", path, {})
    assert reply.status == 403
    assert reply.json["error"].startswith("ollama cloud is disabled: ")


@pytest.mark.parametrize(("method", "path", "body"), NO_MODELS_FILE)
async def test_without_a_models_file_none_is_made(method: str, path: str, body: Any) -> None:
    reply = await call(app_of(), method, path, b"" if body is None else body)
    assert reply.status == 400
    if method == "POST":
        assert "models.yaml" in reply.json["error"]


async def test_refused_routes_are_marked_in_the_document() -> None:
    paths = (await document())["paths"]
    for method, path, words in REFUSED:
        if path not in paths:
            continue  # below the root of an API that is refused as a whole
        operation = paths[path][method.lower()]
        assert operation["x-heylook-treatment"] == "refused"
        assert words in operation["description"]
        assert set(operation["responses"]) == {"400"}
    assert not any("x-heylook-treatment" in op for op in paths["/api/chat"].values())


async def test_another_verb() -> None:
    reply = await call(app_of(), "GET", "/v1/chat/completions")
    assert (reply.status, reply.json["error"]["code"], reply.headers["allow"]) == (405, "method_not_supported", "POST")
    reply = await call(app_of(), "GET", "/api/show")
    assert (reply.status, reply.body) == (405, b"405 method not allowed")


BODIES = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/rerank",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
    "/api/rerank",
    "/api/show",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/v1/chat/completions/input_tokens",
    "/v1/models/scripted/pin",
]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'{"a": NaN}', b"[]", b"5", b'{"model": "\\ud800"}'])
async def test_no_body_is_a_422_or_a_500(path: str, body: bytes) -> None:
    reply = await call(app_of(), "POST", path, body)
    assert reply.status == 400
    error = reply.json["error"]
    assert isinstance(error, str) if path.startswith("/api/") else set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", BODIES[:-1])
async def test_an_unknown_model(path: str) -> None:
    body = {
        "model": "nope",
        "messages": [{"role": "user", "content": "x"}],
        "prompt": "x",
        "content": "x",
        "tokens": [1],
        "input": "x",
        "query": "x",
        "documents": ["x"],
    }
    reply = await call(app_of(), "POST", path, body)
    assert reply.status == 404
    if path == "/api/show":
        assert reply.json == {"error": "model 'nope:latest' not found"}
    elif path.startswith("/api/embed"):
        assert reply.json == {"error": 'model "nope" not found, try pulling it first'}
    elif path.startswith("/api/"):
        assert reply.json == {"error": "model 'nope' not found"}
    else:
        assert (reply.json["error"]["code"], reply.json["error"]["param"]) == ("model_not_found", "model")
        assert "not found" in reply.json["error"]["message"]


async def test_a_body_beyond_the_limit_is_refused_while_it_arrives() -> None:
    app = app_of(limits=config.Limits(max_body_bytes=1024))
    for body in ({"x": "y" * 2000}, b"x" * 5000):
        for path in ("/v1/chat/completions", "/api/chat"):
            assert (await call(app, "POST", path, body)).status == 413
    declared = await call(app, "POST", "/api/chat", b"", headers={"content-length": "99999999999"})
    assert declared.status == 413
    client = Client(app, "POST", "/api/chat", b"")
    client._body = [b"x" * 600] * 1000
    await client.end()
    assert client.status == 413
    assert len(client._body) > 990


@pytest.mark.parametrize("encoding", ["br", "deflate, gzip", "compress"])
async def test_a_body_packed_another_way_is_refused(encoding: str) -> None:
    reply = await call(app_of(), "POST", "/v1/chat/completions", b"x", headers={"content-encoding": encoding})
    assert (reply.status, reply.json["error"]["code"]) == (415, "unsupported_content_encoding")


async def test_a_packed_body_that_is_damaged_is_refused() -> None:
    for path in ("/v1/chat/completions", "/api/chat", "/v1/models/scripted/load"):
        for body in (b"x", b"{}", gzip.compress(b"{}")[:-1]):
            reply = await call(app_of(), "POST", path, body, headers={"content-encoding": "gzip"})
            assert (reply.status, "Content-Encoding: gzip" in str(reply.json["error"])) == (400, True)


async def test_a_deterministic_failure_says_not_to_retry() -> None:
    backend = ScriptedBackend()
    backend.refusal = LoadFailed("damaged")
    body = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}
    reply = await call(create_app(backend), "POST", "/v1/chat/completions", body)
    assert (reply.status, reply.headers["x-should-retry"]) == (500, "false")


async def test_a_full_queue_is_refused_before_the_body_is_read() -> None:
    import asyncio

    backend = ScriptedBackend()
    backend.gate = asyncio.Event()
    app = create_app(backend, Options(limits=config.Limits(max_queue=2)))
    body = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}
    waiting = [Client(app, "POST", "/v1/chat/completions", body) for _ in range(2)]
    while backend.waiting < 2:
        backend.paused.clear()
        await backend.paused.wait()
    for path in ("/v1/chat/completions", "/api/chat"):
        reply = await call(app, "POST", path, b"not even JSON")
        assert reply.status == 503
        assert 1 <= int(reply.headers["retry-after"]) <= 5
    assert reply.json == {"error": "server busy, please try again.  maximum pending requests exceeded"}
    backend.gate.set()
    assert [(await client.end()).status for client in waiting] == [200, 200]


async def test_ignored_keys_are_named_in_a_header() -> None:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "x"}], "foo": 1, "b\u00e9r,\n": 2}
    reply = await call(app_of(), "POST", "/v1/chat/completions", body)
    assert reply.headers["x-heylook-ignored"] == "foo, b?r??"
    reply = await call(app_of(), "POST", "/api/chat", body | {"options": {"num_gpu": 1}, "stream": False})
    assert "options.num_gpu" in reply.headers["x-heylook-ignored"]


# ---- models ----------------------------------------------------------------------------------------------------------


async def test_models_in_both_shapes() -> None:
    told = (await call(app_of(), "GET", "/v1/models")).json
    assert told["object"] == "list"
    assert told["first_id"] == told["data"][0]["id"] == "org/scripted"
    assert {"id", "object", "created", "owned_by", "type", "display_name", "created_at"} <= set(told["data"][0])
    for asked in ("org/scripted", "gpt-4o", "Org/Scripted:latest"):
        assert (await call(app_of(), "GET", f"/v1/models/{asked}")).json["id"] == asked


async def test_models_as_anthropics_clients_read_them() -> None:
    app = app_of()  # one: what has no file is as old as its server
    version = {"anthropic-version": "2023-06-01"}
    (told,) = (await call(app, "GET", "/v1/models", headers=version)).json["data"]
    assert (told["type"], told["object"], told["lifecycle"]) == ("model", "model", "active")
    assert told["max_input_tokens"] == told["max_tokens"] == 4096
    assert told["capabilities"]["thinking"]["types"]["enabled"] == {"supported": True}
    assert told["capabilities"]["image_input"] == {"supported": False}
    (plain,) = (await call(app, "GET", "/v1/models")).json["data"]
    assert plain["capabilities"] == ["completion", "chat", "tools", "thinking"]
    assert {**told, "capabilities": 0} == {**plain, "capabilities": 0}
    for headers, kind in ((version, "not_found_error"), ({}, "invalid_request_error")):
        unknown = await call(app_of(), "GET", "/v1/models/nope", headers=headers)
        assert (unknown.status, unknown.json["error"]["type"]) == (404, kind)
    wrong = await call(app_of(), "GET", "/v1/models?limit=0", headers=version)
    assert (wrong.status, wrong.json["error"]["details"]["param"]) == (400, "limit")


async def test_tags_show_and_ps() -> None:
    (tag,) = (await call(app_of(), "GET", "/api/tags")).json["models"]
    assert tag["name"] == tag["model"] == "org/scripted:latest"
    assert len(tag["digest"]) == 64
    assert int(tag["digest"], 16)
    assert "expires_at" not in tag
    (loaded,) = (await call(app_of(), "GET", "/api/ps")).json["models"]
    assert (loaded["digest"], loaded["context_length"]) == (tag["digest"], 4096)
    show = (await call(app_of(), "POST", "/api/show", {"model": "gpt-4o"})).json
    assert show["model_info"]["fake.context_length"] == 8192
    assert show["model_info"]["tokenizer.ggml.tokens"] == []
    assert "general.name" not in show["model_info"]
    assert show["capabilities"] == ["completion", "tools", "thinking"]
    assert show["modelfile"].startswith('# Modelfile generated by "ollama show"')
    verbose = (await call(app_of(), "POST", "/api/show", {"name": "gpt-4o", "verbose": True})).json
    assert len(verbose["model_info"]["tokenizer.ggml.tokens"]) == 9
    copilot = await call(
        app_of(), "POST", "/api/show", {"model": "gpt-4o"}, headers={"user-agent": "GitHubCopilotChat/1"}
    )
    assert copilot.json["model_info"]["general.basename"] == "gpt-4o"


async def test_tokens_and_templates() -> None:
    app = app_of()
    told = (await call(app, "POST", "/tokenize", {"model": "scripted", "content": "hé", "with_pieces": True})).json
    assert told["tokens"] == [{"id": 104, "piece": "h"}, {"id": 233, "piece": "é"}]
    told = (await call(app, "POST", "/tokenize", {"model": "scripted", "prompt": "hi", "return_token_strs": True})).json
    assert (told["count"], told["max_model_len"], told["token_strs"]) == (2, 4096, ["h", "i"])
    told = (await call(app, "POST", "/detokenize", {"model": "scripted", "tokens": [104, 105]})).json
    assert told == {"content": "hi", "prompt": "hi"}
    messages = [{"role": "user", "content": "hi"}]
    assert (await call(app, "POST", "/apply-template", {"model": "scripted", "messages": messages})).json == {
        "prompt": "<user>hi"
    }
    assert (await call(app, "POST", "/tokenize", {"model": "scripted"})).status == 400


# ---- loading over Ollama ---------------------------------------------------------------------------------------------


async def test_loading_and_unloading_over_ollama() -> None:
    backend = ScriptedBackend()
    backend.loaded = False
    app = create_app(backend)
    reply = await call(app, "POST", "/api/generate", {"model": "scripted", "keep_alive": 0})
    assert reply.json["done_reason"] == "unload"
    assert (backend.acquired, backend.loaded) == ([], False)
    reply = await call(app, "POST", "/api/chat", {"model": "scripted", "keep_alive": "1h"})
    assert (reply.json["done_reason"], reply.headers["content-type"]) == ("load", "application/json; charset=utf-8")
    assert (backend.acquired, backend.loaded) == ([(3600.0, None, 0)], True)
    await call(app, "POST", "/api/generate", {"model": "scripted", "prompt": "", "keep_alive": 0})
    assert not backend.loaded
    assert backend.requests == []


# ---- the documents ---------------------------------------------------------------------------------------------------


async def document() -> Any:
    return (await call(app_of(), "GET", "/openapi.json")).json


async def test_the_document_has_every_route_with_a_readable_id() -> None:
    told = await document()
    operations = {f"{verb.upper()} {path}": op for path, verbs in told["paths"].items() for verb, op in verbs.items()}
    for route in (
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "POST /v1/messages",
        "POST /v1/messages/count_tokens",
        "GET /v1/models",
        "GET /v1/models/{model_id}",
        "POST /api/chat",
        "POST /api/generate",
        "POST /api/show",
        "GET /api/tags",
        "GET /api/ps",
        "GET /api/version",
        "GET /",
        "GET /health",
        "POST /v1/models/{model_id}/load",
        "POST /v1/models/{model_id}/unload",
        "POST /v1/models/{model_id}/pin",
        "DELETE /v1/models/{model_id}/cache",
        "GET /v1/requests",
        "DELETE /v1/requests/{request_id}",
        "GET /v1/capabilities",
        "POST /tokenize",
    ):
        assert route in operations
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(ids) == len(set(ids))
    assert {"create_chat_completion", "ollama_chat", "load_model"} <= set(ids)
    assert all(name.replace("_", "").isalpha() for name in ids)


async def test_the_document_tells_each_routes_own_media_type_under_a_known_heading() -> None:
    told = await document()
    headings = [tag["name"] for tag in told["tags"]]
    assert headings == ["OpenAI", "Llama", "Anthropic", "Ollama", "Admin", "Bench", "Pages"]
    for verbs in told["paths"].values():
        for operation in verbs.values():
            assert set(operation["tags"]) <= set(headings)
    assert list(told["paths"]["/"]["get"]["responses"]["200"]["content"]) == ["text/plain"]
    assert list(told["paths"]["/health"]["get"]["responses"]["200"]["content"]) == ["application/json"]


async def test_the_documents_references_and_parameters_hold() -> None:
    told = await document()
    schemas = told["components"]["schemas"]
    text = json.dumps(told)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "')[1:]}:
        assert reference.removeprefix("#/components/schemas/") in schemas, reference
    for path, verbs in told["paths"].items():
        for operation in verbs.values():
            named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}, path
            assert operation["responses"]


async def test_the_document_names_what_may_stand_behind_a_path() -> None:
    listed = (await document())["paths"]["/v1/models"]["get"]["parameters"]
    assert [(one["name"], one["in"], one["required"]) for one in listed] == [
        ("limit", "query", False),
        ("after_id", "query", False),
        ("before_id", "query", False),
    ]


async def test_the_documents_examples_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = await document()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HEYLOOK_MODELS", str(tmp_path))
    (tmp_path / "models.yaml").write_text("models: [{id: scripted, provider: fake}]")

    async def follow() -> None:
        return

    path = tmp_path / "models.yaml"
    creations = Creations(path, follow, Pulls(path, follow))
    app = app_of(imports=Imports(path, follow, None), creations=creations)
    seen = replied = 0
    for route, verbs in told["paths"].items():
        for verb, operation in verbs.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            plain = content.get("example") or content.get("examples", {}).get("text", {}).get("value")
            if plain and verb == "post":
                seen += 1
                example = json.loads(json.dumps(plain).replace("heylook-tiny", "scripted"))
                reply = await call(app, "POST", route, example)
                assert reply.status == 200, (route, reply.body)
                (kind, said), *_ = operation["responses"]["200"]["content"].items()
                if kind == "application/json" and said.get("schema"):
                    schema = {**said["schema"], "components": told["components"]}
                    Draft202012Validator(schema).validate(reply.json)
                    replied += 1
    assert seen >= 18
    assert replied >= 18, "each example's reply is what the document says"


@pytest.mark.parametrize(
    ("alias", "path"),
    [
        ("/rerank", "/v1/rerank"),
        ("/v1/reranking", "/v1/rerank"),
        ("/reranking", "/v1/rerank"),
        ("/v2/rerank", "/v1/rerank"),
        ("/v1/tokenize", "/tokenize"),
        ("/v1/detokenize", "/detokenize"),
    ],
)
async def test_other_names_of_a_route_answer_alike_and_need_the_same_access(alias: str, path: str) -> None:
    body = {"model": "scripted", "query": "a", "documents": ["b", "a"], "content": "x", "tokens": [104]}
    replies = [await call(app_of(), "POST", one, body) for one in (alias, path)]
    assert [reply.status for reply in replies] == [200, 200]
    told = [{key: value for key, value in reply.json.items() if key != "id"} for reply in replies]
    assert told[0] == told[1]
    locked = app_of(guard=GuardOptions(api_key="secret"))
    assert (await call(locked, "POST", alias, body)).status == 401
    assert (await call(locked, "POST", alias, body, headers={"authorization": "Bearer secret"})).status == 200


async def test_ignored_keys_of_the_token_routes_are_named() -> None:
    for path, body in (("/tokenize", {"content": "x"}), ("/detokenize", {"tokens": [104]}), ("/apply-template", HI)):
        reply = await call(app_of(), "POST", path, {"model": "scripted", "foo": 1, **body})
        assert (reply.status, reply.headers["x-heylook-ignored"]) == (200, "foo")


async def test_tokens_of_a_conversation_are_counted() -> None:
    reply = await call(app_of(), "POST", "/v1/chat/completions/input_tokens", {"model": "scripted", **HI})
    assert reply.json == {"object": "response.input_tokens", "input_tokens": 8}


async def test_a_prompt_that_is_not_to_be_answered_can_not_be_rendered() -> None:
    for path in ("/tokenize", "/apply-template"):
        reply = await call(app_of(), "POST", path, {"model": "scripted", "add_generation_prompt": False, **HI})
        assert (reply.status, reply.json["error"]["param"]) == (400, "add_generation_prompt")
        reply = await call(app_of(), "POST", path, {"model": "scripted", "continue_final_message": True, **HI})
        assert (reply.status, reply.json["error"]["param"]) == (400, "continue_final_message")


async def test_the_pages_work_without_a_network() -> None:
    for page in ("/docs", "/redoc"):
        reply = await call(app_of(), "GET", page)
        assert reply.status == 200
        html = reply.body.decode()
        assert "://" not in html
        links = [part.split('"')[0] for name in ("src", "href") for part in html.split(f'{name}="')[1:]]
        assert len(links) >= 2
        for link in links:
            assert (await call(app_of(), "GET", link)).status == 200, link
    assert b"<script>" not in (await call(app_of(), "GET", "/docs")).body


# ---- capabilities and admin ------------------------------------------------------------------------------------------


async def test_capabilities_come_from_the_tables() -> None:
    told = (await call(app_of(limits=config.Limits(max_n=3)), "GET", "/v1/capabilities")).json
    chat = told["fields"]["openai"]["POST /v1/chat/completions"]
    assert chat["temperature"]["treatment"] == "honoured"
    assert chat["user"]["treatment"] == "ignored"
    assert chat["grammar"]["treatment"] == "honoured"
    assert chat["modalities"]["treatment"] == "refused"
    assert chat["modalities"]["note"]
    message = told["fields"]["anthropic"]["POST /v1/messages"]
    assert [message[name]["treatment"] for name in ("thinking", "metadata", "mcp_servers")] == [
        "honoured",
        "ignored",
        "refused",
    ]
    assert told["apis"] == ["openai", "anthropic", "ollama"]
    assert set(told["fields"]) == {"openai", "anthropic", "ollama", "llama_server", "admin"}
    assert told["fields"]["llama_server"]["POST /infill"]["input_prefix"]["treatment"] == "honoured"
    assert told["fields"]["ollama"]["options"]["num_gpu"]["treatment"] == "ignored"
    assert told["limits"]["max_n"] == 3
    assert told["models"][0]["n_ctx"] == 4096


async def test_admin_of_models() -> None:
    backend = ScriptedBackend()
    app = create_app(backend)
    assert (await call(app, "POST", "/v1/models/org/scripted/unload")).json["state"] == "unloaded"
    assert (await call(app, "POST", "/v1/models/org%2Fscripted/load", {})).status in (200, 404)
    assert (await call(app, "POST", "/v1/models/org/scripted/load", {"n_ctx": 64})).json["state"] == "ready"
    assert (await call(app, "POST", "/v1/models/gpt-4o/pin")).json["pinned"] is True
    assert (await call(app, "POST", "/v1/models/gpt-4o/pin", {"pinned": False})).json["pinned"] is False
    assert (await call(app, "DELETE", "/v1/models/gpt-4o/cache")).json["flushed_tokens"] == 0
    for path, body in (
        ("load", {"n_ctx": 1}),
        ("load", {"n_ctx": True}),
        ("unload", {"force": 1}),
        ("pin", {"pinned": "no"}),
    ):
        assert (await call(app, "POST", f"/v1/models/gpt-4o/{path}", body)).status == 400
    assert (await call(app, "POST", "/v1/models/nope/load")).json["error"]["code"] == "model_not_found"


async def test_health_names_each_model() -> None:
    told = (await call(app_of(), "GET", "/health")).json
    assert told["status"] == "ok"
    assert told["models"]["org/scripted"]["state"] == "ready"
