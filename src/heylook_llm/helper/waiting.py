"""The parent's half of a helper process in a thread that waits for it: start it, feed it, take its output, end it."""

import contextlib
import subprocess
import threading
from typing import IO, Final

from heylook_llm.errors import Overloaded
from heylook_llm.helper import starting
from heylook_llm.helper.starting import OUTPUT_BYTES, WALL_SECONDS

PIECE_BYTES: Final = 256 << 10


class Child:
    """A process that one thread starts, and others may end, also before it is started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.ended = False
        """Somebody had enough of it."""

    def begin(self, process: subprocess.Popen[bytes]) -> None:
        """It was started."""
        with self._lock:
            self._process = process
            if self.ended:
                process.kill()

    def end(self) -> None:
        """Kill it, now or as soon as it is started."""
        with self._lock:
            self.ended = True
            if self._process is not None:
                self._process.kill()


def run(
    module: str,
    data: bytes,
    *,
    wall_seconds: float = WALL_SECONDS,
    output_bytes: int = OUTPUT_BYTES,
    child: Child | None = None,
) -> bytes:
    """What `python -m module` writes when it reads `data`. Raises starting.Exhausted, starting.Broken, Overloaded.

    Overloaded too where another thread has ended `child`.
    """
    child = child or Child()
    with subprocess.Popen(
        starting.command(module),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=starting.environment(),
        cwd="/",
        bufsize=0,
        start_new_session=True,  # so that Linux groups it apart from us: see give_way
    ) as process:
        child.begin(process)
        starting.give_way(process.pid)
        alarm = threading.Timer(wall_seconds, child.end)
        alarm.start()
        try:
            output = _exchange(process, data, output_bytes)
            if len(output) > output_bytes:
                process.kill()
            process.wait()
        finally:
            alarm.cancel()
            process.kill()
    if child.ended:
        raise Overloaded(starting.BUSY)
    return starting.output_of(process.returncode, output, output_bytes)


def _exchange(process: subprocess.Popen[bytes], data: bytes, output_bytes: int) -> bytes:
    """Write all, read all; of more than it may write no more is read."""
    assert process.stdin is not None
    assert process.stdout is not None
    threading.Thread(target=_feed, args=(process.stdin, data), daemon=True).start()
    output = bytearray()
    while len(output) <= output_bytes and (piece := process.stdout.read(PIECE_BYTES)):
        output += piece
    return bytes(output)


def _feed(stdin: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    with contextlib.suppress(OSError, ValueError):  # it ended: its status says why
        while view:
            view = view[stdin.write(view) :]
    with contextlib.suppress(OSError):
        stdin.close()
