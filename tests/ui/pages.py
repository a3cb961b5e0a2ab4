"""The web pages in a real browser: opening it, what it must never do, and what axe-core finds."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, sync_playwright

ROOT = Path(__file__).parent.parent.parent
TINY = ROOT / "src" / "heylook_llm" / "tiny"
AXE = ROOT / "build" / "ui" / "node_modules" / "axe-core" / "axe.min.js"
long = pytest.mark.skipif(os.environ.get("HEYLOOK_TEST_TIER") != "long", reason="long tier: make test_ui")
WAIT_MS = 30_000
"""Bounds a hang, on a machine that does much else beside; nothing is judged by it."""
MODELS = f"""
default_model: fake
prewarm: false
max_loaded_models: 4
models:
  - {{id: fake, provider: fake, description: Says what it is told, config: {{n_ctx: 4096, n_parallel: 8}}}}
  - id: slow
    provider: fake
    description: The same at 50 tokens a second
    config: {{n_ctx: 4096, decode_tokens_per_second: 50}}
  - {{id: seeing, provider: fake, description: Tells what it sees, config: {{n_ctx: 4096, image_tokens: 16}}}}
  - {{id: late, provider: fake, description: Takes two seconds to load, config: {{n_ctx: 4096, load_seconds: 2}}}}
  - {{id: broken, provider: fake, description: Can't be loaded, config: {{load_error: the file is damaged}}}}
  - id: heylook-tiny
    provider: llama_cpp
    description: The bundled model
    config: {{model_path: {TINY / "heylook-tiny.gguf"}, n_ctx: 4096, n_threads: 1}}
  - id: heylook-tiny-vision
    provider: llama_cpp
    description: The bundled model with eyes
    config:
      model_path: {TINY / "heylook-tiny-vision.gguf"}
      mmproj_path: {TINY / "heylook-tiny-vision-mmproj.gguf"}
      n_ctx: 4096
      n_threads: 1
"""


def browser_path() -> Path:
    """A browser's path; without one the test is skipped, with what to do."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        from browser import find
    finally:
        sys.path.pop(0)
    found = find()
    if found is None:
        pytest.skip("no Chromium was found: `make test_ui` fetches one, HEYLOOK_BROWSER=/path names another")
    return found


@contextlib.contextmanager
def opened() -> Iterator[Browser]:
    """A headless browser. While it is open, no test of its thread may run an event loop: so it lives for one file."""
    path = browser_path()
    with sync_playwright() as playwright:
        browser = launched(playwright, path)
        yield browser
        browser.close()


def launched(playwright: Playwright, path: Path) -> Browser:
    """The browser of a path."""
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])


def script(name: str) -> str:
    """A function of tests/ui/scripts, to be evaluated in a page."""
    return (Path(__file__).parent / "scripts" / f"{name}.js").read_text(encoding="utf-8")


class Watch:
    """What a page did that it must not: console errors, exceptions, and requests beyond its origin."""

    def __init__(self, page: Page) -> None:
        self.expected: list[str] = []
        """Patterns of errors that the test provokes."""
        self._origin = ""
        self._seen: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._seen.append(f"exception: {error}"))
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", lambda socket: self._asked(socket.url.replace("ws", "http", 1)))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._seen.append(f"console: {message.text} ({message.location.get('url')})")

    def _asked(self, url: str) -> None:
        if not self._origin:
            self._origin = "/".join(url.split("/")[:3])
        if not url.startswith((self._origin + "/", "data:", "blob:")):
            self._seen.append(f"foreign request: {url}")

    def check(self) -> None:
        """Fail on anything that wasn't expected."""
        wrong = [seen for seen in self._seen if not any(re.search(pattern, seen) for pattern in self.expected)]
        assert not wrong, "\n".join(wrong)


class Violation(NamedTuple):
    """What axe-core found."""

    rule: str
    impact: str
    help: str
    nodes: list[str]


def axe_script() -> str:
    """axe-core, installed into build/ at the first use; without npm the test is skipped."""
    if not AXE.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("axe-core comes from npm, which isn't installed")
        folder = ROOT / "build" / "ui"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(__file__).parent / "package.json", folder)
        flags = ["--no-audit", "--no-fund", "--no-package-lock", "--loglevel", "error"]
        subprocess.run([npm, "install", "--prefix", str(folder), *flags], check=True, cwd=folder)
    return AXE.read_text(encoding="utf-8")


def violations(page: Page) -> list[Violation]:
    """The serious and critical ones of a page as it is."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(axe_script())
    told: dict[str, Any] = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        Violation(one["id"], one["impact"], one["help"], [json.dumps(node["target"]) for node in one["nodes"]])
        for one in told["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def audit(page: Page) -> None:
    """Fail on violations, in light and in dark."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.wait_for_function(script("settled"), arg=scheme)
        found = violations(page)
        assert not found, f"{scheme}: " + "\n".join(str(violation) for violation in found)
