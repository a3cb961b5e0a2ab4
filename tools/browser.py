"""The browser that the tests of the web pages run in: where it is, and installing one where there is none.

python tools/browser.py    prints its path; fetches Chromium by playwright where none is found
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "HEYLOOK_BROWSER"


def main() -> None:
    """Print the path of a browser, of a new one if need be."""
    found = find() or install()
    if found is None:
        sys.exit(
            "There is no Chromium, and playwright could fetch none. Install one (Debian: apt install chromium), "
            f"or set {VARIABLE} to its path."
        )
    print(found)


def find() -> Path | None:
    """Chromium or Chrome: what HEYLOOK_BROWSER names, what is on PATH, or playwright's own."""
    named = os.environ.get(VARIABLE)
    if named:
        path = shutil.which(named)
        return None if path is None else Path(path)
    return next((path for path in _candidates() if path.exists()), None)


def _candidates() -> Iterator[Path]:
    yield from (Path(path) for name in NAMES if (path := shutil.which(name)))
    yield from _of_playwright()


def _of_playwright() -> Iterator[Path]:
    with sync_playwright() as playwright:
        yield Path(playwright.chromium.executable_path)


def install() -> Path | None:
    """Fetch playwright's own; None where that fails."""
    done = subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    return find() if done.returncode == 0 else None


if __name__ == "__main__":
    main()
