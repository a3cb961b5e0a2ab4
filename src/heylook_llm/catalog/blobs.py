"""Files that clients uploaded, each named by its SHA-256: written beside their place, verified, then put there."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from heylook_llm.errors import BadRequest, InsufficientStorage

FOLDER: Final = "blobs"
SPARE_BYTES: Final = 64 << 20
"""What an upload leaves free."""
LOOK_BYTES: Final = 64 << 20
"""After so many bytes the free space is looked at again."""
STALE_SECONDS: Final = 24 * 3600.0
"""What was uploaded for no model, or not to its end, goes after so long."""
_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def digest_of(text: str) -> str:
    """The 64 hexadecimal digits of `sha256:...`. Raises BadRequest."""
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise BadRequest("invalid digest format", code="invalid_digest", param="digest")
    return match[1].lower()


class Blobs:
    """The uploads below a folder of models."""

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER

    def path(self, digest: str) -> Path:
        """Where the file of a digest lies, or will."""
        return self._folder / f"sha256-{digest}"

    def upload(self, digest: str, size: int | None) -> "Upload":
        """A file that begins to come; `size` where it is known. Raises InsufficientStorage."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return Upload(self.path(digest), digest, size)

    def forget(self, files: list[os.stat_result]) -> None:
        """Remove the uploads that are these files: the model they were linked into is gone."""
        gone = {(status.st_dev, status.st_ino) for status in files}
        for path, status in self._all():
            if (status.st_dev, status.st_ino) in gone:
                path.unlink(missing_ok=True)

    def prune(self, now: float) -> None:
        """Remove what was uploaded long ago and is part of no model. `now`: seconds since 1970."""
        for path, status in self._all():
            if status.st_nlink == 1 and now - status.st_mtime > STALE_SECONDS:
                path.unlink(missing_ok=True)

    def _all(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    found.append((path, path.stat()))
        return found


class Upload:
    """One upload. Left without `finish` it leaves nothing. Several of one digest write apart, and end as one file."""

    def __init__(self, path: Path, digest: str, size: int | None) -> None:
        self._path = path
        self._digest = digest
        self._hash = hashlib.sha256()
        self._unlooked = 0
        self._check_space(size or 0)
        descriptor, self._part = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._part)

    def append(self, data: bytes) -> None:
        """The next bytes. Raises InsufficientStorage."""
        self._unlooked += len(data)
        if self._unlooked >= LOOK_BYTES:
            self._check_space(len(data))
            self._unlooked = 0
        self._hash.update(data)
        try:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            if error.errno in _FULL:
                raise _no_room(self._digest) from error
            raise

    def finish(self) -> None:
        """Put the file in its place, if it is the one that its digest names. Raises BadRequest."""
        found = self._hash.hexdigest()
        if found != self._digest:
            raise BadRequest(
                f'digest mismatch, expected "sha256:{self._digest}", got "sha256:{found}"', code="digest_mismatch"
            )
        os.fsync(self._file.fileno())
        os.replace(self._part, self._path)

    def _check_space(self, coming: int) -> None:
        if shutil.disk_usage(self._path.parent).free < coming + SPARE_BYTES:
            raise _no_room(self._digest)


def _no_room(digest: str) -> InsufficientStorage:
    return InsufficientStorage(f"The disk has no room for sha256:{digest[:12]}...; free some and send it again.")
