"""Fetches a model from a Hugging Face hub into a folder of ours: resumed, verified, one download at a time.

Metadata and bytes come through huggingface_hub. What it leaves to us: partial files outlive the process (its own
don't), every file is verified, free space is looked at first, and two pulls of one model are one download, across
processes.
The token goes to the hub alone: huggingface_hub drops it at a redirect to another host.
"""

import contextlib
import errno
import fcntl
import functools
import glob
import hashlib
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import platformdirs

from heylook_llm.catalog.hub import MAX_FILES, Name, RemoteFile, select
from heylook_llm.errors import Cancelled, InsufficientStorage, PullFailed

SPARE_BYTES: Final = 64 << 20
TRIES: Final = 8
"""Attempts in a row that bring no byte until a pull gives up."""
MISMATCHES: Final = 3
MOST_WAIT_SECONDS: Final = 30.0
READ_BYTES: Final = 1 << 20
PARTIAL: Final = ".partial"
_FINAL_STATUSES: Final = {
    401: ("hub_unauthorized", "the hub wants a token: set HF_TOKEN"),
    403: ("hub_gated", "access to this repository is gated: accept its terms on the hub, and set HF_TOKEN"),
    404: ("hub_not_found", "the hub has no such repository or file"),
}


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


Tell = Callable[[Progress], None]


def models_folder() -> Path:
    """Where pulled models lie: $HEYLOOK_MODELS, or the user's data folder."""
    if folder := os.environ.get("HEYLOOK_MODELS"):
        return Path(folder).expanduser()
    return Path(platformdirs.user_data_dir("heylookllm", appauthor=False)) / "models"


def folder_of(name: Name, root: Path) -> Path:
    """The folder of a repository's files."""
    return root / name.repository


class Pull:
    """One pull; `cancel` may be called from another thread. `sleep` waits, and ends early when cancelled."""

    def __init__(self, name: Name, tell: Tell, root: Path | None = None, endpoint: str | None = None) -> None:
        self._name = name
        self._tell = tell
        self._root = root if root is not None else models_folder()
        self._endpoint = endpoint or os.environ.get("HF_ENDPOINT") or None
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """End the pull at the next bytes; what was fetched stays, to be resumed."""
        self._cancelled.set()

    def run(self) -> Pulled:
        """Fetch what is missing. Raises PullFailed, InsufficientStorage, Cancelled."""
        self._tell(Progress("pulling manifest"))
        commit, files = self._listed()
        folder = folder_of(self._name, self._root)
        folder.mkdir(parents=True, exist_ok=True)
        with self._alone(folder):
            missing = [file for file in files if not _is_there(folder / file.path, file)]
            self._check_space(folder, missing)
            for file in files:
                if file in missing:
                    self._fetch(folder / file.path, file, commit)
                self._tell(Progress(f"pulling {file.digest[:12]}", _named(file), file.size, file.size))
        self._tell(Progress("verifying sha256 digest"))
        first = folder / files[0].path
        return Pulled(self._name, first if first.suffix == ".gguf" else folder, folder)

    # ---- what is there to fetch --------------------------------------------------------------------------------------

    def _listed(self) -> tuple[str, list[RemoteFile]]:
        """The commit that `main` is now, and the files to fetch of it."""
        from huggingface_hub import HfApi  # noqa: PLC0415 (a third of a second)

        api = HfApi(endpoint=self._endpoint, library_name="heylookllm")
        with self._translated():
            commit = self._tried(lambda: api.model_info(self._name.repository, timeout=30).sha)
            if commit is None:
                raise PullFailed(f"the hub names no commit of {self._name.repository}", code="hub_failed")
            listed = self._tried(lambda: self._tree(api, commit))
        return commit, select(self._name, listed)

    def _tree(self, api: Any, commit: str) -> list[RemoteFile]:
        tree = api.list_repo_tree(self._name.repository, recursive=True, revision=commit)
        entries = list(itertools.islice(tree, MAX_FILES + 1))
        if len(entries) > MAX_FILES:
            raise PullFailed(f"{self._name.repository} lists more than {MAX_FILES} files", code="too_many_files")
        return [
            RemoteFile(entry.path, entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs is not None else None)
            for entry in entries
            if hasattr(entry, "size")
        ]

    # ---- one file ----------------------------------------------------------------------------------------------------

    def _fetch(self, target: Path, file: RemoteFile, commit: str) -> None:
        """Fetch and verify one file; a partial one of the same content is gone on with."""
        from huggingface_hub import hf_hub_url  # noqa: PLC0415
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # noqa: PLC0415 (not in __all__)

        url = hf_hub_url(self._name.repository, file.path, revision=commit, endpoint=self._endpoint)
        headers = {**build_hf_headers(library_name="heylookllm"), "Accept-Encoding": "identity"}
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{file.digest[:16]}{PARTIAL}")
        for _ in range(MISMATCHES):
            with partial.open("ab") as out, self._translated(file):
                self._tried(functools.partial(self._append, out, url, headers, file), progress=out.tell)
            if _matches(partial, file):
                os.replace(partial, target)
                _note(target, file)
                return
            partial.unlink()
        raise PullFailed(
            f"{file.path} came {MISMATCHES} times with other bytes than the hub names", code="hash_mismatch"
        )

    def _append(self, out: BinaryIO, url: str, headers: dict[str, str], file: RemoteFile) -> None:
        from huggingface_hub.file_download import http_get  # noqa: PLC0415

        begun = out.tell()
        if begun > file.size:
            out.truncate(0)
            out.seek(begun := 0)
        self._told(file, begun)
        watched = _Watched(out, self._cancelled, lambda done: self._told(file, done))
        http_get(
            url,
            cast("BinaryIO", watched),
            resume_size=begun,
            headers=headers,
            expected_size=file.size,
            tqdm_class=_quiet(),
        )
        out.flush()
        os.fsync(out.fileno())

    def _told(self, file: RemoteFile, done: int) -> None:
        self._tell(Progress(f"pulling {file.digest[:12]}", _named(file), file.size, done))

    # ---- trouble -----------------------------------------------------------------------------------------------------

    def _tried(self, work: Callable[[], Any], progress: Callable[[], int] = lambda: 0) -> Any:
        """The result of what may fail for a while: tried again, later and later, as long as bytes come."""
        failures, before = 0, progress()
        while True:
            try:
                return work()
            except Exception as error:
                if self._cancelled.is_set():
                    raise Cancelled("The pull was cancelled; the next one goes on from here.") from error
                if not _passes(error):
                    raise
                now = progress()
                failures, before = (1 if now > before else failures + 1), now
                if failures >= TRIES:
                    raise
                self._wait(_retry_after(error) or min(MOST_WAIT_SECONDS, 0.2 * 2**failures))

    def _wait(self, seconds: float) -> None:
        if self._cancelled.wait(min(seconds, MOST_WAIT_SECONDS)):
            raise Cancelled("The pull was cancelled; the next one goes on from here.")

    @contextlib.contextmanager
    def _translated(self, file: RemoteFile | None = None) -> Iterator[None]:
        """The library's exceptions as ours; no token and no address is in the words."""
        import httpx2  # noqa: PLC0415 (huggingface_hub's own)
        from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

        what = self._name.repository if file is None else f"{self._name.repository}: {file.path}"
        try:
            yield
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            gated = type(error).__name__ == "GatedRepoError"
            code, words = _FINAL_STATUSES.get(403 if gated else status, ("hub_failed", f"the hub answered {status}"))
            raise PullFailed(f"{what}: {words}.", code=code) from error
        except httpx2.HTTPError as error:
            raise PullFailed(
                f"{what}: the hub can't be reached ({type(error).__name__}).", code="hub_unreachable"
            ) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise InsufficientStorage(
                    f"{what}: the disk is full. What was fetched stays; free some space and pull again."
                ) from error
            words = error.strerror or str(error).splitlines()[0]
            raise PullFailed(f"{what}: {words}.", code="pull_failed") from error

    # ---- the disk ----------------------------------------------------------------------------------------------------

    def _check_space(self, folder: Path, missing: list[RemoteFile]) -> None:
        """Raises InsufficientStorage with both numbers before anything is fetched."""
        there = sum(partial.stat().st_size for partial in folder.rglob(f"*{PARTIAL}"))
        needed = sum(file.size for file in missing) - there
        free = shutil.disk_usage(folder).free
        if needed > 0 and free < needed + SPARE_BYTES:
            raise InsufficientStorage(
                f"{self._name.repository} needs {needed / 1e9:.2f} GB more, and {free / 1e9:.2f} GB are free."
            )

    @contextlib.contextmanager
    def _alone(self, folder: Path) -> Iterator[None]:
        """One download of a repository at a time, whichever process asks."""
        with (folder / ".lock").open("w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._tell(Progress("waiting for another download of this model"))
                    self._wait(0.5)
            yield


class _Watched:
    """The partial file as http_get sees it: tells of every piece, and ends when cancelled."""

    def __init__(self, file: BinaryIO, cancelled: threading.Event, told: Callable[[int], None]) -> None:
        self._file = file
        self._cancelled = cancelled
        self._told = told

    def write(self, data: bytes) -> int:
        """Append a piece."""
        if self._cancelled.is_set():
            raise Cancelled("The pull was cancelled; the next one goes on from here.")
        written = self._file.write(data)
        self._told(self._file.tell())
        return written

    def tell(self) -> int:
        """Where it ends."""
        return self._file.tell()

    def seek(self, position: int) -> int:
        """Go back, before a truncate."""
        return self._file.seek(position)

    def truncate(self) -> int:
        """Forget what lies behind: the server began anew."""
        return self._file.truncate()


def _quiet() -> Any:
    """A progress bar that shows nothing; ours is told by the file."""
    from tqdm import tqdm  # type: ignore[import-untyped]  # noqa: PLC0415 (huggingface_hub's own)

    class Quiet(tqdm):  # type: ignore[misc]  # tqdm brings no types
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**{k: v for k, v in options.items() if k != "name"}, "disable": True})

    return Quiet


def _passes(error: Exception) -> bool:
    """Whether another try may go well: trouble of the network and of the hub, but not of this disk or of permission."""
    import httpx2  # noqa: PLC0415

    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code in (408, 416, 429) or response.status_code >= 500
    if isinstance(error, httpx2.HTTPError):
        return True
    return isinstance(error, OSError) and error.errno is None  # huggingface_hub's "file should be of size ..."


def _retry_after(error: Exception) -> float | None:
    response = getattr(error, "response", None)
    given = response.headers.get("retry-after", "") if response is not None else ""
    return float(given) if given.isdecimal() else None


def _named(file: RemoteFile) -> str:
    return f"sha256:{file.sha256}" if file.sha256 else f"sha1:{file.git_sha1}"


def _is_there(path: Path, file: RemoteFile) -> bool:
    """Whether the file was verified to be of this content, and has its length still."""
    try:
        return path.stat().st_size == file.size and _noted(path, file).exists()
    except OSError:
        return False


def _matches(path: Path, file: RemoteFile) -> bool:
    """Whether the bytes are those that the hub names."""
    if path.stat().st_size != file.size:
        return False
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as read:
        while data := read.read(READ_BYTES):
            digest.update(data)
    return digest.hexdigest() == file.digest


def _note(path: Path, file: RemoteFile) -> None:
    """Leave word beside a file of which content it was verified to be."""
    for note in path.parent.glob(f".{glob.escape(path.name)}.{16 * '?'}"):
        note.unlink()
    _noted(path, file).touch()
    _sync(path.parent)


def _noted(path: Path, file: RemoteFile) -> Path:
    return path.with_name(f".{path.name}.{file.digest[:16]}")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
