"""pull: a model from a Hugging Face hub, by the running server or by this command itself."""

import sys
import time
from collections.abc import Callable
from typing import Any, Final

import click

from heylook_llm import config
from heylook_llm.catalog.hub import parse_name
from heylook_llm.catalog.installed import register
from heylook_llm.catalog.pull import Progress, Pull
from heylook_llm.commands.client import Client
from heylook_llm.commands.models import duration_text, size_text

LINE_SHARE: Final = 0.1
"""Without a terminal a line is written whenever so much more has come."""


def pull(client: Client | None, model: str) -> None:
    """Pull, and show how far it is. `client` None: without a server. Raises Refused, PullFailed and their kin."""
    shown = Shown(time.monotonic)
    if client is not None:
        for line in client.lines("/api/pull", {"model": model}):
            shown.tell(_progress(line))
        shown.end()
        click.echo("success")
        return
    path, noted = config.locate(), []
    Pull(parse_name(model), shown.tell).run(lambda pulled: noted.append(register(path, pulled)))
    shown.end()
    click.echo(f"success: {noted[0]} in the registry of {path}")


def _progress(line: dict[str, Any]) -> Progress:
    return Progress(line.get("status", ""), line.get("digest", ""), line.get("total", 0), line.get("completed", 0))


class Shown:
    """Progress on the terminal: one line a step, which grows; or a line for each tenth, where it isn't one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._terminal = sys.stdout.isatty()
        self._status = ""
        self._begun = (0.0, 0)
        """When the step began, and with how many bytes: those of an earlier pull took no time."""
        self._last_share = 0.0

    def tell(self, progress: Progress) -> None:
        """The next word."""
        if progress.status != self._status:
            self.end()
            self._status, self._begun, self._last_share = progress.status, (self._clock(), progress.done_bytes), 0.0
            if not progress.total_bytes:
                click.echo(progress.status)
        if progress.total_bytes:
            self._bytes(progress)

    def end(self) -> None:
        """The line at hand is complete."""
        if self._terminal and self._last_share:
            click.echo()
        self._last_share = 0.0

    def _bytes(self, progress: Progress) -> None:
        share = progress.done_bytes / progress.total_bytes
        if self._terminal:
            click.echo(f"\r\x1b[K{self._line(progress, share)}", nl=False)
        elif share - self._last_share >= LINE_SHARE or share == 1.0 > self._last_share:
            click.echo(self._line(progress, share))
        else:
            return
        self._last_share = share or sys.float_info.min

    def _line(self, progress: Progress, share: float) -> str:
        begun, before = self._begun
        seconds, came = self._clock() - begun, progress.done_bytes - before
        sizes = f"{size_text(progress.done_bytes)} of {size_text(progress.total_bytes)}"
        line = f"{progress.status}: {100 * share:3.0f} %  {sizes}"
        if seconds < 1 or came <= 0:
            return line
        rate = came / seconds
        left = (progress.total_bytes - progress.done_bytes) / rate
        return f"{line}  {size_text(int(rate))}/s" + (f"  {duration_text(left)} left" if left >= 1 else "")
