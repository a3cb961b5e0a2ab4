"""How long an import looks at many model files: 10,000 small GGUF files beside as many others, in 100 folders.

python -m benchmarks.import_speed [--files 10000]
"""

import argparse
import tempfile
import time
from pathlib import Path

from tests.catalog.places import made

from heylook_llm.catalog import importing
from heylook_llm.catalog.importing import Sources

FOLDERS = 100


def filled(root: Path, files: int) -> None:
    """Model files, and others that are none."""
    data = made().bytes_()
    for number in range(files):
        folder = root / str(number % FOLDERS)
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.gguf").write_bytes(data)
        (folder / f"{number}.txt").write_bytes(b"no model")


def main() -> None:
    """Measure once, the files in the system's cache."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    files = parser.parse_args().files
    with tempfile.TemporaryDirectory() as folder:
        filled(Path(folder), files)
        begin = time.perf_counter()
        found = importing.find(Sources(folders=(Path(folder),)))
        seconds = time.perf_counter() - begin
    assert len(found.models) == files
    print(f"{files} models among {2 * files} files: {seconds:.2f} s")


if __name__ == "__main__":
    main()
