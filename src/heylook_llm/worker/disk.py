"""Saved states in a folder, so that a restart finds them: opt-in, within a byte budget, the longest unused going first.

A file holds a head, the tokens, and the state:

    MAGIC, identity (32 bytes), digest of all that follows (32), count of tokens (8), tokens (8 each), state

It is written beside its final name and then renamed, so that a file is whole or isn't there. One whose identity isn't
that of the loaded model and its settings is of no use any more, and goes first when room is needed. What isn't such a
file at all, or doesn't match its digest, is named in the log and left alone.
"""

import hashlib
import logging
import os
import queue
import struct
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from heylook_llm.catalog.prefix_files import MAGIC, SUFFIX
from heylook_llm.worker.providers.base import State
from heylook_llm.worker.tree import Tree

_HEAD: Final = struct.Struct(f"<{len(MAGIC)}s32s32sQ")
MOST_TOKENS: Final = 1 << 24
"""More than any context; a head that says more is damaged."""
TOKEN_BYTES: Final = 8
SCAN_SECONDS: Final = 1.0
PENDING: Final = 8
"""States that may wait to be written; more come faster than the disk takes them, and aren't."""

log = logging.getLogger("heylook_llm.worker.disk")


class Entry(NamedTuple):
    """A file of this model."""

    path: Path
    size: int
    tokens: list[int]


class _Unusable(Exception):
    """Why a file can't be used."""


class Disk:
    """The folder of one model. `identity`: a digest of all that a state hangs on."""

    def __init__(self, folder: Path, limit_bytes: int, identity: bytes) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._identity = identity
        self._lock = threading.Lock()
        self._tree: Tree[Path] = Tree()
        self._entries: dict[Path, Entry] = {}
        """Of this identity."""
        self._sizes: dict[Path, int] = {}
        """Of all files of our making, the longest unused first."""
        self._clears = 0
        """What was on its way to the folder when it was cleared must not arrive."""
        self._room = threading.Semaphore(PENDING)
        self._scanned = threading.Event()
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._tasks.put(self._start)
        threading.Thread(target=self._work, name="disk", daemon=True).start()

    # ---- asked by any thread -----------------------------------------------------------------------------------------

    def best(self, tokens: list[int], *, whole: bool) -> tuple[Entry | None, int]:
        """The file with the most tokens in common, and how many; `whole`: all of its tokens must be.

        At the start it waits a little for what an earlier process left to be found: not for the step loop.
        """
        self._scanned.wait(SCAN_SECONDS)
        with self._lock:
            matches = self._tree.whole(tokens) if whole else self._tree.matches(tokens)
            path, common = next(matches, (None, 0))
            return (self._entries[path], common) if path is not None else (None, 0)

    def read(self, entry: Entry) -> State | None:
        """A file's state; None: it is gone or damaged."""
        try:
            data = entry.path.read_bytes()
            state = self._checked(data, entry)
            os.utime(entry.path)
        except OSError as error:
            log.warning("A saved prefix can't be read: %s: %s", entry.path, error)
            self._forget(entry.path)
            return None
        except _Unusable as error:
            log.warning("A saved prefix can't be used: %s: %s", entry.path, error)
            self._add(entry.path, entry.size, None, self._clears)
            return None
        with self._lock:
            if entry.path in self._sizes:
                self._sizes[entry.path] = self._sizes.pop(entry.path)
        return state

    def write(self, tokens: list[int], state: State) -> None:
        """Have a state written, unless too many wait for it already."""
        if self._room.acquire(blocking=False):
            clears = self._clears
            self._tasks.put(lambda: self._write(tokens, state, clears))

    def clear(self, then: Callable[[int], None]) -> None:
        """Forget every file of our making at once, and delete them; afterwards `then` hears how many bytes."""
        with self._lock:
            self._clears += 1
            self._entries.clear()
            self._tree = Tree()
        self._tasks.put(lambda: then(self._remove(list(self._sizes))))

    # ---- the thread of its own ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            try:
                task()
            except OSError as error:
                log.warning("The folder of saved prefixes %s: %s", self._folder, error)

    def _start(self) -> None:
        try:
            self._scan()
        finally:
            self._scanned.set()

    def _scan(self) -> None:
        """Find what an earlier process left."""
        clears = self._clears
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = [(entry.stat().st_mtime_ns, Path(entry.path)) for entry in os.scandir(self._folder) if entry.is_file()]
        for _, path in sorted(files):
            if path.suffix == ".part":  # of a process that ended while it wrote
                path.unlink(missing_ok=True)
                continue
            try:
                size, identity, tokens = _head_of(path)
            except (OSError, _Unusable) as error:
                log.warning("Not a saved prefix, and left alone: %s: %s", path, error)
                continue
            if identity != self._identity:
                log.info("Saved for another file or other settings: %s", path)
            self._add(path, size, tokens if identity == self._identity else None, clears)

    def _write(self, tokens: list[int], state: State, clears: int) -> None:
        """A file, and room for it."""
        self._room.release()
        packed = array("q", tokens).tobytes()
        size = _HEAD.size + len(packed) + len(state)
        if size > self._limit_bytes or clears != self._clears:
            return
        name = hashlib.sha256(self._identity + packed).hexdigest()[:32]
        path = self._folder / f"{name}{SUFFIX}"
        self._make_room(size, path)
        digest = hashlib.sha256(packed)
        digest.update(state)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                file.write(_HEAD.pack(MAGIC, self._identity, digest.digest(), len(tokens)))
                file.write(packed)
                file.write(state)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        self._add(path, size, tokens, clears)

    def _make_room(self, size: int, path: Path) -> None:
        used = sum(self._sizes.values()) - self._sizes.get(path, 0)
        oldest = [other for other in self._sizes if other != path]
        stale = [other for other in oldest if other not in self._entries]
        for other in (*stale, *(other for other in oldest if other in self._entries)):
            if used + size <= self._limit_bytes:
                return
            used -= self._remove([other])

    def _remove(self, paths: list[Path]) -> int:
        """Delete files; returns their bytes."""
        removed = 0
        for path in paths:
            path.unlink(missing_ok=True)
            removed += self._forget(path)
        return removed

    # ---- the index ---------------------------------------------------------------------------------------------------

    def _add(self, path: Path, size: int, tokens: list[int] | None, clears: int) -> None:
        """Note a file; without tokens, as one that is of no use. What was cleared since stays out of the index."""
        self._forget(path)
        with self._lock:
            self._sizes[path] = size
            if tokens is not None and clears == self._clears:
                self._entries[path] = Entry(path, size, tokens)
                self._tree.add(path, tokens)

    def _forget(self, path: Path) -> int:
        with self._lock:
            self._entries.pop(path, None)
            self._tree.remove(path)
            return self._sizes.pop(path, 0)

    def _checked(self, data: bytes, entry: Entry) -> State:
        """The state of a whole file. Raises _Unusable."""
        if len(data) != entry.size:
            raise _Unusable(f"it has {len(data)} bytes instead of {entry.size}")
        _, identity, digest, count = _HEAD.unpack_from(data)
        tokens_end = _HEAD.size + TOKEN_BYTES * count
        if identity != self._identity or data[_HEAD.size : tokens_end] != array("q", entry.tokens).tobytes():
            raise _Unusable("it was replaced by another")
        body = memoryview(data)[_HEAD.size :]
        if hashlib.sha256(body).digest() != digest:
            raise _Unusable("it is damaged")
        return memoryview(data)[tokens_end:]


def _head_of(path: Path) -> tuple[int, bytes, list[int]]:
    """(size, identity, tokens) of a file. Raises OSError, _Unusable."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size or not head.startswith(MAGIC):
            raise _Unusable("it doesn't begin like one")
        _, identity, _, count = _HEAD.unpack(head)
        packed = file.read(TOKEN_BYTES * min(count, MOST_TOKENS))
    if count > MOST_TOKENS or len(packed) != TOKEN_BYTES * count:
        raise _Unusable("it is truncated")
    tokens = array("q")
    tokens.frombytes(packed)
    return size, identity, tokens.tolist()
