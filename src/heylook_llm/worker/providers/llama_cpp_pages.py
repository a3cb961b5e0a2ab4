"""Whether a GGUF is read into memory or mapped.

Weights that the processor computes with are read from end to end for each token, and a processor's table of pages is
soon too small for that: in pages of 2 MiB one stream's tokens come a fifth faster (benchmarks/large_pages.py).
Linux gives such pages to memory that asks for them (a worker's environment makes malloc ask), but not to a mapped file.
"""

import sys
from pathlib import Path
from typing import Final

import psutil

from heylook_llm.catalog import split

MEMORY_SHARE: Final = 0.5
"""Of the free memory: what weights may take to be read. A mapped file can be larger, and gives way to others."""
_SWITCH: Final = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def maps(wanted: object, path: Path, *, on_gpu: bool) -> bool:
    """What `use_mmap` means here: as configured; "auto": the file is read where large pages can be had and it fits."""
    if wanted not in ("auto", None):
        return bool(wanted)
    return on_gpu or not has_large_pages() or not _fits(path)


def has_large_pages() -> bool:
    """Whether Linux gives memory large pages, at once or when asked."""
    if sys.platform != "linux":
        return False
    try:
        return "[never]" not in _SWITCH.read_text()
    except OSError:  # a kernel without them
        return False


def _fits(path: Path) -> bool:
    size = sum(file.stat().st_size for file in split.parts(path) if file.is_file())
    return size <= psutil.virtual_memory().available * MEMORY_SHARE
