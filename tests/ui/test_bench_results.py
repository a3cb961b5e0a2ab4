"""A run's result and runs beside each other, in a real browser: of real runs, of dropped files, of hostile ones."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from heylook_llm.bench.report import page as report_page
from heylook_llm.bench.report import tables
from tests.bench.asking import Asking
from tests.bench.test_report_forms import EVIL, evil, made
from tests.serving import Running
from tests.ui.dropping import dropped
from tests.ui.pages import WAIT_MS, Watch, audit

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
long = pytest.mark.skipif(os.environ.get("HEYLOOK_TEST_TIER") != "long", reason="long tier: make test_ui")
HOSTILE = EVIL + "<img src=x onerror='window.hacked=1'>"


BOTH = {
    "name": "both",
    "scenarios": ["D(20,8)"],
    "loads": [{"levels": [2]}],
    "requests": 22,
}
"""Of the server by itself, with a model and a slower one."""


@pytest.fixture(scope="module")
def run(ui_server: Running) -> str:
    asking = Asking(ui_server.url)
    spec = {**BOTH, "targets": [{"url": asking.url, "name": "here", "models": ["fake", "slow"]}]}
    identity: str = asking.ask("POST", "/v1/bench/runs?calibrate=false", spec, 201)["id"]
    asking.until(identity, "done")
    return identity


def open_result(page: Page, run: str) -> Locator:
    """The page of a run that is done; its result."""
    page.goto(f"/ui/bench/runs/{run}")
    place = page.locator(".result")
    expect(place.get_by_role("heading", name="Rows", exact=True)).to_be_visible(timeout=WAIT_MS)
    expect(place.locator(".plot .main-svg").first).to_be_visible(timeout=WAIT_MS)
    return place


def card(place: Page | Locator, name: str) -> Locator:
    page = place if isinstance(place, Page) else place.page
    return place.locator("section.card").filter(has=page.get_by_role("heading", name=name, exact=True)).first


def test_a_result_tells_what_was_measured(page: Page, run: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/result") else None)
    place = open_result(page, run)
    expect(place.locator(".result-sentence")).to_contain_text("tokens/s: ")
    rows = card(place, "Rows").locator("tbody tr")
    expect(rows).to_have_count(2)
    number = rows.first.locator("td .number").first
    number.hover()
    tip = page.locator(".tip")
    expect(tip).to_contain_text("first event with text, reasoning or a call - origin - connect")
    expect(tip).to_contain_text("n 22")
    expect(tip).to_contain_text("95 %:")
    unknown = rows.first.locator(".unknown").first
    unknown.focus()
    expect(tip).to_contain_text("p99 needs 100 requests; there are 22")
    expect(place.locator(".plot .main-svg").first).to_be_visible(timeout=WAIT_MS)
    expect(card(place, "Where time went").locator(".bar").first).to_have_attribute("aria-label", _HAS_PREFILL)
    slow = card(place, "The slowest requests").locator("details[open]")
    expect(slow.locator(".waterfall")).to_contain_text("prefill")
    expect(slow.locator("a[href^='/ui/performance/requests/']")).to_be_visible()
    samples = card(place, "Samples")
    expect(samples.get_by_role("status")).to_have_text("1–20 of 44")
    samples.get_by_role("button", name="e2e").click()
    expect(samples.locator("th[aria-sort='descending']")).to_have_text("e2e")
    samples.get_by_role("button", name="Next").click()
    expect(samples.get_by_role("status")).to_have_text("21–40 of 44")
    samples.get_by_label("Outcome").select_option("error")
    expect(samples).to_contain_text("No sample is like that.")
    assert len(asked) == 1, "what is over is read once"


_HAS_PREFILL = re.compile("prefill .* decode")


@long
def test_every_download_is_the_file_that_it_says(page: Page, run: str) -> None:
    place = open_result(page, run)
    for label, suffix in (("HTML", ".html"), ("JSON", ".json"), ("JSON lines", ".jsonl"), ("CSV", ".csv")):
        with page.expect_download() as waiting:
            card(place, "Downloads").get_by_role("button", name=label, exact=True).click()
        name = waiting.value.suggested_filename
        assert name == f"bench-{run[-8:].lower()}{suffix}"
        content = waiting.value.path().read_bytes()
        assert len(content) > 500
    for label in ("XLSX", "Markdown"):
        with page.expect_download():
            card(place, "Downloads").get_by_role("button", name=label).click()


@long
def test_axe_finds_nothing(page: Page, run: str) -> None:
    place = open_result(page, run)
    expect(place.locator(".plot .main-svg").first).to_be_visible(timeout=WAIT_MS)
    audit(page)
    page.goto(f"/ui/bench/compare?runs={run}")
    expect(page.locator(".compared-group").first).to_be_visible(timeout=WAIT_MS)
    audit(page)


@long
def test_runs_and_dropped_files_beside_each_other(
    page: Page, run: str, tmp_path: Path, ui_server: Running, watch: Watch
) -> None:
    watch.expected.append("status of 400")
    page.goto(f"/ui/bench/compare?runs={run}")
    systems = card(page, "Systems").locator("tbody tr")
    expect(systems).to_have_count(1, timeout=WAIT_MS)
    group = card(page, "E2E p50").locator(".compared-group").first
    expect(group.locator(".badge.good")).to_have_text("1")
    expect(group).to_contain_text("lower than the next")
    exported = httpx.get(f"{ui_server.url}/v1/bench/runs/{run}/export?format=jsonl").content
    file = tmp_path / "elsewhere.jsonl"
    file.write_bytes(exported.replace(run.encode(), b"01ANOTHERMACHINE0000000000"))
    foreign = tmp_path / "vllm.json"
    foreign.write_text(json.dumps({"backend": "vllm", "mean_ttft_ms": 3.0}))
    dropped(page, file, foreign)
    expect(systems).to_have_count(2, timeout=WAIT_MS)
    expect(page.get_by_role("alert")).to_contain_text("vllm.json: It is a result of vLLM's benchmark")
    expect(systems.last).to_contain_text("elsewhere")
    alike = card(page, "E2E p50").locator(".compared-group").first
    expect(alike.locator(".badge.good")).to_have_text(["1", "1"])
    page.get_by_label("Add a number").select_option("ttft.p90")
    expect(card(page, "TTFT p90")).to_be_visible(timeout=WAIT_MS)
    page.get_by_role("button", name="share of failed requests").click()
    expect(card(page, "share of failed requests")).to_have_count(0, timeout=WAIT_MS)
    page.get_by_role("group", name="Models").get_by_role("button", name="slow").click()
    expect(page.locator(".compared-group").first).not_to_contain_text("fake", timeout=WAIT_MS)
    page.reload()
    expect(systems).to_have_count(2, timeout=WAIT_MS)
    expect(card(page, "TTFT p90")).to_be_visible(timeout=WAIT_MS)
    page.get_by_role("button", name="Leave elsewhere out").click()
    expect(systems).to_have_count(1, timeout=WAIT_MS)


def test_hostile_names_and_texts_run_nothing(page: Page, tmp_path: Path) -> None:
    told: dict[str, Any] = json.loads(tables.as_json(evil()[0]))
    told |= {"name": HOSTILE, "flags": [HOSTILE], "warnings": [HOSTILE]}
    told["manifest"] = {"targets": {told["rows"][0]["target_id"]: {"flavor": HOSTILE, "version": HOSTILE}}}
    file = tmp_path / "<img src=x onerror=alert(1)>.json"
    file.write_text(json.dumps(told))
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog came: {dialog.message}"))
    page.goto("/ui/bench/compare")
    expect(page.locator(".empty")).to_be_visible(timeout=WAIT_MS)
    dropped(page, file)
    expect(card(page, "Systems")).to_contain_text("<script>alert(1)</script>", timeout=WAIT_MS)
    expect(page.locator(".plot .main-svg").first).to_be_visible(timeout=WAIT_MS)
    assert page.evaluate("() => window.hacked") is None
    assert page.locator("main img, main script, main iframe").count() == 0
    assert page.locator("main a[href^='http://evil']").count() == 0


@long
def test_an_address_whose_file_is_elsewhere_says_so(page: Page) -> None:
    page.goto("/ui/bench/compare?files=0123456789abcdef")
    expect(page.get_by_role("note")).to_contain_text("kept by another browser", timeout=WAIT_MS)
    expect(page.locator(".empty")).to_contain_text("Nothing to compare yet")
    audit(page)


@pytest.fixture
def file_page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


@long
@pytest.mark.parametrize("which", ["usual", "hostile"])
def test_the_html_file_draws_and_needs_nothing(file_page: Page, tmp_path: Path, which: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(report_page.as_html(made() if which == "usual" else evil()[0]), encoding="utf-8")
    seen: list[str] = []
    file_page.on("console", lambda message: seen.append(message.text))
    file_page.on("pageerror", lambda error: seen.append(str(error)))
    file_page.on("dialog", lambda dialog: seen.append(dialog.message))
    file_page.goto(path.as_uri())
    for name in ("curve", "where", "spread", "speed", "slow"):
        expect(file_page.locator(f"#{name} .main-svg").first).to_be_visible(timeout=WAIT_MS)
    assert not seen
