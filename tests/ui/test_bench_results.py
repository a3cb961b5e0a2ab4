"""A run's result and runs beside each other, in a real browser: of real runs, of dropped files, of hostile ones."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from heylook_llm.bench.report import page as report_page
from heylook_llm.bench.report import tables
from tests.bench.test_report_forms import EVIL, evil, made
from tests.serving import Running
from tests.ui.pages import WAIT_MS, Watch, audit

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
long = pytest.mark.skipif(os.environ.get("HEYLOOK_TEST_TIER") != "long", reason="long tier: make test_ui")
HOSTILE = EVIL + "<img src=x onerror='window.hacked=1'>"


def measured(http: httpx.Client, url: str) -> str:
    """The id of a run that is done: of the server by itself, with a model and a slower one."""
    spec = {
        "name": "both",
        "targets": [{"url": url, "name": "here", "models": ["fake", "slow"]}],
        "scenarios": ["D(20,8)"],
        "loads": [{"levels": [2]}],
        "requests": 22,
    }
    answer = http.post("/v1/bench/runs?calibrate=false", json=spec)
    assert answer.status_code == 201, answer.text
    identity = str(answer.json()["id"])
    with http.stream("GET", f"/v1/bench/runs/{identity}/events") as events:
        for line in events.iter_lines():
            told = json.loads(line[6:]) if line.startswith("data: ") else {}
            if (told.get("type"), told.get("state")) == ("run.state", "done"):
                return identity
    raise AssertionError("the run never ended")


@pytest.fixture(scope="module")
def run(ui_server: Running) -> str:
    with httpx.Client(base_url=ui_server.url, timeout=120) as http:
        return measured(http, ui_server.url)


def card(place: Page | Locator, name: str) -> Locator:
    page = place if isinstance(place, Page) else place.page
    return place.locator("section.card").filter(has=page.get_by_role("heading", name=name, exact=True)).first


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
    audit(page)
    page.get_by_role("button", name="Leave elsewhere out").click()
    expect(systems).to_have_count(1, timeout=WAIT_MS)


def dropped(page: Page, *files: Path) -> None:
    """Drop files onto the page."""
    given = [{"name": file.name, "text": file.read_text(encoding="utf-8")} for file in files]
    page.evaluate(
        """(files) => {
          const held = new DataTransfer();
          for (const {name, text} of files) held.items.add(new File([text], name));
          for (const type of ["dragover", "drop"]) {
            document.dispatchEvent(new DragEvent(type, {dataTransfer: held, bubbles: true, cancelable: true}));
          }
        }""",
        given,
    )


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
