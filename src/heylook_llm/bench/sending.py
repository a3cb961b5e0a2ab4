"""The recorder's end of a sender: the process, what it is told, what it tells."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Collection
from typing import Self

from heylook_llm.bench import frames
from heylook_llm.bench.frames import News
from heylook_llm.bench.keys import LEAST_CHARACTERS


class SenderProcess:
    """The process that sends."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        """No variable of ours that holds one of the secrets is handed on: they go by the pipe alone."""
        self.alive = False
        self._environment = {name: value for name, value in os.environ.items() if not _holds(value, secrets)}

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "heylook_llm.bench.sender"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            limit=1 << 26,
            start_new_session=True,  # Ctrl-C is ours: the sender hears it from us
        )
        self.alive = True
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def send(self, frame: frames.Order) -> None:
        """Give an order."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # that it is gone, `news` tells
            self._process.stdin.write(frames.packed(frame))

    async def news(self) -> News | None:
        """The next; None: the process has ended."""
        assert self._process.stdout is not None
        body = await frames.read(self._process.stdout)
        if body is None:
            self.alive = False
            return None
        told: News = frames.news.decode(body)
        return told


def _holds(value: str, secrets: Collection[str]) -> bool:
    """Whether a variable is a secret, or has one in it: a short one could be in anything."""
    return any(value.strip() == secret or (len(secret) >= LEAST_CHARACTERS and secret in value) for secret in secrets)
