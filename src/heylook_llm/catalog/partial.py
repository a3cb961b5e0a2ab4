"""A file on its way: the bytes that have come, beside where it will lie, so that they outlive whoever fetched them."""

import glob
import hashlib
import io
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from heylook_llm.catalog.hub import RemoteFile

PARTIAL: Final = ".partial"
ETAG: Final = ".etag"
READ_BYTES: Final = 1 << 20
MAX_ETAG_CHARACTERS: Final = 1024


class Partial:
    """The bytes so far of one file of one content, opened to append. Only who has claimed the folder may."""

    def __init__(self, target: Path, file: RemoteFile) -> None:
        self._target = target
        self._file = file
        self._path = path_of(target, file)
        self._etag_path = self._path.with_name(self._path.name + ETAG)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._out = io.FileIO(self._path, "ab")
        if self.length > file.size:
            self.restart()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.close()

    @property
    def length(self) -> int:
        """How many bytes have come."""
        return os.fstat(self._out.fileno()).st_size

    @property
    def etag(self) -> str | None:
        """What the server called the content when these bytes came; unknown is None."""
        try:
            return self._etag_path.read_text(encoding="utf-8") or None
        except (OSError, UnicodeDecodeError):
            return None

    def restart(self, etag: str | None = None) -> None:
        """Forget what has come; what comes now is called `etag`."""
        self._etag_path.unlink(missing_ok=True)
        self._out.truncate(0)
        if etag is not None and len(etag) <= MAX_ETAG_CHARACTERS:
            self._etag_path.write_text(etag, encoding="utf-8")

    def append(self, data: bytes) -> None:
        """Add bytes; a disk that is full takes those that fit, and raises OSError."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._out.write(rest) or 0 :]

    def matches(self) -> bool:
        """Whether all has come, and is what the hub names."""
        os.fsync(self._out.fileno())
        return matches(self._path, self._file)

    def discard(self) -> None:
        """Remove what has come."""
        self._path.unlink(missing_ok=True)
        self._etag_path.unlink(missing_ok=True)

    def keep(self) -> None:
        """It is whole and right: give it its name, and remove what came of other contents."""
        _forget(self._target)  # first: a note never names what its file isn't, whenever this process ends
        os.replace(self._path, self._target)
        note(self._target, self._file)
        for other in self._target.parent.glob(f"{glob.escape(self._target.name)}.{16 * '?'}{PARTIAL}*"):
            other.unlink(missing_ok=True)


def path_of(target: Path, file: RemoteFile) -> Path:
    """Where the bytes of a file lie until they are whole: one place for each content."""
    return target.with_name(f"{target.name}.{file.digest[:16]}{PARTIAL}")


def length_of(target: Path, file: RemoteFile) -> int:
    """How many bytes of a file have come."""
    try:
        return path_of(target, file).stat().st_size
    except OSError:
        return 0


def matches(path: Path, file: RemoteFile) -> bool:
    """Whether a file's bytes are those that the hub names."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as read:
        while data := read.read(READ_BYTES):
            digest.update(data)
    return digest.hexdigest() == file.digest


def is_there(path: Path, file: RemoteFile) -> bool:
    """Whether the file was verified to be of this content, and has its length still; one that nobody noted is read."""
    try:
        if path.stat().st_size != file.size:
            return False
    except OSError:
        return False
    if _note_of(path, file).exists():
        return True
    if any(path.parent.glob(_notes_of(path))) or not matches(path, file):
        return False
    note(path, file)  # whoever fetched it ended between naming and noting it
    return True


def note(path: Path, file: RemoteFile) -> None:
    """Leave word beside a file of which content it was verified to be."""
    _forget(path)
    _note_of(path, file).touch()
    _sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file and what was noted of it."""
    _forget(path)
    path.unlink(missing_ok=True)


def _forget(path: Path) -> None:
    for old in path.parent.glob(_notes_of(path)):
        old.unlink(missing_ok=True)


def _note_of(path: Path, file: RemoteFile) -> Path:
    return path.with_name(f".{path.name}.{file.digest[:16]}")


def _notes_of(path: Path) -> str:
    return f".{glob.escape(path.name)}.{16 * '?'}"


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
