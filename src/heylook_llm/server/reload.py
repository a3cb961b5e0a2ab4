"""Follows models.yaml and its overlay: a valid change takes effect, a broken one is told and the last good one kept."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from heylook_llm.config import Settings
from heylook_llm.errors import ConfigError
from heylook_llm.registry import overlay_path

LOOK_SECONDS: Final = 1.0

log = logging.getLogger(__name__)

_Signature = tuple[tuple[int, int, int] | None, ...]


class RegistryWatch:
    """Looks at the files' sizes and times; a change is read once they rest, so that no half-written file is."""

    def __init__(
        self,
        path: Path,
        read: Callable[[], Settings],
        apply: Callable[[Settings], None],
        settings: Settings | None = None,
    ) -> None:
        """`settings`: what was read of the files already, and is in force."""
        self.path = path
        self.settings = settings
        """What is in force."""
        self.read_at = time.time()
        """Wall clock of the last good reading, seconds since 1970."""
        self.error: str | None = None
        """Why the files as they are now aren't in force."""
        self._read = read
        self._apply = apply
        self._applied = self._seen = self._signature()

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow the files meanwhile."""
        task = asyncio.get_running_loop().create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Look once; a change that is as it was at the last look is read and takes effect."""
        now = await asyncio.to_thread(self._signature)
        rests, self._seen = now == self._seen, now
        if rests and now != self._applied:
            await self.read_anew()

    async def read_anew(self) -> None:
        """Read the files as they are now; for who has just written one in one piece."""
        self._applied = await asyncio.to_thread(self._signature)
        try:
            settings = await asyncio.to_thread(self._read)
        except ConfigError as error:
            self.error = error.message
            log.error("The registry stays as it was: %s", error.message)
            return
        self._apply(settings)
        self.settings = settings
        self.read_at, self.error = time.time(), None
        log.info("%s was read anew: %d models", self.path, len(settings.enabled))

    def _signature(self) -> _Signature:
        return tuple(_changed(path) for path in (self.path, overlay_path(self.path)))


def _changed(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
