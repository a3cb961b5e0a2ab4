"""How soon a web page shows something: the browser's own entries of its first paint, on loopback, with an empty cache.

    python -m benchmarks.first_paint [--visits 20]

A server of fake models in a process of its own; each visit is a new profile of a headless Chromium, so nothing is in
its cache. In turns over the pages; printed for each: the median and the worst of `first-contentful-paint` (when the
first text or image of the page is there) and the median of the time until the server's first answer has come, in
milliseconds from the navigation's beginning, and the bytes that were transferred. Goal: a worst first paint below
500 ms. Nothing else should run beside it.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser
from tests.serving import running
from tests.ui.pages import MODELS, opened

PAGES = ("chat", "models", "performance", "bench", "bench/compare", "settings")
PAINTED = """() => new Promise((resolve) => {
  const told = (paint) => {
    const [visit] = performance.getEntriesByType("navigation");
    const files = performance.getEntriesByType("resource");
    const bytes = [visit, ...files].reduce((sum, one) => sum + one.transferSize, 0);
    resolve({paint: paint.startTime, answered: visit.responseEnd, bytes});
  };
  new PerformanceObserver((list) => list.getEntriesByName("first-contentful-paint").forEach(told))
    .observe({type: "paint", buffered: true});
})"""


def visited(browser: Browser, url: str) -> dict[str, Any]:
    """One visit by a new profile, in milliseconds."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    page = context.new_page()
    page.goto(url, wait_until="load")
    page.locator("main h1, main textarea").first.wait_for()
    found: dict[str, Any] = page.evaluate(PAINTED)
    context.close()
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=20)
    arguments = parser.parse_args()
    seen: dict[str, list[dict[str, Any]]] = {page: [] for page in PAGES}
    with tempfile.TemporaryDirectory() as folder, running(MODELS, Path(folder)) as server, opened() as browser:
        for turn in range(arguments.visits + 1):
            for page, visits in seen.items():
                visit = visited(browser, f"{server.url}/ui/{page}")
                if turn:  # the first starts the browser's processes
                    visits.append(visit)
    print(f"{'page':16} {'first paint, ms':>22} {'answered, ms':>14} {'KiB':>6}   n {arguments.visits}")
    for page, visits in seen.items():
        paints, answers = ([visit[name] for visit in visits] for name in ("paint", "answered"))
        paint = f"{statistics.median(paints):.0f} (worst {max(paints):.0f})"
        print(f"{page:16} {paint:>22} {statistics.median(answers):14.1f} {visits[0]['bytes'] / 1024:6.0f}")


if __name__ == "__main__":
    main()
