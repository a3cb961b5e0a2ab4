"""An SQLite file of the server's own: private, checked when it is opened, moved aside when it is damaged, bounded.

Write-ahead log with synchronous=NORMAL: a commit survives the death of the process at any moment, and that of the
machine but for the last ones. Several servers of one user may write into one file.
"""

import contextlib
import datetime
import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Final, TypeVar

log = logging.getLogger(__name__)

BUSY_SECONDS: Final = 5.0
JOURNAL_BYTES: Final = 4 << 20
"""What the write-ahead log may take; of a small size limit a quarter."""
PAGE_BYTES: Final = 4096
FULL: Final = 0.9
"""Of the size limit, what may be used with the log; the rest is for the rows of one commit."""


class OtherVersion(Exception):
    """The file was written by another version of this program."""


class SqliteFile:
    """An open file, or one in memory. One thread owns it; every method is called there, and blocks."""

    version: ClassVar[int]
    """Of the schema. A file of another version is left alone."""
    schema: ClassVar[tuple[str, ...]]
    settings: ClassVar[tuple[str, ...]] = ()
    """Of the connection, beside those that every file has."""
    additions: ClassVar[tuple[str, ...]] = ()
    """What is also made in files of this version that were begun without it; it may stand already."""

    def __init__(self, path: Path | None, *, keep_bytes: int) -> None:
        """None: in memory. Raises sqlite3.Error for a file that can't be used, OtherVersion for another version's."""
        self._journal_bytes = min(JOURNAL_BYTES, keep_bytes // 4)
        self._full_bytes = FULL * keep_bytes - (0 if path is None else self._journal_bytes)
        self.path = path
        self._connection = sqlite3.connect(
            ":memory:" if path is None else path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(path)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, path: Path | None) -> None:
        run = self._connection.execute
        if path is not None:
            path.chmod(0o600)
        if run("PRAGMA user_version").fetchone()[0] not in (0, self.version):
            raise OtherVersion
        (verdict,) = run("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict).replace("\n", " "))
        run(f"PRAGMA page_size = {PAGE_BYTES}")
        run("PRAGMA auto_vacuum = INCREMENTAL")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        for setting in self.settings:
            run(f"PRAGMA {setting}")
        run(f"PRAGMA journal_size_limit = {self._journal_bytes}")
        run(f"PRAGMA wal_autocheckpoint = {self._journal_bytes // PAGE_BYTES // 2}")
        with self.transaction():  # two servers may begin at once
            (version,) = run("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in (*self.schema, f"PRAGMA user_version = {self.version}"):
                    run(statement)
            for statement in self.additions:
                run(statement)
        (self._page_bytes,) = run("PRAGMA page_size").fetchone()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written within it, or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    @property
    def full(self) -> bool:
        """Whether it is time to delete for the size's sake."""
        return self.used_bytes > self._full_bytes

    @property
    def used_bytes(self) -> int:
        """What the rows take."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        used: int = (pages - free) * self._page_bytes
        return used

    def give_back(self) -> None:
        """Free pages to the file system."""
        self._connection.executescript("PRAGMA incremental_vacuum;")  # execute() would stop after one page
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


# ---- opening ---------------------------------------------------------------------------------------------------------

AnyFile = TypeVar("AnyFile", bound=SqliteFile)


def opened(path: Path | None, open_file: Callable[[Path | None], AnyFile], what: str) -> AnyFile:
    """The file, opened; a damaged one is moved aside. Where none can be written, one in memory.

    `what` is kept in it, to say so in the log.
    """
    if path is None:
        return open_file(None)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        return _repaired(path, open_file, what)
    except OtherVersion:
        problem = "another version of heylookllm wrote it; once it is moved away, another is begun"
    except (OSError, sqlite3.Error) as error:
        problem = str(error)
    log.warning("%s can't be used (%s): %s are kept in memory and end with the server", path, problem, what)
    return open_file(None)


def _repaired(path: Path, open_file: Callable[[Path | None], AnyFile], what: str) -> AnyFile:
    try:
        return open_file(path)
    except sqlite3.OperationalError:
        raise  # the disk, a lock or a permission: the file itself may be sound
    except sqlite3.DatabaseError as error:
        aside = _moved_aside(path)
        log.warning("%s is damaged (%s): it is now %s, and %s begin anew", path, error, aside.name, what)
    return open_file(path)


def _moved_aside(path: Path) -> Path:
    """Rename the file and its journal, which together are the database."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether the file itself is broken, rather than the disk full or another server slow."""
    return not isinstance(error, sqlite3.OperationalError)
