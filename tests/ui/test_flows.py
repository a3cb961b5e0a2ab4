"""Whole flows over the bundled models: images and calls in the chat, a benchmark from the click to its report, keys."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, WebSocket, expect

from tests.bench.asking import Asking
from tests.picture_files import file_of
from tests.serving import Running
from tests.ui.chatting import answers, ask, give, open_chat, text_of, whole
from tests.ui.pages import WAIT_MS, Watch, audit, long
from tests.ui.test_bench import Builder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), long]

KEY = "sk-a-secret-of-twenty"


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_the_bundled_model_sees_an_image(page: Page, way: str) -> None:
    open_chat(page, "heylook-tiny-vision")
    page.get_by_role("button", name="Settings of this conversation", exact=True).click()
    page.get_by_label("Temperature").fill("0")
    picture = Image.new("RGB", (96, 96), "white")
    picture.paste((255, 0, 0), (28, 28, 68, 68))
    give(page, way, file_of(picture))
    expect(page.locator(".composer .thumbnail")).to_have_count(1)
    assert text_of(ask(page, "What colour is the square?")).inner_text() == "The square is red."


def test_the_bundled_model_calls_a_tool_and_reads_its_result(page: Page) -> None:
    open_chat(page, "heylook-tiny")
    page.get_by_role("button", name="Settings of this conversation", exact=True).click()
    page.get_by_label("Temperature").fill("0")
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = {"name": "get_weather", "description": "Get the weather of a city", "parameters": parameters}
    page.get_by_label("Tools", exact=True).fill(json.dumps([tool]))
    page.get_by_label("Calls").select_option("required")
    answer = ask(page, "What is the weather in Paris?")
    called = json.loads(answer.get_by_label("Arguments of get_weather").inner_text())
    assert called == {"city": "Paris"}
    page.get_by_label("Calls").select_option("none")
    answer.get_by_label("Result of get_weather").fill('{"temperature": 20, "condition": "sunny"}')
    answer.get_by_role("button", name="Send the result").click()
    assert text_of(whole(page, 1)).inner_text()
    expect(answers(page).nth(1).get_by_role("alert")).to_have_count(0)


def ordered(builder: Builder) -> tuple[str, dict[str, Any]]:
    """Press Run: the address and the spec that are sent then."""
    run = builder.root.get_by_role("button", name="Run", exact=True)
    expect(run).to_be_enabled(timeout=WAIT_MS)
    with builder.page.expect_request(lambda it: it.method == "POST" and "/v1/bench/runs" in it.url) as sent:
        run.click()
    found = sent.value.post_data_json
    assert isinstance(found, dict)
    return sent.value.url, found


def test_a_benchmark_of_the_bundled_model_from_the_click_to_its_report(
    page: Page, browser: Browser, ui_server: Running, tmp_path: Path
) -> None:
    builder = Builder(page).open()
    builder.press("Start over")
    builder.ready()
    models = builder.root.get_by_role("group", name="Models of This server")
    for chip in models.locator(".chip[aria-pressed=true]").all():
        chip.click()
    builder.spec(lambda: models.get_by_title("heylook-tiny", exact=True).click())
    builder.fill("Clients, as 1, 4, 16", "1, 2")
    told = builder.fill("Requests", "20")
    address, sent = ordered(builder)
    assert sent == told, "what is ordered is what was estimated"
    assert address.endswith("/v1/bench/runs"), "the bench is measured first, unless that is switched off"
    page.wait_for_url(re.compile("/ui/bench/runs/[0-9A-Z]{26}$"))
    run = page.url.rpartition("/")[2]
    expect(page.locator(".bench-figures .figure-value").first).to_have_text(re.compile("^[1-9]"), timeout=2 * WAIT_MS)
    audit(page)
    expect(page.locator(".heading .badge")).to_have_text("done", timeout=2 * WAIT_MS)
    result = page.locator(".result")
    expect(result.locator(".result-sentence")).to_contain_text("tokens/s", timeout=WAIT_MS)
    expect(result.locator(".plot .main-svg").first).to_be_visible(timeout=WAIT_MS)
    kept = Asking(ui_server.url).ask("GET", f"/v1/bench/runs/{run}")
    assert [cell["outcomes"]["ok"] >= 20 for cell in kept["cells"]] == [True, True]
    with page.expect_download() as waiting:
        page.get_by_role("button", name="HTML", exact=True).click()
    report = tmp_path / "report.html"
    waiting.value.save_as(report)
    context = browser.new_context()
    shown = context.new_page()
    seen: list[str] = []
    shown.on("console", lambda message: seen.append(message.text))
    shown.goto(report.as_uri())
    expect(shown.locator(".main-svg").first).to_be_visible(timeout=WAIT_MS)
    expect(shown.locator("body")).to_contain_text("heylook-tiny")
    context.close()
    assert not seen


def test_what_is_not_in_the_spec_is_in_the_order(page: Page, watch: Watch) -> None:
    watch.expected.append(r"status of \d+ .*/api/pull")
    builder = Builder(page).open()
    builder.press("Start over")
    builder.ready()
    builder.fill("Requests", "1")
    builder.root.get_by_text("More about the run", exact=True).click()
    builder.field("Measure the bench itself first").uncheck()
    assert ordered(builder)[0].endswith("/v1/bench/runs?calibrate=false")
    page.get_by_role("button", name="Cancel").or_(page.get_by_role("button", name="Resume")).first.wait_for()
    builder.open()
    other = builder.field("Another model of This server")
    other.fill("nobody/nothing")
    builder.spec(lambda: other.press("Enter"))
    builder.field("Pull what is missing").check()
    pulled: list[Any] = []

    def note(socket: WebSocket) -> None:
        if socket.url.endswith("/api/pull"):
            socket.on("framesent", lambda frame: pulled.append(json.loads(frame or "null")))

    page.on("websocket", note)
    builder.root.get_by_role("button", name="Run", exact=True).click()
    expect(builder.root.get_by_role("alert")).to_be_visible(timeout=WAIT_MS)
    assert pulled[0] == {"model": "nobody/nothing"}


def test_a_key_is_masked_never_told_and_goes_with_its_address(page: Page, ui_server: Running) -> None:
    asked: list[str] = []
    page.on("response", lambda response: asked.append(response.url))
    builder = Builder(page).open()
    builder.root.get_by_role("button", name="Add a server").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("keyed")
    dialog.get_by_label("Address").fill("http://127.0.0.1:9/v1")
    key = dialog.get_by_label("Key")
    expect(key).to_have_attribute("type", "password")
    expect(key).to_have_attribute("autocomplete", "off")
    key.fill(KEY)
    spec = builder.spec(lambda: dialog.get_by_role("button", name="Keep").click())
    assert next(one["key"] for one in spec["targets"] if one.get("name") == "keyed") == "kept:keyed"
    expect(builder.root).to_contain_text("key ••••enty")
    storage = "() => JSON.stringify([{...localStorage}, {...sessionStorage}])"
    assert KEY not in page.content() + page.evaluate(storage)
    page.reload()
    builder.ready()
    assert KEY not in page.content() + page.evaluate(storage)
    for path in ("/v1/bench/targets", "/v1/settings"):
        assert KEY not in json.dumps(Asking(ui_server.url).ask("GET", path))
    builder.root.get_by_role("button", name="More about keyed").click()
    page.get_by_role("menuitem", name="Change…").click()
    expect(key).to_have_value("")
    dialog.get_by_label("Address").fill("http://127.0.0.1:10/v1")
    spec = builder.spec(lambda: dialog.get_by_role("button", name="Keep").click())
    (target,) = [one for one in spec["targets"] if one.get("name") == "keyed"]
    assert (target["url"], target.get("key")) == ("http://127.0.0.1:10", None)
    expect(builder.root).not_to_contain_text("••••enty")
    (kept,) = Asking(ui_server.url).ask("GET", "/v1/bench/targets")["data"]
    assert (kept["url"], kept["key"]) == ("http://127.0.0.1:10", None)
    Asking(ui_server.url).ask("DELETE", "/v1/bench/targets/keyed")
