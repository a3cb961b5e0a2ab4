"""Requests that the server sends to itself, for what answers many in one call or in the background: by its own front.

So a request within a batch goes the one way of every request: parsed, refused, recorded and cancelled as any other.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.types import ASGIApp, Message

BACKGROUND: Final = "heylook.background"
"""Scope key: this request yields to all that somebody waits for."""
LOWEST_PRIORITY: Final = -100


class Answer(msgspec.Struct, frozen=True):
    """What a route answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        """The id under which it was answered."""
        return self.headers.get("x-request-id", "")


class Inward:
    """The app as its own client. `api_key`: what its guard asks for; `app` is set once it is made."""

    def __init__(self, api_key: str | None) -> None:
        self.app: ASGIApp | None = None
        self._headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        if api_key is not None:
            self._headers.append((b"authorization", b"Bearer " + api_key.encode()))

    async def post(
        self, path: str, body: bytes, *, background: bool = False, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> Answer:
        """The whole answer to a POST. Cancelling this call ends the request, as a client's leaving does."""
        assert self.app is not None, "the app is composed before it answers"
        asking = _Asking(body)
        try:
            await self.app(self._scope(path, headers, background=background), asking.receive, asking.send)
        except Exception:  # the framework answers with a 500, logs why, and raises it once more
            if not asking.headers:
                raise
        return Answer(asking.status, asking.headers, bytes(asking.body))

    def _scope(self, path: str, headers: Sequence[tuple[bytes, bytes]], *, background: bool) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [*self._headers, *headers],
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 0),
            "extensions": {},
            "state": {},
            **({BACKGROUND: True} if background else {}),
        }


class _Asking:
    """One request: its body on the way in, its answer on the way out."""

    def __init__(self, body: bytes) -> None:
        self._unsent: bytes | None = body
        self.status = 500
        self.headers: dict[str, str] = {}
        self.body = bytearray()

    async def receive(self) -> Message:
        if self._unsent is not None:
            body, self._unsent = self._unsent, None
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.Event().wait()  # this client never leaves but by being cancelled
        raise AssertionError

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
