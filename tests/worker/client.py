"""The parent's side of a worker, for tests: a real process over the real pipe, with blocking reads."""

import contextlib
import itertools
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from heylook_llm import core, pipe

WAIT_SECONDS = 90.0


class WorkerGone(Exception):
    """The worker's stdout ended."""


class Client:
    """One worker process. Every wait ends after WAIT_SECONDS."""

    def __init__(self, provider: str = "fake", path: str = "", *, load: bool = True, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "heylook_llm.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._encoder = pipe.Encoder()
        self._frames: queue.SimpleQueue[core.Upward | None] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self.info: core.ModelInfo | None = None
        self.loading: list[float] = []
        self._expected: dict[int, int] = {}
        threading.Thread(target=self._read, daemon=True).start()
        if load:
            self.load(provider, path, **options)
            ready = self.ready()
            assert isinstance(ready, core.Ready), ready
            self.info = ready.info

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process by closing its stdin, and wait for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    # ---- frames ------------------------------------------------------------------------------------------------------

    def send(self, message: core.Downward) -> None:
        """Write a frame."""
        self.send_bytes(self._encoder.encode(message))

    def send_bytes(self, data: bytes) -> None:
        """Write bytes."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self, seconds: float = WAIT_SECONDS) -> core.Upward:
        """The next frame. Raises WorkerGone at the end, queue.Empty after `seconds`."""
        message = self._frames.get(timeout=seconds)
        if message is None:
            raise WorkerGone
        return message

    def _read(self) -> None:
        assert self.process.stdout is not None
        decoder: pipe.Decoder[core.Upward] = pipe.Decoder(core.Upward)  # type: ignore[arg-type]  # a union
        while data := os.read(self.process.stdout.fileno(), 1 << 16):
            for message in decoder.feed(data):
                self._frames.put(message)
        self._frames.put(None)

    # ---- what a server does ------------------------------------------------------------------------------------------

    def load(self, provider: str, path: str, **options: Any) -> None:
        """Ask for a model."""
        self.send(core.Load("test-model", provider, path, options))

    def ready(self) -> core.Upward:
        """Wait for Ready or Refused, noting the progress."""
        while isinstance(message := self.receive(), core.LoadProgress):
            self.loading.append(message.fraction)
        return message

    def submit(self, *prompts: core.Prompt, **fields: Any) -> int:
        """Submit a request of these prompts; returns its number. Sampling's fields go into its sampling."""
        number = next(self._numbers)
        sampling = {name: fields.pop(name) for name in list(fields) if name in core.Sampling.__struct_fields__}
        body = core.Request(f"r{number}", "test-model", prompts, core.Sampling(**sampling), **fields)
        self.send(core.Submit(number, body))
        return number

    def events(self, numbers: Iterable[int]) -> dict[int, list[core.Event]]:
        """All events of these requests, until each has ended. Other frames are an error."""
        found: dict[int, list[core.Event]] = {number: [] for number in numbers}
        open_choices = dict.fromkeys(found, 0)
        expected = self._expected
        while open_choices:
            message = self.receive()
            assert isinstance(message, core.Step), message
            for number, event in message.events:
                found[number].append(event)
                if isinstance(event, core.Done):
                    open_choices[number] += 1
                if isinstance(event, core.Failed) or open_choices.get(number) == expected.get(number, 1):
                    open_choices.pop(number)
        return found

    def run(self, *prompts: core.Prompt, **fields: Any) -> core.Result:
        """The whole reply to a request; raises its error."""
        n = int(fields.get("n", 1))
        number = self.submit(*prompts, **fields)
        return self.finish(number, n=n, prompts=len(prompts))

    def finish(self, number: int, *, n: int = 1, prompts: int = 1) -> core.Result:
        """The whole reply to a submitted request, the only one that is running."""
        self._expected = {number: n * prompts}
        fold = core.Fold(n, prompts)
        for event in self.events([number])[number]:
            fold.feed(event)
        return fold.result()

    def call(self, operation: core.Operation) -> core.Answer:
        """Ask a unary operation; raises its error."""
        number = next(self._numbers)
        self.send(core.Call(number, operation))
        message = self.receive()
        if isinstance(message, core.Failure):
            raise message.error.exception()
        assert isinstance(message, core.Returned), message
        assert message.call == number
        return message.answer

    def ping(self) -> core.WorkerStats:
        """The counters, by Ping; events that come before the Pong are dropped."""
        self.send(core.Ping(7))
        while not isinstance(message := self.receive(), core.Pong):
            pass
        return message.stats


def chat(*turns: str, **fields: Any) -> core.ChatPrompt:
    """A chat whose turns are a user's and an assistant's in turn; a first "system: ..." is the system's."""
    messages: list[core.Message] = []
    texts = list(turns)
    if texts[0].startswith("system: "):
        messages.append(core.Message("system", (core.TextPart(texts.pop(0).removeprefix("system: ")),)))
    for at, text in enumerate(texts):
        messages.append(core.Message("user" if at % 2 == 0 else "assistant", (core.TextPart(text),)))
    return core.ChatPrompt(tuple(messages), **fields)
