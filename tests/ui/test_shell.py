"""The shell in a real browser: where it leads, its theme, its key, its socket, and how soon it shows something."""

import os
import re

import pytest
from playwright.sync_api import Browser, Page, Route, WebSocketRoute, expect

from tests.serving import Running
from tests.ui.pages import WAIT_MS, Watch, audit, script

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
long = pytest.mark.skipif(os.environ.get("HEYLOOK_TEST_TIER") != "long", reason="long tier: make test_ui")

LIVE = script("live")


def test_a_browser_at_the_root_comes_to_the_chat(page: Page) -> None:
    page.goto("/")
    page.wait_for_url("**/ui/chat")
    expect(page.get_by_label("Message", exact=True)).to_be_focused(timeout=WAIT_MS)
    expect(page.get_by_role("navigation").get_by_role("link", name="Chat")).to_have_attribute("aria-current", "page")
    audit(page)


def test_the_key_is_asked_for_once_and_opens_sockets(browser: Browser, locked: Running) -> None:
    context = browser.new_context(base_url=locked.url)
    page = context.new_page()
    watch = Watch(page)
    watch.expected.append("status of 401")
    page.goto("/ui/chat")
    dialog = page.get_by_role("dialog", name="Key")
    dialog.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("The API key is wrong", timeout=WAIT_MS)
    dialog.get_by_label("API key").fill("schlüssel")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Model", exact=True)).to_have_value("fake", timeout=WAIT_MS)
    page.reload()
    expect(page.get_by_label("Model", exact=True)).to_have_value("fake", timeout=WAIT_MS)
    expect(dialog).to_have_count(0)
    page.evaluate(LIVE)
    page.wait_for_function("() => heard.includes('snapshot')")
    page.evaluate("() => end()")
    watch.check()
    context.close()


@long
def test_a_socket_without_a_key_asks_for_it(browser: Browser, locked: Running) -> None:
    context = browser.new_context(base_url=locked.url)
    page = context.new_page()
    page.goto("/ui/nowhere")
    page.evaluate(LIVE)
    page.get_by_role("dialog", name="Key").get_by_label("API key").fill("schlüssel", timeout=WAIT_MS)
    page.keyboard.press("Enter")
    page.wait_for_function("() => heard.includes('snapshot')")
    context.close()


@long
def test_a_socket_that_breaks_comes_again_and_goes_on_behind_what_was_heard(page: Page) -> None:
    sockets: list[WebSocketRoute] = []

    def between(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server()

    page.route_web_socket("**/v1/performance/ws*", between)
    page.goto("/ui/nowhere")
    page.evaluate(LIVE)
    page.wait_for_function("() => heard.includes('sample')")
    sockets[0].close(code=1011)
    page.wait_for_function("() => states.filter((state) => state === 'open').length === 2")
    assert "after=" not in sockets[0].url
    assert "after=" in sockets[1].url
    heard = page.evaluate("() => heard.length")
    page.wait_for_function("(heard) => window.heard.length > heard", arg=heard)
    assert page.evaluate("() => heard.filter((type) => type === 'snapshot').length") == 1  # nothing was missed
    page.evaluate("() => end()")
    assert page.evaluate("() => states") == ["connecting", "open", "waiting", "connecting", "open", "closed"]
    assert len(sockets) == 2


@long
def test_the_theme_is_chosen_kept_and_told_to_who_draws(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    page.goto("/ui/chat")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    button = page.get_by_role("button", name=re.compile("^Theme"))
    button.click()
    expect(button).to_have_accessible_name("Theme: light")
    button.click()
    expect(button).to_have_accessible_name("Theme: dark")
    dark = page.evaluate(ground)
    assert dark != light
    told = page.evaluate("() => import('/ui/lib/theme.js').then((it) => [it.theme(), it.colour('--ground')])")
    assert told == ["dark", dark]
    page.reload()
    assert page.evaluate(ground) == dark


@long
def test_the_link_to_the_page_leaves_what_is_written_there(page: Page) -> None:
    page.goto("/ui/chat")
    message = page.get_by_label("Message", exact=True)
    message.fill("half a thought")
    page.get_by_role("link", name="Skip to the page").focus()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(message).to_have_value("half a thought")
    assert page.url.endswith("/ui/chat")


@long
def test_every_page_opens_with_a_key(browser: Browser, locked: Running) -> None:
    context = browser.new_context(base_url=locked.url)
    context.add_init_script("sessionStorage.setItem('heylook.key', 'schlüssel')")
    page = context.new_page()
    watch = Watch(page)
    for path in ("chat", "models", "performance", "settings", "bench", "bench/compare"):
        page.goto(f"/ui/{path}")
        expect(page.locator("main h1").first).to_be_visible(timeout=WAIT_MS)
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.locator("main .notice.bad")).to_have_count(0)
        expect(page.get_by_role("heading", name="This page couldn't be opened")).to_have_count(0)
    watch.check()
    context.close()


@long
def test_a_path_that_is_no_page_says_so(page: Page) -> None:
    page.goto("/ui/nowhere")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    audit(page)
    page.get_by_role("link", name="To the chat").click()
    page.wait_for_url("**/ui/chat")
    page.go_back()
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()


@long
def test_a_page_that_comes_too_late_changes_nothing(page: Page) -> None:
    """The reader has gone back before it was fetched; neither it nor the words that it is waited for show up."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/ui/pages/chat.js", hold)
    page.goto("/ui/nowhere")
    page.get_by_role("link", name="To the chat").click()
    page.wait_for_url("**/ui/chat")
    page.go_back()
    lost = page.get_by_role("heading", name="There is no such page")
    expect(lost).to_be_visible()
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 300))")  # the words come after 150 ms
    expect(lost).to_be_visible()
    with page.expect_response("**/ui/pages/chat.js"):
        held[0].continue_()
    expect(lost).to_be_visible()


@long
def test_parts_work_by_keyboard_and_without_violations(page: Page) -> None:
    """The parts that every page is made of, all of them at once."""
    page.goto("/ui/nowhere")
    page.evaluate(script("parts"))
    audit(page)
    page.get_by_role("tab", name="One").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tabpanel")).to_have_text("second")
    page.get_by_role("button", name="More of it").press("Enter")
    expect(page.get_by_role("menuitem", name="First")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Second")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("() => done") == ["second"]
    column = page.get_by_role("columnheader", name="Speed")
    column.get_by_role("button").press("Enter")
    expect(column).to_have_attribute("aria-sort", "descending")
    assert page.locator("tbody td:first-child").all_inner_texts() == ["b", "a", "c"]  # what is unknown stands last
    page.locator("tbody tr", has_text="c").locator(".unknown").focus()
    expect(page.locator(".tip")).to_have_text("not loaded yet")
    page.keyboard.press("Escape")
    expect(page.locator(".tip")).to_have_count(0)
    page.get_by_role("button", name="Red").press("Space")
    expect(page.get_by_role("button", name="Red")).to_have_attribute("aria-pressed", "true")


NUMBERS = {
    "ms(0.4234)": "0.42 ms",
    "ms(812.4)": "812 ms",
    "ms(1240)": "1.24 s",
    "ms(125000)": "2 min 5 s",
    "ms(5430000)": "1 h 30 min",
    "seconds(600)": "10 min",
    "seconds(0.0123)": "12.3 ms",
    "rate(38.24)": "38.2 tok/s",
    "rate(1234.5)": "1,235 tok/s",
    "count(12480)": "12,480",
    "bytes(1503238553)": "1.4 GiB",
    "bytes(512)": "512 B",
    "percent(0.5)": "50 %",
    "percent(0.0042)": "0.42 %",
    "percent(0.0001)": "< 0.1 %",
    "ms(0)": "0 ms",
    "ms(null).textContent": "–",
    "ms(NaN, 'why').getAttribute('aria-description')": "why",
}


@long
def test_numbers_are_told_with_the_digits_that_count(page: Page) -> None:
    page.goto("/ui/nowhere")
    for expression, text in NUMBERS.items():
        told = page.evaluate(f"() => import('/ui/lib/format.js').then((it) => it.{expression})")
        assert told == text, expression
