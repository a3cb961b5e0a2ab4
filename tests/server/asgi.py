"""Drives an ASGI app without a socket: full control of when bytes arrive, are taken, and the client leaves."""

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Message

WAIT_SECONDS = 10.0


class Client:
    """One request, being answered."""

    def __init__(
        self,
        app: ASGIApp,
        method: str,
        path: str,
        body: bytes | dict[str, Any] = b"",
        *,
        headers: dict[str, str] | None = None,
        peer: str = "127.0.0.1",
        raw_headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self.aborted = False
        self.reading = asyncio.Event()
        self.reading.set()
        self._left = asyncio.Event()
        self._news = asyncio.Event()
        self._body: list[bytes] = [body if isinstance(body, bytes) else json.dumps(body).encode()]
        given = {"host": "localhost"} | {name.lower(): value for name, value in (headers or {}).items()}
        raw = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
        path, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": raw if raw_headers is None else raw_headers, "client": (peer, 1234), "server": ("127.0.0.1", 80),
            "extensions": {"heylook.abort": {"call": self._abort}}, "state": {},
        }  # fmt: skip
        self.task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            self._news.set()

    def _abort(self) -> None:
        self.aborted = True
        self._left.set()
        self.reading.set()

    async def _receive(self) -> Message:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(0), "more_body": bool(self._body)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.reading.wait()
        if self._left.is_set():
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]}
        else:
            assert not self.complete, "a body after its end"
            self.body += message.get("body", b"")
            self.complete = not message.get("more_body", False)
            if self.complete:
                self._left.set()
        self._news.set()

    def leave(self) -> None:
        """The client closes its connection."""
        self._left.set()

    async def until(self, marker: bytes, times: int = 1) -> None:
        """Wait until the body holds this, so many times."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.body.count(marker) < times:
                self._news.clear()
                assert not self.task.done(), self.body
                await self._news.wait()

    async def end(self) -> "Client":
        """Wait until the app has answered."""
        await asyncio.wait_for(self.task, WAIT_SECONDS)
        return self

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


async def call(app: ASGIApp, method: str, path: str, body: bytes | dict[str, Any] = b"", **more: Any) -> Client:
    """One request, answered."""
    return await Client(app, method, path, body, **more).end()
