"""Fetches a model from a Hugging Face hub into a folder of ours: resumed, verified, one download at a time.

Partial files outlive the process, every file is verified, free space is looked at first, and two pulls of one model are
one download, across processes. What changes on the hub meanwhile is listed anew; parts of two contents never meet.
"""

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from heylook_llm.catalog import library, partial
from heylook_llm.catalog.hub import Name, RemoteFile, is_projector, select
from heylook_llm.catalog.hub_client import HubClient, Stream, Trouble
from heylook_llm.catalog.partial import Partial
from heylook_llm.errors import Cancelled, InsufficientStorage, PullFailed

SPARE_BYTES: Final = 64 << 20
TRIES: Final = 8
"""Attempts in a row that bring no byte until a pull gives up."""
LISTINGS: Final = 3
"""How often what is to fetch is listed, where files turn out to be others than those listed."""
TRIES_UNREACHED: Final = 3
"""... while the hub was never reached: there may be no network, and who waits is to hear so within seconds."""
MOST_WAIT_SECONDS: Final = 30.0
"""Between two attempts, unless the hub says when to come back."""
MOST_PATIENCE_SECONDS: Final = 300.0
"""A hub that asks to wait longer ends the pull, which says so."""
LOCK_SECONDS: Final = 0.5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull is. `total_bytes` and `done_bytes` are of the file at hand."""

    status: str
    digest: str = ""
    total_bytes: int = 0
    done_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that lies on this disk now: its GGUF (the first part) or its folder."""

    name: Name
    path: Path
    folder: Path
    projector: Path | None = None
    """The GGUF with which it sees."""


Tell = Callable[[Progress], None]


class _Changed(Exception):
    """A file is another one than was listed. `error` is what the user is told if it stays so."""

    def __init__(self, error: PullFailed) -> None:
        super().__init__(error.message)
        self.error = error


class Pull:
    """One pull; `cancel` may be called from another thread."""

    def __init__(self, name: Name, tell: Tell, root: Path | None = None, endpoint: str | None = None) -> None:
        self._name = name
        self._tell = tell
        self._root = root if root is not None else library.models_folder()
        self._folder = library.folder_of(name.repository, self._root)
        self._endpoint = endpoint or os.environ.get("HF_ENDPOINT") or None
        self._cancelled = threading.Event()
        self._reached = False

    def cancel(self) -> None:
        """End the pull at the next bytes; what was fetched stays, to be resumed."""
        self._cancelled.set()

    def run(self, keep: Callable[[Pulled], Any] = lambda _: None) -> Pulled:
        """Fetch what is missing; then `keep` it, while nobody else may change or delete it.

        Raises PullFailed, InsufficientStorage, Cancelled, and what `keep` raises.
        """
        hub = HubClient(self._name.repository, self._endpoint)
        for left in reversed(range(LISTINGS)):
            try:
                return self._run(hub, keep)
            except _Changed as changed:
                if not left:
                    raise changed.error from changed
        raise AssertionError("the last listing returned or raised")

    def _run(self, hub: HubClient, keep: Callable[[Pulled], Any]) -> Pulled:
        self._tell(Progress("pulling manifest"))
        commit = self._tried(hub.commit)
        files = select(self._name, self._tried(lambda: hub.files(commit)))
        with self._disk(), self._alone():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._fetch(hub, commit, files)
            self._tell(Progress("verifying sha256 digest"))
            first, last = (self._folder / files[at].path for at in (0, -1))
            eyes = last if is_projector(last.name) and last != first else None
            made = Pulled(self._name, first if first.suffix == ".gguf" else self._folder, self._folder, eyes)
            keep(made)
        return made

    # ---- one file after the other ------------------------------------------------------------------------------------

    def _fetch(self, hub: HubClient, commit: str, files: Sequence[RemoteFile]) -> None:
        missing = [file for file in files if not partial.is_there(self._folder / file.path, file)]
        self._check_space(missing)
        for file in files:
            if file in missing:
                with self._disk(missing):
                    self._fetch_file(hub, commit, file)
            self._told(file, file.size)

    def _fetch_file(self, hub: HubClient, commit: str, file: RemoteFile) -> None:
        """Fetch and verify one file; bytes of the same content that came before are gone on from."""
        with Partial(self._folder / file.path, file) as coming:
            self._told(file, coming.length)
            self._tried(lambda: self._append(hub, commit, file, coming), progress=lambda: coming.length)
            if coming.matches():
                coming.keep()
                return
            coming.discard()
        raise self._changed(f"{file.path} came {LISTINGS} times with other bytes than the hub names")

    def _append(self, hub: HubClient, commit: str, file: RemoteFile, coming: Partial) -> None:
        """One attempt at the rest of a file. Raises Trouble, and _Changed where what comes isn't what was listed."""
        begin = coming.length
        if begin == file.size:
            return
        try:
            with hub.stream(file, commit, begin, coming.etag) as stream:
                self._place(stream, file, coming)
                for piece in stream.pieces:
                    self._check_cancelled()
                    if coming.length + len(piece) > file.size:
                        coming.restart()
                        raise self._changed(f"{file.path} is longer than the hub lists it")
                    coming.append(piece)
                    self._told(file, coming.length)
        except Trouble as trouble:
            if trouble.status == 404:
                raise _Changed(trouble.error) from trouble
            if trouble.status == 416:
                coming.restart()
            raise
        if coming.length < file.size:
            error = PullFailed(f"{self._name.repository}: {file.path} ends too early.", code="hub_failed")
            raise Trouble(error, passes=True)

    def _place(self, stream: Stream, file: RemoteFile, coming: Partial) -> None:
        """Look at what a stream brings before its first byte: bytes of two contents never meet in one file."""
        if stream.size not in (None, file.size):
            coming.restart()
            raise self._changed(f"{file.path} has another size than the hub lists it with")
        if stream.begins == 0:
            coming.restart(stream.etag)
        elif stream.etag is not None and coming.etag not in (None, stream.etag):
            coming.restart()
            raise self._changed(f"{file.path} changed while it was fetched")

    def _changed(self, words: str) -> _Changed:
        return _Changed(PullFailed(f"{self._name.repository}: {words}.", code="hash_mismatch"))

    def _told(self, file: RemoteFile, done: int) -> None:
        named = f"sha256:{file.sha256}" if file.sha256 else f"sha1:{file.git_sha1}"
        self._tell(Progress(f"pulling {file.digest[:12]}", named, file.size, done))

    # ---- trouble -----------------------------------------------------------------------------------------------------

    def _tried(self, work: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """The result of what may fail for a while: tried again, later and later, as long as bytes come."""
        failures, before = 0, progress()
        while True:
            self._check_cancelled()
            try:
                result = work()
            except Trouble as trouble:
                self._reached |= not trouble.unreached
                now = progress()
                failures, before = (1 if now > before else failures + 1), now
                if not trouble.passes or failures >= (TRIES if self._reached else TRIES_UNREACHED):
                    raise trouble.error from trouble
                self._wait_for(trouble, failures)
            else:
                self._reached = True
                return result

    def _wait_for(self, trouble: Trouble, failures: int) -> None:
        """Until the next attempt: as long as the hub asks, if that is bearable, or a little longer each time."""
        asked = trouble.wait_seconds
        if asked is None:
            self._wait(min(MOST_WAIT_SECONDS, 0.2 * 2**failures))
        elif asked > MOST_PATIENCE_SECONDS:
            words = f"{self._name.repository}: the hub asks to come back in {asked:.0f} s; what was fetched stays."
            raise PullFailed(words, code="hub_busy", retry_after_seconds=asked) from trouble
        else:
            self._tell(Progress(f"waiting {asked:.0f} s, as the hub asks"))
            self._wait(asked)

    def _wait(self, seconds: float) -> None:
        self._cancelled.wait(seconds)
        self._check_cancelled()

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled("The pull was cancelled; the next one goes on from here.")

    # ---- the disk ----------------------------------------------------------------------------------------------------

    def _check_space(self, missing: Sequence[RemoteFile]) -> None:
        """Raises InsufficientStorage with both numbers before anything is fetched."""
        needed, free = self._needed_bytes(missing), shutil.disk_usage(self._folder).free
        if needed > 0 and free < needed + SPARE_BYTES:
            raise InsufficientStorage(
                f"{self._name.repository} needs {needed / 1e9:.2f} GB more, and {free / 1e9:.2f} GB are free."
            )

    def _needed_bytes(self, missing: Sequence[RemoteFile]) -> int:
        """What is still to come; of files that have come since nothing."""
        return sum(
            max(0, file.size - partial.length_of(self._folder / file.path, file))
            for file in missing
            if not partial.is_there(self._folder / file.path, file)
        )

    @contextlib.contextmanager
    def _disk(self, missing: Sequence[RemoteFile] = ()) -> Iterator[None]:
        """The disk's errors as ours."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                needed = self._needed_bytes(missing)
                raise InsufficientStorage(
                    f"{self._name.repository}: the disk is full, and {needed} bytes are still to come. What was "
                    "fetched stays; free some space and pull again."
                ) from error
            words = error.strerror or type(error).__name__
            raise PullFailed(f"{self._name.repository}: {words}.", code="pull_failed") from error

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One download of a repository at a time, whichever process asks."""
        while True:
            with contextlib.ExitStack() as held:
                try:
                    held.enter_context(library.claimed(self._name.repository, self._root))
                except library.Busy:
                    self._tell(Progress("waiting for another download of this model"))
                    self._wait(LOCK_SECONDS)
                    continue
                yield
                return
