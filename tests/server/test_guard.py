"""Who may speak to the server: Host, Origin, keys and peers, on every route of the app's own table."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route

from heylook_llm.server import guard
from heylook_llm.server.app import create_app, endpoints
from heylook_llm.server.endpoint import Options
from heylook_llm.server.guard import GuardOptions
from tests.server.asgi import WAIT_SECONDS, Client, call
from tests.server.scripted import ScriptedBackend

pytestmark = pytest.mark.unit

NAMES = frozenset({"mymachine"})
FOREIGN = ["https://evil.test", "null", "http://localhost.evil.test", "http://127.0.0.1:9999", "file://", ""]


def app_of(**options: Any) -> FastAPI:
    extra = APIRouter()

    @extra.get("/extra")
    async def undeclared() -> str:
        return "secret"

    @extra.websocket("/socket")
    async def socket(connection: WebSocket) -> None:
        await connection.accept()
        await connection.close()

    chosen = GuardOptions(**({"hostnames": NAMES} | options))
    app = create_app(ScriptedBackend(), Options(guard=chosen), extra=[extra])
    app.state.server.place.live.close()  # its stream ends at once, so that it can be called as any other route
    return app


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Method and a concrete path of every HTTP route, from the app's table."""
    found = []
    for route in every_route(app):
        path = (
            route.path.replace("{model_id:path}", "scripted").replace("{request_id}", "x").replace("{name}", "start.js")
        ).replace("{path:path}", "app.js")
        found += [(method, path) for method in route.methods or ()]
    assert len(found) > 30
    return found


def every_route(app: FastAPI) -> list[Route]:
    pending, found = list(app.routes), []
    while pending:
        route = pending.pop()
        if isinstance(route, Route):
            found.append(route)
        pending += getattr(getattr(route, "original_router", None), "routes", None) or []
    return found


ROUTES = routes(app_of())


def test_every_route_of_the_table_declares_its_access() -> None:
    declared = {
        (method, path)
        for endpoint in endpoints("both")
        for method in endpoint.methods.split()
        for path in (endpoint.path, *endpoint.aliases)
    }
    served = {(method, route.path) for route in every_route(app_of()) for method in route.methods or ()}
    undeclared = served - declared
    assert undeclared == {("GET", "/openapi.json"), ("GET", "/extra")}


# ---- S-01, S-02: the Host --------------------------------------------------------------------------------------------

GOOD_HOSTS = [
    "localhost",
    "LOCALHOST:8080",
    "localhost.",
    "app.localhost:1",
    "127.0.0.1",
    "127.0.0.1:8080",
    "127.5.5.5",
    "[::1]",
    "[::1]:8080",
    "192.168.1.5:8080",
    "10.0.0.1",
    "0.0.0.0:8080",
    "8.8.8.8",
    "[fe80::1]:80",
    "mymachine:8080",
    "MyMachine",
    "host.docker.internal:8080",
    "host.containers.internal",
    "HOST.DOCKER.INTERNAL.",
]
BAD_HOSTS = [
    "evil.test",
    "localhost.evil.test",
    "127.0.0.1.nip.io",
    "127.0.0.1.evil.test:8080",
    "xlocalhost",
    "local",
    "",
    "evil.local",
    "evil.internal",
    "localhost:8080:8080",
    "localhost:port",
    "localhost@evil.test",
    "evil.test#localhost",
    "localhost/",
    "[::1",
    "::1",
    "mymachine.evil.test",
    "127.0.0.1 evil.test",
    "0x7f.1",
    "2130706433x",
    "localhost,evil.test",
    "[::1].evil.test",
    "..",
    "localhost\t",
    "\xe9vil",
]


@pytest.mark.parametrize("host", GOOD_HOSTS)
async def test_own_names_and_addresses_pass(host: str) -> None:
    assert (await call(app_of(), "GET", "/api/tags", headers={"host": host})).status == 200


@pytest.mark.parametrize("host", BAD_HOSTS)
async def test_other_names_do_not(host: str) -> None:
    reply = await call(app_of(), "GET", "/api/tags", headers={"host": host})
    assert reply.status == (200 if host == "localhost\t" else 403)
    if reply.status == 403:
        assert b"--allow-host" in reply.body
        assert b"models" not in reply.body


async def test_several_hosts_are_refused() -> None:
    for hosts in ([b"localhost", b"evil.test"], [b"localhost", b"localhost"]):
        reply = await call(app_of(), "GET", "/api/tags", raw_headers=[(b"host", host) for host in hosts])
        assert reply.status == 403


async def test_forwarded_names_count_for_nothing() -> None:
    headers = {"host": "evil.test", "x-forwarded-host": "localhost", "forwarded": "host=localhost"}
    assert (await call(app_of(), "GET", "/api/tags", headers=headers)).status == 403


async def test_a_request_without_a_host_is_no_browsers() -> None:
    assert (await call(app_of(), "GET", "/api/tags", raw_headers=[])).status == 200


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        ("my.box", "my.box:8080", 200),
        ("MY.box.", "my.BOX", 200),
        ("my.box", "x.my.box", 403),
        ("*.my.box", "x.my.box", 200),
        ("*.my.box", "my.box", 403),
        ("*.my.box", "evilmy.box", 403),
    ],
)
async def test_allow_host(allowed: str, host: str, status: int) -> None:
    assert (await call(app_of(allow_hosts=(allowed,)), "GET", "/api/tags", headers={"host": host})).status == status


# ---- S-03, S-04, S-06, S-08: the Origin ------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_foreign_page_is_refused_on_every_route(method: str, path: str, origin: str) -> None:
    app = app_of()
    for verb in (method, "OPTIONS"):
        headers = {"origin": origin, "access-control-request-method": method}
        reply = await call(app, verb, path, b"not even parsed", headers=headers)
        assert reply.status == 403
        assert not [name for name in reply.headers if name.startswith("access-control")]
        if verb != "HEAD":
            assert b"--allow-origin" in reply.body
            assert b"OLLAMA_ORIGINS" in reply.body


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_foreign_page_that_says_only_its_site_is_refused(method: str, path: str, site: str) -> None:
    reply = await call(app_of(), method, path, headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"})
    assert reply.status == 403


async def test_a_link_on_another_page_may_lead_to_ours() -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert (await call(app_of(), "GET", "/docs", headers=headers)).status == 200
    assert (await call(app_of(), "GET", "/v1/models", headers=headers)).status == 403
    assert (await call(app_of(), "GET", "/docs", headers=headers | {"sec-fetch-dest": "iframe"})).status == 403


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8080", "localhost:8080"),
        ("https://localhost", "localhost"),
        ("http://localhost", "localhost:80"),
        ("http://[::1]:5", "[::1]:5"),
        ("http://127.0.0.1:5", "127.0.0.1:5"),
    ],
)
async def test_the_own_page_passes_without_cors_headers(origin: str, host: str) -> None:
    reply = await call(
        app_of(), "GET", "/v1/models", headers={"origin": origin, "host": host, "sec-fetch-site": "same-origin"}
    )
    assert reply.status == 200
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"


async def test_the_own_origin_from_another_port_is_foreign() -> None:
    headers = {"origin": "http://localhost:8081", "host": "localhost:8080"}
    assert (await call(app_of(), "GET", "/v1/models", headers=headers)).status == 403


@pytest.mark.parametrize(
    ("allowed", "origin", "passes"),
    [
        ("https://my.ui", "https://my.ui", True),
        ("https://my.ui/", "https://MY.ui", True),
        ("https://my.ui", "http://my.ui", False),
        ("https://my.ui", "https://my.ui.evil.test", False),
        ("https://my.ui", "https://my.ui:444", False),
        ("http://localhost:*", "http://localhost:3000", True),
        ("https://*.my.ui", "https://a.my.ui", True),
        ("https://*.my.ui", "https://evil.test/.my.ui", False),
        ("my.ui", "https://my.ui:3000", True),
        ("my.ui", "https://notmy.ui", False),
        ("*", "https://anything.test", True),
        ("*", "null", False),
        ("null", "null", False),
    ],
)
async def test_allow_origin(allowed: str, origin: str, passes: bool) -> None:
    app = app_of(allow_origins=(allowed,))
    headers = {"origin": origin, "sec-fetch-site": "cross-site"}
    reply = await call(app, "GET", "/v1/models", headers=headers)
    preflight = await call(app, "OPTIONS", "/v1/chat/completions", headers=headers)
    assert (reply.status, preflight.status) == ((200, 204) if passes else (403, 403))
    if passes:
        assert reply.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in reply.headers
        assert "x-stainless-read-timeout" in preflight.headers["access-control-allow-headers"]
        assert "DELETE" in preflight.headers["access-control-allow-methods"]


@pytest.mark.parametrize(
    "origin", ["app://x", "tauri://localhost", "vscode-webview://1abc", "vscode-file://vscode-app"]
)
async def test_app_origins_are_a_preset(origin: str) -> None:
    assert (await call(app_of(), "GET", "/v1/models", headers={"origin": origin})).status == 403
    app = app_of(allow_app_origins=True)
    assert (await call(app, "GET", "/v1/models", headers={"origin": origin})).status == 200
    for foreign in ("null", "https://evil.test", "file://"):
        assert (await call(app, "GET", "/v1/models", headers={"origin": foreign})).status == 403


async def test_a_form_of_a_foreign_page_changes_nothing() -> None:
    backend = ScriptedBackend()
    app = create_app(backend, Options(guard=GuardOptions(hostnames=NAMES)))
    for path in ("/v1/models/scripted/unload", "/v1/models/scripted/pin", "/api/chat"):
        headers = {"origin": "https://evil.test", "content-type": "text/plain"}
        assert (await call(app, "POST", path, b"{}", headers=headers)).status == 403
    assert (backend.loaded, backend.pinned, backend.requests) == (True, False, [])
    body = b'{"model": "scripted", "prompt": "hi", "stream": false}'
    plain = await call(
        app, "POST", "/api/generate", body, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert plain.status == 200


# ---- S-07: WebSockets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({}, True),
        ({"origin": "http://localhost"}, True),
        ({"origin": "https://evil.test"}, False),
        ({"origin": "null"}, False),
        ({"host": "evil.test"}, False),
    ],
)
async def test_a_foreign_websocket_is_not_accepted(headers: dict[str, str], accepted: bool) -> None:
    answer = await handshake(app_of(), headers)
    assert answer["type"] == ("websocket.accept" if accepted else "websocket.close")


@pytest.mark.parametrize(
    ("protocols", "accepted"),
    [
        (["heylook", "heylook.key.a8OpeQ"], True),  # base64url of the key's UTF-8, without padding
        (["heylook.key.a8OpeQ", "heylook"], True),
        (["heylook", "heylook.key.a8OpeQ=="], True),
        (["heylook", "heylook.key.d3Jvbmc"], False),
        (["heylook", "heylook.key."], False),
        (["heylook", "heylook.key.a8Ope!"], False),
        (["heylook", "heylook.key.__79"], False),  # no UTF-8
        (["heylook", "k\xe9y"], False),
        (["heylook"], False),
        ([], False),
    ],
)
async def test_a_websocket_brings_the_key_as_a_subprotocol(protocols: list[str], accepted: bool) -> None:
    answer = await handshake(app_of(api_key="k\xe9y"), {}, protocols)
    assert answer["type"] == ("websocket.accept" if accepted else "websocket.close")
    if accepted:
        assert answer["subprotocol"] == "heylook"  # a browser drops a socket that chooses none of its protocols


async def test_a_websocket_without_subprotocols_gets_none() -> None:
    assert (await handshake(app_of(), {}))["subprotocol"] is None
    assert (await handshake(app_of(), {}, ["other"]))["subprotocol"] is None


async def handshake(app: FastAPI, headers: dict[str, str], protocols: Sequence[str] = ()) -> Any:
    """What the app answers to a WebSocket's beginning."""
    sent_headers = {"host": "localhost"} | headers
    scope = {
        "type": "websocket",
        "path": "/socket",
        "raw_path": b"/socket",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in sent_headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "scheme": "ws",
        "root_path": "",
        "subprotocols": list(protocols),
        "state": {},
        "asgi": {"version": "3.0"},
    }
    sent: list[Any] = []
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    inbox.put_nowait({"type": "websocket.connect"})

    async def send(message: Any) -> None:
        sent.append(message)

    await asyncio.wait_for(app(scope, inbox.get, send), WAIT_SECONDS)
    return sent[0]


# ---- S-05, S-42, S-57: keys and peers --------------------------------------------------------------------------------

OPEN = {
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/health"),
    ("HEAD", "/health"),
    ("GET", "/v1/health"),
    ("HEAD", "/v1/health"),
    ("GET", "/ui"),
    ("HEAD", "/ui"),
    ("GET", "/ui/app.js"),
    ("HEAD", "/ui/app.js"),
    ("GET", "/docs"),
    ("GET", "/redoc"),
    ("GET", "/docs/assets/start.js"),
    ("GET", "/openapi.json"),
}


LLAMA_SERVERS = {"/slots", "/props", "/infill", "/completion", "/completions", "/embedding", "/embeddings"}
"""In llama-server's own form."""
CLOUDS = {"/api/signout", "/api/me", "/api/experimental/web_fetch", "/api/experimental/web_search"}
"""Ollama's own cloud, which is refused to everyone."""


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_key_is_needed_everywhere_but_on_open_routes(method: str, path: str) -> None:
    app = app_of(api_key="k\xe9y")
    good: list[dict[str, str]] = [
        {"authorization": "Bearer kéy"},
        {"authorization": "bearer  kéy"},
        {"x-api-key": "kéy"},
    ]
    bad: list[dict[str, str]] = [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "kéy"},
        {"authorization": "Basic a\xe9y="},
        {"x-api-key": ""},
        {"x-api-key": "KÉY"},
        {"authorization": "Bearer wrong", "x-api-key": "kéy"},
        {"cookie": "kéy"},
    ]
    for headers in bad:
        reply = await call(app, method, path + "?key=k%C3%A9y", headers=headers)
        if (method, path) in OPEN:
            assert reply.status == 200
            continue
        assert reply.status == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        if method != "HEAD":
            error = reply.json["error"]
            if path.startswith("/api/"):
                assert isinstance(error, str)
            elif path.startswith("/v1/messages"):
                assert error["type"] == "authentication_error"
            elif path in LLAMA_SERVERS:
                assert (error["code"], error["type"]) == (401, "authentication_error")
            else:
                assert error["code"] == "invalid_api_key"
    for headers in good:
        status = (await call(app, method, path, b"", headers=headers)).status
        assert status == 403 if path in CLOUDS else status not in (401, 403)


@pytest.mark.parametrize(
    "path",
    ["//v1/models", "/v1//models", "/v1/%6dodels/", "/V1/models", "/v1/models/", "/api/tags/", "/nope", "/health/x"],
)
async def test_other_spellings_of_a_path_need_the_key_too(path: str) -> None:
    for method in ("GET", "HEAD", "OPTIONS", "POST", "TRACE"):
        assert (await call(app_of(api_key="key"), method, path)).status == 401


async def test_a_browser_is_not_trusted_for_being_here() -> None:
    app = app_of(api_key="key")
    assert (await call(app, "GET", "/v1/models", headers={"origin": "https://evil.test"})).status == 403
    good = {"origin": "https://evil.test", "authorization": "Bearer key"}
    assert (await call(app, "GET", "/v1/models", headers=good)).status == 403


ADMIN = [
    ("GET", "/v1/requests"),
    ("POST", "/v1/models/scripted/pin"),
    ("DELETE", "/v1/models/scripted/cache"),
    ("GET", "/extra"),
]


@pytest.mark.parametrize(("method", "path"), ADMIN)
async def test_admin_needs_this_machine_or_a_key(method: str, path: str) -> None:
    app = app_of()
    host = {"host": "192.168.1.5"}
    away = await call(app, method, path, headers=host, peer="192.168.1.9")
    assert away.status == 403
    assert b"--open-admin" in away.body
    for peer in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert (await call(app, method, path, headers=host, peer=peer)).status == 200
    assert (await call(app, method, path, headers=host | {"x-forwarded-for": "1.2.3.4"})).status == 403
    opened = app_of(open_admin=True)
    assert (await call(opened, method, path, headers=host, peer="192.168.1.9")).status == 200
    keyed = app_of(api_key="key")
    with_key = host | {"authorization": "Bearer key"}
    assert (await call(keyed, method, path, headers=with_key, peer="192.168.1.9")).status == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/models"), ("GET", "/api/tags"), ("GET", "/health"), ("HEAD", "/")]
)
async def test_others_may_use_a_server_that_is_bound_to_the_network(method: str, path: str) -> None:
    app = app_of()
    assert (await call(app, method, path, headers={"host": "192.168.1.5"}, peer="192.168.1.9")).status == 200


# ---- every reply -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/v1/models", "/nope", "/api/nope", "/docs"])
async def test_every_reply_has_the_security_headers_and_an_id(path: str) -> None:
    for headers in ({}, {"host": "evil.test"}):
        reply = await call(app_of(), "GET", path, headers=headers)
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
        assert "script-src 'self'" in reply.headers["content-security-policy"]
        assert reply.headers["x-request-id"] == reply.headers["request-id"]
        assert "server" not in reply.headers


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(GuardOptions(api_key="secret"))


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_text_breaks_the_guard(origin: str, host: str) -> None:
    guard.host_name(host.lower())
    guard.same_origin(origin, host)


async def test_a_client_that_leaves_before_the_body_is_no_crash() -> None:
    client = Client(app_of(), "POST", "/api/chat", b"")
    client._body = []
    client.leave()
    await client.end()
    assert client.status in (0, 400)


async def test_what_fails_in_an_unexpected_way_has_the_headers_of_every_reply() -> None:
    extra = APIRouter()

    @extra.get("/broken")
    async def broken() -> None:
        raise RuntimeError("/secret")

    client = Client(create_app(ScriptedBackend(), Options(), extra=[extra]), "GET", "/broken")
    with contextlib.suppress(RuntimeError):  # which is for the server's log
        await client.end()
    assert client.status == 500
    assert b"secret" not in client.body
    for name, value in guard.SECURITY_HEADERS:
        assert client.headers[name.decode()] == value.decode()
