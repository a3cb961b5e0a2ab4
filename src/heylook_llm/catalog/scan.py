"""Finds model files below folders, within bounds: what isn't a regular file is never opened, loops end.

A walk looks at names and file types alone; what a found file is, its header says later (facts.py).
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from heylook_llm.catalog import split

MAX_DEPTH: Final = 32
MAX_ENTRIES: Final = 1_000_000
"""Of all folders together."""
MAX_PARTS: Final = 1024
"""Of one split model."""
PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npz")
NO_TEXT: Final = "has a name that is no text"
_REGULAR_ONLY: Final = (".gguf", ".safetensors", "config.json")
_READ_WITH_IT: Final = (".json", ".jinja", ".model")
"""Beside a folder's weights."""
LINK_OUT: Final = "is a link out of the scanned folders; name the folder it leads to as well"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A GGUF file (the first of its parts), or a folder of safetensors."""

    path: Path
    root: Path
    """The scanned folder that it was found in."""
    folder: bool = False
    adapter: bool = False


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that looks like a model, and why it isn't served."""

    path: Path
    reason: str


@dataclass(slots=True)
class _Folder:
    """One folder's entries by name, those that matter."""

    path: Path
    files: dict[str, os.stat_result] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)
    links_out: bool = False
    """One of the files that are read with a model lies elsewhere."""


class Walk:
    """One walk over some folders; `skipped` fills while `candidates` runs, and `check` may end it at each folder."""

    def __init__(self, roots: Sequence[Path], check: Callable[[], None] = lambda: None) -> None:
        self._roots = [root.resolve() for root in roots]
        self._check = check
        self._seen: set[tuple[int, int]] = set()
        self._entries = 0
        self.skipped: list[Skipped] = []

    def candidates(self) -> Iterator[Candidate]:
        """Every model file and folder, in the order of their names."""
        for root in self._roots:
            if not root.is_dir():
                self._skip(root, "is not a folder" if root.exists() else "does not exist")
                continue
            for folder in self._folders(root):
                yield from self._in_folder(folder, root)

    def _folders(self, root: Path) -> Iterator[_Folder]:
        """Depth first, each folder once, however many links lead to it."""
        open_folders = [(root, 0)]
        while open_folders:
            path, depth = open_folders.pop()
            self._check()
            folder = self._list(path)
            if folder is None:
                continue
            yield folder
            if depth < MAX_DEPTH:
                open_folders += [(child, depth + 1) for child in reversed(folder.folders)]
            elif folder.folders:
                self._skip(path, f"lies more than {MAX_DEPTH} folders deep")

    def _list(self, path: Path) -> _Folder | None:
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in self._seen:
                return None
            self._seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                return self._sorted_out(path, sorted(entries, key=lambda entry: entry.name))
        except OSError as error:
            self._skip(path, f"can't be read ({error.strerror})")
            return None

    def _sorted_out(self, path: Path, entries: list[os.DirEntry[str]]) -> _Folder:
        folder = _Folder(path)
        for entry in entries:
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                self._skip(path, f"is left out from here on: more than {MAX_ENTRIES} files")
                break
            self._sort(entry, folder)
        return folder

    def _sort(self, entry: os.DirEntry[str], folder: _Folder) -> None:
        path = folder.path / entry.name
        model = entry.name.endswith(_REGULAR_ONLY)
        try:
            status = entry.stat()
        except OSError as error:
            if model or entry.is_symlink():
                self._skip(path, "is a link to nothing" if entry.is_symlink() else f"can't be read ({error.strerror})")
            return
        directory = stat.S_ISDIR(status.st_mode)
        if directory and entry.name.startswith("."):
            return
        read = model or entry.name.endswith(_READ_WITH_IT)
        if (directory or read) and entry.is_symlink() and not self._inside(path):
            self._skip(path, LINK_OUT)
            folder.links_out = folder.links_out or not directory
        elif directory and not _encodable(entry.name):
            self._skip(path, NO_TEXT)
        elif directory:
            folder.folders.append(path)
        elif model and not stat.S_ISREG(status.st_mode):
            self._skip(path, "is not a regular file")
        elif stat.S_ISREG(status.st_mode):
            folder.files[entry.name] = status

    def _inside(self, path: Path) -> bool:
        try:
            target = path.resolve()
        except (OSError, RuntimeError):  # a link to itself
            return False
        return any(target.is_relative_to(root) for root in self._roots)

    def _in_folder(self, folder: _Folder, root: Path) -> Iterator[Candidate]:
        names = folder.files
        for name in names:
            if name.endswith(".gguf") and self._is_whole(folder, name):
                yield Candidate(folder.path / name, root)
        if folder.links_out:
            return
        tensors = [name for name in names if name.endswith(".safetensors")]
        if "adapter_config.json" in names and any(name.startswith("adapter") for name in tensors):
            yield Candidate(folder.path, root, folder=True, adapter=True)
        elif "config.json" in names and any(name.startswith("model") for name in tensors):
            yield Candidate(folder.path, root, folder=True)
        elif "config.json" in names and any(name.endswith(PICKLES) for name in names):
            pickle = next(name for name in names if name.endswith(PICKLES))
            self._skip(folder.path, f"holds its weights as a pickle ({pickle}), which is never opened")

    def _is_whole(self, folder: _Folder, name: str) -> bool:
        """Whether a GGUF file stands for a model: no further part of one."""
        if not _encodable(name):
            self._skip(folder.path / name, NO_TEXT)
            return False
        part = split.part_of(name)
        if part is None:
            return True
        count = min(part.count, MAX_PARTS)
        missing = [number for number in range(1, count + 1) if part.name(number) not in folder.files]
        present = next(number for number in range(1, count + 1) if number not in missing) if len(missing) < count else 0
        if missing and part.number == present:
            self._skip(folder.path / name, f"is split in {count} parts, of which number {missing[0]} is missing")
        return not missing and part.number == 1

    def _skip(self, path: Path, reason: str) -> None:
        self.skipped.append(Skipped(path, reason))


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
