"""Models that come and go while the server runs: pulls, each one download however many wait for it, and deletions.

What comes is noted in the overlay beside models.yaml; what goes leaves it, and its files go where we pulled them.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

from heylook_llm.catalog.hub import Name, parse_name
from heylook_llm.catalog.installed import register, unregister
from heylook_llm.catalog.pull import Progress, Pull, Pulled, Tell

TELL_SECONDS: Final = 0.1
"""At most so often a client is told how far its pull is."""

log = logging.getLogger(__name__)


class _Running:
    """One pull, its steps so far, and who follows it. Of a step that counts bytes the latest word is kept."""

    def __init__(self, task: "asyncio.Task[None]", pull: Pull) -> None:
        self.task = task
        self.pull = pull
        self.steps: list[Progress] = []
        self.followers = 0
        self._changed = asyncio.Event()

    def tell(self, progress: Progress) -> None:
        """The next word."""
        if self.steps and self.steps[-1].status == progress.status:
            self.steps[-1] = progress
        else:
            self.steps.append(progress)
        self._changed.set()
        self._changed = asyncio.Event()

    async def followed(self) -> AsyncGenerator[Progress, None]:
        """Every step, each as it is when its follower is ready for it, until the pull has ended."""
        at, told = 0, None
        while True:
            changed = self._changed
            while at < len(self.steps):
                step, last = self.steps[at], at == len(self.steps) - 1
                if step != told:
                    yield step
                    told = step
                if last:
                    break
                at += 1
            if self.task.done():
                return
            await self._wait(changed)

    async def _wait(self, changed: asyncio.Event) -> None:
        """Until there is more to tell; a step that counts is told at intervals."""
        waiting = asyncio.ensure_future(changed.wait())
        await asyncio.wait({self.task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        await asyncio.wait({self.task}, timeout=TELL_SECONDS)


class Pulls:
    """The pulls of one server into the registry at `path`; `follow_file` makes it read that anew."""

    def __init__(self, path: Path, follow_file: Callable[[], Any]) -> None:
        self._path = path
        self._follow_file = follow_file
        self._running: dict[tuple[str, str | None], _Running] = {}

    async def pull(self, text: str) -> AsyncGenerator[Progress, None]:
        """Pull a model and register it; joins a pull of the same. Closing the last follower's generator cancels it.

        Raises BadRequest for a name that is none, PullFailed, InsufficientStorage.
        """
        running = self._join(parse_name(text))
        running.followers += 1
        try:
            async for step in running.followed():
                yield step
            running.task.result()
        finally:
            running.followers -= 1
            if not running.followers and not running.task.done():
                running.pull.cancel()
        yield Progress("success")

    def _join(self, name: Name) -> _Running:
        key = (name.repository, name.tag)
        running = self._running.get(key)
        if running is not None and running.followers:
            return running
        loop = asyncio.get_running_loop()

        def tell(progress: Progress) -> None:
            loop.call_soon_threadsafe(self._tell, key, progress)

        pull = Pull(name, tell)
        running = self._running[key] = _Running(loop.create_task(self._run(name, pull, tell)), pull)
        running.task.add_done_callback(lambda _: self._forget(key, running))
        return running

    def _tell(self, key: tuple[str, str | None], progress: Progress) -> None:
        if (running := self._running.get(key)) is not None:
            running.tell(progress)

    def _forget(self, key: tuple[str, str | None], running: _Running) -> None:
        if self._running.get(key) is running:
            del self._running[key]
        if not running.task.cancelled():
            running.task.exception()  # seen: the last follower may have left

    async def _run(self, name: Name, pull: Pull, tell: Tell) -> None:
        def keep(pulled: Pulled) -> None:
            tell(Progress("writing manifest"))
            register(self._path, pulled)

        pulled = await asyncio.to_thread(pull.run, keep)
        await self._follow_file()
        log.info("%s was pulled to %s", name.asked, pulled.path)

    async def delete(self, model: str) -> None:
        """Take a model out of the registry, and remove what we pulled of it.

        Raises ModelNotFound, ConfigError; Conflict while it is being pulled.
        """
        await asyncio.to_thread(unregister, self._path, model)
        await self._follow_file()

    async def close(self) -> None:
        """Cancel every pull; what they fetched stays, to be resumed."""
        for running in self._running.values():
            running.pull.cancel()
        if self._running:
            await asyncio.wait({running.task for running in self._running.values()})


async def final(progress: AsyncGenerator[Progress, None]) -> None:
    """Wait until a pull has ended. Raises what it raises."""
    async with aclosing(progress):
        async for _ in progress:
            pass
