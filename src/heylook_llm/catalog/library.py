"""Where pulled models lie, and who may change a repository's folder: one at a time, of all processes."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import platformdirs

LOCKS: Final = ".locks"


class Busy(Exception):
    """Somebody else is changing the folder."""


def models_folder() -> Path:
    """$HEYLOOK_MODELS, or a folder in the user's data folder."""
    if folder := os.environ.get("HEYLOOK_MODELS"):
        return Path(folder).expanduser()
    return Path(platformdirs.user_data_dir("heylookllm", appauthor=False)) / "models"


def folder_of(repository: str, root: Path) -> Path:
    """The folder of a repository's files."""
    return root / repository


@contextlib.contextmanager
def claimed(repository: str, root: Path) -> Iterator[None]:
    """Be the one who changes a repository's folder meanwhile. Raises Busy at once.

    The lock ends with its process, however that ends. Its file lies outside the folder and stays: who waits for the
    lock of a file that was deleted would hold one that nobody else sees.
    """
    path = root / LOCKS / f"{repository.replace('/', '--')}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy from error
        yield
