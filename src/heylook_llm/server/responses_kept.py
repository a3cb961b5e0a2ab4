"""The responses that outlive their requests: those that are kept, and those that are answered in the background."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.types import Message, Scope

from heylook_llm.errors import BadRequest, NotFound
from heylook_llm.server.generate import Generation, Place
from heylook_llm.server.responses_database import Kept
from heylook_llm.server.responses_store import ResponseStore
from heylook_llm.server.wire.responses import Answer, Known
from heylook_llm.server.wire.responses_items import Item

ROUTE: Final = "/v1/responses"
CLOSING_SECONDS: Final = 5.0
_FRAME: Final = b"\n\n"


class Running:
    """A response that is answered whether or not its client is there."""

    def __init__(self, answer: Answer, place: Place) -> None:
        self.answer = answer
        self.frames: list[bytes] = []
        """Its events, where they may be asked for: the n-th has the sequence number n."""
        self.ended = False
        self.task: asyncio.Task[None] | None = None
        self._place = place
        self._news = asyncio.Event()
        if answer.asked.stream:
            self._add(answer.announce())

    async def run(self, scope: Scope) -> None:
        """Answer it."""
        generation = Generation(self.answer, ROUTE, self._place)
        try:
            await generation(scope, _for_ever, self._take)
        finally:
            self.ended = True
            self._tell()

    async def _take(self, message: Message) -> None:
        if message["type"] == "http.response.body" and self.answer.asked.stream:
            self._add(self.answer.last_words or message.get("body", b""))

    def _add(self, body: bytes) -> None:
        frames = (frame + _FRAME for frame in body.split(_FRAME) if frame and not frame.startswith(b":"))
        self.frames.extend(frames)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def told(self) -> dict[str, Any]:
        """The response object as of now."""
        if self.answer.whole is not None:
            return self.answer.whole
        with contextlib.suppress(NotFound):
            if self._place.in_flight.find(self.answer.asked.request.id).state not in ("waiting", "reading"):
                return self.answer.waiting("in_progress")
        return self.answer.waiting("queued")

    def cancel(self) -> None:
        """End it."""
        with contextlib.suppress(NotFound):  # it ended just now
            self._place.in_flight.find(self.answer.asked.request.id).cancel("cancelled")

    async def follow(self, start: int) -> AsyncIterator[bytes]:
        """Its events from a number on, as they come; a comment where there is none for long."""
        at = start
        while True:
            news, found = self._news, self.frames[at:]
            at += len(found)
            if found:
                yield b"".join(found)
            elif self.ended:
                return
            else:
                try:
                    await asyncio.wait_for(news.wait(), self._place.pace.silence_seconds)
                except TimeoutError:
                    yield self.answer.silence(time.time_ns())


async def _for_ever() -> Message:
    """The client of a response in the background never leaves."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


class Responses:
    """What is kept, and what runs. Its methods raise BadRequest, NotFound and EngineError."""

    def __init__(self, store: ResponseStore, place: Place) -> None:
        self.store = store
        self._place = place
        self._running: dict[str, Running] = {}

    @property
    def largest_bytes(self) -> int:
        """A larger body isn't kept."""
        return self.store.largest_bytes

    def keep(self, answer: Answer) -> None:
        """Keep a response that has ended; one in the background is kept once its stream is whole."""
        if answer.store and not answer.background:
            self._write(answer)

    def _write(self, answer: Answer, events: bytes | None = None) -> None:
        assert answer.whole is not None
        self.store.keep(Kept(answer.id, answer.whole, answer.items, answer.previous, events))

    # ---- in the background -------------------------------------------------------------------------------------------

    def begin(self, answer: Answer, scope: Scope) -> Running:
        """Answer it in the background."""
        running = self._running[answer.id] = Running(answer, self._place)
        waits = Kept(answer.id, answer.waiting("queued"), answer.items, answer.previous, owner=os.getpid())
        self.store.keep(waits)
        running.task = asyncio.create_task(self._run(running, scope))
        return running

    async def _run(self, running: Running, scope: Scope) -> None:
        answer = running.answer
        try:
            await running.run(scope)
        finally:
            if answer.whole is not None:
                self._write(answer, b"".join(running.frames) if answer.asked.stream else None)
            del self._running[answer.id]

    async def close(self) -> None:
        """Wait for what runs, which ends when its models do, and write what is kept."""
        tasks = [running.task for running in self._running.values() if running.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSING_SECONDS)
        await asyncio.to_thread(self.store.close)

    # ---- one response ------------------------------------------------------------------------------------------------

    async def retrieve(self, identity: str) -> dict[str, Any]:
        """Its object."""
        if (running := self._running.get(identity)) is not None:
            return running.told()
        return _told(await self._find(identity))

    async def input_items(self, identity: str) -> list[Item]:
        """The items of its own input, in their order."""
        return (await self._find(identity)).items

    async def follow(self, identity: str, start: int) -> AsyncIterator[bytes]:
        """Its events from a number on."""
        if (running := self._running.get(identity)) is not None and running.answer.asked.stream:
            return running.follow(start)
        await self._find(identity)
        events = await self.store.ask(lambda database: database.events(identity))
        if events is None:
            raise BadRequest(
                "Only a response that was made with `background` and `stream` can be streamed again.", param="stream"
            )
        return _one(b"".join(frame + _FRAME for frame in events.split(_FRAME)[start:] if frame))

    async def cancel(self, identity: str) -> dict[str, Any]:
        """End it, if it is still being answered in the background; its object."""
        if (running := self._running.get(identity)) is not None:
            await self._ended(running)
        told = _told(await self._find(identity))
        if not told["background"]:
            raise BadRequest("Cannot cancel a synchronous response: leave its connection instead.", param="response_id")
        return told

    async def delete(self, identity: str) -> None:
        """End it, and keep nothing of it."""
        if (running := self._running.get(identity)) is not None:
            await self._ended(running)
        if not await self.store.ask(lambda database: database.delete(identity)):
            raise _not_found(identity)

    async def _ended(self, running: Running) -> None:
        """Cancel what runs, and wait until it is kept so."""
        running.cancel()
        if running.task is not None:
            await asyncio.wait({running.task})

    async def _find(self, identity: str) -> Kept:
        kept = await self.store.ask(lambda database: database.find(identity))
        if kept is None:
            raise _not_found(identity)
        return kept

    # ---- what a request goes on from ---------------------------------------------------------------------------------

    async def known(self, previous: str | None, references: tuple[str, ...]) -> Known:
        """What a body refers to."""
        before = () if previous is None else tuple(await self._conversation(previous))
        found = await self.store.ask(lambda database: database.found(references)) if references else {}
        return Known(before, found)

    async def _conversation(self, previous: str) -> list[Item]:
        running = self._running.get(previous)
        if running is not None and running.answer.whole is not None and running.task is not None:
            await asyncio.wait({running.task})  # its client has its last event, and it is kept in a moment
        now = time.time()
        chain = await self.store.ask(lambda database: database.chain(previous, now))
        if chain is None:
            raise _no_previous(f"Previous response with id '{previous[:64]}' not found.")
        if chain.missing is not None:
            raise _no_previous(
                f"The response '{previous[:64]}' can't be gone on from, because '{chain.missing[:64]}' before it isn't "
                "kept any more: send the items."
            )
        if chain.unfinished:
            raise BadRequest(f"The response '{previous[:64]}' has not ended.", param="previous_response_id")
        return chain.items


def _no_previous(message: str) -> BadRequest:
    return BadRequest(message, code="previous_response_not_found", param="previous_response_id")


def _not_found(identity: str) -> NotFound:
    return NotFound(f"Response with id '{identity[:64]}' not found.", code="response_not_found", param="response_id")


def _told(kept: Kept) -> dict[str, Any]:
    """The object of a response; one whose server has died in the middle of it has failed."""
    if kept.owner is None or (kept.owner != os.getpid() and _alive(kept.owner)):
        return kept.response
    error = {"code": "server_error", "message": "The server ended before the response did."}
    return {**kept.response, "status": "failed", "error": error}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def _one(body: bytes) -> AsyncIterator[bytes]:
    yield body
