"""Files and batches on disk: their records in SQLite, their bytes beside it. One thread calls it; every method blocks.

    FOLDER/batches.sqlite3    what they are
    FOLDER/files/ID           the bytes of a file
    FOLDER/files/ID.part      what came so far of a batch that isn't ended

Only this user may read any of it. A server holds a lock on its folder; a second one of the same user takes another.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from heylook_llm.errors import InsufficientStorage, NotFound
from heylook_llm.server.wire.openai_batches import OPEN, Batch, File

MAX_TOTAL_BYTES: Final = 2 << 30
"""What all files may take together."""
MAX_BATCHES: Final = 1000
"""Ended batches beyond these are forgotten, the oldest first."""
_FOLDERS: Final = 16
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS files (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, body BLOB)",
    "CREATE TABLE IF NOT EXISTS batches (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, body BLOB)",
    "PRAGMA user_version = 1",
)
_files: Final = msgspec.json.Decoder(File)
_batches: Final = msgspec.json.Decoder(Batch)


def locked_folder(root: Path) -> tuple[Path, int]:
    """The first folder below `root` that no other server holds, and the descriptor of its lock. Raises OSError."""
    for at in range(1, _FOLDERS + 1):
        folder = root / ("batches" if at == 1 else f"batches-{at}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return folder, lock
    raise OSError(f"{_FOLDERS} servers keep batches already")


class Store:
    """The files and batches of one server. `root`: where its folder lies. Raises OSError, sqlite3.Error."""

    def __init__(self, root: Path) -> None:
        self._folder, self._lock = locked_folder(root)
        (self._folder / "files").mkdir(mode=0o700, exist_ok=True)
        path = self._folder / "batches.sqlite3"
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", *_SCHEMA):
            self._connection.execute(statement)

    def close(self) -> None:
        """Close it, and let go of the folder."""
        self._connection.close()
        os.close(self._lock)

    # ---- files -------------------------------------------------------------------------------------------------------

    def add_file(self, file: File, data: bytes) -> None:
        """Keep a file. Raises InsufficientStorage."""
        if file.bytes + self.total_bytes() > MAX_TOTAL_BYTES:
            raise InsufficientStorage(
                f"Files may take {MAX_TOTAL_BYTES >> 20} MiB together; delete some (DELETE /v1/files/ID)."
            )
        try:
            _write(self._path(file.id), data)
        except OSError as error:
            self._path(file.id).unlink(missing_ok=True)
            raise InsufficientStorage(f"The file can't be kept: {error.strerror}.") from error
        self._insert("files", file.id, file)

    def total_bytes(self) -> int:
        """What all files take."""
        return sum(file.bytes for file in self.files())

    def files(self) -> list[File]:
        """All, the newest first."""
        query = "SELECT body FROM files ORDER BY seq DESC"
        return [_files.decode(body) for (body,) in self._connection.execute(query)]

    def file(self, identity: str) -> File:
        """One. Raises NotFound."""
        row = self._connection.execute("SELECT body FROM files WHERE id = ?", (identity,)).fetchone()
        if row is None:
            raise NotFound(f"No such File object: {identity[:100]}", code="file_not_found", param="id")
        return _files.decode(row[0])

    def read(self, identity: str) -> bytes:
        """The bytes of one. Raises NotFound."""
        try:
            return self._path(self.file(identity).id).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"No such File object: {identity[:100]}", code="file_not_found", param="id") from None

    def delete_file(self, identity: str) -> None:
        """Raises NotFound."""
        file = self.file(identity)
        self._connection.execute("DELETE FROM files WHERE id = ?", (file.id,))
        self._path(file.id).unlink(missing_ok=True)

    def expire(self, now: int) -> None:
        """Delete files whose time is up and that no batch reads, and forget the oldest of too many batches."""
        batches = self.batches()
        read = {batch.input_file_id for batch in batches if batch.status in OPEN}
        for file in self.files():
            if file.expires_at is not None and file.expires_at <= now and file.id not in read:
                self.delete_file(file.id)
        ended = [batch for batch in batches if batch.status not in OPEN]
        for batch in ended[MAX_BATCHES:]:
            self._connection.execute("DELETE FROM batches WHERE id = ?", (batch.id,))

    def _path(self, identity: str) -> Path:
        return self._folder / "files" / identity

    # ---- batches -----------------------------------------------------------------------------------------------------

    def add_batch(self, batch: Batch) -> None:
        """A new one."""
        self._insert("batches", batch.id, batch)

    def change(self, identity: str, change: Callable[[Batch], Batch]) -> Batch:
        """One as it is now, changed. Raises NotFound."""
        batch = change(self.batch(identity))
        self._connection.execute("UPDATE batches SET body = ? WHERE id = ?", (msgspec.json.encode(batch), identity))
        return batch

    def batches(self) -> list[Batch]:
        """All, the newest first."""
        query = "SELECT body FROM batches ORDER BY seq DESC"
        return [_batches.decode(body) for (body,) in self._connection.execute(query)]

    def batch(self, identity: str) -> Batch:
        """One. Raises NotFound."""
        row = self._connection.execute("SELECT body FROM batches WHERE id = ?", (identity,)).fetchone()
        if row is None:
            raise NotFound(f"No batch found with id '{identity[:100]}'.", code="batch_not_found", param="id")
        return _batches.decode(row[0])

    # ---- what comes of a batch ---------------------------------------------------------------------------------------

    def append(self, name: str, line: bytes) -> None:
        """Add a line to what came so far. Raises InsufficientStorage."""
        try:
            with open(self._part(name), "ab", opener=_private) as file:
                file.write(line)
        except OSError as error:
            raise InsufficientStorage(f"What came of the batch can't be kept: {error.strerror}.") from error

    def partial(self, name: str) -> bytes:
        """What came so far; a line that a dying server wrote in part is cut off."""
        path = self._part(name)
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        return whole

    def publish(self, name: str, file: File) -> None:
        """Make a file of what came, which may have been done already."""
        with contextlib.suppress(NotFound):
            self.file(file.id)
            return
        if self._part(name).exists():  # else a server died right behind this line
            self._part(name).replace(self._path(file.id))
        self._insert("files", file.id, file)

    def _part(self, name: str) -> Path:
        return self._folder / "files" / f"{name}.part"

    def _insert(self, table: str, identity: str, value: File | Batch) -> None:
        statement = f"INSERT INTO {table} (id, body) VALUES (?, ?)"  # noqa: S608 (constants)
        self._connection.execute(statement, (identity, msgspec.json.encode(value)))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb", opener=_private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
