"""Ten tabs of one browser at once: it opens six connections to an origin at most, and none of the tabs may starve."""

import pytest
from playwright.sync_api import BrowserContext, Page, WebSocket, expect

from tests.bench.asking import Asking
from tests.serving import Running
from tests.ui.chatting import answers, open_chat, say, text_of
from tests.ui.pages import WAIT_MS, Watch, long

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), long]

CHATS = 8


def test_ten_tabs_are_live_at_once(context: BrowserContext, ui_server: Running) -> None:
    pages = [context.new_page() for _ in range(CHATS + 2)]
    watches = [Watch(page) for page in pages]
    sockets = [open_sockets(page) for page in pages]
    *chats, performance, running = pages
    for page in chats:
        open_chat(page, "slow")
    performance.goto("/ui/performance")
    expect(performance.get_by_role("status").filter(has_text="Live")).to_be_visible(timeout=WAIT_MS)
    asking = Asking(ui_server.url)
    spec = {"targets": [{"url": asking.url, "models": ["fake"]}], "scenarios": ["D(20,8)"], "requests": 4000}
    run = asking.ask("POST", "/v1/bench/runs?calibrate=false", spec, 201)["id"]
    running.goto(f"/ui/bench/runs/{run}")
    for page in chats:
        say(page, "[[count:3000]]")
    for page in chats:
        expect(text_of(answers(page).first)).to_contain_text("1 2 3", timeout=WAIT_MS)
    asking.until(run, "running")
    goes_on(running, ".bench-figures .figure-value")
    for page in chats:
        goes_on(page, "article.assistant > .md")
    goes_on(performance, ".spark-line", "getAttribute('d')")
    assert [len(one) for one in sockets] == [1] * len(pages), "one socket each"
    extra = context.new_page()  # and there is a connection left for whoever comes
    extra.goto("/ui/models")
    expect(extra.locator('[data-model="fake"]')).to_be_visible(timeout=WAIT_MS)
    for page in chats:
        page.get_by_role("button", name="Stop").click()
        expect(answers(page).first.get_by_text("Stopped")).to_be_visible(timeout=WAIT_MS)
    asking.ask("POST", f"/v1/bench/runs/{run}/cancel")
    expect(running.locator(".heading .badge")).to_have_text("cancelled", timeout=WAIT_MS)
    for watch in watches:
        watch.check()


def open_sockets(page: Page) -> set[WebSocket]:
    """Those that a page has open, now and later."""
    held: set[WebSocket] = set()

    def note(socket: WebSocket) -> None:
        held.add(socket)
        socket.on("close", lambda closed: held.discard(closed))  # noqa: PLW0108 (playwright marks what it calls)

    page.on("websocket", note)
    return held


def goes_on(page: Page, selector: str, told: str = "textContent") -> None:
    """Wait until what an element tells is another than it is now."""
    look = f"document.querySelector('{selector}')?.{told}"
    before = page.evaluate(f"() => {look} ?? ''")
    page.wait_for_function(f"(before) => ({look} ?? before) !== before", arg=before, timeout=WAIT_MS)
