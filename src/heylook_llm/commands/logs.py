"""The server's log: a rotating file beside stderr, and the command that shows it."""

import logging
import logging.handlers
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final

import click

from heylook_llm.commands.state import log_folder, running_server

FILE_BYTES: Final = 5 << 20
FILES_KEPT: Final = 3
FOLLOW_SECONDS: Final = 0.25
FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def start_logging(level: str, name: str) -> Path | None:
    """Log to stderr and to `<log folder>/<name>.log`; returns the file, or None where it can't be written."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    path: Path | None = None
    try:
        path = log_folder() / f"{name}.log"
        handlers.append(_PrivateFile(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8"))
    except OSError as error:
        path = None
        click.echo(f"No log file: {error.strerror or error}; the log goes to stderr only.", err=True)
    logging.basicConfig(level=level, format=FORMAT, handlers=handlers, force=True)
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLevelName(level)))
    return path


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """A rotating file that only its user may read."""

    def _open(self):  # type: ignore[no-untyped-def]  # the base class's return type is private to typeshed
        stream = super()._open()
        os.chmod(self.baseFilename, 0o600)
        return stream


def show_logs(lines: int, follow: bool) -> None:
    """Print the end of the log, and what comes after it if asked."""
    path = log_path()
    if path is None:
        raise click.ClickException("no log yet; a server writes one as soon as it starts: heylookllm")
    click.echo(f"{path}:", err=True)
    with path.open(encoding="utf-8", errors="replace") as log:
        for line in deque(log, maxlen=lines):
            click.echo(line, nl=False)
        if follow:
            _follow(path, log.tell())


def log_path() -> Path | None:
    """The running server's log, else the one written last; None: there is none."""
    server = running_server()
    if server is not None and server.log is not None:
        return Path(server.log)
    logs = sorted(log_folder().glob("*.log"), key=lambda path: path.stat().st_mtime)
    return logs[-1] if logs else None


def _follow(path: Path, position: int) -> None:
    """Print what is appended; after a rotation the new file is read from its start."""
    while True:
        time.sleep(FOLLOW_SECONDS)
        if not path.exists():
            continue
        if path.stat().st_size < position:
            position = 0
        with path.open(encoding="utf-8", errors="replace") as log:
            log.seek(position)
            if text := log.read():
                click.echo(text, nl=False)
            position = log.tell()
