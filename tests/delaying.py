"""An ASGI layer around a test's server: it notes when a reply's last bytes go, and holds up what it is asked to."""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heylook_llm.worker.providers.fake_log import Log


class Delaying:
    """Headers: `x-delay-body: SECONDS` before the body comes, `x-delay-chunk: SECONDS TEXT` before a chunk goes.

    `x-delay-witness: NAME` only names the request in what is noted.
    """

    def __init__(self, app: ASGIApp, log: Log) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold it up."""
        asked = {name: value.decode() for name, value in scope.get("headers", ()) if name.startswith(b"x-delay-")}
        if not asked:
            await self._app(scope, receive, send)
            return
        body_seconds = float(asked.get(b"x-delay-body", "0"))
        witness = asked.get(b"x-delay-witness")
        chunk_seconds, _, text = asked.get(b"x-delay-chunk", "0 ").partition(" ")

        async def slow_receive() -> Message:
            nonlocal body_seconds
            seconds, body_seconds = body_seconds, 0.0
            await self._wait("body", seconds)
            return await receive()

        async def slow_send(message: Message) -> None:
            nonlocal chunk_seconds
            if text and text.encode() in message.get("body", b""):
                seconds, chunk_seconds = chunk_seconds, "0"
                await self._wait("chunk", float(seconds))
            if witness and message["type"] == "http.response.body" and not message.get("more_body"):
                self._log.note("sent", time.monotonic_ns(), name=witness)
            await send(message)

        await self._app(scope, slow_receive, slow_send)

    async def _wait(self, what: str, seconds: float) -> None:
        if seconds:
            start_ns = time.monotonic_ns()
            await asyncio.sleep(seconds)
            self._log.note(what, start_ns)
