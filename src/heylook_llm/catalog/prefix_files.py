"""The files of saved prefixes: where a model's lie, how one begins, and what they are valid for.

A worker writes and reads them (worker/disk.py); the server deletes those of a model that isn't loaded.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import platformdirs

from heylook_llm import config
from heylook_llm.catalog import split

MAGIC: Final = b"HEYLOOKPREFIX\0\0\2"
SUFFIX: Final = ".prefix"
SAMPLES: Final = 64
SAMPLE_BYTES: Final = 16 << 10
HEAD_BYTES: Final = 1 << 20
_INDIFFERENT: Final = frozenset(
    (
        *("model_path", "prefix_memory_bytes", "prefix_disk_bytes", "prefix_folder", "chat_template"),
        *("chat_format_template", "prompt_lookup", "num_draft_tokens", "n_parallel", "n_batch", "n_ubatch"),
        *("prefill_tokens", "kv_tokens", "n_threads", "n_threads_batch", "use_mmap", "use_mlock", "use_direct_io"),
        *("check_tensors", "numa", *config.SamplingDefaults.model_fields),
    )
)
"""Options that change nothing of what a prompt's computation leaves. Any other may."""


def folder_of(model: str, configured: str | None) -> Path:
    """Where a model's files lie: in a folder of its own, within the configured one or the user's cache folder."""
    base = Path(configured or Path(platformdirs.user_cache_dir("heylookllm", appauthor=False)) / "prefixes")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", model)[:64]
    return base / f"{name}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def identity_of(path: Path, options: Mapping[str, Any], engine: str) -> bytes:
    """A digest of all that a saved state hangs on: the weights, the options, the engine with its version."""
    digest = hashlib.sha256(engine.encode())
    digest.update(_fingerprint(path))
    kept = {key: value for key, value in options.items() if key not in _INDIFFERENT}
    digest.update(json.dumps(kept, sort_keys=True, default=str).encode())
    for file in sorted(set(_files_in(kept))):
        digest.update(_fingerprint(file))
    return digest.digest()


def delete_all(folder: Path) -> int:
    """Delete a model's files, and nothing else; returns their bytes."""
    removed = 0
    for path in folder.glob(f"*{SUFFIX}") if folder.is_dir() else ():
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            ours = file.read(len(MAGIC)) == MAGIC
        if ours:
            path.unlink(missing_ok=True)
            removed += size
    return removed


def _files_in(value: Any) -> Iterable[Path]:
    """The files that options name: adapters, for one."""
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _files_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _files_in(one)
    elif isinstance(value, str) and os.path.isabs(value) and os.path.isfile(value):
        yield Path(value)


def _fingerprint(path: Path) -> bytes:
    """A digest of a file, or of all parts of a split one, or of the files of a folder."""
    digest = hashlib.sha256()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
    else:
        files = [file for file in split.parts(path) if file.is_file()]
    for file in files:
        digest.update(file.name.encode() if path.is_dir() else b"")
        digest.update(_sampled(file))
    return digest.digest()


def _sampled(path: Path) -> bytes:
    """A digest of a file's size, its head, and samples of the rest."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        digest.update(file.read(HEAD_BYTES))
        for at in range(SAMPLES):
            file.seek(max(0, size - SAMPLE_BYTES) * at // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.digest()
