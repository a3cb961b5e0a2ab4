"""What a run looks like that didn't end well, what stands where nothing is, and what numbers tell of themselves."""

import os
import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.bench.asking import Asking
from tests.serving import Running
from tests.ui.pages import WAIT_MS, audit
from tests.ui.test_bench_results import BOTH, card

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.environ.get("HEYLOOK_TEST_TIER") != "long", reason="long tier: make test_ui"),
]


@pytest.fixture(scope="module")
def asking(ui_server: Running) -> Asking:
    return Asking(ui_server.url)


def ended(asking: Asking, state: str, models: list[str]) -> str:
    """A run of these models of the server itself, once it is in this state."""
    spec = {**BOTH, "targets": [{"url": asking.url, "name": "here", "models": models}], "loads": [{"levels": [1, 2]}]}
    identity: str = asking.ask("POST", "/v1/bench/runs?calibrate=false", spec, 201)["id"]
    asking.until(identity, state)
    return identity


def test_a_run_that_failed_says_why_once_and_shows_its_cells(page: Page, asking: Asking) -> None:
    page.goto(f"/ui/bench/runs/{ended(asking, 'failed', ['broken'])}")
    expect(page.get_by_role("alert")).to_contain_text("Resume sends what is missing", timeout=WAIT_MS)
    expect(page.get_by_role("note")).to_have_text(re.compile("^Cells 1, 2: .*the file is damaged"))
    rows = page.get_by_role("region", name="Cells").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("failed")
    audit(page)
    page.get_by_role("link", name="Run again with changes").click()
    expect(page.get_by_role("region", name="New benchmark").get_by_text("D(20,8)")).to_be_visible(timeout=WAIT_MS)


def test_numbers_tell_their_formula_where_they_are_pointed_at(page: Page, asking: Asking) -> None:
    identity = ended(asking, "done", ["fake", "slow"])
    page.goto(f"/ui/bench/runs/{identity}")
    rows = page.get_by_role("region", name="Rows of the run").locator("tbody tr").first
    expect(rows).to_be_visible(timeout=WAIT_MS)
    expect(page.locator(".plot .main-svg").last).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_role("button", name="Download plot")).to_have_count(2)
    expect(page.get_by_role("button", name="Share chart")).to_have_count(0)  # it would send it elsewhere
    for cell in rows.locator("td.end").all():
        assert told(page, cell), cell.inner_text()
    assert "Formula" in told(page, rows.locator("td.end .number").first)
    spread = page.get_by_role("region", name=re.compile("^Percentiles of")).locator("tbody tr").first
    for cell in spread.locator("td").all():
        assert told(page, cell), cell.inner_text()
    phase = card(page, "Where time went").locator(".hinted").first
    assert "n 22" in told(page, phase)
    sample = page.get_by_role("region", name="Samples").locator("tbody tr").first.locator("td.end").last
    assert "Formula" in told(page, sample)
    page.goto(f"/ui/bench/compare?runs={identity}")
    expect(page.locator(".plot .main-svg").last).to_be_visible(timeout=WAIT_MS)  # which moves what is below it
    value = page.locator(".compared-group td.end .hinted").first
    expect(value).to_be_visible(timeout=WAIT_MS)
    assert re.search("Formula.*n.*Interval", told(page, value), re.DOTALL)
    page.goto("/ui/performance")
    last = page.get_by_role("region", name="Finished requests").locator("tbody tr").first
    expect(last).to_be_visible(timeout=WAIT_MS)
    assert "closed − received" in told(page, last.locator("td.end").first)
    assert "Formula" in told(page, page.locator(".tile .figure-label").first)


def told(page: Page, place: Locator) -> str:
    """What is told of a number while it is pointed at."""
    page.mouse.move(0, 0)
    place.scroll_into_view_if_needed()
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )  # it hides them
    inner = place.locator(".hinted")
    (inner.first if inner.count() else place).hover()
    tip = page.locator(".tip")
    return tip.inner_text() if tip.count() else ""


def test_a_comparison_fits_a_narrow_page(page: Page, asking: Asking) -> None:
    identity = ended(asking, "done", ["fake", "slow"])
    page.set_viewport_size({"width": 380, "height": 760})
    page.goto(f"/ui/bench/compare?runs={identity}")
    group = page.locator(".compared-group").first
    expect(group.get_by_role("cell", name="slow")).to_be_visible(timeout=WAIT_MS)
    for part in group.locator("td, th").all():
        box = part.bounding_box()
        assert box is None or box["x"] + box["width"] <= 380, part.inner_text()
    audit(page)
