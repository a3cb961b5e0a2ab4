"""Who may speak to the server: the Host, Origin and key of every request, HTTP and WebSocket, before it is parsed.

Loopback is not trust: a web page in the user's browser is a loopback peer too. So a Host must be this machine's own
name or an address (against DNS rebinding), and what a browser sends for a foreign page is refused on every route.
What a route needs is open, use or admin; a route that nobody declared is admin.
"""

import base64
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heylook_llm.errors import Forbidden, HeylookError, Unauthorized
from heylook_llm.server.wire.exchange import Reply

Access = Literal["open", "page", "use", "admin"]
"""open: without a key; page: open, and a link on another site may lead to it; use: inference and listing; admin: the
rest, which changes something or shows what others do."""

REQUEST_ID: Final = "heylook.request_id"
"""Key of the scope that holds the request's id."""
CONTAINER_HOSTS: Final = frozenset(
    {
        "host.docker.internal",
        "gateway.docker.internal",
        "kubernetes.docker.internal",
        "host.containers.internal",
        "host.lima.internal",
        "host.orb.internal",
        "host.minikube.internal",
        "host.rancher-desktop.internal",
    }
)
"""What containers call the machine they run on; nobody can register a name below .internal."""
APP_SCHEMES: Final = ("app", "tauri", "vscode-webview", "vscode-file")
"""Origins of desktop shells, which no web page can claim. `file:` is not among them: its pages say `null`."""
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
ALLOWED_HEADERS: Final = (
    "authorization, content-type, user-agent, accept, x-requested-with, openai-beta, openai-organization, "
    "openai-project, x-api-key, anthropic-version, anthropic-beta, anthropic-dangerous-direct-browser-access, "
    "x-stainless-lang, x-stainless-package-version, x-stainless-os, x-stainless-arch, x-stainless-retry-count, "
    "x-stainless-runtime, x-stainless-runtime-version, x-stainless-async, x-stainless-helper-method, "
    "x-stainless-poll-helper, x-stainless-custom-poll-interval, x-stainless-timeout, x-stainless-read-timeout"
)
SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
)
SOCKET_PROTOCOL: Final = "heylook"
"""The subprotocol of our WebSockets, for those that name one."""
SOCKET_KEY: Final = "heylook.key."
"""What a key begins with where it comes as a subprotocol: browsers let a page add no header to a WebSocket."""
_FORWARDED: Final = (b"forwarded", b"x-forwarded-for", b"x-real-ip")


def own_names() -> frozenset[str]:
    """This machine's names, lower-case."""
    name = socket.gethostname().lower()
    return frozenset(n for n in (name, name.partition(".")[0], name.partition(".")[0] + ".local") if n.strip("."))


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What the operator allows."""

    allow_hosts: tuple[str, ...] = ()
    """--allow-host: more names for the Host header; `*.example.com` is its subdomains."""
    allow_origins: tuple[str, ...] = ()
    """--allow-origin and OLLAMA_ORIGINS: more origins; `*` within one stands for any text, `*` alone for all."""
    allow_app_origins: bool = False
    """--allow-app-origins: desktop shells (app:, tauri:, vscode-webview:)."""
    api_key: str | None = field(default=None, repr=False)
    open_admin: bool = False
    """--open-admin: what changes the server is open to other machines without a key."""
    hostnames: frozenset[str] = field(default_factory=own_names)


class Guard:
    """Pure ASGI middleware, outermost of all."""

    def __init__(
        self,
        app: ASGIApp,
        options: GuardOptions,
        access: Callable[[str, str], Access],
        word: Callable[[HeylookError, Scope], Reply],
    ) -> None:
        """`access` says what a method and path need; `word` puts an error in the words of a request's dialect."""
        self._app = app
        self._options = options
        self._access = access
        self._word = word
        self._origins = tuple(_pattern(origin) for origin in options.allow_origins if origin.strip())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope[REQUEST_ID] = "req_" + secrets.token_hex(16)
        headers = Headers(scope["headers"])
        try:
            origin = self._check(scope, headers)
        except HeylookError as error:
            await self._refuse(error, scope, send)
            return
        if origin is not None and scope.get("method") == "OPTIONS":
            await _reply(Reply(b"", 204, "text/plain"), scope, send, _cors(origin, preflight=True))
            return
        if SOCKET_PROTOCOL in scope.get("subprotocols", ()):
            send = _with_protocol(send)
        await self._app(scope, receive, _with_headers(send, scope, _cors(origin) if origin else []))

    def _check(self, scope: Scope, headers: "Headers") -> str | None:
        """The allowed foreign origin of the request, or None. Raises Forbidden, Unauthorized."""
        method = scope.get("method", "WEBSOCKET")
        need = self._access(method, scope["path"])
        host = self._host(headers)
        origin = self._foreign_origin(headers, host, method, need)
        if not (origin is not None and method == "OPTIONS"):  # a preflight carries no key
            self._key(scope, headers, need)
        return origin

    # ---- Host: against DNS rebinding ----

    def _host(self, headers: "Headers") -> str:
        """The Host as name or name:port, lower-case."""
        given = headers.all(b"host")
        if not given:
            return ""  # HTTP/1.0 and not a browser: they always send one
        if len(given) > 1:
            raise Forbidden("The request has several Host headers.", code="host_not_allowed")
        host = given[0].strip().lower()
        name = host_name(host)
        if name is None or not self._own(name):
            shown = re.sub(r"[^\w.:\[\]-]", "?", given[0])[:128]
            raise Forbidden(
                f"The host '{shown}' is not a name of this server. To allow it, start with --allow-host NAME.",
                code="host_not_allowed",
            )
        return host

    def _own(self, name: str) -> bool:
        if name == "localhost" or name.endswith(".localhost") or name in CONTAINER_HOSTS or _is_address(name):
            return True
        return name in self._options.hostnames or any(_names(allowed, name) for allowed in self._options.allow_hosts)

    # ---- Origin: against foreign pages ----

    def _foreign_origin(self, headers: "Headers", host: str, method: str, need: Access) -> str | None:
        """An allowed origin that isn't this server's own; None: same origin, or not a browser's foreign request."""
        origins = headers.all(b"origin")
        site = (headers.one(b"sec-fetch-site") or "none").lower()
        if not origins:
            if site in ("none", "same-origin") or (need == "page" and _navigates(headers, method)):
                return None
            raise self._foreign("another site")
        origin = origins[0].strip()
        if len(origins) == 1 and same_origin(origin, host) and site in ("none", "same-origin"):
            return None
        if len(origins) == 1 and self._allows(origin):
            return origin
        raise self._foreign(re.sub(r"[^\w.:/\[\]-]", "?", origin)[:128])

    def _allows(self, origin: str) -> bool:
        if origin.lower() == "null":
            return False  # sandboxed frames and files say null: allowing it allows everybody
        if self._options.allow_app_origins and origin.partition("://")[0].lower() in APP_SCHEMES:
            return True
        return any(pattern.fullmatch(origin.lower()) for pattern in self._origins)

    @staticmethod
    def _foreign(origin: str) -> Forbidden:
        return Forbidden(
            f"A page of {origin} may not use this server. To allow it, start with --allow-origin ORIGIN (or set "
            "OLLAMA_ORIGINS); for desktop apps, --allow-app-origins. A page whose origin is null is never allowed.",
            code="origin_not_allowed",
        )

    # ---- the key, and who may change something ----

    def _key(self, scope: Scope, headers: "Headers", need: Access) -> None:
        if need in ("open", "page"):
            return
        key = self._options.api_key
        if key is not None:
            given = presented_key(headers) or key_of_socket(scope.get("subprotocols", ()))
            if given is None or not hmac.compare_digest(given.encode(), key.encode()):
                what = "No API key was given" if given is None else "The API key is wrong"
                raise Unauthorized(f"{what}: send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`.")
            return
        if need == "admin" and not self._options.open_admin and not _is_local(scope, headers):
            raise Forbidden(
                "This route changes the server, so from another machine it needs a key: start with --api-key, or allow "
                "everybody with --open-admin.",
                code="admin_not_allowed",
            )

    # ---- refusing ----

    async def _refuse(self, error: HeylookError, scope: Scope, send: Send) -> None:
        reply = self._word(error, scope)
        extra = [(b"www-authenticate", b"Bearer")] if error.status == 401 else []
        if scope["type"] == "http":
            await _reply(reply, scope, send, extra)
        elif "websocket.http.response" in scope.get("extensions", {}):
            await _reply(reply, scope, send, extra, "websocket.http.response")
        else:
            await send({"type": "websocket.close", "code": 1008})


class Headers:
    """A request's headers: names are lower-case bytes, values text."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._raw = list(raw)

    def all(self, name: bytes) -> list[str]:
        """Every value of a name."""
        return [value.decode("latin-1") for key, value in self._raw if key == name]

    def one(self, name: bytes) -> str | None:
        """The value of a name, or None where there is none or several."""
        values = self.all(name)
        return values[0] if len(values) == 1 else None

    def has(self, name: bytes) -> bool:
        """Whether there is one."""
        return any(key == name for key, _ in self._raw)


def host_name(host: str) -> str | None:
    """The name of `name[:port]` or `[v6][:port]`, without a trailing dot; None where it isn't one."""
    match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(\d{1,5}))?", host)
    return None if match is None else match.group(1).strip("[]").removesuffix(".") or None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _names(allowed: str, name: str) -> bool:
    allowed = allowed.strip().lower().removesuffix(".")
    allowed = host_name(allowed) or allowed
    return name.endswith(allowed[1:]) if allowed.startswith("*.") else name == allowed


def same_origin(origin: str, host: str) -> bool:
    """Whether an http(s) origin is `host`, whatever the scheme: a TLS proxy may stand before this server."""
    try:
        parts = urlsplit(origin.lower())
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host or parts.path or parts.query or "@" in parts.netloc:
        return False
    default = 443 if parts.scheme == "https" else 80
    name, _, digits = host.rpartition(":") if re.search(r":\d+$", host) else (host, "", "")
    return parts.hostname == name.strip("[]") and (port or default) == (int(digits) if digits else default)


def _pattern(origin: str) -> re.Pattern[str]:
    """An allowed origin; within one, `*` is anything but a slash. Without a scheme: http and https, any port."""
    text = origin.strip().lower().rstrip("/")
    if text == "*":
        return re.compile(r"(?!null$).+")
    if "://" not in text:
        return re.compile(r"https?://" + _wild(text) + r"(:\d+)?")
    return re.compile(_wild(text))


def _wild(text: str) -> str:
    return "[^/]*".join(re.escape(part) for part in text.split("*"))


def _navigates(headers: Headers, method: str) -> bool:
    """Whether a person followed a link to a page of ours."""
    mode, target = headers.one(b"sec-fetch-mode"), headers.one(b"sec-fetch-dest")
    return method in ("GET", "HEAD") and mode == "navigate" and target == "document"


def presented_key(headers: Headers) -> str | None:
    """The key of a request, whichever way its SDK sends it."""
    authorization = headers.one(b"authorization")
    if authorization is not None:
        scheme, _, key = authorization.strip().partition(" ")
        if scheme.lower() == "bearer" and key.strip():
            return key.strip()
    return headers.one(b"x-api-key")


def key_of_socket(protocols: Iterable[str]) -> str | None:
    """The key among a WebSocket's subprotocols: behind `heylook.key.`, as base64url of its UTF-8 without padding."""
    given = next((one.removeprefix(SOCKET_KEY) for one in protocols if one.startswith(SOCKET_KEY)), None)
    if given is None:
        return None
    try:
        return base64.b64decode(given + "=" * (-len(given) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        return None


def _is_local(scope: Mapping[str, Any], headers: Headers) -> bool:
    """Whether the peer is this machine and says nothing of standing in for another."""
    client = scope.get("client")
    if client is None:  # a Unix socket
        return True
    if any(headers.has(name) for name in _FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


# ---- headers of every reply ------------------------------------------------------------------------------------------


def _cors(origin: str | None, *, preflight: bool = False) -> list[tuple[bytes, bytes]]:
    """Headers that let an allowed foreign page read the reply; never with credentials."""
    if origin is None:
        return []
    headers = [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"vary", b"Origin"),
        (b"access-control-expose-headers", b"x-request-id, request-id, x-heylook-ignored, retry-after"),
        (b"cross-origin-resource-policy", b"cross-origin"),
    ]
    if preflight:
        headers += [
            (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"),
            (b"access-control-allow-headers", ALLOWED_HEADERS.encode()),
            (b"access-control-max-age", b"600"),
        ]
    return headers


def _common(scope: Scope, extra: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    identity = scope[REQUEST_ID].encode()
    policy = [] if any(name == b"cross-origin-resource-policy" for name, _ in extra) else [_SAME_ORIGIN]
    return [(b"x-request-id", identity), (b"request-id", identity), *SECURITY_HEADERS, *policy, *extra]


_SAME_ORIGIN: Final = (b"cross-origin-resource-policy", b"same-origin")


def _with_protocol(send: Send) -> Send:
    """Accept in the protocol that the client named: browsers drop a socket that names none of theirs."""

    async def with_protocol(message: Message) -> None:
        if message["type"] == "websocket.accept":
            message["subprotocol"] = message.get("subprotocol") or SOCKET_PROTOCOL
        await send(message)

    return with_protocol


def _with_headers(send: Send, scope: Scope, extra: list[tuple[bytes, bytes]]) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_common(scope, extra)]
        await send(message)

    return with_headers


async def _reply(
    reply: Reply, scope: Scope, send: Send, extra: list[tuple[bytes, bytes]], kind: str = "http.response"
) -> None:
    headers = [
        (b"content-type", reply.media_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
        *((name.encode(), value.encode()) for name, value in reply.headers),
        *_common(scope, extra),
    ]
    await send({"type": f"{kind}.start", "status": reply.status, "headers": headers})
    body = b"" if scope.get("method") == "HEAD" else reply.body
    await send({"type": f"{kind}.body", "body": body, "more_body": False})
