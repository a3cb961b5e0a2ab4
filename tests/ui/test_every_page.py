"""What holds of every page of app.js: no serious violation, no more width than there is, and a keyboard is enough."""

import re
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from tests.bench.asking import Asking
from tests.serving import Running, running
from tests.ui.chatting import ask, open_chat
from tests.ui.pages import MODELS, ROOT, WAIT_MS, Watch, audit, long

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), long]

APP: Final = (ROOT / "src/heylook_llm/server/ui/app.js").read_text(encoding="utf-8")
PATHS: Final = re.findall(r'\{ path: "(/ui/[^"]+)"', APP)


@pytest.fixture(scope="module")
def ui_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose registry can be changed: models have their settings then."""
    with running(MODELS, tmp_path_factory.mktemp("every"), import_roots=[]) as it:
        yield it


@pytest.fixture(scope="module")
def run(ui_server: Running) -> str:
    """A run that is done."""
    asking = Asking(ui_server.url)
    spec = {
        "targets": [{"url": asking.url, "name": "here", "models": ["fake", "slow"]}],
        "scenarios": ["D(20,8)"],
        "loads": [{"levels": [2]}],
        "requests": 22,
    }
    identity: str = asking.ask("POST", "/v1/bench/runs?calibrate=false", spec, 201)["id"]
    asking.until(identity, "done")
    return identity


@pytest.fixture(scope="module")
def request_id(ui_server: Running) -> str:
    body = {"model": "fake", "messages": [{"role": "user", "content": "one two three"}]}
    status, headers, _ = Asking(ui_server.url).raw("POST", "/v1/chat/completions", body)
    assert status == 200
    return headers["x-request-id"]


def chat(page: Page, **_: str) -> None:
    open_chat(page)
    ask(
        page,
        "[[think:a thought]][[say:# A title\n\n- one\n\n`code` [a link](https://example.com)\n\n|a|b|\n|-|-|\n|1|2|]]",
    )
    page.get_by_role("button", name="Settings of this conversation", exact=True).click()


def models(page: Page, **_: str) -> None:
    page.goto("/ui/models")
    page.locator('[data-model="fake"]').wait_for()
    page.get_by_text("Main memory").wait_for()


def model(page: Page, **_: str) -> None:
    page.goto("/ui/models/heylook-tiny")
    page.get_by_text("Engine, context and batching").click()


def performance(page: Page, **_: str) -> None:
    page.goto("/ui/performance")
    page.get_by_role("region", name="Finished requests").wait_for()


def request(page: Page, request_id: str, **_: str) -> None:
    page.goto(f"/ui/performance/requests/{request_id}")
    page.locator(".waterfall").first.wait_for()


def bench(page: Page, **_: str) -> None:
    page.goto("/ui/bench")
    builder = page.get_by_role("region", name="New benchmark")
    expect(builder.get_by_role("button", name="Run", exact=True)).to_be_enabled(timeout=WAIT_MS)
    page.get_by_role("row").nth(1).wait_for()


def result(page: Page, run: str, **_: str) -> None:
    page.goto(f"/ui/bench/runs/{run}")
    page.locator(".plot .main-svg").first.wait_for()


def compare(page: Page, run: str, **_: str) -> None:
    page.goto(f"/ui/bench/compare?runs={run}")
    page.locator(".plot .main-svg").first.wait_for()


def settings(page: Page, **_: str) -> None:
    page.goto("/ui/settings")
    page.get_by_role("heading", name="Machine").wait_for()


OPENED: Final[dict[str, Callable[..., None]]] = {
    "/ui/chat": chat,
    "/ui/models": models,
    "/ui/models/:id": model,
    "/ui/performance": performance,
    "/ui/performance/requests/:id": request,
    "/ui/bench": bench,
    "/ui/bench/runs/:id": result,
    "/ui/bench/compare": compare,
    "/ui/settings": settings,
}
every_page = pytest.mark.parametrize("path", PATHS)


def test_every_page_is_known_here() -> None:
    assert list(OPENED) == PATHS


@every_page
@pytest.mark.parametrize("width", [380, 1600])
def test_no_serious_violation_in_light_or_dark(page: Page, run: str, request_id: str, path: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    OPENED[path](page, run=run, request_id=request_id)
    audit(page)
    wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{wide} pixels wider than the screen"


CONTROLS: Final = """() => {
  const known = "a[href], button, input, select, textarea, summary, [tabindex]";
  const shown = (one) => one.checkVisibility({visibilityProperty: true}) && one.getClientRects().length > 0;
  const isUsable = (one) => shown(one) && !one.disabled && one.tabIndex >= 0;
  const usable = [...document.querySelectorAll(known)].filter(isUsable);
  const group = (one) => (one.type === "radio" ? `radio ${one.name}` : one);
  window.controls = new Map(usable.map((one) => [group(one), one]));
  window.here = () => group(document.activeElement);
  document.body.tabIndex = -1;
  document.body.focus();
  return window.controls.size;
}"""
"""All that can be worked with, radio buttons of a group as one; the focus stands before the first."""
REACHED: Final = """() => {
  const one = document.activeElement;
  const near = [one, one.parentElement, one.parentElement?.parentElement, one.nextElementSibling, ...one.children];
  const shows = ({outlineStyle, outlineWidth, stroke, strokeWidth}) =>
    (outlineStyle !== "none" && parseFloat(outlineWidth) > 0) || (stroke !== "none" && parseFloat(strokeWidth) > 2);
  window.controls.delete(window.here());
  return [one.outerHTML.slice(0, 200), near.some((it) => it && shows(getComputedStyle(it))), one === document.body];
}"""
"""What has the focus, whether that is seen (an outline of it or around it, a thick edge), and whether all had it."""
MISSED: Final = """() => [...window.controls.values()].filter((one) => one.isConnected)
  .map((one) => one.outerHTML.slice(0, 200))"""


@every_page
def test_the_tab_key_reaches_all_that_can_be_done_and_shows_where_it_is(
    page: Page, run: str, request_id: str, path: str
) -> None:
    OPENED[path](page, run=run, request_id=request_id)
    count = page.evaluate(CONTROLS)
    assert count > 5
    unseen = []
    for _ in range(count + 20):
        page.keyboard.press("Tab")
        told, seen, is_over = page.evaluate(REACHED)
        if is_over:
            break
        if not seen:
            unseen.append(told)
    assert page.evaluate(MISSED) == []
    assert unseen == []


WITHIN: Final = """() => document.activeElement === document.body
  || document.activeElement.closest("dialog") !== null"""
"""... or among the browser's own controls."""


def test_a_dialog_keeps_the_focus_and_gives_it_back(page: Page) -> None:
    for path, opener in (("settings", "Add"), ("models", "Pull"), ("bench", "Add a server")):
        page.goto(f"/ui/{path}")
        button = page.get_by_role("button", name=opener, exact=True).first
        button.wait_for()
        button.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_label("Name")).to_be_focused()
        for _ in range(12):
            page.keyboard.press("Tab")
            assert page.evaluate(WITHIN)
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(button).to_be_focused()


def test_a_benchmark_by_the_keyboard_alone(page: Page, ui_server: Running) -> None:
    page.goto("/ui/bench")
    builder = page.get_by_role("region", name="New benchmark")
    expect(builder.get_by_role("button", name="Run", exact=True)).to_be_enabled(timeout=WAIT_MS)
    for label, value in (("Requests", "3"), ("Clients, as 1, 4, 16", "1")):
        builder.get_by_label(label, exact=True).focus()
        page.keyboard.press("Control+A")
        page.keyboard.type(value)
    builder.get_by_text("More about the run", exact=True).focus()
    page.keyboard.press("Enter")
    builder.get_by_label("Measure the bench itself first").press("Space")
    expect(builder.get_by_text("3 requests", exact=False)).to_be_visible(timeout=WAIT_MS)
    builder.get_by_role("button", name="Copy as…").press("Enter")
    expect(page.get_by_role("menuitem").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(builder.get_by_role("button", name="Copy as…")).to_be_focused()
    page.keyboard.press("Tab")
    expect(builder.get_by_role("button", name="Run", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/ui/bench/runs/[0-9A-Z]{26}$"))
    expect(page.locator(".heading .badge")).to_have_text("done", timeout=WAIT_MS)


def test_a_model_is_loaded_and_unloaded_by_the_keyboard(page: Page) -> None:
    page.goto("/ui/models")
    row = page.locator('[data-model="seeing"]')
    row.get_by_role("button", name="Load", exact=True).press("Enter")
    unload = row.get_by_role("button", name="Unload")
    expect(unload).to_be_visible(timeout=WAIT_MS)
    row.get_by_role("button", name="More for seeing").press("Enter")
    expect(page.get_by_role("menuitem").first).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem").nth(1)).to_be_focused()
    page.keyboard.press("Escape")
    unload.press("Enter")
    expect(row.get_by_role("button", name="Load", exact=True)).to_be_visible(timeout=WAIT_MS)


def test_a_request_is_opened_by_the_keyboard(page: Page, request_id: str, watch: Watch) -> None:
    page.goto("/ui/performance")
    link = page.get_by_role("region", name="Finished requests").locator(f'a[href$="{request_id}"]')
    link.press("Enter")
    page.wait_for_url(re.compile(f"{request_id}$"))
    expect(page.get_by_role("heading", name="Request", exact=True)).to_be_visible()
    page.keyboard.press("Alt+ArrowLeft")
    page.wait_for_url(re.compile("/ui/performance"))
