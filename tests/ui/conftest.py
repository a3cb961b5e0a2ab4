"""Fixtures of the web pages' tests: a browser for each file, one server, a watched page for each test."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.serving import Running, running
from tests.ui.pages import MODELS, WAIT_MS, Watch, opened

expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium, for the tests of one file."""
    with opened() as it:
        yield it


@pytest.fixture(scope="session")
def ui_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over the models of pages.MODELS: fake ones, and the bundled ones."""
    with running(MODELS, tmp_path_factory.mktemp("ui")) as it:
        yield it


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that asks for a key, beyond ASCII."""
    with running(MODELS, tmp_path_factory.mktemp("locked"), guard={"api_key": "schlüssel"}) as it:
        yield it


@pytest.fixture
def context(browser: Browser, ui_server: Running) -> Iterator[BrowserContext]:
    """A browser's profile of its own: nothing is stored in it yet."""
    made = browser.new_context(base_url=ui_server.url, viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    made.set_default_timeout(WAIT_MS)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A page in it, which `watch` watches."""
    return context.new_page()


@pytest.fixture(autouse=True)
def watch(request: pytest.FixtureRequest) -> Iterator[Watch | None]:
    """Fails a test whose page shows a console error or asks beyond its origin; `watch.expected` names what may be."""
    if "page" not in request.fixturenames:
        yield None
        return
    made = Watch(request.getfixturevalue("page"))
    yield made
    made.check()
